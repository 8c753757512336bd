"""How a worker's process begins and ends."""

from __future__ import annotations

import atexit
import faulthandler
import io
import mmap
import os
import signal
import socket
import sys
from contextlib import suppress

from snakepit_port.worker import linux
from snakepit_port.worker.runtime import Runtime


def main(channel_fd: int, ledger_fd: int, slot: int, parent: int) -> int:
    """A worker that was executed afresh (`start_method` spawn)."""
    linux.die_with_parent(parent)
    os.set_inheritable(channel_fd, False)
    ledger = map_ledger(ledger_fd)
    os.close(ledger_fd)
    status = 70
    try:
        status = serve(channel_fd, ledger, slot)
    finally:
        leave(status)
    return status


def map_ledger(fd: int) -> memoryview:
    """The pool's counters of started calls, shared with the supervisor."""
    return memoryview(mmap.mmap(fd, os.fstat(fd).st_size)).cast("Q")


def serve(channel_fd: int, ledger: memoryview, slot: int) -> int:
    """Be a worker until the channel ends; returns the exit status."""
    # A terminal's ^C is for the supervisor, which then ends its workers in good order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name, fd in (("stdout", 1), ("stderr", 2)):
        setattr(sys, name, _text(fd))
    faulthandler.enable(file=2)
    channel = socket.socket(fileno=channel_fd)
    os.register_at_fork(after_in_child=channel.close)
    return Runtime(channel, ledger, slot).run()


def _text(fd: int) -> io.TextIOWrapper:
    # Lines, so that they reach the logs when they are printed; and a character that has no
    # encoding is no reason to fail.
    return open(fd, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)


def leave(status: int) -> None:
    """End this process, after what user code registered with `atexit`."""
    with suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    # Not `sys.exit`: a forked worker stands on its starter's stack.
    os._exit(status)
