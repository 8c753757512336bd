"""Streams: chunks by credit, errors in their place, and clean-up however they end."""

from __future__ import annotations

import itertools
import os
import random
import signal
from typing import Any

import pytest
from kinds import one_at_a_time
from worker_driver import MAX_FRAME_BYTES, Fifo, Start, Worker

from snakepit_port import wire
from snakepit_port.wire import messages

PLENTY = 10**9


@pytest.fixture
def worker(start: Start) -> Worker:
    return start(adapter="stream_adapter").ready()


# -- chunks and answers ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 5000])
def test_chunks_come_in_order_and_the_return_value_last(worker: Worker, n: int) -> None:
    id = worker.begin_stream(PLENTY, "count", n)
    assert worker.chunks(id) == (list(range(n)), "result", f"counted to {n}")
    assert worker.begun == 1


def test_an_iterator_is_a_stream_too(worker: Worker) -> None:
    id = worker.begin_stream(PLENTY, "iterator", 3)
    assert worker.chunks(id) == ([0, 1, 2], "result", None)


def test_a_command_that_is_none_is_told_so(worker: Worker) -> None:
    id = worker.begin_stream(0, "listed", 3)
    error = worker.failure_of(id)
    assert error["type"] == "not_a_stream"
    assert error["message"] == (
        "command 'listed' was called as a stream, and its result, of type list, is none: have it"
        " yield values, or call it for its result"
    )
    error = worker.failure_of(worker.begin_stream(0, "asynchronous", 3))
    assert error["message"].endswith(
        " is none: write a plain generator, which may use asyncio.run(...)"
    )


def test_a_command_that_returns_nothing_is_a_stream_of_no_values(worker: Worker) -> None:
    id = worker.begin_stream(0, "nothing")
    assert worker.chunks(id) == ([], "result", None)


@pytest.mark.parametrize("command", ["count", "iterator"])
def test_a_stream_has_to_be_called_as_one(worker: Worker, command: str) -> None:
    for _ in range(2):
        error = worker.failure(command, 3)
        assert error["type"] == "not_a_stream_call"
        assert "stream/3" in error["message"]
        # What the command is was looked up: that must not settle how it may be called.
        assert worker.chunks(worker.begin_stream(9, command, 1))[0] == [0]


def test_a_stream_call_in_an_unusual_encoding(worker: Worker) -> None:
    args = wire.encode([2])
    payload = b"\x83i\0\0\0\6d\0\4callb\0\0\0\7s\3nild\0\5count"
    payload += b"m" + len(args).to_bytes(4, "big") + args
    payload += wire.encode({wire.Atom("stream"): 9})[1:]
    worker.send(len(payload).to_bytes(4, "big") + payload)
    assert worker.chunks(7) == ([0, 1], "result", "counted to 2")


@pytest.mark.parametrize("credit", [-1, 1.5, None, 2**60, "many"])
def test_a_credit_that_is_none_is_answered(worker: Worker, credit: Any) -> None:
    worker.send(messages.call(9, None, "count", wire.encode([3]), {"stream": credit}))
    error = worker.failure_of(9)
    assert error["type"] == "protocol_error"
    assert "stream" in error["message"]
    assert worker.begun == 1


@one_at_a_time
def test_calls_behind_a_stream_are_answered_after_it(worker: Worker) -> None:
    id = worker.begin_stream(1, "count", 2)
    behind, frame = worker.frame("listed", 2)
    assert worker.chunk(id) == 0
    worker.send(frame, messages.ping(1))
    assert worker.next() == ("pong", 1)
    worker.send(messages.credit(id, 2))
    assert worker.chunks(id) == ([1], "result", "counted to 2")
    assert worker.answer(behind) == [0, 1]
    assert worker.begun == 2


# -- credit ----------------------------------------------------------------------------------------


def test_a_generator_is_advanced_as_far_as_there_is_credit(worker: Worker) -> None:
    id = worker.begin_stream(2, "count_and_say", 6)
    assert [worker.chunk(id) for _ in range(2)] == [0, 1]
    worker.send(messages.ping(1))
    assert worker.next() == ("pong", 1)
    worker.send(messages.credit(id, 0), messages.credit(id, 1), messages.credit(id, 1))
    assert [worker.chunk(id) for _ in range(2)] == [2, 3]
    worker.send(messages.ping(2))
    assert worker.next() == ("pong", 2)
    said = [worker.stdout.line() for _ in range(4)]
    assert said == ["making 0", "making 1", "making 2", "making 3"]
    worker.send(messages.credit(id, 3))
    # Five would do for the values; to find the end takes one more.
    assert worker.chunks(id) == ([4, 5], "result", None)


def test_without_credit_nothing_is_begun(worker: Worker) -> None:
    id = worker.begin_stream(0, "count_and_say", 1)
    worker.send(messages.ping(1))
    assert worker.next() == ("pong", 1)
    worker.send(messages.credit(id, 2))
    assert worker.chunk(id) == 0
    assert worker.stdout.line() == "making 0"
    assert worker.answer(id) is None


@one_at_a_time
def test_credit_for_a_stream_that_waits_is_added_to_its_own(worker: Worker, fifo: Fifo) -> None:
    first = worker.begin_stream(1, "wait_between", fifo.path)
    assert worker.stdout.line() == "in"
    second = worker.begin_stream(1, "count", 3)
    # Read by the interrupt's look, while the first stream is busy.
    worker.send(messages.credit(second, 3), messages.credit(777, 5))
    worker.interrupt(first)
    assert worker.failure_of(first)["type"] == "cancelled"
    assert worker.chunks(second) == ([0, 1, 2], "result", "counted to 3")


def test_credit_that_arrives_while_the_generator_works_counts(worker: Worker, fifo: Fifo) -> None:
    id = worker.begin_stream(1, "wait_between", fifo.path)
    assert worker.stdout.line() == "in"
    worker.send(messages.credit(id, 1))
    worker.signal_urgent()
    for text in ("one", "two"):
        fifo.release(text)
        assert worker.chunk(id) == text


def test_credit_that_arrives_before_there_is_an_iterator_counts(worker: Worker, fifo: Fifo) -> None:
    id = worker.begin_stream(0, "iterator_after", fifo.path)
    assert worker.stdout.line() == "in"
    worker.send(messages.credit(id, 2))
    worker.signal_urgent()
    fifo.release("3")
    assert [worker.chunk(id) for _ in range(2)] == [0, 1]
    # Once.
    worker.send(messages.ping(1))
    assert worker.next() == ("pong", 1)
    worker.send(messages.credit(id, 2))
    assert worker.chunks(id) == ([2], "result", None)


def test_credit_of_what_is_over_or_unknown_does_nothing(worker: Worker) -> None:
    id = worker.begin_stream(PLENTY, "count", 1)
    assert worker.chunks(id) == ([0], "result", "counted to 1")
    plain = worker.begin("listed", 1)
    worker.send(messages.credit(id, 5), messages.credit(777, 5), messages.credit(plain, 5))
    assert worker.answer(plain) == [0]
    again = worker.begin_stream(1, "count", 3)
    assert worker.chunk(again) == 0
    worker.send(messages.ping(1))
    assert worker.next() == ("pong", 1)


# -- when chunks are written -----------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 500, 20_000])
def test_chunks_do_not_wait_with_a_generator_that_pauses(
    worker: Worker, fifo: Fifo, n: int
) -> None:
    id = worker.begin_stream(PLENTY, "count_and_wait", n, fifo.path)
    for text in ("one", "two"):
        assert [worker.chunk(id) for _ in range(n)] == list(range(n))
        fifo.release(text)
        assert worker.chunk(id) == text
    assert worker.answer(id) is None
    others = [name for name in worker.call("threads") if not name.startswith("lane-")]
    assert len(others) <= 2


@one_at_a_time
def test_an_interrupt_reaches_a_generator_whose_chunks_are_looked_after(
    worker: Worker, fifo: Fifo
) -> None:
    for _ in range(20):
        id = worker.begin_stream(PLENTY, "count_and_wait", 500, fifo.path)
        assert [worker.chunk(id) for _ in range(500)] == list(range(500))
        worker.interrupt(id)
        assert worker.failure_of(id)["type"] == "cancelled"
    assert len(worker.call("threads")) <= 2


# -- errors ----------------------------------------------------------------------------------------


def test_an_error_comes_after_the_chunks_before_it(worker: Worker) -> None:
    id = worker.begin_stream(PLENTY, "fail_after", 1000)
    values, tag, error = worker.chunks(id)
    assert (values, tag) == (list(range(1000)), "error")
    trace = error.pop("traceback")
    assert error == {
        "type": "exception",
        "message": "no more",
        "exception": "ValueError",
        "command": "fail_after",
        "pool": "default",
        "worker": worker.name,
    }
    assert [line.split(", in ")[1] for line in trace.splitlines() if ", in " in line] == [
        "fail_after"
    ]
    assert worker.call("listed", 1) == [0]


def test_a_type_error_of_a_stream_is_not_one_of_its_arguments(worker: Worker) -> None:
    values, _, error = worker.chunks(worker.begin_stream(PLENTY, "fail_in_c", 2))
    assert (values, error["type"], error["exception"]) == ([1, 1], "exception", "TypeError")
    error = worker.failure_of(worker.begin_stream(PLENTY, "count"))
    assert (error["type"], error["exception"]) == ("bad_arguments", "TypeError")


def test_a_chunk_without_a_term_ends_the_stream(worker: Worker) -> None:
    values, _, error = worker.chunks(worker.begin_stream(PLENTY, "no_term_after", 2))
    assert (values, error["type"]) == ([0, 1], "encode")
    assert "chunk of 'no_term_after'" in error["message"]
    assert worker.call("remembered") == ["closed"]


def test_a_chunk_over_the_limit_ends_the_stream(start: Any) -> None:
    worker = start(adapter="stream_adapter", max_answer_bytes=100_000).ready()
    most = 100_000 - len(messages.chunk(1, wire.encode(b""))[4:])
    values, _, error = worker.chunks(worker.begin_stream(PLENTY, "blobs", most, most + 1, 1))
    assert ([len(value) for value in values], error["type"]) == ([most], "frame_too_large")
    assert "max_frame_bytes (100000)" in error["message"]
    assert worker.call("remembered") == ["closed"]


def test_chunks_larger_than_a_socket_holds(worker: Worker) -> None:
    size = MAX_FRAME_BYTES - 100
    id = worker.begin_stream(PLENTY, "blobs", size, size, size)
    assert [len(value) for value in worker.chunks(id)[0]] == [size] * 3


# -- however it ends -------------------------------------------------------------------------------


@one_at_a_time
def test_a_generator_that_works_is_interrupted(worker: Worker, fifo: Fifo) -> None:
    id = worker.begin_stream(PLENTY, "wait_between", fifo.path)
    assert worker.stdout.line() == "in"
    fifo.release("one")
    assert worker.chunk(id) == "one"
    assert worker.stdout.line() == "in"
    worker.interrupt(id)
    error = worker.failure_of(id)
    assert (error["type"], error["command"]) == ("cancelled", "wait_between")
    assert worker.call("remembered") == ["closed"]


@pytest.mark.parametrize("times", [0, 3])
def test_a_generator_that_waits_for_credit_is_closed(worker: Worker, times: int) -> None:
    """With the signal, as from a supervisor, or without."""
    id = worker.begin_stream(2, "endless")
    assert [worker.chunk(id) for _ in range(2)] == [0, 1]
    worker.interrupt(id, times)
    assert worker.failure_of(id)["type"] == "cancelled"
    assert worker.call("remembered") == ["closed"]
    assert worker.begun == 2


def test_credit_that_comes_behind_a_cancel_does_nothing(worker: Worker) -> None:
    id = worker.begin_stream(1, "endless")
    assert worker.chunk(id) == 0
    worker.send(messages.cancel(id), messages.credit(id, 1))
    assert worker.failure_of(id)["type"] == "cancelled"


def test_a_stream_that_was_never_advanced_is_cancelled(worker: Worker) -> None:
    id = worker.begin_stream(0, "endless")
    worker.interrupt(id)
    assert worker.failure_of(id)["type"] == "cancelled"
    # It had not begun: there is nothing to clean up.
    assert worker.call("remembered") == []


def test_a_generator_that_swallows_its_cancelling_is_closed(worker: Worker) -> None:
    id = worker.begin_stream(PLENTY, "swallow")
    assert worker.stdout.line() == "in"
    worker.send(messages.credit(id, PLENTY))
    worker.interrupt(id)
    assert worker.chunks(id)[1:2] == ("error",)
    assert worker.call("remembered") == ["swallowed", "closed"]


@pytest.mark.parametrize(
    ("command", "left"),
    [("yield_in_finally", "outer"), ("raise_in_finally", "raised"), ("reader", "reader closed")],
)
def test_what_cleaning_up_does_is_no_matter(worker: Worker, command: str, left: str) -> None:
    id = worker.begin_stream(1, command)
    worker.chunk(id)
    worker.interrupt(id)
    error = worker.failure_of(id)
    assert error["type"] == "cancelled"
    assert worker.call("remembered") == [left]
    worker.hang_up()
    printed = worker.stderr.rest()
    assert ("in finally" in printed) == (command == "raise_in_finally")
    assert printed.count(f"command '{command}'") == (command != "reader")


def test_a_generator_that_cannot_be_closed_is_told_once(worker: Worker) -> None:
    id = worker.begin_stream(1, "never_end")
    worker.chunk(id)
    worker.interrupt(id)
    assert worker.failure_of(id)["type"] == "cancelled"
    assert worker.call("remembered") == []
    worker.hang_up()
    told, *rest = worker.stderr.rest().splitlines()
    assert told == (
        "command 'never_end' goes on as its stream is closed: generator ignored GeneratorExit"
    )
    # Python has a word of its own when it does away with the generator.
    assert [line for line in rest if "Traceback" in line][1:] == []


def test_a_generator_that_another_thread_is_in_is_told_once(worker: Worker, fifo: Fifo) -> None:
    id = worker.begin_stream(1, "entered_by_another", fifo.path)
    assert worker.failure_of(id)["message"] == "generator already executing"
    worker.hang_up()
    assert worker.stderr.rest() == (
        "command 'entered_by_another' goes on as its stream is closed: generator already"
        " executing\n"
    )


@one_at_a_time
def test_end_of_file_closes_a_stream_that_can_have_no_more_credit(worker: Worker) -> None:
    id = worker.begin_stream(2, "endless")
    behind = worker.begin("remembered")
    assert [worker.chunk(id) for _ in range(2)] == [0, 1]
    worker.hang_up()
    assert worker.failure_of(id)["type"] == "cancelled"
    assert worker.answer(behind) == ["closed"]
    assert os.waitstatus_to_exitcode(worker.exited()) == 0


def test_a_child_forked_within_a_stream_answers_nothing(worker: Worker) -> None:
    id = worker.begin_stream(PLENTY, "fork_within")
    values, tag, _ = worker.chunks(id)
    assert (values, tag) == ([worker.process.pid] * 2, "result")
    lines = [worker.stdout.line() for _ in range(2)]
    assert f"closed in {worker.process.pid}" in lines
    assert len(set(lines)) == 2
    assert worker.call("remembered") == []


def test_a_child_forked_within_a_stream_is_asked_for_no_more(worker: Worker) -> None:
    id = worker.begin_stream(PLENTY, "end_of_child")
    assert worker.chunks(id) == ([0], "result", None)


@pytest.mark.parametrize("seed", range(4))
def test_every_stream_has_one_answer_wherever_a_cancel_hits(worker: Worker, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(150):
        credit = rng.choice([0, 1, 10, 300, PLENTY])
        id = worker.begin_stream(credit, "count", rng.randrange(300))
        # Some time, in a measure that needs no clock.
        sum(range(rng.randrange(10_000)))
        if rng.random() < 0.5:
            worker.send(messages.credit(id, rng.randrange(3)))
        if rng.random() < 0.9:
            worker.interrupt(id, times=rng.randrange(1, 4))
        else:
            worker.send(messages.credit(id, PLENTY))
        values, tag, content = worker.chunks(id)
        assert values == list(range(len(values)))
        if tag == "error":
            assert content["type"] == "cancelled"
        else:
            assert content == f"counted to {len(values)}"
    worker.send(messages.ping(seed))
    assert worker.next() == ("pong", seed)
    assert worker.begun == 150


@one_at_a_time
@pytest.mark.parametrize("credit", [2, PLENTY])
def test_a_stream_is_cancelled_at_any_step(worker: Worker, fifo: Fifo, credit: int) -> None:
    """From the end of the call before it to the beginning of the one behind."""
    ends = set()
    closed = 0
    for step in itertools.count(1):
        one, first = worker.frame("signal_at_step", signal.SIGURG, step, fifo.path)
        two, second = worker.stream_frame(credit, "blobs", 1, 1, 1)
        three, third = worker.frame("lift")
        worker.send(first + second + third)
        assert worker.stdout.line() == "in"
        worker.send(messages.cancel(two))
        fifo.release()
        assert worker.answer(one) is None
        values, tag, content = worker.chunks(two)
        ends.add((len(values), tag if tag == "result" else content["type"]))
        has_not_come = worker.answer(three)
        before, closed = closed, len(worker.call("remembered"))
        # One that has not begun has nothing to clean up.
        assert closed - before in ({1} if values else {0, 1})
        if has_not_come:
            break
    most = (3, "result") if credit == PLENTY else (2, "cancelled")
    assert {(0, "cancelled"), (1, "cancelled"), most} <= ends
