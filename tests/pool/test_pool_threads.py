"""Workers that work on several calls at a time."""

from __future__ import annotations

from typing import Any

from pool_driver import Driver, at, ids

from snakepit_port.pool import Call, Worker
from snakepit_port.pool.speed import STALL_SECONDS


def test_the_worker_with_the_fewest_calls_takes_the_next() -> None:
    pool = Driver(capacity=3, pool_size=2)
    one, two = pool.up()
    calls = pool.calls(6)
    assert [len(at(one)), len(at(two))] == [3, 3]
    waiting = pool.call()
    assert pool.queued == [waiting.id]
    first = [call for call in calls if call.worker is one]
    pool.answer(one, first[1])
    pool.answer(one, first[2])
    assert at(one) == [first[0].id, waiting.id]
    # One is at two, the other at three.
    assert pool.call().worker is one


def test_nothing_waits_at_a_worker_unless_it_is_fast() -> None:
    pool = Driver(capacity=2, prefetch="auto")
    (worker,) = pool.up()
    pool.learn("fast")
    slow = pool.calls(2, "slow")
    behind = pool.call("fast")
    assert pool.queued == [behind.id]
    for call in slow:
        pool.answer(worker, call)
    fast = pool.calls(6, "fast")
    assert pool.queued == []
    assert at(worker) == ids([behind, *fast])


def test_a_stream_has_a_thread_to_itself() -> None:
    pool = Driver(capacity=2, prefetch=5)
    (worker,) = pool.up()
    stream, beside = pool.call(credit=1), pool.call()
    assert at(worker) == [stream.id, beside.id]
    another = pool.call(credit=1)
    assert pool.queued == [another.id]
    pool.answer(worker, beside)
    assert at(worker) == [stream.id, another.id]
    # There is nothing that it could wait for but a stream.
    plain = pool.call()
    assert pool.queued == [plain.id]


def test_as_many_may_wait_as_at_a_worker_that_works_on_one() -> None:
    pool = Driver(capacity=4, prefetch=3)
    (worker,) = pool.up()
    calls = pool.calls(8)
    assert at(worker) == ids(calls[:6])
    assert pool.queued == ids(calls[6:])


def test_what_had_started_is_told_from_the_order_of_sending() -> None:
    pool = Driver(capacity=2, prefetch=3)
    (worker,) = pool.up()
    calls = pool.calls(4)
    # The first has been answered, and three had started.
    pool.answer(worker, calls[1])
    pool.gone(worker, started=3)
    assert pool.outcomes(calls) == ["worker_crashed", "forwarded", "worker_crashed", None]
    assert pool.queued == [calls[3].id]


def test_a_call_that_does_not_stop_lets_the_others_finish() -> None:
    pool = Driver(capacity=3, cancel_grace_period=1.0)
    (worker,) = pool.up()
    stuck, second, third = pool.calls(3)
    pool.cancel(stuck)
    assert pool.interrupted == [(worker.id, stuck.id)]
    pool.wait(1.0)
    assert (pool.killed, worker.state.value) == ([], "draining")
    # It takes no more calls: those are for its successor, which is started at once.
    pool.answer(worker, second)
    later = pool.call()
    assert pool.queued == [later.id]
    (_, successor) = pool.workers
    pool.ready(successor)
    assert later.worker is successor
    pool.answer(worker, third)
    assert pool.killed == [worker.id]
    pool.gone(worker, started=3)
    assert pool.outcomes([stuck, second, third]) == ["cancelled", "forwarded", "forwarded"]
    assert pool.heard("worker.stopped")[0].metadata["reason"] == "cancelled"
    assert pool.machine.stats()["worker_crashes"] == 0


class TestWhatAStuckCallKeepsFromBeginning:
    """Such as one in C that does not let go of the GIL: then the worker reads nothing either."""

    def stuck(self, **settings: Any) -> tuple[Driver, Worker, Call, Call]:
        pool = Driver(capacity=3, cancel_grace_period=1.0, **settings)
        (worker,) = pool.up()
        stuck, other = pool.call(), pool.call(session="s")
        pool.begun[worker] = 1
        pool.cancel(stuck)
        pool.wait(1.0)
        assert (pool.killed, worker.state.value) == ([], "draining")
        return pool, worker, stuck, other

    def test_it_is_not_waited_for(self) -> None:
        pool, worker, stuck, other = self.stuck()
        pool.wait(STALL_SECONDS)
        assert pool.killed == [worker.id]
        pool.gone(worker, started=1)
        assert pool.outcomes([stuck, other]) == ["cancelled", None]
        pool.ready(pool.workers[0])
        assert other.worker is pool.workers[0]

    def test_nor_is_one_of_a_strict_session_which_is_told(self) -> None:
        pool, worker, _, other = self.stuck(affinity="strict_queue")
        pool.wait(STALL_SECONDS)
        assert pool.killed == [worker.id]
        pool.gone(worker, started=1)
        assert pool.outcome(other) == "session_worker_unavailable"

    def test_one_that_was_only_on_its_way_is(self) -> None:
        pool, worker, _, other = self.stuck()
        pool.begun[worker] = 2
        pool.wait(5.0)
        assert pool.killed == []
        pool.answer(worker, other)
        assert pool.killed == [worker.id]

    def test_and_nothing_happens_if_it_stops_after_all(self) -> None:
        pool, worker, stuck, other = self.stuck()
        pool.answer(worker, stuck, ok=False)
        pool.wait(5.0)
        assert (pool.killed, pool.outcome(other)) == ([], None)

    def test_those_that_have_begun_finish_first(self) -> None:
        pool = Driver(capacity=3, cancel_grace_period=1.0)
        (worker,) = pool.up()
        stuck, running, _ = pool.calls(3)
        pool.begun[worker] = 2
        pool.cancel(stuck)
        pool.wait(5.0)
        assert pool.killed == []
        pool.answer(worker, running)
        pool.wait(STALL_SECONDS)
        assert pool.killed == [worker.id]


def test_one_that_stops_after_all_lets_its_worker_go_in_good_order() -> None:
    pool = Driver(capacity=2, cancel_grace_period=1.0)
    (worker,) = pool.up()
    stuck, other = pool.calls(2)
    pool.cancel(stuck)
    pool.wait(1.0)
    pool.answer(worker, stuck, ok=False)
    assert (pool.killed, pool.finished) == ([], [])
    pool.answer(worker, other)
    assert (pool.killed, pool.finished) == ([], [worker.id])


def test_calls_of_a_draining_worker_keep_their_deadlines() -> None:
    pool = Driver(capacity=2, cancel_grace_period=1.0)
    (worker,) = pool.up()
    stuck = pool.call()
    other = pool.call(timeout=5.0)
    pool.cancel(stuck)
    pool.wait(1.0)
    pool.wait(4.0)
    assert pool.outcome(other) == "timeout"
    assert pool.interrupted[-1] == (worker.id, other.id)
    assert pool.killed == []
    pool.wait(1.0)
    assert pool.killed == [worker.id]


def test_a_cancelled_call_does_not_keep_its_worker_from_taking_others() -> None:
    pool = Driver(capacity=3)
    (worker,) = pool.up()
    cancelled = pool.call()
    pool.cancel(cancelled)
    assert pool.call().worker is worker
    # The host may use the id again: then it waits until the worker has let go of the first.
    again = pool.call(id=cancelled.id)
    assert pool.queued == [again.id]
    pool.answer(worker, cancelled)
    assert again.worker is worker


def test_one_that_waits_at_a_worker_gets_its_grace_when_it_is_its_turn() -> None:
    pool = Driver(capacity=2, prefetch=2, cancel_grace_period=1.0)
    (worker,) = pool.up()
    one, two, waiting = pool.calls(3)
    pool.cancel(waiting)
    pool.wait(5.0)
    assert worker.state.value == "ready"
    pool.answer(worker, two)
    pool.wait(1.0)
    assert worker.state.value == "draining"
    pool.answer(worker, one)
    assert pool.killed == [worker.id]


def test_nothing_waits_at_a_worker_as_long_as_it_has_a_cancelled_call() -> None:
    pool = Driver(capacity=2)
    (worker,) = pool.up()
    pool.learn("fast")
    cancelled, other = pool.calls(2, "fast")
    pool.cancel(cancelled)
    pool.answer(worker, other)
    beside, behind = pool.calls(2, "fast")
    assert at(worker) == [cancelled.id, beside.id]
    assert pool.queued == [behind.id]
    pool.answer(worker, beside)
    pool.answer(worker, cancelled)
    calls = pool.calls(3, "fast")
    assert at(worker) == ids([behind, *calls])
