"""Workers that are killed at random under load: what is lost, and what is not."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import trio
from fault_settings import SOAK, config, times
from kills import Kills

from snakepit_port.harness import CallError, Host, open_host


@pytest.mark.parametrize("seed", times(2, 1))
async def test_only_what_had_started_on_a_killed_worker_fails(seed: int, tmp_path: Path) -> None:
    calls, callers, kills = (100_000, 64, 500) if SOAK else (4_000, 64, 40)
    starts = tmp_path / "starts"
    killer = Kills(random.Random(seed), calls, kills)
    numbers = iter(range(calls))
    results: Counter[int] = Counter()
    failures: dict[int, CallError] = {}

    async def keep_calling(host: Host) -> None:
        for number in numbers:
            try:
                # Most are quick, so that some are sent ahead; some take long enough to be hit.
                command = "note_slowly" if number % 8 == 0 else "note"
                assert await host.call(None, command, [str(starts), number]) == number
                results[number] += 1
            except CallError as exc:
                assert number not in failures
                failures[number] = exc
            killer.answered(len(results) + len(failures))

    async with open_host(config(pool_size=4, queue_timeout="infinity")) as host:
        async with trio.open_nursery() as watching:
            watching.start_soon(killer.watch, host)
            await host.await_ready()
            async with trio.open_nursery() as nursery:
                for _ in range(callers):
                    nursery.start_soon(keep_calling, host)
            watching.cancel_scope.cancel()
        stats = (await host.stats())["pools"]["default"]
        assert host.stray_answers == 0
    assert killer.are_over
    assert stats["worker_crashes"] == kills == len(killer.killed)
    assert set(results.values()) == {1}
    assert len(results) + len(failures) == calls == len(set(results) | set(failures))
    assert {error.type for error in failures.values()} <= {"worker_crashed"}
    assert {error.signal for error in failures.values()} <= {"SIGKILL"}
    assert {error.worker for error in failures.values()} <= killer.killed
    assert failures, "no call was running on any worker that was killed"
    started = Counter(int(line) for line in starts.read_text().split())
    assert set(started.values()) == {1}, "a call was started twice"
    assert set(results) <= set(started) <= set(results) | set(failures)
