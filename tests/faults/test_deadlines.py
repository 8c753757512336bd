"""A deadline is kept whatever the command does, and the pool is whole again afterwards.

How late an answer may be is not asserted, for that depends on the machine: only what it does not
wait for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import trio
from fault_settings import config

from snakepit_port.harness import CallError, Host, open_host
from snakepit_port.wire import messages


async def times_out(host: Host, command: str, **options: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await host.call(None, command, **options)
    assert caught.value.type == "timeout"
    return caught.value


async def test_a_queued_call_is_answered_and_never_started() -> None:
    async with open_host(config(pool_size=1)) as host, trio.open_nursery() as nursery:
        logs = host.logs()
        nursery.start_soon(times_out, host, "hang")
        while (await anext(logs)).line != "hanging":
            pass
        error = await times_out(host, "pid", timeout=0.02)
        assert error.worker is None
        assert "waiting for a worker" in str(error)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("command", ["read", "read_in_c"])
async def test_a_call_that_was_sent_ahead_keeps_its_queue_timeout(
    tmp_path: Path, command: str
) -> None:
    """Also where its worker cannot give it back, for no signal ends what runs there."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    said = set()

    async def times_out_in_time(host: Host) -> None:
        with pytest.raises(CallError) as caught:
            await host.call(None, command, ["/dev/null"], queue_timeout=0.1)
        assert caught.value.type == "queue_timeout"
        said.add("before its command returns from C" in caught.value.message)

    async with open_host(config(pool_size=1)) as host, trio.open_nursery() as nursery:
        # It is known to be fast, so that others are sent ahead to wait behind it.
        for _ in range(1000):
            await host.call(None, command, ["/dev/null"])
        nursery.start_soon(host.call, None, command, [str(pipe)])
        await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as waiting:
            for _ in range(8):
                waiting.start_soon(times_out_in_time, host)
        assert True in said or command == "read"
        pipe.write_bytes(b"")
        # None of them was begun.
        await host.call(None, command, ["/dev/null"])
        stats = await host.stats()
        assert (stats["queue_timeouts"], stats["requests"]) == (8, 1010)


@pytest.mark.parametrize("command", ["loop_in_python", "sleep_on", "read_on", "wait_on_a_lock"])
async def test_what_python_can_interrupt_keeps_its_worker(command: str) -> None:
    # However long a busy machine takes for it.
    terms = config(pool_size=1, cancel_grace_period="60s", queue_timeout="60s")
    async with open_host(terms) as host:
        pid = await host.call(None, "pid")
        for _ in range(3):
            error = await times_out(host, command, timeout=0.05)
            assert error.worker == "default-1"
            # The next one does not wait, where its deadline could find it, for this one to end.
            assert await host.call(None, "pid") == pid
        stats = await host.stats()
        assert (stats["available"], stats["pools"]["default"]["timeouts"]) == (1, 3)


@pytest.mark.parametrize("command", ["loop_in_c", "swallow_interrupts"])
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_what_nothing_can_interrupt_loses_its_worker(command: str, start_method: str) -> None:
    """It is answered first, and the worker is replaced."""
    terms = config(cancel_grace_period="100ms", start_method=start_method)
    async with open_host(terms) as host:
        await host.await_ready()
        frames = host.frames()
        # Enough for the command to begin: one that has not is cancelled in its place.
        await times_out(host, command, timeout=0.5)
        seen: list[str] = []
        async for frame in frames:
            if not frame.sent:
                said = messages.parse(frame.data)
                seen.append(said[1] if said[0] == "event" else said[0])
            if {"worker.stopped", "worker.recycled", "worker.started"} <= set(seen):
                break
        assert (seen[0], len(seen)) == ("error", 4)
        stats = await host.stats()
        assert (stats["available"], stats["workers"]) == (2, 2)
        assert stats["pools"]["default"]["worker_crashes"] == 0


async def test_a_flood_of_deadlines_leaves_the_pool_whole() -> None:
    """Every worker is held up in C by one caller, and many wait behind them."""
    async with open_host(config(cancel_grace_period="100ms")) as host:
        await host.await_ready()
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(lambda: times_out(host, "loop_in_c", timeout=0.05))
            for _ in range(50):
                nursery.start_soon(lambda: times_out(host, "sleep_on", timeout=0.05))
        for number in range(20):
            assert await host.call(None, "add", [number, 1]) == number + 1
        stats = await host.stats()
        assert (stats["requests"], stats["errors"], stats["queued"]) == (72, 52, 0)
