"""The handler that tells stacks, in this process."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import pytest
from worker_driver import Pipe

from snakepit_port.worker import gil, stacks
from snakepit_port.worker.spare_frames import with_spare_frames

END = bytes([stacks.FROM_C])


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """What stacks are written to."""
    read, write = os.pipe()
    monkeypatch.setattr(stacks, "_pipe", write)
    monkeypatch.setattr(stacks, "_never_waits", write)
    pipe = Pipe(read)
    yield pipe
    pipe.close()
    os.close(write)


@pytest.fixture
def thread() -> Iterator[threading.Thread]:
    """One that waits, somewhere in `wait`."""
    begun, released = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        released.wait()

    thread = threading.Thread(target=wait, name="one that wäits")
    thread.start()
    begun.wait()
    yield thread
    released.set()
    thread.join()


def deep(levels: int) -> FrameType:
    return deep(levels - 1) if levels else sys._getframe()


def test_the_stack_of_each_thread_is_told_with_its_name(
    pipe: Pipe, thread: threading.Thread
) -> None:
    frame = sys._getframe()
    text = pipe.until(END, lambda: stacks._asked(stacks.SIGNAL, frame))
    assert text.endswith("\n")
    told = dict(
        stack.split(" (most recent call first):\n", 1) for stack in text.split("Thread ")[1:]
    )
    here = told[f"0x{threading.get_ident():016x} [MainThread]"].splitlines()
    name = "test_the_stack_of_each_thread_is_told_with_its_name"
    assert here[0].startswith(f'  File "{__file__}", line ')
    assert here[0].endswith(f" in {name}")
    assert " in wait\n" in told[f"0x{thread.ident:016x} [one that w\\xe4its]"]


def test_as_many_frames_are_told_as_c_code_tells() -> None:
    lines = list(stacks._lines(deep(200)))
    assert [line.rpartition(" in ")[2] for line in lines] == ["deep"] * 100 + ["  ..."]


def test_a_name_is_told_as_far_as_it_is_not_too_long() -> None:
    assert stacks._printable("a\n\N{BULLET}") == "a\\n\\u2022"
    assert stacks._printable("x" * 501) == "x" * 500


def test_of_more_threads_than_there_is_room_for_the_number_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = sys._getframe()
    monkeypatch.setattr(sys, "_current_frames", lambda: dict.fromkeys((1, 2, 3), frame))
    assert len(list(stacks._stacks(frame))) == 4
    monkeypatch.setattr(stacks, "_MAX_CHARS", 0)
    assert list(stacks._stacks(frame))[1:] == ["and 3 more threads"]


def test_without_a_gil_only_what_is_still_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, thread: threading.Thread
) -> None:
    monkeypatch.setattr(gil, "is_enabled", lambda: False)
    text = ""
    # Not before it waits.
    while " in wait\n" not in text:
        text = "".join(f"{stack}\n" for stack in stacks._stacks(sys._getframe()))
    assert "in test_without_a_gil_only_what_is_still_is_looked_at" in text
    monkeypatch.setattr(stacks, "_sleeps", lambda _: False)
    text = "".join(stacks._stacks(sys._getframe()))
    assert " in wait\n" not in text
    assert "it runs, without a GIL" in text
    assert "in test_without_a_gil_only_what_is_still_is_looked_at" in text


def test_who_runs_or_is_not_known_does_not_sleep() -> None:
    assert not stacks._sleeps(threading.current_thread())
    assert not stacks._sleeps(threading.Thread())
    assert not stacks._sleeps(None)


def test_what_goes_wrong_here_is_not_the_commands(
    monkeypatch: pytest.MonkeyPatch, pipe: Pipe
) -> None:
    monkeypatch.setattr(stacks, "_pipe", -1)
    # Nothing is told, and that there is no more.
    assert pipe.until(END, lambda: stacks._asked(stacks.SIGNAL, sys._getframe())) == ""
    monkeypatch.setattr(stacks, "_never_waits", -1)
    stacks._asked(stacks.SIGNAL, sys._getframe())


def test_what_interrupts_the_telling_is_the_commands(
    monkeypatch: pytest.MonkeyPatch, pipe: Pipe
) -> None:
    class Interrupted(BaseException): ...

    write = os.write
    told = []

    def interrupted(fd: int, data: bytes) -> int:
        told.append(data)
        if len(told) == 1:
            write(fd, data[:3])
            raise Interrupted
        return write(fd, data)

    monkeypatch.setattr(stacks.os, "write", interrupted)
    with pytest.raises(Interrupted):
        stacks._asked(stacks.SIGNAL, sys._getframe())
    assert pipe.until(END, lambda: None) == "Thr"


def test_what_other_handlers_raise_meanwhile_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def rings(_frame: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(stacks, "_write", rings)
    with pytest.raises(TimeoutError):
        stacks._asked(stacks.SIGNAL, sys._getframe())


def test_a_limit_that_another_sets_meanwhile_stays() -> None:
    limit = sys.getrecursionlimit()
    try:
        with_spare_frames(lambda: sys.setrecursionlimit(limit + 12_345))
        assert sys.getrecursionlimit() == limit + 12_345
    finally:
        sys.setrecursionlimit(limit)
    with_spare_frames(lambda: None)
    assert sys.getrecursionlimit() == limit
