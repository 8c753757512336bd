"""How far a pool is with the settings that it was given last.

Workers of before are recycled like others: successors first, a few at a time. Here is what nobody
else counts: which workers are of before, and so when the pool is *whole* on its new settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snakepit_port.pool.record import Record, milliseconds
from snakepit_port.pool.roster import Roster
from snakepit_port.pool.worker import Worker


class Reloading:
    """Tells once of each reload when the pool is whole, and once if a worker failed to start before
    that while others serve. A reload that comes meanwhile takes the place of the one before."""

    def __init__(self, record: Record, roster: Roster) -> None:
        self._record = record
        self._roster = roster
        self._began_at: float | None = None
        self._has_failed = False
        #: Workers that run with settings of before, and are to go.
        self._outdated: set[Worker] = set()

    @property
    def progress(self) -> str | None:
        """Whether the last reload has only "begun" here, or "failed" for now; None when the pool is
        whole on its settings."""
        if self._began_at is None:
            return None
        return "failed" if self._has_failed else "begun"

    def begin(self, now: float) -> None:
        """The settings have changed."""
        self._began_at = now
        self._has_failed = False

    def outdate(self) -> None:
        """Every worker there is runs with settings of before."""
        self._outdated.update(self._roster.workers.values())

    def is_outdated(self, worker: Worker) -> bool:
        return worker in self._outdated

    def forget(self, worker: Worker) -> None:
        self._outdated.discard(worker)

    def failed_to_start(self, cause: Mapping[str, Any]) -> None:
        """A worker with the settings of now could not be started; that is tried again."""
        if self._began_at is not None and not self._has_failed:
            self._has_failed = True
            # A pool that has no others becomes unavailable, and tells why.
            if self._roster.serving():
                self._record.emit("pool.reload_failed", {}, **cause)

    def see(self, wanted: int, now: float) -> None:
        """After a change among the workers, of which so many are to serve."""
        if self._began_at is None or self._outdated or self._roster.serving() != wanted:
            return
        duration = milliseconds(now - self._began_at)
        self._began_at = None
        self._record.emit("pool.reloaded", {"workers": wanted, "reload_ms": duration})
