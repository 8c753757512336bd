"""How much memory a process has to itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Generic, TypeVar

from snakepit_port.supervisor.pump import READ, Pump

_Key = TypeVar("_Key")


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
    own = private_bytes(pid)
    if own is None:
        return None
    return own + sum(private_bytes_of_all(child) or 0 for child in _children(pid))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    # Without CONFIG_PROC_CHILDREN there is no such file; and a thread may end meanwhile.
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    return found


class Sampler(Generic[_Key]):
    """Measures processes and their children in a thread of its own: the kernel walks all their
    pages for it, 25 ms for each GiB, and calls must not wait for that.

    `measured(key, bytes)` is called by the pump for each `measure(key, pid)` of a process that was
    still there. While one is being measured, it is not measured again.
    """

    def __init__(self, pump: Pump, measured: Callable[[_Key, int], None]) -> None:
        self._pump = pump
        self._measured = measured
        self._asked: set[_Key] = set()
        self._todo: SimpleQueue[tuple[_Key, int] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[_Key, int | None]] = SimpleQueue()
        self._woken, self._wake = os.pipe()
        pump.watch(self._woken, READ, self._ready)
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self._thread.start()

    def measure(self, key: _Key, pid: int) -> None:
        if key not in self._asked:
            self._asked.add(key)
            self._todo.put((key, pid))

    def _run(self) -> None:
        while (task := self._todo.get()) is not None:
            key, pid = task
            self._done.put((key, private_bytes_of_all(pid)))
            os.write(self._wake, b"!")

    def _ready(self, _events: int) -> None:
        for _ in os.read(self._woken, 4096):
            key, size = self._done.get()
            self._asked.discard(key)
            if size is not None:
                self._measured(key, size)

    def close(self) -> None:
        """Returns when the measurement under way is done, if there is one."""
        self._todo.put(None)
        self._thread.join()
        self._pump.watch(self._woken, 0, self._ready)
        os.close(self._woken)
        os.close(self._wake)
