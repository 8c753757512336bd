"""The pool's state machine: what happens to a pool, and what follows from it."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from enum import Enum
from itertools import islice
from typing import Any

from snakepit_port.config.model import PoolSettings
from snakepit_port.pool.call import Call, CallState
from snakepit_port.pool.effects import Effect, Finish, Forward, Interrupt, Settled, Stopped
from snakepit_port.pool.queue import Queue
from snakepit_port.pool.record import Record, age, in_words, milliseconds
from snakepit_port.pool.roster import Roster
from snakepit_port.pool.starting import Starting
from snakepit_port.pool.worker import Fate, Worker, WorkerState


class PoolState(Enum):
    STARTING = "starting"
    READY = "ready"
    UNAVAILABLE = "unavailable"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Machine:
    """One pool. Every method that is an event takes `now` (seconds, monotonic) and returns the
    effects it has.

    A call is answered exactly once: by one `Forward` or one `Reply`. It is started at most once: it
    is sent again only if the ledger says that the worker which went had not started it.

    `capacity` is how many calls a worker works on at a time.
    """

    def __init__(
        self, settings: PoolSettings, now: float, rng: random.Random, capacity: int = 1
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.state = PoolState.STARTING
        self._record = record = Record(settings)
        self._timers = record.timers
        self._roster = Roster(record, capacity)
        self._starting = Starting(record, self._roster, now, rng)
        self.queue = Queue(record, self._waited_too_long)
        self._born_at = now
        self._settled = False
        self._draining = False

    @property
    def workers(self) -> dict[str, Worker]:
        """All that are not gone, by id."""
        return self._roster.workers

    # -- events ------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        """The pool may start its workers."""
        self._go_on(now)
        return self._record.take()

    def call_arrived(self, call: Call, now: float) -> list[Effect]:
        self._record.counts["requests"] += 1
        call.arrived_at = now
        state = self.state
        if state is PoolState.STOPPING or state is PoolState.STOPPED:
            self._record.fail(call, "shutting_down", "the supervisor is shutting down")
        elif state is PoolState.UNAVAILABLE:
            self._record.reply(call, self._unavailable(call))
        elif call.timeout <= 0:
            self._record.counts["timeouts"] += 1
            self._record.fail(call, "timeout", "the call came with no time left (timeout is 0)")
        else:
            if call.timeout != math.inf:
                due = now + call.timeout
                call.deadline_timer = self._timers.at(due, self._deadline_passed, call)
            worker = self._roster.free_for(call, now) if not self.queue.waiting else None
            if worker is not None:
                self._roster.send(worker, call, now)
            elif self.queue.is_full:
                self.queue.refuse(call)
            else:
                self.queue.add(call, now)
        return self._record.take()

    def answered(
        self, worker: Worker, call_id: int, ok: bool, now: float, together: int = 1
    ) -> list[Effect] | None:
        """A terminal answer came from a worker, as one of `together` that arrived in one go.

        None: the worker was not given such a call, it breaks the protocol. What a condemned worker
        says counts no more.
        """
        if worker.fate is Fate.PROTOCOL_ERROR:
            return []
        call = worker.calls.pop(call_id, None)
        if call is None:
            return None
        if worker.answered == 0:
            self._starting.answered_first()
        self._roster.note_answer(worker, call, ok, now, together)
        self._timers.cancel(call.deadline_timer)
        if call.state is CallState.SENT:
            call.state = CallState.ANSWERED
            if not ok:
                self._record.counts["errors"] += 1
            self._record.effects.append(Forward(call))
        call.worker = None
        worker.stuck.discard(call.id)
        if worker.listens:
            self._freed(worker, now)
        if self._draining:
            self._drain(now)
        return self._record.take()

    def cancelled(self, call: Call, now: float) -> list[Effect]:
        """The host no longer wants the call. Nothing happens if it was answered."""
        if call.state is not CallState.ANSWERED:
            self._record.counts["cancelled"] += 1
            self._withdraw(
                call, self._record.error("cancelled", "the caller cancelled the call", call), now
            )
        return self._record.take()

    def worker_ready(self, worker: Worker, metadata: Mapping[str, Any], now: float) -> list[Effect]:
        """A worker that was asked for takes calls from now on; `metadata` goes into its event."""
        if worker.state is not WorkerState.STARTING:
            return []
        self._timers.cancel(worker.timer)
        self._roster.is_ready(worker, now)
        self._starting.succeeded(now)
        startup = {"startup_ms": milliseconds(now - worker.started_at)}
        self._record.emit("worker.started", startup, worker, **metadata)
        self._settle(now)
        self._dispatch(now)
        self._go_on(now)
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
        error = worker.broke_protocol or error
        self._let_go(worker, started, error, now)
        if worker.ready_at is not None or worker.fate is Fate.SHUTDOWN:
            reason = "crashed" if worker.fate is None else worker.fate.value
            self._record.emit(
                "worker.stopped", age(worker, now), worker, reason=reason, status=status
            )
        if worker.ready_at is not None and worker.fate is None:
            self._record.counts["worker_crashes"] += 1
            self._starting.may_have_died_young(worker, now)
        if not self._draining:
            if worker.ready_at is None:
                self._starting.failed(worker, error, now)
            else:
                self._record.emit("worker.recycled", age(worker, now), worker, reason="worker_died")
        self._settle(now)
        self._go_on(now)
        self._dispatch(now)
        return self._record.take()

    def condemn(self, worker: Worker, error: Mapping[str, Any], now: float) -> list[Effect]:
        """The worker broke the protocol: kill it. When it is gone, what it had started is answered
        with `error`."""
        if worker.state is not WorkerState.GONE and worker.fate is None:
            worker.broke_protocol = error
            self._roster.kill(worker, Fate.PROTOCOL_ERROR)
            self._starting.may_have_died_young(worker, now)
            self._go_on(now)
        return self._record.take()

    def stop(self, now: float, grace: float) -> list[Effect]:
        """Take no more calls; finish what there is within `grace` seconds; then let every worker
        go."""
        if self.state not in (PoolState.STOPPING, PoolState.STOPPED):
            self.state = PoolState.STOPPING
            self._draining = True
            self._starting.stop()
            self._timers.at(now + grace, self._drained_too_long)
            self._drain(now)
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
        serving = [w for w in self.workers.values() if w.state is WorkerState.READY]
        busy = sum(1 for worker in serving if worker.calls)
        return {
            **self._record.counts,
            "state": self.state.value,
            "queued": len(self.queue),
            "workers": len(serving),
            "available": len(serving) - busy,
            "busy": busy,
        }

    # -- calls -------------------------------------------------------------------------------------

    def _freed(self, worker: Worker, now: float) -> None:
        """A worker answered: note what it can take now, and give it that."""
        if worker.state is WorkerState.DRAINING:
            next_up = worker.last_running
            self._let_leave(worker, now)
        else:
            next_up = self._roster.freed(worker, now)
        if next_up is not None and next_up.state is CallState.ANSWERED:
            # Abandoned while it waited here, and now its turn.
            self._expect_to_yield(worker, next_up, now)
        if self.queue.waiting:
            self._dispatch(now)

    def _dispatch(self, now: float) -> None:
        """Send queued calls, in order, for as long as there is a worker for the first one."""
        queue = self.queue
        while queue.waiting:
            call = queue.first
            if call.deadline_timer is not None and call.deadline_timer[0] <= now:
                # Its time is up, even if `tick` has not come round to it.
                self._deadline_passed(call, now)
                continue
            worker = self._roster.free_for(call, now)
            if worker is None:
                return
            queue.remove(call)
            self._roster.send(worker, call, now)

    def _requeue(self, call: Call, now: float) -> None:
        """Back to the front: it had already waited its turn."""
        if self.state is PoolState.UNAVAILABLE:
            self._record.reply(call, self._unavailable(call))
            return
        self.queue.add_first(call, now)

    def _let_go(self, worker: Worker, begun: int, error: Mapping[str, Any], now: float) -> None:
        """Settle the calls of a worker that is gone: those it started, the first `begun` of all
        that it was sent, fail, and the others wait again."""
        calls = worker.calls.values()
        started = [call for call in calls if call.sequence < begun]
        others = [call for call in calls if call.sequence >= begun]
        for call in calls:
            if call.state is CallState.ANSWERED:
                self._timers.cancel(call.deadline_timer)
        worker.calls.clear()
        if started:
            self._roster.note_death(worker, started[0], now)
        for call in started:
            call.worker = None
            if call.state is CallState.SENT:
                self._record.reply(call, {**error, "command": call.command})
        for call in reversed(others):
            call.worker = None
            if call.state is CallState.SENT:
                self._requeue(call, now)

    def _deadline_passed(self, call: Call, now: float) -> None:
        self._record.counts["timeouts"] += 1
        message = f"no answer within {in_words(call.timeout)}"
        if call.state is CallState.QUEUED:
            message += f"; the call was still waiting for a worker of pool {self.name!r}"
        self._withdraw(call, self._record.error("timeout", message, call), now)

    def _waited_too_long(self, call: Call, now: float) -> None:
        if call.state is CallState.QUEUED:
            self._record.counts["queue_timeouts"] += 1
            message = (
                f"no worker of pool {self.name!r} was free within {in_words(call.queue_timeout)}"
                f" ({len(self.queue)} calls queued); raise pool_size or queue_timeout"
            )
            self._withdraw(call, self._record.error("queue_timeout", message, call), now)

    def _withdraw(self, call: Call, error: dict[str, Any], now: float) -> None:
        """Answer a call now, wherever it is, and stop the work on it."""
        if call.state is CallState.QUEUED:
            self.queue.remove(call)
        worker = call.worker
        if worker is not None:
            error["worker"] = worker.id
        self._record.reply(call, error)
        if worker is not None and worker.listens:
            # The host may use the id again, and a worker must not hold two calls of one id.
            self._roster.fill_up(worker)
            self._record.effects.append(Interrupt(worker, call))
            if worker.is_running(call):
                self._expect_to_yield(worker, call, now)
        if self._draining:
            self._drain(now)

    def _expect_to_yield(self, worker: Worker, call: Call, now: float) -> None:
        due = now + self.settings.cancel_grace_period
        call.deadline_timer = self._timers.at(due, self._did_not_yield, (worker, call))

    def _did_not_yield(self, what: tuple[Worker, Call], now: float) -> None:
        worker, call = what
        if worker.listens:
            worker.stuck.add(call.id)
            # One call cannot be ended alone: others that the worker has may finish first.
            self._roster.withhold(worker, WorkerState.DRAINING)
            self._let_leave(worker, now)
            self._go_on(now)

    def _let_leave(self, worker: Worker, now: float) -> None:
        """A draining worker goes when all it works on are calls that do not stop."""
        if not worker.calls:
            self._finish(worker, Fate.CANCELLED, now)
        elif worker.stuck.issuperset(islice(worker.calls, worker.capacity)):
            self._roster.kill(worker, Fate.CANCELLED)

    def _unavailable(self, call: Call) -> dict[str, Any]:
        cause = self._starting.cause
        why = cause.get("message", "no worker could be started")
        return {
            **cause,
            "type": "pool_unavailable",
            "message": f"pool {self.name!r} has no worker: {why}",
            "pool": self.name,
            "command": call.command,
        }

    # -- workers -----------------------------------------------------------------------------------

    def _go_on(self, now: float) -> None:
        """After a change among the workers: start what is missing, or, while stopping, let go of
        what is left."""
        if self._draining:
            self._drain(now)
        else:
            self._starting.fill(now)

    def _settle(self, now: float) -> None:
        """Ready once the first workers have been tried and some serve, unavailable when none does
        and the last attempt failed."""
        serving = self._roster.serving()
        # A crash alone is not enough: its successor must have failed to start.
        failed = self._starting.cannot_start and not self._roster.is_starting
        if self.state is PoolState.STARTING and serving:
            if self._starting.attempts_ended >= self.settings.pool_size or failed:
                self._become_ready(serving, now)
        elif self.state is PoolState.UNAVAILABLE and serving:
            self._become_ready(serving, now)
        elif self.state in (PoolState.STARTING, PoolState.READY) and failed and not serving:
            self._become_unavailable()

    def _become_ready(self, serving: int, now: float) -> None:
        self.state = PoolState.READY
        measurements = {"workers": serving, "startup_ms": milliseconds(now - self._born_at)}
        self._record.emit("pool.ready", measurements)
        self._note_settled()

    def _become_unavailable(self) -> None:
        self.state = PoolState.UNAVAILABLE
        self._record.emit("pool.unavailable", {}, **self._starting.cause_for_people())
        self._note_settled()
        for call in self.queue.take_all():
            self._record.reply(call, self._unavailable(call))

    def _note_settled(self) -> None:
        if not self._settled:
            self._settled = True
            self._record.effects.append(Settled())

    # -- shutdown ----------------------------------------------------------------------------------

    def _drain(self, now: float) -> None:
        """While stopping: let go of every worker that has nothing left to do."""
        if self.queue and not any(self._roster.in_state(WorkerState.STARTING, WorkerState.READY)):
            self._fail_queue("the supervisor is shutting down and no worker is left for the call")
        if not self.queue:
            for worker in list(self.workers.values()):
                if worker.state is WorkerState.STARTING:
                    self._roster.kill(worker, Fate.SHUTDOWN)
                elif worker.listens and not worker.calls:
                    self._finish(worker, Fate.SHUTDOWN, now)
        if not self.workers and self.state is not PoolState.STOPPED:
            self.state = PoolState.STOPPED
            self._record.effects.append(Stopped())

    def _finish(self, worker: Worker, fate: Fate, now: float) -> None:
        self._roster.retire(worker, WorkerState.STOPPING)
        worker.fate = fate
        due = now + self.settings.worker_shutdown_grace_period
        worker.timer = self._timers.at(due, self._did_not_stop, worker)
        self._record.effects.append(Finish(worker))

    def _did_not_stop(self, worker: Worker, now: float) -> None:
        assert worker.fate is not None
        self._roster.kill(worker, worker.fate)

    def _drained_too_long(self, _: None, now: float) -> None:
        message = "the supervisor shut down before the call was done (shutdown_grace_period)"
        self._fail_queue(message)
        for worker in list(self.workers.values()):
            for call in worker.calls.values():
                if call.state is CallState.SENT:
                    self._record.fail(call, "shutting_down", message)
            if worker.calls and worker.listens:
                self._roster.kill(worker, Fate.SHUTDOWN)
        self._drain(now)

    def _fail_queue(self, message: str) -> None:
        for call in self.queue.take_all():
            self._record.fail(call, "shutting_down", message)
