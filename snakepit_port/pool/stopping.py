"""How a pool stops: it finishes what it has within a grace, and lets every worker go."""

from __future__ import annotations

from snakepit_port.pool.call import SENT
from snakepit_port.pool.draining import Draining
from snakepit_port.pool.memory import Memory
from snakepit_port.pool.queue import Queue
from snakepit_port.pool.record import Record
from snakepit_port.pool.roster import Roster
from snakepit_port.pool.scaling import Scaling
from snakepit_port.pool.sessions import Sessions
from snakepit_port.pool.standing import PoolState, Standing
from snakepit_port.pool.starting import Starting
from snakepit_port.pool.withdrawal import Withdrawal
from snakepit_port.pool.worker import DRAINING, READY, Fate, WorkerState

#: States of workers that may take a call, now or later.
_TAKE_CALLS = WorkerState.STARTING, READY, DRAINING


class Stopping:
    """Nothing that stops is started again."""

    def __init__(
        self,
        record: Record,
        roster: Roster,
        queue: Queue,
        sessions: Sessions,
        starting: Starting,
        draining: Draining,
        scaling: Scaling,
        memory: Memory,
        standing: Standing,
        withdrawal: Withdrawal,
    ) -> None:
        self._record = record
        self._roster = roster
        self._queue = queue
        self._sessions = sessions
        self._starting = starting
        self._draining = draining
        self._scaling = scaling
        self._memory = memory
        self._standing = standing
        self._withdrawal = withdrawal

    def stop(self, now: float, grace: float, why: str) -> None:
        """What is not done within `grace` seconds is answered and cancelled. Of two graces the
        shorter counts, of two reasons the first."""
        state = self._standing.state
        if state is PoolState.STOPPED:
            return
        self._record.timers.at(now + grace, self._grace_is_over)
        if state is not PoolState.STOPPING:
            self._standing.stop(why)
            for part in (self._starting, self._scaling, self._memory, self._sessions):
                part.stop()
            self.wind_down(now)

    def wind_down(self, now: float) -> None:
        """Let go of every worker that has nothing left to do."""
        if self._queue and not self._roster.count(*_TAKE_CALLS):
            self._fail_queue("and no worker is left for the call")
        workers = self._roster.workers
        if not self._queue:
            for worker in list(workers.values()):
                if worker.state is WorkerState.STARTING:
                    self._roster.kill(worker, Fate.SHUTDOWN)
                elif worker.listens and not worker.calls:
                    self._draining.finish(worker, Fate.SHUTDOWN, now)
        if not workers:
            self._standing.has_stopped()

    def _grace_is_over(self, _: None, now: float) -> None:
        late = "and the call was not done in time (shutdown_grace_period)"
        self._fail_queue(late)
        workers = self._roster.workers.values()
        late_calls = [call for one in workers for call in one.calls.values() if call.state is SENT]
        # What cleans up there runs, and so does the adapter's `close`.
        self._withdrawal.shut_down(late_calls, f"{self._standing.why}, {late}", now)
        self.wind_down(now)

    def _fail_queue(self, what: str) -> None:
        for call in self._queue.take_all():
            self._record.fail(call, "shutting_down", f"{self._standing.why}, {what}")
