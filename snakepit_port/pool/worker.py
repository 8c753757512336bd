"""A worker as its pool sees it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

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
    started) it tells which of `calls` had been started when the worker died. `timer` is the one
    thing it may be late for: becoming ready, leaving a call that was interrupted, or going.
    """

    __slots__ = (
        "answered",
        "calls",
        "fate",
        "id",
        "last_answer_at",
        "ready_at",
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
        self.last_answer_at = now
        self.timer: Timer | None = None
        self.fate: Fate | None = None

    @property
    def running(self) -> Call | None:
        """The call at the head: the one the worker is working on, or will take up next."""
        return next(iter(self.calls.values()), None)

    def __repr__(self) -> str:
        return f"<Worker {self.id} {self.state.value} {list(self.calls)}>"
