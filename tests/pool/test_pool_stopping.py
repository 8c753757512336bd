"""Stopping: no new calls, the others finish within a grace, then every worker goes."""

from __future__ import annotations

import pytest
from pool_driver import Driver, at, ids


def test_new_calls_are_refused_and_idle_workers_let_go() -> None:
    pool = Driver(pool_size=2)
    one, two = pool.up()
    pool.stop()
    assert pool.state == "stopping"
    assert pool.outcome(pool.call()) == "shutting_down"
    assert pool.finished == [one.id, two.id]
    pool.gone(one)
    assert pool.stopped == 0
    pool.gone(two)
    assert (pool.state, pool.stopped) == ("stopped", 1)
    assert pool.outcome(pool.call()) == "shutting_down"
    assert [event.metadata["reason"] for event in pool.heard("worker.stopped")] == ["shutdown"] * 2


def test_calls_in_progress_and_in_the_queue_are_finished_first() -> None:
    pool = Driver(pool_size=2, prefetch=1)
    one, two = pool.up()
    calls = pool.calls(3)
    pool.stop()
    assert pool.finished == []
    pool.answer(two)
    assert at(two) == [calls[2].id]
    pool.answer(one)
    assert pool.finished == [one.id]
    pool.answer(two)
    assert pool.finished == [one.id, two.id]
    assert pool.outcomes(calls) == ["forwarded"] * 3


def test_what_is_not_done_within_the_grace_is_answered_and_interrupted() -> None:
    pool = Driver(prefetch=2, cancel_grace_period=1.0, worker_shutdown_grace_period=2.0)
    (worker,) = pool.up()
    running, waiting = pool.calls(2)
    pool.stop(grace=5.0)
    pool.wait(4.9)
    assert pool.outcomes([running, waiting]) == [None, None]
    pool.wait(0.2)
    assert pool.outcomes([running, waiting]) == ["shutting_down"] * 2
    assert pool.interrupted == [(worker.id, running.id), (worker.id, waiting.id)]
    pool.answer(worker, ok=False)
    assert (pool.finished, pool.killed) == ([], [])
    pool.answer(worker, ok=False)
    assert (pool.finished, pool.killed) == ([worker.id], [])
    pool.wait(2.0)
    assert pool.killed == [worker.id]
    pool.gone(worker, started=2)
    assert pool.stopped == 1
    assert pool.outcomes([running, waiting]) == ["shutting_down"] * 2
    assert pool.machine.stats()["worker_crashes"] == 0


@pytest.mark.parametrize("hears", [True, False])
def test_a_call_that_goes_on_after_that_costs_its_worker(hears: bool) -> None:
    pool = Driver(cancel_grace_period=1.0)
    (worker,) = pool.up()
    call = pool.call()
    pool.machine.hear(hears, pool.now)
    pool.stop(grace=5.0)
    pool.wait(5.1)
    pool.wait(0.5)
    # A second time: the first signal may have come just before a wait in C.
    assert pool.interrupted == [(worker.id, call.id)] * 2
    assert pool.killed == []
    pool.wait(0.5)
    assert pool.killed == [worker.id]
    pool.gone(worker, started=1)
    assert (pool.outcome(call), pool.stopped) == ("shutting_down", 1)


def test_while_the_grace_lasts_a_host_that_does_not_read_excuses_as_ever() -> None:
    pool = Driver(prefetch=2, cancel_grace_period=1.0)
    (worker,) = pool.up()
    cancelled, owed = pool.calls(2)
    pool.machine.hear(False, pool.now)
    pool.stop(grace=60.0)
    pool.cancel(cancelled)
    pool.wait(30.0)
    assert pool.killed == []
    pool.machine.hear(True, pool.now)
    pool.answer(worker, ok=False)
    pool.answer(worker)
    assert pool.outcome(owed) == "forwarded"


def test_a_worker_that_does_not_go_is_killed() -> None:
    pool = Driver(worker_shutdown_grace_period=2.0)
    (worker,) = pool.up()
    pool.stop(grace=50.0)
    pool.wait(1.9)
    assert pool.killed == []
    pool.wait(0.2)
    assert pool.killed == [worker.id]


def test_workers_that_are_starting_are_not_waited_for() -> None:
    pool = Driver()
    pool.start()
    (worker,) = pool.workers
    pool.stop()
    assert pool.killed == [worker.id]
    pool.ready(worker)
    pool.gone(worker)
    assert pool.stopped == 1
    assert pool.heard("worker.start_failed") == []


def test_unless_calls_wait_for_them() -> None:
    pool = Driver()
    pool.start()
    (worker,) = pool.workers
    call = pool.call()
    pool.stop()
    assert pool.killed == []
    pool.ready(worker)
    assert at(worker) == [call.id]
    pool.answer(worker)
    assert pool.outcome(call) == "forwarded"
    assert pool.finished == [worker.id]


def test_and_only_as_long_as_they_do() -> None:
    pool = Driver()
    pool.start()
    (worker,) = pool.workers
    cancelled, late = pool.call(), pool.call(timeout=1.0)
    pool.stop()
    pool.cancel(cancelled)
    assert pool.killed == []
    pool.wait(1.0)
    assert pool.outcome(late) == "timeout"
    assert pool.killed == [worker.id]


def test_calls_are_not_left_waiting_when_no_worker_can_take_them() -> None:
    pool = Driver(prefetch=2)
    (worker,) = pool.up()
    calls = pool.calls(3)
    pool.stop()
    pool.gone(worker, started=1)
    assert pool.outcomes(calls) == ["worker_crashed", "shutting_down", "shutting_down"]
    assert pool.stopped == 1
    assert pool.heard("worker.recycled") == []
    assert pool.machine.stats()["worker_crashes"] == 1


def test_a_crash_leaves_its_calls_to_the_workers_that_are_left() -> None:
    pool = Driver(pool_size=2, prefetch=2)
    one, two = pool.up()
    pool.calls(4)
    left = at(one)
    pool.stop()
    pool.gone(one, started=0)
    pool.answer(two)
    pool.answer(two)
    assert at(two) == left
    assert pool.started == ["p-1", "p-2"]


def test_nothing_is_started_any_more() -> None:
    pool = Driver()
    pool.start()
    pool.gone(pool.workers[0])
    pool.stop()
    assert pool.stopped == 1
    pool.wait(100.0)
    pool.start()
    assert pool.started == ["p-1"]


def test_a_pool_that_never_started_stops_at_once() -> None:
    pool = Driver()
    pool.stop()
    assert (pool.state, pool.stopped) == ("stopped", 1)


def test_stopping_twice_is_stopping_once() -> None:
    pool = Driver()
    (worker,) = pool.up()
    pool.stop()
    pool.stop()
    assert pool.finished == [worker.id]
    pool.gone(worker)
    pool.stop()
    pool.wait(100.0)
    assert pool.stopped == 1
    assert pool.state == "stopped"


def test_of_two_reasons_the_first_counts() -> None:
    pool = Driver()
    pool.up()
    pool.call()
    for why in ("the pool was removed", "the supervisor is shutting down"):
        pool.perform(pool.machine.stop(pool.now, 5.0, why))
    assert pool.error(pool.call())["message"] == "the pool was removed"


def test_a_worker_with_an_abandoned_call_has_its_grace_and_is_killed() -> None:
    pool = Driver(cancel_grace_period=1.0, pool_size=2, prefetch=1)
    one, two = pool.up()
    calls = pool.calls(2)
    for call in calls:
        pool.cancel(call)
    pool.stop(grace=50.0)
    assert pool.finished == []
    pool.answer(one, ok=False)
    assert pool.finished == [one.id]
    pool.wait(1.0)
    assert pool.killed == [two.id]
    assert ids(calls) == [1, 2]
