"""The pool's state machine: what happens to a pool, and what follows from it."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping
from math import inf
from typing import Any

from snakepit_port.config.model import PoolSettings
from snakepit_port.pool.call import ANSWERED, SENT, Call
from snakepit_port.pool.dispatch import Dispatch
from snakepit_port.pool.draining import Draining
from snakepit_port.pool.effects import Effect, Forward
from snakepit_port.pool.health import Health
from snakepit_port.pool.memory import Memory
from snakepit_port.pool.queue import Queue
from snakepit_port.pool.recall import Recalling
from snakepit_port.pool.record import Record, age, milliseconds
from snakepit_port.pool.recycling import Recycling
from snakepit_port.pool.reloading import Reloading
from snakepit_port.pool.returns import Returns
from snakepit_port.pool.roster import Roster
from snakepit_port.pool.scaling import Scaling
from snakepit_port.pool.sessions import Sessions
from snakepit_port.pool.standing import PoolState, Standing
from snakepit_port.pool.starting import Starting
from snakepit_port.pool.stopping import Stopping
from snakepit_port.pool.withdrawal import Withdrawal
from snakepit_port.pool.worker import DRAINING, READY, Fate, Worker, WorkerState

#: Bound once: to look a member up in its Enum costs as much as a call of a function.
_SERVES, _CONDEMNED = PoolState.READY, Fate.PROTOCOL_ERROR


class Machine:
    """One pool. Every method that is an event takes `now` (seconds, monotonic) and returns the
    effects it has.

    A call is answered exactly once: by one `Forward` or one `Reply`. It is started at most once,
    unless its command is idempotent and the worker crashed. Otherwise it is sent again only if its
    worker gave it back, or went and, as the ledger says, had not started it.

    `begun` says how many of all calls that a worker was sent it has begun, as its ledger has it.
    `capacity` is how many calls a worker works on at a time, `first_number` the number in the name
    of the first worker.
    """

    def __init__(
        self,
        settings: PoolSettings,
        now: float,
        rng: random.Random,
        begun: Callable[[Worker], int],
        capacity: int = 1,
        first_number: int = 1,
    ) -> None:
        self.name = settings.name
        self._record = record = Record(settings)
        self._timers = record.timers
        self._roster = roster = Roster(record, capacity)
        self._starting = starting = Starting(record, roster, now, rng, self._go_on, first_number)
        self._reloading = Reloading(record, roster)
        self._health = Health(record, self._give_up_on)
        self.queue = queue = Queue(
            record, lambda call, now: self._withdrawal.waited_too_long(call, now)
        )
        self._sessions = sessions = Sessions(record, self._session_left)
        self._draining = draining = Draining(
            record, roster, queue, begun, self._lose_sessions, self._go_on
        )
        self._scaling = scaling = Scaling(
            record, roster, draining, lambda now: self._recycling.go_on(now)
        )
        self._standing = standing = Standing(record, roster, starting, queue, scaling, now)
        self._recycling = recycling = Recycling(
            record, roster, starting, draining, scaling, standing, rng
        )
        self._memory = memory = Memory(record, roster, recycling, standing)
        self._withdrawal = withdrawal = Withdrawal(
            record, roster, queue, sessions, standing, self._was_withdrawn, self._has_got_stuck
        )
        self._stopping = Stopping(
            record,
            roster,
            queue,
            sessions,
            starting,
            draining,
            scaling,
            memory,
            standing,
            withdrawal,
        )
        self._deadline_passed = withdrawal.deadline_passed
        self._recalling = recalling = Recalling(
            record, roster, sessions, scaling, standing, withdrawal, begun
        )
        self._dispatch = Dispatch(roster, queue, sessions, scaling, withdrawal, recalling)
        self._returns = Returns(record, roster, queue, sessions, scaling, standing)

    @property
    def settings(self) -> PoolSettings:
        return self._record.settings

    @property
    def state(self) -> PoolState:
        return self._standing.state

    @property
    def next_number(self) -> int:
        """The number in the name of the next worker."""
        return self._starting.next_number

    @property
    def wanted(self) -> int:
        """How many workers there should be."""
        return self._scaling.wanted

    @property
    def workers(self) -> dict[str, Worker]:
        """All that are not gone, by id."""
        return self._roster.workers

    # -- events ------------------------------------------------------------------------------------

    def added(self, now: float) -> None:
        """A reload has added the pool: it tells when it is whole, as others that were changed."""
        self._reloading.begin(now)

    def start(self, now: float) -> list[Effect]:
        """The pool may start its workers."""
        self._go_on(now)
        return self._record.take()

    def call_arrived(self, call: Call, now: float) -> list[Effect]:
        record = self._record
        record.counts["requests"] += 1
        call.arrived_at = now
        call.queue_due = now + call.queue_timeout
        timeout = call.timeout
        if self._standing.state is not _SERVES and self._standing.refuse_if_closed(call):
            pass
        elif timeout <= 0:
            record.counts["timeouts"] += 1
            record.fail(call, "timeout", "the call came with no time left (timeout is 0)")
        else:
            if timeout != inf:
                call.deadline_timer = self._timers.at(now + timeout, self._deadline_passed, call)
            id = call.session_id
            if id is None or self._sessions.join(call, id, now):
                self._dispatch.place(call, now)
        return record.take()

    def answered(
        self, worker: Worker, call_id: int, ok: bool, now: float, together: int = 1
    ) -> list[Effect] | None:
        """A terminal answer came from a worker, as one of `together` that arrived in one go.

        None: the worker was not given such a call, it breaks the protocol. What a condemned worker
        says counts no more.
        """
        if worker.fate is _CONDEMNED:
            return []
        call = worker.calls.pop(call_id, None)
        if call is None:
            return None
        record = self._record
        if worker.answered == 0:
            self._starting.answered_first()
        ran = self._roster.note_answer(worker, call, ok, now, together)
        self._timers.cancel(call.deadline_timer)
        if call.state is SENT:
            call.state = ANSWERED
            if call.session is not None:
                call.session.unanswered -= 1
                self._sessions.used(call.session, now)
            if not ok:
                record.counts["errors"] += 1
            record.effects.append(Forward(call))
            if record.settings.request_events:
                outcome = "ok" if ok else "error"
                record.executed(worker, call, outcome, ran, now)
        call.worker = None
        if worker.stuck:
            worker.stuck.discard(call.id)
        if worker.checkup is not None:
            self._health.has_answered_a_call(worker, now)
        self._freed(worker, now)
        if worker.answered >= worker.max_requests and worker.recycled_for is None:
            self._recycling.mark([worker], "max_requests", now)
        if self._standing.is_stopping:
            self._stopping.wind_down(now)
        return record.take()

    def gave_back(self, worker: Worker, call_ids: Iterable[int], now: float) -> list[Effect] | None:
        """A worker gave calls back that it had not begun, in the order it was sent them.

        None: it was not asked for one of them, it breaks the protocol.
        """
        if worker.fate is Fate.PROTOCOL_ERROR:
            return []
        before = worker.at_work
        if not self._returns.gave_back(worker, call_ids, now):
            return None
        for call in worker.at_work:
            if call not in before:
                self._taken_up(worker, call, now)
        if worker.state is READY:
            self._roster.gave_back(worker)
        elif worker.state is DRAINING:
            self._draining.has_drained(worker, now)
        if self._standing.is_stopping:
            self._stopping.wind_down(now)
        self._dispatch.go_on(now)
        return self._record.take()

    def cancelled(self, call: Call, now: float) -> list[Effect]:
        """The host no longer wants the call. Nothing happens if it was answered."""
        if call.state is not ANSWERED:
            self._withdrawal.cancelled(call, now)
        return self._record.take()

    def worker_ready(
        self,
        worker: Worker,
        metadata: Mapping[str, Any],
        now: float,
        memory: int | None = None,
        idempotent: Collection[str] = (),
    ) -> list[Effect]:
        """A worker that was asked for takes calls from now on; `metadata` goes into its event.

        Its commands that are `idempotent` may be started again after a crash. `memory` is the bytes
        it has to itself, where limits are set and it could be measured.
        """
        if worker.state is not WorkerState.STARTING:
            return []
        if memory is not None and self._memory.refuse_if_too_large(worker, memory):
            return self._record.take()
        worker.idempotent = idempotent
        self._timers.cancel(worker.timer)
        self._roster.begin_serving(worker, now)
        self._health.watch(worker, now)
        self._starting.succeeded(now)
        self._recycling.draw_limits(worker)
        self._memory.watch(now)
        startup = {"startup_ms": milliseconds(now - worker.started_at)}
        self._record.emit("worker.started", startup, worker, **metadata)
        self._standing.settle(now)
        self._dispatch.go_on(now)
        self._go_on(now)
        return self._record.take()

    def ponged(self, worker: Worker, number: int, now: float) -> list[Effect] | None:
        """A worker says that it is well. None: it was not asked, it breaks the protocol."""
        if worker.state is READY and not self._health.answered(worker, number, now):
            return None
        return self._record.take()

    def unwell(self, worker: Worker, message: str, now: float) -> list[Effect]:
        """A worker says that it is not well."""
        if worker.state is READY:
            self._give_up_on(worker, message, now)
        return self._record.take()

    def worker_gone(
        self,
        worker: Worker,
        now: float,
        *,
        started: int,
        error: Mapping[str, Any],
        status: str = "",
    ) -> list[Effect]:
        """A worker's process is gone, or could not be started.

        `started` is what its ledger slot holds: the number of calls it had started in all. `error`
        (SPEC section 11) says why it went: it is what the calls it was running are answered with,
        and what the pool answers while none can be started. `status` is a short text for events: an
        exit status, or a signal's name.
        """
        if worker.state is WorkerState.GONE:
            return []
        self._roster.remove(worker)
        error = worker.verdict or error
        has_crashed = worker.ready_at is not None and worker.fate is None
        if has_crashed:
            # Before its calls come back, which may have another worker started.
            self._starting.may_have_died_young(worker, now)
        begun = self._returns.let_go(worker, started, error, now)
        self._lose_sessions(worker)
        if worker.ready_at is not None or worker.fate is Fate.SHUTDOWN:
            reason = "crashed" if worker.fate is None else worker.fate.value
            commands = [call.command for call in begun]
            about = {"reason": reason, "status": status, "commands": commands}
            self._record.emit("worker.stopped", age(worker, now), worker, **about)
        if has_crashed:
            self._record.counts["worker_crashes"] += 1
            if not self._standing.is_stopping and self._starting.crashed(error, now):
                self._standing.become_unavailable(now)
        if not self._standing.is_stopping:
            if worker.ready_at is not None:
                reason = self._recycling.reason_of(worker)
                self._record.emit("worker.recycled", age(worker, now), worker, reason=reason)
            elif not worker.held and not self._reloading.is_outdated(worker):
                self._start_failed(worker, error, now)
        self._reloading.forget(worker)
        self._go_on(now)
        self._dispatch.go_on(now)
        return self._record.take()

    def _start_failed(self, worker: Worker, error: Mapping[str, Any], now: float) -> None:
        self._starting.failed(worker, error, now)
        self._reloading.failed_to_start(self._starting.cause_for_people())

    def held(self, worker: Worker, error: Mapping[str, Any], now: float) -> list[Effect]:
        """A worker was killed, and something keeps it from going. The pool goes on: if it was
        starting, that attempt has failed now, and not when it is let go."""
        if worker.killed and not worker.held and worker.state is not WorkerState.GONE:
            worker.held = True
            if worker.ready_at is None and not self._standing.is_stopping:
                if not self._reloading.is_outdated(worker):
                    self._start_failed(worker, worker.verdict or error, now)
                self._go_on(now)
        return self._record.take()

    def condemn(self, worker: Worker, error: Mapping[str, Any], now: float) -> list[Effect]:
        """The worker broke the protocol: kill it. When it is gone, what it had started is answered
        with `error`."""
        if worker.state is not WorkerState.GONE and not worker.killed:
            worker.verdict = error
            if worker.fate is None:
                self._starting.may_have_died_young(worker, now)
            # One that leaves anyway was not lost by that.
            self._roster.kill(worker, worker.fate or Fate.PROTOCOL_ERROR)
            self._go_on(now)
        return self._record.take()

    def reconfigure(
        self, settings: PoolSettings, now: float, *, capacity: int, replaces: bool
    ) -> list[Effect]:
        """Go on with other settings of the same pool, from now on.

        With `replaces`, workers of before cannot have them, and are replaced: as ever, successors
        first. What the pool owes to calls it has goes on. Nothing happens while it stops.
        """
        if self._standing.is_stopping:
            return []
        before, self._record.settings = self._record.settings, settings
        self._reloading.begin(now)
        begins = self._standing.begin_anew(now)
        self._starting.begin_anew(now, counts_anew=begins or replaces)
        self._roster.reconfigure(capacity)
        if settings.affinity == "hint":
            self.queue.untie()
        held = (call for worker in self.workers.values() for call in worker.calls.values())
        self._sessions.reconfigure([*self.queue.calls(), *held], now)
        self._scaling.reconfigure(before)
        # Before any is marked to be replaced: those that are too many take no successor's room.
        self._recycling.reconfigure(before, now)
        self._draining.reconfigure(before, now)
        self._memory.reconfigure(now)
        if replaces:
            self._reloading.outdate()
            for worker in self._roster.in_state(WorkerState.STARTING):
                self._roster.kill(worker, Fate.OUTDATED)
            self._recycling.mark(self._roster.in_state(READY), "reload", now)
        if settings.health_check_interval != before.health_check_interval:
            self._health.reconfigure(self._roster.in_state(READY), now)
        self._go_on(now)
        self._dispatch.go_on(now)
        return self._record.take()

    def recycle(self, workers: Iterable[Worker], reason: str, now: float) -> list[Effect]:
        """Replace these workers, those of them that serve and are not being replaced already."""
        self._recycling.mark(workers, reason, now)
        return self._record.take()

    def measured(self, worker: Worker, size: int, now: float) -> list[Effect]:
        """The bytes that a worker and its children have to themselves, as `Measure` asked."""
        if worker.listens:
            self._memory.measured(worker, size, now)
            self._go_on(now)
        return self._record.take()

    def hear(self, hears: bool, now: float) -> None:
        """Workers are not read from any more, or are again."""
        self._record.hear(hears, now)

    def close_session(self, id: str, now: float) -> tuple[bool, list[Effect]]:
        """End a session; whether there was one, and the effects."""
        return self._sessions.close(id, now), self._record.take()

    def stop(
        self, now: float, grace: float, why: str = "the supervisor is shutting down"
    ) -> list[Effect]:
        """Take no more calls; finish what there is within `grace` seconds; then let every worker
        go. A pool that stops already has the shorter of two graces."""
        self._stopping.stop(now, grace, why)
        return self._record.take()

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        for action, argument in self._timers.due(now):
            action(argument, now)
        return self._record.take()

    @property
    def next_due(self) -> float | None:
        """When `tick` has something to do next, if nothing else happens."""
        return self._timers.next_due

    def stats(self) -> dict[str, Any]:
        """Snakepit's keys and the pool's own (SPEC section 9.1)."""
        serving = [w for w in self.workers.values() if w.state is READY]
        busy = sum(1 for worker in serving if worker.calls)
        return {
            **self._record.counts,
            "state": self.state.value,
            "reload": self._reloading.progress,
            "queued": len(self.queue),
            "sessions": len(self._sessions),
            "workers": len(serving),
            "available": len(serving) - busy,
            "busy": busy,
        }

    def work_of(self, worker: Worker, now: float) -> dict[str, Any]:
        """What a worker is at: the commands it works on, for how long it has worked on the first of
        them, and how many calls wait there besides (SPEC section 9.3)."""
        running = worker.at_work
        return {
            "commands": [call.command for call in running],
            "busy_ms": (
                round(self._roster.running_for(worker, running[0], now) * 1000) if running else None
            ),
            "waiting": len(worker.calls) - len(running),
            "sessions": len(worker.sessions),
        }

    # -- calls -------------------------------------------------------------------------------------

    def _freed(self, worker: Worker, now: float) -> None:
        """A worker answered: note what it can take now, and give it that."""
        if worker.state is READY:
            next_up = self._roster.freed(worker, now)
        elif worker.state is DRAINING:
            next_up = worker.last_running
            self._draining.has_drained(worker, now)
        else:
            return
        if next_up is not None:
            self._taken_up(worker, next_up, now)
        if self.queue.waiting or self.queue.lines:
            self._dispatch.go_on(now)

    def _taken_up(self, worker: Worker, call: Call, now: float) -> None:
        """It is the turn of a call that waited there."""
        call.running_since = now
        if call.state is ANSWERED and worker.listens:
            # Abandoned while it waited.
            self._withdrawal.expect_to_yield(worker, call, now)

    def _session_left(self, worker: Worker, now: float) -> None:
        if worker.state is DRAINING:
            self._draining.has_drained(worker, now)

    def _lose_sessions(self, worker: Worker, reason: str = "worker_gone") -> None:
        """A worker takes no more calls of its sessions."""
        if self._sessions.are_strict:
            for call in self.queue.take_tied(worker):
                self._sessions.refuse_lost(call)
        self._sessions.lose(worker, reason)

    def _was_withdrawn(self, now: float) -> None:
        if self._standing.is_stopping:
            self._stopping.wind_down(now)

    def _has_got_stuck(self, worker: Worker, now: float) -> None:
        """One call cannot be ended alone: others that the worker has may finish first."""
        self._roster.withhold(worker, DRAINING)
        self._lose_sessions(worker)
        self._draining.has_drained(worker, now)
        self._go_on(now)

    # -- workers -----------------------------------------------------------------------------------

    def _go_on(self, now: float) -> None:
        """After a change among the workers: start what is missing, or, while stopping, let go of
        what is left."""
        if self._standing.is_stopping:
            self._stopping.wind_down(now)
        else:
            self._standing.settle(now)
            self._recycling.go_on(now)
            self._reloading.see(self._scaling.wanted, now)
            self._recalling.changed(now)

    def _give_up_on(self, worker: Worker, message: str, now: float) -> None:
        self._record.emit("worker.health_check_failed", {}, worker, message=message)
        why = f"failed its health check and was killed: {message}"
        self._roster.kill(worker, Fate.UNWELL, why)
        self._starting.may_have_died_young(worker, now)
        self._go_on(now)
