"""How much memory a process has to itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from queue import SimpleQueue

from snakepit_port.processes import children_of
from snakepit_port.supervisor.pump import READ, Pump


def private_bytes(pid: int) -> int | None:
    """Bytes that would be free if the process went: without the pages a forked worker shares.

    None where the system does not say (only Linux does), or when the process is gone.
    """
    total = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                # proc(5): Private_Clean, Private_Dirty and Private_Hugetlb, in kB.
                if line.startswith("Private_"):
                    total += int(line.split()[1]) * 1024
    except OSError:
        return None
    return total


def private_bytes_of_all(pid: int) -> int | None:
    """The same of a process and all its descendants; of those that are still there."""
    total = private_bytes(pid)
    if total is None:
        return None
    # Not by recursion: what a command starts may be as deep as it likes.
    found, seen = [pid], {pid}
    for parent in found:
        for child in children_of(parent):
            if child not in seen:
                seen.add(child)
                found.append(child)
                total += private_bytes(child) or 0
    return total


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
