"""What is told of each call, where that is asked for."""

from __future__ import annotations

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
