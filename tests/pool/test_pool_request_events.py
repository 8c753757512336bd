"""What is told of each call, where that is asked for."""

from __future__ import annotations

import pytest
from pool_driver import Driver


def told(pool: Driver) -> list[tuple[float, float, str]]:
    return [
        (
            event.measurements["queue_us"],
            event.measurements["run_us"],
            event.metadata["outcome"],
        )
        for event in pool.heard("request.executed")
    ]


def test_nothing_unless_it_is_asked_for() -> None:
    pool = Driver()
    (worker,) = pool.up()
    pool.call()
    pool.answer(worker)
    assert told(pool) == []


def test_how_long_a_call_waited_and_ran() -> None:
    pool = Driver(request_events=True, prefetch=1)
    (worker,) = pool.up()
    pool.call("work")
    pool.call("work")
    pool.now += 2.0
    pool.answer(worker)
    pool.now += 1.0
    pool.answer(worker, ok=False)
    assert told(pool) == [(0, 2_000_000, "ok"), (2_000_000, 1_000_000, "error")]
    (event, _) = pool.heard("request.executed")
    assert event.metadata == {"pool": "p", "worker": "p-1", "command": "work", "outcome": "ok"}


def told_of_fast_ones(count: int, seconds: float) -> list[tuple[float, float, str]]:
    """What is told of calls that usually take 500 µs, and are answered in one go after a while."""
    pool = Driver(request_events=True)
    (worker,) = pool.up()
    pool.learn("fast", 0.0005)
    before = len(told(pool))
    pool.calls(count, "fast")
    pool.now += seconds
    for _ in range(count):
        pool.answer(worker, together=count)
    return told(pool)[before:]


def test_of_calls_that_are_answered_in_one_go_the_first_ran_for_what_is_unusual() -> None:
    first, *others = told_of_fast_ones(3, 2.0)
    assert first == (pytest.approx(1_000), pytest.approx(1_999_000), "ok")
    assert others == [(pytest.approx(1_999_500), pytest.approx(500), "ok")] * 2


def test_of_those_that_took_no_longer_than_usual_each_ran_for_its_share() -> None:
    assert [ran for _, ran, _ in told_of_fast_ones(4, 0.0008)] == [pytest.approx(200)] * 4


def test_calls_that_end_in_another_way_are_told_once() -> None:
    pool = Driver(request_events=True, prefetch=1)
    (worker,) = pool.up()
    late = pool.call(timeout=1.0)
    pool.wait(1.0)
    pool.answer(worker)
    pool.call()
    pool.now += 0.5
    pool.gone(worker, started=2)
    assert pool.outcome(late) == "timeout"
    assert told(pool) == [(0, 1_000_000, "timeout"), (0, 500_000, "worker_crashed")]


def test_calls_that_no_worker_has_worked_on_are_not_told() -> None:
    pool = Driver(request_events=True, prefetch=2)
    pool.up()
    _, ahead, queued = pool.calls(3)
    pool.cancel(queued)
    pool.cancel(ahead)
    assert told(pool) == []


def test_a_call_that_the_end_of_the_pool_cuts_short_is_told() -> None:
    pool = Driver(request_events=True, prefetch=2)
    pool.up()
    calls = pool.calls(2)
    pool.wait(1.0)
    pool.stop(grace=1.0)
    pool.wait(1.0)
    assert pool.outcomes(calls) == ["shutting_down"] * 2
    assert told(pool) == [(0, 2_000_000, "shutting_down")]
