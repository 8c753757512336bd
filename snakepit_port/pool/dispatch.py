"""Which call goes to which worker, and when."""

from __future__ import annotations

from snakepit_port.pool.call import Call
from snakepit_port.pool.queue import Queue
from snakepit_port.pool.recall import Recalling
from snakepit_port.pool.roster import Roster
from snakepit_port.pool.scaling import Scaling
from snakepit_port.pool.sessions import Sessions
from snakepit_port.pool.withdrawal import Withdrawal
from snakepit_port.pool.worker import Worker, WorkerState


class Dispatch:
    """First come, first served, among the calls for which there is a worker: those of a strict
    session wait for theirs alone, and hold nobody else up."""

    def __init__(
        self,
        roster: Roster,
        queue: Queue,
        sessions: Sessions,
        scaling: Scaling,
        withdrawal: Withdrawal,
        recalling: Recalling,
    ) -> None:
        self._roster = roster
        self._queue = queue
        self._sessions = sessions
        self._scaling = scaling
        self._withdrawal = withdrawal
        self._recalling = recalling

    def place(self, call: Call, now: float) -> None:
        """Give a call that has just come to a worker, or have it wait."""
        queue = self._queue
        only = self._sessions.worker_of(call) if self._sessions.is_tied(call) else None
        if only is not None:
            worker = only if self._has_turn(only, call, now) else None
        else:
            worker = self._worker_for(call, now) if not queue.waiting else None
        if worker is not None:
            self._send(worker, call, now)
        elif only is not None and self._sessions.fail_fast:
            self._sessions.refuse_busy(call)
        elif queue.is_full:
            queue.refuse(call)
        else:
            queue.add(call, only)
            if only is None:
                self._scaling.call_waits(now)

    def go_on(self, now: float) -> None:
        """Send queued calls, in the order they came, for as long as there are workers for them."""
        while (turn := self._next_turn(now)) is not None:
            worker, call = turn
            if call.arrived_at + call.timeout <= now:
                # Its time is up, even if `tick` has not come round to it.
                self._withdrawal.deadline_passed(call, now)
            else:
                self._queue.remove(call)
                self._send(worker, call, now)

    def _next_turn(self, now: float) -> tuple[Worker, Call] | None:
        """The call whose turn is next, of those for which there is a worker now."""
        queue = self._queue
        turn = None
        while queue.waiting and turn is None:
            call = queue.first
            if self._sessions.is_tied(call):
                worker = self._bound_meanwhile(call, now)
            else:
                worker = self._worker_for(call, now)
                if worker is None:
                    break
            if worker is not None:
                turn = worker, call
        for call in queue.heads() if queue.lines else ():
            worker = call.waits_for
            assert worker is not None
            if turn is not None and turn[1].arrived_at <= call.arrived_at:
                continue
            if self._can_have(worker, call, now):
                turn = worker, call
        return turn

    def _bound_meanwhile(self, call: Call, now: float) -> Worker | None:
        """A call waited for any worker, and its session was bound to one: the worker, if it can
        have the call now. If not, the call waits for any no longer."""
        worker = self._sessions.worker_of(call)
        assert worker is not None
        if worker.state is WorkerState.GONE:
            # A call that came back from another one when this had gone.
            self._queue.remove(call)
            self._sessions.refuse_lost(call)
            return None
        if self._has_turn(worker, call, now):
            return worker
        if self._sessions.fail_fast:
            self._queue.remove(call)
            self._sessions.refuse_busy(call)
        else:
            self._queue.tie(call, worker)
        return None

    def _has_turn(self, worker: Worker, call: Call, now: float) -> bool:
        """Whether a call that only this worker may have can go to it, past nobody that waits."""
        return worker not in self._queue.lines and self._can_have(worker, call, now)

    def _worker_for(self, call: Call, now: float) -> Worker | None:
        """A worker for a call that any may have: its session's, if that has room. Strict sessions
        are spread, for each has only its own worker to work on it."""
        if call.session is not None:
            if self._sessions.are_strict:
                return self._roster.free_for_session(call) or self._roster.free_for(call, now)
            preferred = self._sessions.worker_of(call)
            if preferred is not None and self._roster.has_room(preferred, call, now):
                return preferred
        return self._roster.free_for(call, now)

    def _can_have(self, worker: Worker, call: Call, now: float) -> bool:
        """Whether a worker can have one more call of a session of its own, now."""
        if len(worker.calls) >= worker.capacity:
            # It would wait there: not past one that came before and that any worker may have.
            waiting = self._queue.waiting
            if waiting and self._queue.first.arrived_at <= call.arrived_at:
                return False
            if self._sessions.fail_fast:
                return False
        return self._roster.has_room(worker, call, now)

    def _send(self, worker: Worker, call: Call, now: float) -> None:
        if call.session is not None:
            self._sessions.taken(call, worker)
        self._roster.send(worker, call, now)
        if len(worker.calls) > worker.capacity:
            self._recalling.watch(now)
