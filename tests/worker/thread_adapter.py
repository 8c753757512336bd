"""Commands that run at the same time, on threads."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import steps

from snakepit_port.adapter import CallCancelled, command, host

seen: list[str] = [json.dumps("loaded")]
_gate = threading.Condition()
_inside = 0


def say(line: str) -> None:
    """A whole line at once: `print` writes its end apart, and other threads come between."""
    os.write(1, f"{line}\n".encode())


@command
def add(a: int, b: int = 1) -> int:
    return a + b


@command
def meet(n: int) -> str:
    """Waits until n calls are inside at the same time; returns the name of its thread."""
    global _inside
    with _gate:
        _inside += 1
        _gate.notify_all()
        _gate.wait_for(lambda: _inside >= n)
    return threading.current_thread().name


def read(fifo: str) -> str:
    """A line of one character: no more, for others wait for theirs."""
    fd = os.open(fifo, os.O_RDONLY)
    try:
        return os.read(fd, 2).decode().strip()
    finally:
        os.close(fd)


@command
def wait(fifo: str) -> str:
    say("in")
    return read(fifo)


@command
def say_and_wait(what: str, fifo: str) -> str:
    say(what)
    return read(fifo)


@command
def spin(n: int) -> int:
    total = 0
    for i in range(n):
        total += i
    return total


@command
def spin_until_cancelled(what: str) -> None:
    try:
        say("in")
        while True:
            pass
    finally:
        remember(f"{what} cleaned up")


@command
def spin_and_swallow(fifo: str) -> str:
    """Goes on after it was cancelled."""
    try:
        say("in")
        while True:
            pass
    except CallCancelled:
        say("swallowed")
    for _ in range(100_000):
        pass
    return read(fifo)


@command
def remember(what: str) -> None:
    seen.append(what)


@command
def remembered() -> list[str]:
    return seen[1:]


@command
def tell(pid: object) -> None:
    host.send(pid, "one")
    host.progress(1, 2)
    host.log("three")


@command
def ask() -> None:
    return host.call("any")


@command
def counted(n: int) -> Iterator[int]:
    yield from range(n)


@command
def crash_in_c() -> None:
    import ctypes

    ctypes.string_at(0)


@command
def has_gil() -> bool:
    return getattr(sys, "_is_gil_enabled", lambda: True)()


class Safe:
    thread_safe = True
    add = staticmethod(add)
    meet = staticmethod(meet)


class SlowToExamine:
    thread_safe = True
    add = staticmethod(add)

    def __init__(self, fifo: str) -> None:
        self._fifo = fifo

    def health(self) -> None:
        say("in")
        read(self._fifo)
        say("well")

    def close(self) -> None:
        say("closed")


class Ill:
    thread_safe = True
    wait = staticmethod(wait)
    counted = staticmethod(counted)

    def health(self) -> bool:
        return False


@command
def pause_at_step(step: int, fifo: str) -> None:
    """Has this thread wait once, at that step from its end on, where it holds no lock, until
    something is in the named pipe."""

    def wait() -> None:
        say("at it")
        read(fifo)

    steps.call_at(step, wait, counts=lambda frame: not _holds_a_lock(frame))


@command
def linger(fifo: str) -> None:
    """Has this thread wait as soon as its answer is out, until something is in the named pipe."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and type(frame.f_locals.get("self")).__name__ != "_Lane":
        frame = frame.f_back
    assert frame is not None
    lane = frame.f_locals["self"]
    flush = lane._flush
    # Before its answer is out: what comes after that is there, though nobody holds the other end.
    fd = os.open(fifo, os.O_RDONLY)

    def flush_and_wait() -> None:
        lane._flush = flush
        flush()
        os.read(fd, 1)
        os.close(fd)

    lane._flush = flush_and_wait
    # So that it is out before this thread looks for another call.
    lane.out.flushed_at = 0.0


@command
def lift() -> None:
    """Says if this thread has not waited."""
    if not steps.have_passed():
        say("passed")


def _holds_a_lock(frame: FrameType | None) -> bool:
    """Or perhaps: another thread may."""
    while frame is not None:
        lane = frame.f_locals.get("self")
        if type(lane).__name__ == "Outgoing":
            return True
        if type(lane).__name__ == "_Lane" and (lane._lock.locked() or lane._arming.locked()):
            return True
        frame = frame.f_back
    return False
