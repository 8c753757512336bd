"""Which workers have more memory than they may."""

from __future__ import annotations

from typing import Any

from snakepit_port.pool.effects import Measure
from snakepit_port.pool.record import MIB, Record
from snakepit_port.pool.recycling import Recycling
from snakepit_port.pool.roster import Roster
from snakepit_port.pool.standing import Standing
from snakepit_port.pool.timers import Timer
from snakepit_port.pool.worker import READY, Fate, Worker, WorkerState


class Memory:
    """Measured every `memory_check_interval`, where a limit is set: past `memory_threshold_mb` a
    worker is recycled, past `memory_limit_mb` it is killed at once."""

    def __init__(
        self, record: Record, roster: Roster, recycling: Recycling, standing: Standing
    ) -> None:
        self._record = record
        self._roster = roster
        self._recycling = recycling
        self._standing = standing
        self._timer: Timer | None = None

    def watch(self, now: float) -> None:
        """There is a worker to measure."""
        watches = self._record.settings.watches_memory and not self._standing.is_stopping
        if watches and self._timer is None:
            self._measure_all(None, now)

    def reconfigure(self, now: float) -> None:
        """The settings have changed."""
        self.stop()
        self.watch(now)

    def stop(self) -> None:
        """Measure none any more."""
        self._record.timers.cancel(self._timer)
        self._timer = None

    def _measure_all(self, _: None, now: float) -> None:
        for worker in self._roster.in_state(READY, WorkerState.DRAINING):
            self._record.effects.append(Measure(worker))
        due = now + self._record.settings.memory_check_interval
        self._timer = self._record.timers.at(due, self._measure_all)

    def measured(self, worker: Worker, size: int, now: float) -> None:
        """A worker and its children have `size` bytes of memory to themselves."""
        limit = self._record.settings.memory_limit_mb
        worker.memory = size
        if size >= limit * MIB:
            worker.memory_limit = int(limit * MIB)
            why = (
                f"used {size // MIB} MiB of memory, over memory_limit_mb ({limit}), and was killed"
            )
            self._roster.kill(worker, Fate.MEMORY_LIMIT, why)
        elif size >= worker.memory_threshold:
            self._recycling.mark([worker], "memory_threshold", now)

    def refuse_if_too_large(self, worker: Worker, size: int) -> bool:
        """Kill a worker that has just loaded its adapter if it, with its children, has so many
        bytes to itself that it is past a limit already: it would be replaced at once, and so would
        its successors, for ever. Returns whether it was killed."""
        worker.memory = worker.memory_at_first = size
        for setting in ("memory_threshold_mb", "memory_limit_mb"):
            limit = getattr(self._record.settings, setting)
            if size >= limit * MIB:
                worker.verdict = self._verdict(setting, limit, size)
                self._roster.kill(worker, Fate.TOO_LARGE)
                return True
        return False

    def _verdict(self, setting: str, limit: float, size: int) -> dict[str, Any]:
        name = self._record.name
        message = (
            f"{setting} of pool {name!r} is {limit}, but a worker that has done nothing yet has"
            f" {size / MIB:.1f} MiB to itself, its children included; raise it above that"
        )
        return {"type": "pool_unavailable", "message": message, "pool": name}
