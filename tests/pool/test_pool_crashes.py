"""Workers that go: which calls fail and which wait again, and how soon another is started."""

from __future__ import annotations

from typing import Any

import pytest
from pool_driver import Driver, at, ids

from snakepit_port.pool import WorkerState
from snakepit_port.pool.backoff import FIRST_SECONDS, MAX_SECONDS

PROTOCOL_ERROR = {"type": "protocol_error", "message": "it sent nonsense"}


@pytest.mark.parametrize("started", range(5))
def test_the_ledger_tells_which_calls_had_been_started(started: int) -> None:
    pool = Driver(prefetch=4)
    (worker,) = pool.up()
    calls = pool.calls(4, "work")
    pool.gone(worker, started=started)
    assert pool.outcomes(calls) == ["worker_crashed"] * started + [None] * (4 - started)
    assert pool.queued == ids(calls[started:])
    for call in calls[:started]:
        assert pool.error(call)["command"] == "work"
        assert pool.error(call)["message"] == "it died"


def test_calls_that_it_had_answered_were_started_too() -> None:
    pool = Driver(prefetch=4)
    (worker,) = pool.up()
    calls = pool.calls(4)
    pool.answer(worker)
    pool.answer(worker)
    pool.gone(worker, started=3)
    assert pool.outcomes(calls) == ["forwarded", "forwarded", "worker_crashed", None]


def test_what_was_not_started_waits_again_at_the_front_and_in_order() -> None:
    pool = Driver(prefetch=3)
    (worker,) = pool.up()
    calls = pool.calls(6)
    assert pool.queued == ids(calls[3:])
    pool.gone(worker, started=1)
    assert pool.queued == ids(calls[1:])
    assert pool.machine.queue.bytes == 50
    pool.wait(FIRST_SECONDS)
    pool.ready(pool.workers[0])
    assert at(pool.workers[0]) == ids(calls[1:4])


def test_another_worker_takes_over_at_once() -> None:
    pool = Driver(pool_size=2, prefetch=2)
    one, two = pool.up()
    pool.calls(4)
    (first, second) = at(one)
    pool.answer(two)
    pool.answer(two)
    pool.gone(one, started=1)
    assert at(two) == [second]
    assert pool.sent.count((one.id, first)) == 1


def test_an_abandoned_call_is_not_run_again_nor_answered_again() -> None:
    pool = Driver(prefetch=3)
    (worker,) = pool.up()
    calls = pool.calls(3)
    pool.cancel(calls[1])
    pool.gone(worker, started=0)
    assert pool.queued == [calls[0].id, calls[2].id]
    assert pool.outcome(calls[1]) == "cancelled"


def test_a_deadline_goes_on_for_a_call_that_waits_again() -> None:
    pool = Driver(prefetch=2)
    (worker,) = pool.up()
    pool.call()
    call = pool.call(timeout=3.0)
    pool.wait(1.0)
    pool.gone(worker, started=1)
    pool.wait(2.0)
    assert pool.outcome(call) == "timeout"
    assert "worker" not in pool.error(call)
    assert pool.queued == []


def test_a_crash_is_told_and_counted() -> None:
    pool = Driver()
    (worker,) = pool.up()
    pool.learn("fast")
    running, _waiting = pool.calls(2, "fast")
    pool.now += 2.5 - (pool.now - worker.started_at)
    pool.gone(worker, started=running.sequence + 1)
    (stopped,) = pool.heard("worker.stopped")
    assert stopped.measurements == {"uptime_ms": 2500.0, "requests": 3}
    assert stopped.metadata == {
        "pool": "p",
        "worker": "p-1",
        "reason": "crashed",
        "status": "SIGSEGV",
        "commands": ["fast"],
    }
    (recycled,) = pool.heard("worker.recycled")
    assert recycled.metadata["reason"] == "worker_died"
    assert pool.machine.stats()["worker_crashes"] == 1


def test_a_worker_goes_once() -> None:
    pool = Driver()
    (worker,) = pool.up()
    call = pool.call()
    pool.gone(worker, started=1)
    pool.gone(worker, started=1)
    assert pool.outcome(call) == "worker_crashed"
    assert pool.machine.stats()["worker_crashes"] == 1
    assert pool.machine.answered(worker, call.id, True, pool.now) is None


class TestWhatEndsWorkersAsTheyReadIt:
    def crash(self, pool: Driver, started: int = 0) -> None:
        pool.gone(pool.workers[0], started=started)
        pool.wait(MAX_SECONDS)
        pool.ready(pool.workers[0])

    def test_it_is_given_to_three_workers_and_no_more(self) -> None:
        pool = Driver(prefetch=2)
        pool.up()
        call, behind = pool.calls(2, "work")
        for _ in range(2):
            self.crash(pool)
            assert at(pool.workers[0]) == ids([call, behind])
        self.crash(pool)
        assert pool.error(call) == {
            "type": "worker_crashed",
            "message": "it died. With it 3 have ended as they were to begin this call, and no other"
            " gets it: its arguments may take more memory than a worker has",
            "command": "work",
        }
        assert at(pool.workers[0]) == [behind.id]
        pool.answer(pool.workers[0])
        assert pool.outcome(behind) == "forwarded"
        assert pool.machine.stats()["errors"] == 1

    def test_one_that_ran_a_command_may_have_been_ended_by_that(self) -> None:
        pool = Driver(prefetch=2)
        pool.up()
        calls = pool.calls(6)
        for running in calls[:5]:
            self.crash(pool, started=1)
            assert pool.outcome(running) == "worker_crashed"
        assert at(pool.workers[0]) == [calls[5].id]

    def test_one_with_threads_reads_while_they_run_commands(self) -> None:
        pool = Driver(pool_size=3, capacity=2)
        workers = pool.up()
        running = pool.calls(3)
        call = pool.call()
        for _ in workers:
            worker = call.worker
            assert worker is not None
            pool.gone(worker, started=1)
        assert pool.outcomes(running) == ["worker_crashed"] * 3
        assert pool.error(call)["message"].startswith("it died. With it 3 have ended")

    def test_workers_that_the_pool_has_ended_do_not_count(self) -> None:
        pool = Driver()
        pool.up()
        call = pool.call()
        for _ in range(5):
            pool.perform(pool.machine.condemn(pool.workers[0], PROTOCOL_ERROR, pool.now))
            self.crash(pool)
            assert at(pool.workers[0]) == [call.id]


class TestReplacement:
    def test_a_worker_that_had_served_is_replaced_at_once(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        pool.call()
        pool.answer(worker)
        pool.gone(worker, started=1)
        assert pool.started == ["p-1", "p-2"]

    def test_calls_that_come_back_from_it_have_no_other_started_before(self) -> None:
        pool = Driver(pool_size=4, min_workers=1, idle_timeout=10.0, prefetch=4)
        pool.up()
        pool.wait(30.0)
        for worker in [w for w in pool.workers if w.state is WorkerState.STOPPING]:
            pool.gone(worker)
        (old,) = pool.workers
        pool.perform(pool.machine.recycle([old], "manual", pool.now))
        pool.ready(pool.workers[-1])
        pool.gone(old)
        (young,) = pool.workers
        pool.calls(2)
        before = list(pool.started)
        pool.gone(young, started=1)
        assert pool.started == before
        pool.wait(FIRST_SECONDS)
        assert len(pool.started) > len(before)

    def test_one_that_had_not_is_replaced_after_a_growing_pause(self) -> None:
        pool = Driver()
        pool.up()
        pauses = []
        for _ in range(10):
            (worker,) = pool.workers
            pool.call()
            pool.gone(worker, started=1)
            due = pool.machine.next_due
            assert due is not None
            pauses.append(round(due - pool.now, 6))
            pool.wait(due - pool.now)
            pool.ready(pool.workers[0])
        assert pauses[:3] == [FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS]
        assert pauses[-1] == MAX_SECONDS

    def test_an_answer_makes_up_for_it(self) -> None:
        pool = Driver()
        pool.up()
        for _ in range(5):
            pool.gone(pool.workers[0])
            pool.wait(MAX_SECONDS)
            pool.ready(pool.workers[0])
        pool.call()
        pool.answer(pool.workers[0])
        pool.gone(pool.workers[0], started=1)
        pool.ready(pool.workers[0])
        pool.gone(pool.workers[0])
        pool.wait(FIRST_SECONDS)
        assert len(pool.workers) == 1

    def test_workers_that_die_together_count_once(self) -> None:
        pool = Driver(pool_size=8)
        for worker in pool.up():
            pool.gone(worker)
        pool.wait(FIRST_SECONDS)
        assert len(pool.started) == 16

    def test_an_idle_worker_that_dies_after_a_while_is_replaced_at_once(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        pool.wait(2 * MAX_SECONDS)
        pool.gone(worker)
        assert pool.started == ["p-1", "p-2"]


class TestIdempotent:
    def pool(self, **settings: Any) -> Driver:
        pool = Driver(prefetch=3, max_seconds=0.001, **settings)
        pool.idempotent = {"again"}
        pool.up()
        return pool

    def crash(self, pool: Driver, started: int = 1) -> None:
        (worker,) = pool.workers
        pool.gone(worker, started=started)
        pool.wait(MAX_SECONDS)
        pool.ready(pool.workers[0])

    def test_a_call_is_started_again_so_many_times(self) -> None:
        pool = self.pool(max_retries=2)
        call = pool.call("again")
        for attempt in (1, 2, 3):
            assert pool.outcome(call) is None
            assert (call.attempt, at(pool.workers[0])) == (attempt, [call.id])
            self.crash(pool)
        assert pool.outcome(call) == "worker_crashed"
        assert pool.machine.stats()["retries"] == 2

    def test_those_that_were_started_come_before_those_that_were_not(self) -> None:
        pool = self.pool()
        calls = pool.calls(3, "again")
        self.crash(pool, started=2)
        assert at(pool.workers[0]) == ids(calls)
        assert [call.attempt for call in calls] == [2, 2, 1]

    def test_one_that_waits_to_be_started_again_is_with_no_worker(self) -> None:
        pool = self.pool()
        call = pool.call("again", timeout=3.0)
        pool.gone(pool.workers[0], started=1)
        pool.wait(3.0)
        assert pool.outcome(call) == "timeout"
        assert "worker" not in pool.error(call)

    def test_no_other_call_is(self) -> None:
        pool = self.pool(affinity="strict_queue")
        options: dict[str, Any]
        for command, options in (
            ("once", {}),
            ("again", {"session": "s"}),
            ("again", {"credit": 5}),
        ):
            call = pool.call(command, **options)
            assert call.worker is not None
            self.crash(pool)
            assert pool.outcome(call) == "worker_crashed"
        assert pool.machine.stats()["retries"] == 0

    def test_nor_one_whose_worker_broke_the_protocol(self) -> None:
        pool = self.pool()
        call = pool.call("again")
        (worker,) = pool.workers
        pool.perform(pool.machine.condemn(worker, PROTOCOL_ERROR, pool.now))
        pool.gone(worker, started=1)
        assert pool.outcome(call) == "protocol_error"

    def test_nor_one_that_nobody_waits_for(self) -> None:
        pool = self.pool()
        call = pool.call("again")
        pool.cancel(call)
        self.crash(pool)
        assert at(pool.workers[0]) == []


class TestIntensity:
    def crash(self, pool: Driver) -> None:
        """One of its workers serves a call, and crashes in the next."""
        worker = pool.call().worker
        assert worker is not None
        pool.answer(worker)
        running = pool.call()
        assert running.worker is worker
        pool.gone(worker, started=2)
        assert pool.outcome(running) == "worker_crashed"

    def replaced(self, pool: Driver) -> None:
        for worker in pool.workers:
            pool.ready(worker)

    def test_too_many_crashes_make_a_pool_unavailable_for_a_while(self) -> None:
        pool = Driver(pool_size=2, max_restarts=2, max_seconds=10.0)
        pool.up()
        for _ in range(2):
            self.crash(pool)
            self.replaced(pool)
            pool.wait(1.0)
        assert pool.state == "ready"
        self.crash(pool)
        # Though a worker is left: it would be the next.
        assert (pool.state, len(pool.workers)) == ("unavailable", 1)
        error = pool.error(pool.call("work"))
        assert error["type"] == "pool_unavailable"
        assert error["message"] == (
            "pool 'p' is paused: 3 workers crashed within 10 s (max_restarts is 2), so"
            " none is started for 10 s; the last: it died"
        )
        (event,) = pool.heard("pool.unavailable")
        assert "3 workers crashed" in event.metadata["message"]
        pool.wait(9.9)
        assert (pool.state, len(pool.workers)) == ("unavailable", 1)
        pool.wait(0.2)
        assert (pool.state, len(pool.workers)) == ("ready", 2)
        assert pool.call().worker is not None

    def test_without_a_worker_it_is_ready_when_one_is(self) -> None:
        pool = Driver(max_restarts=0, max_seconds=10.0)
        pool.up()
        self.crash(pool)
        assert (pool.state, pool.workers) == ("unavailable", [])
        pool.wait(10.0)
        assert pool.state == "unavailable"
        self.replaced(pool)
        assert pool.state == "ready"

    def test_crashes_that_are_far_between_do_not_count(self) -> None:
        pool = Driver(max_restarts=1, max_seconds=10.0)
        pool.up()
        for _ in range(10):
            self.crash(pool)
            self.replaced(pool)
            pool.wait(10.0)
        assert pool.state == "ready"
        assert pool.heard("pool.unavailable") == []

    def test_crashes_from_before_a_pause_do_not_count_after_it(self) -> None:
        pool = Driver(max_restarts=1, max_seconds=60.0)
        pool.up()
        for _ in range(2):
            self.crash(pool)
            self.replaced(pool)
        assert pool.state == "unavailable"
        pool.wait(MAX_SECONDS)
        self.replaced(pool)
        self.crash(pool)
        assert pool.state == "ready"

    def test_what_waits_is_answered(self) -> None:
        pool = Driver(max_restarts=0, prefetch=1)
        (worker,) = pool.up()
        running, waiting = pool.calls(2)
        pool.gone(worker, started=1)
        assert pool.outcomes([running, waiting]) == ["worker_crashed", "pool_unavailable"]


class TestBrokenProtocol:
    def test_answering_a_call_that_it_was_not_given_breaks_it(self) -> None:
        pool = Driver(pool_size=2)
        one, two = pool.up()
        call = pool.call()
        other = two if call.worker is one else one
        assert pool.machine.answered(other, call.id, True, pool.now) is None
        assert pool.machine.answered(other, 99, True, pool.now) is None
        assert pool.outcome(call) is None

    def test_the_worker_is_killed_and_what_it_ran_fails(self) -> None:
        pool = Driver(prefetch=3)
        (worker,) = pool.up()
        calls = pool.calls(3, "work")
        pool.perform(pool.machine.condemn(worker, PROTOCOL_ERROR, pool.now))
        pool.perform(pool.machine.condemn(worker, PROTOCOL_ERROR, pool.now))
        assert pool.killed == [worker.id]
        pool.gone(worker, started=1)
        assert pool.outcomes(calls) == ["protocol_error", None, None]
        assert pool.error(calls[0])["command"] == "work"
        assert pool.queued == ids(calls[1:])
        (stopped,) = pool.heard("worker.stopped")
        assert stopped.metadata["reason"] == "protocol_error"

    def test_a_worker_that_is_being_killed_gets_no_calls(self) -> None:
        pool = Driver(pool_size=2)
        one, two = pool.up()
        for worker in (one, two):
            pool.perform(pool.machine.condemn(worker, PROTOCOL_ERROR, pool.now))
        assert pool.call().worker is None

    def test_a_call_that_it_had_not_started_is_given_to_another(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        call = pool.call()
        pool.perform(pool.machine.condemn(worker, PROTOCOL_ERROR, pool.now))
        pool.gone(worker, started=0)
        assert pool.outcome(call) is None
        pool.wait(FIRST_SECONDS)
        pool.ready(pool.workers[0])
        assert at(pool.workers[0]) == [call.id]

    def test_what_it_says_afterwards_does_not_count(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        call = pool.call()
        pool.perform(pool.machine.condemn(worker, PROTOCOL_ERROR, pool.now))
        pool.answer(worker)
        assert pool.machine.answered(worker, 99, True, pool.now) == []
        pool.gone(worker, started=1)
        assert pool.outcome(call) == "protocol_error"

    def test_a_worker_that_always_does_so_is_not_replaced_in_a_tight_loop(self) -> None:
        pool = Driver()
        pool.up()
        for _ in range(6):
            (worker,) = pool.workers
            pool.perform(pool.machine.condemn(worker, PROTOCOL_ERROR, pool.now))
            pool.gone(worker)
            if pool.workers == []:
                pool.wait(MAX_SECONDS)
            pool.ready(pool.workers[0])
        assert pool.now > 1000.0 + 5 * MAX_SECONDS

    def test_one_that_does_so_instead_of_getting_ready_has_failed_to_start(self) -> None:
        pool = Driver()
        pool.start()
        call = pool.call()
        for attempt in range(1, 4):
            (worker,) = pool.workers
            pool.perform(pool.machine.condemn(worker, PROTOCOL_ERROR, pool.now))
            assert pool.workers == [worker]
            pool.gone(worker)
            assert len(pool.heard("worker.start_failed")) == attempt
            assert pool.workers == []
            pool.wait(MAX_SECONDS)
        assert pool.state == "unavailable"
        assert pool.error(call)["message"] == "pool 'p' has no worker: it sent nonsense"


def test_a_worker_that_is_stopping_and_breaks_the_protocol_is_killed() -> None:
    pool = Driver()
    (worker,) = pool.up()
    pool.perform(pool.machine.recycle([worker], "manual", pool.now))
    pool.ready(pool.workers[-1])
    assert pool.finished == [worker.id]
    pool.perform(pool.machine.condemn(worker, PROTOCOL_ERROR, pool.now))
    assert pool.killed == [worker.id]
    pool.gone(worker)
    # It went for what it was recycled for.
    assert pool.heard("worker.recycled")[-1].metadata["reason"] == "manual"


def test_a_pool_that_is_ready_again_after_a_pause_tells_how_long_that_took() -> None:
    pool = Driver(max_restarts=0, max_seconds=10.0)
    (worker,) = pool.up()
    pool.wait(5000.0)
    pool.gone(worker)
    pool.wait(10.0)
    pool.ready(pool.workers[-1])
    assert pool.heard("pool.ready")[-1].measurements == {"workers": 1, "startup_ms": 10_000.0}
