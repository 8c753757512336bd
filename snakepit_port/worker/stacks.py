"""What every thread of a worker is at, told from outside and whatever the worker does.

SIGNAL has C code write the stacks to a pipe of the supervisor's (`faulthandler`), also while a
command holds the interpreter. It passes the signal on to Python's own handler in C, which writes
the signal's number to its "wakeup" descriptor, here the same pipe: a byte that no stack has in it,
and so their end.
"""

from __future__ import annotations

import faulthandler
import os
import signal

#: Ignored by a process that does not handle it, so it may come before one is told how to, and to a
#: program that took the process over. Nobody resizes a worker's window.
SIGNAL = signal.SIGWINCH


def tell_stacks(fd: int) -> None:
    """Write stacks to this pipe from now on. If user code takes the wakeup descriptor for itself,
    as asyncio does, only the end is missing."""
    os.set_inheritable(fd, False)
    # Waits for the supervisor to read, where a pipe can be opened again (Linux); the number of a
    # signal never waits.
    try:
        waiting = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        waiting = fd
    os.set_blocking(fd, False)
    signal.signal(SIGNAL, lambda *_: None)
    signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    faulthandler.register(SIGNAL, file=waiting, all_threads=True, chain=True)
