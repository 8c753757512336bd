"""Sending ahead: what a busy worker is given, and what it is not."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pool_driver import Driver, at, ids

from snakepit_port.pool import Call, Worker, WorkerState
from snakepit_port.pool.speed import (
    FIRST_AHEAD,
    MOST_AHEAD,
    OVERDUE_SECONDS,
    STALL_SECONDS,
)

AUTO_PREFETCH = MOST_AHEAD + 1


def test_a_fast_command_is_sent_ahead_up_to_a_depth() -> None:
    pool = Driver()
    (worker,) = pool.up()
    pool.learn("fast")
    calls = pool.calls(AUTO_PREFETCH + 2, "fast")
    assert at(worker) == ids(calls[:AUTO_PREFETCH])
    pool.answer(worker)
    assert at(worker) == ids(calls[1 : AUTO_PREFETCH + 1])


def test_a_command_that_has_stalled_is_sent_ahead_less_far() -> None:
    pool = Driver(pool_size=2)
    one, two = pool.up()
    pool.learn("moody")
    pool.call("moody")
    pool.now += 2 * STALL_SECONDS
    pool.answer(one if one.calls else two)
    while "moody" not in pool.machine._roster.speeds.fast:
        call = pool.call("moody")
        assert call.worker is not None
        pool.answer(call.worker)
    pool.calls(64, "moody")
    assert [len(at(worker)) for worker in (one, two)] == [1 + FIRST_AHEAD, 1 + FIRST_AHEAD]


def test_each_call_waits_only_where_few_enough_wait_for_its_command() -> None:
    pool = Driver()
    (worker,) = pool.up()
    pool.learn("trusted")
    for _ in range(3):
        pool.machine._roster.speeds.record("new", 20e-6)
    pool.calls(10, "trusted")
    new, last = pool.call("new"), pool.call("trusted")
    assert len(at(worker)) == 10
    while new.id in pool.queued:
        # First come, first served.
        assert last.id in pool.queued
        pool.answer(worker)
    assert len(at(worker)) == 1 + FIRST_AHEAD
    pool.answer(worker)
    assert pool.queued == []


def test_calls_of_a_session_do_not_overtake_what_any_worker_may_have() -> None:
    pool = Driver(affinity="strict_queue")
    (worker,) = pool.up()
    pool.learn("fast")
    pool.call("fast", session="s")
    first = pool.call("new")
    later = [pool.call("fast", session="s") for _ in range(3)]
    assert len(at(worker)) == 1
    pool.answer(worker)
    assert at(worker) == [first.id]
    pool.answer(worker)
    assert at(worker) == ids(later)


def test_an_unknown_command_is_not_sent_ahead() -> None:
    pool = Driver()
    (worker,) = pool.up()
    first, *_ = pool.calls(2, "new")
    assert at(worker) == [first.id]


def test_a_slow_command_is_not_sent_ahead() -> None:
    pool = Driver()
    (worker,) = pool.up()
    pool.learn("slow", 0.5)
    first, *_ = pool.calls(2, "slow")
    assert at(worker) == [first.id]


@pytest.mark.parametrize("other", ["slow", "new"])
def test_nothing_waits_behind_a_slow_or_unknown_command(other: str) -> None:
    pool = Driver()
    (worker,) = pool.up()
    pool.learn("fast")
    pool.learn("slow", 0.5)
    first = pool.call(other)
    pool.call("fast")
    assert at(worker) == [first.id]


@pytest.mark.parametrize("other", ["slow", "new"])
def test_a_slow_or_unknown_command_waits_for_an_idle_worker(other: str) -> None:
    pool = Driver()
    (worker,) = pool.up()
    pool.learn("fast")
    pool.learn("slow", 0.5)
    calls = pool.calls(3, "fast")
    last = pool.call(other)
    assert at(worker) == ids(calls)
    for _ in calls:
        assert pool.queued == [last.id]
        pool.answer(worker)
    assert at(worker) == [last.id]


def test_an_idle_worker_comes_before_sending_ahead() -> None:
    pool = Driver(pool_size=3)
    workers = pool.up()
    pool.learn("fast")
    pool.calls(3, "fast")
    assert sorted(len(at(worker)) for worker in workers) == [1, 1, 1]


def test_busy_workers_are_filled_in_turns() -> None:
    pool = Driver(pool_size=3)
    workers = pool.up()
    pool.learn("fast")
    pool.calls(12, "fast")
    assert [len(at(worker)) for worker in workers] == [4, 4, 4]


@pytest.mark.parametrize(("prefetch", "with_worker"), [(1, 1), (3, 3), (100, 10)])
@pytest.mark.parametrize("session", [None, "s"])
def test_a_number_is_obeyed_whatever_the_commands_take(
    prefetch: int, with_worker: int, session: str | None
) -> None:
    pool = Driver(prefetch=prefetch, affinity="strict_queue")
    (worker,) = pool.up()
    pool.learn("slow", 2.0)
    for command in ("slow", "new"):
        for _ in range(5):
            pool.call(command, session=session)
        pool.wait(2.0)
    assert len(at(worker)) == with_worker


def test_a_command_that_turns_slow_has_nothing_more_sent_behind_it() -> None:
    pool = Driver(pool_size=2)
    one, two = pool.up()
    pool.learn("fast")
    pool.learn("moody")
    # Each has a call of `moody` behind one of `fast`.
    pool.calls(2, "fast")
    pool.calls(2, "moody")
    pool.calls(2, "fast")
    assert [len(at(worker)) for worker in (one, two)] == [3, 3]
    pool.answer(one)
    pool.now += 0.002
    pool.answer(one)
    # That was `moody`, and slow: at the other worker it still waits, behind one that is fast.
    pool.calls(AUTO_PREFETCH + 4, "fast")
    assert len(at(two)) == 3
    pool.answer(two, together=100)
    assert len(at(two)) == 2
    pool.answer(two, together=100)
    assert len(at(two)) == 1
    pool.answer(two, together=100)
    assert len(at(two)) > 1


def test_a_worker_that_is_overdue_gets_nothing_more() -> None:
    pool = Driver(pool_size=2)
    stuck, other = pool.up()
    pool.learn("fast")
    pool.calls(2, "fast")
    pool.now += OVERDUE_SECONDS / 2
    pool.answer(other, together=100)
    pool.call("fast")
    pool.now += OVERDUE_SECONDS * 0.6
    pool.calls(6, "fast")
    assert len(at(stuck)) == 1
    assert len(at(other)) == 7


def test_a_worker_that_was_overdue_is_sent_to_again_once_it_answers() -> None:
    pool = Driver(prefetch="auto")
    (worker,) = pool.up()
    pool.learn("fast")
    pool.learn("other")
    pool.call("fast")
    pool.call("other")
    pool.now += 2 * OVERDUE_SECONDS
    call = pool.call("other")
    assert pool.queued == [call.id]
    pool.answer(worker, together=100)
    assert pool.queued == []
    assert len(at(worker)) == 2


@pytest.mark.parametrize(("capacity", "working"), [(1, 1), (3, 3)])
def test_what_a_worker_is_at(capacity: int, working: int) -> None:
    pool = Driver(capacity=capacity)
    (worker,) = pool.up()
    nothing = {"commands": [], "busy_ms": None, "waiting": 0, "sessions": 0}
    assert pool.machine.work_of(worker, pool.now) == nothing
    pool.learn("fast")
    pool.calls(5, "fast")
    assert pool.machine.work_of(worker, pool.now + 1.5) == {
        "commands": ["fast"] * working,
        "busy_ms": 1500,
        "waiting": 5 - working,
        "sessions": 0,
    }


class TestWhatIsTakenBack:
    """Two workers, of which one takes long with a command that was always fast."""

    @pytest.fixture
    def pool(self) -> Driver:
        pool = Driver(pool_size=2)
        pool.up()
        pool.learn("moody")
        return pool

    @staticmethod
    def stall(pool: Driver, calls: int = 8, **options: Any) -> tuple[Worker, Worker, list[Call]]:
        """Which worker stalls, which goes on and has answered all it had, and the calls."""
        made = [pool.call("moody", **options) for _ in range(calls)]
        stuck, other = pool.workers
        assert len(at(stuck)) == len(at(other)) == calls // 2
        pool.wait(STALL_SECONDS / 2)
        while other.calls:
            pool.answer(other, together=100)
        return stuck, other, made

    @staticmethod
    def set_prefetch(pool: Driver, prefetch: str | int) -> None:
        settings = replace(pool.settings, prefetch=prefetch)
        todo = pool.machine.reconfigure(settings, pool.now, capacity=1, replaces=False)
        pool.perform(todo)

    def test_what_waits_behind_a_stall_goes_to_whoever_is_free(self, pool: Driver) -> None:
        stuck, other, calls = self.stall(pool)
        waiting = [call for call in calls if call.id in at(stuck)[1:]]
        assert pool.recalled == []
        pool.wait(STALL_SECONDS)
        assert pool.recalled == [(stuck.id, ids(waiting))]
        pool.give_back(stuck, waiting)
        assert at(other) == ids(waiting)
        # For nothing that has begun; and where both stall, there is nowhere to go.
        pool.wait(10.0)
        assert len(pool.recalled) == 1
        pool.answer(stuck, together=1)
        pool.wait(STALL_SECONDS)
        assert pool.recalled[1:] == [(other.id, ids(waiting[1:]))]
        pool.give_back(other, waiting[1:])
        assert at(stuck) == [waiting[1].id]
        pool.wait(STALL_SECONDS)
        assert pool.machine.next_due is None

    def test_what_does_not_come_back_is_asked_for_once_more(self, pool: Driver) -> None:
        stuck, _, calls = self.stall(pool)
        waiting = [call.id for call in calls if call.id in at(stuck)[1:]]
        pool.wait(STALL_SECONDS)
        assert pool.machine.next_due == pool.now + STALL_SECONDS / 2
        pool.wait(STALL_SECONDS)
        assert pool.recalled == 2 * [(stuck.id, waiting)]
        assert pool.machine.next_due is None
        # They come in time, late or not at all: nobody asks a third time.
        pool.answer(stuck, together=2)
        pool.wait(10.0)
        assert pool.recalled == 2 * [(stuck.id, waiting)]

    def test_what_came_back_and_waits_again_is_asked_for_anew(self, pool: Driver) -> None:
        stuck, other, calls = self.stall(pool)
        waiting = [call for call in calls if call.id in at(stuck)[1:]]
        pool.wait(2 * STALL_SECONDS)
        pool.give_back(stuck, waiting)
        pool.answer(stuck, together=1)
        pool.wait(2 * STALL_SECONDS)
        assert pool.recalled == 2 * [(stuck.id, ids(waiting))] + 2 * [(other.id, ids(waiting[1:]))]

    def test_a_worker_gives_back_only_what_it_has_not_begun(self, pool: Driver) -> None:
        stuck, other, _ = self.stall(pool)
        pool.wait(STALL_SECONDS)
        first, second, *others = stuck.calls.values()
        pool.answer(stuck, first)
        pool.give_back(stuck, others)
        assert at(stuck) == [second.id]
        # It is known to be slow now.
        assert at(other) == ids(others[:1])
        pool.answer(stuck, second)
        assert at(stuck) == ids(others[1:])

    def test_calls_that_are_answered_meanwhile_are_let_go_of(self, pool: Driver) -> None:
        stuck, other, _ = self.stall(pool, timeout=STALL_SECONDS * 2)
        pool.wait(STALL_SECONDS)
        waiting = list(stuck.calls.values())[1:]
        pool.cancel(waiting[0])
        pool.give_back(stuck, waiting)
        assert at(other) == ids(waiting[1:])
        pool.wait(1.0)
        assert pool.outcomes(waiting) == ["cancelled", "timeout", "timeout"]

    def test_what_comes_back_waits_no_longer_than_the_queue_allows(self) -> None:
        pool = Driver(pool_size=2)
        pool.up()
        pool.learn("moody")
        calls = [pool.call("moody", queue_timeout=1.0) for _ in range(4)]
        stuck, other = pool.workers
        pool.wait(STALL_SECONDS / 2)
        while other.calls:
            pool.answer(other, together=100)
        # It goes on, and has no room for what is fast.
        slow = pool.call("slow")
        assert at(other) == [slow.id]
        pool.wait(STALL_SECONDS / 2)
        (waiting,) = [call for call in calls if call.id in at(stuck)[1:]]
        pool.give_back(stuck, [waiting])
        assert pool.queued == [waiting.id]
        pool.wait(1.0)
        assert pool.outcome(waiting) == "queue_timeout"
        assert pool.outcomes(calls).count(None) == 1

    def test_what_waits_at_a_worker_waits_no_longer_than_in_the_queue(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        pool.learn("moody")
        pool.wait(7.0)
        limits = [0.5, 2.0, 0.5, math.inf, 0.001]
        first, *waiting = [pool.call("moody", queue_timeout=limit) for limit in [0.001, *limits]]
        short, long, other, endless, shortest = waiting
        pool.wait(STALL_SECONDS)
        assert pool.recalled == [(worker.id, [shortest.id])]
        pool.give_back(worker, [shortest])
        pool.wait(0.4)
        # One that comes later may have less time.
        assert pool.outcomes([first, *waiting]) == [None] * 5 + ["queue_timeout"]
        pool.wait(0.09)
        assert pool.recalled[1:] == [(worker.id, [short.id, other.id])]
        # It has begun one of them meanwhile.
        pool.answer(worker, first)
        pool.give_back(worker, [other])
        pool.wait(1.5)
        assert pool.recalled[2:] == [(worker.id, [long.id])]
        pool.give_back(worker, [long])
        pool.wait(60.0)
        assert pool.outcome(other) == pool.outcome(long) == "queue_timeout"
        assert at(worker) == [short.id, endless.id]
        assert pool.machine.next_due is None

    def test_and_is_told_so_where_it_is_if_it_does_not_come_back(self) -> None:
        pool = Driver(cancel_grace_period=1.0)
        (worker,) = pool.up()
        pool.learn("moody")
        first, *waiting = [pool.call("moody", queue_timeout=limit) for limit in (1.0, 1.0, 0.01)]
        pool.begun[worker] = first.sequence + 1
        later, sooner = waiting
        pool.wait(1.0)
        assert pool.outcomes([first, later, sooner]) == [None, None, "queue_timeout"]
        assert pool.interrupted == [(worker.id, sooner.id)]
        pool.wait(2 * STALL_SECONDS)
        assert pool.outcome(later) == "queue_timeout"
        error = pool.error(later)
        assert error["worker"] == worker.id
        assert error["message"] == (
            f"no worker of pool 'p' was free within 1 s: the call waits at worker {worker.id},"
            " which cannot give it back before its command returns from C; prefetch = 1 has none"
            " wait there"
        )
        assert pool.machine.stats()["queue_timeouts"] == 2
        # What it runs is not touched, and what it gives back is answered already.
        pool.give_back(worker, waiting)
        pool.answer(worker, first)
        pool.wait(60.0)
        assert (pool.outcome(first), at(worker), pool.killed) == ("forwarded", [], [])

    def test_but_not_one_that_it_has_begun(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        pool.learn("moody")
        first, second = (pool.call("moody", queue_timeout=0.1) for _ in range(2))
        pool.wait(60.0)
        assert pool.recalled == 2 * [(worker.id, [second.id])]
        pool.answer(worker, first)
        pool.answer(worker, second)
        assert pool.outcomes([first, second]) == ["forwarded", "forwarded"]

    def test_a_call_with_less_time_than_those_that_wait_is_seen_to_in_time(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        pool.learn("moody")
        pool.learn("fast")
        for command in ("moody", "fast"):
            pool.call(command, queue_timeout=60.0)
        pool.wait(2 * STALL_SECONDS)
        pool.answer(worker)
        late = pool.call("fast", queue_timeout=0.1)
        assert at(worker)[-1] == late.id
        pool.wait(0.1)
        assert pool.recalled == [(worker.id, [late.id])]

    def test_so_does_a_call_of_a_strict_session(self) -> None:
        pool = Driver(affinity="strict_queue")
        (worker,) = pool.up()
        pool.learn("moody")
        first = pool.call("moody", session="s")
        own, other = (pool.call("moody", session="s", queue_timeout=t) for t in (0.5, 60.0))
        assert at(worker) == ids([first, own, other])
        pool.wait(0.5)
        assert pool.recalled == [(worker.id, [own.id])]
        pool.give_back(worker, [own])
        pool.wait(0.0)
        assert pool.outcome(own) == "queue_timeout"
        assert at(worker) == ids([first, other])

    def test_where_all_workers_stall_it_is_told_too(self, pool: Driver) -> None:
        calls = [pool.call("moody", queue_timeout=1.0) for _ in range(4)]
        pool.wait(0.9)
        assert pool.recalled == []
        pool.wait(0.2)
        waiting = [(worker, list(worker.calls.values())[1:]) for worker in pool.workers]
        assert pool.recalled == 2 * [(worker.id, ids(calls)) for worker, calls in waiting]
        for worker, behind in waiting:
            pool.give_back(worker, behind)
        pool.wait(0.0)
        assert pool.outcomes(calls) == [None, None, "queue_timeout", "queue_timeout"]

    def test_calls_of_strict_sessions_stay(self) -> None:
        pool = Driver(pool_size=2, affinity="strict_queue")
        pool.up()
        pool.learn("moody")
        own = pool.call("moody", session="s").worker
        assert own is not None
        (other,) = {*pool.workers} - {own}
        names = (None, "s", None, "s", None, None, None)
        calls = [pool.call("moody", session=name) for name in names]
        while other.calls:
            pool.answer(other, together=100)
        plain = [call.id for call in calls if call.id in at(own) and call.session is None]
        assert plain
        pool.wait(STALL_SECONDS)
        assert pool.recalled == [(own.id, plain)]

    def test_a_number_says_how_many_wait_whatever_it_takes(self) -> None:
        pool = Driver(pool_size=2, prefetch=4)
        pool.up()
        self.stall(pool)
        pool.wait(10.0)
        assert pool.recalled == []
        # Until it is "auto".
        self.set_prefetch(pool, "auto")
        pool.wait(STALL_SECONDS)
        assert len(pool.recalled) == 1

    def test_nothing_is_taken_back_once_there_is_a_number(self, pool: Driver) -> None:
        self.stall(pool)
        self.set_prefetch(pool, 4)
        pool.wait(10.0)
        assert pool.recalled == []

    def test_nothing_is_asked_for_where_there_is_nobody_else(self) -> None:
        pool = Driver()
        pool.up()
        pool.learn("moody")
        pool.calls(3, "moody")
        pool.wait(1.0)
        assert pool.recalled == []

    def test_a_pool_that_has_let_workers_go_starts_one_for_what_waits(self) -> None:
        pool = Driver(pool_size=2, min_workers=1, idle_timeout=1.0)
        pool.up()
        pool.learn("moody")
        pool.wait(1.0)
        (gone,) = [w for w in pool.workers if w.state is WorkerState.STOPPING]
        pool.gone(gone)
        (worker,) = pool.workers
        first, *waiting = pool.calls(3, "moody")
        pool.wait(STALL_SECONDS)
        assert pool.recalled == [(worker.id, ids(waiting))]
        pool.give_back(worker, waiting)
        pool.ready(pool.workers[-1])
        assert waiting[0].worker is pool.workers[-1]
        assert first.worker is worker

    def test_a_pool_that_still_starts_takes_back_what_waits(self) -> None:
        pool = Driver(pool_size=3)
        pool.start()
        for worker in pool.workers[:2]:
            pool.ready(worker)
        pool.learn("moody")
        calls = pool.calls(4, "moody")
        stuck, other, _ = pool.workers
        while other.calls:
            pool.answer(other, together=100)
        pool.wait(STALL_SECONDS)
        assert pool.state == "starting"
        assert pool.recalled == [(stuck.id, at(stuck)[1:])]
        assert len(calls) == 4

    def test_what_waits_is_taken_back_as_soon_as_the_other_goes_on(self, pool: Driver) -> None:
        pool.calls(4, "moody")
        stuck, other = pool.workers
        while other.calls:
            pool.answer(other, together=100)
        slow = pool.call("slow")
        assert at(other) == [slow.id]
        pool.wait(2 * STALL_SECONDS)
        assert pool.recalled == []
        pool.answer(other, slow)
        assert pool.queued == []
        pool.wait(OVERDUE_SECONDS)
        assert pool.recalled == [(stuck.id, at(stuck)[1:])]

    def test_nobody_looks_where_there_is_nobody_else(self) -> None:
        pool = Driver()
        pool.up()
        pool.learn("moody")
        pool.calls(3, "moody")
        pool.wait(1.0)
        assert pool.machine.next_due is None

    def test_nothing_is_asked_for_by_a_pool_that_would_refuse_it(self) -> None:
        pool = Driver(pool_size=3, max_restarts=0, max_seconds=60.0)
        pool.up()
        pool.learn("moody")
        pool.calls(9, "moody")
        stuck, other, dead = pool.workers
        while other.calls:
            pool.answer(other, together=100)
        pool.gone(dead, started=dead.sent)
        assert pool.state == "unavailable"
        pool.wait(1.0)
        assert pool.recalled == []
        assert stuck.calls

    def test_what_waits_is_seen_to_again_when_the_pool_takes_calls_again(self) -> None:
        pool = Driver(pool_size=2, max_restarts=0, max_seconds=5.0)
        pool.up()
        pool.learn("moody")
        calls = [pool.call("moody", queue_timeout=7.0) for _ in range(4)]
        stuck, dead = pool.workers
        waiting = list(stuck.calls.values())[1:]
        pool.gone(dead, started=dead.sent)
        pool.wait(5.0)
        # The pause is over, and the successor of the one that died is not ready yet.
        assert (pool.state, pool.recalled) == ("ready", [])
        pool.wait(2.0)
        assert pool.recalled == [(stuck.id, ids(waiting))]
        pool.give_back(stuck, waiting)
        pool.wait(0.0)
        assert pool.outcomes(waiting) == ["queue_timeout"]
        assert pool.outcomes(calls).count(None) == 1

    def test_calls_that_move_up_are_taken_up(self) -> None:
        pool = Driver(pool_size=2, capacity=2)
        stuck, other = pool.up()
        pool.learn("moody")
        pool.calls(10, "moody")
        first, second, *waiting = stuck.calls.values()
        while other.calls:
            pool.answer(other, together=100)
        pool.wait(STALL_SECONDS)
        assert pool.recalled == [(stuck.id, ids(waiting))]
        # A thread was quicker than the worker's answer to that.
        pool.answer(stuck, first)
        abandoned = waiting[-1]
        pool.cancel(abandoned)
        pool.give_back(stuck, waiting[:-1])
        assert at(stuck) == [second.id, abandoned.id]
        assert abandoned.running_since == pool.now
        pool.wait(pool.settings.cancel_grace_period)
        assert stuck.state is WorkerState.DRAINING

    def test_nothing_is_asked_of_workers_that_are_not_read_from(self, pool: Driver) -> None:
        self.stall(pool)
        pool.machine.hear(False, pool.now)
        pool.wait(1.0)
        assert pool.recalled == []
        pool.machine.hear(True, pool.now)
        pool.wait(STALL_SECONDS)
        assert len(pool.recalled) == 1

    def test_what_a_worker_that_dies_was_asked_for_can_be_asked_for_again(
        self, pool: Driver
    ) -> None:
        stuck, other, _ = self.stall(pool)
        pool.wait(STALL_SECONDS)
        waiting = at(stuck)
        pool.gone(stuck, started=stuck.sent - len(waiting))
        assert at(other) == waiting
        # It may have died young, and its successor come later.
        pool.wait(20.0)
        pool.ready(pool.workers[-1])
        pool.wait(STALL_SECONDS)
        assert pool.recalled[1:] == [(other.id, waiting[1:])]


class TestWhatIsLearned:
    def is_fast(self, pool: Driver, command: str) -> bool:
        """Whether a second call of the command is sent ahead to the only worker."""
        (worker,) = pool.workers
        assert at(worker) == []
        calls = pool.calls(2, command)
        fast = len(at(worker)) == 2
        for call in calls:
            pool.cancel(call)
        while worker.calls:
            pool.answer(worker)
        return fast

    def test_calls_answered_in_one_go_share_the_time_evenly(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        pool.learn("a")
        pool.learn("b")
        for command in "aaab":
            pool.call(command)
        pool.now += 1.0
        for _ in range(4):
            pool.answer(worker, together=4)
        # Nobody can tell which of them was slow.
        assert not self.is_fast(pool, "a")
        assert not self.is_fast(pool, "b")

    def test_many_fast_answers_in_one_go_stay_fast(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        pool.learn("a")
        for _ in range(10):
            pool.calls(10, "a")
            pool.now += 0.005
            for _ in range(10):
                pool.answer(worker, together=10)
        assert self.is_fast(pool, "a")

    def test_the_wait_behind_others_does_not_count(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        pool.learn("a")
        pool.calls(16, "a")
        for _ in range(16):
            pool.now += 0.0009
            pool.answer(worker)
        assert self.is_fast(pool, "a")

    def test_the_time_that_a_worker_was_idle_does_not_count(self) -> None:
        pool = Driver()
        pool.up()
        pool.learn("a")
        pool.now += 60.0
        pool.learn("a")
        assert self.is_fast(pool, "a")

    def test_errors_do_not_show_that_a_command_is_fast(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        for _ in range(10):
            pool.call("a")
            pool.answer(worker, ok=False)
        assert not self.is_fast(pool, "a")

    def test_calls_that_were_cancelled_do_not_show_that_a_command_is_fast(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        for _ in range(10):
            pool.cancel(pool.call("a"))
            pool.answer(worker, ok=False)
        assert not self.is_fast(pool, "a")

    def test_a_call_that_had_to_be_killed_shows_that_its_command_is_slow(self) -> None:
        pool = Driver(cancel_grace_period=1.0)
        (worker,) = pool.up()
        pool.learn("a")
        pool.call("a", timeout=5.0)
        pool.wait(6.0)
        assert pool.killed == [worker.id]
        pool.gone(worker, started=4)
        pool.ready(pool.workers[0])
        assert not self.is_fast(pool, "a")

    def test_a_crash_shows_how_long_its_command_took_so_far(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        pool.learn("a")
        pool.call("a")
        pool.now += 3.0
        pool.gone(worker, started=4)
        pool.ready(pool.workers[0])
        assert not self.is_fast(pool, "a")


def test_what_waits_at_a_worker_that_leaves_goes_to_its_successor() -> None:
    pool = Driver()
    (old,) = pool.up()
    pool.learn("c")
    first, *others = pool.calls(4)
    pool.perform(pool.machine.recycle([old], "manual", pool.now))
    pool.wait(2 * STALL_SECONDS)
    assert pool.recalled == []
    new = pool.workers[-1]
    pool.ready(new)
    pool.wait(STALL_SECONDS)
    assert pool.recalled == [(old.id, ids(others))]
    pool.perform(pool.machine.gave_back(old, ids(others), pool.now))
    assert (at(old), at(new)) == ([first.id], ids(others))


def test_what_waits_behind_a_call_that_does_not_stop_goes_to_a_successor() -> None:
    pool = Driver(capacity=2, cancel_grace_period=1.0)
    (old,) = pool.up()
    pool.learn("c")
    stuck, _other, *behind = pool.calls(6)
    pool.cancel(stuck)
    pool.wait(1.0)
    assert old.state is WorkerState.DRAINING
    pool.ready(pool.workers[-1])
    pool.wait(STALL_SECONDS)
    assert pool.recalled == [(old.id, ids(behind))]


@given(
    st.lists(st.sampled_from(["fast", "fast", "fast", "slow"]), min_size=1, max_size=200),
    st.randoms(use_true_random=False),
)
def test_no_fast_call_waits_behind_a_slow_one(commands: list[str], random: Random) -> None:
    """64 callers on four workers mix commands of 20 µs and of 2 s. Whatever the order in which
    workers get on with it, nothing is with a worker behind or ahead of a slow call; so a fast one
    waits only for fast ones, or because no worker is free."""
    pool = Driver(pool_size=4)
    workers = pool.up()
    pool.learn("fast")
    pool.learn("slow", 2.0)
    waiting = list(commands)
    calls = [pool.call(waiting.pop()) for _ in range(min(64, len(waiting)))]
    since: dict[int, float] = {}
    while busy := [worker for worker in workers if worker.calls]:
        for worker in workers:
            held = [call.command for call in worker.calls.values()]
            assert len(held) <= 1 or "slow" not in held
            assert held or not pool.queued
        for worker in busy:
            since.setdefault(worker.calls[at(worker)[0]].id, pool.now)
        worker = random.choice(busy)
        running = worker.running
        assert running is not None
        takes = 2.0 if running.command == "slow" else 20e-6
        pool.now = max(pool.now, since[running.id] + takes)
        pool.answer(worker)
        if waiting:
            calls.append(pool.call(waiting.pop()))
    assert pool.outcomes(calls) == ["forwarded"] * len(commands)
