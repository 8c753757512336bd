"""A pool that is given other settings while it works."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from pool_driver import Driver, at

from snakepit_port.pool import Worker, WorkerState
from snakepit_port.pool.speed import STALL_SECONDS

IMPORT_ERROR = {"type": "pool_unavailable", "message": "No module named 'nope'"}


def reload(pool: Driver, *, replaces: bool = True, capacity: int = 1, **settings: Any) -> None:
    pool.settings = replace(pool.settings, **settings)
    pool.perform(
        pool.machine.reconfigure(pool.settings, pool.now, capacity=capacity, replaces=replaces)
    )


def starting(pool: Driver) -> list[Worker]:
    return [worker for worker in pool.workers if worker.state is WorkerState.STARTING]


def test_every_worker_is_replaced_one_after_the_other_and_then_the_pool_is_whole() -> None:
    pool = Driver(pool_size=2)
    old = pool.up()
    assert pool.machine.stats()["reload"] is None
    reload(pool)
    for worker in old:
        assert pool.machine.stats()["reload"] == "begun"
        assert pool.heard("pool.reloaded") == []
        pool.now += 1.0
        (new,) = starting(pool)
        pool.ready(new)
        assert worker.state is WorkerState.STOPPING
        pool.gone(worker)
    (event,) = pool.heard("pool.reloaded")
    assert event.measurements == {"workers": 2, "reload_ms": 2000.0}
    assert pool.machine.stats()["reload"] is None
    assert [event.metadata["reason"] for event in pool.heard("worker.recycled")] == ["reload"] * 2
    assert starting(pool) == []


def test_workers_that_were_only_starting_make_way() -> None:
    pool = Driver()
    pool.start()
    (old,) = pool.workers
    call = pool.call()
    reload(pool)
    assert pool.killed == [old.id]
    pool.gone(old)
    assert pool.heard("worker.start_failed") == []
    (new,) = starting(pool)
    pool.ready(new)
    assert at(new) == [call.id]
    assert (pool.state, pool.settled) == ("ready", 1)
    assert len(pool.heard("pool.reloaded")) == 1


def test_new_workers_that_do_not_start_leave_the_old_ones_serving() -> None:
    pool = Driver()
    (old,) = pool.up()
    reload(pool)
    for _ in range(3):
        pool.gone(starting(pool)[0], error=IMPORT_ERROR)
        assert pool.call().worker is old
        pool.answer(old)
        pool.wait(15.0)
    (event,) = pool.heard("pool.reload_failed")
    assert event.metadata == {"pool": "p", "message": IMPORT_ERROR["message"]}
    assert pool.machine.stats()["reload"] == "failed"
    (attempt,) = starting(pool)
    reload(pool)
    pool.gone(attempt)
    pool.ready(starting(pool)[0])
    pool.gone(old)
    assert len(pool.heard("pool.reload_failed")) == 1
    assert len(pool.heard("pool.reloaded")) == 1


def test_a_pool_without_others_tells_once_why_new_workers_do_not_start() -> None:
    pool = Driver()
    pool.machine.added(pool.now)
    pool.start()
    pool.gone(starting(pool)[0], error=IMPORT_ERROR)
    assert pool.heard("pool.reload_failed") == []
    assert len(pool.heard("pool.unavailable")) == 1
    assert pool.machine.stats()["reload"] == "failed"


def test_a_pool_that_was_unavailable_begins_anew_at_once() -> None:
    pool = Driver()
    pool.start()
    pool.gone(pool.workers[0], error=IMPORT_ERROR)
    assert pool.outcome(pool.call()) == "pool_unavailable"
    reload(pool)
    call = pool.call()
    (new,) = starting(pool)
    pool.ready(new)
    assert at(new) == [call.id]
    assert pool.state == "ready"


def test_and_is_ready_when_its_first_workers_are() -> None:
    pool = Driver(pool_size=2)
    pool.start()
    for worker in pool.workers:
        pool.gone(worker, error=IMPORT_ERROR)
    assert pool.state == "unavailable"
    reload(pool, replaces=False)
    one, two = starting(pool)
    pool.ready(one)
    assert pool.state == "starting"
    pool.ready(two)
    assert pool.state == "ready"


def test_a_pool_that_is_starting_counts_its_first_workers_on() -> None:
    pool = Driver(pool_size=2)
    pool.start()
    one, two = pool.workers
    pool.ready(one)
    reload(pool, replaces=False, call_timeout=5.0)
    assert pool.state == "starting"
    pool.ready(two)
    assert (pool.state, pool.settled) == ("ready", 1)


def test_a_smaller_pool_lets_the_idle_go() -> None:
    pool = Driver(pool_size=3, prefetch=1)
    pool.up()
    busy = pool.call().worker
    assert busy is not None
    reload(pool, replaces=False, pool_size=1)
    assert len(pool.finished) == 2
    assert busy.id not in pool.finished
    assert starting(pool) == []
    assert len(pool.heard("pool.reloaded")) == 1


def test_a_pool_made_smaller_while_it_is_replaced_keeps_those_that_are_new() -> None:
    pool = Driver(pool_size=3, prefetch=1)
    pool.up()
    reload(pool)
    new = starting(pool)[0]
    pool.ready(new)
    serving = {call.worker.id: call for call in pool.calls(3) if call.worker is not None}
    pool.answer(new, serving.pop(new.id))
    reload(pool, replaces=False, pool_size=1)
    for id, call in serving.items():
        assert call.worker is not None
        pool.answer(call.worker, call)
        assert id in pool.finished
    assert new.id not in pool.finished
    assert pool.call().worker is new


@pytest.mark.parametrize("at_once", [True, False])
def test_those_that_a_smaller_pool_has_too_many_take_no_room_from_successors(at_once: bool) -> None:
    pool = Driver(pool_size=4, max_surge=1, prefetch=1)
    old = pool.up()
    pool.calls(4)
    if not at_once:
        reload(pool, replaces=False, pool_size=2)
        assert len(pool.workers) == 4
    reload(pool, pool_size=2)
    assert len(starting(pool)) == 1
    assert [worker.recycled_for for worker in old] == ["resized"] * 2 + ["reload"] * 2


def test_a_worker_that_is_killed_and_held_holds_no_reload_up() -> None:
    pool = Driver(worker_shutdown_grace_period=1.0)
    (old,) = pool.up()
    reload(pool)
    (new,) = starting(pool)
    pool.ready(new)
    assert pool.finished == [old.id]
    pool.wait(1.1)
    assert pool.killed == [old.id]
    # It does not go, and another reload comes.
    reload(pool)
    (newest,) = starting(pool)
    pool.ready(newest)
    assert pool.finished == [old.id, new.id]


def test_what_waits_for_a_worker_to_go_goes_on_when_it_is_killed() -> None:
    pool = Driver(pool_size=2, max_surge=1, worker_shutdown_grace_period=1.0)
    one, two = pool.up()
    reload(pool)
    (new,) = starting(pool)
    pool.ready(new)
    assert (pool.finished, starting(pool)) == ([one.id], [])
    pool.wait(1.1)
    assert pool.killed == [one.id]
    (newest,) = starting(pool)
    pool.ready(newest)
    assert pool.finished == [one.id, two.id]


def test_a_larger_pool_starts_what_is_missing_and_replaces_nobody() -> None:
    pool = Driver()
    (one,) = pool.up()
    reload(pool, replaces=False, pool_size=2)
    (two,) = starting(pool)
    pool.ready(two)
    assert pool.workers == [one, two]
    assert pool.finished == []
    assert len(pool.heard("pool.reloaded")) == 1


def test_new_limits_hold_for_the_workers_there_are() -> None:
    pool = Driver()
    (old,) = pool.up()
    pool.wait(50.0)
    reload(pool, replaces=False, worker_ttl=60.0, health_check_interval=20.0)
    pool.wait(9.0)
    assert starting(pool) == []
    pool.wait(1.0)
    assert len(starting(pool)) == 1
    reload(pool, replaces=False, worker_ttl=math.inf)
    pool.wait(10.0)
    assert pool.pinged == [(old.id, 1)]


@pytest.mark.parametrize("answers", [True, False])
def test_a_ping_from_before_a_reload_has_its_time(answers: bool) -> None:
    pool = Driver(health_check_interval=10.0, health_check_timeout=2.0)
    (worker,) = pool.up()
    pool.wait(10.0)
    reload(pool, replaces=False, health_check_interval=20.0)
    pool.wait(1.9)
    if answers:
        pool.perform(pool.machine.ponged(worker, 1, pool.now))
    pool.wait(0.1)
    assert pool.pinged == [(worker.id, 1)]
    assert pool.killed == ([] if answers else [worker.id])


def test_memory_is_measured_as_often_as_is_set_now() -> None:
    pool = Driver(memory_check_interval=5.0)
    (worker,) = pool.up()
    for limit, times in ((100, 2), (200, 2), (math.inf, 0)):
        pool.wait(1.0)
        reload(pool, replaces=False, memory_limit_mb=limit)
        pool.measuring.clear()
        pool.wait(10.0)
        assert pool.measuring == [worker.id] * times


@pytest.mark.parametrize(
    ("idle_for", "busy", "settings", "wanted"),
    [
        # One that has let none go grows.
        (0.0, 0, {"pool_size": 7}, 7),
        (60.0, 0, {"pool_size": 7}, 1),
        (60.0, 0, {"min_workers": 2}, 2),
        (60.0, 4, {"pool_size": 3}, 3),
    ],
)
def test_a_pool_that_has_let_workers_go_stays_as_it_is_within_its_bounds(
    idle_for: float, busy: int, settings: dict[str, int], wanted: int
) -> None:
    pool = Driver(pool_size=5, min_workers=1, idle_timeout=60.0, prefetch=1)
    pool.up()
    pool.calls(busy)
    pool.wait(idle_for)
    reload(pool, replaces=False, **settings)
    assert pool.machine.wanted == wanted


def test_a_shorter_time_to_be_idle_counts_from_when_a_worker_became_so() -> None:
    pool = Driver(pool_size=2, min_workers=1, idle_timeout=600.0)
    one, _ = pool.up()
    pool.wait(50.0)
    reload(pool, replaces=False, idle_timeout=60.0)
    pool.wait(9.9)
    assert pool.finished == []
    pool.wait(0.1)
    assert pool.finished == [one.id]


def test_a_limit_of_before_does_not_hold_beside_the_new_one() -> None:
    pool = Driver(worker_ttl=60.0)
    (worker,) = pool.up()
    pool.wait(50.0)
    reload(pool, replaces=False, worker_ttl=600.0)
    pool.wait(450.0)
    assert worker.recycled_for is None
    pool.wait(100.0)
    assert worker.recycled_for == "ttl_expired"


def test_no_more_calls_wait_at_a_worker_than_may_now() -> None:
    pool = Driver(prefetch=3)
    (worker,) = pool.up()
    ahead = pool.calls(2)
    reload(pool, replaces=False, prefetch=1)
    last = pool.call()
    for call in ahead:
        assert pool.queued == [last.id]
        pool.answer(worker, call)
    assert at(worker) == [last.id]


def test_nothing_waits_behind_a_slow_call_once_speed_is_judged() -> None:
    pool = Driver()
    (worker,) = pool.up()
    pool.learn("fast")
    reload(pool, replaces=False, prefetch=3)
    pool.call("unknown")
    reload(pool, replaces=False, prefetch="auto")
    last = pool.call("fast")
    assert pool.queued == [last.id]
    pool.answer(worker)
    assert at(worker) == [last.id]


def test_calls_of_a_session_go_anywhere_once_that_is_only_a_hint() -> None:
    pool = Driver(pool_size=2, affinity="strict_queue", prefetch=1)
    pool.up()
    first, second = pool.call(session="s"), pool.call(session="s")
    assert pool.queued == [second.id]
    reload(pool, replaces=False, affinity="hint")
    assert second.worker is not None
    assert second.worker is not first.worker


def test_a_call_of_a_session_that_has_become_strict_is_not_started_again() -> None:
    pool = Driver(affinity="hint")
    pool.idempotent = {"again"}
    (worker,) = pool.up()
    call = pool.call("again", session="s")
    reload(pool, replaces=False, affinity="strict_queue")
    pool.gone(worker, started=1)
    assert pool.outcome(call) == "worker_crashed"


def test_a_pool_that_stops_takes_no_other_settings() -> None:
    pool = Driver(pool_size=2)
    pool.up()
    pool.stop()
    reload(pool, pool_size=4)
    assert len(pool.started) == 2


def with_sessions(**settings: Any) -> tuple[Driver, list[Worker]]:
    """A pool of four workers that each have a session."""
    pool = Driver(pool_size=4, affinity="strict_queue", **settings)
    workers = pool.up()
    for session in "abcd":
        call = pool.call(session=session)
        assert call.worker is not None
        pool.answer(call.worker)
    return pool, workers


def test_those_that_leave_a_pool_made_smaller_leave_it_not_without_a_worker() -> None:
    pool, old = with_sessions(max_surge=4)
    pool.perform(pool.machine.recycle(old, "manual", pool.now))
    for worker in starting(pool):
        pool.ready(worker)
    reload(pool, replaces=False, pool_size=1, max_surge=1)
    (last,) = [worker for worker in pool.workers if worker.state is WorkerState.READY]
    pool.answer(last, pool.call())
    before = len(pool.started)
    pool.gone(last)
    assert len(pool.started) == before + 1
    assert [worker.state for worker in old] == [WorkerState.DRAINING] * 4


def test_a_shorter_life_of_sessions_holds_for_workers_that_wait_for_them() -> None:
    pool, _ = with_sessions(session_ttl=math.inf)
    call = pool.call(session="a")
    worker = call.worker
    assert worker is not None
    pool.answer(worker, call)
    pool.perform(pool.machine.recycle([worker], "manual", pool.now))
    pool.ready(pool.workers[-1])
    reload(pool, replaces=False, session_ttl=10.0)
    pool.wait(8.0)
    pool.answer(worker, pool.call(session="a"))
    pool.wait(1.9)
    assert worker.state is WorkerState.DRAINING
    pool.wait(0.1)
    assert worker.state is WorkerState.STOPPING


def test_a_life_of_sessions_that_stays_as_it_was_does_not_begin_anew() -> None:
    pool, _ = with_sessions(session_ttl=60.0)
    worker = pool.call(session="a").worker
    assert worker is not None
    pool.perform(pool.machine.recycle([worker], "manual", pool.now))
    pool.ready(pool.workers[-1])
    pool.wait(50.0)
    reload(pool, replaces=False, call_timeout=5.0)
    pool.wait(10.0)
    reasons = {e.metadata["session"]: e.metadata["reason"] for e in pool.heard("session.closed")}
    assert reasons["a"] == "worker_recycled"


def test_the_pause_between_batches_is_there_while_workers_are_replaced() -> None:
    pool = Driver(pool_size=2, startup_batch_size=1, startup_batch_delay_ms=500)
    pool.start()
    for _ in range(2):
        pool.ready(pool.workers[-1])
        pool.wait(0.5)
    reload(pool)
    for number in range(2):
        (new,) = starting(pool)
        pool.ready(new)
        for worker in [w for w in pool.workers if w.state is WorkerState.STOPPING]:
            pool.gone(worker)
        assert starting(pool) == []
        pool.wait(0.5)
        assert len(starting(pool)) == 1 - number
    assert pool.machine.stats()["reload"] is None


def test_a_call_that_comes_back_when_the_worker_of_its_session_is_gone_is_told() -> None:
    pool = Driver(pool_size=2)
    pool.up()
    pool.learn("c")
    pool.calls(2)
    call = pool.call("c", session="s")
    slow = call.worker
    assert slow is not None
    (other,) = (worker for worker in pool.workers if worker is not slow)
    pool.wait(STALL_SECONDS)
    pool.answer(other)
    pool.wait(STALL_SECONDS)
    assert pool.recalled == [(slow.id, [call.id])]
    reload(pool, replaces=False, affinity="strict_queue")
    assert pool.call("c", session="s").worker is other
    pool.gone(other, started=other.sent)
    pool.perform(pool.machine.gave_back(slow, [call.id], pool.now))
    assert pool.outcome(call) == "session_worker_unavailable"
    assert pool.queued == []
