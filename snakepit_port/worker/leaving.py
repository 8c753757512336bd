"""How a worker's process ends."""

from __future__ import annotations

import atexit
import os
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


def leave(status: int) -> NoReturn:
    """End this process, after what user code registered with `atexit`."""
    with suppress(BaseException):
        atexit._run_exitfuncs()
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
