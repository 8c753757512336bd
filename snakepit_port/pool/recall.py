"""Taking back what was sent ahead to a worker that then takes its time.

To send a call ahead is to bet that it waits there for a moment only. A command that was fast a
thousand times can still take seconds once: then what waits behind it goes back to the queue, and
from there to whichever worker is free first. The worker gives back only what it has not begun, so
nothing runs twice.
"""

from __future__ import annotations

import math
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
from snakepit_port.pool.worker import READY, Worker


class Recalling:
    """Not where `prefetch` is a number: then calls wait at workers whatever that takes. And not
    where no other worker would take them sooner, or the pool would refuse them: to ask takes a
    signal, which code in C that does not repeat its system calls may notice (EINTR)."""

    def __init__(
        self,
        record: Record,
        roster: Roster,
        sessions: Sessions,
        scaling: Scaling,
        standing: Standing,
    ) -> None:
        self._record = record
        self._roster = roster
        self._sessions = sessions
        self._scaling = scaling
        self._standing = standing
        self._timer: Timer | None = None

    def changed(self, now: float) -> None:
        """There is another worker, or there are other rules."""
        if any(len(worker.calls) > worker.capacity for worker in self._roster.workers.values()):
            self.watch(now)

    def watch(self, now: float) -> None:
        """A call waits at a worker."""
        if self._timer is None and self._roster.judges_speed:
            self._timer = self._record.timers.at(now + STALL_SECONDS, self._look)

    def _look(self, _: None, now: float) -> None:
        """Ask every worker that has answered nothing for too long for what waits there, once, and
        look again when the next one may have."""
        self._timer = None
        grows, serving = self._scaling.may_grow, self._roster.serving()
        if not self._roster.judges_speed or not (serving or grows):
            return
        is_the_time = (
            not self._record.is_deaf
            and self._standing.takes_calls
            and (grows or self._roster.goes_on(now))
        )
        next_due = math.inf
        for worker in self._roster.workers.values():
            if not worker.listens or len(worker.calls) <= worker.capacity:
                continue
            others = serving - (worker.state is READY)
            if not (others or grows):
                # When somebody else takes calls, it is looked again.
                continue
            due = worker.busy_since + STALL_SECONDS
            if due > now:
                next_due = min(next_due, due)
            elif not (waiting := self._waiting(worker)):
                continue
            elif is_the_time:
                for call in waiting:
                    call.is_recalled = True
                self._record.effects.append(Recall(worker, waiting))
            else:
                # As often as a worker that goes on is seen to.
                next_due = min(next_due, now + OVERDUE_SECONDS)
        if next_due < math.inf:
            self._timer = self._record.timers.at(next_due, self._look)

    def _waiting(self, worker: Worker) -> list[Call]:
        """The calls that wait there, and could go elsewhere."""
        return [
            call
            for call in islice(worker.calls.values(), worker.capacity, None)
            if call.state is SENT and not call.is_recalled and not self._sessions.is_tied(call)
        ]
