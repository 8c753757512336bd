"""A worker that runs several calls at a time, each on a thread of its own."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kinds import LANES, several_at_a_time
from worker_driver import PID, Fifo, Start, Worker

from snakepit_port import wire
from snakepit_port.wire import messages
from snakepit_port.worker.stacks import FROM_C as STACKS_FROM_C
from snakepit_port.worker.stacks import SIGNAL as STACKS_SIGNAL

pytestmark = several_at_a_time


@pytest.fixture
def start(start: Start) -> Start:
    return lambda **info: start(**{"adapter": "thread_adapter", **info})


def answers(worker: Worker, ids: list[int]) -> dict[int, Any]:
    """What calls are answered with, in any order: a value, or the type of an error."""
    found: dict[int, Any] = {}
    while len(found) < len(ids):
        tag, id, content = worker.next()
        assert id in ids
        assert id not in found
        found[id] = wire.decode(content) if tag == "result" else content["type"]
    return found


def test_as_many_calls_run_at_a_time_as_there_are_threads(worker: Worker) -> None:
    ids = [worker.begin("meet", LANES) for _ in range(LANES)]
    assert set(answers(worker, ids).values()) == {f"lane-{n}" for n in range(1, LANES + 1)}
    assert worker.begun == LANES


def stacks_of(worker: Worker) -> dict[str, str]:
    """The stack of each thread, by its name."""

    # Again, as the supervisor does: one that comes just before the main thread waits is not seen.
    def ask() -> None:
        os.kill(worker.process.pid, STACKS_SIGNAL)

    text = worker.stacks.until(bytes([STACKS_FROM_C]), ask)
    return {stack.split("[")[1].split("]")[0]: stack for stack in text.split("Thread ")[1:]}


def test_stacks_of_threads_that_wait_and_that_run(
    worker: Worker, request: pytest.FixtureRequest
) -> None:
    id = worker.begin("spin_until_cancelled", "x")
    assert worker.stdout.line() == "in"
    is_free = request.node.callspec.params["starter"] == "free-threaded"
    running = "cannot be looked at meanwhile" if is_free else "in spin_until_cancelled"
    # Until the others have come to wait.
    while True:
        stacks = stacks_of(worker)
        lanes = [stacks[f"lane-{n}"] for n in range(1, LANES + 1)]
        waiting = [stack for stack in lanes if "threads.py" in stack and running not in stack]
        if len(waiting) == LANES - 1 and "in _receive" in stacks["MainThread"]:
            break
    (spins,) = (stack for stack in lanes if stack not in waiting)
    assert running in spins
    worker.send(messages.cancel(id))
    assert worker.failure_of(id)["type"] == "cancelled"


def test_one_that_cannot_have_its_threads_says_so_instead_of_being_ready(
    start: Start, tmp_path: Path
) -> None:
    text = (
        "import threading\nfrom snakepit_port.adapter import command\n"
        "@command\ndef add(): pass\n"
        "start = threading.Thread.start\n"
        "def refuse(thread):\n"
        "    if thread.name == 'lane-3': raise RuntimeError('none left')\n"
        "    start(thread)\n"
        "threading.Thread.start = refuse\n"
    )
    (tmp_path / "crowded.py").write_text(text)
    worker = start(adapter="crowded", python_path=[str(tmp_path)])
    assert worker.next()[0] == "hello"
    tag, error = worker.next()
    assert (tag, error["type"], error["worker"]) == ("failed", "pool_unavailable", worker.name)
    assert error["message"] == (
        f"a worker cannot start {LANES} threads: none left; lower threads_per_worker, or raise"
        " `ulimit -u`, or the container's pids limit"
    )
    assert os.waitstatus_to_exitcode(worker.exited()) == 1


def test_one_more_waits_and_is_not_counted_as_started(worker: Worker, fifo: Fifo) -> None:
    ids = [worker.begin("wait", fifo.path) for _ in range(LANES)]
    for _ in ids:
        assert worker.stdout.line() == "in"
    last = worker.begin("add", 1)
    worker.send(messages.ping(1))
    assert worker.next() == ("pong", 1)
    assert worker.begun == LANES
    for _ in ids:
        fifo.release("x")
    found = answers(worker, [*ids, last])
    assert found[last] == 2
    assert worker.begun == LANES + 1


def test_calls_start_in_the_order_they_were_sent(worker: Worker, fifo: Fifo) -> None:
    """So that the count in the ledger tells which of them had started."""
    names = [str(n) for n in range(LANES * 5)]
    worker.send(*(worker.frame("say_and_wait", name, fifo.path)[1] for name in names))
    assert sorted(worker.stdout.line() for _ in range(LANES)) == sorted(names[:LANES])
    assert worker.begun == LANES
    worker.signal(signal.SIGKILL)
    assert os.WTERMSIG(worker.exited()) == signal.SIGKILL
    assert worker.begun == LANES


def test_a_cancelled_call_is_interrupted_and_the_others_are_not(worker: Worker) -> None:
    ids = [worker.begin("spin_until_cancelled", str(n)) for n in range(LANES - 1)]
    for _ in ids:
        assert worker.stdout.line() == "in"
    assert worker.call("add", 1, 2) == 3
    for id in ids:
        worker.send(messages.cancel(id))
        assert worker.failure_of(id)["type"] == "cancelled"
    remembered = worker.call("remembered")
    assert {f"{n} cleaned up" for n in range(LANES - 1)} <= set(remembered)


def test_a_call_that_waits_is_cancelled_in_its_place_and_not_run(
    worker: Worker, fifo: Fifo
) -> None:
    ids = [worker.begin("wait", fifo.path) for _ in range(LANES)]
    waiting = worker.begin("remember", "never")
    worker.send(messages.cancel(waiting))
    for _ in ids:
        fifo.release("x")
    assert answers(worker, [*ids, waiting])[waiting] == "cancelled"
    assert worker.call("remembered") == []
    assert worker.begun == LANES + 2


def test_calls_that_wait_are_given_back(worker: Worker, fifo: Fifo) -> None:
    ids = [worker.begin("wait", fifo.path) for _ in range(LANES)]
    for _ in ids:
        assert worker.stdout.line() == "in"
    away, kept = worker.begin("remember", "away"), worker.begin("remember", "kept")
    worker.send(messages.recall([away, ids[0]]))
    assert worker.next() == ("recalled", [away])
    assert worker.begun == LANES
    for _ in ids:
        fifo.release("x")
    assert answers(worker, [*ids, kept])[kept] is None
    assert worker.call("remembered") == ["kept"]
    assert worker.begun == LANES + 3


def test_a_command_that_swallows_its_interrupt_is_not_hit_again(worker: Worker, fifo: Fifo) -> None:
    id = worker.begin("spin_and_swallow", fifo.path)
    assert worker.stdout.line() == "in"
    for _ in range(3):
        worker.send(messages.cancel(id))
    assert worker.stdout.line() == "swallowed"
    fifo.release("x")
    assert worker.answer(id) == "x"
    # Nor is whoever comes next on that thread.
    ids = [worker.begin("spin", 1000) for _ in range(20 * LANES)]
    assert "cancelled" not in answers(worker, ids).values()


def test_cancelling_what_is_over_or_unknown_does_nothing(worker: Worker) -> None:
    id = worker.begin("add", 1)
    assert worker.answer(id) == 2
    worker.send(messages.cancel(id), messages.cancel(999))
    ids = [worker.begin("spin", 1000) for _ in range(50)]
    assert "cancelled" not in answers(worker, ids).values()


@pytest.mark.parametrize("seed", range(4))
def test_a_cancel_hits_its_own_call_or_none(worker: Worker, seed: int) -> None:
    """Calls of a length at which cancels hit them in every state, also in the moment they end;
    those that are not cancelled run between them on the same threads, and are never hit."""
    rng = random.Random(seed)
    spared = 0
    for _ in range(60):
        ids = [worker.begin("spin", rng.randrange(3000)) for _ in range(rng.randrange(1, 12))]
        cancelled = [id for id in ids if rng.random() < 0.5]
        sum(range(rng.randrange(5_000)))
        worker.send(*map(messages.cancel, cancelled))
        for id, outcome in answers(worker, ids).items():
            if id not in cancelled:
                assert outcome != "cancelled"
                spared += 1
    assert spared
    worker.send(messages.ping(seed))
    assert worker.next() == ("pong", seed)


@pytest.mark.parametrize("seed", range(2))
def test_streams_and_calls_share_the_threads(worker: Worker, seed: int) -> None:
    """Streams that wait for credit hold their threads; what is granted reaches each of them."""
    rng = random.Random(seed)
    for _ in range(20):
        streams = {worker.begin_stream(1, "counted", 3): 0 for _ in range(LANES - 1)}
        calls = [worker.begin("spin", rng.randrange(2000)) for _ in range(3)]
        left = {*streams, *calls}
        while left:
            tag, id, content = worker.next()
            if tag == "chunk":
                assert wire.decode(content) == streams[id]
                streams[id] += 1
                worker.send(messages.credit(id, 1))
            else:
                assert tag == "result", content
                left.remove(id)
        assert set(streams.values()) == {3}


def test_a_stream_without_credit_is_closed_when_cancelled(worker: Worker) -> None:
    id = worker.begin_stream(0, "counted", 3)
    worker.send(messages.cancel(id))
    assert worker.failure_of(id)["type"] == "cancelled"
    assert worker.call("add", 1) == 2


def test_end_of_file_lets_what_was_received_finish(worker: Worker, fifo: Fifo) -> None:
    ids = [worker.begin("wait", fifo.path) for _ in range(LANES)]
    ids += [worker.begin("add", n) for n in range(20)]
    for _ in range(LANES):
        assert worker.stdout.line() == "in"
    worker.hang_up()
    for _ in range(LANES):
        fifo.release("x")
    answers(worker, ids)
    assert os.waitstatus_to_exitcode(worker.exited()) == 0
    assert worker.begun == len(ids)


def test_a_crash_in_one_call_leaves_the_stack_of_it(worker: Worker, fifo: Fifo) -> None:
    worker.begin("wait", fifo.path)
    assert worker.stdout.line() == "in"
    worker.begin("crash_in_c")
    text = worker.stderr.rest()
    assert "Fatal Python error: Segmentation fault" in text
    assert "in crash_in_c" in text
    assert "in wait" in text
    assert os.WTERMSIG(worker.exited()) == signal.SIGSEGV
    assert worker.begun == 2


def test_one_that_is_ill_says_so_and_goes_whatever_its_calls_are_about(
    start: Start, fifo: Fifo
) -> None:
    worker = start(adapter="thread_adapter:Ill").ready()
    worker.begin("wait", fifo.path)
    assert worker.stdout.line() == "in"
    assert worker.chunk(worker.begin_stream(1, "counted", 3)) == 0
    worker.send(messages.ping(1))
    tag, error = worker.next()
    assert tag == "failed"
    assert "returned False" in error["message"]
    # Nobody has cancelled the stream, so it is not answered as if somebody had.
    assert list(worker.frames()) == []
    assert os.waitstatus_to_exitcode(worker.exited()) == 1


def test_calls_do_not_wait_for_a_check_up(start: Start, fifo: Fifo) -> None:
    args = {"fifo": fifo.path}
    worker = start(adapter="thread_adapter:SlowToExamine", adapter_args=args).ready()
    for number in range(2):
        worker.send(messages.ping(number))
        assert worker.stdout.line() == "in"
        assert worker.call("add", 1, 2) == 3
        fifo.release("x")
        assert worker.next() == ("pong", number)
        assert worker.stdout.line() == "well"


def test_an_adapter_is_closed_after_its_check_up(start: Start, fifo: Fifo) -> None:
    args = {"fifo": fifo.path}
    worker = start(adapter="thread_adapter:SlowToExamine", adapter_args=args).ready()
    worker.send(messages.ping(1))
    assert worker.stdout.line() == "in"
    worker.hang_up()
    fifo.release("x")
    assert worker.stdout.rest() == "well\nclosed\n"
    assert list(worker.frames()) == [("pong", 1)]
    assert os.waitstatus_to_exitcode(worker.exited()) == 0


# -- what it reports -------------------------------------------------------------------------------


def events(worker: Worker) -> list[tuple[str, dict[str, Any]]]:
    """All that it has said so far; what comes of a call is said before its answer."""
    worker.call("add", 1)
    return worker.events


def test_a_worker_with_a_gil_says_what_that_means(worker: Worker) -> None:
    if worker.call("has_gil"):
        [(name, about)] = events(worker)
        assert (name, about["module"]) == ("worker.gil_enabled", None)
        assert "cannot be switched off" in about["message"]
    else:
        assert events(worker) == []


def test_an_adapter_that_says_it_is_thread_safe_is_believed(start: Start) -> None:
    worker = start(adapter="thread_adapter:Safe", thread_safety_checks=True).ready()
    ids = [worker.begin("meet", 2) for _ in range(2)]
    answers(worker, ids)
    assert [about for name, about in worker.events if name == "worker.thread_safety"] == []


def test_checks_report_what_is_not_safe_once(start: Start) -> None:
    unsafe = {"json": "It is only an example.", "no_such_module": "It is not loaded."}
    worker = start(thread_safety_checks=True, unsafe_modules=unsafe).ready()
    for inside in (2, 4):
        answers(worker, [worker.begin("meet", inside) for _ in range(2)])
    reports = [about for name, about in worker.events if name == "worker.thread_safety"]
    assert [about["kind"] for about in reports] == ["undeclared", "library", "concurrent_entry"]
    assert "thread_safe = True" in reports[0]["message"]
    assert reports[1]["module"] == "json"
    assert reports[2]["commands"] == ["meet", "meet"]


def test_a_call_that_was_answered_runs_no_more(start: Start, fifo: Fifo) -> None:
    """Though the thread that had it has not gone on yet."""
    worker = start(threads=2, thread_safety_checks=True).ready()
    worker.call("linger", fifo.path)
    assert worker.call("add", 1) == 2
    fifo.release()
    reports = [about for name, about in worker.events if name == "worker.thread_safety"]
    assert [about["kind"] for about in reports] == ["undeclared"]


def test_what_runs_beside_a_stream_that_waits_for_credit_is_reported(start: Start) -> None:
    worker = start(threads=2, thread_safety_checks=True).ready()
    assert worker.chunk(worker.begin_stream(1, "counted", 3)) == 0
    assert worker.call("add", 1) == 2
    reports = [about for name, about in worker.events if name == "worker.thread_safety"]
    assert [about.get("commands") for about in reports] == [None, ["counted", "add"]]


def test_nothing_is_reported_without_checks(start: Start) -> None:
    worker = start().ready()
    answers(worker, [worker.begin("meet", 2) for _ in range(2)])
    assert [name for name, _ in worker.events if name == "worker.thread_safety"] == []


def test_without_a_gil_it_stays_off(start: Start, request: pytest.FixtureRequest) -> None:
    """Nothing that a worker imports turns it on."""
    worker = start().ready()
    assert worker.call("has_gil") is ("free-threaded" not in request.node.callspec.params.values())


@pytest.mark.parametrize(
    ("command", "args", "tells"),
    [
        ("add", [1, 2], []),
        ("counted", [3], ["chunk"] * 3),
        ("tell", [PID], ["send", "progress", "log"]),
        ("ask", [], ["tool"]),
    ],
)
def test_a_call_is_cancelled_at_any_step_of_its_thread(
    start: Start, fifo: Fifo, command: str, args: list[Any], tells: list[str]
) -> None:
    """From the end of the call before it to the beginning of the one behind."""
    worker = start(threads=1).ready()
    outcomes = set()
    for step in itertools.count(1):
        one, first = worker.frame("pause_at_step", step, fifo.path)
        frame_of = worker.frame if command != "counted" else partial(worker.stream_frame, 9)
        two, second = frame_of(command, *args)
        three, third = worker.frame("lift")
        worker.send(first, second, third)
        with Cancel(worker, two) as cancel:
            said: list[Any] = []
            while not said or said[-1][1] != three:
                frame = worker.next()
                if frame[0] == "pong":
                    fifo.release()
                    continue
                said.append(frame)
                if frame[0] == "tool":
                    worker.send(messages.tool_result(two, frame[2], wire.encode(None)))
        answer = said[-2]
        assert [said[0], said[-1]] == [("result", id, wire.encode(None)) for id in (one, three)]
        assert answer[1] == two
        outcome = "result" if answer[0] == "result" else answer[2]["type"]
        told = [frame[0] for frame in said[1:-2]]
        assert told == tells[: len(told)]
        assert told == tells or outcome == "cancelled"
        outcomes.add(outcome)
        if cancel.line == "passed":
            break
    assert outcomes == {"cancelled", "result"}
    assert step > 20


@pytest.mark.parametrize("is_wanted", [True, False])
def test_an_id_that_is_used_again_at_once_is_the_new_calls(
    start: Start, fifo: Fifo, is_wanted: bool
) -> None:
    """Though the thread that had the call before has not gone on yet."""
    worker = start(threads=2).ready()
    id = worker.begin("linger", fifo.path)
    assert worker.answer(id) is None
    frame = messages.call(id, "default", "counted", wire.encode([3]), {"stream": 0})
    worker.send(frame, messages.credit(id, 9) if is_wanted else messages.cancel(id))
    values, tag, content = worker.chunks(id)
    if is_wanted:
        assert (values, tag) == ([0, 1, 2], "result")
    else:
        assert (values, tag, content["type"]) == ([], "error", "cancelled")
    fifo.release()
    assert worker.call("add", 1) == 2


class Cancel(threading.Thread):
    """Sends the cancel of a call when the worker's thread is at its step, and a ping: that is
    answered when the cancel was seen, by another thread. `line` is what it said of the step."""

    def __init__(self, worker: Worker, id: int) -> None:
        super().__init__()
        self.worker = worker
        self.id = id
        self.line = ""

    def run(self) -> None:
        self.line = self.worker.stdout.line()
        if self.line == "at it":
            self.worker.send(messages.cancel(self.id), messages.ping(1))

    def __enter__(self) -> Cancel:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join()
