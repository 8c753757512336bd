"""Commands for pools whose workers run several calls at a time."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import Any

from snakepit_port.adapter import command

thread_safe = True

_gate = threading.Condition()
_inside = 0


def say(line: str) -> None:
    """A whole line at once: `print` writes its end apart, and other threads come between."""
    os.write(1, f"{line}\n".encode())


@command
def about() -> dict[str, Any]:
    return {"pid": os.getpid(), "gil": getattr(sys, "_is_gil_enabled", lambda: True)()}


@command
def meet(n: int) -> str:
    """Waits until n calls are inside at the same time; returns the name of its thread."""
    global _inside
    with _gate:
        _inside += 1
        _gate.notify_all()
        _gate.wait_for(lambda: _inside >= n)
    return threading.current_thread().name


@command
def read(fifo: str) -> str:
    """Waits, deaf to interrupts, until somebody writes a character."""
    say("waiting")
    fd = os.open(fifo, os.O_RDONLY)
    try:
        return os.read(fd, 1).decode()
    finally:
        os.close(fd)


@command
def spin() -> None:
    say("spinning")
    while True:
        pass


@command
def hold_the_gil() -> None:
    """In C, for ever: takes a mutex twice, which no signal ends, as a thread that has the GIL."""
    say("holding")
    libc = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(128)
    for _ in range(2):
        libc.pthread_mutex_lock(mutex)


@command
def read_and_die(fifo: str) -> None:
    read(fifo)
    os.kill(os.getpid(), signal.SIGKILL)
