"""Deadlines and cancels: answered at once wherever the call is, and the worker made to stop."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pool_driver import Driver, at

from snakepit_port.pool import Call
from snakepit_port.pool.record import CATCHING_UP

#: How a call is ended early, and what it is answered with.
Ending = tuple[Callable[[Driver, Call], None], str, str]


def by_deadline(pool: Driver, call: Call) -> None:
    pool.wait(call.arrived_at + call.timeout - pool.now)


def by_cancel(pool: Driver, call: Call) -> None:
    pool.cancel(call)


@pytest.fixture(params=["deadline", "cancel"])
def ending(request: pytest.FixtureRequest) -> Ending:
    if request.param == "deadline":
        return by_deadline, "timeout", "timeouts"
    return by_cancel, "cancelled", "cancelled"


def test_a_queued_call_leaves_the_queue_and_never_reaches_a_worker(ending: Ending) -> None:
    end, type, counter = ending
    pool = Driver()
    (worker,) = pool.up()
    pool.call()
    call = pool.call(timeout=3.0)
    end(pool, call)
    assert pool.outcome(call) == type
    assert pool.queued == []
    assert pool.interrupted == []
    pool.answer(worker)
    assert at(worker) == []
    assert pool.machine.stats()[counter] == 1


def test_a_running_call_is_answered_at_once_and_interrupted(ending: Ending) -> None:
    end, type, counter = ending
    pool = Driver()
    (worker,) = pool.up()
    call = pool.call(timeout=3.0)
    end(pool, call)
    assert pool.outcome(call) == type
    assert pool.error(call)["worker"] == worker.id
    assert pool.interrupted == [(worker.id, call.id)]
    assert pool.machine.stats()[counter] == 1
    assert pool.machine.stats()["busy"] == 1


def test_the_answer_of_an_abandoned_call_is_dropped_and_its_worker_free_again(
    ending: Ending,
) -> None:
    end, type, _ = ending
    pool = Driver()
    (worker,) = pool.up()
    call, waiting = pool.call(timeout=3.0), pool.call()
    end(pool, call)
    assert pool.queued == [waiting.id]
    pool.answer(worker, ok=False)
    assert pool.outcome(call) == type
    assert at(worker) == [waiting.id]
    pool.answer(worker)
    assert pool.outcome(waiting) == "forwarded"
    pool.wait(100.0)
    assert pool.killed == []
    assert pool.machine.stats()["errors"] == 1


def test_a_worker_that_goes_on_is_killed_after_the_grace_and_replaced_at_once(
    ending: Ending,
) -> None:
    end, type, _ = ending
    pool = Driver(cancel_grace_period=1.0)
    (worker,) = pool.up()
    call, waiting = pool.call(timeout=3.0), pool.call()
    end(pool, call)
    pool.wait(0.9)
    assert pool.killed == []
    pool.wait(0.2)
    assert pool.killed == [worker.id]
    assert pool.started == ["p-1", "p-2"]
    assert pool.machine.stats()["workers"] == 0
    pool.ready(pool.workers[-1])
    pool.gone(worker, started=1)
    assert pool.outcome(call) == type
    assert waiting.worker is pool.workers[0]
    (stopped,) = pool.heard("worker.stopped")
    assert stopped.metadata["reason"] == "cancelled"
    assert pool.machine.stats()["worker_crashes"] == 0


def test_a_call_that_began_just_before_its_worker_was_killed_for_another_is_told_so() -> None:
    pool = Driver(cancel_grace_period=1.0, prefetch=2)
    (worker,) = pool.up()
    call, waiting = pool.call("stubborn"), pool.call("innocent")
    assert at(worker) == [call.id, waiting.id]
    pool.cancel(call)
    pool.wait(1.1)
    assert pool.killed == [worker.id]
    pool.gone(worker, started=2)
    error = pool.error(waiting)
    assert (error["type"], error["worker"], error["signal"]) == (
        "worker_crashed",
        worker.id,
        "SIGKILL",
    )
    assert error["command"] == "innocent"
    assert error["message"] == (
        f"worker {worker.id} was killed because a call of stubborn did not stop within"
        " cancel_grace_period; this call had just begun"
    )
    assert pool.machine.stats()["worker_crashes"] == 0


@pytest.mark.parametrize("grace", [0.0, 1.0])
def test_the_grace_does_not_end_while_a_worker_is_not_read_from(grace: float) -> None:
    pool = Driver(cancel_grace_period=grace, pool_size=2)
    yields, goes_on = pool.up()
    calls = pool.calls(2)
    pool.machine.hear(False, pool.now)
    for call in calls:
        pool.cancel(call)
    pool.wait(60.0)
    assert pool.killed == []
    pool.machine.hear(True, pool.now)
    pool.answer(yields)
    pool.wait(2 * CATCHING_UP)
    assert pool.killed == [goes_on.id]


def test_a_host_that_always_reads_slowly_excuses_nobody_for_ever() -> None:
    pool = Driver(cancel_grace_period=1.0)
    (worker,) = pool.up()
    pool.cancel(pool.call())
    for _ in range(20):
        pool.machine.hear(False, pool.now)
        pool.wait(0.4)
        pool.machine.hear(True, pool.now)
        pool.wait(0.4)
    assert pool.killed == [worker.id]


def test_what_a_worker_has_said_is_read_when_it_was_read_from_twice_since() -> None:
    pool = Driver(cancel_grace_period=1.0)
    (worker,) = pool.up()
    pool.machine.hear(False, pool.now)
    pool.cancel(pool.call())
    pool.wait(1.0)
    for _ in range(2):
        assert pool.killed == []
        pool.machine.hear(True, pool.now)
        pool.machine.hear(False, pool.now)
        pool.wait(CATCHING_UP)
    assert pool.killed == [worker.id]


def test_a_worker_is_excused_as_often_as_it_is_late_for_something_else() -> None:
    pool = Driver(cancel_grace_period=1.0)
    (worker,) = pool.up()
    for _ in range(4):
        pool.machine.hear(False, pool.now)
        pool.cancel(pool.call())
        pool.wait(10.0)
        pool.machine.hear(True, pool.now)
        pool.answer(worker)
        pool.wait(10.0)
    assert pool.killed == []


def test_a_call_that_waits_at_a_worker_has_its_grace_when_its_turn_comes(ending: Ending) -> None:
    end, type, _ = ending
    pool = Driver(prefetch=2, cancel_grace_period=1.0)
    (worker,) = pool.up()
    first, second = pool.call(), pool.call(timeout=3.0)
    end(pool, second)
    assert pool.interrupted == [(worker.id, second.id)]
    pool.wait(50.0)
    assert pool.killed == []
    pool.answer(worker)
    assert pool.outcomes([first, second]) == ["forwarded", type]
    pool.wait(0.9)
    assert pool.killed == []
    pool.wait(0.2)
    assert pool.killed == [worker.id]


def test_the_grace_of_one_call_does_not_run_on_for_the_next() -> None:
    pool = Driver(cancel_grace_period=1.0)
    (worker,) = pool.up()
    pool.cancel(pool.call())
    pool.wait(0.9)
    pool.answer(worker)
    call = pool.call()
    pool.cancel(call)
    pool.wait(0.9)
    assert pool.killed == []
    pool.wait(0.2)
    assert pool.killed == [worker.id]


def test_an_interrupt_is_repeated_within_the_grace() -> None:
    """The first may have come just before the command began to wait in C."""
    pool = Driver(cancel_grace_period=1.0)
    (worker,) = pool.up()
    call = pool.call()
    pool.cancel(call)
    pool.wait(0.4)
    assert pool.interrupted == [(worker.id, call.id)]
    pool.wait(0.2)
    assert pool.interrupted == [(worker.id, call.id)] * 2
    pool.answer(worker, ok=False)
    pool.wait(10.0)
    assert len(pool.interrupted) == 2
    assert pool.killed == []


def test_no_grace_kills_at_once() -> None:
    pool = Driver(cancel_grace_period=0.0)
    (worker,) = pool.up()
    pool.cancel(pool.call())
    pool.wait(0)
    assert pool.killed == [worker.id]


def test_a_worker_with_an_abandoned_call_gets_no_other(ending: Ending) -> None:
    end, _, _ = ending
    pool = Driver(prefetch=4)
    (worker,) = pool.up()
    first, second, third = pool.call(), pool.call(timeout=1.0), pool.call()
    end(pool, second)
    fourth = pool.call()
    pool.answer(worker)
    assert at(worker) == [second.id, third.id]
    pool.answer(worker, ok=False)
    assert at(worker) == [third.id]
    pool.answer(worker)
    assert at(worker) == [fourth.id]
    assert pool.outcome(first) == "forwarded"


def test_an_id_can_be_used_again_while_a_worker_still_has_its_last_call() -> None:
    pool = Driver(prefetch=8)
    (worker,) = pool.up()
    pool.call(id=1)
    pool.call(id=2)
    old = pool.call(id=3)
    pool.cancel(old)
    pool.answer(worker)
    new = pool.call(id=3)
    pool.answer(worker)
    assert pool.outcome(new) is None
    pool.answer(worker, ok=False)  # the old one, "cancelled"
    assert pool.outcome(new) is None
    pool.answer(worker)
    assert pool.outcome(new) == "forwarded"


def test_a_deadline_counts_from_arrival_not_from_being_sent() -> None:
    pool = Driver()
    (worker,) = pool.up()
    pool.call()
    call = pool.call(timeout=3.0)
    pool.wait(2.0)
    pool.answer(worker)
    assert at(worker) == [call.id]
    pool.wait(1.0)
    assert pool.outcome(call) == "timeout"


def test_a_message_tells_whether_the_call_was_waiting() -> None:
    pool = Driver()
    pool.up()
    running, queued = pool.call(timeout=0.5), pool.call(timeout=0.5)
    pool.wait(0.5)
    assert pool.error(running)["message"] == "no answer within 500 ms"
    assert "waiting for a worker of pool 'p'" in pool.error(queued)["message"]


def test_a_call_that_waits_in_vain_is_told_why() -> None:
    pool = Driver()
    pool.start()
    early = pool.call(queue_timeout=1.0)
    pool.wait(1.1)
    assert "still starting" in pool.error(early)["message"]
    (worker,) = pool.workers
    pool.ready(worker)
    pool.call()
    waits = [pool.call(queue_timeout=1.0) for _ in range(3)]
    pool.wait(1.1)
    assert "2 more waited; raise pool_size" in pool.error(waits[0])["message"]
    # Again and again before it has answered anything: the next one is not started at once.
    for _ in range(8):
        pool.gone(pool.workers[0], started=1)
        pool.wait(30.0)
        pool.ready(pool.workers[0])
        pool.call(queue_timeout=5.0)
    pool.gone(pool.workers[0], started=1)
    late = pool.call(queue_timeout=1.0)
    pool.wait(1.1)
    message = pool.error(late)["message"]
    assert "its workers crash; the next is started in" in message
    assert "pool_size" not in message


def test_a_call_that_waits_in_vain_for_a_worker_that_starts_again_is_told_so() -> None:
    pool = Driver(pool_size=2, min_workers=1, idle_timeout=60.0, prefetch=1)
    idle, _ = pool.up()
    pool.wait(60.0)
    pool.gone(idle)
    pool.call()
    call = pool.call(queue_timeout=1.0)
    assert len(pool.started) == 3
    pool.wait(1.0)
    assert pool.error(call)["message"] == (
        "no worker of pool 'p' was free within 1 s: 0 more waited; more of its workers are still"
        " starting; wait longer"
    )
    # A successor makes no more of them.
    pool.ready(pool.workers[-1])
    pool.call()
    pool.perform(pool.machine.recycle(pool.workers[:1], "manual", pool.now))
    call = pool.call(queue_timeout=1.0)
    pool.wait(1.0)
    assert "raise pool_size" in pool.error(call)["message"]


def test_a_call_past_its_deadline_is_never_given_to_a_worker() -> None:
    pool = Driver()
    (worker,) = pool.up()
    pool.call()
    late, next = pool.call(timeout=3.0), pool.call(timeout=4.0)
    # An answer comes in the same instant as the deadline, and is looked at first.
    pool.now += 3.0
    pool.answer(worker)
    assert pool.outcome(late) == "timeout"
    assert at(worker) == [next.id]
    pool.wait(0)
    assert pool.machine.stats()["timeouts"] == 1


def test_a_call_without_time_is_not_given_to_a_worker() -> None:
    pool = Driver()
    pool.up()
    call = pool.call(timeout=0.0)
    assert pool.outcome(call) == "timeout"
    assert pool.sent == []
    assert pool.machine.next_due is None


def test_an_answer_ends_the_deadline() -> None:
    pool = Driver()
    (worker,) = pool.up()
    call = pool.call(timeout=3.0)
    pool.answer(worker)
    pool.wait(10.0)
    assert pool.outcome(call) == "forwarded"
    assert pool.machine.next_due is None


def test_cancelling_what_was_answered_does_nothing() -> None:
    pool = Driver()
    (worker,) = pool.up()
    call = pool.call()
    pool.answer(worker)
    pool.cancel(call)
    other = pool.call()
    pool.cancel(other)
    pool.cancel(other)
    assert pool.outcome(call) == "forwarded"
    assert pool.interrupted == [(worker.id, other.id)]
    assert pool.machine.stats()["cancelled"] == 1


def test_a_worker_that_is_being_killed_is_not_interrupted_or_killed_again() -> None:
    pool = Driver(prefetch=2, cancel_grace_period=1.0)
    (worker,) = pool.up()
    first, second = pool.calls(2)
    pool.cancel(first)
    pool.wait(1.0)
    assert pool.killed == [worker.id]
    interrupted = list(pool.interrupted)
    pool.cancel(second)
    pool.wait(5.0)
    assert pool.interrupted == interrupted
    assert pool.killed == [worker.id]
    assert pool.outcome(second) == "cancelled"
    pool.gone(worker, started=1)
    assert pool.queued == []
