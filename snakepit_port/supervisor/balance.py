"""Back-pressure: each side is read from only as fast as the other takes it."""

from __future__ import annotations

import math
from collections.abc import Callable

from snakepit_port.supervisor.link import Link
from snakepit_port.supervisor.pools import Pools
from snakepit_port.supervisor.pump import Pump
from snakepit_port.supervisor.runner import Runner

#: Bytes waiting for a host that reads slowly, beyond which workers are no longer read from (their
#: pipes fill, and then they wait), nor is the host. Some frames of the size that batching makes.
HOST_BEHIND_BYTES = 8 * 1024 * 1024

#: Frames of the largest size that may wait for workers, beyond which the host is not read from.
MAX_FRAMES_HELD = 2

#: Seconds after which it is read from all the same, and calls that would have to wait are refused:
#: what frees workers may be behind those, a stream's credit or a cancel. It is twice the usual
#: `queue_timeout`, which mostly makes room before. (At once, where that is the answer to what a
#: command has asked.)
MAX_HOLD = 10.0


class Balance:
    """Between the host, at `link`, and the workers of all pools. Each limit, once reached, holds
    until only half of it is left."""

    def __init__(
        self, pump: Pump, link: Link, clock: Callable[[], float], max_frame_bytes: int
    ) -> None:
        self._pump = pump
        self._link = link
        self._clock = clock
        self._max_frame_bytes = max_frame_bytes
        self._queued: dict[Runner, int] = {}
        self._queued_bytes = 0
        #: Whether the host takes answers too slowly.
        self.is_behind = False
        #: Whether too much waits for workers, and until when the host is not read from for that.
        self._is_full = False
        self.next_due = math.inf
        #: Whether a worker waits for what the host says next: then it is read from in any case.
        self.is_asked = False
        self._refuses = False
        self._is_held = False

    def note(self, runner: Runner) -> None:
        """Something has happened in a pool: see how much waits there."""
        queued = runner.machine.queue.bytes
        before = self._queued.get(runner, 0)
        if queued != before:
            self._queued_bytes += queued - before
            self._queued[runner] = queued

    def forget(self, runner: Runner) -> None:
        """The pool is no more."""
        self._queued_bytes -= self._queued.pop(runner, 0)

    def see(self, pools: Pools) -> None:
        """End a turn: pause what is too fast for the other side, let it go on when it is not."""
        link = self._link
        if not (self._queued_bytes or self._pump.out_bytes or self.is_behind or self._is_full):
            return
        is_behind = link.out_bytes > HOST_BEHIND_BYTES // (2 if self.is_behind else 1)
        if is_behind is not self.is_behind:
            self.is_behind = is_behind
            for runner in pools:
                runner.pause(is_behind)
        limit = self._max_frame_bytes * MAX_FRAMES_HELD // (2 if self._is_full else 1)
        to_workers = self._pump.out_bytes - link.out_bytes
        is_full = to_workers + self._queued_bytes > limit
        if is_full is not self._is_full:
            self._is_full = is_full
            self.next_due = self._clock() + MAX_HOLD if is_full else math.inf
        refuses = is_full and (self.is_asked or self.next_due == math.inf)
        if refuses or self._refuses:
            self._refuses = refuses
            for runner in pools:
                runner.machine.queue.allow_bytes(not refuses)
        # What it asks is answered at once where it is refused: a host that does not read is not
        # asked for more.
        is_held = is_behind or (is_full and not refuses)
        if is_held is not self._is_held:
            self._is_held = is_held
            link.pause(is_held)

    def tick(self, now: float, pools: Pools) -> None:
        """Do what is due: the host was not read from for long enough."""
        if self.next_due <= now:
            self.next_due = math.inf
            self.see(pools)
