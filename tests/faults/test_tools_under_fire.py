"""Commands that ask for tools, while workers are killed, calls given up, and pools recycled."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import trio
import trio.testing
from fault_settings import SOAK, config, times
from kills import Kills

from snakepit_port.harness import CallError, Host, open_host

PROFILES = [
    {"pool_size": 4},
    {"pool_size": 2, "worker_profile": "thread", "threads_per_worker": 4},
]


@pytest.mark.parametrize("profile", PROFILES, ids=["process", "thread"])
@pytest.mark.parametrize("seed", times(1, 4))
async def test_every_question_gets_its_own_answer(profile: dict[str, Any], seed: int) -> None:
    calls, callers, kills = (20_000, 64, 200) if SOAK else (1_000, 32, 15)
    rng = random.Random(seed)
    killer = Kills(rng, calls, kills)
    numbers = iter(range(calls))
    ended: Counter[str] = Counter()
    asked = answered = 0

    async def double(number: int) -> int:
        nonlocal asked, answered
        asked += 1
        for _ in range(number % 5):
            await trio.lowlevel.checkpoint()
        answered += 1
        return 2 * number

    async def keep_calling(host: Host) -> None:
        for number in numbers:
            with trio.CancelScope() as scope:
                if number % 11 == 0:
                    # Given up somewhere on its way.
                    scope.deadline = trio.current_time() + number % 7 / 1000
                try:
                    result = await host.call(None, "ask_thrice", ["double", number])
                    assert result == [2 * number, 4 * number, 8 * number]
                    ended["result"] += 1
                except CallError as exc:
                    ended[exc.type] += 1
            ended["given up"] += scope.cancelled_caught
            killer.answered(ended.total())
            if number % 250 == 0:
                await host.recycle()

    terms = config(**profile, queue_timeout="infinity", cancel_grace_period="60s")
    async with open_host(terms, tools={"double": double}) as host:
        async with trio.open_nursery() as watching:
            watching.start_soon(killer.watch, host)
            await host.await_ready()
            async with trio.open_nursery() as nursery:
                for _ in range(callers):
                    nursery.start_soon(keep_calling, host)
            watching.cancel_scope.cancel()
        # The tools of a call are over with it.
        await host.ping()
        await trio.testing.wait_all_tasks_blocked()
        assert not host._tools._running
        assert await host.call(None, "ask_thrice", ["double", 1]) == [2, 4, 8]
    assert ended.total() == calls
    assert ended.keys() <= {"result", "given up", "worker_crashed"}
    assert killer.are_over
    assert asked >= answered >= 3 * ended["result"]
    assert host.stray_answers == 0
    assert host.exit_status == 0
