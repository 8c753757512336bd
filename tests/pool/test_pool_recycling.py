"""Replacing workers: successor first, one after the other, and no call any the worse for it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from pool_driver import Driver, at

from snakepit_port.pool import Worker, WorkerState
from snakepit_port.pool.timers import Timer

MIB = 2**20
IMPORT_ERROR = {"type": "pool_unavailable", "message": "No module named 'nope'"}


def reasons(pool: Driver) -> list[str]:
    return [event.metadata["reason"] for event in pool.heard("worker.recycled")]


def memory_told(pool: Driver) -> list[dict[str, float]]:
    """What events about the ends of workers say of memory."""
    ends = pool.heard("worker.recycled") + pool.heard("worker.stopped")
    return [
        {key: value for key, value in event.measurements.items() if key.startswith("memory")}
        for event in ends
    ]


def starting(pool: Driver) -> list[Worker]:
    return [worker for worker in pool.workers if worker.state is WorkerState.STARTING]


def recycle(pool: Driver, *workers: Worker) -> None:
    pool.perform(pool.machine.recycle(workers, "manual", pool.now))


def measured(pool: Driver, worker: Worker, mib: float) -> None:
    pool.perform(pool.machine.measured(worker, int(mib * MIB), pool.now))


def test_the_successor_is_ready_before_a_worker_goes() -> None:
    pool = Driver()
    (old,) = pool.up()
    recycle(pool, old)
    (new,) = starting(pool)
    assert pool.call().worker is old
    pool.answer(old)
    assert pool.finished == []
    pool.ready(new)
    assert pool.finished == [old.id]
    assert pool.call().worker is new
    pool.now += 1.0
    pool.gone(old, started=1)
    (event,) = pool.heard("worker.recycled")
    assert event.measurements == {"uptime_ms": 1000.0, "requests": 1}
    assert event.metadata == {"pool": "p", "worker": "p-1", "reason": "manual"}
    (event,) = pool.heard("worker.stopped")
    assert event.metadata["reason"] == "recycled"
    assert pool.machine.stats()["worker_crashes"] == 0
    assert pool.started == ["p-1", "p-2"]


def test_a_draining_worker_finishes_what_it_has_and_gets_no_more() -> None:
    pool = Driver(prefetch=2)
    (old,) = pool.up()
    calls = pool.calls(2)
    recycle(pool, old)
    (new,) = starting(pool)
    pool.ready(new)
    assert old.state is WorkerState.DRAINING
    assert pool.call().worker is new
    pool.answer(old)
    assert pool.finished == []
    pool.answer(old)
    assert pool.finished == [old.id]
    assert pool.outcomes(calls) == ["forwarded"] * 2


def test_one_after_the_other() -> None:
    pool = Driver(pool_size=3, max_surge=1)
    old = pool.up()
    recycle(pool, *old)
    for number, worker in enumerate(old):
        (new,) = starting(pool)
        assert len(pool.workers) == 4
        pool.ready(new)
        assert pool.finished == [worker.id for worker in old[: number + 1]]
        # Until it is gone there is no room for another.
        assert starting(pool) == []
        pool.gone(worker)
    assert len(pool.workers) == 3
    assert starting(pool) == []


def test_one_that_still_drains_leaves_no_room_for_another() -> None:
    pool = Driver(pool_size=2, max_surge=1, prefetch=1)
    old = pool.up()
    pool.calls(2)
    recycle(pool, *old)
    pool.ready(starting(pool)[0])
    (draining,) = (worker for worker in old if worker.state is WorkerState.DRAINING)
    assert starting(pool) == []
    pool.answer(draining)
    pool.gone(draining)
    assert len(starting(pool)) == 1


def test_several_at_once_where_there_is_room() -> None:
    pool = Driver(pool_size=3, max_surge=2)
    recycle(pool, *pool.up())
    assert len(starting(pool)) == 2


def test_a_successor_that_fails_to_start_leaves_the_old_one_serving() -> None:
    pool = Driver()
    (old,) = pool.up()
    recycle(pool, old)
    for attempt in range(1, 4):
        (new,) = starting(pool)
        pool.gone(new, error=IMPORT_ERROR)
        assert len(pool.heard("worker.start_failed")) == attempt
        assert pool.heard("pool.reload_failed") == []
        assert (pool.state, old.state) == ("ready", WorkerState.READY)
        assert pool.call().worker is old
        pool.answer(old)
        pool.wait(15.0)
    pool.ready(starting(pool)[0])
    assert pool.finished == [old.id]


def test_a_crash_meanwhile_takes_the_successor() -> None:
    pool = Driver(pool_size=2)
    one, two = pool.up()
    recycle(pool, one)
    (new,) = starting(pool)
    pool.gone(two)
    pool.ready(new)
    assert pool.finished == []
    pool.wait(1.0)
    pool.ready(starting(pool)[0])
    assert pool.finished == [one.id]


def test_a_due_worker_that_crashes_is_replaced_once() -> None:
    pool = Driver()
    (old,) = pool.up()
    recycle(pool, old)
    pool.gone(old)
    assert reasons(pool) == ["worker_died"]
    assert len(pool.workers) == 1


def test_one_that_does_not_end_is_killed() -> None:
    pool = Driver(worker_shutdown_grace_period=2.0)
    (old,) = pool.up()
    recycle(pool, old)
    pool.ready(starting(pool)[0])
    pool.wait(1.9)
    assert pool.killed == []
    pool.wait(0.2)
    assert pool.killed == [old.id]
    pool.gone(old)
    assert reasons(pool) == ["manual"]
    assert pool.machine.stats()["worker_crashes"] == 0


def test_a_draining_worker_that_does_not_yield_is_killed() -> None:
    pool = Driver(cancel_grace_period=1.0)
    (old,) = pool.up()
    call = pool.call()
    recycle(pool, old)
    pool.ready(starting(pool)[0])
    pool.cancel(call)
    assert pool.interrupted == [(old.id, call.id)]
    pool.wait(1.0)
    assert pool.killed == [old.id]


def test_a_grace_to_yield_goes_on_when_draining_begins() -> None:
    pool = Driver(cancel_grace_period=1.0)
    (old,) = pool.up()
    pool.cancel(pool.call())
    recycle(pool, old)
    pool.ready(starting(pool)[0])
    pool.wait(1.0)
    assert pool.killed == [old.id]


def test_being_asked_again_changes_nothing() -> None:
    pool = Driver()
    (old,) = pool.up()
    recycle(pool, old)
    recycle(pool, old, *starting(pool))
    assert len(pool.workers) == 2
    pool.ready(starting(pool)[0])
    recycle(pool, old)
    assert len(pool.workers) == 2
    assert starting(pool) == []


def test_a_pool_that_stops_replaces_nothing() -> None:
    pool = Driver(pool_size=2, worker_ttl=5.0, prefetch=1)
    one, two = pool.up()
    pool.calls(2)
    recycle(pool, one)
    pool.stop(grace=50.0)
    assert pool.killed == ["p-3"]
    recycle(pool, two)
    pool.wait(10.0)
    assert pool.started == ["p-1", "p-2", "p-3"]
    for worker in (one, two):
        pool.answer(worker)
        pool.gone(worker)
    pool.gone(pool.workers[0])
    assert pool.stopped == 1


class TestLimits:
    def test_age(self) -> None:
        pool = Driver(worker_ttl=60.0)
        (old,) = pool.up()
        pool.wait(59.0)
        assert starting(pool) == []
        pool.wait(1.0)
        pool.ready(starting(pool)[0])
        pool.gone(old)
        assert reasons(pool) == ["ttl_expired"]

    def test_requests(self) -> None:
        pool = Driver(worker_max_requests=3)
        (old,) = pool.up()
        for _ in range(2):
            pool.call()
            pool.answer(old)
        assert starting(pool) == []
        pool.call()
        pool.answer(old)
        pool.ready(starting(pool)[0])
        pool.gone(old, started=3)
        assert reasons(pool) == ["max_requests"]

    def test_what_may_be_reached_is_drawn_once_for_each_worker(self) -> None:
        pool = Driver(
            rng=random.Random(1), pool_size=50, worker_max_requests=1000, recycle_jitter=20
        )
        drawn = [worker.max_requests for worker in pool.up()]
        assert all(800 < limit <= 1000 for limit in drawn)
        assert len(set(drawn)) == 50
        pool.call()
        pool.answer(pool.workers[-1])
        assert [worker.max_requests for worker in pool.workers] == drawn

    def test_workers_that_started_together_do_not_grow_old_together(self) -> None:
        pool = Driver(rng=random.Random(1), pool_size=50, worker_ttl=1000.0, recycle_jitter=10)
        pool.up()
        pool.wait(899.0)
        assert starting(pool) == []
        pool.wait(50.0)
        due = [worker for worker in pool.workers if worker.recycled_for]
        assert 10 < len(due) < 40


class TestMemory:
    def test_it_is_measured_again_and_again_only_where_there_is_a_limit(self) -> None:
        pool = Driver(pool_size=2, memory_threshold_mb=100, memory_check_interval=5.0)
        one, two = pool.up()
        pool.measuring.clear()
        pool.wait(5.0)
        assert pool.measuring == [one.id, two.id]
        pool.wait(10.0)
        assert pool.measuring == [one.id, two.id] * 3
        other = Driver()
        other.up()
        other.wait(100.0)
        assert other.measuring == []

    def test_past_the_threshold_a_worker_is_replaced(self) -> None:
        pool = Driver(memory_threshold_mb=100)
        (old,) = pool.up()
        measured(pool, old, 99.9)
        assert starting(pool) == []
        measured(pool, old, 100)
        pool.ready(starting(pool)[0])
        pool.gone(old)
        assert reasons(pool) == ["memory_threshold"]
        assert memory_told(pool) == [{"memory_bytes": 100 * MIB}] * 2

    def test_workers_that_grow_together_are_not_replaced_together(self) -> None:
        pool = Driver(
            rng=random.Random(1), pool_size=50, memory_threshold_mb=100, recycle_jitter=20
        )
        workers = pool.up()
        for size, least, most in ((80, 0, 0), (90, 10, 40), (100, 50, 50)):
            for worker in workers:
                measured(pool, worker, size)
            due = [worker for worker in workers if worker.recycled_for == "memory_threshold"]
            assert least <= len(due) <= most

    def test_what_a_fresh_worker_has_is_under_its_threshold_whatever_is_drawn(self) -> None:
        pool = Driver(
            rng=random.Random(1), pool_size=50, memory_threshold_mb=100, recycle_jitter=100
        )
        pool.start()
        while fresh := starting(pool):
            for worker in fresh:
                pool.perform(pool.machine.worker_ready(worker, {}, pool.now, 99 * MIB))
        workers = pool.workers
        assert len(workers) == 50
        for worker in workers:
            measured(pool, worker, 99)
        assert [worker for worker in workers if worker.recycled_for] == []

    def test_a_reload_draws_the_threshold_anew(self) -> None:
        pool = Driver(memory_threshold_mb=100)
        pool.start()
        (worker,) = pool.workers
        pool.perform(pool.machine.worker_ready(worker, {}, pool.now, 90 * MIB))
        for threshold, is_due in ((200, False), (80, True)):
            settings = replace(pool.settings, memory_threshold_mb=threshold)
            todo = pool.machine.reconfigure(settings, pool.now, capacity=1, replaces=False)
            pool.perform(todo)
            measured(pool, worker, 90 if is_due else 110)
            assert bool(worker.recycled_for) is is_due

    def test_past_the_limit_it_is_killed_and_its_call_fails(self) -> None:
        pool = Driver(memory_threshold_mb=100, memory_limit_mb=200)
        (old,) = pool.up()
        call = pool.call("work")
        measured(pool, old, 250)
        assert pool.killed == [old.id]
        assert len(starting(pool)) == 1
        pool.gone(old, started=1)
        error = pool.error(call)
        assert error["type"] == "worker_crashed"
        assert error["message"] == (
            "worker p-1 used 250 MiB of memory, over memory_limit_mb (200), and was killed"
        )
        assert reasons(pool) == ["memory_limit"]
        had = {"memory_bytes": 250 * MIB, "memory_limit_bytes": 200 * MIB}
        assert memory_told(pool) == [had] * 2
        assert pool.machine.stats()["worker_crashes"] == 0

    def test_whatever_ends_a_worker_tells_what_it_had_when_that_was_last_measured(self) -> None:
        pool = Driver(memory_threshold_mb=100)
        pool.start()
        (worker,) = pool.workers
        pool.perform(pool.machine.worker_ready(worker, {}, pool.now, 34 * MIB))
        pool.gone(worker)
        assert memory_told(pool) == [{"memory_bytes": 34 * MIB}] * 2

    @pytest.mark.parametrize("setting", ["memory_threshold_mb", "memory_limit_mb"])
    def test_a_limit_that_a_fresh_worker_is_past_is_refused_with_both_numbers(
        self, setting: str
    ) -> None:
        options: dict[str, Any] = {setting: 20}
        pool = Driver(**options)
        pool.start()
        (worker,) = pool.workers
        pool.perform(pool.machine.worker_ready(worker, {}, pool.now, 34 * MIB))
        assert pool.killed == [worker.id]
        pool.gone(worker)
        assert pool.state == "unavailable"
        (event,) = pool.heard("pool.unavailable")
        assert event.metadata["message"] == (
            f"{setting} of pool 'p' is 20, but a worker that has done nothing yet has 34.0 MiB to"
            " itself, its children included; raise it above that"
        )


class TestIdle:
    def test_workers_with_nothing_to_do_go_down_to_the_least(self) -> None:
        pool = Driver(pool_size=4, min_workers=2, idle_timeout=60.0)
        workers = pool.up()
        pool.wait(60.0)
        assert pool.finished == [workers[0].id, workers[1].id]
        for worker in workers[:2]:
            pool.gone(worker)
        assert reasons(pool) == ["idle", "idle"]
        pool.wait(600.0)
        assert pool.started == ["p-1", "p-2", "p-3", "p-4"]
        assert len(pool.workers) == 2

    def test_those_that_are_used_stay(self) -> None:
        pool = Driver(pool_size=3, min_workers=1, idle_timeout=60.0, prefetch=1)
        one, two, three = pool.up()
        for _ in range(3):
            pool.calls(2)
            pool.wait(30.0)
            pool.answer(three)
            pool.answer(two)
        assert pool.finished == [one.id]

    def test_calls_that_wait_bring_them_back(self) -> None:
        pool = Driver(pool_size=3, min_workers=1, idle_timeout=60.0, prefetch=1)
        pool.up()
        pool.wait(60.0)
        for worker in pool.workers[:2]:
            pool.gone(worker)
        calls = pool.calls(2)
        (new,) = starting(pool)
        pool.ready(new)
        assert at(new) == [calls[1].id]
        assert starting(pool) == []

    def test_one_that_goes_while_its_successor_starts_leaves_none_too_many(self) -> None:
        pool = Driver(pool_size=2, min_workers=1, idle_timeout=5.0, prefetch=1)
        one, two = pool.up()
        call = pool.call()
        assert call.worker is two
        recycle(pool, one)
        (successor,) = starting(pool)
        pool.wait(5.0)
        assert pool.finished == [one.id]
        pool.ready(successor)
        # Nobody is due any more: the one with the least to do goes.
        assert pool.finished == [one.id, successor.id]
        for worker in (one, successor):
            pool.gone(worker)
        assert pool.workers == [two]
        assert reasons(pool) == ["manual", "idle"]
        pool.answer(two)
        assert pool.outcome(call) == "forwarded"

    def test_one_that_is_due_goes_without_a_successor(self) -> None:
        pool = Driver(pool_size=2, min_workers=1, idle_timeout=60.0)
        one, _ = pool.up()
        recycle(pool, one)
        pool.gone(starting(pool)[0], error=IMPORT_ERROR)
        pool.wait(60.0)
        assert one.id in pool.finished

    def test_one_that_stays_for_a_reason_is_looked_at_later_and_not_again_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pool = Driver(pool_size=2, min_workers=1, idle_timeout=60.0)
        one, two = pool.up()
        pool.wait(50.0)
        pool.gone(one)
        # Its successor is starting, and until then the other has to stay.
        timers, dues = pool.machine._timers, []
        at = timers.at

        def note(due: float, *what: Any) -> Timer:
            assert due > pool.now
            dues.append(due)
            return at(due, *what)

        monkeypatch.setattr(timers, "at", note)
        pool.wait(10.0)
        assert dues == [pool.now + 60.0]
        assert two.state is WorkerState.READY
