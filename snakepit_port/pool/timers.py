"""What is due when: entries that can be cancelled without being searched for."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

#: due, tie-breaker, action (None once cancelled), argument
Timer = list[Any]

#: Fewer entries than this are not worth tidying.
_TIDY_FROM = 64


class Timers:
    """Nearly every call has a deadline and nearly none is reached, so cancelling is the common
    case. And most calls of a pool have the same time to go, so most entries are due after all that
    are there: these wait in a line, to which adding is cheap, the others in a heap.

    A cancelled entry stays until it is due, or until more than half of all are cancelled, whichever
    comes first. Memory is bounded by the live entries, and the cost is constant per entry on
    average.
    """

    def __init__(self) -> None:
        self._line: deque[Timer] = deque()
        self._heap: list[Timer] = []
        self._sequence = 0
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._line) + len(self._heap) - self._cancelled

    def at(self, due: float, action: Callable[..., None], argument: Any = None) -> Timer:
        """Have `action(argument, now)` run at `due`; the result is for `cancel`."""
        self._sequence += 1
        timer = [due, self._sequence, action, argument]
        line = self._line
        if not line or line[-1][0] <= due:
            line.append(timer)
        else:
            heapq.heappush(self._heap, timer)
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Cancelling what has run, was cancelled, or is None does nothing."""
        if timer is None or timer[2] is None:
            return
        timer[2] = timer[3] = None
        line = self._line
        # The first and the last one go at once: the last, so that nothing has to queue behind one
        # that was due late and is over.
        if line and line[0] is timer:
            line.popleft()
        elif line and line[-1] is timer:
            line.pop()
        else:
            self._cancelled += 1
            if _TIDY_FROM < len(line) + len(self._heap) < self._cancelled * 2:
                self._tidy()

    def _tidy(self) -> None:
        self._line = deque(timer for timer in self._line if timer[2] is not None)
        self._heap = [timer for timer in self._heap if timer[2] is not None]
        heapq.heapify(self._heap)
        self._cancelled = 0

    def _next(self) -> Timer | None:
        """The first live entry."""
        line, heap = self._line, self._heap
        while line and line[0][2] is None:
            line.popleft()
            self._cancelled -= 1
        while heap and heap[0][2] is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        if line and heap:
            return min(line[0], heap[0])
        return line[0] if line else heap[0] if heap else None

    @property
    def next_due(self) -> float | None:
        """When the first live entry is due, or None."""
        first = self._next()
        return None if first is None else first[0]

    def due(self, now: float) -> Iterator[tuple[Callable[..., None], Any]]:
        """Take out, first due first, what is due by `now`. What runs in between may set and cancel
        others."""
        while True:
            timer = self._next()
            if timer is None or timer[0] > now:
                return
            if self._line and self._line[0] is timer:
                self._line.popleft()
            else:
                heapq.heappop(self._heap)
            action, argument = timer[2], timer[3]
            timer[2] = timer[3] = None
            yield action, argument
