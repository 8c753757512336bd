"""How many calls each worker has started, in shared memory.

A worker adds one to its slot just before it starts a call, so the count is right whatever kills
the worker, and whenever. The memory has no name: it is gone with the last process that has it.
"""

from __future__ import annotations

import mmap
import os
import tempfile

#: Slots of a pool, three times as many as `pool_size` and `max_surge` can have it have workers:
#: those that were killed and are not gone have theirs, too. Untouched pages take no memory.
SLOTS = 65536

_SLOT_BYTES = 8


class Ledger:
    """That of one pool.

    Raises `OSError`, and holds nothing then, where there are no descriptors for it.
    """

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self.fd = os.memfd_create("snakepit-port-ledger", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                self.fd = os.dup(file.fileno())
        try:
            os.ftruncate(self.fd, SLOTS * _SLOT_BYTES)
            # Which takes another descriptor.
            self._map = mmap.mmap(self.fd, SLOTS * _SLOT_BYTES)
        except BaseException:
            os.close(self.fd)
            raise
        self._counts = memoryview(self._map).cast("Q")
        self._free: list[int] = []
        self._used = 0

    def take(self) -> int:
        """A slot for a new worker, set to zero."""
        if self._free:
            slot = self._free.pop()
        else:
            slot, self._used = self._used, self._used + 1
        self._counts[slot] = 0
        return slot

    def give_back(self, slot: int) -> None:
        """The slot of a worker that can no longer write to it."""
        self._free.append(slot)

    def started(self, slot: int) -> int:
        """How many calls the worker of this slot has started."""
        return self._counts[slot]

    def close(self) -> None:
        self._counts.release()
        self._map.close()
        os.close(self.fd)
