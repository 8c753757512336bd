"""Waiting awake: for what comes within moments, without going to sleep.

To put a process to sleep and wake it, mostly on another core, takes longer than many a command.
Measured with one caller on two cores: a call took half the time when the supervisor stayed awake
for it, and a third when its worker did too. The BEAM's schedulers do the same (`+sbwt`).

Whoever else could run has the processor meanwhile (sched_yield), and it is done only as long as it
is worth it: where nothing comes, one wait in seventeen is spent like this.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import Any, Callable

_give_way: Callable[[], Any] = getattr(os, "sched_yield", lambda: None)

#: A wait is spent awake where there is credit for it. One in vain costs 1, a successful one earns
#: `_GAIN`, one that was not spent awake earns `_REGAIN`, and there is `_MOST` of it at most.
_GAIN, _REGAIN, _MOST = 2.0, 1 / 16, 8.0


class Vigil:
    """Waits for `seconds` at most."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._credit = _MOST

    def keep(self, poll: Callable[[int], list[Any]]) -> list[Any]:
        """What `poll(0)` returns as soon as that is something, or an empty list."""
        ready = poll(0)
        if ready:
            return ready
        if self._credit < 1:
            self._credit += _REGAIN
            return ready
        until = perf_counter() + self._seconds
        while perf_counter() < until:
            _give_way()
            ready = poll(0)
            if ready:
                self._credit = min(self._credit + _GAIN, _MOST)
                return ready
        self._credit -= 1
        return ready
