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
    ANSWERED = "answered"


class Call:
    """One request of the host.

    `frame` is what a worker will be sent, byte for byte. `timeout` is seconds from arrival,
    `queue_timeout` seconds in the queue; infinity for none. A call that is answered while its
    worker still holds it is *abandoned*: `state` is ANSWERED and `worker` is set until the worker
    lets go of it.

    `credit` is how many more chunks a stream call may be answered with, None for a call that is no
    stream. `granted` is what of it came after the call, so that its frame does not say it.

    `sequence` is its place among all calls that its worker was sent, from 0; `running_since` is
    when that took it up, as far as the pool can tell.
    """

    __slots__ = (
        "arrived_at",
        "command",
        "credit",
        "deadline_timer",
        "frame",
        "granted",
        "id",
        "queue_timeout",
        "queue_timer",
        "running_since",
        "sequence",
        "state",
        "timeout",
        "worker",
    )

    def __init__(
        self,
        id: int,
        command: str,
        frame: bytes,
        *,
        timeout: float = math.inf,
        queue_timeout: float = math.inf,
        credit: int | None = None,
    ) -> None:
        self.id = id
        self.command = command
        self.frame = frame
        self.timeout = timeout
        self.queue_timeout = queue_timeout
        self.credit = credit
        self.granted = 0
        self.state = CallState.QUEUED
        self.worker: Worker | None = None
        self.sequence = 0
        self.running_since = 0.0
        self.arrived_at = 0.0
        self.deadline_timer: Timer | None = None
        self.queue_timer: Timer | None = None

    def __repr__(self) -> str:
        return f"<Call {self.id} {self.command} {self.state.value}>"
