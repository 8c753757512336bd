"""What every thread of a worker is at, told from outside and whatever the worker does.

Two signals ask for it, and both have the stacks written to a pipe of the supervisor's, and then the
number of the second, a byte that no stack has in it.

SIGNAL is handled by Python, in the main thread and between two steps of what runs there: nothing
moves that is looked at. FROM_C is for a worker that does not answer, because a command holds the
interpreter or waits in C: `faulthandler` writes, and passes the signal on to Python's own handler
in C, which writes its number to the "wakeup" descriptor, here the same pipe. That is not asked for
otherwise: it looks at frames that may be changing, and then ends the worker by SIGSEGV (of 1,000
times with threads that call functions all the time it did 6, with Python 3.11 and 3.12). For the
same reason it looks only at the main thread, which is what does not answer, unless commands run on
others.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

from snakepit_port.worker import gil
from snakepit_port.worker.spare_frames import with_spare_frames

#: Ignored by a process that does not handle it, so it may come before one is told how to, and to a
#: program that took the process over. Nobody resizes a worker's window.
SIGNAL = signal.SIGWINCH

#: Ignored by every process that Python runs in, from its beginning, and so before one is told how
#: to handle it.
FROM_C = signal.SIGXFSZ

_END = bytes([FROM_C])

#: As `faulthandler` has it.
_MAX_FRAMES = 100

#: Characters of all stacks together. The supervisor keeps twice as much.
_MAX_CHARS = 1024 * 1024

#: Characters of the name of a file, function or thread.
_MAX_NAME_CHARS = 500

#: Where stacks are written to, once there is somebody who reads them; and without ever waiting.
_pipe = _never_waits = -1


def tell_stacks(fd: int) -> None:
    """Write stacks to this pipe from now on. If user code takes the wakeup descriptor for itself,
    as asyncio does, of what is written from C only the end is missing."""
    global _pipe, _never_waits
    os.set_inheritable(fd, False)
    # Waits for the supervisor to read, where a pipe can be opened again (Linux); the number of a
    # signal never waits.
    try:
        _pipe = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        _pipe = fd
    os.set_blocking(fd, False)
    _never_waits = fd
    signal.signal(SIGNAL, _asked)
    signal.signal(FROM_C, lambda *_: None)
    signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    tell_from_c(all_threads=False)


def tell_from_c(*, all_threads: bool) -> None:
    """With `all_threads` commands run on others than the main thread, and if that does not answer,
    it is because one of them holds the interpreter, and so all the others."""
    faulthandler.register(FROM_C, file=_pipe, all_threads=all_threads, chain=True)


def forget() -> None:
    """In a child that this process has forked: the pipe is not for its stacks."""
    with suppress(ValueError):
        signal.signal(SIGNAL, signal.SIG_IGN)
    faulthandler.unregister(FROM_C)


def _asked(_signum: int, frame: FrameType | None) -> None:
    """What is raised here is raised in the command. What handlers of other signals raise meanwhile
    has to be, an interrupt or a time limit of the command's own; but not what goes wrong here: then
    C code is asked."""
    try:
        _write(frame)
    except Exception as exc:
        # No function is called for that: the command may be as deep as it can.
        trace = exc.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        if trace is None or trace.tb_frame.f_code.co_filename != __file__:
            raise
        if type(exc) is not RecursionError:
            return
    else:
        return
    with suppress(RecursionError, MemoryError):
        with_spare_frames(lambda: _write(frame))


def _write(frame: FrameType | None) -> None:
    data = "\n".join(_stacks(frame)).encode() + b"\n" + _END
    try:
        while data:
            data = data[os.write(_pipe, data) :]
    except BaseException:
        # The command was interrupted: this is all that is told.
        with suppress(OSError):
            os.write(_never_waits, _END)
        raise


def _stacks(interrupted: FrameType | None) -> Iterator[str]:
    """The stack of each thread, this one's from where it was interrupted."""
    frames: dict[int, FrameType | None] = {**sys._current_frames()}
    here = threading.get_ident()
    frames[here] = interrupted
    # Not `threading.enumerate`: the lock that it takes may be held by what was interrupted.
    known: dict[int, Any] = dict(getattr(threading, "_active", {}))
    size = 0
    for place, (ident, frame) in enumerate(frames.items()):
        if size > _MAX_CHARS:
            yield f"and {len(frames) - place} more threads"
            return
        thread = known.get(ident)
        name = "" if thread is None else f" [{_printable(str(thread._name))}]"
        if ident == here or gil.is_enabled() or _sleeps(thread):
            lines = list(_lines(frame))
        else:
            # Nothing can hold it, and to look at frames that come and go may end the process.
            lines = ["  it runs, without a GIL, and cannot be looked at meanwhile"]
        stack = "\n".join([f"Thread 0x{ident:016x}{name} (most recent call first):", *lines])
        size += len(stack)
        yield stack


def _lines(frame: FrameType | None) -> Iterator[str]:
    for _ in range(_MAX_FRAMES):
        if frame is None:
            return
        file, name = _printable(frame.f_code.co_filename), _printable(frame.f_code.co_name)
        yield f'  File "{file}", line {frame.f_lineno} in {name}'
        frame = frame.f_back
    yield "  ..."


def _printable(text: str) -> str:
    return ascii(text[:_MAX_NAME_CHARS])[1:-1]


def _sleeps(thread: Any) -> bool:
    """Whether a thread waits in the kernel, where its frames are still."""
    before = _state(thread)
    return before is not None and before == _state(thread)


def _state(thread: Any) -> str | None:
    """How often a thread that sleeps has gone to sleep; None if it does not, or nobody knows."""
    try:
        with open(f"/proc/self/task/{thread.native_id}/status", encoding="ascii") as file:
            status = file.read()
    except (OSError, AttributeError, UnicodeError):
        return None
    sleeps = "\nState:\tS" in status
    return status[status.index("\nvoluntary_ctxt_switches") :] if sleeps else None
