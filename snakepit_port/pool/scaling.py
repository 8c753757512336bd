"""How many workers there should be: as many as there is work for."""

from __future__ import annotations

import math
from collections.abc import Callable

from snakepit_port.config.model import PoolSettings
from snakepit_port.pool.draining import Draining
from snakepit_port.pool.record import Record
from snakepit_port.pool.roster import Roster
from snakepit_port.pool.timers import Timer


class Scaling:
    """`wanted` is how many there should be: `pool_size`, or down to `min_workers` while there is
    little to do. `go_on` is called when it has changed."""

    def __init__(
        self, record: Record, roster: Roster, draining: Draining, go_on: Callable[[float], None]
    ) -> None:
        self._record = record
        self._roster = roster
        self._draining = draining
        self._go_on = go_on
        self._idle_timer: Timer | None = None
        self._stopped = False
        self.wanted = record.settings.pool_size

    @property
    def _least(self) -> int:
        least, size = self._record.settings.min_workers, self._record.settings.pool_size
        return size if least == "pool_size" else min(least, size)

    @property
    def may_grow(self) -> bool:
        """Whether the pool may start one more worker for a call that waits."""
        return self.wanted < self._record.settings.pool_size and not self._stopped

    def call_waits(self, now: float) -> None:
        """A call found no worker: have one more, if there may be."""
        if self.may_grow:
            self.wanted += 1
            self._go_on(now)

    def watch_idle(self, now: float) -> None:
        """After a change among the workers: look for idle ones, if some may go and none is looked
        for already."""
        timeout = self._record.settings.idle_timeout
        if self.wanted > self._least and timeout != math.inf and self._idle_timer is None:
            longest = self._roster.longest_idle
            due = now + timeout if longest is None else longest.busy_since + timeout
            # One that is due already stays for a reason: another look will do.
            due = due if due > now else now + timeout
            self._idle_timer = self._record.timers.at(due, self._look_for_idle)

    def _look_for_idle(self, _: None, now: float) -> None:
        self._idle_timer = None
        longest = self._roster.longest_idle
        while (
            longest is not None
            and longest.busy_since + self._record.settings.idle_timeout <= now
            and self._least < self.wanted <= self._roster.serving()
        ):
            self.wanted -= 1
            if longest.recycled_for is None:
                longest.recycled_for = "idle"
            self._draining.drain(longest, now)
            longest = self._roster.longest_idle
        self._go_on(now)

    def reconfigure(self, before: PoolSettings) -> None:
        """The settings have changed."""
        size = self._record.settings.pool_size
        was_full = self.wanted == before.pool_size
        self.wanted = size if was_full else max(self._least, min(self.wanted, size))
        self._forget_idle()

    def stop(self) -> None:
        """Want no more, and let none go for having nothing to do."""
        self._stopped = True
        self._forget_idle()

    def _forget_idle(self) -> None:
        self._record.timers.cancel(self._idle_timer)
        self._idle_timer = None
