"""Starting workers: in batches, with a backoff after failures; ready and unavailable."""

from __future__ import annotations

import pytest
from pool_driver import Driver

from snakepit_port.pool import WorkerState
from snakepit_port.pool.backoff import FIRST_SECONDS, MAX_SECONDS
from snakepit_port.pool.record import CATCHING_UP

IMPORT_ERROR = {
    "type": "exception",
    "message": "No module named 'nope'",
    "exception": "ModuleNotFoundError",
    "traceback": "Traceback ...",
}


def fail_all(pool: Driver) -> None:
    for worker in pool.workers:
        if worker.state is WorkerState.STARTING:
            pool.gone(worker, error=IMPORT_ERROR)


def test_nothing_starts_before_it_may() -> None:
    pool = Driver(pool_size=2)
    pool.wait(100.0)
    assert pool.started == []
    pool.start()
    assert pool.started == ["p-1", "p-2"]


class TestBatches:
    def test_a_batch_begins_when_the_one_before_has_settled(self) -> None:
        pool = Driver(pool_size=5, startup_batch_size=2)
        pool.start()
        assert pool.started == ["p-1", "p-2"]
        pool.ready(pool.workers[0])
        assert len(pool.started) == 2
        pool.ready(pool.workers[1])
        assert len(pool.started) == 4
        pool.ready(pool.workers[2])
        pool.ready(pool.workers[3])
        assert len(pool.started) == 5

    def test_there_is_a_pause_between_them(self) -> None:
        pool = Driver(pool_size=3, startup_batch_size=2, startup_batch_delay_ms=500)
        pool.start()
        pool.wait(10.0)
        one, two = pool.workers
        pool.ready(one)
        pool.ready(two)
        pool.wait(0.49)
        assert len(pool.started) == 2
        pool.wait(0.02)
        assert len(pool.started) == 3

    def test_there_is_none_once_all_have_been_there(self) -> None:
        pool = Driver(pool_size=2, startup_batch_size=1, startup_batch_delay_ms=500)
        pool.start()
        pool.ready(pool.workers[0])
        pool.wait(0.5)
        pool.ready(pool.workers[1])
        one = pool.workers[0]
        pool.perform(pool.machine.recycle(pool.workers, "manual", pool.now))
        assert len(pool.started) == 3
        pool.ready(pool.workers[-1])
        pool.gone(one)
        assert len(pool.started) == 4

    def test_after_a_failure_one_worker_goes_ahead(self) -> None:
        pool = Driver(pool_size=4, startup_batch_size=4)
        pool.start()
        fail_all(pool)
        pool.wait(FIRST_SECONDS)
        assert pool.started[4:] == ["p-5"]
        pool.ready(pool.workers[-1])
        assert pool.started[5:] == ["p-6", "p-7", "p-8"]


def test_a_failure_is_told_even_if_others_of_its_batch_are_ready_after_it() -> None:
    pool = Driver(pool_size=3)
    pool.start()
    one, two, three = pool.workers
    pool.gone(one, error=IMPORT_ERROR)
    pool.ready(two)
    assert pool.heard("worker.start_failed") == []
    pool.ready(three)
    (event,) = pool.heard("worker.start_failed")
    assert event.measurements == {"attempt": 1, "retry_in_ms": 0.0}
    assert event.metadata["worker"] == one.id
    assert pool.machine.stats()["start_failures"] == 1
    assert pool.started[3:] == ["p-4"]


class TestReady:
    def test_a_pool_is_ready_when_its_first_workers_are(self) -> None:
        pool = Driver(pool_size=2)
        pool.start()
        pool.now += 0.25
        pool.ready(pool.workers[0])
        assert (pool.state, pool.settled) == ("starting", 0)
        pool.ready(pool.workers[1])
        assert (pool.state, pool.settled) == ("ready", 1)
        (event,) = pool.heard("pool.ready")
        assert event.measurements == {"workers": 2, "startup_ms": 250.0}
        (event, _) = pool.heard("worker.started")
        assert event.measurements == {"startup_ms": 250.0}
        assert event.metadata == {"pool": "p", "worker": "p-1", "os_pid": 7}

    @pytest.mark.parametrize("order", ["fails first", "fails last"])
    def test_one_of_several_is_enough_when_all_have_been_tried(self, order: str) -> None:
        pool = Driver(pool_size=2)
        pool.start()
        good, bad = pool.workers
        if order == "fails first":
            pool.gone(bad, error=IMPORT_ERROR)
            assert pool.state == "starting"
            pool.ready(good)
        else:
            pool.ready(good)
            assert pool.state == "starting"
            pool.gone(bad, error=IMPORT_ERROR)
        assert (pool.state, pool.settled) == ("ready", 1)

    def test_nobody_waits_for_those_that_are_tried_only_after_a_failure(self) -> None:
        pool = Driver(pool_size=3, startup_batch_size=2)
        pool.start()
        good, bad = pool.workers
        pool.ready(good)
        pool.gone(bad, error=IMPORT_ERROR)
        assert (pool.state, pool.settled) == ("ready", 1)

    def test_a_worker_takes_calls_before_its_pool_is_ready(self) -> None:
        pool = Driver(pool_size=2)
        pool.start()
        call = pool.call()
        pool.ready(pool.workers[0])
        assert call.worker is pool.workers[0]

    def test_a_crash_before_the_others_are_ready_does_not_keep_it_from_being_ready(self) -> None:
        pool = Driver(pool_size=3)
        pool.start()
        one, two, three = pool.workers
        pool.ready(one)
        pool.gone(one)
        pool.ready(two)
        pool.ready(three)
        assert (pool.state, pool.settled) == ("ready", 1)

    def test_saying_ready_twice_does_nothing(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        call = pool.call()
        pool.ready(worker)
        assert len(pool.heard("worker.started")) == 1
        other = pool.call()
        assert (call.worker, other.worker) == (worker, None)


class TestUnavailable:
    def test_a_pool_that_cannot_start_says_why_and_so_do_its_calls(self) -> None:
        pool = Driver(pool_size=2)
        pool.start()
        early = pool.call("work")
        fail_all(pool)
        late = pool.call("work")
        assert (pool.state, pool.settled) == ("unavailable", 1)
        for call in (early, late):
            error = pool.error(call)
            assert error["type"] == "pool_unavailable"
            assert error["message"] == "pool 'p' has no worker: No module named 'nope'"
            assert error["exception"] == "ModuleNotFoundError"
            assert (error["pool"], error["command"]) == ("p", "work")
        (event,) = pool.heard("pool.unavailable")
        assert event.metadata == {
            "pool": "p",
            "message": "No module named 'nope'",
            "traceback": "Traceback ...",
        }

    def test_it_tries_again_with_a_growing_pause(self) -> None:
        pool = Driver()
        pool.start()
        pauses = []
        for _ in range(12):
            fail_all(pool)
            failed_at = pool.now
            due = pool.machine.next_due
            assert due is not None
            pauses.append(round(due - failed_at, 6))
            pool.wait(due - failed_at)
        assert pauses[:3] == [FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS]
        assert pauses[-1] == MAX_SECONDS
        events = pool.heard("worker.start_failed")
        assert [event.measurements["attempt"] for event in events] == [*range(1, 13)]
        assert events[1].measurements["retry_in_ms"] == 200
        assert len(pool.heard("pool.unavailable")) == 1

    def test_a_batch_that_fails_counts_once(self) -> None:
        pool = Driver(pool_size=8)
        pool.start()
        fail_all(pool)
        assert len(pool.heard("worker.start_failed")) == 1
        pool.wait(FIRST_SECONDS)
        assert len(pool.started) == 9

    def test_it_is_ready_again_when_a_worker_is(self) -> None:
        pool = Driver(pool_size=2)
        pool.start()
        fail_all(pool)
        pool.wait(FIRST_SECONDS)
        pool.ready(pool.workers[0])
        assert pool.state == "ready"
        assert pool.settled == 1
        assert pool.call().worker is not None
        # And failures are counted anew.
        fail_all(pool)
        assert pool.heard("worker.start_failed")[-1].measurements["attempt"] == 1

    def test_a_pool_is_unavailable_when_its_last_worker_went_and_none_can_follow(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        running = pool.call()
        waiting = pool.call()
        pool.gone(worker, started=1)
        assert pool.state == "ready"
        assert pool.outcomes([running, waiting]) == ["worker_crashed", None]
        pool.wait(FIRST_SECONDS)
        fail_all(pool)
        assert pool.outcome(waiting) is None
        pool.wait(FIRST_SECONDS)
        fail_all(pool)
        assert pool.state == "unavailable"
        assert pool.outcome(waiting) == "pool_unavailable"

    def test_one_start_that_fails_costs_a_pool_that_was_ready_no_call(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        pool.gone(worker)
        waiting = pool.call()
        pool.wait(FIRST_SECONDS)
        fail_all(pool)
        assert (pool.state, pool.heard("pool.unavailable")) == ("ready", [])
        pool.wait(FIRST_SECONDS)
        pool.ready(pool.workers[0])
        assert waiting.worker is pool.workers[0]

    def test_a_pool_with_another_worker_stays_ready(self) -> None:
        pool = Driver(pool_size=2)
        one, _ = pool.up()
        pool.gone(one)
        pool.wait(FIRST_SECONDS)
        fail_all(pool)
        assert pool.state == "ready"

    def test_calls_that_a_dead_worker_leaves_to_an_unavailable_pool_are_answered(self) -> None:
        pool = Driver(prefetch=2, cancel_grace_period=1.0)
        (worker,) = pool.up()
        running, waiting = pool.calls(2)
        pool.cancel(running)
        pool.wait(1.0)
        fail_all(pool)
        pool.wait(FIRST_SECONDS)
        fail_all(pool)
        assert pool.state == "unavailable"
        pool.gone(worker, started=1)
        assert pool.outcomes([running, waiting]) == ["cancelled", "pool_unavailable"]
        assert pool.queued == []


class TestStartupTimeout:
    def test_a_worker_that_is_not_ready_in_time_is_killed(self) -> None:
        pool = Driver(pool_startup_timeout=30.0)
        pool.start()
        (worker,) = pool.workers
        call = pool.call()
        pool.wait(29.9)
        assert pool.killed == []
        pool.wait(0.2)
        assert pool.killed == [worker.id]
        pool.ready(worker)
        assert pool.outcome(call) is None
        pool.gone(worker)
        assert pool.state == "unavailable"
        assert "pool_startup_timeout" in pool.error(call)["message"]
        assert "within 30 s" in pool.error(call)["message"]

    def test_a_worker_that_is_not_read_from_may_be_ready(self) -> None:
        pool = Driver(pool_startup_timeout=30.0, pool_size=2)
        pool.start()
        ready, late = pool.workers
        pool.machine.hear(False, pool.now)
        pool.wait(40.0)
        pool.machine.hear(True, pool.now)
        assert pool.killed == []
        pool.ready(ready)
        pool.wait(2 * CATCHING_UP)
        assert pool.killed == [late.id]

    def test_nothing_is_tried_again_while_the_host_does_not_read(self) -> None:
        pool = Driver(pool_size=2, startup_batch_size=1)
        pool.machine.hear(False, pool.now)
        pool.start()
        # It may well start: then nobody has to be told of a failure.
        assert pool.started == ["p-1"]
        fail_all(pool)
        pool.wait(10 * MAX_SECONDS)
        assert pool.started == ["p-1"]
        assert len(pool.heard("worker.start_failed")) == 1
        pool.machine.hear(True, pool.now)
        pool.wait(CATCHING_UP)
        assert pool.started == ["p-1", "p-2"]
        pool.ready(pool.workers[0])
        pool.machine.hear(False, pool.now)
        pool.gone(pool.workers[0])
        pool.wait(MAX_SECONDS)
        assert pool.started[2:] == ["p-3"]

    def test_one_that_was_killed_and_is_held_does_not_keep_others_from_starting(self) -> None:
        pool = Driver(pool_startup_timeout=30.0)
        pool.start()
        (worker,) = pool.workers
        call = pool.call()
        pool.wait(30.1)
        assert pool.killed == [worker.id]
        pool.wait(60.0)
        assert pool.started == [worker.id]
        pool.perform(pool.machine.held(worker, {"type": "pool_unavailable"}, pool.now))
        pool.perform(pool.machine.held(worker, {"type": "pool_unavailable"}, pool.now))
        assert "pool_startup_timeout" in pool.error(call)["message"]
        pool.wait(1.0)
        assert pool.started == [worker.id, "p-2"]
        (failed,) = pool.heard("worker.start_failed")
        # It is let go at last: that was counted.
        pool.gone(worker)
        assert pool.heard("worker.start_failed") == [failed]

    def test_a_worker_that_was_ready_in_time_is_left_alone(self) -> None:
        pool = Driver(pool_startup_timeout=30.0)
        pool.up()
        pool.wait(100.0)
        assert pool.killed == []

    def test_workers_that_are_late_together_count_once(self) -> None:
        pool = Driver(pool_size=8, pool_startup_timeout=30.0)
        pool.start()
        pool.wait(30.0)
        late = pool.workers
        for worker in late[:-1]:
            pool.gone(worker)
            pool.wait(0.001)
        assert len(pool.started) == 8
        pool.gone(late[-1])
        (event,) = pool.heard("worker.start_failed")
        assert event.measurements["attempt"] == 1
        pool.wait(FIRST_SECONDS)
        assert len(pool.started) == 9
