"""Which workers are replaced or let go, why, and when.

A worker that is *due* serves on until its successor is ready. Then it *drains*: it takes no more
calls, finishes those it has, and ends. Nothing pairs a worker with its successor: workers are
counted, so whatever dies meanwhile, what is missing is started and what is too many drains.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from snakepit_port.config.model import PoolSettings
from snakepit_port.pool.effects import Finish, Measure
from snakepit_port.pool.queue import Queue
from snakepit_port.pool.record import Record
from snakepit_port.pool.roster import Roster
from snakepit_port.pool.starting import Starting
from snakepit_port.pool.timers import Timer
from snakepit_port.pool.worker import Fate, Worker, WorkerState

_MIB = 1024 * 1024


class Recycling:
    """`wanted` is how many workers there should be: `pool_size`, or fewer while there is little to
    do. `lose_sessions` is called with a worker whose sessions cannot be waited for any longer, and
    the reason."""

    def __init__(
        self,
        record: Record,
        roster: Roster,
        starting: Starting,
        queue: Queue,
        rng: random.Random,
        lose_sessions: Callable[[Worker, str], None],
    ) -> None:
        self._record = record
        self._roster = roster
        self._starting = starting
        self._queue = queue
        self._rng = rng
        self._lose_sessions = lose_sessions
        self._idle_timer: Timer | None = None
        self._memory_timer: Timer | None = None
        self._stopped = False
        self.wanted = record.settings.pool_size

    @property
    def _settings(self) -> PoolSettings:
        return self._record.settings

    @property
    def _least(self) -> int:
        least, size = self._settings.min_workers, self._settings.pool_size
        return size if least == "pool_size" else min(least, size)

    def go_on(self, now: float) -> None:
        """After a change among the workers: drain those that have a successor, and start what is
        missing, successors included."""
        settings = self._settings
        spare = max(self._roster.serving() - self.wanted, 0)
        due = [worker for worker in self._roster.in_state(WorkerState.READY) if worker.recycled_for]
        # Those that have sessions come last: perhaps these end meanwhile.
        due.sort(key=lambda worker: bool(worker.sessions))
        for worker in due[:spare]:
            self._drain(worker, now)
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
        room = max(settings.pool_size + settings.max_surge - leaving, self.wanted)
        target = min(self.wanted + successors, room)
        self._starting.fill(target, now, is_whole=not successors)
        self._watch_idle(now)

    def _let_go(self, count: int, now: float) -> None:
        """Drain so many that serve and have no successor: those first that are due anyway, and then
        those that have the least to do."""
        serving = self._roster.in_state(WorkerState.READY)
        serving.sort(
            key=lambda worker: (
                worker.recycled_for is None,
                bool(worker.sessions),
                len(worker.calls),
            )
        )
        is_smaller = self.wanted == self._settings.pool_size
        for worker in serving[:count]:
            worker.recycled_for = "resized" if is_smaller else "idle"
            self._drain(worker, now)

    def reconfigure(self, before: PoolSettings, now: float) -> None:
        """The settings have changed. Workers that are too many now drain."""
        settings, timers = self._settings, self._record.timers
        size = settings.pool_size
        was_full = self.wanted == before.pool_size
        self.wanted = size if was_full else max(self._least, min(self.wanted, size))
        self._let_go(max(self._roster.serving() - self.wanted, 0), now)
        for timer in (self._idle_timer, self._memory_timer):
            timers.cancel(timer)
        self._idle_timer = self._memory_timer = None
        if settings.watches_memory:
            self._measure_all(None, now)
        if settings.session_ttl != before.session_ttl:
            for worker in self._roster.in_state(WorkerState.DRAINING):
                self._wait_for_sessions(worker, now)
        if _limits_of(settings) != _limits_of(before):
            for worker in self._roster.in_state(WorkerState.READY):
                timers.cancel(worker.ttl_timer)
                self._draw_limits(worker)

    def stop(self) -> None:
        """Replace none, and let none go for having nothing to do."""
        self._stopped = True
        for timer in (self._idle_timer, self._memory_timer):
            self._record.timers.cancel(timer)

    # -- who is due --------------------------------------------------------------------------------

    def began(self, worker: Worker, now: float) -> None:
        """A worker is ready: what it may reach is drawn now, once. Drawn at each look, the shortest
        of many draws would count."""
        self._draw_limits(worker)
        if self._memory_timer is None and self._settings.watches_memory and not self._stopped:
            self._measure_all(None, now)

    def _draw_limits(self, worker: Worker) -> None:
        settings = self._settings
        worker.max_requests = self._draw(settings.worker_max_requests)
        # What it had at first stays out of it: a fresh worker must not be past its threshold.
        at_first = min(worker.memory_at_first, settings.memory_threshold_mb * _MIB)
        growth = self._draw(settings.memory_threshold_mb * _MIB - at_first)
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
        if not self._stopped:
            for worker in workers:
                if worker.state is WorkerState.READY and worker.recycled_for is None:
                    worker.recycled_for = reason
            self.go_on(now)

    def _is_too_old(self, worker: Worker, now: float) -> None:
        self.mark([worker], "ttl_expired", now)

    # -- going -------------------------------------------------------------------------------------

    def _drain(self, worker: Worker, now: float) -> None:
        self._roster.withhold(worker, WorkerState.DRAINING)
        self._wait_for_sessions(worker, now)
        self.has_drained(worker, now)

    def _wait_for_sessions(self, worker: Worker, now: float) -> None:
        self._record.timers.cancel(worker.ttl_timer)
        if worker.sessions and self._settings.session_ttl != math.inf:
            due = now + self._settings.session_ttl
            worker.ttl_timer = self._record.timers.at(due, self._waited_for_sessions, worker)

    def _waited_for_sessions(self, worker: Worker, now: float) -> None:
        self._lose_sessions(worker, "worker_recycled")
        self.has_drained(worker, now)

    def has_drained(self, worker: Worker, now: float) -> None:
        """Let a draining worker end, if it has nothing left to do and no session needs it; kill it,
        if all it works on are calls that do not stop."""
        if not worker.calls:
            if not worker.sessions and worker not in self._queue.lines:
                fate = Fate.CANCELLED if worker.recycled_for is None else Fate.RECYCLED
                self.finish(worker, fate, now)
        elif worker.stuck.issuperset(islice(worker.calls, worker.capacity)):
            running = worker.running
            assert running is not None
            # For calls that it takes up before it is gone, and that nobody has cancelled.
            why = (
                f"was killed because a call of {running.command} did not stop within"
                " cancel_grace_period; this call had just begun"
            )
            self._roster.kill(worker, Fate.CANCELLED, why)

    def finish(self, worker: Worker, fate: Fate, now: float) -> None:
        """Have a worker without calls end by itself, or be killed after a grace."""
        self._roster.retire(worker, WorkerState.STOPPING)
        worker.fate = fate
        due = now + self._settings.worker_shutdown_grace_period
        worker.timer = self._record.timers.at(due, self._did_not_stop, worker)
        self._record.effects.append(Finish(worker))

    def _did_not_stop(self, worker: Worker, now: float) -> None:
        assert worker.fate is not None
        self._roster.kill(worker, worker.fate)
        if not self._stopped:
            # It takes no room from successors any more.
            self.go_on(now)

    @staticmethod
    def reason_of(worker: Worker) -> str:
        """Why a worker that served is replaced, now that it is gone: for its event."""
        if worker.fate is Fate.RECYCLED:
            return worker.recycled_for or ""
        return "memory_limit" if worker.fate is Fate.MEMORY_LIMIT else "worker_died"

    # -- as many as there is work for --------------------------------------------------------------

    @property
    def may_grow(self) -> bool:
        """Whether the pool may start one more worker for a call that waits."""
        return self.wanted < self._settings.pool_size and not self._stopped

    def call_waits(self, now: float) -> None:
        """A call found no worker: have one more, if there may be."""
        if self.may_grow:
            self.wanted += 1
            self.go_on(now)

    def _watch_idle(self, now: float) -> None:
        timeout = self._settings.idle_timeout
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
            and longest.busy_since + self._settings.idle_timeout <= now
            and self._least < self.wanted <= self._roster.serving()
        ):
            self.wanted -= 1
            if longest.recycled_for is None:
                longest.recycled_for = "idle"
            self._drain(longest, now)
            longest = self._roster.longest_idle
        self.go_on(now)

    # -- memory ------------------------------------------------------------------------------------

    def _measure_all(self, _: None, now: float) -> None:
        for worker in self._roster.in_state(WorkerState.READY, WorkerState.DRAINING):
            self._record.effects.append(Measure(worker))
        due = now + self._settings.memory_check_interval
        self._memory_timer = self._record.timers.at(due, self._measure_all)

    def measured(self, worker: Worker, size: int, now: float) -> None:
        """A worker and its children have `size` bytes of memory to themselves."""
        settings = self._settings
        worker.memory = size
        if size >= settings.memory_limit_mb * _MIB:
            worker.memory_limit = int(settings.memory_limit_mb * _MIB)
            why = (
                f"used {size // _MIB} MiB of memory, over memory_limit_mb"
                f" ({settings.memory_limit_mb}), and was killed"
            )
            self._roster.kill(worker, Fate.MEMORY_LIMIT, why)
        elif size >= worker.memory_threshold:
            self.mark([worker], "memory_threshold", now)

    def is_too_large(self, worker: Worker, size: int) -> dict[str, Any] | None:
        """Why a worker that has just loaded its adapter, and with its children has `size` bytes to
        itself, cannot serve: a limit that it is past already would have it replaced for ever."""
        for setting in ("memory_threshold_mb", "memory_limit_mb"):
            limit = getattr(self._settings, setting)
            if size >= limit * _MIB:
                name = self._record.name
                message = (
                    f"{setting} of pool {name!r} is {limit}, but a worker that has done nothing"
                    f" yet has {size / _MIB:.1f} MiB to itself, its children included; raise it"
                    " above that"
                )
                return {"type": "pool_unavailable", "message": message, "pool": name}
        return None


def _limits_of(settings: PoolSettings) -> tuple[float, float, float, int]:
    """What the limits of a worker are drawn from."""
    return (
        settings.worker_ttl,
        settings.worker_max_requests,
        settings.memory_threshold_mb,
        settings.recycle_jitter,
    )
