"""One task that waits for every descriptor.

All of the supervisor's work happens between two waits of this task, without interruption: what has
arrived on any descriptor is read and decided on, then each destination is written to once. So
nothing here needs a lock, and a burst of frames costs one wake-up.

The descriptors sit in a selector of their own (epoll, kqueue), and Trio waits for the selector: a
wake-up costs the same however many idle workers there are.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import Protocol

import trio

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Flushable(Protocol):
    def flush(self) -> None:
        """Write what is waiting, as far as the descriptor takes it."""


class Pump:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._dirty: dict[Flushable, None] = {}
        self._scope: trio.CancelScope | None = None

    def watch(self, fd: int, events: int, ready: Callable[[int], None]) -> None:
        """Have `ready(events)` called whenever `fd` is; no events: no longer.

        Raises `PermissionError` for a descriptor that cannot be waited for, such as a file's.
        """
        known = fd in self._selector.get_map()
        if not events:
            if known:
                self._selector.unregister(fd)
        elif known:
            self._selector.modify(fd, events, ready)
        else:
            self._selector.register(fd, events, ready)

    def flush_soon(self, link: Flushable) -> None:
        """Call `link.flush()` when everything that has arrived is dealt with."""
        self._dirty[link] = None

    def flush(self) -> None:
        while self._dirty:
            dirty, self._dirty = self._dirty, {}
            for link in dirty:
                link.flush()

    async def turn(self, deadline: float) -> None:
        """Wait until a descriptor is ready or until `deadline`, and deal with what arrived.

        Cancelled, it has read nothing.
        """
        self.flush()
        with trio.CancelScope(deadline=deadline) as self._scope:
            await trio.lowlevel.wait_readable(self._selector.fileno())
        for key, events in self._selector.select(0):
            # A callback may have taken away a descriptor that was ready in the same turn.
            if key.fd in self._selector.get_map():
                key.data(events)

    def wake(self) -> None:
        """End the wait of `turn`: something has happened elsewhere."""
        if self._scope is not None:
            self._scope.cancel()

    def close(self) -> None:
        self._selector.close()
