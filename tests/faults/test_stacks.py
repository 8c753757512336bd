"""What every thread of every worker is at can be asked at any time."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from fault_settings import config

from snakepit_port.harness import CallError, Host, open_host


async def goes_on(host: Host, command: str) -> None:
    """A call that goes on in the background; whatever ends it is not looked at."""
    with suppress(CallError):
        await host.call(None, command)


@pytest.mark.parametrize(
    "command", ["hang", "loop_in_python", "loop_in_c", "sleep_on", "wait_on_a_lock"]
)
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_stacks_of_running_commands(command: str, start_method: str) -> None:
    terms = config(pool_size=1, start_method=start_method, cancel_grace_period="10ms")
    async with open_host(terms) as host, trio.open_nursery() as nursery:
        await host.call(None, "keep_a_thread")
        nursery.start_soon(goes_on, host, command)
        # Nothing is told of its beginning that would not be told by the stacks.
        # Where Python does not answer only the main thread is looked at: others may be running.
        others = command != "loop_in_c"
        text = ""
        while f"in {command}\n" not in text or ("in thread_of_a_command" in text) is not others:
            (text,) = (await host.stacks()).values()
        assert text.count("most recent call first") == 1 + others
        assert "faults_adapter.py" in text
        assert set(text) - {"\n"} <= set(map(chr, range(32, 127)))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("command", ["wait_on_a_lock", "loop_in_c"])
async def test_stacks_of_commands_on_threads(command: str) -> None:
    terms = config(
        pool_size=1, worker_profile="thread", threads_per_worker=2, cancel_grace_period="10ms"
    )
    async with open_host(terms) as host, trio.open_nursery() as nursery:
        await host.call(None, "keep_a_thread")
        nursery.start_soon(goes_on, host, command)
        text = ""
        while f"in {command}\n" not in text:
            (text,) = (await host.stacks()).values()
        assert "in thread_of_a_command" in text
        # The main thread, which lets them answer.
        assert "runtime.py" in text
        nursery.cancel_scope.cancel()


async def test_stacks_of_more_threads_than_c_code_tells_of() -> None:
    count = 120
    terms = config(
        pool_size=1, worker_profile="thread", threads_per_worker=count, cancel_grace_period="10ms"
    )
    async with open_host(terms) as host, trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(goes_on, host, "wait_on_a_lock")
        text = ""
        while text.count("in wait_on_a_lock\n") < count:
            (text,) = (await host.stacks()).values()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        ("call_on", {}),
        ("call_on_threads", {}),
        ("call_on", {"worker_profile": "thread", "threads_per_worker": 2}),
    ],
)
async def test_to_ask_for_them_ends_no_worker(command: str, settings: dict[str, Any]) -> None:
    terms = config(pool_size=1, cancel_grace_period="10ms", **settings)
    async with open_host(terms) as host, trio.open_nursery() as nursery:
        await host.await_ready()
        nursery.start_soon(goes_on, host, command)
        # Of a machine that is busy with other things some come too late to be told.
        told = 0
        while told < 300:
            (text,) = (await host.stacks()).values()
            told += "most recent call first" in text
            assert "has ended" not in text
        assert (await host.stats())["worker_crashes"] == 0
        nursery.cancel_scope.cancel()


async def test_stacks_by_pool_and_by_worker() -> None:
    terms = config()
    terms["pools"].append(config(name="other", pool_size=1)["pools"][0])
    async with open_host(terms) as host:
        await host.await_ready()
        assert set(await host.stacks()) == {"default-1", "default-2", "other-1"}
        assert set(await host.stacks("default")) == {"default-1", "default-2"}
        assert set(await host.stacks(worker="other-1")) == {"other-1"}
        for pool, worker, type in (
            ("no such pool", None, "unknown_pool"),
            ("other", "default-1", "bad_arguments"),
            (None, "default-3", "bad_arguments"),
        ):
            with pytest.raises(CallError) as caught:
                await host.stacks(pool, worker=worker)
            assert caught.value.type == type


async def test_everybody_who_asks_at_once_is_told() -> None:
    async with open_host(config()) as host:
        await host.await_ready()
        texts: list[dict[str, str]] = []

        async def ask() -> None:
            texts.append(await host.stacks())

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask)
        assert len(texts) == 50
        for told in texts:
            assert set(told) == {"default-1", "default-2"}
            assert all("runtime.py" in text for text in told.values())


async def test_a_worker_that_is_stopped_holds_nobody() -> None:
    async with open_host(config()) as host:
        await host.await_ready()
        stopped = next(w for w in await host.workers() if w["id"] == "default-1")
        os.kill(stopped["os_pid"], signal.SIGSTOP)
        told = await host.stacks()
        assert "runtime.py" in told["default-2"]
        assert "told nothing" in told["default-1"]
        # What it says when it goes on answers nobody, and disturbs nobody.
        os.kill(stopped["os_pid"], signal.SIGCONT)
        told = await host.stacks()
        assert "runtime.py" in told["default-1"]


async def test_a_worker_that_hangs_in_its_import_tells_where(tmp_path: Path) -> None:
    (tmp_path / "hanging.py").write_text("import signal\nprint('hanging')\nsignal.pause()\n")
    terms = config(
        adapter="hanging",
        python_path=[str(tmp_path)],
        pool_size=1,
        worker_shutdown_grace_period=0,
        python=sys.executable,
    )
    async with open_host(terms) as host:
        async for line in host.logs(past=True):
            if line.line == "hanging":
                break
        (text,) = (await host.stacks()).values()
        assert "hanging.py" in text


async def test_a_worker_that_dies_meanwhile_is_told_of() -> None:
    async with open_host(config(pool_size=1)) as host:
        await host.await_ready()
        (worker,) = await host.workers()
        os.kill(worker["os_pid"], signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.stacks)
            await host.ping()
            os.kill(worker["os_pid"], signal.SIGKILL)
        assert await host.call(None, "add", [1, 2]) == 3
