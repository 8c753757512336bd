"""The calls that wait for a worker."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from snakepit_port.pool.call import Call, CallState
from snakepit_port.pool.record import Record


class Queue:
    """First come, first served; `bytes` is what their frames take.

    `waited_too_long` is called with a call whose `queue_timeout` is over, and the time.
    """

    def __init__(self, record: Record, waited_too_long: Callable[[Call, float], None]) -> None:
        self._record = record
        self._waited_too_long = waited_too_long
        self._limit = record.settings.max_queue_size
        self._refusing = False
        self.waiting: OrderedDict[int, Call] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self.waiting)

    @property
    def first(self) -> Call:
        """The one whose turn is next; there has to be one."""
        return next(iter(self.waiting.values()))

    def calls(self) -> list[Call]:
        """Those that wait, in order."""
        return list(self.waiting.values())

    @property
    def is_full(self) -> bool:
        return len(self.waiting) >= self._limit

    def refuse(self, call: Call) -> None:
        """Answer a call for which there is no room. An event tells when that begins."""
        record, count = self._record, len(self)
        record.counts["pool_saturated"] += 1
        if not self._refusing:
            self._refusing = True
            record.emit("pool.saturated", {"queued": count})
        message = (
            f"pool {record.name!r} already has {count} calls queued (max_queue_size);"
            " try again later, or raise pool_size or max_queue_size"
        )
        record.fail(call, "pool_saturated", message)

    def add(self, call: Call, now: float) -> None:
        if call.queue_timeout != math.inf:
            due = now + call.queue_timeout
            call.queue_timer = self._record.timers.at(due, self._waited_too_long, call)
        call.state = CallState.QUEUED
        self.waiting[call.id] = call
        self.bytes += len(call.frame)

    def add_first(self, call: Call, now: float) -> None:
        """Back to the front: it had already waited its turn."""
        self.add(call, now)
        self.waiting.move_to_end(call.id, last=False)

    def remove(self, call: Call) -> None:
        del self.waiting[call.id]
        self.bytes -= len(call.frame)
        self._record.timers.cancel(call.queue_timer)
        if not self.waiting:
            self._refusing = False

    def take_all(self) -> list[Call]:
        """Empty it."""
        calls = self.calls()
        for call in calls:
            self.remove(call)
        return calls
