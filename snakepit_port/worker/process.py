"""How a worker's process begins."""

from __future__ import annotations

import faulthandler
import io
import mmap
import os
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

from snakepit_port.worker import linux
from snakepit_port.worker.hello import run
from snakepit_port.worker.leaving import end_executors, leave
from snakepit_port.worker.stacks import tell_stacks


def main(channel_fd: int, ledger_fd: int, stacks_fd: int, slot: int, parent: int) -> NoReturn:
    """A worker that was executed afresh (`start_method` spawn)."""
    linux.die_with_parent(parent)
    prepare_output()
    live(channel_fd, ledger_fd, stacks_fd, slot)


def prepare_output() -> None:
    """Before anybody gets hold of `sys.stdout`, as user code does when it is imported.

    Lines, so that they reach the logs when they are printed; and a character that has no encoding
    is no reason to fail.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def hold_standard_descriptors() -> None:
    """See to it that 0, 1 and 2 are there, whoever closed them: what is opened next would be taken
    for them, the ledger for stderr, say."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


#: From Python 3.14 on the interpreter's own stack would follow, and be all that is left of the last
#: words.
_PYTHON_ONLY: dict[str, Any] = {"c_stack": False} if sys.version_info >= (3, 14) else {}


def live(channel_fd: int, ledger_fd: int, stacks_fd: int, slot: int) -> NoReturn:
    """Be a worker until the channel ends."""
    status = os.EX_SOFTWARE
    worker = os.getpid()
    linux.stand_back(True)
    try:
        # A terminal's ^C is for the supervisor, which then ends its workers in good order.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        faulthandler.enable(file=2, **_PYTHON_ONLY)
        tell_stacks(stacks_fd)
        os.set_inheritable(channel_fd, False)
        ledger = _map(ledger_fd)
        os.close(ledger_fd)
        channel = socket.socket(fileno=channel_fd)
        # Whatever the default is that somebody has set before.
        channel.settimeout(None)
        status = run(channel, ledger, slot)
    except BaseException:
        traceback.print_exc()
    finally:
        # In a child that a command has forked they are its parent's.
        if os.getpid() == worker:
            end_executors()
        leave(status)


def _map(ledger_fd: int) -> memoryview:
    """The pool's counters of started calls, shared with the supervisor."""
    return memoryview(mmap.mmap(ledger_fd, os.fstat(ledger_fd).st_size)).cast("Q")
