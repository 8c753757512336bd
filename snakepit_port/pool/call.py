"""A call and where it is."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from snakepit_port.pool.timers import Timer
    from snakepit_port.pool.worker import Worker


class CallState(Enum):
    QUEUED = "queued"
    SENT = "sent"
    #: Whoever sets it counts `unanswered` of the call's session down.
    ANSWERED = "answered"


#: The members by themselves: to look one up in its Enum takes as long as to call a function.
QUEUED, SENT, ANSWERED = CallState


class Session:
    """What ties calls to a worker: `worker` is the one that took the first of them.

    `unanswered` counts its calls that are not answered yet, `requests` all of them. It `is_told`
    once a call of it was answered with the loss of its worker.
    """

    __slots__ = ("id", "is_told", "requests", "unanswered", "used_at", "worker")

    def __init__(self, id: str) -> None:
        self.id = id
        self.worker: Worker | None = None
        self.unanswered = 0
        self.requests = 0
        self.used_at = 0.0
        self.is_told = False


class Call:
    """One request of the host.

    `frame` is what a worker will be sent, byte for byte. `timeout` is seconds from arrival,
    `queue_timeout` seconds in the queue; infinity for none. While it is queued, `waits_for` is the
    only worker that may have it, if that is so. A call that is answered while its
    worker still holds it is *abandoned*: `state` is ANSWERED and `worker` is set until the worker
    lets go of it.

    `deadline_timer` is for its deadline until it is answered. After that it is for the worker's: by
    then it must have stopped its work on the call.

    `credit` is how many more chunks a stream call may be answered with, None for a call that is no
    stream. `granted` is what of it came after the call, so that its frame does not say it.

    `queue_due` is when it has waited for its `queue_timeout`, be it in the queue or at a worker.

    `recalls` counts how often its worker was asked to give it back, if it has not begun it, and
    `recall_due` is when that may be done, or what comes after the last time.

    `sequence` is its place among all calls that its worker was sent, from 0; `running_since` is
    when that took it up, as far as the pool can tell. `losses` counts the workers that crashed as
    they were to take it up next.
    """

    __slots__ = (
        "arrived_at",
        "attempt",
        "command",
        "credit",
        "deadline_timer",
        "frame",
        "granted",
        "id",
        "losses",
        "queue_due",
        "queue_timeout",
        "queue_timer",
        "recall_due",
        "recalls",
        "running_since",
        "sequence",
        "session",
        "session_id",
        "state",
        "timeout",
        "waits_for",
        "worker",
    )

    def __init__(
        self,
        id: int,
        command: str,
        frame: bytes,
        timeout: float = math.inf,
        queue_timeout: float = math.inf,
        credit: int | None = None,
        session: str | None = None,
    ) -> None:
        self.id = id
        self.command = command
        self.frame = frame
        self.timeout = timeout
        self.queue_timeout = queue_timeout
        self.credit = credit
        self.granted = 0
        self.session_id = session
        self.session: Session | None = None
        self.attempt = 1
        self.losses = 0
        self.recalls = 0
        self.recall_due = -math.inf
        self.state = QUEUED
        self.worker: Worker | None = None
        self.sequence = 0
        self.running_since = 0.0
        self.waits_for: Worker | None = None
        self.arrived_at = 0.0
        self.queue_due = math.inf
        self.deadline_timer: Timer | None = None
        self.queue_timer: Timer | None = None

    @property
    def is_recalled(self) -> bool:
        """Whether its worker was asked to give it back."""
        return self.recalls > 0

    def __repr__(self) -> str:
        return f"<Call {self.id} {self.command} {self.state.value}>"
