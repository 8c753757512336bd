"""The workers of a pool, and which of them takes the next call."""

from __future__ import annotations

import math
from collections import OrderedDict

from snakepit_port.pool.call import ANSWERED, SENT, Call
from snakepit_port.pool.effects import Kill, Send
from snakepit_port.pool.record import Record
from snakepit_port.pool.speed import MOST_AHEAD, OVERDUE_SECONDS, Speeds
from snakepit_port.pool.worker import READY, Fate, Worker, WorkerState


class Roster:
    """`workers` has all that are not gone, by id, in the order they were started. `_in` has those
    in each state, in the order they came into it: that is asked for with each worker that starts.
    Those that are started from now on work on `capacity` calls at a time.

    It `judges_speed` unless `prefetch` is a number.

    Of those that take calls, `_idle` have none, `_free` have some and can work on more at once, and
    `_roomy` have as many as they can work on, or more, and are so fast that others may wait there.
    """

    def __init__(self, record: Record, capacity: int) -> None:
        self._record = record
        self.capacity = capacity
        self.speeds = Speeds()
        self._fast = self.speeds.fast
        self.workers: dict[str, Worker] = {}
        self._in: dict[WorkerState, dict[Worker, None]] = {state: {} for state in WorkerState}
        self._idle: dict[Worker, None] = {}
        self._free: dict[Worker, None] = {}
        self._roomy: OrderedDict[Worker, None] = OrderedDict()
        self._read_settings()

    def _read_settings(self) -> None:
        prefetch = self._record.settings.prefetch
        self.judges_speed = prefetch == "auto"
        # As many for a worker that works on several calls as for one that works on one.
        self._most_ahead = MOST_AHEAD if prefetch == "auto" else int(prefetch) - 1

    def reconfigure(self, capacity: int) -> None:
        """The settings have changed, or how many calls a worker that is started works on."""
        self.capacity = capacity
        before = self.judges_speed, self._most_ahead
        self._read_settings()
        if before != (self.judges_speed, self._most_ahead):
            # What waits at a worker was sent there by other rules.
            for worker in self.workers.values():
                if len(worker.calls) >= worker.capacity:
                    self.send_no_more_ahead(worker)

    def in_state(self, *states: WorkerState) -> list[Worker]:
        return [worker for state in states for worker in self._in[state]]

    def count(self, *states: WorkerState) -> int:
        return sum(len(self._in[state]) for state in states)

    def serving(self) -> int:
        """How many take calls of all kinds; one that drains may take those of its sessions."""
        return len(self._in[READY])

    @property
    def is_starting(self) -> bool:
        """Whether an attempt to start a worker is under way. One that was killed for being late, or
        for what it said, is over when it is gone, or cannot go."""
        return any(
            worker.ready_at is None and not worker.held
            for state in (WorkerState.STARTING, WorkerState.STOPPING)
            for worker in self._in[state]
        )

    # -- coming and going --------------------------------------------------------------------------

    def begins(self, worker: Worker) -> None:
        """It is being started."""
        self.workers[worker.id] = worker
        self._in[worker.state][worker] = None

    def _enter(self, worker: Worker, state: WorkerState) -> None:
        del self._in[worker.state][worker]
        worker.state = state
        self._in[state][worker] = None

    def begin_serving(self, worker: Worker, now: float) -> None:
        """It takes calls from now on."""
        self._enter(worker, READY)
        worker.ready_at = worker.busy_since = now
        self._idle[worker] = None

    def withhold(self, worker: Worker, state: WorkerState) -> None:
        """It takes no more calls."""
        self._enter(worker, state)
        self._record.timers.cancel(worker.ttl_timer)
        self._record.timers.cancel(worker.health_timer)
        self._idle.pop(worker, None)
        self._free.pop(worker, None)
        self._roomy.pop(worker, None)

    def retire(self, worker: Worker, state: WorkerState) -> None:
        """It takes no more calls, and what it was late for no longer matters."""
        self.withhold(worker, state)
        self._record.timers.cancel(worker.timer)

    def kill(self, worker: Worker, fate: Fate, why: str = "") -> None:
        """It no longer counts; what it holds is settled when it is gone, and if its calls are to be
        told *why*, with a sentence that begins with its name and that."""
        self.retire(worker, WorkerState.STOPPING)
        if why:
            worker.verdict = {
                "type": "worker_crashed",
                "message": f"worker {worker.id} {why}",
                "signal": "SIGKILL",
                "pool": self._record.name,
                "worker": worker.id,
            }
        worker.fate = fate
        worker.killed = True
        self._record.effects.append(Kill(worker))

    def remove(self, worker: Worker) -> None:
        """It is gone."""
        self.retire(worker, WorkerState.GONE)
        del self._in[WorkerState.GONE][worker]
        del self.workers[worker.id]

    @property
    def longest_idle(self) -> Worker | None:
        """Of those that nobody's session is bound to."""
        return next((worker for worker in self._idle if not worker.sessions), None)

    # -- choosing ----------------------------------------------------------------------------------

    def free_for(self, call: Call, now: float) -> Worker | None:
        """A worker for one more call: an idle one, the last used first because its memory is warm;
        else, of those that can work on one more, the one with the fewest; else a busy one with
        room, if nobody is held up by that."""
        if self._idle:
            return next(reversed(self._idle))
        if self._free:
            # The host may use an id again that a worker has not let go of: not for the same worker.
            free = (worker for worker in self._free if call.id not in worker.calls)
            least = min(free, key=lambda worker: len(worker.calls), default=None)
            if least is not None:
                return least
        roomy = self._roomy
        if not roomy or not (ahead := self._ahead(call)):
            return None
        late = now - OVERDUE_SECONDS if self.judges_speed else -math.inf
        while roomy:
            worker = next(iter(roomy))
            if worker.busy_since >= late:
                break
            # Its commands used to be fast, but this one is not. An answer shows whether it is over.
            del roomy[worker]
        for worker in roomy:
            if len(worker.calls) < worker.capacity + ahead and worker.busy_since >= late:
                return worker
        return None

    def goes_on(self, now: float) -> bool:
        """Whether some worker that takes calls has room, or answers what it has."""
        late = now - OVERDUE_SECONDS
        return bool(self._idle or self._free) or any(
            worker.busy_since >= late for worker in self.in_state(READY)
        )

    def free_for_session(self, call: Call) -> Worker | None:
        """A worker for the first call of a strict session, which it then has all calls of: one that
        can work on it now, of those the one with the fewest sessions."""
        free = (worker for worker in self._free if call.id not in worker.calls)
        return min(
            (*reversed(self._idle), *free),
            key=lambda worker: (len(worker.sessions), len(worker.calls)),
            default=None,
        )

    def has_room(self, worker: Worker, call: Call, now: float) -> bool:
        """Whether this worker, and no other, can have one more call now."""
        if len(worker.calls) < worker.capacity:
            # The host may use an id again that a worker has not let go of.
            return worker.listens and call.id not in worker.calls
        return (
            worker in self._roomy
            and len(worker.calls) < worker.capacity + self._ahead(call)
            and (not self.judges_speed or now - worker.busy_since <= OVERDUE_SECONDS)
        )

    def _ahead(self, call: Call) -> int:
        """How many calls may wait at a worker, this one and others with it. A `prefetch` given as a
        number says it; but a stream takes as long as its consumer likes."""
        if call.credit is not None:
            return 0
        return self._fast.get(call.command, 0) if self.judges_speed else self._most_ahead

    def send(self, worker: Worker, call: Call, now: float) -> None:
        call.state = SENT
        call.worker = worker
        calls = worker.calls
        if not calls:
            worker.busy_since = now
            worker.run_time = worker.run_time_behind = 0.0
            self._idle.pop(worker, None)
        calls[call.id] = call
        call.sequence = worker.sent
        worker.sent += 1
        self._record.effects.append(Send(worker, call))
        load = len(calls)
        capacity = worker.capacity
        if load <= capacity:
            call.running_since = now
        serves = worker.state is READY
        if load < capacity:
            if serves:
                self._free[worker] = None
            return
        if load == capacity:
            self._free.pop(worker, None)
        roomy = self._roomy
        if serves and not worker.full and load < capacity + self._ahead(call):
            roomy[worker] = None
            # Behind the others: room is filled in turns.
            roomy.move_to_end(worker)
        else:
            roomy.pop(worker, None)

    def freed(self, worker: Worker, now: float) -> Call | None:
        """A worker that takes calls has answered one: note what it can take now, and return the
        call that it takes up next, if one waited there."""
        load, capacity = len(worker.calls), worker.capacity
        if load < capacity:
            self._has_slots(worker)
            return None
        next_up = worker.running if capacity == 1 else worker.last_running
        assert next_up is not None
        if worker not in self._roomy and (
            next_up.state is SENT and not worker.full and load < capacity + self._ahead(next_up)
        ):
            self._roomy[worker] = None
        return next_up

    def gave_back(self, worker: Worker) -> None:
        """A worker that takes calls has one fewer, and has not worked on it."""
        if len(worker.calls) < worker.capacity:
            self._has_slots(worker)

    def _has_slots(self, worker: Worker) -> None:
        """It has fewer calls than it can work on."""
        calls = worker.calls
        if worker.full:
            worker.full = any(call.state is ANSWERED for call in calls.values())
        self._roomy.pop(worker, None)
        if calls:
            self._free[worker] = None
        else:
            self._free.pop(worker, None)
            self._idle[worker] = None

    def send_no_more_ahead(self, worker: Worker) -> None:
        """Let no more calls wait at this worker until it has done with all that wait there."""
        worker.full = True
        self._roomy.pop(worker, None)

    # -- speed -------------------------------------------------------------------------------------

    def note_answer(self, worker: Worker, call: Call, ok: bool, now: float, together: int) -> float:
        """Count an answer, one of `together` that came in one go, and learn from the time it
        took. Returns the seconds that the call ran, as far as the pool can tell."""
        worker.answered += 1
        if worker.capacity > 1:
            # Each of its threads has answered its share of them.
            share = max(1.0, together / worker.capacity)
            ran = worker.run_time = (now - call.running_since) / share
            worker.busy_since = now
        elif now > worker.busy_since:
            # Calls that were answered in one go share the time since the answer before them.
            ran = now - worker.busy_since
            worker.run_time = ran / together
            worker.busy_since = now
            worker.run_time_behind = 0.0
            if together > 1:
                # But if one took much longer, it was the first: a worker has its answers written
                # while such a one runs.
                worker.run_time_behind = min(worker.run_time, self.speeds.longest(call.command))
                ran -= (together - 1) * worker.run_time_behind
        else:
            ran = worker.run_time_behind
        if self.judges_speed:
            self._learn(call, worker.run_time, whole=ok, stall=worker.run_time * together)
        return ran

    def note_death(self, worker: Worker, running: Call, now: float) -> None:
        """Learn from a call that a worker was running when it went."""
        if self.judges_speed:
            self._learn(running, self.running_for(worker, running, now), whole=False)

    def running_for(self, worker: Worker, call: Call, now: float) -> float:
        """The seconds since it took up a call that it is working on."""
        return now - (worker.busy_since if worker.capacity == 1 else call.running_since)

    def _learn(self, call: Call, seconds: float, *, whole: bool, stall: float = 0.0) -> None:
        """Note what a call took. One that failed or was cut short may have taken longer otherwise:
        it can show that its command is slow, but not that it is fast. A stream shows neither."""
        if call.credit is not None:
            return
        if whole and call.state is SENT:
            turned_slow = self.speeds.record(call.command, seconds, stall)
        else:
            turned_slow = self.speeds.at_least(call.command, seconds)
        if turned_slow:
            for worker in self.workers.values():
                if any(other.command == call.command for other in worker.calls.values()):
                    self.send_no_more_ahead(worker)
