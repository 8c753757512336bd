"""Taking back what was sent ahead to a worker that then takes its time.

To send a call ahead is to bet that it waits there for a moment only. A command that was fast a
thousand times can still take seconds once: then what waits behind it goes back to the queue, and
from there to whichever worker is free first. The worker gives back only what it has not begun, so
nothing runs twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice

from snakepit_port.pool.call import SENT, Call
from snakepit_port.pool.effects import Recall
from snakepit_port.pool.record import Record
from snakepit_port.pool.roster import Roster
from snakepit_port.pool.scaling import Scaling
from snakepit_port.pool.sessions import Sessions
from snakepit_port.pool.speed import OVERDUE_SECONDS, STALL_SECONDS
from snakepit_port.pool.standing import Standing
from snakepit_port.pool.timers import Timer
from snakepit_port.pool.withdrawal import Withdrawal
from snakepit_port.pool.worker import READY, Worker

#: How often a call is asked for: a signal that comes just before a command waits in C does not end
#: that wait (`Withdrawal`).
_RECALLS = 2


class Recalling:
    """Not where `prefetch` is a number: then calls wait at workers whatever that takes. And not
    where no other worker would take them sooner, or the pool would refuse them: to ask takes a
    signal, which code in C that does not repeat its system calls may notice (EINTR). But what has
    waited for its `queue_timeout` is taken back in any case, to be answered with that; and is
    answered so if it does not come back, which it does not before one call in C has returned.

    `begun` says how many of all calls that a worker was sent it has begun."""

    def __init__(
        self,
        record: Record,
        roster: Roster,
        sessions: Sessions,
        scaling: Scaling,
        standing: Standing,
        withdrawal: Withdrawal,
        begun: Callable[[Worker], int],
    ) -> None:
        self._record = record
        self._roster = roster
        self._sessions = sessions
        self._scaling = scaling
        self._standing = standing
        self._withdrawal = withdrawal
        self._begun = begun
        self._timer: Timer | None = None
        #: When that is due.
        self._due = math.inf

    def changed(self, now: float) -> None:
        """There is another worker, or one fewer, or there are other rules, or the pool takes calls
        again."""
        if any(len(worker.calls) > worker.capacity for worker in self._roster.workers.values()):
            self.watch(now)

    def watch(self, now: float) -> None:
        """A call waits at a worker."""
        if self._due > now + STALL_SECONDS and self._roster.judges_speed:
            self._look_at(now + STALL_SECONDS)

    def _look_at(self, due: float) -> None:
        timers = self._record.timers
        timers.cancel(self._timer)
        self._due = due
        self._timer = None if due == math.inf else timers.at(due, self._look)

    def _look(self, _: None, now: float) -> None:
        """Ask every worker that has answered nothing for too long for what waits there, and look
        again when the next one may have, or a call has waited for too long."""
        next_due = math.inf
        if self._roster.judges_speed and self._standing.takes_calls:
            grows, serving = self._scaling.may_grow, self._roster.serving()
            goes_on = grows or self._roster.goes_on(now)
            for worker in self._roster.workers.values():
                if worker.listens and len(worker.calls) > worker.capacity:
                    # Where there is nobody else, it is looked again when somebody comes.
                    has_others = grows or serving > (worker.state is READY)
                    due = self._look_for_what_waits(worker, has_others, goes_on, now)
                    next_due = min(next_due, due)
        self._look_at(next_due)

    def _look_for_what_waits(
        self, worker: Worker, has_others: bool, goes_on: bool, now: float
    ) -> float:
        """`has_others` is whether others may take what waits at this worker, `goes_on` whether one
        of them will soon. Returns when to look at it again."""
        due = worker.busy_since + STALL_SECONDS
        if due > now:
            return due
        waiting = self._waiting(worker)
        if not waiting:
            return math.inf
        # As often as a worker that goes on is seen to.
        soon = now + OVERDUE_SECONDS
        if self._record.is_deaf:
            return soon
        recalled, next_due = [], soon if has_others and not goes_on else math.inf
        for call in waiting:
            if call.queue_due > now and not (
                has_others and goes_on and not self._sessions.is_tied(call)
            ):
                next_due = min(next_due, call.queue_due)
                continue
            if call.recall_due <= now:
                if call.recalls == _RECALLS:
                    self._did_not_come_back(worker, call, now)
                    continue
                call.recalls += 1
                call.recall_due = now + STALL_SECONDS
                if call.recalls == _RECALLS:
                    call.recall_due = max(call.recall_due, call.queue_due)
                recalled.append(call)
            next_due = min(next_due, call.recall_due)
        if recalled:
            self._record.effects.append(Recall(worker, recalled))
        return next_due

    def _did_not_come_back(self, worker: Worker, call: Call, now: float) -> None:
        """It was asked for, in vain, and has waited for its `queue_timeout`."""
        call.recall_due = math.inf
        # Else it runs there, and its answer is only not known yet.
        if call.sequence >= self._begun(worker):
            self._withdrawal.waited_too_long_at(worker, call, now)

    def _waiting(self, worker: Worker) -> list[Call]:
        """The calls that wait there, and may be asked for."""
        return [
            call
            for call in islice(worker.calls.values(), worker.capacity, None)
            if call.state is SENT and call.recall_due < math.inf
        ]
