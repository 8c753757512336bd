"""Waiting for what comes on a descriptor, in which no signal is missed.

Python runs handlers between its steps. A signal that comes after the last look at that and just
before a wait in C does not end the wait, and its handler would run when something else comes, if
ever: a time limit of the command's own, say. So the kernel's handler is given a pipe to write to
(`signal.set_wakeup_fd`), and that is waited for as well.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from contextlib import suppress


class Waiting:
    """For the main thread, which alone runs handlers."""

    def __init__(self, channel: socket.socket) -> None:
        self._woken, self._wake = os.pipe()
        for fd in (self._woken, self._wake):
            os.set_blocking(fd, False)
        poller = select.poll()
        poller.register(channel, select.POLLIN)
        poller.register(self._woken, select.POLLIN)
        self._poll = poller.poll
        #: Whose the signals are outside of this: asyncio's, say, or those who read stacks.
        self._others = signal.set_wakeup_fd(-1)
        self._give_back()

    def wait(self) -> None:
        """Returns when there is something to read, or a handler has run. What that raises is raised
        here, and nothing is lost."""
        others = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        # Its own, if what a handler raised has kept it from giving it back.
        if others != self._wake:
            self._others = others
        try:
            self._poll()
        finally:
            self._give_back()

    def _give_back(self) -> None:
        others = self._others
        signal.set_wakeup_fd(others, warn_on_full_buffer=False)
        # Nothing wider: a `TimeoutError`, which a handler may raise here as well, is an `OSError`.
        with suppress(BlockingIOError):
            came = os.read(self._woken, 4096)
            if others >= 0:
                os.write(others, came)

    def close(self) -> None:
        """In a forked child, which waits for nobody."""
        for fd in (self._woken, self._wake):
            os.close(fd)
