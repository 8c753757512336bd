"""A worker as its pool sees it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snakepit_port.pool.call import Call
    from snakepit_port.pool.timers import Timer


class WorkerState(Enum):
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    GONE = "gone"


class Fate(Enum):
    """Why the pool itself ended a worker; a worker without a fate that goes has crashed."""

    SHUTDOWN = "shutdown"
    CANCELLED = "cancelled"
    PROTOCOL_ERROR = "protocol_error"
    STARTUP_TIMEOUT = "startup_timeout"


class Worker:
    """`calls` holds what it was sent and has not answered, in the order it was sent; the first one
    is running.

    `answered` counts the calls it has answered, so that together with the ledger (the number it has
    started) it tells which of `calls` had been started when the worker died. `busy_since` is when
    it took up the running call, as far as the pool can tell, and `run_time` the seconds that each
    of the calls took which it answered last. A worker that is `full` gets no more calls until it
    has answered all that it has. `timer` is the one thing it may be late for: becoming ready,
    leaving a call that was interrupted, or going.
    `broke_protocol` is the error of a worker that was condemned.
    """

    __slots__ = (
        "answered",
        "broke_protocol",
        "busy_since",
        "calls",
        "fate",
        "full",
        "id",
        "ready_at",
        "run_time",
        "started_at",
        "state",
        "timer",
    )

    def __init__(self, id: str, now: float) -> None:
        self.id = id
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

    def __repr__(self) -> str:
        return f"<Worker {self.id} {self.state.value} {list(self.calls)}>"
