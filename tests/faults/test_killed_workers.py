"""Workers that are killed at random under load: what is lost, and what is not."""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio
from fault_settings import SOAK, config, times
from kills import Kills

from snakepit_port.harness import CallError, Host, open_host

#: More than `cramped_adapter` leaves its workers.
TOO_LARGE = 64 * 1024 * 1024


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


async def test_no_file_stays_of_a_worker_killed_at_any_step() -> None:
    """From the end of the call before to the beginning of the one behind."""
    data = bytes(100_000)
    outcomes: Counter[str] = Counter()
    here = Path(__file__).parent
    folders = [str(here), str(here.parent / "worker")]
    pool = {"adapter": "steps_adapter", "python_path": folders, "max_restarts": 1_000_000}
    settings = config(pool_size=1, **pool)
    settings["supervisor"] = {"shm_threshold": "64KiB"}
    async with open_host(settings) as host:
        folder = folder_of_run(host.os_pid)
        for step in itertools.count(1):
            await outcome_of(host, "kill_at_step", [step])
            outcome = await outcome_of(host, "echo", [data])
            assert outcome in (data, "worker_crashed")
            outcomes["echo" if outcome == data else "error"] += 1
            assert os.listdir(folder) == []
            if await outcome_of(host, "lift", []) is True:
                break
    assert outcomes["echo"] > 5
    assert outcomes["error"] > 5


async def test_what_no_worker_has_the_memory_to_read_ends_three_of_them_and_no_more() -> None:
    pool = {"adapter": "cramped_adapter", "max_restarts": 3}
    settings = config(pool_size=2, queue_timeout="infinity", call_timeout="infinity", **pool)
    settings["supervisor"] = {"max_frame_bytes": "128MiB"}
    async with open_host(settings) as host:
        with pytest.raises(CallError, match="With it 3 have ended as they were to begin") as caught:
            await host.call(None, "length", ["x" * TOO_LARGE])
        assert (caught.value.type, caught.value.command) == ("worker_crashed", "length")
        assert await host.call(None, "length", ["x"]) == 1
        stats = (await host.stats())["pools"]["default"]
        assert (stats["worker_crashes"], stats["errors"]) == (3, 1)


def folder_of_run(supervisor: int) -> Path:
    (folder,) = Path("/dev/shm").glob(f"snakepit-port-{supervisor}-*")
    return folder


async def outcome_of(host: Host, command: str, args: list[Any]) -> Any:
    """What a call returns, or the type of its error."""
    try:
        return await host.call(None, command, args)
    except CallError as exc:
        return exc.type
