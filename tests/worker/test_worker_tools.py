"""Commands that ask the host for something, and tell it."""

from __future__ import annotations

import itertools
import math
import os
import signal
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kinds import LANES, one_at_a_time, several_at_a_time
from worker_driver import MAX_FRAME_BYTES, PID, Fifo, Start, Worker

from snakepit_port import wire
from snakepit_port.wire import messages
from snakepit_port.worker.asking import Telling

UNKNOWN = {"type": "unknown_tool", "message": "there is none"}


@pytest.fixture
def start(start: Start) -> Start:
    return lambda **info: start(**{"adapter": "tools_adapter", **info})


def question(worker: Worker) -> tuple[int, int, str, Any]:
    """The next frame, which has to be a tool: the call, the number, the name, the arguments."""
    tag, id, number, name, args = worker.next()
    assert tag == "tool"
    return id, number, name, wire.decode(args)


def result(id: int, number: int, value: Any) -> bytes:
    return messages.tool_result(id, number, wire.encode(value))


# -- tools -----------------------------------------------------------------------------------------


def test_a_tool_is_asked_for_and_its_result_comes_back(worker: Worker) -> None:
    call = worker.begin("ask", "lookup", 1, {"a": [None, b"\0", 2.5]})
    id, number, name, args = question(worker)
    assert (id, name, args) == (call, "lookup", [1, {"a": [None, b"\0", 2.5]}])
    worker.send(result(id, number, {"found": [1, b"\1"]}))
    assert worker.answer(call) == {"found": [1, b"\1"]}
    assert worker.begun == 1


def test_every_question_has_a_number_of_its_own(worker: Worker) -> None:
    call = worker.begin("ask_in_turn", "double", [1, 2, 3])
    numbers = set()
    for asked in (1, 2, 3):
        id, number, _name, args = question(worker)
        assert (id, args) == (call, [asked])
        worker.send(result(id, number, 2 * asked))
        numbers.add(number)
    assert worker.answer(call) == [2, 4, 6]
    assert len(numbers) == 3


def test_why_there_is_no_result_is_raised_in_the_command(worker: Worker) -> None:
    call = worker.begin("failure", "lookup")
    id, number, _name, _args = question(worker)
    worker.send(messages.tool_error(id, number, {**UNKNOWN, "traceback": "where"}))
    text = "tool lookup: there is none (unknown_tool)"
    why = "unknown_tool", "there is none", "lookup", "where"
    assert worker.answer(call) == ("ToolError", text, *why)


def test_a_command_that_does_not_catch_it_fails_with_it(worker: Worker) -> None:
    call = worker.begin("ask", "lookup")
    id, number, _name, _args = question(worker)
    worker.send(messages.tool_error(id, number, UNKNOWN))
    error = worker.failure_of(call)
    assert error["type"] == "exception"
    assert error["exception"] == "snakepit_port.adapter.ToolError"
    assert "in ask\n    return host.call(tool, *args)" in error["traceback"]


def test_a_result_that_cannot_be_read(worker: Worker) -> None:
    call = worker.begin("failure", "lookup")
    id, number, _name, _args = question(worker)
    worker.send(messages.tool_result(id, number, b"\x83m\0\0\0\1\xff"))
    kind, _text, type, message, _tool, _where = worker.answer(call)
    assert (kind, type) == ("ToolError", "decode")
    assert "not UTF-8" in message


def test_arguments_that_cannot_travel(worker: Worker) -> None:
    error = worker.failure("ask_without_a_term", "lookup")
    assert error["exception"] == "snakepit_port.wire.terms.EncodeError"
    assert "[0][1]" in error["message"]
    kind, text = worker.call("failure", 7)
    assert (kind, text) == ("TypeError", "a tool is named by a text, not by 7")


def test_arguments_that_are_too_large(start: Start) -> None:
    worker = start(max_answer_bytes=1000).ready()
    most = 0
    for _ in range(2):
        call = worker.begin("ask", "lookup", "x" * most)
        id, number, name, args = question(worker)
        worker.send(result(id, number, "found"))
        assert worker.answer(call) == "found"
        most += 1000 - len(messages.tool(id, number, name, wire.encode(args))[4:])
    kind, text = worker.call("failure", "lookup", "x" * (most + 1))
    assert kind == "ValueError"
    assert text == (
        "the arguments of tool lookup would take a frame of 1001 bytes, over max_frame_bytes (1000)"
    )
    assert MAX_FRAME_BYTES > 1000


def test_answers_to_other_questions_are_dropped(worker: Worker) -> None:
    worker.send(result(1, 1, "before there was one"))
    call = worker.begin("ask", "lookup")
    id, number, _name, _args = question(worker)
    worker.send(result(id, number + 1, "wrong"), result(id + 1, number, "wrong"))
    worker.send(messages.tool_error(id, number + 1, UNKNOWN))
    worker.send(result(id, number, "right"), result(id, number, "twice"))
    assert worker.answer(call) == "right"
    second = worker.begin("ask", "lookup")
    again = question(worker)
    worker.send(result(id, number, "late"), result(again[0], again[1], "right again"))
    assert worker.answer(second) == "right again"


def test_a_generator_may_ask_for_each_of_its_values(worker: Worker) -> None:
    call = worker.begin_stream(3, "ask_for_each", [1, 2])
    for asked in (1, 2):
        id, number, _name, args = question(worker)
        assert (id, args) == (call, [asked])
        worker.send(result(id, number, 2 * asked))
        assert worker.chunk(call) == 2 * asked
    assert worker.chunks(call) == ([], "result", None)


# -- what may happen meanwhile ---------------------------------------------------------------------


@pytest.mark.parametrize("signalled", [False, True])
def test_a_call_is_cancelled_while_it_waits(worker: Worker, signalled: bool) -> None:
    for _ in range(3):
        call = worker.begin("ask", "lookup")
        id, number, _name, _args = question(worker)
        if signalled:
            worker.interrupt(call, times=3)
        else:
            worker.send(messages.cancel(call))
        worker.send(result(id, number, "late"))
        assert worker.failure_of(call)["type"] == "cancelled"
    assert worker.begun == 3


def test_a_stream_is_cancelled_while_it_waits(worker: Worker) -> None:
    call = worker.begin_stream(3, "ask_for_each", [1, 2])
    question(worker)
    worker.send(messages.cancel(call))
    _values, tag, error = worker.chunks(call)
    assert (tag, error["type"]) == ("error", "cancelled")


def test_a_generator_that_is_closed_may_tell_of_it(worker: Worker) -> None:
    call = worker.begin_stream(1, "count_and_tell", PID)
    assert worker.chunk(call) == 1
    worker.send(messages.cancel(call))
    assert worker.next() == ("progress", call, 1, 1)
    assert wire.decode(worker.next()[2]) == "closed"
    assert worker.failure_of(call)["type"] == "cancelled"


def test_what_is_told_at_exit_is_told(worker: Worker) -> None:
    worker.call("tell_at_exit")
    worker.hang_up()
    assert worker.next() == ("log", {"level": "info", "line": "the end"})
    assert worker.exited() == 0


def test_a_command_that_goes_on_when_it_is_cancelled_gets_no_answers(worker: Worker) -> None:
    call = worker.begin("ask_again_when_cancelled")
    question(worker)
    worker.interrupt(call)
    # It asked once, and was told each time.
    assert worker.answer(call) == 3


def test_nobody_can_answer_when_the_channel_ends(worker: Worker) -> None:
    call = worker.begin("ask", "lookup")
    question(worker)
    worker.hang_up()
    assert worker.failure_of(call)["type"] == "cancelled"
    assert worker.exited() == 0


def test_nobody_can_answer_when_the_host_is_gone(worker: Worker, fifo: Fifo) -> None:
    worker.begin("say_what_is_raised", fifo.path, "never")
    assert worker.stdout.line() == "in"
    worker.channel.close()
    fifo.release()
    assert worker.stdout.line() == "CallCancelled"


@one_at_a_time
def test_calls_behind_it_are_given_back_and_a_ping_waits_its_turn(worker: Worker) -> None:
    call, first = worker.frame("ask", "lookup")
    away, second = worker.frame("ask", "lookup")
    worker.send(first, second)
    id, number, _name, _args = question(worker)
    worker.send(messages.ping(5), messages.recall([away]))
    assert worker.next() == ("recalled", [away])
    worker.send(result(id, number, 1))
    assert worker.answer(call) == 1
    assert worker.next() == ("pong", 5)
    assert worker.begun == 2


@several_at_a_time
def test_others_go_on_meanwhile_and_answers_come_in_any_order(worker: Worker) -> None:
    calls = [worker.begin("ask", "lookup", n) for n in range(LANES - 1)]
    asked = [question(worker) for _ in calls]
    worker.send(messages.ping(5))
    assert worker.next() == ("pong", 5)
    last = worker.begin("ask", "lookup", "last")
    asked.append(question(worker))
    for id, number, _name, (n,) in reversed(asked):
        worker.send(result(id, number, n))
        assert worker.answer(id) == n
    assert {id for id, *_ in asked} == {*calls, last}


@one_at_a_time
def test_the_adapters_own_signal_ends_the_waiting(worker: Worker) -> None:
    # Often: a signal that came just before the wait in C was once lost, one in some thousand.
    for _ in range(300):
        call = worker.begin("ask_until_alarm", "lookup")
        late = question(worker)
        os.kill(worker.process.pid, signal.SIGALRM)
        id, number, name, _args = question(worker)
        assert name == "lookup"
        worker.send(result(late[0], late[1], "late"), result(id, number, "found"))
        assert worker.answer(call) == ("the adapter's own", "found")


def test_with_hardly_a_frame_left(worker: Worker) -> None:
    call = worker.begin("ask_deep_down", "lookup")
    id, number, _name, _args = question(worker)
    worker.send(result(id, number, "found"))
    assert worker.answer(call) == "found"


# -- where there is no host ------------------------------------------------------------------------


def test_only_the_thread_of_a_command_may_ask(worker: Worker) -> None:
    kind, text = worker.call("ask_from_a_thread")
    assert (kind, text) == (
        "RuntimeError",
        "host.call is for a command, on the thread that runs it",
    )


def test_a_process_that_a_command_forks_has_no_host(worker: Worker) -> None:
    assert worker.call("ask_from_a_fork") == "RuntimeError"


def test_between_calls_only_messages_and_lines(start: Start) -> None:
    worker = start(adapter="tools_adapter:Early")
    assert worker.next()[0] == "hello"
    assert worker.next() == ("log", {"level": "info", "line": "making one"})
    assert worker.next()[0] == "ready"
    refused = "host.call is for a command, on the thread that runs it"
    found = [("RuntimeError", refused), refused.replace("call", "progress", 1)]
    assert worker.call("early") == found
    # Nor after one, which was a stream's last.
    assert worker.chunks(worker.begin_stream(2, "count", 1))[0] == [0]
    worker.send(messages.ping(1))
    assert worker.next() == ("pong", 1)
    assert worker.call("early") == [*found, found[0]]
    worker.hang_up()
    assert worker.next() == ("log", {"level": "info", "line": "closing one"})
    assert worker.exited() == 0


def test_a_host_that_runs_no_tools(start: Start) -> None:
    worker = start(tools=False).ready()
    kind, text, type, _message, tool, _where = worker.call("failure", "lookup")
    assert (kind, type, tool) == ("ToolError", "unknown_tool", "lookup")
    assert text == "tool lookup: this host runs none (unknown_tool)"
    assert worker.failure("send", PID, 1)["message"] == "this host takes no messages"
    assert worker.call("tell_progress", [1, 2]) is None


# -- messages, progress, lines ---------------------------------------------------------------------


def test_messages_go_out_in_order_and_before_the_answer(worker: Worker) -> None:
    call = worker.begin("send", PID, 1, "two", [3.0])
    for message in (1, "two", [3.0]):
        tag, pid, content = worker.next()
        assert (tag, pid, wire.decode(content)) == ("send", PID, message)
    assert worker.answer(call) is None


def test_messages_of_any_thread(worker: Worker) -> None:
    call = worker.begin("send_from_threads", PID, 20)
    assert {wire.decode(worker.next()[2]) for _ in range(20)} == set(range(20))
    assert worker.answer(call) is None


def until_answered(worker: Worker, call: int) -> tuple[list[Any], tuple[Any, ...]]:
    """The messages that come before the answer to a call, and that."""
    messages_sent = []
    while (said := worker.next())[0] == "send":
        messages_sent.append(wire.decode(said[2]))
    assert said[1] == call
    return messages_sent, said


@pytest.mark.parametrize("size", [20_000, 300_000])
def test_a_cancel_never_cuts_what_is_told(worker: Worker, size: int) -> None:
    for _ in range(20):
        call = worker.begin("send_without_end", PID, size)
        assert worker.next()[0] == "send"
        worker.interrupt(call, times=2)
        sent, answer = until_answered(worker, call)
        assert {len(message) for message in sent} <= {size}
        assert answer[2]["type"] == "cancelled"
    assert worker.begun == 20


def test_a_command_that_cleans_up_may_tell_of_it(worker: Worker) -> None:
    call = worker.begin("tell_when_cancelled", PID)
    assert worker.stdout.line() == "in"
    worker.interrupt(call)
    assert wire.decode(worker.next()[2]) == "cleaning up"
    assert worker.next() == ("progress", call, 1, 1)
    assert wire.decode(worker.next()[2]) == "cleaned up"
    assert worker.failure_of(call)["type"] == "cancelled"


@one_at_a_time
def test_nor_does_a_signal_of_the_adapters_own(worker: Worker) -> None:
    for _ in range(20):
        call = worker.begin("send_until_alarm", PID, 100_000)
        sent, answer = until_answered(worker, call)
        assert {len(message) for message in sent} <= {100_000}
        assert answer == ("result", call, wire.encode("late"))
    assert worker.call("held_signals") == []


TOLD = [
    ("send", [PID, {"a": [PID, b"b"]}], ["send"]),
    ("progress", [1, 2], ["progress"]),
    ("log", ["one\ntwo", "info"], ["log", "log"]),
]


#: A question, too.
SAID = [*TOLD, ("call", ["double", 3], ["tool"])]


def late_at_step(
    worker: Worker, step: int, is_held: bool, what: str, args: list[Any], frames: list[str]
) -> Any:
    """What a method of the host returned, "late" where the alarm rang in it, "ended" where that
    ended the worker. Its frames are whole, none comes twice, and the question after it is
    answered."""
    call = worker.begin("late_at_step", step, is_held, what, *args)
    told = []
    first: Any = "ended"
    for said in worker.frames():
        if said[0] == "result":
            first, last = wire.decode(said[2])
            assert last == 8
            assert told.pop() == "tool"
            break
        told.append(said[0])
        if said[0] == "tool":
            # It may have ended since it asked.
            with suppress(BrokenPipeError):
                worker.send(result(call, said[2], 2 * wire.decode(said[4])[0]))
    assert told == frames[: len(told)]
    if first not in ("late", "ended"):
        assert first == (6 if what == "call" else None)
        assert told == frames
    return first


@one_at_a_time
@pytest.mark.parametrize(("what", "args", "frames"), SAID)
def test_nor_at_any_step_of_it(
    worker: Worker, what: str, args: list[Any], frames: list[str]
) -> None:
    for step in itertools.count(1):
        first = late_at_step(worker, step, True, what, args, frames)
        assert first != "ended", worker.stderr.rest()
        if first != "late":
            break
    assert step > 10
    assert worker.call("held_signals") == []


@pytest.mark.parametrize("starter", ["forkserver"], indirect=True, scope="session")
@pytest.mark.parametrize(("what", "args", "frames"), SAID)
def test_a_signal_that_another_thread_takes_leaves_a_worker_that_works_or_none(
    start: Start, what: str, args: list[Any], frames: list[str]
) -> None:
    worker = start().ready()
    for step in itertools.count(1):
        first = late_at_step(worker, step, False, what, args, frames)
        if first == "ended":
            assert os.waitstatus_to_exitcode(worker.exited()) == 70
            worker = start().ready()
        elif first == "late":
            assert worker.call("held_signals") == []
        else:
            break
    assert step > 10


@one_at_a_time
@pytest.mark.parametrize(("what", "args", "frames"), TOLD)
def test_a_cancel_comes_before_or_after_what_is_told(
    worker: Worker, fifo: Fifo, what: str, args: list[Any], frames: list[str]
) -> None:
    for step in itertools.count(1):
        call = worker.begin("interrupted_at_step", step, fifo.path, what, *args)
        assert worker.stdout.line() == "in"
        worker.send(messages.cancel(call))
        fifo.release()
        told = []
        while (said := worker.next())[0] not in ("result", "error"):
            told.append(said[0])
        assert told == frames[: len(told)]
        if said[0] == "result":
            assert told == frames
            break
        assert said[2]["type"] == "cancelled"
    assert step > 10
    assert worker.call("held_signals") == []


@one_at_a_time
def test_a_cancel_ends_a_question_at_any_step(worker: Worker, fifo: Fifo) -> None:
    for step in range(1, 150):
        call = worker.begin("interrupted_at_step", step, fifo.path, "call", "never")
        assert worker.stdout.line() == "in"
        worker.send(messages.cancel(call))
        fifo.release()
        said = worker.next()
        if said[0] == "tool":
            said = worker.next()
        assert (said[1], said[2]["type"]) == (call, "cancelled")
    assert worker.call("held_signals") == []


@one_at_a_time
def test_a_cancel_that_comes_after_the_answer_ends_the_call_at_any_step(
    worker: Worker, fifo: Fifo
) -> None:
    for step in itertools.count(1):
        call = worker.begin("ask_and_pause_at_step", step, fifo.path, "double", 3)
        id, number, _name, _args = question(worker)
        worker.send(result(id, number, 6))
        if worker.stdout.line() == "passed":
            assert worker.answer(call) == 6
            break
        worker.send(messages.cancel(call))
        fifo.release()
        assert worker.failure_of(call)["type"] == "cancelled"
    assert step > 5


@one_at_a_time
def test_a_handler_may_send_while_the_command_does(worker: Worker) -> None:
    call = worker.begin("send_in_a_handler_too", PID, 100_000, 20)
    sent, answer = until_answered(worker, call)
    assert {message[:1] for message in sent} == {"x", "y"}
    assert {len(message) for message in sent} == {100_000}
    assert answer[0] == "result"


def test_a_message_that_cannot_be_sent(start: Start) -> None:
    worker = start(max_answer_bytes=1000).ready()
    error = worker.failure("send", "no pid", 1)
    assert (error["exception"], error["message"]) == (
        "TypeError",
        "a message goes to a pid that came from the host, not to 'no pid'",
    )
    error = worker.failure("send", PID, "x" * 2000)
    assert error["message"].startswith("the message would take a frame of ")


def test_progress_is_told_at_first_and_at_the_end(worker: Worker) -> None:
    call = worker.begin("count_to", 10_000)
    told = []
    while (said := worker.next())[0] == "progress":
        assert (said[1], said[3]) == (call, 10_000)
        told.append(said[2])
    assert (said[0], said[1]) == ("result", call)
    assert (told[0], told[-1]) == (0, 10_000)
    assert told == sorted(set(told))
    # Another call of the same command begins anew.
    worker.begin("count_to", 1)
    assert worker.next()[2:] == (0, 1)
    assert worker.next()[2:] == (1, 1)


@pytest.mark.parametrize("step", [(0.5, 2), (-1, 0), (10**30, 3), (True, 2)])
def test_progress_in_numbers_of_any_kind(worker: Worker, step: tuple[float, float]) -> None:
    call = worker.begin("tell_progress", step)
    assert worker.next() == ("progress", call, *step)
    assert worker.answer(call) is None


@pytest.mark.parametrize("step", [(1, "all"), (None, 1)])
def test_progress_that_is_no_number(worker: Worker, step: tuple[Any, Any]) -> None:
    assert worker.failure("tell_progress", step)["exception"] in ("TypeError", "ValueError")


@given(
    st.lists(
        st.tuples(st.floats(0, 0.3, allow_nan=False), st.floats(0, 2, allow_nan=False, width=16)),
        max_size=50,
    )
)
@example([(0.0, 1.0), *[(0.11, 1.0), (0.0, 1.0)] * 3])
def test_progress_is_no_flood(steps: list[tuple[float, float]]) -> None:
    """Ten a second at most, one more for being done; and nothing new is left out for long."""
    telling, now, told = Telling(7), 100.0, []
    for pause, done in steps:
        now += pause
        if telling.is_news(done, 1.0, now):
            told.append((now, done))
    dones = [done for _, done in told if done >= 1.0]
    assert bool(dones) == any(done >= 1.0 for _, done in steps)
    seconds = now - 100.0
    assert len(told) <= 1 + 1 + math.floor(seconds / 0.1)
    if steps:
        assert told[0][1] == steps[0][1]


def test_progress_that_is_too_large(start: Start) -> None:
    worker = start(max_answer_bytes=1000).ready()
    error = worker.failure("tell_progress", [2**10_000, 1])
    assert error["message"].startswith("the progress would take a frame of ")


def test_lines_are_logged_with_their_level(worker: Worker) -> None:
    call = worker.begin("log", "first\n\nthird")
    for line in ("first", "", "third"):
        assert worker.next() == ("log", {"level": "info", "line": line})
    assert worker.answer(call) is None
    call = worker.begin("log", "", "error")
    assert worker.next() == ("log", {"level": "error", "line": ""})
    assert worker.answer(call) is None


def test_a_line_that_is_none(worker: Worker) -> None:
    assert worker.failure("log", 7)["message"] == "a message is a text, not int"
    assert worker.failure("log", "x", "loud")["message"] == (
        "a level is one of debug, error, info, warning, not 'loud'"
    )


def test_a_line_without_end_is_cut(worker: Worker) -> None:
    call = worker.begin("log", "x" * 1_000_000)
    tag, entry = worker.next()
    assert (tag, len(entry["line"])) == ("log", 16 * 1024 + 1)
    assert worker.answer(call) is None
