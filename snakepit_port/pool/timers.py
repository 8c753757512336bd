"""What is due when: a heap whose entries can be cancelled without being searched for."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any

#: due, tie-breaker, action (None once cancelled), argument
Timer = list[Any]

#: Heaps smaller than this are not worth tidying.
_TIDY_FROM = 64


class Timers:
    """Nearly every call has a deadline and nearly none is reached, so cancelling is the common
    case: a cancelled entry stays in the heap until it is due or until more than half of the heap is
    cancelled, whichever comes first. Memory is bounded by the live entries, and the cost is
    constant per entry on average.
    """

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._sequence = 0
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def at(self, due: float, action: Callable[..., None], argument: Any = None) -> Timer:
        """Have `action(argument, now)` run at `due`; the result is for `cancel`."""
        self._sequence += 1
        timer = [due, self._sequence, action, argument]
        heapq.heappush(self._heap, timer)
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Cancelling what has run, was cancelled, or is None does nothing."""
        if timer is None or timer[2] is None:
            return
        timer[2] = timer[3] = None
        self._cancelled += 1
        if self._cancelled * 2 > len(self._heap) > _TIDY_FROM:
            self._heap = [timer for timer in self._heap if timer[2] is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    @property
    def next_due(self) -> float | None:
        """When the first live entry is due, or None."""
        heap = self._heap
        while heap and heap[0][2] is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def due(self, now: float) -> Iterator[tuple[Callable[..., None], Any]]:
        """Take out, first due first, what is due by `now`. What runs in between may set and cancel
        others."""
        while True:
            next_due = self.next_due
            if next_due is None or next_due > now:
                return
            timer = heapq.heappop(self._heap)
            action, argument = timer[2], timer[3]
            timer[2] = timer[3] = None
            yield action, argument
