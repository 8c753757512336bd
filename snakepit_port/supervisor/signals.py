"""The signals that end the supervisor, and that tell of a child's end, as a descriptor."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Any

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """SIGTERM, SIGINT, SIGHUP and SIGCHLD as a descriptor that becomes readable, until `ignore`:
    there is no moment at which one of them is lost, or kills. Nor are they blocked, as whoever
    started this may have had them."""

    def __init__(self) -> None:
        self.fd, self._wake = os.pipe()
        for fd in (self.fd, self._wake):
            os.set_blocking(fd, False)
        self._came: set[int] = set()
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            # Whoever started this with nohup(1) wants it to outlive a terminal.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOP_SIGNALS, signal.SIGCHLD))

    def _note(self, number: int, _frame: Any) -> None:
        self._came.add(number)
        # The pipe is full: of signals that nobody has looked at yet.
        with suppress(BlockingIOError):
            os.write(self._wake, b"!")

    def ignore(self) -> None:
        """The process is ending. Python takes its handlers back as it ends, and a signal then
        kills; one that comes while Trio ends may find Trio's descriptors closed."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def take(self) -> set[int]:
        """Those that came since it was asked last."""
        with suppress(BlockingIOError):
            os.read(self.fd, 4096)
        came, self._came = self._came, set()
        return came
