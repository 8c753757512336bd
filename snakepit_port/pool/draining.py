"""How a worker goes in good order: it *drains*, which is to take no more calls and to finish those
it has, and then ends by itself."""

from __future__ import annotations

import math
from collections.abc import Callable

from snakepit_port.config.model import PoolSettings
from snakepit_port.pool.effects import Finish
from snakepit_port.pool.queue import Queue
from snakepit_port.pool.record import Record
from snakepit_port.pool.roster import Roster
from snakepit_port.pool.speed import STALL_SECONDS
from snakepit_port.pool.worker import Fate, Worker, WorkerState


class Draining:
    """`begun` says how many of all calls that a worker was sent it has begun. `lose_sessions` is
    called with a worker whose sessions cannot be waited for any longer, and the reason; `go_on`
    when one that took room from its successor takes none any more."""

    def __init__(
        self,
        record: Record,
        roster: Roster,
        queue: Queue,
        begun: Callable[[Worker], int],
        lose_sessions: Callable[[Worker, str], None],
        go_on: Callable[[float], None],
    ) -> None:
        self._record = record
        self._roster = roster
        self._queue = queue
        self._begun = begun
        self._lose_sessions = lose_sessions
        self._go_on = go_on

    def drain(self, worker: Worker, now: float) -> None:
        """It takes no more calls but those of its sessions, for as long as these last."""
        self._roster.withhold(worker, WorkerState.DRAINING)
        self._wait_for_sessions(worker, now)
        self.has_drained(worker, now)

    def reconfigure(self, before: PoolSettings, now: float) -> None:
        """The settings have changed."""
        if self._record.settings.session_ttl != before.session_ttl:
            for worker in self._roster.in_state(WorkerState.DRAINING):
                self._wait_for_sessions(worker, now)

    def _wait_for_sessions(self, worker: Worker, now: float) -> None:
        self._record.timers.cancel(worker.ttl_timer)
        ttl = self._record.settings.session_ttl
        if worker.sessions and ttl != math.inf:
            worker.ttl_timer = self._record.timers.at(now + ttl, self._waited_for_sessions, worker)

    def _waited_for_sessions(self, worker: Worker, now: float) -> None:
        self._lose_sessions(worker, "worker_recycled")
        self.has_drained(worker, now)

    def has_drained(self, worker: Worker, now: float) -> None:
        """Let a draining worker end, if it has nothing left to do and no session needs it; kill it,
        if all it works on are calls that do not stop."""
        if not worker.calls:
            if not worker.sessions and worker not in self._queue.lines:
                fate = Fate.CANCELLED if worker.recycled_for is None else Fate.RECYCLED
                self.finish(worker, fate, now)
        elif self._works_on_stuck_alone(worker):
            if worker.stuck.issuperset(call.id for call in worker.at_work):
                self._kill_stuck(worker)
            else:
                # The others may be on their way, and it has a thread for them. Or what is stuck
                # keeps it from reading them: so does code in C that does not let go of the GIL.
                due = now + STALL_SECONDS
                self._record.timers.at(due, self._kill_if_still_stuck, worker)

    def _works_on_stuck_alone(self, worker: Worker) -> bool:
        """Whether what it has begun, and not answered, are calls that do not stop."""
        begun = self._begun(worker)
        return bool(worker.stuck) and all(
            call.id in worker.stuck or call.sequence >= begun for call in worker.at_work
        )

    def _kill_if_still_stuck(self, worker: Worker, now: float) -> None:
        if worker.state is WorkerState.DRAINING and self._works_on_stuck_alone(worker):
            self._kill_stuck(worker)

    def _kill_stuck(self, worker: Worker) -> None:
        running = worker.running
        assert running is not None
        # For calls that it takes up before it is gone, and that nobody has cancelled.
        why = (
            f"was killed because a call of {running.command} did not stop within"
            " cancel_grace_period; this call had just begun"
        )
        self._roster.kill(worker, Fate.CANCELLED, why)

    def finish(self, worker: Worker, fate: Fate, now: float) -> None:
        """Have a worker without calls end by itself, or be killed after a grace."""
        self._roster.retire(worker, WorkerState.STOPPING)
        worker.fate = fate
        due = now + self._record.settings.worker_shutdown_grace_period
        worker.timer = self._record.timers.at(due, self._did_not_stop, worker)
        self._record.effects.append(Finish(worker))

    def _did_not_stop(self, worker: Worker, now: float) -> None:
        assert worker.fate is not None
        self._roster.kill(worker, worker.fate)
        self._go_on(now)
