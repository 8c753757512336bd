"""Which workers are replaced or let go, why, and when.

A worker that is *due* serves on until its successor is ready, and drains then. Nothing pairs a
worker with its successor: workers are counted, so whatever dies meanwhile, what is missing is
started and what is too many drains.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

from snakepit_port.config.model import PoolSettings
from snakepit_port.pool.draining import Draining
from snakepit_port.pool.record import MIB, Record
from snakepit_port.pool.roster import Roster
from snakepit_port.pool.scaling import Scaling
from snakepit_port.pool.standing import Standing
from snakepit_port.pool.starting import Starting
from snakepit_port.pool.worker import READY, Fate, Worker, WorkerState


class Recycling:
    """By age, by count of requests, by memory, by hand; and those that a pool has too many."""

    def __init__(
        self,
        record: Record,
        roster: Roster,
        starting: Starting,
        draining: Draining,
        scaling: Scaling,
        standing: Standing,
        rng: random.Random,
    ) -> None:
        self._record = record
        self._roster = roster
        self._starting = starting
        self._draining = draining
        self._scaling = scaling
        self._standing = standing
        self._rng = rng

    @property
    def _settings(self) -> PoolSettings:
        return self._record.settings

    def go_on(self, now: float) -> None:
        """After a change among the workers: drain those that have a successor, and start what is
        missing, successors included."""
        settings = self._settings
        spare = max(self._roster.serving() - self._scaling.wanted, 0)
        due = [worker for worker in self._roster.in_state(READY) if worker.recycled_for]
        # Those that have sessions come last: perhaps these end meanwhile.
        due.sort(key=lambda worker: bool(worker.sessions))
        for worker in due[:spare]:
            self._draining.drain(worker, now)
        if spare > len(due):
            self._let_go(spare - len(due), now)
        # Those that a pool has too many, since it was made smaller, take no room from successors.
        leaving = sum(
            1
            for worker in self._roster.in_state(WorkerState.DRAINING, WorkerState.STOPPING)
            if worker.is_leaving and worker.recycled_for != "resized"
        )
        successors = min(len(due[spare:]), settings.max_surge)
        # Where a reload has lowered what there may be, those that leave may be more than that.
        room = max(settings.pool_size + settings.max_surge - leaving, self._scaling.wanted)
        target = min(self._scaling.wanted + successors, room)
        self._starting.fill(target, now, is_whole=not successors)
        self._scaling.watch_idle(now)

    def _let_go(self, count: int, now: float) -> None:
        """Drain so many that serve and have no successor: those first that are due anyway, and then
        those that have the least to do."""
        serving = self._roster.in_state(READY)
        serving.sort(
            key=lambda worker: (
                worker.recycled_for is None,
                bool(worker.sessions),
                len(worker.calls),
            )
        )
        is_smaller = self._scaling.wanted == self._settings.pool_size
        for worker in serving[:count]:
            worker.recycled_for = "resized" if is_smaller else "idle"
            self._draining.drain(worker, now)

    def reconfigure(self, before: PoolSettings, now: float) -> None:
        """The settings have changed. Workers that are too many now drain."""
        self._let_go(max(self._roster.serving() - self._scaling.wanted, 0), now)
        if _limits_of(self._settings) != _limits_of(before):
            for worker in self._roster.in_state(READY):
                self._record.timers.cancel(worker.ttl_timer)
                self.draw_limits(worker)

    # -- who is due --------------------------------------------------------------------------------

    def draw_limits(self, worker: Worker) -> None:
        """A worker is ready: what it may reach is drawn now, once. Drawn at each look, the shortest
        of many draws would count."""
        settings = self._settings
        worker.max_requests = self._draw(settings.worker_max_requests)
        # What it had at first stays out of it: a fresh worker must not be past its threshold.
        at_first = min(worker.memory_at_first, settings.memory_threshold_mb * MIB)
        growth = self._draw(settings.memory_threshold_mb * MIB - at_first)
        worker.memory_threshold = at_first + growth
        if settings.worker_ttl != math.inf:
            assert worker.ready_at is not None
            due = worker.ready_at + self._draw(settings.worker_ttl)
            worker.ttl_timer = self._record.timers.at(due, self._is_too_old, worker)

    def _draw(self, limit: float) -> float:
        share = self._settings.recycle_jitter / 100 * self._rng.random()
        return limit if limit == math.inf else limit * (1 - share)

    def mark(self, workers: Iterable[Worker], reason: str, now: float) -> None:
        """They are to be replaced: those of them that serve and are not being replaced already."""
        if not self._standing.is_stopping:
            for worker in workers:
                if worker.state is READY and worker.recycled_for is None:
                    worker.recycled_for = reason
            self.go_on(now)

    def _is_too_old(self, worker: Worker, now: float) -> None:
        self.mark([worker], "ttl_expired", now)

    @staticmethod
    def reason_of(worker: Worker) -> str:
        """Why a worker that served is replaced, now that it is gone: for its event."""
        if worker.fate is Fate.RECYCLED:
            return worker.recycled_for or ""
        return "memory_limit" if worker.fate is Fate.MEMORY_LIMIT else "worker_died"


def _limits_of(settings: PoolSettings) -> tuple[float, float, float, int]:
    """What the limits of a worker are drawn from."""
    return (
        settings.worker_ttl,
        settings.worker_max_requests,
        settings.memory_threshold_mb,
        settings.recycle_jitter,
    )
