"""A worker as its pool sees it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snakepit_port.pool.call import Call, Session
    from snakepit_port.pool.health import Checkup
    from snakepit_port.pool.timers import Timer


class WorkerState(Enum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    GONE = "gone"


#: Bound once: to look a member up in its Enum costs as much as a call of a function.
READY, DRAINING = WorkerState.READY, WorkerState.DRAINING


class Fate(Enum):
    """Why the pool itself ended a worker; a worker without a fate that goes has crashed."""

    SHUTDOWN = "shutdown"
    RECYCLED = "recycled"
    MEMORY_LIMIT = "memory_limit"
    CANCELLED = "cancelled"
    PROTOCOL_ERROR = "protocol_error"
    STARTUP_TIMEOUT = "startup_timeout"
    OUTDATED = "outdated"
    TOO_LARGE = "too_large"
    UNWELL = "health_check_failed"


class Worker:
    """`calls` holds what it was sent and has not answered, in the order it was sent, in which it
    takes them up; it works on `capacity` of them at a time, the first ones.

    `sent` counts the calls it was sent, so that the ledger (the number it has started) tells which
    of `calls` had been started when the worker died. `answered` counts those it has answered.
    `stuck` are the ids of calls that were interrupted and have not stopped in time. `busy_since` is
    when it took up the running call, as far as the pool can tell, or when it became idle, and
    `run_time` the seconds that each of the calls took which it answered last, on average;
    `run_time_behind` those that each is told to have taken behind the first. At a worker that is
    `full` no more calls may wait until it has answered all that wait there. `timer` is the one
    thing it may be late for: becoming ready, or going.

    `recycled_for` is the reason for which it is to be replaced or let go, `max_requests` the answer
    after which it is, and `ttl_timer` tells when it is too old, or has waited for its sessions for
    too long. `sessions` are the strict ones bound to it, `idempotent` its commands that may be run
    again. `verdict` is the error of a worker that the pool killed for what it did.
    `memory` is the bytes it had to itself when that was last measured, and `memory_at_first` when
    it became ready (0 if that is not known). With `memory_threshold` it is recycled, and
    `memory_limit` is the limit that it was killed for passing.
    `killed` says whether the pool did, and `held` that a debugger or the kernel keeps it from going
    all the same. `excused` is what `Record.may_have_missed` notes of it.
    `checkup` is the ping that it has not answered, and `health_timer` the time of the next one, or
    of a look at this one.
    """

    __slots__ = (
        "answered",
        "busy_since",
        "calls",
        "capacity",
        "checkup",
        "excused",
        "fate",
        "full",
        "health_timer",
        "held",
        "id",
        "idempotent",
        "killed",
        "max_requests",
        "memory",
        "memory_at_first",
        "memory_limit",
        "memory_threshold",
        "ready_at",
        "recycled_for",
        "run_time",
        "run_time_behind",
        "sent",
        "sessions",
        "started_at",
        "state",
        "stuck",
        "timer",
        "ttl_timer",
        "verdict",
    )

    def __init__(self, id: str, now: float, capacity: int = 1) -> None:
        self.id = id
        self.capacity = capacity
        self.sent = 0
        self.stuck: set[int] = set()
        self.state = WorkerState.STARTING
        self.calls: dict[int, Call] = {}
        self.answered = 0
        self.started_at = now
        self.ready_at: float | None = None
        self.busy_since = now
        self.run_time = self.run_time_behind = 0.0
        self.full = False
        self.timer: Timer | None = None
        self.checkup: Checkup | None = None
        self.health_timer: Timer | None = None
        self.fate: Fate | None = None
        self.killed = self.held = False
        self.excused = 0, -math.inf
        self.verdict: Mapping[str, Any] | None = None
        self.max_requests = math.inf
        self.memory: int | None = None
        self.memory_at_first = 0
        self.memory_threshold = math.inf
        self.memory_limit: int | None = None
        self.ttl_timer: Timer | None = None
        self.recycled_for: str | None = None
        self.idempotent: Collection[str] = ()
        self.sessions: dict[Session, None] = {}

    @property
    def running(self) -> Call | None:
        """The call at the head: the one the worker is working on, or will take up next."""
        return next(iter(self.calls.values()), None)

    @property
    def last_running(self) -> Call | None:
        """The last one it works on, or will take up next, if it has as many as it can work on."""
        return next(islice(self.calls.values(), self.capacity - 1, None), None)

    @property
    def at_work(self) -> list[Call]:
        """Those it works on, or will take up next."""
        return list(islice(self.calls.values(), self.capacity))

    def is_running(self, call: Call) -> bool:
        """Whether it works on the call, or will take it up next."""
        return call in self.at_work

    @property
    def listens(self) -> bool:
        """Whether it works on its calls, and can be told of a cancellation."""
        return self.state is READY or self.state is DRAINING

    @property
    def is_leaving(self) -> bool:
        """Whether it is being recycled in good order, and still there."""
        if self.state is DRAINING:
            return self.recycled_for is not None and not self.stuck
        return self.fate is Fate.RECYCLED and not self.killed

    def __repr__(self) -> str:
        return f"<Worker {self.id} {self.state.value} {list(self.calls)}>"
