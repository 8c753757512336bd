"""Sessions: which worker has which calls, and what is said when it goes."""

from __future__ import annotations

import pytest
from pool_driver import Driver, at, ids

from snakepit_port.pool import Call, Worker, WorkerState

STRICT = ["strict_queue", "strict_fail_fast"]


def closed(pool: Driver) -> list[tuple[str, str]]:
    return [
        (event.metadata["session"], event.metadata["reason"])
        for event in pool.heard("session.closed")
    ]


def close(pool: Driver, session: str) -> bool:
    was_there, todo = pool.machine.close_session(session, pool.now)
    pool.perform(todo)
    return was_there


def done(pool: Driver, call: Call) -> Worker:
    """The call's worker answers it; which was that?"""
    worker = call.worker
    assert worker is not None
    assert worker.running is call
    pool.answer(worker)
    return worker


def successor(pool: Driver, old: Worker) -> Worker:
    pool.perform(pool.machine.recycle([old], "manual", pool.now))
    (new,) = (worker for worker in pool.workers if worker.state is WorkerState.STARTING)
    pool.ready(new)
    return new


@pytest.mark.parametrize("affinity", ["hint", *STRICT])
def test_calls_of_a_session_go_to_the_worker_that_had_the_first(affinity: str) -> None:
    pool = Driver(pool_size=3, affinity=affinity)
    pool.up()
    own = done(pool, pool.call(session="s"))
    # So that it is not the one that was used last.
    others = pool.calls(2)
    other_workers = [call.worker for call in others]
    assert own in other_workers
    for call in others:
        done(pool, call)
    done(pool, pool.call())
    assert done(pool, pool.call(session="s")) is own
    assert pool.machine.stats()["sessions"] == 1


@pytest.mark.parametrize("affinity", STRICT)
@pytest.mark.parametrize("capacity", [1, 3])
def test_strict_sessions_are_spread(affinity: str, capacity: int) -> None:
    """Made one after the other they would all go to the worker that was used last."""
    pool = Driver(pool_size=3, affinity=affinity, capacity=capacity)
    workers = pool.up()
    for session in "abcdef":
        done(pool, pool.call(session=session))
    assert [len(worker.sessions) for worker in workers] == [2, 2, 2]
    close(pool, "b")
    close(pool, "c")
    pool.call(session="g")
    pool.call(session="h")
    assert [len(worker.sessions) for worker in workers] == [2, 2, 2]


@pytest.mark.parametrize("affinity", STRICT)
def test_a_new_session_goes_to_no_worker_that_still_has_a_call_of_that_id(affinity: str) -> None:
    pool = Driver(pool_size=2, affinity=affinity, capacity=2)
    pool.up()
    cancelled = pool.call()
    other = pool.call(session="s").worker
    assert other is not cancelled.worker
    pool.cancel(cancelled)
    again = pool.call(id=cancelled.id, session="t")
    # Though the first one has no session.
    assert again.worker is other


class TestHint:
    def test_another_worker_takes_the_call_when_its_own_is_busy(self) -> None:
        pool = Driver(pool_size=2, affinity="hint", prefetch=1)
        pool.up()
        first, second = pool.call(session="s"), pool.call(session="s")
        own = first.worker
        assert second.worker is not own
        done(pool, first)
        done(pool, second)
        assert pool.call(session="s").worker is own

    def test_it_is_bound_anew_when_its_worker_is_gone(self) -> None:
        pool = Driver(pool_size=3, affinity="hint")
        one, two, three = pool.up()
        assert done(pool, pool.call(session="s")) is three
        pool.gone(three, started=1)
        assert done(pool, pool.call(session="s")) is two
        # So that it is not the one that was used last.
        calls = pool.calls(2)
        assert [done(pool, call) for call in calls] == [two, one]
        assert pool.call(session="s").worker is two
        assert closed(pool) == []

    def test_it_is_bound_anew_when_its_worker_drains(self) -> None:
        pool = Driver(affinity="hint", capacity=2)
        (old,) = pool.up()
        assert pool.call(session="s").worker is old
        new = successor(pool, old)
        assert old.state is WorkerState.DRAINING
        assert pool.call(session="s").worker is new

    @pytest.mark.parametrize("answered", [True, False])
    def test_the_least_recently_used_is_forgotten_when_there_are_too_many(
        self, answered: bool
    ) -> None:
        pool = Driver(pool_size=2, affinity="hint", max_sessions=2)
        pool.up()
        for session in ("s", "t"):
            done(pool, pool.call(session=session))
        used = pool.call(session="s")
        if answered:
            done(pool, used)
        pool.call(session="u")
        assert closed(pool) == [("t", "evicted")]
        assert pool.machine.stats()["sessions"] == 2


class TestStrictQueue:
    def test_a_call_waits_for_its_worker_and_holds_up_nobody(self) -> None:
        pool = Driver(pool_size=2, affinity="strict_queue", prefetch=1)
        pool.up()
        first, second = pool.call(session="s"), pool.call(session="s")
        own = first.worker
        assert own is not None
        other = pool.call()
        assert second.worker is None
        assert other.worker not in (None, own)
        done(pool, other)
        assert second.worker is None
        done(pool, first)
        assert second.worker is own

    def test_a_call_that_waited_too_long_is_told_for_whom(self) -> None:
        pool = Driver(pool_size=2, affinity="strict_queue", prefetch=1)
        pool.up()
        own = pool.call(session="s").worker
        call = pool.call(session="s", queue_timeout=2.0)
        pool.wait(2.0)
        assert own is not None
        assert pool.error(call)["message"] == (
            f"worker {own.id}, which has session 's', was not free within 2 s; raise queue_timeout,"
            " or pool_size: new sessions go to the worker with the fewest"
        )
        assert pool.error(call)["worker"] == own.id

    def test_who_came_first_is_first(self) -> None:
        pool = Driver(affinity="strict_queue", prefetch=1)
        (worker,) = pool.up()
        pool.call(session="s")
        calls = []
        for session in (None, "s", None, "s"):
            pool.now += 1.0
            calls.append(pool.call(session=session))
        order = []
        for _ in calls:
            pool.answer(worker)
            order += at(worker)
        assert order == ids(calls)

    def test_calls_of_a_new_session_that_wait_follow_the_first_of_them(self) -> None:
        pool = Driver(pool_size=2, affinity="strict_queue", prefetch=1)
        one, two = pool.up()
        pool.calls(2)
        calls = [pool.call(session="s") for _ in range(3)]
        pool.answer(one)
        pool.answer(two)
        assert at(one) == [calls[0].id]
        assert at(two) == []
        assert pool.call().worker is two
        pool.answer(one)
        pool.answer(one)
        assert at(one) == [calls[2].id]

    def test_waiting_counts_towards_the_limits_of_the_queue(self) -> None:
        pool = Driver(pool_size=2, affinity="strict_queue", prefetch=1, max_queue_size=1)
        pool.up()
        pool.call(session="s")
        waiting = pool.call(session="s", queue_timeout=2.0)
        assert pool.outcome(pool.call(session="s")) == "pool_saturated"
        pool.wait(2.0)
        assert pool.outcome(waiting) == "queue_timeout"
        assert pool.machine.queue.bytes == 0


class TestStrictFailFast:
    def test_a_call_fails_when_its_worker_is_busy(self) -> None:
        pool = Driver(pool_size=2, affinity="strict_fail_fast")
        pool.up()
        pool.learn("fast")
        first = pool.call("fast", session="s")
        late = pool.call("fast", session="s")
        assert pool.outcome(late) == "worker_busy"
        assert "'s'" in pool.error(late)["message"]
        own = done(pool, first)
        assert pool.error(late)["worker"] == own.id
        assert pool.call("fast", session="s").worker is own

    @pytest.mark.parametrize("waits", [False, True])
    def test_a_worker_of_threads_is_busy_when_all_of_them_are(self, waits: bool) -> None:
        pool = Driver(affinity="strict_fail_fast", capacity=2)
        pool.start()
        (worker,) = pool.workers
        if not waits:
            pool.ready(worker)
        first, second, third = (pool.call(session="s") for _ in range(3))
        if waits:
            pool.ready(worker)
        assert at(worker) == [first.id, second.id]
        assert pool.outcome(third) == "worker_busy"

    def test_calls_of_a_new_session_wait_for_any_worker(self) -> None:
        pool = Driver(affinity="strict_fail_fast", prefetch=1)
        (worker,) = pool.up()
        pool.call()
        first, second = pool.call(session="s"), pool.call(session="s")
        assert pool.outcomes([first, second]) == [None, None]
        pool.answer(worker)
        assert at(worker) == [first.id]
        assert pool.outcome(second) == "worker_busy"


@pytest.mark.parametrize("affinity", STRICT)
class TestWorkerGone:
    def test_the_next_call_is_told_once(self, affinity: str) -> None:
        pool = Driver(pool_size=2, affinity=affinity)
        pool.up()
        own = done(pool, pool.call(session="s"))
        pool.gone(own, started=1)
        assert closed(pool) == [("s", "worker_gone")]
        told = pool.call(session="s")
        assert pool.outcome(told) == "session_worker_unavailable"
        assert pool.error(told)["worker"] == own.id
        assert pool.call(session="s").worker is not None
        assert len(closed(pool)) == 1

    def test_the_call_that_ran_has_crashed_and_the_next_one_is_told(self, affinity: str) -> None:
        pool = Driver(pool_size=2, affinity=affinity, session_ttl=60.0)
        pool.up()
        call = pool.call(session="s")
        assert call.worker is not None
        pool.gone(call.worker, started=1)
        assert pool.outcome(call) == "worker_crashed"
        assert pool.outcome(pool.call(session="s")) == "session_worker_unavailable"

    def test_one_that_nobody_asks_for_again_is_forgotten(self, affinity: str) -> None:
        pool = Driver(pool_size=2, affinity=affinity, session_ttl=60.0)
        pool.up()
        pool.gone(done(pool, pool.call(session="s")), started=1)
        assert pool.machine.stats()["sessions"] == 0
        pool.wait(60.0)
        assert closed(pool) == [("s", "worker_gone")]
        assert pool.call(session="s").worker is not None

    def test_one_that_is_lost_takes_no_place_of_another(self, affinity: str) -> None:
        pool = Driver(pool_size=2, affinity=affinity, max_sessions=1)
        pool.up()
        pool.gone(done(pool, pool.call(session="s")), started=1)
        assert pool.call(session="t").worker is not None
        assert pool.outcome(pool.call(session="s")) == "session_worker_unavailable"


def test_calls_that_were_made_for_a_worker_that_went_are_told_and_none_is_moved() -> None:
    pool = Driver(pool_size=2, affinity="strict_queue", prefetch=2)
    pool.up()
    calls = [pool.call(session="s") for _ in range(4)]
    own = calls[0].worker
    assert own is not None
    assert at(own) == ids(calls[:2])
    pool.gone(own, started=1)
    lost = "session_worker_unavailable"
    assert pool.outcomes(calls) == ["worker_crashed", lost, lost, lost]
    assert [pool.error(call)["worker"] for call in calls[1:]] == [own.id] * 3
    assert pool.queued == []
    # They were told; the session starts anew.
    assert pool.call(session="s").worker is not None


def test_a_call_behind_others_is_told_at_once_that_its_worker_went() -> None:
    pool = Driver(affinity="strict_queue")
    pool.start()
    first, other, second = pool.call(session="s"), pool.call(), pool.call(session="s")
    (worker,) = pool.workers
    pool.ready(worker)
    pool.gone(worker, started=1)
    lost = "session_worker_unavailable"
    assert pool.outcomes([first, other, second]) == ["worker_crashed", None, lost]
    # Once: it starts anew.
    assert pool.outcome(pool.call(session="s")) is None


class TestRecycling:
    def test_workers_with_sessions_come_last(self) -> None:
        pool = Driver(pool_size=3, affinity="strict_queue")
        workers = pool.up()
        others = pool.calls(2)
        own = done(pool, pool.call(session="s"))
        for call in others:
            done(pool, call)
        # Else it would be the first.
        assert own is workers[0]
        rest = workers[1:]
        pool.perform(pool.machine.recycle([own, *rest], "manual", pool.now))
        order = []
        for _ in workers:
            (new,) = (worker for worker in pool.workers if worker.state is WorkerState.STARTING)
            pool.ready(new)
            order += [w for w in pool.workers if w.state is not WorkerState.READY]
            if order[-1] is not own:
                pool.gone(order[-1])
        assert order == [*rest, own]

    def test_a_draining_worker_goes_on_with_its_sessions_until_they_end(self) -> None:
        pool = Driver(affinity="strict_queue", session_ttl=60.0)
        (old,) = pool.up()
        done(pool, pool.call(session="s"))
        done(pool, pool.call(session="t"))
        new = successor(pool, old)
        assert done(pool, pool.call(session="s")) is old
        assert done(pool, pool.call(session="u")) is new
        assert done(pool, pool.call()) is new
        assert close(pool, "s")
        assert pool.finished == []
        pool.wait(59.0)
        assert pool.finished == []
        pool.wait(1.0)
        assert pool.finished == [old.id]
        assert closed(pool)[:2] == [("s", "closed"), ("t", "expired")]
        pool.gone(old, started=3)
        assert not any(reason == "worker_gone" for _, reason in closed(pool))

    def test_it_does_not_wait_for_them_for_ever(self) -> None:
        pool = Driver(affinity="strict_queue", session_ttl=60.0)
        (old,) = pool.up()
        done(pool, pool.call(session="s"))
        new = successor(pool, old)
        for _ in range(3):
            pool.wait(19.0)
            assert done(pool, pool.call(session="s")) is old
        pool.wait(3.0)
        assert pool.finished == [old.id]
        assert closed(pool) == [("s", "worker_recycled")]
        assert pool.outcome(pool.call(session="s")) == "session_worker_unavailable"
        assert done(pool, pool.call(session="s")) is new

    def test_it_waits_for_calls_of_a_session_that_was_closed_as_for_any(self) -> None:
        pool = Driver(affinity="strict_queue", session_ttl=60.0, prefetch=1)
        (old,) = pool.up()
        running, waiting = pool.call(session="s"), pool.call(session="s")
        close(pool, "s")
        successor(pool, old)
        pool.wait(100.0)
        done(pool, running)
        assert done(pool, waiting) is old

    def test_an_idle_worker_with_a_session_is_not_let_go(self) -> None:
        pool = Driver(pool_size=2, min_workers=1, idle_timeout=60.0, affinity="strict_queue")
        one, two = pool.up()
        call = pool.call()
        own = done(pool, pool.call(session="s"))
        done(pool, call)
        pool.wait(60.0)
        assert pool.finished == [one.id if own is two else two.id]


class TestEnds:
    def test_a_session_ends_after_its_last_answer(self) -> None:
        pool = Driver(affinity="strict_queue", session_ttl=60.0)
        (worker,) = pool.up()
        pool.call(session="s")
        pool.wait(100.0)
        assert closed(pool) == []
        pool.answer(worker)
        pool.wait(59.0)
        assert closed(pool) == []
        pool.wait(1.0)
        assert closed(pool) == [("s", "expired")]
        (event,) = pool.heard("session.closed")
        assert event.measurements == {"requests": 1}

    def test_an_answer_that_came_without_a_worker_counts_as_well(self) -> None:
        pool = Driver(affinity="strict_queue", session_ttl=60.0)
        (worker,) = pool.up()
        call = pool.call(session="s")
        pool.wait(50.0)
        pool.cancel(call)
        pool.answer(worker)
        pool.wait(59.0)
        assert closed(pool) == []
        pool.wait(1.0)
        assert closed(pool) == [("s", "expired")]

    def test_closing_ends_it_once_and_lets_its_calls_go_on(self) -> None:
        pool = Driver(pool_size=2, affinity="strict_queue", prefetch=1)
        pool.up()
        first, second = pool.call(session="s"), pool.call(session="s")
        own = first.worker
        assert close(pool, "s")
        assert not close(pool, "s")
        assert pool.call(session="s").worker not in (None, own)
        done(pool, first)
        assert done(pool, second) is own

    def test_there_is_a_limit_to_their_number(self) -> None:
        pool = Driver(affinity="strict_queue", max_sessions=1)
        pool.up()
        done(pool, pool.call(session="s"))
        assert pool.outcome(pool.call(session="t")) == "session_limit"
        done(pool, pool.call(session="s"))
        close(pool, "s")
        done(pool, pool.call(session="t"))
