"""Measuring how much memory processes have to themselves, beside everything else."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from queue import SimpleQueue

from snakepit_port.processes import private_bytes_of_all
from snakepit_port.supervisor.pump import READ, Pump


class Sampler:
    """Measures processes and their children in a thread of its own: the kernel walks all their
    pages for it, 25 ms for each GiB, and calls must not wait for that.

    The thread and its pipe are there from the first `measure` on.
    """

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        #: Who wants to know, by process: what is asked for twice is measured once.
        self._asked: dict[int, list[Callable[[int | None], None]]] = {}
        self._todo: SimpleQueue[int] = SimpleQueue()
        self._done: SimpleQueue[tuple[int, int | None]] = SimpleQueue()
        self._woken = self._wake = -1
        self._thread: threading.Thread | None = None
        self._closing = False

    def measure(self, pid: int, told: Callable[[int | None], None]) -> None:
        """Have `told` called by the pump with the bytes, or with None where that is not known: the
        process has gone, or its system does not say.

        Where there are no means for a thread, `told` gets None at once.
        """
        if self._thread is None:
            try:
                self._start()
            except (OSError, RuntimeError):
                told(None)
                return
        waiting = self._asked.setdefault(pid, [])
        waiting.append(told)
        if len(waiting) == 1:
            self._todo.put(pid)

    def _start(self) -> None:
        with ExitStack() as undo:
            woken, wake = os.pipe()
            undo.callback(os.close, woken)
            undo.callback(os.close, wake)
            self._pump.watch(woken, READ, self._ready)
            undo.callback(self._pump.watch, woken, 0, self._ready)
            thread = threading.Thread(target=self._run, name="memory", daemon=True)
            thread.start()
            undo.pop_all()
        self._woken, self._wake, self._thread = woken, wake, thread

    def _run(self) -> None:
        while True:
            pid = self._todo.get()
            if self._closing:
                return
            try:
                size = private_bytes_of_all(pid)
            except Exception:
                # Whatever that was: who asked waits, and others are to be measured.
                size = None
            self._done.put((pid, size))
            os.write(self._wake, b"!")

    def _ready(self, _events: int) -> None:
        for _ in os.read(self._woken, 4096):
            pid, size = self._done.get()
            for told in self._asked.pop(pid):
                told(size)

    def close(self) -> None:
        """Returns when the measurement under way is done, if there is one; tells nothing more."""
        if self._thread is None:
            return
        self._closing = True
        self._todo.put(0)
        self._thread.join()
        self._pump.watch(self._woken, 0, self._ready)
        os.close(self._woken)
        os.close(self._wake)
