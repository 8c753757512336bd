"""Calls that come back from a worker: it is gone, or it gives them back.

What it had begun is answered with the reason, or begun once more if its command is idempotent; the
others wait again, at the front, for they had already waited their turn. But a call can be what ends
workers before they have begun it, as they read it: that is not tried on one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from snakepit_port.pool.call import ANSWERED, SENT, Call
from snakepit_port.pool.queue import Queue
from snakepit_port.pool.record import Record
from snakepit_port.pool.roster import Roster
from snakepit_port.pool.scaling import Scaling
from snakepit_port.pool.sessions import Sessions
from snakepit_port.pool.standing import Standing
from snakepit_port.pool.worker import Worker

#: How many workers may be lost to a call that none of them has begun, as AMQP's brokers have a
#: delivery limit. Chance hardly does that twice, and each takes along what else it had.
MOST_LOSSES = 3


class Returns:
    """Answers them, or has them wait."""

    def __init__(
        self,
        record: Record,
        roster: Roster,
        queue: Queue,
        sessions: Sessions,
        scaling: Scaling,
        standing: Standing,
    ) -> None:
        self._record = record
        self._roster = roster
        self._queue = queue
        self._sessions = sessions
        self._scaling = scaling
        self._standing = standing

    def gave_back(self, worker: Worker, ids: Iterable[int], now: float) -> bool:
        """A worker gives calls back, in the order it was sent them. False, and nothing has
        happened, if it was not asked for one of them."""
        calls = [worker.calls.get(id) for id in dict.fromkeys(ids)]
        returned = [call for call in calls if call is not None and call.is_recalled]
        if len(returned) < len(calls):
            return False
        for call in reversed(returned):
            del worker.calls[call.id]
            call.worker = None
            worker.stuck.discard(call.id)
            if call.state is SENT:
                self._requeue(call, now)
            else:
                self._record.timers.cancel(call.deadline_timer)
        return True

    def let_go(
        self, worker: Worker, begun: int, error: Mapping[str, Any], now: float
    ) -> list[Call]:
        """A worker is gone, which had begun the first `begun` of all calls that it was sent.
        Returns those of them that it had not answered."""
        record = self._record
        calls = worker.calls.values()
        started = [call for call in calls if call.sequence < begun]
        others = [call for call in calls if call.sequence >= begun]
        for call in calls:
            if call.state is ANSWERED:
                record.timers.cancel(call.deadline_timer)
        worker.calls.clear()
        if started:
            self._roster.note_death(worker, started[0], now)
        if others and worker.fate is None and (worker.capacity > 1 or not started):
            # One with one thread that ran a command was ended by that, as far as anybody knows.
            others[0].losses += 1
        for call in started:
            call.worker = None
            if call.state is SENT and not self._may_be_tried_again(worker, call, error):
                record.reply(call, {**error, "command": call.command})
                seconds = self._roster.running_for(worker, call, now)
                record.executed(worker, call, error["type"], seconds, now)
        for call in reversed(others):
            call.worker = None
            if call.state is SENT:
                if self._sessions.is_tied(call):
                    self._sessions.refuse_lost(call)
                elif call.losses >= MOST_LOSSES:
                    record.reply(call, _lost_too_many(call, error))
                else:
                    self._wait_anew(call, now)
        for call in reversed(started):
            if call.state is SENT:
                call.attempt += 1
                record.counts["retries"] += 1
                self._wait_anew(call, now)
        return started

    def _may_be_tried_again(self, worker: Worker, call: Call, error: Mapping[str, Any]) -> bool:
        """Whether a call that a crashed worker was running may be started once more."""
        return (
            call.command in worker.idempotent
            and call.attempt <= self._record.settings.max_retries
            and error["type"] == "worker_crashed"
            and call.credit is None
            and not (call.session is not None and self._sessions.are_strict)
        )

    def _wait_anew(self, call: Call, now: float) -> None:
        """Its worker is gone: it has all of its `queue_timeout` again."""
        call.queue_due = now + call.queue_timeout
        self._requeue(call, now)

    def _requeue(self, call: Call, now: float) -> None:
        call.recalls = 0
        call.recall_due = -math.inf
        if not self._standing.refuse_if_unavailable(call):
            self._queue.add_first(call)
            self._scaling.call_waits(now)


def _lost_too_many(call: Call, error: Mapping[str, Any]) -> dict[str, Any]:
    message = (
        f"{error['message']}. With it {MOST_LOSSES} have ended as they were to begin this call, and"
        " no other gets it: its arguments may take more memory than a worker has"
    )
    return {**error, "message": message, "command": call.command}
