"""The calls that wait for a worker."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from snakepit_port.pool.call import QUEUED, Call
from snakepit_port.pool.record import Record
from snakepit_port.pool.worker import Worker

Line = OrderedDict[int, Call]


class Queue:
    """First come, first served. Calls that any worker may have stand in `waiting`; those that only
    one may have, in that worker's own line, so that they hold up nobody else.

    `bytes` is what all their frames take. `waited_too_long` is called with a call whose
    `queue_due` has come, and the time.
    """

    def __init__(self, record: Record, waited_too_long: Callable[[Call, float], None]) -> None:
        self._record = record
        self._waited_too_long = waited_too_long
        self._refusing = False
        self.waiting: Line = OrderedDict()
        #: None of them is empty.
        self.lines: dict[Worker, Line] = {}
        self.bytes = 0
        self._has_bytes_left = True

    def __len__(self) -> int:
        waiting = len(self.waiting)
        return waiting + sum(map(len, self.lines.values())) if self.lines else waiting

    def calls(self) -> list[Call]:
        """All that wait: each line in its order."""
        lines = (self.waiting, *self.lines.values())
        return [call for line in lines for call in line.values()]

    def heads(self) -> list[Call]:
        """Those whose turn is next at the worker that they wait for."""
        return [next(iter(line.values())) for line in self.lines.values()]

    @property
    def first(self) -> Call:
        """The one whose turn is next at any worker; there has to be one."""
        return next(iter(self.waiting.values()))

    @property
    def is_full(self) -> bool:
        return not self._has_bytes_left or len(self) >= self._record.settings.max_queue_size

    def allow_bytes(self, allowed: bool) -> None:
        """Whether calls that wait may take more memory, in all pools together."""
        self._has_bytes_left = allowed
        if allowed and not len(self):
            self._refusing = False

    def refuse(self, call: Call) -> None:
        """Answer a call for which there is no room. An event tells when that begins."""
        record, count = self._record, len(self)
        record.counts["pool_saturated"] += 1
        if not self._refusing:
            self._refusing = True
            record.emit("pool.saturated", {"queued": count})
        if self._has_bytes_left:
            message = (
                f"pool {record.name!r} already has {count} calls queued (max_queue_size);"
                " try again later, or raise pool_size or max_queue_size"
            )
        else:
            message = (
                "the calls that wait for workers, of all pools, take too much memory (twice"
                " max_frame_bytes); try again later, raise pool_size, or max_frame_bytes in"
                " [supervisor]"
            )
        record.fail(call, "pool_saturated", message)

    def add(self, call: Call, worker: Worker | None = None) -> None:
        """Have the call wait: for this worker, if one is given, else for any."""
        due = call.queue_due
        if due != math.inf:
            call.queue_timer = self._record.timers.at(due, self._waited_too_long, call)
        call.state = QUEUED
        self.bytes += len(call.frame)
        self._stand(call, worker)

    def _stand(self, call: Call, worker: Worker | None) -> None:
        call.waits_for = worker
        if worker is None:
            self.waiting[call.id] = call
        else:
            self.lines.setdefault(worker, OrderedDict())[call.id] = call

    def add_first(self, call: Call) -> None:
        """Back to the front: it had already waited its turn."""
        self.add(call)
        self.waiting.move_to_end(call.id, last=False)

    def tie(self, call: Call, worker: Worker) -> None:
        """From now on only this worker may have the call."""
        self._leave(call)
        self._stand(call, worker)

    def remove(self, call: Call) -> None:
        self._leave(call)
        self.bytes -= len(call.frame)
        self._record.timers.cancel(call.queue_timer)
        if not self.waiting and not self.lines:
            self._refusing = False

    def _leave(self, call: Call) -> None:
        if call.waits_for is None:
            del self.waiting[call.id]
        else:
            line = self.lines[call.waits_for]
            del line[call.id]
            if not line:
                del self.lines[call.waits_for]

    def untie(self) -> None:
        """From now on any worker may have any call: those that came first have theirs first."""
        calls = sorted(self.calls(), key=lambda call: call.arrived_at)
        self.lines.clear()
        self.waiting.clear()
        for call in calls:
            self._stand(call, None)

    def take_tied(self, worker: Worker) -> list[Call]:
        """Take out those whose session is bound to a worker: its line, and those that have stood
        among the others since before that."""
        calls = [
            *self.lines.get(worker, {}).values(),
            *(call for call in self.waiting.values() if _is_tied(call, worker)),
        ]
        for call in calls:
            self.remove(call)
        return calls

    def take_all(self) -> list[Call]:
        """Empty it."""
        calls = self.calls()
        for call in calls:
            self.remove(call)
        return calls


def _is_tied(call: Call, worker: Worker) -> bool:
    return call.session is not None and call.session.worker is worker
