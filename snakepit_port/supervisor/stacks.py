"""The stacks of workers' threads; `worker/stacks.py` is the other end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from snakepit_port.supervisor.pump import READ, Pump
from snakepit_port.worker.stacks import FROM_C, SIGNAL

#: Seconds after which a worker that has written nothing is asked again, as `Stacks.next_signal` has
#: it.
REMIND_AFTER = 0.3

#: Seconds that workers have to write their stacks. C code does it as soon as they get its signal,
#: so one that takes longer has blocked the signal, or is stopped.
PATIENCE = 1.0

#: A worker writes less.
_MAX_BYTES = 2 * 1024 * 1024

_READ_BYTES = 64 * 1024

#: The numbers of signals, which Python writes into the same pipe; only one of them is an end.
_END = bytes([FROM_C])
_OTHERS = bytes(set(range(32)) - {FROM_C} - set(b"\t\n\r"))

#: In place of the stacks of a worker that does not tell them.
SILENT = (
    f"it has told nothing within {PATIENCE:g} s: it is only starting, or is stopped, or blocks"
    f" {SIGNAL.name} and {FROM_C.name}\n"
)

#: And of one that was to go.
ENDED = "it has ended meanwhile\n"


def _readable(data: bytes) -> bytes:
    """Without the numbers of signals; nothing where there was nothing else."""
    text = data.translate(None, _OTHERS)
    return text if text.strip() else b""


class Stacks:
    """One end of the pipe that a worker writes its stacks to."""

    def __init__(self, pump: Pump, fd: int) -> None:
        self._pump = pump
        self._fd = fd
        self._text = b""
        self._told: list[Callable[[str], None]] = []
        #: How often the worker was asked.
        self._asked = 0
        #: Whether what was read last is the middle of stacks that nobody waits for.
        self._is_within = False
        self._open = True
        os.set_blocking(fd, False)
        pump.watch(fd, READ, self._ready)

    def ask(self, told: Callable[[str], None]) -> bool:
        """Have `told` called once with the stacks. Returns whether the worker has to be signalled,
        and is not writing them already."""
        self._told.append(told)
        if len(self._told) > 1:
            return False
        self._asked = 1
        return True

    def next_signal(self) -> signal.Signals:
        """What one that is silent is asked with again. A signal that comes just before its main
        thread waits in C does not end that wait, for Python looks before: a second one does. After
        that C code is asked."""
        self._asked += 1
        return SIGNAL if self._asked == 2 else FROM_C

    @property
    def is_silent(self) -> bool:
        """Whether the worker was asked, and has written nothing."""
        return bool(self._told) and not _readable(self._text)

    def give_up(self) -> None:
        """Tell what there is."""
        self._is_within = self._is_within or bool(_readable(self._text))
        self._tell(SILENT)

    def _tell(self, otherwise: str) -> None:
        told, self._told = self._told, []
        text, self._text = _readable(self._text).decode(errors="replace"), b""
        for tell in told:
            tell(text or otherwise)

    def close(self) -> None:
        if self._open:
            self._shut()
            self._tell(ENDED)

    def _shut(self) -> None:
        self._open = False
        self._pump.watch(self._fd, 0, self._ready)
        os.close(self._fd)

    def _ready(self, _events: int) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        if self._is_within:
            _, end, data = data.partition(_END)
            self._is_within = not end
        if self._told:
            text, end, data = data.partition(_END)
            self._text += text[: _MAX_BYTES - len(self._text)]
            if end:
                self._tell(SILENT)
        # What nobody has asked for is other signals, or late.
        late = data.rpartition(_END)[2]
        self._is_within = self._is_within or bool(_readable(late))
