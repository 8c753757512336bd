"""The pool's state machine: queue, choice of worker, deadlines, starting, crashes, shutdown."""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from snakepit_port.config.model import PoolSettings
from snakepit_port.pool import backoff
from snakepit_port.pool.backoff import Backoff
from snakepit_port.pool.call import Call, CallState
from snakepit_port.pool.effects import (
    Effect,
    Emit,
    Finish,
    Forward,
    Interrupt,
    Kill,
    Reply,
    Send,
    Settled,
    Start,
    Stopped,
)
from snakepit_port.pool.speed import OVERDUE_SECONDS, Speeds
from snakepit_port.pool.timers import Timers
from snakepit_port.pool.worker import Fate, Worker, WorkerState

#: Calls with one worker at a time when `prefetch` is "auto": measured, the rate no longer grows
#: beyond this.
AUTO_PREFETCH = 16


#: What a pool counts; SPEC section 9.1 says what each means.
COUNTERS = (
    "requests",
    "errors",
    "queue_timeouts",
    "pool_saturated",
    "timeouts",
    "cancelled",
    "worker_crashes",
    "started",
)


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
    """

    def __init__(self, settings: PoolSettings, now: float, rng: random.Random) -> None:
        self.settings = settings
        self.name = settings.name
        self.state = PoolState.STARTING
        self.workers: dict[str, Worker] = {}
        self.queue: OrderedDict[int, Call] = OrderedDict()
        self.queued_bytes = 0
        self.cause: dict[str, Any] = {}
        self.counts = dict.fromkeys(COUNTERS, 0)
        auto = settings.prefetch == "auto"
        self._prefetch = AUTO_PREFETCH if auto else int(settings.prefetch)
        self._judge_speed = auto
        self._speeds = Speeds()
        self._starts = Backoff(rng)
        self._crashes = Backoff(rng)
        self._crashed_until = now
        self._timers = Timers()
        self._idle: dict[Worker, None] = {}
        self._roomy: OrderedDict[Worker, None] = OrderedDict()
        self._born_at = now
        self._next_number = 1
        self._may_start_at = now
        self._start_timer: Any = None
        self._settled = False
        self._refusing = False
        self._draining = False
        self._attempts_ended = 0
        self._cannot_start = False
        self._effects: list[Effect] = []

    # -- events ------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Effect]:
        """The pool may start its workers."""
        self._go_on(now)
        return self._take()

    def call_arrived(self, call: Call, now: float) -> list[Effect]:
        self.counts["requests"] += 1
        call.arrived_at = now
        state = self.state
        if state is PoolState.STOPPING or state is PoolState.STOPPED:
            self._fail(call, "shutting_down", "the supervisor is shutting down")
        elif state is PoolState.UNAVAILABLE:
            self._reply(call, self._unavailable(call))
        elif call.timeout <= 0:
            self.counts["timeouts"] += 1
            self._fail(call, "timeout", "the call came with no time left (timeout is 0)")
        else:
            if call.timeout != math.inf:
                due = now + call.timeout
                call.deadline_timer = self._timers.at(due, self._deadline_passed, call)
            worker = self._free_worker(call.command, now) if not self.queue else None
            if worker is not None:
                self._send(worker, call, now)
            elif len(self.queue) >= self.settings.max_queue_size:
                self._saturated(call)
            else:
                self._enqueue(call, now)
        return self._take()

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
        worker.answered += 1
        if worker.answered == 1:
            self._crashes.succeeded()
        if now > worker.busy_since:
            # Calls that were answered in one go share the time since the answer before them.
            worker.run_time = (now - worker.busy_since) / together
            worker.busy_since = now
        if self._judge_speed:
            self._learn(call, worker.run_time, whole=ok)
        if call.state is CallState.SENT:
            call.state = CallState.ANSWERED
            self._timers.cancel(call.deadline_timer)
            if not ok:
                self.counts["errors"] += 1
            self._effects.append(Forward(call))
        call.worker = None
        if worker.state is WorkerState.READY:
            self._freed(worker, now)
        if self._draining:
            self._drain(now)
        return self._take()

    def cancelled(self, call: Call, now: float) -> list[Effect]:
        """The host no longer wants the call. Nothing happens if it was answered."""
        if call.state is not CallState.ANSWERED:
            self.counts["cancelled"] += 1
            self._withdraw(
                call, self._error("cancelled", "the caller cancelled the call", call), now
            )
        return self._take()

    def worker_ready(self, worker: Worker, metadata: Mapping[str, Any], now: float) -> list[Effect]:
        """A worker that was asked for takes calls from now on; `metadata` goes into its event."""
        if worker.state is not WorkerState.STARTING:
            return []
        self._timers.cancel(worker.timer)
        worker.state = WorkerState.READY
        worker.ready_at = now
        self._starts.succeeded()
        self._cannot_start = False
        self._attempt_ended(now)
        startup = {"startup_ms": _ms(now - worker.started_at)}
        self._emit("worker.started", startup, worker, **metadata)
        self._idle[worker] = None
        self._settle(now)
        self._dispatch(now)
        self._go_on(now)
        return self._take()

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
        worker.state = WorkerState.GONE
        self._timers.cancel(worker.timer)
        self.workers.pop(worker.id, None)
        self._idle.pop(worker, None)
        self._roomy.pop(worker, None)
        error = worker.broke_protocol or error
        self._let_go(worker, started - worker.answered, error, now)
        if worker.ready_at is not None or worker.fate is Fate.SHUTDOWN:
            reason = "crashed" if worker.fate is None else worker.fate.value
            self._emit("worker.stopped", _age(worker, now), worker, reason=reason, status=status)
        if worker.ready_at is not None and worker.fate is None:
            self.counts["worker_crashes"] += 1
            self._may_have_died_young(worker, now)
        if not self._draining:
            if worker.ready_at is None:
                self._start_failed(worker, error, now)
            else:
                self._emit("worker.recycled", _age(worker, now), worker, reason="worker_died")
        self._settle(now)
        self._go_on(now)
        self._dispatch(now)
        return self._take()

    def condemn(self, worker: Worker, error: Mapping[str, Any], now: float) -> list[Effect]:
        """The worker broke the protocol: kill it. When it is gone, what it had started is answered
        with `error`."""
        if worker.state is not WorkerState.GONE and worker.fate is None:
            worker.broke_protocol = error
            self._kill(worker, Fate.PROTOCOL_ERROR)
            self._may_have_died_young(worker, now)
            self._go_on(now)
        return self._take()

    def stop(self, now: float, grace: float) -> list[Effect]:
        """Take no more calls; finish what there is within `grace` seconds; then let every worker
        go."""
        if self.state not in (PoolState.STOPPING, PoolState.STOPPED):
            self.state = PoolState.STOPPING
            self._draining = True
            self._timers.cancel(self._start_timer)
            self._timers.at(now + grace, self._drained_too_long)
            self._drain(now)
        return self._take()

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        for action, argument in self._timers.due(now):
            action(argument, now)
        return self._take()

    @property
    def next_due(self) -> float | None:
        """When `tick` has something to do next, if nothing else happens."""
        return self._timers.next_due

    def stats(self) -> dict[str, Any]:
        """Snakepit's keys and the pool's own (SPEC section 9.1)."""
        serving = [w for w in self.workers.values() if w.state is WorkerState.READY]
        busy = sum(1 for worker in serving if worker.calls)
        return {
            **self.counts,
            "state": self.state.value,
            "queued": len(self.queue),
            "workers": len(serving),
            "available": len(serving) - busy,
            "busy": busy,
        }

    # -- calls -------------------------------------------------------------------------------------

    def _free_worker(self, command: str, now: float) -> Worker | None:
        """A worker for one more call of `command`: an idle one, the last used first because its
        memory is warm; else a busy one with room, if nobody is held up by that."""
        if self._idle:
            return next(reversed(self._idle))
        if not self._roomy or not self._fast(command):
            return None
        while self._roomy:
            worker = next(iter(self._roomy))
            if not self._judge_speed or now - worker.busy_since <= OVERDUE_SECONDS:
                return worker
            # Its commands used to be fast, but this one is not. An answer shows whether it is over.
            del self._roomy[worker]
        return None

    def _fast(self, command: str) -> bool:
        """May a call of this command wait behind others, and others behind it? A `prefetch` given
        as a number says yes."""
        return not self._judge_speed or self._speeds.is_fast(command)

    def _send(self, worker: Worker, call: Call, now: float) -> None:
        call.state = CallState.SENT
        call.worker = worker
        if not worker.calls:
            worker.busy_since = now
            worker.run_time = 0.0
        worker.calls[call.id] = call
        self._idle.pop(worker, None)
        if len(worker.calls) < self._prefetch and self._fast(call.command):
            self._roomy[worker] = None
            # Behind the others: room is filled in turns.
            self._roomy.move_to_end(worker)
        else:
            self._roomy.pop(worker, None)
        self._effects.append(Send(worker, call))

    def _freed(self, worker: Worker, now: float) -> None:
        """A worker answered: note what it can take now, and give it that."""
        running = worker.running
        if running is None:
            self._idle[worker] = None
            self._roomy.pop(worker, None)
            worker.full = False
        elif running.state is CallState.ANSWERED:
            # Abandoned while it waited here, and now its turn.
            self._expect_to_yield(worker, now)
        elif not worker.full and len(worker.calls) < self._prefetch and self._fast(running.command):
            self._roomy[worker] = None
        if self.queue:
            self._dispatch(now)

    def _fill_up(self, worker: Worker) -> None:
        """Nothing more for this worker until it has answered all that it has."""
        worker.full = True
        self._roomy.pop(worker, None)

    def _learn(self, call: Call, seconds: float, *, whole: bool) -> None:
        """Note what a call took. One that failed or was cut short may have taken longer otherwise:
        it can show that its command is slow, but not that it is fast."""
        if whole and call.state is CallState.SENT:
            turned_slow = self._speeds.record(call.command, seconds)
        else:
            turned_slow = self._speeds.at_least(call.command, seconds)
        if turned_slow:
            for worker in self.workers.values():
                if any(other.command == call.command for other in worker.calls.values()):
                    self._fill_up(worker)

    def _dispatch(self, now: float) -> None:
        """Send queued calls, in order, for as long as there is a worker for the first one."""
        queue = self.queue
        while queue:
            call = next(iter(queue.values()))
            if call.deadline_timer is not None and call.deadline_timer[0] <= now:
                # Its time is up, even if `tick` has not come round to it.
                self._deadline_passed(call, now)
                continue
            worker = self._free_worker(call.command, now)
            if worker is None:
                return
            self._unqueue(call)
            self._send(worker, call, now)

    def _enqueue(self, call: Call, now: float) -> None:
        if call.queue_timeout != math.inf:
            due = now + call.queue_timeout
            call.queue_timer = self._timers.at(due, self._waited_too_long, call)
        self.queue[call.id] = call
        self.queued_bytes += len(call.frame)

    def _unqueue(self, call: Call) -> None:
        del self.queue[call.id]
        self.queued_bytes -= len(call.frame)
        self._timers.cancel(call.queue_timer)
        if not self.queue:
            self._refusing = False

    def _requeue(self, call: Call, now: float) -> None:
        """Back to the front: it had already waited its turn."""
        if self.state is PoolState.UNAVAILABLE:
            self._reply(call, self._unavailable(call))
            return
        call.state = CallState.QUEUED
        self._enqueue(call, now)
        self.queue.move_to_end(call.id, last=False)

    def _let_go(
        self, worker: Worker, unanswered: int, error: Mapping[str, Any], now: float
    ) -> None:
        """Settle the calls of a worker that is gone: those it started fail, the others wait
        again."""
        calls = list(worker.calls.values())
        started, others = calls[: max(unanswered, 0)], calls[max(unanswered, 0) :]
        worker.calls.clear()
        if self._judge_speed and started:
            self._learn(started[0], now - worker.busy_since, whole=False)
        for call in started:
            call.worker = None
            if call.state is CallState.SENT:
                self._reply(call, {**error, "command": call.command})
        for call in reversed(others):
            call.worker = None
            if call.state is CallState.SENT:
                self._requeue(call, now)

    def _deadline_passed(self, call: Call, now: float) -> None:
        self.counts["timeouts"] += 1
        message = f"no answer within {_seconds(call.timeout)}"
        if call.state is CallState.QUEUED:
            message += f"; the call was still waiting for a worker of pool {self.name!r}"
        self._withdraw(call, self._error("timeout", message, call), now)

    def _waited_too_long(self, call: Call, now: float) -> None:
        if call.state is CallState.QUEUED:
            self.counts["queue_timeouts"] += 1
            message = (
                f"no worker of pool {self.name!r} was free within {_seconds(call.queue_timeout)}"
                f" ({len(self.queue)} calls queued); raise pool_size or queue_timeout"
            )
            self._withdraw(call, self._error("queue_timeout", message, call), now)

    def _withdraw(self, call: Call, error: dict[str, Any], now: float) -> None:
        """Answer a call now, wherever it is, and stop the work on it."""
        if call.state is CallState.QUEUED:
            self._unqueue(call)
        worker = call.worker
        if worker is not None:
            error["worker"] = worker.id
        self._reply(call, error)
        if worker is not None and worker.state is WorkerState.READY:
            # The host may use the id again, and a worker must not hold two calls of one id.
            self._fill_up(worker)
            self._effects.append(Interrupt(worker, call))
            if worker.running is call:
                self._expect_to_yield(worker, now)
        if self._draining:
            self._drain(now)

    def _expect_to_yield(self, worker: Worker, now: float) -> None:
        self._timers.cancel(worker.timer)
        worker.timer = self._timers.at(
            now + self.settings.cancel_grace_period, self._did_not_yield, (worker, worker.running)
        )

    def _did_not_yield(self, what: tuple[Worker, Call], now: float) -> None:
        worker, call = what
        if worker.running is call:
            self._kill(worker, Fate.CANCELLED)
            self._go_on(now)

    def _saturated(self, call: Call) -> None:
        self.counts["pool_saturated"] += 1
        if not self._refusing:
            self._refusing = True
            self._effects.append(
                Emit("pool.saturated", {"queued": len(self.queue)}, {"pool": self.name})
            )
        message = (
            f"pool {self.name!r} already has {len(self.queue)} calls queued (max_queue_size);"
            " try again later, or raise pool_size or max_queue_size"
        )
        self._fail(call, "pool_saturated", message)

    def _fail(self, call: Call, type: str, message: str) -> None:
        self._reply(call, self._error(type, message, call))

    def _reply(self, call: Call, error: dict[str, Any]) -> None:
        self.counts["errors"] += 1
        call.state = CallState.ANSWERED
        self._timers.cancel(call.deadline_timer)
        self._timers.cancel(call.queue_timer)
        self._effects.append(Reply(call, error))

    def _error(self, type: str, message: str, call: Call) -> dict[str, Any]:
        return {"type": type, "message": message, "pool": self.name, "command": call.command}

    def _unavailable(self, call: Call) -> dict[str, Any]:
        why = self.cause.get("message", "no worker could be started")
        return {
            **self.cause,
            "type": "pool_unavailable",
            "message": f"pool {self.name!r} has no worker: {why}",
            "pool": self.name,
            "command": call.command,
        }

    # -- workers -----------------------------------------------------------------------------------

    def _in(self, state: WorkerState) -> Iterator[Worker]:
        return (worker for worker in self.workers.values() if worker.state is state)

    def _is_starting(self) -> bool:
        """Whether an attempt to start a worker is under way. One that was killed for being late, or
        for what it said, is over when it is gone."""
        return any(worker.ready_at is None for worker in self.workers.values())

    def _go_on(self, now: float) -> None:
        """After a change among the workers: start what is missing, or, while stopping, let go of
        what is left."""
        if self._draining:
            self._drain(now)
        else:
            self._fill(now)

    def _fill(self, now: float) -> None:
        """Start what is missing, a batch at a time; a batch begins when the one before it has
        settled."""
        missing = self.settings.pool_size - sum(
            1 for worker in self.workers.values() if worker.state is not WorkerState.STOPPING
        )
        if missing <= 0 or self._is_starting():
            return
        may_start_at = max(self._may_start_at, self._crashed_until)
        if now < may_start_at:
            self._timers.cancel(self._start_timer)
            self._start_timer = self._timers.at(may_start_at, self._fill_again)
            return
        # After a failure one worker goes ahead, to see whether the cause is gone.
        batch = 1 if self._starts.failures else self.settings.startup_batch_size
        for _ in range(min(missing, batch)):
            worker = Worker(f"{self.name}-{self._next_number}", now)
            self._next_number += 1
            self.counts["started"] += 1
            self.workers[worker.id] = worker
            due = now + self.settings.pool_startup_timeout
            worker.timer = self._timers.at(due, self._not_ready_in_time, worker)
            self._effects.append(Start(worker))

    def _fill_again(self, _: None, now: float) -> None:
        self._fill(now)

    def _attempt_ended(self, now: float) -> None:
        self._attempts_ended += 1
        if not self._is_starting():
            self._may_start_at = now + self.settings.startup_batch_delay_ms / 1000

    def _may_have_died_young(self, worker: Worker, now: float) -> None:
        """If a worker ended soon and without an answer, the next may well do the same, of the same
        call: bound how often that is tried."""
        young = worker.ready_at is not None and now - worker.ready_at < backoff.MAX_SECONDS
        # Those that die together die of one cause: that counts once.
        if young and worker.answered == 0 and now >= self._crashed_until:
            self._crashed_until = now + self._crashes.failed()

    def _not_ready_in_time(self, worker: Worker, now: float) -> None:
        self._kill(worker, Fate.STARTUP_TIMEOUT)

    def _start_failed(self, worker: Worker, error: Mapping[str, Any], now: float) -> None:
        self._cannot_start = True
        self._attempt_ended(now)
        self.cause = dict(error)
        if worker.fate is Fate.STARTUP_TIMEOUT:
            limit = _seconds(self.settings.pool_startup_timeout)
            self.cause["message"] = (
                f"worker {worker.id} was not ready within {limit} and was killed;"
                " see what it logged, or raise pool_startup_timeout"
            )
        if not self._is_starting():
            # Once for each batch: its workers fail together and for the same reason.
            delay = self._starts.failed()
            self._may_start_at = max(self._may_start_at, now + delay)
            attempt = {"attempt": self._starts.failures, "retry_in_ms": _ms(delay)}
            self._emit("worker.start_failed", attempt, worker, **self._cause_for_people())

    def _cause_for_people(self) -> dict[str, Any]:
        return {key: self.cause[key] for key in ("message", "traceback") if key in self.cause}

    def _settle(self, now: float) -> None:
        """Ready once the first workers have been tried and some serve, unavailable when none does
        and the last attempt failed."""
        serving = sum(1 for _ in self._in(WorkerState.READY))
        # A crash alone is not enough: its successor must have failed to start.
        failed = self._cannot_start and not self._is_starting()
        if self.state is PoolState.STARTING and serving:
            if self._attempts_ended >= self.settings.pool_size or failed:
                self._become_ready(serving, now)
        elif self.state is PoolState.UNAVAILABLE and serving:
            self._become_ready(serving, now)
        elif self.state in (PoolState.STARTING, PoolState.READY) and failed and not serving:
            self._become_unavailable()

    def _become_ready(self, serving: int, now: float) -> None:
        self.state = PoolState.READY
        measurements = {"workers": serving, "startup_ms": _ms(now - self._born_at)}
        self._effects.append(Emit("pool.ready", measurements, {"pool": self.name}))
        self._note_settled()

    def _become_unavailable(self) -> None:
        self.state = PoolState.UNAVAILABLE
        metadata = {"pool": self.name, **self._cause_for_people()}
        self._effects.append(Emit("pool.unavailable", {}, metadata))
        self._note_settled()
        for call in list(self.queue.values()):
            self._unqueue(call)
            self._reply(call, self._unavailable(call))

    def _note_settled(self) -> None:
        if not self._settled:
            self._settled = True
            self._effects.append(Settled())

    def _kill(self, worker: Worker, fate: Fate) -> None:
        """It takes no more calls and no longer counts; what it holds is settled when it is gone."""
        worker.state = WorkerState.STOPPING
        worker.fate = fate
        self._timers.cancel(worker.timer)
        self._idle.pop(worker, None)
        self._roomy.pop(worker, None)
        self._effects.append(Kill(worker))

    def _emit(
        self, name: str, measurements: dict[str, float], worker: Worker, **metadata: Any
    ) -> None:
        self._effects.append(
            Emit(name, measurements, {"pool": self.name, "worker": worker.id, **metadata})
        )

    # -- shutdown ----------------------------------------------------------------------------------

    def _drain(self, now: float) -> None:
        """While stopping: let go of every worker that has nothing left to do."""
        if self.queue and not any(
            worker.state in (WorkerState.STARTING, WorkerState.READY)
            for worker in self.workers.values()
        ):
            self._fail_queue("the supervisor is shutting down and no worker is left for the call")
        if not self.queue:
            for worker in list(self.workers.values()):
                if worker.state is WorkerState.STARTING:
                    self._kill(worker, Fate.SHUTDOWN)
                elif worker.state is WorkerState.READY and not worker.calls:
                    self._finish(worker, now)
        if not self.workers and self.state is not PoolState.STOPPED:
            self.state = PoolState.STOPPED
            self._effects.append(Stopped())

    def _finish(self, worker: Worker, now: float) -> None:
        worker.state = WorkerState.STOPPING
        worker.fate = Fate.SHUTDOWN
        self._idle.pop(worker, None)
        self._roomy.pop(worker, None)
        self._timers.cancel(worker.timer)
        due = now + self.settings.worker_shutdown_grace_period
        worker.timer = self._timers.at(due, self._did_not_stop, worker)
        self._effects.append(Finish(worker))

    def _did_not_stop(self, worker: Worker, now: float) -> None:
        self._kill(worker, Fate.SHUTDOWN)

    def _drained_too_long(self, _: None, now: float) -> None:
        message = "the supervisor shut down before the call was done (shutdown_grace_period)"
        self._fail_queue(message)
        for worker in list(self.workers.values()):
            for call in worker.calls.values():
                if call.state is CallState.SENT:
                    self._fail(call, "shutting_down", message)
            if worker.calls and worker.state is WorkerState.READY:
                self._kill(worker, Fate.SHUTDOWN)
        self._drain(now)

    def _fail_queue(self, message: str) -> None:
        for call in list(self.queue.values()):
            self._unqueue(call)
            self._fail(call, "shutting_down", message)

    def _take(self) -> list[Effect]:
        effects = self._effects
        if effects:
            self._effects = []
        return effects


def _age(worker: Worker, now: float) -> dict[str, float]:
    return {"uptime_ms": _ms(now - worker.started_at), "requests": worker.answered}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:g} s"
