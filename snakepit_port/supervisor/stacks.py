"""The stacks of workers' threads; `worker/stacks.py` is the other end."""

from __future__ import annotations

import os
from collections.abc import Callable

from snakepit_port.supervisor.pump import READ, Pump
from snakepit_port.worker.stacks import SIGNAL

#: Seconds that workers have to write their stacks. C code does it as soon as they get the signal,
#: so one that takes longer has blocked the signal, or is stopped.
PATIENCE = 1.0

#: 100 threads with 100 frames each, which is where faulthandler ends, take less.
_MAX_BYTES = 2 * 1024 * 1024

_READ_BYTES = 64 * 1024

#: The numbers of signals, which Python writes into the same pipe; only one of them is an end.
_END = bytes([SIGNAL])
_OTHERS = bytes(set(range(32)) - {SIGNAL} - set(b"\t\n\r"))


class Stacks:
    """One end of the pipe that a worker writes its stacks to."""

    def __init__(self, pump: Pump, fd: int) -> None:
        self._pump = pump
        self._fd = fd
        self._text = b""
        self._told: list[Callable[[str], None]] = []
        self._open = True
        os.set_blocking(fd, False)
        pump.watch(fd, READ, self._ready)

    def ask(self, told: Callable[[str], None]) -> bool:
        """Have `told` called once with the stacks. Returns whether the worker has to be signalled,
        and is not writing them already."""
        self._told.append(told)
        return len(self._told) == 1

    def give_up(self) -> None:
        """Tell what there is."""
        told, self._told = self._told, []
        text, self._text = self._text.translate(None, _OTHERS).decode(errors="replace"), b""
        for tell in told:
            tell(text)

    def close(self) -> None:
        if self._open:
            self._shut()
            self.give_up()

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
        elif self._told:
            # What comes when nobody asked is other signals, or late.
            text, end, _ = data.partition(_END)
            self._text += text[: _MAX_BYTES - len(self._text)]
            if end:
                self.give_up()


class Gathering:
    """The stacks of several workers: `done` is called once with what each has told, by name."""

    def __init__(self) -> None:
        self.done: Callable[[dict[str, str]], None] | None = None
        self._asked: dict[str, Stacks] = {}
        self._texts: dict[str, str] = {}

    def ask(self, worker: str, stacks: Stacks) -> bool:
        """As `Stacks.ask`."""
        self._asked[worker] = stacks
        return stacks.ask(lambda text: self._told(worker, text))

    def _told(self, worker: str, text: str) -> None:
        del self._asked[worker]
        self._texts[worker] = text or (
            f"it has told nothing within {PATIENCE:g} s: it is only starting, or is stopped, or"
            f" blocks {SIGNAL.name}\n"
        )
        self._see()

    def begin(self, done: Callable[[dict[str, str]], None]) -> None:
        """Everybody has been asked."""
        self.done = done
        self._see()

    def _see(self) -> None:
        if not self._asked and self.done is not None:
            self.done(self._texts)
            self.done = None

    def give_up(self) -> None:
        """Wait no longer for those that have told nothing."""
        for stacks in list(self._asked.values()):
            stacks.give_up()
