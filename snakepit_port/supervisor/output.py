"""What workers print, line by line.

A line that begins with `<N>` says its level itself, as programs under systemd do (sd-daemon(3)); so
do records of `logging` that go through `snakepit_port.logs`.
"""

from __future__ import annotations

import codecs
import os
from collections import deque
from collections.abc import Callable

from snakepit_port.supervisor.pump import READ, Pump

#: A longer line is cut: SPEC section 10.
MAX_LINE_BYTES = 16 * 1024

#: A line that is not over yet is surely cut if it has more: its level and its end do not count.
_MAX_RAW_BYTES = MAX_LINE_BYTES + len(b"<3>\r")

#: Lines kept to tell what a worker said before it died.
TAIL_LINES = 40

#: How Python begins to tell of a signal that ends it. The stacks of all threads follow.
_FATAL = "Fatal Python error: "

#: Bytes read in a turn. Each may be a line, which takes a frame: 64 KiB of them, from each worker
#: that prints, would hold up every call for half a second.
_READ_BYTES = 4 * 1024

#: Bytes read in one go of what is left: all that a pipe holds.
_READ_REST_BYTES = 64 * 1024


#: Levels of syslog(3) by their digits, as the host knows them.
_SYSLOG = dict(zip(b"01234567", ("error",) * 4 + ("warning", "info", "info", "debug"), strict=True))

#: Levels of what has nothing to do with an end, where a line says its level itself.
_UNSUSPICIOUS = ("info", "debug")


class Output:
    """One end of a pipe that a worker writes text to. The pipe is closed when its last writer is
    gone, or by `close`. `line` is called with each level, `level` where a line says none, and each
    line."""

    def __init__(self, pump: Pump, fd: int, level: str, line: Callable[[str, str], None]) -> None:
        self._pump = pump
        self._fd = fd
        self._level = level
        self._line = line
        self._partial = b""
        self._cut = False
        self._open = True
        #: The last lines, but for those that say that they are of no concern.
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        #: The line by which Python told why it ends, if it did.
        self.fatal: str | None = None
        os.set_blocking(fd, False)
        pump.watch(fd, READ, self._ready)

    def pause(self, paused: bool) -> None:
        if self._open:
            self._pump.watch(self._fd, 0 if paused else READ, self._ready)

    def close(self) -> None:
        """Take what is in the pipe, however long other processes keep it open, and let go."""
        for _ in range(64):
            if not self._read(_READ_REST_BYTES):
                break
        self._shut()

    def _ready(self, _events: int) -> None:
        self._read(_READ_BYTES)

    def _read(self, size: int) -> bool:
        if not self._open:
            return False
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return False
        if not data:
            self._shut()
            return False
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._say(line)
            self._cut = False
        if len(self._partial) > _MAX_RAW_BYTES:
            self._say(self._partial)
            self._partial, self._cut = b"", True
        return True

    def _say(self, raw: bytes) -> None:
        """One line; of one that was cut already, the rest is dropped."""
        if self._cut:
            return
        level, says_it = self._level, False
        if raw[:1] == b"<" and raw[2:3] == b">" and raw[1] in _SYSLOG:
            level, says_it, raw = _SYSLOG[raw[1]], True, raw[3:]
        raw = raw.removesuffix(b"\r")
        is_long = len(raw) > MAX_LINE_BYTES
        # A character that the cut goes through is left out.
        text, _ = codecs.utf_8_decode(raw[:MAX_LINE_BYTES], "replace", not is_long)
        text = text.rstrip("\r") + "…" * is_long
        if not (says_it and level in _UNSUSPICIOUS):
            self.tail.append(text)
            if text.startswith(_FATAL):
                self.fatal = text
        self._line(level, text)

    def _shut(self) -> None:
        if self._open:
            self._open = False
            if self._partial:
                self._say(self._partial)
            self._pump.watch(self._fd, 0, self._ready)
            os.close(self._fd)
