"""How a worker's process ends."""

from __future__ import annotations

import atexit
import os
import select
import sys
import threading
import traceback
from contextlib import suppress
from typing import NoReturn


def end_executors() -> None:
    """Have pools of threads and processes finish what they have and end, which they register with
    `threading`, as Python does before it runs what is registered with `atexit`: there
    `multiprocessing` waits for processes that nobody else would tell to end."""
    for end in reversed(getattr(threading, "_threading_atexits", [])):
        with suppress(BaseException):
            end()


#: Seconds for the tracker of `multiprocessing` to do what it is for: it has a few names to remove.
#: It goes on where a child of this process has its pipe, too, and is killed then as that is.
_TRACKER_GRACE = 0.5


def end_tracker() -> None:
    """Have the process that `multiprocessing` has remember what is to be removed (semaphores,
    `SharedMemory`) remove that and end, if this one has started it. After a process of Python's own
    it does so by itself; after this one it is killed with what else is left."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    tracker = getattr(module, "_resource_tracker", None)
    fd, pid = getattr(tracker, "_fd", None), getattr(tracker, "_pid", None)
    if fd is None or pid is None or not hasattr(os, "pidfd_open"):
        return
    # Raises for one that a parent of this process has started, and for one that has ended.
    if os.waitpid(pid, os.WNOHANG) == (0, 0):
        poll = select.poll()
        poll.register(os.pidfd_open(pid), select.POLLIN)
        os.close(fd)
        poll.poll(_TRACKER_GRACE * 1000)


def leave(status: int) -> NoReturn:
    """End this process, after what user code registered with `atexit`."""
    for end in (atexit._run_exitfuncs, end_tracker):
        with suppress(BaseException):
            end()
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    # Not `sys.exit`: a forked worker stands on its starter's stack.
    os._exit(status)


def leave_as_python(exc: BaseException) -> NoReturn:
    """End a child that a command has forked, and in which it has raised this, as Python ends a
    process."""
    status = 1
    # It may have closed what it would be told on.
    with suppress(BaseException):
        if not isinstance(exc, SystemExit):
            traceback.print_exception(type(exc), exc, exc.__traceback__)
        elif exc.code is None or isinstance(exc.code, int):
            status = exc.code or 0
        elif sys.stderr is not None:
            print(exc.code, file=sys.stderr)
    leave(status & 0xFF)
