"""What a call is answered with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from kinds import one_at_a_time
from worker_driver import MAX_FRAME_BYTES, Fifo, Worker

from snakepit_port import wire
from snakepit_port.wire import Atom, messages


def call_with(worker: Worker, command: str, args: bytes) -> dict[str, Any]:
    """The error that a call with these encoded arguments is answered with."""
    worker.send(messages.call(999, "default", command, args))
    return worker.failure_of(999)


# -- results ---------------------------------------------------------------------------------------


def test_a_list_is_positions_and_a_map_is_keywords(worker: Worker) -> None:
    assert worker.call("add", 1, 2) == 3
    assert worker.call("add", 1) == 2
    assert worker.call("add", a="x", b="y") == "xy"
    assert worker.call("echo") == [[], {}]
    args = wire.encode({Atom("a"): 1, "b": 2})
    worker.send(messages.call(1000, None, "echo", args))
    assert worker.answer(1000) == [[], {"a": 1, "b": 2}]


def test_a_command_has_the_name_it_was_given(worker: Worker) -> None:
    assert worker.call("renamed") == "another"
    assert worker.failure("another")["type"] == "unknown_command"


def test_options_do_not_concern_a_worker(worker: Worker) -> None:
    args = wire.encode([1, 2])
    worker.send(messages.call(1000, "default", "add", args, {"timeout": 5, "unheard_of": None}))
    assert worker.answer(1000) == 3


@one_at_a_time
def test_calls_are_answered_in_the_order_they_came(worker: Worker) -> None:
    ids_and_frames = [worker.frame("add", n) for n in range(300)]
    worker.send(*(frame for _, frame in ids_and_frames))
    assert [worker.answer(id) for id, _ in ids_and_frames] == list(range(1, 301))
    assert worker.begun == 300


# -- errors ----------------------------------------------------------------------------------------


def test_what_a_command_raises_is_told_with_its_class_and_the_adapters_frames(
    worker: Worker,
) -> None:
    error = worker.failure("raises", "why")
    trace = error.pop("traceback")
    assert error == {
        "type": "exception",
        "message": "why",
        "exception": "worker_adapter.NotOurs",
        "command": "raises",
        "pool": "default",
        "worker": worker.name,
    }
    assert trace.startswith("Traceback (most recent call last):\n")
    assert trace.endswith("\nworker_adapter.NotOurs: why\n")
    assert [line.split(", in ")[1] for line in trace.splitlines() if ", in " in line] == [
        "raises",
        "deeper",
    ]
    assert worker.call("add", 1, 2) == 3


def test_a_builtin_exception_goes_without_its_module(worker: Worker) -> None:
    error = worker.failure("add", "a", 1)
    assert (error["type"], error["exception"]) == ("exception", "TypeError")


@pytest.mark.parametrize(
    "name",
    [
        *("SystemExit", "KeyboardInterrupt", "RecursionError", "MemoryError", "GeneratorExit"),
        "BaseException",
    ],
)
def test_whatever_a_command_raises_the_worker_goes_on(worker: Worker, name: str) -> None:
    error = worker.failure("raise_builtin", name)
    assert (error["type"], error["exception"]) == ("exception", name)
    assert worker.call("add", 1, 2) == 3


def test_an_exception_without_text_is_told_all_the_same(worker: Worker) -> None:
    error = worker.failure("raise_unprintable")
    assert error["exception"] == "worker_adapter.Unprintable"
    assert "RuntimeError" in error["message"]
    assert worker.failure("raise_surrogate")["message"] == "no such file: \\udcff"
    assert worker.call("add", 1, 2) == 3


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("surrogates", "m\\udcff.q\\udcff"),
        ("metaclass", "Nameless"),
        ("traceback", "worker_adapter.Traceless"),
        ("cause", "worker_adapter.Causeless"),
        ("class", "worker_adapter.Classless"),
        ("module", "Moduleless"),
        ("text", "worker_adapter.Texted"),
    ],
)
def test_an_exception_that_breaks_whoever_looks_at_it_is_told_all_the_same(
    worker: Worker, what: str, name: str
) -> None:
    error = worker.failure("raise_broken", what)
    assert (error["type"], error["exception"], error["message"]) == ("exception", name, "why")
    assert worker.call("add", 1, 2) == 3


def test_an_unknown_command_is_told_with_what_was_meant(worker: Worker) -> None:
    error = worker.failure("ad")
    assert error["type"] == "unknown_command"
    assert "'ad'" in error["message"]
    assert "did you mean 'add'?" in error["message"]
    assert "renamed" in error["message"]
    assert error["command"] == "ad"
    assert worker.failure("unmarked")["type"] == "unknown_command"


@pytest.mark.parametrize(
    ("args", "keywords"),
    [((), {}), ((1, 2, 3), {}), ((), {"a": 1, "c": 2}), ((), {"a": 1, "not a name": 2})],
)
def test_arguments_that_do_not_fit_are_not_the_commands_fault(
    worker: Worker, args: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    error = worker.failure("add", *args, **keywords)
    assert (error["type"], error["exception"]) == ("bad_arguments", "TypeError")
    assert "'add'" in error["message"]
    assert worker.call("add", 1, 2) == 3


def test_a_type_error_inside_a_command_is_the_commands_fault(worker: Worker) -> None:
    error = worker.failure("type_error_inside")
    assert (error["type"], error["exception"]) == ("exception", "TypeError")
    assert "in type_error_inside" in error["traceback"]


@pytest.mark.parametrize(
    "args",
    [
        1,
        "text",
        (1, 2),
        {1: 2},
        {(1,): 1},
        pytest.param(1 << 40000, id="longer than it prints"),
        None,
    ],
)
def test_arguments_are_a_list_or_a_map_of_names(worker: Worker, args: Any) -> None:
    error = call_with(worker, "add", wire.encode(args))
    assert error["type"] == "bad_arguments"
    assert "list" in error["message"]
    assert worker.call("add", 1, 2) == 3


@pytest.mark.parametrize(
    ("args", "place"),
    [
        (b"\x83l\0\0\0\1m\0\0\0\1\xffj", "0"),
        (b"\x83t\0\0\0\1m\0\0\0\1am\0\0\0\1\xff", "a"),
        (b"\x83l\0\0\0\2a\1", ""),
        (b"\x83", ""),
        (b"", ""),
        (b"\x83j\0", ""),
        (b"\x83P\0\0\0\1x", ""),
    ],
)
def test_arguments_that_are_no_term_are_told_with_their_place(
    worker: Worker, args: bytes, place: str
) -> None:
    error = call_with(worker, "add", args)
    assert error["type"] == "decode"
    assert place in error["message"]
    assert worker.call("add", 1, 2) == 3


def test_a_result_without_a_term_is_told_with_its_place(worker: Worker) -> None:
    error = worker.failure("result_without_term")
    assert error["type"] == "encode"
    for part in ("'result_without_term'", "rows", "1", "set"):
        assert part in error["message"]
    assert worker.call("add", 1, 2) == 3


def test_a_result_that_raises_when_it_is_looked_at_has_no_term(worker: Worker) -> None:
    error = worker.failure("result_that_raises")
    assert error["type"] == "encode"
    assert "it cannot be measured" in error["message"]
    assert worker.call("add", 1, 2) == 3


def test_a_result_over_the_limit_is_refused_and_one_that_reaches_it_is_not(start: Any) -> None:
    worker = start(max_answer_bytes=100_000).ready()
    most = 100_000 - len(messages.result(1, wire.encode(b""))[4:])
    assert len(worker.call("blob", most)) == most
    error = worker.failure("blob", most + 1)
    assert error["type"] == "frame_too_large"
    assert "max_frame_bytes (100000)" in error["message"]
    assert worker.call("add", 1, 2) == 3


def test_a_result_over_the_limit_is_told_what_else_there_was_no_room_for(
    start: Any, tmp_path: Path
) -> None:
    shm = {"folder": str(tmp_path), "writer": "w1", "threshold": 1000, "max_bytes": 150_000}
    worker = start(max_answer_bytes=100_000, shm=shm).ready()
    error = worker.failure("blob", 200_000)
    assert error["type"] == "frame_too_large"
    assert error["message"].endswith(
        " over max_frame_bytes (100000); return less, or raise it. Bytes and arrays of 1000 bytes"
        " or more are in it only where shared memory has no room for them (shm_max_bytes: 150000);"
        " text always is"
    )


def test_an_error_over_the_limit_is_cut(start: Any) -> None:
    worker = start(max_answer_bytes=100_000).ready()
    # Characters of three bytes: the limit does not fall between two of them.
    error = worker.failure("raises", "€" * 60_000)
    message, traceback = error["message"], error["traceback"]
    assert message == "€" * (len(message) - 1) + "…"
    # What tells where it was is not lost.
    begins, _, ends = traceback.partition("…")
    assert "worker_adapter.py" in begins
    assert ends == "€" * (len(ends) - 1) + "\n"
    assert 99_900 < len(messages.error(1, error)) <= 100_004
    error = worker.failure("a" * 100_000)
    assert error["message"].startswith("there is no command 'aaa")
    assert error["command"].endswith("a…")
    assert 99_900 < len(messages.error(1, error)) <= 100_004
    assert worker.call("add", 1, 2) == 3


def test_what_health_raises_is_cut(start: Any) -> None:
    worker = start(adapter="worker_adapter:IllAtLength").ready()
    worker.send(messages.ping(1))
    tag, error = worker.next()
    assert tag == "failed"
    assert error["message"].startswith("health raised worker_adapter.NotOurs: xxx")
    assert len(wire.encode(error)) <= 64 * 1024


def test_answers_do_not_wait_with_a_command_that_was_quick_and_takes_its_time(
    worker: Worker, fifo: Fifo
) -> None:
    for _ in range(100):
        assert worker.call("wait_perhaps") == "quick"
    calls = [worker.frame("wait_perhaps") for _ in range(3)]
    calls.append(worker.frame("wait_perhaps", fifo.path))
    worker.send(*(frame for _, frame in calls))
    *quick, slow = (id for id, _ in calls)
    # In any order, where they run on threads.
    assert {worker.next()[1] for _ in quick} == set(quick)
    fifo.release()
    assert worker.answer(slow) == "released"


@one_at_a_time
def test_answers_do_not_wait_with_a_check_up(start: Any, fifo: Fifo) -> None:
    args = {"fifo": fifo.path}
    worker = start(adapter="worker_adapter:SlowToExamine", adapter_args=args).ready()
    calls = [worker.frame("double", 2) for _ in range(3)]
    worker.send(*(frame for _, frame in calls), messages.ping(1))
    for id, _ in calls:
        assert worker.answer(id) == 4
    fifo.release()
    assert worker.next() == ("pong", 1)


def test_a_generator_is_not_a_plain_call(worker: Worker) -> None:
    error = worker.failure("count", 3)
    assert error["type"] == "not_a_stream_call"
    assert worker.call("add", 1, 2) == 3


# -- direct calls ----------------------------------------------------------------------------------


def test_direct_calls_are_off(worker: Worker) -> None:
    assert worker.failure("math:sqrt", 4.0)["type"] == "unknown_command"


def test_direct_calls_reach_what_is_named(start: Any) -> None:
    worker = start(direct_calls=["math:sqrt", "os.path:*", "builtins:min", "absent:*"]).ready()
    assert worker.call("math:sqrt", 4.0) == 2.0
    assert worker.call("os.path:basename", "a/b") == "b"
    assert worker.call("add", 1, 2) == 3
    for refused in ("math:sin", "os:getpid", "os.path:_get_sep", "os.path:sep", "os.path:no", "a:"):
        assert worker.failure(refused, 1.0)["type"] == "unknown_command", refused
    assert "absent" in worker.failure("absent:anything")["message"]
    error = worker.failure("math:sqrt", "four")
    assert (error["type"], error["exception"]) == ("exception", "TypeError")
    assert worker.failure("os.path:basename")["type"] == "bad_arguments"
    # Where Python does not tell what a function takes, nobody is blamed for it.
    assert worker.failure("builtins:min", 1)["type"] == "exception"
    # Those that were made are no commands of the adapter.
    assert "math:sqrt" not in worker.failure("nope")["message"]


@pytest.mark.parametrize("name", ["worker_broken_module", "..relative", ""])
def test_a_direct_call_of_a_module_that_cannot_be_imported_is_answered(
    start: Any, name: str
) -> None:
    worker = start(direct_calls=[f"{name}:*"]).ready()
    for _ in range(2):
        assert worker.failure(f"{name}:function")["type"] in ("exception", "unknown_command")
    assert worker.call("add", 1, 2) == 3
    assert worker.begun == 3


def test_a_direct_call_of_an_async_function_is_refused(start: Any) -> None:
    worker = start(direct_calls=["asyncio:sleep"]).ready()
    error = worker.failure("asyncio:sleep", 0)
    assert error["type"] == "unknown_command"
    assert "async" in error["message"]


# -- bad frames ------------------------------------------------------------------------------------

GARBAGE = [
    b"\x83h\2w\3pin",
    b"\x83h\2w\7unknowna\1",
    b"\x83a\1",
    b"nonsense",
    b"",
    b"\x83h\0",
    b"\x83h\2w\4ping" + wire.encode("many")[1:],
    messages.result(1, b"")[4:],
    messages.ready({})[4:],
    messages.hello({})[4:],
]


def packed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


@pytest.mark.parametrize("payload", GARBAGE)
def test_a_bad_frame_is_answered_and_changes_nothing_else(worker: Worker, payload: bytes) -> None:
    worker.send(packed(payload))
    tag, _id, error = worker.next()
    assert (tag, error["type"]) == ("error", "protocol_error")
    assert worker.call("add", 1, 2) == 3
    assert worker.begun == 1


@one_at_a_time
@pytest.mark.parametrize(
    "bad",
    [
        b"\x83h\5w\4calla\x63w\3nilm\0\0\0\3adda\1",
        b"\x83h\3w\4calla\x63w\3nil",
        messages.control(0x63, "stats", b"")[4:],
    ],
)
def test_a_bad_call_is_answered_in_its_turn_and_counted_like_any(
    worker: Worker, bad: bytes
) -> None:
    """Otherwise what the ledger says and what was answered no longer agree."""
    before, first = worker.frame("add", 1)
    after, last = worker.frame("add", 2)
    worker.send(first, packed(bad), last)
    assert worker.answer(before) == 2
    assert worker.failure_of(0x63)["type"] == "protocol_error"
    assert worker.answer(after) == 3
    assert worker.begun == 3


def test_a_call_in_another_encoding_is_a_call(worker: Worker) -> None:
    args = wire.encode([1, 2])
    payload = b"\x83i\0\0\0\5d\0\4callb\0\0\0\7s\3nild\0\3add" + wire.encode(wire.Atom("x"))[:0]
    worker.send(packed(payload + b"m" + len(args).to_bytes(4, "big") + args))
    assert worker.answer(7) == 3


def test_a_call_over_the_limit_is_answered_by_its_id(worker: Worker) -> None:
    id, frame = worker.frame("echo", "x" * MAX_FRAME_BYTES)
    worker.send(frame)
    error = worker.failure_of(id)
    assert error["type"] == "frame_too_large"
    assert str(MAX_FRAME_BYTES) in error["message"]
    assert worker.call("add", 1, 2) == 3
    assert worker.begun == 2


def test_anything_else_over_the_limit_is_answered_too(worker: Worker) -> None:
    worker.send(packed(b"\0" * (MAX_FRAME_BYTES + 1)))
    tag, id, error = worker.next()
    assert (tag, id, error["type"]) == ("error", None, "frame_too_large")
    assert worker.call("add", 1, 2) == 3
    assert worker.begun == 1


def test_frames_may_come_in_pieces(worker: Worker) -> None:
    id, frame = worker.frame("add", 1, 2)
    for place in range(len(frame)):
        worker.send(frame[place : place + 1])
    assert worker.answer(id) == 3


def test_a_ping_is_answered(worker: Worker) -> None:
    worker.send(messages.ping(2**40))
    assert worker.next() == ("pong", 2**40)


# -- answers and when they are written -------------------------------------------------------------


@one_at_a_time
def test_a_quick_answer_does_not_wait_for_a_slow_command(worker: Worker, fifo: Any) -> None:
    # Until the worker knows that this one is quick.
    for n in range(100):
        assert worker.call("add", n) == n + 1
    quick = [worker.frame("add", n) for n in range(20)]
    slow, frame = worker.frame("wait_for", fifo.path)
    worker.send(*(frame for _, frame in quick), frame)
    for n, (id, _) in enumerate(quick):
        assert worker.answer(id) == n + 1
    assert worker.stdout.line() == "in"
    fifo.release()
    assert worker.answer(slow) == "released"


def test_calls_and_answers_larger_than_a_socket_holds(worker: Worker) -> None:
    text = "x" * 900_000
    ids = [worker.begin("echo", text) for _ in range(1)]
    assert worker.answer(ids[0]) == [[text], {}]


# -- children of commands --------------------------------------------------------------------------


@one_at_a_time
def test_a_child_that_returns_from_a_command_runs_no_call_of_its_parent(worker: Worker) -> None:
    child, frame = worker.frame("end_of_child", "returns")
    calls = [worker.frame("pid") for _ in range(5)]
    worker.send(frame, *(frame for _, frame in calls))
    assert worker.answer(child) == 0
    assert {worker.answer(id) for id, _ in calls} == {worker.process.pid}
    assert worker.begun == 6
    assert worker.call("add", 1, 2) == 3


@pytest.mark.parametrize(
    ("how", "status", "says"),
    [
        ("returns", 0, "at exit"),
        ("exits", 3, None),
        ("says why", 1, "no more"),
        ("fails", 1, "ValueError: odd"),
        ("cannot say", 1, None),
    ],
)
def test_a_child_ends_as_one_of_python_does(
    worker: Worker, how: str, status: int, says: str | None
) -> None:
    assert worker.call("end_of_child", how) == status
    while says is not None and worker.stderr.line() != says:
        pass


def test_signals_of_a_child_are_no_stacks_of_its_worker(worker: Worker) -> None:
    assert worker.call("signals_in_child") == 0
    worker.hang_up()
    assert worker.stacks.rest() == ""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_works_in_a_command(worker: Worker, method: str) -> None:
    assert worker.call("call_in_child", method, 1, 2) == 3


def test_an_adapter_can_be_imported_with_the_path_of_a_worker(worker: Worker) -> None:
    assert worker.call("call_by_path", 1, 2) == 3


# -- adapters that are classes ---------------------------------------------------------------------


def test_a_class_is_made_with_its_arguments(start: Any) -> None:
    plain = start(adapter="worker_adapter:Model").ready()
    assert plain.call("describe") == [1, "model"]
    assert plain.call("double", 4) == 8
    assert plain.call("whose") == "Model"
    assert plain.failure("close")["type"] == "unknown_command"
    named = start(adapter="worker_adapter:Model", adapter_args={"size": 2}).ready()
    assert named.call("describe") == [2, "model"]
    placed = start(adapter="worker_adapter:Model", adapter_args=[3, "three"]).ready()
    assert placed.call("describe") == [3, "three"]
    assert placed.call("describe") == [3, "three"]
    error = placed.failure("describe", 1)
    assert error["type"] == "bad_arguments"


def test_a_class_is_closed_before_what_was_registered_for_exit(start: Any) -> None:
    worker = start(adapter="worker_adapter:Model", direct_calls=["worker_adapter:at_exit"]).ready()
    assert worker.call("worker_adapter:at_exit", "bye") is None
    worker.hang_up()
    assert worker.stdout.rest() == "model closed\nbye\n"
    assert os.waitstatus_to_exitcode(worker.exited()) == 0


def test_an_executor_that_is_left_open_does_not_keep_a_worker_from_its_end(start: Any) -> None:
    worker = start(direct_calls=["worker_adapter:at_exit"]).ready()
    worker.call("worker_adapter:at_exit", "bye")
    assert worker.call("call_in_executor", 1, 2) == 3
    worker.hang_up()
    assert worker.stdout.rest() == "bye\n"
    assert os.waitstatus_to_exitcode(worker.exited()) == 0


def test_a_class_is_closed_by_its_worker_and_not_by_a_child_of_that(start: Any) -> None:
    fork = "worker_adapter:end_of_child"
    worker = start(adapter="worker_adapter:Model", direct_calls=[fork]).ready()
    assert worker.call(fork, "returns") == 0
    worker.hang_up()
    assert worker.stdout.rest() == "model closed\n"


def test_a_class_that_fails_to_close_is_no_crash(start: Any) -> None:
    worker = start(adapter="worker_adapter:BadClose").ready()
    worker.hang_up()
    assert "worker_adapter.NotOurs: cannot close" in worker.stderr.rest()
    assert os.waitstatus_to_exitcode(worker.exited()) == 0
