"""Sessions: ids that tie calls to one worker.

A session is made by its first call and bound to the worker that takes it. With affinity `hint` it
is a preference: calls go elsewhere when its worker is busy, and it is bound anew when that is gone.
The others are *strict*: calls of a session run on its worker or not at all. When that worker goes,
whoever uses the session is told once (`session_worker_unavailable`): the calls that had been made
for it and were not started, or else the next one. Then it starts anew.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable

from snakepit_port.pool.call import Call, Session
from snakepit_port.pool.record import Record
from snakepit_port.pool.timers import Timer
from snakepit_port.pool.worker import Worker, WorkerState


class Sessions:
    """`left` is called with a worker that has one session fewer, and the time."""

    def __init__(self, record: Record, left: Callable[[Worker, float], None]) -> None:
        self._record = record
        self._left = left
        self._read_settings()
        #: By id, the least recently used first; so it is also the order in which they expire.
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        #: Those whose worker went, and of which nobody has been told yet, the first one first.
        self._lost: OrderedDict[str, Session] = OrderedDict()
        self._timer: Timer | None = None

    def _read_settings(self) -> None:
        settings = self._record.settings
        self.are_strict = settings.affinity != "hint"
        self.fail_fast = settings.affinity == "strict_fail_fast"
        self._ttl = settings.session_ttl
        self._most = settings.max_sessions

    def reconfigure(self, calls: Iterable[Call], now: float) -> None:
        """The settings have changed; `calls` are all that wait or are with workers. Sessions stay;
        but where being tied to a worker means something else now, their next call ties them anew.
        """
        were_strict = self.are_strict
        self._read_settings()
        if self.are_strict is not were_strict:
            self._lost.clear()
            for session in list(self._sessions.values()):
                self._release(session, now)
                session.worker = None
            for call in calls:
                if call.session is not None:
                    call.session.worker = None
        while len(self._sessions) > self._most and not self.are_strict:
            self._close(next(iter(self._sessions.values())), "evicted", now)
        self._record.timers.cancel(self._timer)
        if self._ttl != math.inf:
            self._look_for_expired(None, now)
        else:
            self._timer = None

    def _release(self, session: Session, now: float) -> None:
        """No worker keeps anything for it any more; calls that it has go on where they are."""
        worker = session.worker
        if worker is not None and session in worker.sessions:
            del worker.sessions[session]
            self._left(worker, now)

    def __len__(self) -> int:
        return len(self._sessions)

    # -- calls -------------------------------------------------------------------------------------

    def join(self, call: Call, id: str, now: float) -> bool:
        """Make the call one of a session's; whether it was not answered instead."""
        lost = self._lost.pop(id, None) if self._lost else None
        if lost is not None and lost.used_at + self._ttl > now:
            self._tell_lost(call, lost)
            return False
        session = self._sessions.get(id)
        if session is None:
            if len(self._sessions) >= self._most and not self._make_room(call, now):
                return False
            session = self._sessions[id] = Session(id)
        call.session = session
        session.unanswered += 1
        session.requests += 1
        self.used(session, now)
        return True

    def _make_room(self, call: Call, now: float) -> bool:
        if not self.are_strict:
            # A preference that is forgotten costs little; a call that fails for it would not.
            self._close(next(iter(self._sessions.values())), "evicted", now)
            return True
        message = (
            f"pool {self._record.name!r} has {self._most} sessions (max_sessions); close some, or"
            " raise max_sessions, or lower session_ttl"
        )
        self._record.fail(call, "session_limit", message)
        return False

    def used(self, session: Session, now: float) -> None:
        """A call of it came, or was answered."""
        self._touch(session, now)
        if self._timer is None and self._ttl != math.inf:
            self._timer = self._record.timers.at(now + self._ttl, self._look_for_expired)

    def _touch(self, session: Session, now: float) -> None:
        session.used_at = now
        if self._sessions.get(session.id) is session:
            self._sessions.move_to_end(session.id)

    def worker_of(self, call: Call) -> Worker | None:
        """The worker that the call's session is bound to and would have it."""
        session = call.session
        if session is None or session.worker is None:
            return None
        if not self.are_strict and session.worker.state is not WorkerState.READY:
            session.worker = None
        return session.worker

    def is_tied(self, call: Call) -> bool:
        """Whether the call can go to one worker only."""
        return call.session is not None and self.are_strict and call.session.worker is not None

    def taken(self, call: Call, worker: Worker) -> None:
        """A worker takes a call: the session of a first one is bound to it."""
        session = call.session
        if session is not None and session.worker is None:
            session.worker = worker
            if self.are_strict and self._sessions.get(session.id) is session:
                worker.sessions[session] = None

    def refuse_busy(self, call: Call) -> None:
        """The worker of the call's session has something else to do."""
        assert call.session is not None
        assert call.session.worker is not None
        message = (
            f"worker {call.session.worker.id}, which has session {call.session.id!r}, is busy;"
            " try again later, or set affinity to strict_queue"
        )
        self._record.fail(call, "worker_busy", message, call.session.worker)

    # -- the end of a session ----------------------------------------------------------------------

    def close(self, id: str, now: float) -> bool:
        """End a session; whether there was one. Calls of it that wait or run are not affected."""
        self._lost.pop(id, None)
        session = self._sessions.get(id)
        if session is None:
            return False
        self._close(session, "closed", now)
        return True

    def _close(self, session: Session, reason: str, now: float) -> None:
        del self._sessions[session.id]
        self._tell_closed(session, reason)
        self._release(session, now)

    def lose(self, worker: Worker, reason: str) -> None:
        """The worker goes, or no longer takes calls: end its sessions. Who uses one is told by its
        next call, if not by one that `refuse_lost` has answered."""
        for session in worker.sessions:
            self._tell_closed(session, reason)
            del self._sessions[session.id]
            if not session.is_told:
                self._lost[session.id] = session
        worker.sessions.clear()
        while len(self._lost) > self._most:
            self._lost.popitem(last=False)

    def refuse_lost(self, call: Call) -> None:
        """A call that was made for a worker that has gone since."""
        session = call.session
        assert session is not None
        session.is_told = True
        if self._lost.get(session.id) is session:
            del self._lost[session.id]
        self._tell_lost(call, session)

    def _tell_lost(self, call: Call, session: Session) -> None:
        message = (
            "the worker that had the session is gone, and what it held with it; the session starts"
            " anew with the next call"
        )
        self._record.fail(call, "session_worker_unavailable", message, session.worker)

    def _tell_closed(self, session: Session, reason: str) -> None:
        requests = {"requests": session.requests}
        self._record.emit("session.closed", requests, session=session.id, reason=reason)

    def _look_for_expired(self, _: None, now: float) -> None:
        self._timer = None
        while self._sessions:
            session = next(iter(self._sessions.values()))
            due = session.used_at + self._ttl
            if due > now:
                self._timer = self._record.timers.at(due, self._look_for_expired)
                return
            if session.unanswered:
                self._touch(session, now)
            else:
                self._close(session, "expired", now)

    def stop(self) -> None:
        """Let none expire any more."""
        self._record.timers.cancel(self._timer)
        self._ttl = math.inf
