"""Calls that are answered before a worker has done with them: their time is up, nobody wants them
any more, or the pool stops."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from snakepit_port.pool.call import QUEUED, Call
from snakepit_port.pool.effects import Interrupt
from snakepit_port.pool.queue import Queue
from snakepit_port.pool.record import CATCHING_UP, Record, in_words
from snakepit_port.pool.roster import Roster
from snakepit_port.pool.sessions import Sessions
from snakepit_port.pool.standing import Standing
from snakepit_port.pool.worker import Worker


class Withdrawal:
    """The answer never waits for the work on a call to stop.

    `withdrawn` is called when a call was answered, `has_got_stuck` with a worker that goes on with
    one beyond the grace; both with the time.
    """

    def __init__(
        self,
        record: Record,
        roster: Roster,
        queue: Queue,
        sessions: Sessions,
        standing: Standing,
        withdrawn: Callable[[float], None],
        has_got_stuck: Callable[[Worker, float], None],
    ) -> None:
        self._record = record
        self._roster = roster
        self._queue = queue
        self._sessions = sessions
        self._standing = standing
        self._withdrawn = withdrawn
        self._has_got_stuck = has_got_stuck
        #: Whether the grace of a stop is over. From then on no worker gets more time because it may
        #: have said something that was not read: a host that does not read would put off the end.
        self._excuses_nobody = False

    def deadline_passed(self, call: Call, now: float) -> None:
        record = self._record
        record.counts["timeouts"] += 1
        message = f"no answer within {in_words(call.timeout)}"
        if call.state is QUEUED:
            message += f"; the call was still waiting for a worker of pool {record.name!r}"
        self._withdraw(call, record.error("timeout", message, call), now)
        self._withdrawn(now)

    def waited_too_long(self, call: Call, now: float) -> None:
        if call.state is not QUEUED:
            return
        if call.waits_for is not None:
            message = self._why_no_turn(call.waits_for, call)
        else:
            why = self._standing.why_none_serves(now)
            if why is None:
                others = len(self._queue) - 1
                why = f"{others} more waited; {self._what_would_help()}"
            message = self._why_none_was_free(call, why)
        self._tell_waited_too_long(call, message, now)

    def waited_too_long_at(self, worker: Worker, call: Call, now: float) -> None:
        """It waits at a worker that has not begun it and does not give it back. That leaves it out
        when it next looks at its channel, as it was told to before it begins another."""
        why = (
            f"the call waits at worker {worker.id}, which cannot give it back before its command"
            " returns from C; prefetch = 1 has none wait there"
        )
        self._tell_waited_too_long(call, self._why_none_was_free(call, why), now)

    def _tell_waited_too_long(self, call: Call, message: str, now: float) -> None:
        record = self._record
        record.counts["queue_timeouts"] += 1
        self._withdraw(call, record.error("queue_timeout", message, call, call.waits_for), now)
        self._withdrawn(now)

    def _why_none_was_free(self, call: Call, why: str) -> str:
        seconds = in_words(call.queue_timeout)
        return f"no worker of pool {self._record.name!r} was free within {seconds}: {why}"

    def _what_would_help(self) -> str:
        # Some were let go for having nothing to do, say: a larger pool is not what is missing.
        if self._roster.is_starting and self._roster.serving() < self._record.settings.pool_size:
            return "more of its workers are still starting; wait longer"
        return "raise pool_size or queue_timeout"

    @staticmethod
    def _why_no_turn(worker: Worker, call: Call) -> str:
        others = len(worker.sessions) - 1
        more = f" and {others} more" if others else ""
        return (
            f"worker {worker.id}, which has session {call.session_id!r}{more}, was not free within"
            f" {in_words(call.queue_timeout)}; raise queue_timeout, or pool_size: new sessions go"
            " to the worker with the fewest"
        )

    def cancelled(self, call: Call, now: float) -> None:
        record = self._record
        record.counts["cancelled"] += 1
        self._withdraw(call, record.error("cancelled", "the caller cancelled the call", call), now)
        self._withdrawn(now)

    def shut_down(self, calls: Iterable[Call], why: str, now: float) -> None:
        """The pool stops, and the grace for these calls is over."""
        self._excuses_nobody = True
        for call in calls:
            self._withdraw(call, self._record.error("shutting_down", why, call), now)

    def _withdraw(self, call: Call, error: dict[str, Any], now: float) -> None:
        """Answer a call now, wherever it is, and stop the work on it."""
        if call.state is QUEUED:
            self._queue.remove(call)
        worker = call.worker
        if worker is not None:
            error["worker"] = worker.id
        self._record.reply(call, error)
        if call.session is not None:
            self._sessions.used(call.session, now)
        if worker is not None and worker.listens:
            # The host may use the id again, and a worker must not hold two calls of one id.
            self._roster.send_no_more_ahead(worker)
            self._record.effects.append(Interrupt(worker, call))
            if worker.is_running(call):
                self.expect_to_yield(worker, call, now)
                seconds = self._roster.running_for(worker, call, now)
                self._record.executed(worker, call, error["type"], seconds, now)

    def expect_to_yield(self, worker: Worker, call: Call, now: float) -> None:
        """A worker is to stop its work on a call that was answered, within the grace."""
        due = now + self._record.settings.cancel_grace_period / 2
        call.deadline_timer = self._record.timers.at(due, self._interrupt_again, (worker, call))

    def _interrupt_again(self, what: tuple[Worker, Call], now: float) -> None:
        """A signal that comes just before a command waits in C does not end that wait: Python looks
        before, and not again. A second one does."""
        worker, call = what
        if worker.listens:
            self._record.effects.append(Interrupt(worker, call))
        due = now + self._record.settings.cancel_grace_period / 2
        call.deadline_timer = self._record.timers.at(due, self._did_not_yield, what)

    def _did_not_yield(self, what: tuple[Worker, Call], now: float) -> None:
        worker, call = what
        if not self._excuses_nobody and self._record.may_have_missed(now, worker):
            later = now + CATCHING_UP
            call.deadline_timer = self._record.timers.at(later, self._did_not_yield, what)
        elif worker.listens:
            worker.stuck.add(call.id)
            self._has_got_stuck(worker, now)
