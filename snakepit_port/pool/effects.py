"""What a pool's machine may ask its surroundings to do."""

from __future__ import annotations

from typing import Any, NamedTuple

from snakepit_port.pool.call import Call
from snakepit_port.pool.worker import Worker


class Send(NamedTuple):
    """Write the call's frame to the worker's channel, and then what it was `granted` besides."""

    worker: Worker
    call: Call


class Grant(NamedTuple):
    """Let the worker send this many more chunks of the call that it has."""

    worker: Worker
    call: Call
    credit: int


class Forward(NamedTuple):
    """Pass the answer that was just reported on to the host."""

    call: Call


class Reply(NamedTuple):
    """Answer the call with an error (a map as in SPEC section 11)."""

    call: Call
    error: dict[str, Any]


class Start(NamedTuple):
    """Start a worker; report `worker_ready` or `worker_gone`."""

    worker: Worker


class Interrupt(NamedTuple):
    """Cancel the call at the worker, and make the worker look at its channel now."""

    worker: Worker
    call: Call


class Recall(NamedTuple):
    """Ask the worker, now, to give back those of the calls that it has not begun; report
    `gave_back`."""

    worker: Worker
    calls: list[Call]


class Ping(NamedTuple):
    """Ask the worker, between two calls, whether it is well; report `ponged`, or `unwell`."""

    worker: Worker
    number: int


class Finish(NamedTuple):
    """Close the worker's channel for writing: it ends what it has and exits."""

    worker: Worker


class Kill(NamedTuple):
    """Kill the worker's process group now. `worker_gone` is reported as for any exit."""

    worker: Worker


class Measure(NamedTuple):
    """See how much memory the worker and its children have to themselves; report `measured`."""

    worker: Worker


class Emit(NamedTuple):
    """Tell the host of an event (SPEC section 10)."""

    name: str
    measurements: dict[str, float]
    metadata: dict[str, Any]


class Settled(NamedTuple):
    """The pool is ready or unavailable for the first time."""


class Stopped(NamedTuple):
    """The pool has no worker left and will start none."""


Effect = (
    Send
    | Grant
    | Forward
    | Reply
    | Start
    | Interrupt
    | Recall
    | Ping
    | Finish
    | Kill
    | Measure
    | Emit
    | Settled
    | Stopped
)
