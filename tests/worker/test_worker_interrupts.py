"""Cancelling: calls that run, that wait, that are over; and signals that mean nothing."""

from __future__ import annotations

import itertools
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from kinds import one_at_a_time
from worker_driver import Fifo, Start, Worker

from snakepit_port import wire
from snakepit_port.wire import messages

pytestmark = one_at_a_time


@pytest.mark.parametrize(
    ("command", "left"),
    [
        ("busy", "busy cleaned up"),
        ("wait_for_pipe", "pipe cleaned up"),
        ("wait_for_event", "event cleaned up"),
        ("wait_for_child", "child cleaned up"),
    ],
)
def test_a_running_command_is_interrupted_and_cleans_up(
    worker: Worker, command: str, left: str
) -> None:
    for _ in range(2):
        id = worker.begin(command)
        assert worker.stdout.line() == "in"
        worker.interrupt(id)
        error = worker.failure_of(id)
        assert (error["type"], error["command"]) == ("cancelled", command)
        assert "exception" not in error
    assert worker.call("remembered") == [left, left]
    assert worker.begun == 3


def test_a_cancelled_command_that_goes_on_is_answered_and_the_next_is_not_disturbed(
    worker: Worker, fifo: Fifo
) -> None:
    id, first = worker.frame("swallow", fifo.path)
    following, second = worker.frame("spin", 1000)
    worker.send(first, second)
    assert worker.stdout.line() == "in"
    worker.interrupt(id)
    assert worker.stdout.line() == "cancelled"
    # Once is enough: these raise nothing.
    worker.interrupt(id, times=5)
    fifo.release("went on")
    assert worker.answer(id) == "went on"
    assert worker.answer(following) == 499500


def test_a_call_that_waits_is_cancelled_in_its_place_and_not_run(
    worker: Worker, fifo: Fifo
) -> None:
    first, one = worker.frame("wait_for", fifo.path)
    never, two = worker.frame("remember", "never")
    last, three = worker.frame("remember", "last")
    worker.send(one, two, three)
    assert worker.stdout.line() == "in"
    worker.interrupt(never)
    fifo.release()
    assert worker.answer(first) == "released"
    error = worker.failure_of(never)
    assert (error["type"], error["command"]) == ("cancelled", "remember")
    assert worker.answer(last) is None
    assert worker.begun == 3
    assert worker.call("remembered") == ["last"]


def test_a_call_that_waits_is_cancelled_without_a_signal(worker: Worker, fifo: Fifo) -> None:
    """If the frame arrives while the worker is idle, or with others."""
    id, frame = worker.frame("remember", "never")
    worker.send(frame, messages.cancel(id))
    assert worker.failure_of(id)["type"] == "cancelled"
    assert worker.call("remembered") == []
    assert worker.begun == 2


def test_calls_that_wait_are_given_back_while_a_command_runs(worker: Worker, fifo: Fifo) -> None:
    first, one = worker.frame("wait_for", fifo.path)
    away, two = worker.frame("remember", "away")
    kept, three = worker.frame("remember", "kept")
    too, four = worker.frame("remember", "away, too")
    # A ping has a number of its own, and is no call.
    worker.send(one, two, three, four, messages.ping(away))
    assert worker.stdout.line() == "in"
    # One that runs, and one that it never had, are none of those.
    worker.send(messages.recall([first, too, away, 10**9]))
    worker.signal_urgent()
    assert worker.next() == ("recalled", [away, too])
    assert worker.begun == 1
    # It may have them again, and gives each back once.
    worker.send(two, messages.recall([too, kept]), messages.cancel(away))
    worker.signal_urgent()
    assert worker.next() == ("recalled", [kept])
    fifo.release()
    assert worker.answer(first) == "released"
    assert worker.next() == ("pong", away)
    assert worker.failure_of(away)["type"] == "cancelled"
    assert worker.call("remembered") == []
    # In the order in which they were sent.
    assert worker.begun == 6


@pytest.mark.parametrize(
    ("command", "args"),
    [("wait_deep_down", [5]), ("wait_deep_down", [20]), ("wait_without_limit", [])],
)
def test_calls_are_given_back_whatever_a_command_does_with_the_limit_of_frames(
    worker: Worker, fifo: Fifo, command: str, args: list[int]
) -> None:
    first, one = worker.frame(command, fifo.path, *args)
    away, two = worker.frame("remember", "away")
    worker.send(one, two)
    assert worker.stdout.line() == "in"
    worker.send(messages.recall([away]))
    worker.signal_urgent()
    assert worker.next() == ("recalled", [away])
    fifo.release()
    assert worker.answer(first) == "released"
    assert worker.call("remembered") == []


def test_nothing_is_given_back_by_a_worker_that_has_nothing(worker: Worker) -> None:
    id, frame = worker.frame("remember", "kept")
    worker.send(messages.recall([id]))
    worker.signal_urgent()
    worker.send(frame)
    assert worker.answer(id) is None
    worker.send(messages.recall([id]), messages.ping(1))
    assert worker.next() == ("pong", 1)


def test_a_cancel_between_two_commands_reaches_the_next(worker: Worker, fifo: Fifo) -> None:
    """No command runs while the text of an exception is made, and the signal comes but once."""
    first, one = worker.frame("raise_slow", fifo.path)
    second, two = worker.frame("busy")
    third, three = worker.frame("remember", "never")
    worker.send(one, two, three)
    assert worker.stdout.line() == "in"
    worker.send(messages.cancel(third))
    worker.interrupt(second)
    fifo.release("slow")
    assert worker.failure_of(first)["message"] == "slow"
    assert worker.failure_of(second)["type"] == "cancelled"
    assert worker.failure_of(third)["type"] == "cancelled"
    assert worker.call("remembered") == []
    assert worker.begun == 4


def test_a_cancel_of_what_is_over_or_unknown_does_nothing(worker: Worker) -> None:
    id = worker.begin("spin", 10)
    assert worker.answer(id) == 45
    for late in (id, id, 777):
        worker.interrupt(late, times=3)
        assert worker.call("spin", 20_000) == 199_990_000


def test_a_signal_alone_does_nothing(worker: Worker) -> None:
    for command in ("spin", "spin"):
        worker.signal_urgent()
        id = worker.begin(command, 300_000)
        for _ in range(2000):
            worker.signal_urgent()
        assert worker.answer(id) == 44_999_850_000
    assert worker.begun == 2


def test_a_signal_before_the_adapter_is_loaded_does_nothing(start: Start) -> None:
    worker = start()
    for _ in range(100):
        worker.signal_urgent()
    worker.ready()
    assert worker.call("add", 1, 2) == 3


def test_calls_that_arrive_with_a_cancel_are_not_lost(worker: Worker) -> None:
    id = worker.begin("busy")
    assert worker.stdout.line() == "in"
    behind = [worker.frame("add", n) for n in range(100)]
    worker.send(*(frame for _, frame in behind), messages.cancel(id))
    worker.signal_urgent()
    assert worker.failure_of(id)["type"] == "cancelled"
    assert [worker.answer(id) for id, _ in behind] == list(range(1, 101))


def test_end_of_file_read_by_an_interrupt_lets_the_calls_finish(worker: Worker) -> None:
    id = worker.begin("busy")
    assert worker.stdout.line() == "in"
    behind = worker.begin("add", 1)
    worker.send(messages.cancel(id))
    worker.hang_up()
    worker.signal_urgent()
    assert worker.failure_of(id)["type"] == "cancelled"
    assert worker.answer(behind) == 2
    assert os.waitstatus_to_exitcode(worker.exited()) == 0


def test_an_alarm_of_the_adapters_own_still_works(worker: Worker) -> None:
    error = worker.failure("alarm", 0.001, False)
    assert (error["type"], error["exception"]) == ("exception", "TimeoutError")
    assert worker.call("add", 1, 2) == 3


def test_an_alarm_that_rings_when_its_command_is_over_ends_the_worker_aloud(
    worker: Worker,
) -> None:
    # Rung from here, for a timer could be early, where the worker is slow.
    assert worker.call("alarm", 0, True) is None
    os.kill(worker.process.pid, signal.SIGALRM)
    assert os.waitstatus_to_exitcode(worker.exited()) == 70
    assert worker.stderr.rest().endswith("TimeoutError: too slow\n")


def test_an_alarm_that_rings_late_leaves_a_worker_that_works_or_none(start: Start) -> None:
    worker = start().ready()
    worker.call("alarm", 0, True)
    answers: list[Any] = []
    endings = 0
    for step in itertools.count(1):
        try:
            for command, *args in (("signal_at_step", signal.SIGALRM, step), ("lift",)):
                call = worker.begin(command, *args)
                tag, id, said = worker.next()
                assert id == call
                answers.append(wire.decode(said) if tag == "result" else said["exception"])
                # Nothing to do for it: it must not read what the loop waits for.
                with suppress(ProcessLookupError):
                    worker.signal_urgent()
        except (EOFError, ConnectionError) as exc:
            # It had gone before it was read from, or written to.
            said = str(exc) if type(exc) is EOFError else worker.stderr.rest()
            assert said.endswith("TimeoutError: too slow\n")
            assert os.waitstatus_to_exitcode(worker.exited()) == 70
            endings += 1
            worker = start().ready()
            worker.call("alarm", 0, True)
        if answers[-1] is True:
            break
    assert "TimeoutError" in answers
    assert endings


def test_an_alarm_that_rings_in_the_handler_does_not_pass_for_the_end_of_the_channel(
    worker: Worker, fifo: Fifo
) -> None:
    """The signal handler of the adapter's raises in whatever runs, and that may be ours."""
    worker.call("raise_in_handlers")
    id = worker.begin("wait_for", fifo.path)
    assert worker.stdout.line() == "in"
    worker.interrupt(id)
    assert os.waitstatus_to_exitcode(worker.exited()) == 70
    assert worker.stderr.rest().endswith("TimeoutError: too slow\n")


# -- the race at the end of a command --------------------------------------------------------------


def at_any_step(worker: Worker, fifo: Fifo, frame: Callable[[int], bytes]) -> set[str]:
    """What becomes of a call that waits behind another, as the tag or error type of what is said of
    it, when `frame` of its id is there and the signal comes at each step in turn: from the end of
    the other to the beginning of a third."""
    outcomes = set()
    for step in itertools.count(1):
        one, first = worker.frame("signal_at_step", signal.SIGURG, step, fifo.path)
        two, second = worker.frame("add", 1, 2)
        three, third = worker.frame("lift")
        worker.send(first + second + third)
        assert worker.stdout.line() == "in"
        worker.send(frame(two))
        fifo.release()
        said = {}
        for _ in range(3):
            tag, id, *rest = worker.next()
            said[id[0] if tag == "recalled" else id] = tag, *rest
        assert said[one] == ("result", wire.encode(None))
        tag, *rest = said[two]
        outcomes.add(rest[0]["type"] if tag == "error" else tag)
        if said[three] == ("result", wire.encode(True)):
            break
    return outcomes


def test_a_call_is_cancelled_at_any_step_or_not_at_all(worker: Worker, fifo: Fifo) -> None:
    assert at_any_step(worker, fifo, messages.cancel) == {"cancelled", "result"}


def test_a_call_is_given_back_at_any_step_or_not_at_all(worker: Worker, fifo: Fifo) -> None:
    outcomes = at_any_step(worker, fifo, lambda id: messages.recall([id]))
    assert outcomes == {"recalled", "result"}


@pytest.mark.parametrize("seed", range(4))
def test_every_call_has_one_answer_wherever_a_cancel_hits(worker: Worker, seed: int) -> None:
    """Several calls sent ahead, cancelled while they wait, run, or have just ended."""
    rng = random.Random(seed)
    calls = 0
    cancelled = 0
    for _ in range(120):
        frames = [worker.frame("spin", rng.randrange(400)) for _ in range(rng.randrange(1, 6))]
        calls += len(frames)
        worker.send(*(frame for _, frame in frames))
        for id, _ in frames:
            # Some time, in a measure that needs no clock.
            sum(range(rng.randrange(3000)))
            if rng.random() < 0.7:
                worker.interrupt(id, times=rng.randrange(1, 4))
        for id, _ in frames:
            tag, answered, content = worker.next()
            assert answered == id
            if tag == "error":
                assert content["type"] == "cancelled"
                cancelled += 1
            else:
                assert tag == "result"
                wire.decode(content)
    worker.send(messages.ping(seed))
    assert worker.next() == ("pong", seed)
    assert worker.begun == calls
    assert cancelled < calls


def test_a_storm_of_signals_and_cancels_costs_no_answer(worker: Worker) -> None:
    for round in range(60):
        frames = [worker.frame("spin", 2000) for _ in range(8)]
        worker.send(*(frame for _, frame in frames))
        for id, _ in frames:
            worker.send(messages.cancel(id))
            for _ in range(20):
                worker.signal_urgent()
        answers = [worker.next() for _ in frames]
        assert [answer[1] for answer in answers] == [id for id, _ in frames]
        assert {answer[2]["type"] for answer in answers if answer[0] == "error"} <= {"cancelled"}
        assert worker.begun == 8 * (round + 1)
    worker.send(messages.ping(1))
    assert worker.next() == ("pong", 1)


def test_the_starter_signals_the_worker_it_is_told_to(start: Start) -> None:
    one, other = start().ready(), start().ready()
    id = one.begin("busy")
    assert one.stdout.line() == "in"
    one.send(messages.cancel(id))
    other.signal(signal.SIGURG)
    one.signal(signal.SIGURG)
    assert one.failure_of(id)["type"] == "cancelled"
    assert other.call("add", 1, 2) == 3
