"""What a pool's machine has decided and not handed over yet, and what it counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from snakepit_port.config.model import PoolSettings
from snakepit_port.pool.call import ANSWERED, Call
from snakepit_port.pool.effects import Effect, Emit, Reply
from snakepit_port.pool.timers import Timers
from snakepit_port.pool.worker import Worker

#: What a pool counts; SPEC section 9.1 says what each means.
COUNTERS = (
    "requests",
    "errors",
    "queue_timeouts",
    "pool_saturated",
    "timeouts",
    "cancelled",
    "worker_crashes",
    "started",
    "start_failures",
    "retries",
)


#: Bytes of what is set in `_mb`.
MIB = 1024 * 1024

#: Seconds that it takes, once workers are read from again, until what they have said is read.
CATCHING_UP = 1.0


class Record:
    """Shared by the parts of one machine: its settings, which a reload changes; its timers; its
    effects in the order they are to be carried out; its counts."""

    def __init__(self, settings: PoolSettings) -> None:
        self.settings = settings
        self.name = settings.name
        self.timers = Timers()
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.effects: list[Effect] = []
        #: Whether workers are not read from, and since when they are again.
        self.is_deaf = False
        self._hears_since = -math.inf
        #: How often they were read from again.
        self._hearings = 0

    def hear(self, hears: bool, now: float) -> None:
        """Workers are read from again, or not any more: nothing that one has not said since is its
        fault."""
        if hears and self.is_deaf:
            self._hears_since = now
            self._hearings += 1
        self.is_deaf = not hears

    def may_have_missed(self, now: float, worker: Worker) -> bool:
        """Whether a worker, which seems to be late, may have said something that was not read yet:
        while workers are not read from, and for `CATCHING_UP` after that.

        If so, this is asked again `CATCHING_UP` later. Once workers were read from again twice
        since it was asked first, what the worker had said was read: so a host that always reads
        slowly excuses nobody for ever."""
        if not self.is_deaf and now - self._hears_since >= CATCHING_UP:
            return False
        hearings, asked_at = worker.excused
        if now - asked_at > 2 * CATCHING_UP:
            hearings = self._hearings
        worker.excused = hearings, now
        return self._hearings - hearings < 2

    def take(self) -> list[Effect]:
        """Hand the effects over."""
        effects = self.effects
        if effects:
            self.effects = []
        return effects

    def error(
        self, type: str, message: str, call: Call, worker: Worker | None = None
    ) -> dict[str, Any]:
        error = {"type": type, "message": message, "pool": self.name, "command": call.command}
        return error if worker is None else {**error, "worker": worker.id}

    def fail(self, call: Call, type: str, message: str, worker: Worker | None = None) -> None:
        self.reply(call, self.error(type, message, call, worker))

    def reply(self, call: Call, error: dict[str, Any]) -> None:
        """Answer the call with an error, here and not from a worker."""
        self.counts["errors"] += 1
        call.state = ANSWERED
        if call.session is not None:
            call.session.unanswered -= 1
        self.timers.cancel(call.deadline_timer)
        self.effects.append(Reply(call, error))

    def emit(
        self,
        name: str,
        measurements: Mapping[str, float],
        worker: Worker | None = None,
        **more: Any,
    ) -> None:
        """Tell the host of an event of the pool, or of one of its workers."""
        where = {"pool": self.name} if worker is None else {"pool": self.name, "worker": worker.id}
        self.effects.append(Emit(name, dict(measurements), {**where, **more}))

    def executed(
        self, worker: Worker, call: Call, outcome: str, seconds: float, now: float
    ) -> None:
        """Tell, where that is asked for, of a call that a worker has worked on for so long, and
        that waited before."""
        if self.settings.request_events:
            there = now - call.arrived_at
            seconds = min(seconds, there)
            times = {"queue_us": round((there - seconds) * 1e6), "run_us": round(seconds * 1e6)}
            self.emit("request.executed", times, worker, command=call.command, outcome=outcome)


def age(worker: Worker, now: float) -> dict[str, float]:
    """The measurements of an event about a worker's end."""
    measured = {"uptime_ms": milliseconds(now - worker.started_at)}
    measured["requests"] = worker.answered
    if worker.memory is not None:
        measured["memory_bytes"] = worker.memory
    if worker.memory_limit is not None:
        measured["memory_limit_bytes"] = worker.memory_limit
    return measured


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def in_words(seconds: float) -> str:
    """A span of time as people write it."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:g} s"
