"""Sessions on real workers, which come and go."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import trio
from test_pools import failure_of, pool, pools, printed
from test_recycling import CALLS, first

from snakepit_port.harness import Host, open_host

#: Calls of one session, in the test with many.
EACH = 20


def session_pool(**settings: Any) -> dict[str, Any]:
    return pools(pool(**{"affinity": "strict_queue", **settings}))


async def pid_of(host: Host, session: str | None) -> int:
    about = await host.call(None, "about", session=session)
    return int(about["pid"])


async def test_no_call_of_a_session_is_routed_elsewhere_or_lost_while_workers_are_replaced() -> (
    None
):
    config = session_pool(pool_size=2, worker_max_requests=50)
    sessions = CALLS // EACH
    pids: list[set[int]] = []

    async def use_sessions(host: Host, numbers: range) -> None:
        for number in numbers:
            name = f"session-{number}"
            found = {await pid_of(host, name) for _ in range(EACH - 2)}
            # Two at once: one has to wait for the other, at the same worker.
            async with trio.open_nursery() as nursery:
                for _ in range(2):

                    async def call(name: str = name, found: set[int] = found) -> None:
                        found.add(await pid_of(host, name))

                    nursery.start_soon(call)
            pids.append(found)
            assert await host.close_session(name)

    async with open_host(config) as host:
        await host.await_ready()
        events = host.events()
        names: list[str] = []

        async def listen() -> None:
            async for event in events:
                names.append(event.name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            async with trio.open_nursery() as callers:
                for caller in range(16):
                    callers.start_soon(use_sessions, host, range(caller, sessions, 16))
            stats = (await host.stats())["pools"]["default"]
            await host.close()
        assert (stats["requests"], stats["errors"], stats["sessions"]) == (sessions * EACH, 0, 0)
    assert [len(found) for found in pids] == [1] * sessions
    assert len(set.union(*pids)) >= 4, "no worker was replaced"
    assert names.count("worker.recycled") >= 2
    assert names.count("session.closed") == sessions


async def test_when_the_worker_of_a_session_dies_its_next_call_is_told_once() -> None:
    async with open_host(session_pool(pool_size=2)) as host:
        await host.await_ready()
        events = host.events()
        own = await pid_of(host, "s")
        os.kill(own, signal.SIGKILL)
        event = await first(events, "session.closed")
        assert event.metadata == {"pool": "default", "session": "s", "reason": "worker_gone"}
        assert event.measurements == {"requests": 1}
        error = await failure_of(lambda: pid_of(host, "s"))
        assert error.type == "session_worker_unavailable"
        assert await pid_of(host, "s") != own


@pytest.mark.parametrize("affinity", ["hint", "strict_queue", "strict_fail_fast"])
async def test_what_becomes_of_a_call_while_its_worker_is_busy(affinity: str) -> None:
    async with open_host(session_pool(pool_size=2, affinity=affinity)) as host:
        await host.await_ready()
        own = await pid_of(host, "s")
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                await host.call(None, "wait", session="s")

            nursery.start_soon(wait)
            await printed(host, "waiting")
            if affinity == "hint":
                assert await pid_of(host, "s") != own
            elif affinity == "strict_fail_fast":
                assert (await failure_of(lambda: pid_of(host, "s"))).type == "worker_busy"
            else:
                call = {"queue_timeout": 0.02, "session": "s"}
                error = await failure_of(lambda: host.call(None, "about", **call))
                assert error.type == "queue_timeout"
            # And nobody else is held up.
            assert await pid_of(host, None) != own
            nursery.cancel_scope.cancel()


async def test_closing_what_is_not_there() -> None:
    async with open_host(session_pool()) as host:
        assert not await host.close_session("s")
        await pid_of(host, "s")
        assert await host.close_session("s", "default")
        assert (await failure_of(lambda: host.close_session("s", "other"))).type == "unknown_pool"
