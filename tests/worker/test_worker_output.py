"""What a worker prints, and what it reads."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from kinds import one_at_a_time
from worker_driver import Start, Starter, Worker


def test_each_worker_prints_for_itself_and_never_into_its_channel(start: Start) -> None:
    one, other = start().ready(), start().ready()
    one.call("say", "out of one", "err of one")
    other.call("say", "out of the other", "err of the other")
    assert (one.stdout.line(), one.stderr.line()) == ("out of one", "err of one")
    assert (other.stdout.line(), other.stderr.line()) == ("out of the other", "err of the other")
    assert one.call("add", 1, 2) == 3


def test_what_does_not_go_through_sys_stdout_is_caught_as_well(worker: Worker) -> None:
    worker.call("say_from_below")
    assert {worker.stdout.line() for _ in range(3)} == {"written", "echoed", "printed"}
    assert worker.call("add", 1, 2) == 3


def test_lines_come_when_they_are_printed(worker: Worker) -> None:
    id = worker.begin("busy")
    assert worker.stdout.line() == "in"
    worker.interrupt(id)
    assert worker.failure_of(id)["type"] == "cancelled"


def test_text_without_an_encoding_is_printed_all_the_same(starter: Starter) -> None:
    for coding in ("ascii", "utf-8"):
        other = Starter(starter.start_method, env={"PYTHONIOENCODING": coding})
        with other, other.start() as worker:
            worker.ready().call("say_surrogate")
            assert worker.stdout.line() == "\\udcff é"


def test_a_partial_line_is_not_lost_at_the_end(worker: Worker) -> None:
    worker.call("say_partly", "no newline")
    worker.hang_up()
    assert worker.stdout.rest() == "no newline"


def test_whoever_holds_stdout_since_it_was_preloaded_prints_lines_too(tmp_path: Path) -> None:
    """As a handler of `logging` does that was set up when a module was imported."""
    text = (
        "import sys\nfrom snakepit_port.adapter import command\nheld = sys.stdout\n"
        "@command\ndef log(line):\n    held.write(line + '\\n')\n"
    )
    (tmp_path / "logs.py").write_text(text, encoding="utf-8")
    starter = Starter(preload=("logs",), python_path=(str(tmp_path),))
    with starter, starter.start(adapter="logs") as worker:
        worker.ready().call("log", "held")
        assert worker.stdout.line() == "held"


def test_stdin_is_empty(worker: Worker) -> None:
    assert worker.call("read_stdin") == ""


@one_at_a_time
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_leaves_its_stack(worker: Worker, number: int) -> None:
    worker.begin("kill_myself", number)
    text = worker.stderr.rest()
    assert "Fatal Python error" in text
    assert "in kill_myself" in text
    assert os.WTERMSIG(worker.exited()) == number


def test_a_worker_that_breaks_says_why(worker: Worker) -> None:
    worker.begin("close_descriptors")
    text = worker.stderr.rest()
    assert "Traceback" in text
    assert "Bad file descriptor" in text
    assert os.waitstatus_to_exitcode(worker.exited()) == 70
