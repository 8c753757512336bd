"""A worker as its pool sees it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snakepit_port.pool.call import Call
    from snakepit_port.pool.timers import Timer


class WorkerState(Enum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPING = "stopping"
    GONE = "gone"


class Fate(Enum):
    """Why the pool itself ended a worker; a worker without a fate that goes has crashed."""

    SHUTDOWN = "shutdown"
    CANCELLED = "cancelled"
    PROTOCOL_ERROR = "protocol_error"
    STARTUP_TIMEOUT = "startup_timeout"


class Worker:
    """`calls` holds what it was sent and has not answered, in the order it was sent, in which it
    takes them up; it works on `capacity` of them at a time, the first ones.

    `sent` counts the calls it was sent, so that the ledger (the number it has started) tells which
    of `calls` had been started when the worker died. `answered` counts those it has answered.
    `stuck` are the ids of calls that were interrupted and have not stopped in time. `busy_since` is
    when it took up the running call, as far as the pool can tell, and `run_time` the seconds that
    each of the calls took which it answered last. At a worker that is `full` no more calls may wait
    until it has answered all that wait there. `timer` is the one thing it may be late for: becoming
    ready, or going.
    `broke_protocol` is the error of a worker that was condemned.
    """

    __slots__ = (
        "answered",
        "broke_protocol",
        "busy_since",
        "calls",
        "capacity",
        "fate",
        "full",
        "id",
        "ready_at",
        "run_time",
        "sent",
        "started_at",
        "state",
        "stuck",
        "timer",
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
        self.run_time = 0.0
        self.full = False
        self.timer: Timer | None = None
        self.fate: Fate | None = None
        self.broke_protocol: Mapping[str, Any] | None = None

    @property
    def running(self) -> Call | None:
        """The call at the head: the one the worker is working on, or will take up next."""
        return next(iter(self.calls.values()), None)

    @property
    def last_running(self) -> Call | None:
        """The last one it works on, or will take up next, if it has as many as it can work on."""
        return next(islice(self.calls.values(), self.capacity - 1, None), None)

    def is_running(self, call: Call) -> bool:
        """Whether it works on the call, or will take it up next."""
        return call in islice(self.calls.values(), self.capacity)

    @property
    def listens(self) -> bool:
        """Whether it works on its calls, and can be told of a cancellation."""
        return self.state is WorkerState.READY or self.state is WorkerState.DRAINING

    def __repr__(self) -> str:
        return f"<Worker {self.id} {self.state.value} {list(self.calls)}>"
