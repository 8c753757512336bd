"""The machine under events in any order, with a small model of real workers beside it.

The model knows what truly happened: which process was told what, which calls it took up, which
answers it gave. After every event, what the machine asks for and what it says of itself is compared
with that.

`SNAKEPIT_PORT_EXAMPLES` sets how many runs are tried.
"""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from snakepit_port.config import PoolSettings
from snakepit_port.pool import (
    Call,
    CallState,
    Machine,
    Session,
    Worker,
    WorkerState,
    effects,
    streams,
)
from snakepit_port.pool.returns import MOST_LOSSES
from snakepit_port.pool.speed import FAST_SECONDS, KNOWN_AFTER, MOST_AHEAD, STALL_SECONDS
from snakepit_port.pool.worker import Fate

EXAMPLES = int(os.environ.get("SNAKEPIT_PORT_EXAMPLES", "300"))

#: Errors of calls that no worker may have begun, and of those that one must have begun.
NEVER_STARTED = {
    *("pool_saturated", "queue_timeout", "pool_unavailable"),
    *("worker_busy", "session_limit", "session_worker_unavailable"),
}
WAS_STARTED = {"worker_crashed", "protocol_error"}

picks = st.integers(0, 7)
commands = st.sampled_from(["a", "a", "b", "c"])
seconds = st.sampled_from([0.0, 1e-5, 1e-4, 1e-3, 0.02, 0.1, 0.1, 1.0, 1.0, 5.0, 40.0])
limits = st.sampled_from([math.inf, math.inf, math.inf, math.inf, 0.0, 1.0, 5.0])
waits = st.sampled_from([math.inf, math.inf, 0.0, 1.0, 1.0, 1.0, 5.0])
sizes = st.sampled_from([10, 10, 150, 250]).map(lambda mib: mib * 2**20)


class Process:
    """A worker's process as it truly is."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.is_ready = False
        self.is_killed = False
        self.is_finishing = False
        self.is_condemned = False
        self.was_seen_draining = False
        #: Calls it was sent and has not answered, and how many of the first of them it took up.
        self.calls: list[Call] = []
        self.taken_up = 0
        #: The others, with a hole for each that it gave back; and how many of both it has passed.
        self.line: list[Call | None] = []
        self.started = 0
        #: Those it was asked to give back, and has neither given back nor answered.
        self.recalled: list[Call] = []
        #: What each stream that it was sent has been granted and has not used.
        self.credit: Counter[Call] = Counter()
        #: The ping that it has not answered: its number, and how many calls it had been sent
        #: before; and since when it has these behind it, as far as its pool has looked.
        self.ping: tuple[int, int] | None = None
        self.turn_came_at = math.inf
        #: It has said so; and something keeps it from going.
        self.is_unwell = False
        self.is_held = False

    @property
    def listens(self) -> bool:
        return self.is_ready and not self.is_killed and not self.is_finishing

    @property
    def is_draining(self) -> bool:
        """Whether it is left only for what it has: it is recycled, or a call has not stopped."""
        return self.worker.state is WorkerState.DRAINING

    @property
    def serves(self) -> bool:
        return self.listens and not self.is_draining


class AnyOrder(RuleBasedStateMachine):
    @initialize(
        pool_size=st.integers(1, 4),
        prefetch=st.sampled_from(["auto", "auto", 1, 2, 5]),
        max_queue_size=st.sampled_from([1, 3, 1000]),
        startup_batch_size=st.integers(1, 4),
        startup_batch_delay_ms=st.sampled_from([0, 0, 200]),
        cancel_grace_period=st.sampled_from([0.0, 1.0]),
        capacity=st.sampled_from([1, 1, 3]),
        max_retries=st.sampled_from([0, 2]),
        max_restarts=st.sampled_from([1000, 1000, 0, 1]),
        max_seconds=st.sampled_from([1.0, 20.0]),
        request_events=st.booleans(),
        affinity=st.sampled_from(["hint", "strict_queue", "strict_fail_fast"]),
        session_ttl=st.sampled_from([math.inf, 4.0]),
        max_sessions=st.sampled_from([1, 100]),
        worker_ttl=st.sampled_from([math.inf, math.inf, 3.0]),
        worker_max_requests=st.sampled_from([math.inf, 1, 3]),
        recycle_jitter=st.sampled_from([0, 50]),
        memory_threshold_mb=st.sampled_from([math.inf, 100]),
        memory_limit_mb=st.sampled_from([math.inf, 200]),
        max_surge=st.integers(1, 2),
        min_workers=st.sampled_from(["pool_size", "pool_size", 1, 2]),
        idle_timeout=st.sampled_from([math.inf, 1.0]),
        health_check_interval=st.sampled_from([math.inf, math.inf, 2.0]),
        health_check_timeout=st.sampled_from([1.0, 5.0]),
        seed=st.integers(0, 3),
        is_up=st.sampled_from([True, True, True, False]),
        ends_early=st.booleans(),
        is_fast=st.booleans(),
    )
    def make(
        self,
        capacity: int,
        seed: int,
        is_up: bool,
        ends_early: bool,
        is_fast: bool,
        **options: Any,
    ) -> None:
        self.capacity = capacity
        self.ends_early = ends_early
        self.settings = PoolSettings(
            name="p",
            adapter="a",
            pool_startup_timeout=30.0,
            **options,
        )
        auto = self.settings.prefetch == "auto"
        self.prefetch = MOST_AHEAD + 1 if auto else int(self.settings.prefetch)
        self.is_auto = auto
        self.now = 50.0
        self.machine = Machine(self.settings, self.now, random.Random(seed), self.begun, capacity)
        if is_fast:
            for command in ("a", "b"):
                for _ in range(KNOWN_AFTER):
                    self.machine._roster.speeds.record(command, FAST_SECONDS / 10)
        self.processes: dict[Worker, Process] = {}
        self.calls: list[Call] = []
        self.answers: Counter[Call] = Counter()
        self.starts: Counter[Call] = Counter()
        #: How many workers were to take it up next, and have crashed instead.
        self.losses: Counter[Call] = Counter()
        self.queue: list[Call] = []
        self.counts: Counter[str] = Counter()
        #: What each stream call has been granted in all, and what of it came with the call.
        self.credits: Counter[Call] = Counter()
        self.first_credits: dict[Call, int] = {}
        self.being_answered: Call | None = None
        self.is_stopping = False
        self.has_stopped = False
        self.is_deaf = False
        self.has_bytes_left = True
        self.settled = 0
        self.to_measure: list[Process] = []
        self.is_strict = self.settings.affinity != "hint"
        self.sessions: dict[str, Session] = {}
        self.bound: dict[Session, Worker] = {}
        self.untold: dict[str, Session] = {}
        self.told: set[Session | None] = set()
        self.perform(self.machine.start(self.now))
        if is_up:
            self.bring_up()

    @property
    def least(self) -> int:
        least, size = self.settings.min_workers, self.settings.pool_size
        return size if least == "pool_size" else min(least, size)

    def bring_up(self) -> None:
        """All workers are ready, and command `a` is known to be fast."""
        while booting := [p for p in self.processes.values() if not p.is_ready]:
            for process in booting:
                self.be_ready(process)
            self.time_passes(0.2)
        for _ in range(3):
            self.calls_arrive("a", math.inf, math.inf, 1)
            self.a_worker_answers(0, True, 1, 1e-5)

    # -- carrying out what it asks for -------------------------------------------------------------

    def perform(self, todo: list[effects.Effect] | None) -> None:
        assert todo is not None
        for effect in todo:
            assert not self.has_stopped or isinstance(effect, effects.Reply | effects.Emit)
            PERFORM[type(effect)](self, *effect)
        for process in self.processes.values():
            if process.is_draining:
                self.drains(process)
            if process.ping is not None:
                first = next(iter(process.calls), None)
                if first is None or first.sequence >= process.ping[1]:
                    process.turn_came_at = min(process.turn_came_at, self.now)

    def drains(self, process: Process) -> None:
        """One that is recycled begins to drain only when there are enough others."""
        if process.was_seen_draining:
            return
        process.was_seen_draining = True
        if (
            process.worker.recycled_for
            and not process.worker.stuck
            and process.worker.fate is not Fate.CANCELLED
        ):
            serving = sum(1 for other in self.processes.values() if other.serves)
            assert serving >= self.machine.wanted, "its successor is not ready"

    def begun(self, worker: Worker) -> int:
        return self.processes[worker].started

    def send(self, worker: Worker, call: Call) -> None:
        process = self.processes[worker]
        is_kept = call.session is not None and self.bound.get(call.session) is worker
        # It may have begun to drain in the same event, after this.
        takes = process.listens and (is_kept or not process.was_seen_draining)
        assert takes, "sent to one that takes no calls"
        # Who waits for one worker holds up nobody who waits for another.
        peers = [other for other in self.queue if other.session is call.session]
        assert peers[0] is call, "sent out of turn"
        self.queue.remove(call)
        if self.is_strict and call.session is not None:
            assert self.bound.setdefault(call.session, worker) is worker, "silently moved"
        assert self.answers[call] == 0, "sent though it was answered"
        assert self.starts[call] == call.attempt - 1, "sent again though it was started"
        assert self.now < call.arrived_at + call.timeout, "sent past its deadline"
        assert call.id not in [other.id for other in process.calls], "two calls of one id"
        process.calls.append(call)
        process.line.append(call)
        waiting = len(process.calls) - worker.capacity
        assert waiting < self.prefetch
        if call.credit is not None:
            process.credit[call] = self.credits[call]
            assert self.first_credits[call] + call.granted == self.credits[call]
        if worker.capacity == 1 and any(other.credit is not None for other in process.calls):
            assert process.calls == [call], "a stream shares its worker"
        if self.is_auto and waiting > 0:
            for other in process.calls if worker.capacity == 1 else [call]:
                assert other.command in self.machine._roster.speeds.fast, (
                    "sent ahead of or behind slow"
                )

    def grant(self, worker: Worker, call: Call, credit: int) -> None:
        process = self.processes[worker]
        assert call in process.calls
        assert self.answers[call] == 0
        process.credit[call] += credit

    def forward(self, call: Call) -> None:
        assert call is self.being_answered
        self.settle_call(call)

    def reply(self, call: Call, error: dict[str, Any]) -> None:
        assert {"message", "pool", "command"} <= error.keys()
        type = error["type"]
        if type in NEVER_STARTED:
            assert self.starts[call] == call.attempt - 1
        elif type in WAS_STARTED:
            has_cost_too_many = self.losses[call] == MOST_LOSSES
            assert self.starts[call] == call.attempt - has_cost_too_many
        elif type == "timeout":
            assert self.now >= call.arrived_at + call.timeout
        if type == "shutting_down":
            assert self.is_stopping
        if type in ("worker_busy", "session_limit", "session_worker_unavailable"):
            assert self.is_strict
        if type == "worker_busy":
            worker = self.bound[call.session]
            # A worker that holds a call which was answered gets no other.
            is_held = any(self.answers[other] for other in worker.calls.values())
            assert len(worker.calls) >= worker.capacity or is_held or not worker.listens
        if type == "session_worker_unavailable":
            self.untold.pop(str(call.session_id), None)
            self.told.add(call.session)
        if type == "session_limit":
            assert len(self.sessions) >= self.settings.max_sessions
        if type == "pool_saturated":
            assert call is self.queue[-1]
            is_full = len(self.queue) > self.settings.max_queue_size
            assert is_full or not self.has_bytes_left
        if call in self.queue:
            self.queue.remove(call)
        self.counts[type] += 1
        self.counts["errors"] += 1
        self.settle_call(call)

    def settle_call(self, call: Call) -> None:
        self.answers[call] += 1
        assert self.answers[call] == 1, "answered twice"

    def start_worker(self, worker: Worker) -> None:
        assert not self.is_stopping
        self.processes[worker] = Process(worker)
        self.counts["started"] += 1
        # Of what was decided in one go, the end of a worker may come after this.
        alive = [
            p
            for p in self.processes.values()
            if not p.is_killed
            and p.worker.recycled_for != "resized"
            and (p.worker.state is WorkerState.READY or not p.is_ready or p.worker.is_leaving)
        ]
        leaving = sum(1 for p in alive if p.worker.is_leaving)
        most = self.settings.pool_size + self.settings.max_surge
        # A reload may have lowered that while some were leaving.
        assert len(alive) <= max(most, self.machine.wanted + leaving)
        booting = [p for p in alive if not p.is_ready]
        assert len(booting) <= self.settings.startup_batch_size

    def interrupt(self, worker: Worker, call: Call) -> None:
        process = self.processes[worker]
        assert process.listens
        assert call in process.calls
        assert self.answers[call] == 1, "interrupted and not answered"

    def recall(self, worker: Worker, calls: list[Call]) -> None:
        process = self.processes[worker]
        assert process.listens
        assert self.is_auto
        assert self.machine.state.value in ("starting", "ready")
        grows = self.machine.wanted < self.settings.pool_size
        others = [other for other in self.processes.values() if other is not process]
        goes_elsewhere = grows or any(other.serves for other in others)
        assert self.now >= worker.busy_since + STALL_SECONDS, "recalled from one that goes on"
        for call in calls:
            assert call in process.calls[worker.capacity :], "recalled though it is about to run"
            assert process.recalled.count(call) < 2, "recalled a third time"
            assert self.answers[call] == 0
            if self.now < call.queue_due:
                assert goes_elsewhere, "nobody else would have it"
                assert not (self.is_strict and self.bound.get(call.session) is worker)
        process.recalled += calls

    def kill(self, worker: Worker) -> None:
        process = self.processes[worker]
        process.is_killed = True
        if worker.fate is Fate.CANCELLED:
            running = process.calls[: process.taken_up]
            assert all(self.answers[call] for call in running), "took others along"
        if worker.fate is Fate.UNWELL and not process.is_unwell:
            due = process.turn_came_at + self.settings.health_check_timeout
            assert self.now >= due, "was not late with its pong"

    def ping(self, worker: Worker, number: int) -> None:
        process = self.processes[worker]
        assert process.listens
        assert process.ping is None, "pinged twice"
        process.ping = number, worker.sent
        process.turn_came_at = math.inf

    def finish(self, worker: Worker) -> None:
        process = self.processes[worker]
        assert process.listens
        assert process.calls == []
        going = worker.recycled_for is not None or worker.fate is Fate.CANCELLED
        assert self.is_stopping or going
        if not self.is_stopping:
            self.drains(process)
        process.is_finishing = True

    def measure(self, worker: Worker) -> None:
        process = self.processes[worker]
        assert process.listens
        self.to_measure.append(process)

    def emit(self, name: str, measurements: dict[str, float], metadata: dict[str, Any]) -> None:
        assert metadata["pool"] == "p"
        self.counts[name] += 1
        if name == "request.executed":
            assert self.settings.request_events
            assert measurements["queue_us"] >= 0
            assert measurements["run_us"] >= 0
        if name == "session.closed":
            session = self.sessions.pop(metadata["session"])
            reason = metadata["reason"]
            assert reason != "expired" or session.unanswered == 0
            if reason in ("worker_gone", "worker_recycled") and session not in self.told:
                self.untold[session.id] = session

    def note_settled(self) -> None:
        self.settled += 1
        assert self.settled == 1

    def note_stopped(self) -> None:
        assert self.is_stopping
        assert self.processes == {}
        self.has_stopped = True

    # -- what happens ------------------------------------------------------------------------------

    @rule(
        command=commands,
        timeout=limits,
        queue_timeout=waits,
        times=st.integers(1, 6),
        credit=st.sampled_from([None, None, None, 0, 3]),
        session=st.sampled_from([None, None, None, "s", "t", "u"]),
    )
    def calls_arrive(
        self,
        command: str,
        timeout: float,
        queue_timeout: float,
        times: int,
        credit: int | None = None,
        session: str | None = None,
    ) -> None:
        for _ in range(times):
            # Ids are used again as soon as they may be.
            taken = {call.id for call in self.calls if self.answers[call] == 0}
            id = next(id for id in range(len(self.calls) + 1) if id not in taken)
            frame = b"x" * (id + 1)
            call = Call(
                id,
                command,
                frame,
                timeout=timeout,
                queue_timeout=queue_timeout,
                session=session,
                credit=credit,
            )
            if credit is not None:
                self.credits[call] = self.first_credits[call] = credit
            self.calls.append(call)
            self.queue.append(call)
            todo = self.machine.call_arrived(call, self.now)
            if call.session is not None:
                if (lost := self.untold.pop(call.session.id, None)) is not None:
                    expired = self.now >= lost.used_at + self.settings.session_ttl
                    assert expired or self.settings.max_sessions == 1, "nobody was told"
                assert self.sessions.setdefault(call.session.id, call.session) is call.session
            self.perform(todo)
            if self.queue and self.queue[-1] is call:
                assert len(self.queue) <= self.settings.max_queue_size

    @precondition(lambda self: self.first_credits)
    @rule(pick=picks, credit=st.sampled_from([0, 1, 5]))
    def credit_arrives(self, pick: int, credit: int) -> None:
        call = list(self.first_credits)[-1 - pick % len(self.first_credits)]
        if self.answers[call] == 0:
            self.credits[call] += credit
        self.perform(streams.credited(call, credit))

    @rule(pick=picks, times=st.integers(1, 4))
    def a_worker_sends_chunks(self, pick: int, times: int) -> None:
        """Also after the call was answered, and as long as it has credit; and then once more."""

        def has_a_stream(process: Process) -> bool:
            return bool(process.calls) and process.calls[0].credit is not None

        if process := self.some(pick, has_a_stream):
            call = process.calls[0]
            if not process.taken_up:
                self.take_up(process)
            wanted = self.answers[call] == 0 and not process.is_condemned
            for _ in range(min(times, process.credit[call])):
                assert streams.chunk_came(process.worker, call.id) is wanted
                process.credit[call] -= 1
            if not process.credit[call]:
                told = streams.chunk_came(process.worker, call.id)
                assert told is (False if process.is_condemned else None)

    @rule(pick=picks, id=st.integers(0, 5))
    def a_worker_sends_chunks_of_what_is_no_stream(self, pick: int, id: int) -> None:
        def has_no_such_stream(process: Process) -> bool:
            ids = [call.id for call in process.calls if call.credit is not None]
            return id not in ids and not process.is_condemned

        if process := self.some(pick, has_no_such_stream):
            assert streams.chunk_came(process.worker, id) is None

    @precondition(lambda self: self.calls)
    @rule(pick=picks, last=st.booleans())
    def cancel(self, pick: int, last: bool) -> None:
        call = self.calls[-1 - pick if last and pick < len(self.calls) else pick % len(self.calls)]
        before = self.answers[call]
        self.perform(self.machine.cancelled(call, self.now))
        assert self.answers[call] == 1
        if before:
            assert call.state is CallState.ANSWERED

    def some(self, pick: int, which: Callable[[Process], bool]) -> Process | None:
        found = [process for process in self.processes.values() if which(process)]
        return found[pick % len(found)] if found else None

    @rule(pick=picks, size=sizes)
    def a_worker_is_ready(self, pick: int, size: int) -> None:
        """Several are, to keep the pool going."""
        for _ in range(3):
            if process := self.some(pick, lambda p: not p.is_ready and not p.is_killed):
                self.be_ready(process, size)

    @rule(pick=picks)
    def a_worker_is_ready_too_late(self, pick: int) -> None:
        if process := self.some(pick, lambda p: not p.is_ready and p.is_killed):
            self.be_ready(process)

    def be_ready(self, process: Process, size: int | None = None) -> None:
        limit = min(self.settings.memory_threshold_mb, self.settings.memory_limit_mb) * 2**20
        is_too_large = size is not None and size >= limit
        process.is_ready = not process.is_killed and not is_too_large
        self.perform(self.machine.worker_ready(process.worker, {}, self.now, size, {"b"}))
        assert process.is_killed or not is_too_large

    @precondition(lambda self: self.to_measure)
    @rule(size=sizes)
    def memory_is_measured(self, size: int) -> None:
        process = self.to_measure.pop(0)
        watched = process.listens and process in self.processes.values()
        self.perform(self.machine.measured(process.worker, size, self.now))
        if watched and size >= self.settings.memory_limit_mb * 2**20:
            assert process.is_killed
        elif watched and size >= self.settings.memory_threshold_mb * 2**20:
            is_going = process.worker.recycled_for is not None or process.is_draining
            assert is_going or self.is_stopping

    @rule(session=st.sampled_from(["s", "t", "u"]))
    def close_session(self, session: str) -> None:
        self.untold.pop(session, None)
        live = session in self.sessions
        closed, todo = self.machine.close_session(session, self.now)
        self.perform(todo)
        assert closed == live
        assert session not in self.sessions

    @rule(pick=picks, all_of_them=st.booleans())
    def recycle(self, pick: int, all_of_them: bool) -> None:
        workers = list(self.processes)
        chosen = workers if all_of_them else workers[pick : pick + 1]
        self.perform(self.machine.recycle(chosen, "manual", self.now))
        for worker in chosen:
            if worker.state is WorkerState.READY and not self.is_stopping:
                assert worker.recycled_for is not None

    @rule(
        pool_size=st.integers(1, 4),
        prefetch=st.sampled_from(["auto", 1, 5]),
        affinity=st.sampled_from(["hint", "strict_queue", "strict_fail_fast"]),
        worker_ttl=st.sampled_from([math.inf, 3.0]),
        session_ttl=st.sampled_from([math.inf, 4.0]),
        max_sessions=st.sampled_from([1, 100]),
        memory_threshold_mb=st.sampled_from([math.inf, 100]),
        idle_timeout=st.sampled_from([math.inf, 1.0]),
        max_surge=st.integers(1, 2),
        max_queue_size=st.sampled_from([1, 3, 1000]),
        worker_max_requests=st.sampled_from([math.inf, 1, 3]),
        health_check_interval=st.sampled_from([math.inf, 2.0]),
        capacity=st.sampled_from([1, 3]),
        replaces=st.booleans(),
        really=st.sampled_from([False, False, True]),
    )
    def reconfigure(self, capacity: int, replaces: bool, really: bool, **options: Any) -> None:
        if not really or self.is_stopping:
            return
        before = list(self.processes.values())
        serving = sum(1 for process in before if process.serves)
        smaller = min(self.settings.pool_size, options["pool_size"], serving)
        # Only new workers have another capacity.
        capacity = capacity if replaces else self.capacity
        self.capacity = capacity
        was_strict = self.is_strict
        self.settings = replace(self.settings, **options)
        auto = self.settings.prefetch == "auto"
        self.prefetch = MOST_AHEAD + 1 if auto else int(self.settings.prefetch)
        self.is_auto = auto
        self.is_strict = self.settings.affinity != "hint"
        if was_strict is not self.is_strict:
            self.bound.clear()
            self.untold.clear()
            self.told.clear()
        if not self.is_strict:
            self.queue.sort(key=lambda call: call.arrived_at)
        self.perform(
            self.machine.reconfigure(self.settings, self.now, capacity=capacity, replaces=replaces)
        )
        serving = sum(1 for process in before if process.serves)
        if self.settings.min_workers == "pool_size":
            assert serving >= smaller, "capacity dips"
        if replaces:
            for process in before:
                assert not process.serves or process.worker.recycled_for
                assert process.is_ready or process.is_killed

    def take_up(self, process: Process) -> None:
        call = process.calls[process.taken_up]
        process.taken_up += 1
        passed = process.line.index(call) + 1
        process.started += passed
        del process.line[:passed]
        self.starts[call] += 1
        assert self.starts[call] == call.attempt, "started twice"

    @rule(pick=picks, ok=st.booleans(), times=st.integers(1, 4), takes=seconds, which=picks)
    def a_worker_answers(
        self, pick: int, ok: bool, times: int, takes: float, which: int = 0
    ) -> None:
        """Also one that is being killed: what it wrote before still arrives."""
        if process := self.some(pick, lambda p: bool(p.calls)):
            if takes < 0.01:
                self.now += takes
            times = min(times, len(process.calls))
            for _ in range(times):
                self.answer_one(process, ok, times, which)

    @property
    def waits_to_start(self) -> bool:
        timer = self.machine._starting._timer
        return timer is not None and timer[2] is not None

    def answer_one(self, process: Process, ok: bool, together: int = 1, which: int = 0) -> None:
        """It answers one of those that it has taken up, which may be as many as it has threads."""
        while process.taken_up < min(which % process.worker.capacity + 1, len(process.calls)):
            self.take_up(process)
        place = which % process.taken_up
        if process.is_condemned:
            # It is not listened to any more.
            first = process.calls[place]
            assert self.machine.answered(process.worker, first.id, ok, self.now) == []
            return
        call = process.calls.pop(place)
        process.taken_up -= 1
        if call in process.recalled:
            process.recalled.remove(call)
        was_answered = self.answers[call]
        self.being_answered = call
        if not was_answered and not ok:
            self.counts["errors"] += 1
        self.perform(self.machine.answered(process.worker, call.id, ok, self.now, together))
        assert self.answers[call] == 1

    @precondition(lambda self: self.is_auto and any(p.serves for p in self.processes.values()))
    @rule(pick=picks, keeps=st.integers(0, 2), passes_holes=st.booleans(), times=st.integers(1, 3))
    def a_fast_command_takes_its_time(
        self, pick: int, keeps: int, passes_holes: bool, times: int
    ) -> None:
        """What was sent ahead is asked for, and given back; by all but one of `times`."""
        for process in list(self.processes.values()):
            while process.calls and not process.is_condemned:
                self.answer_one(process, True)
        speeds = self.machine._roster.speeds
        while "a" not in speeds.fast:
            speeds.record("a", 1e-5)
        self.calls_arrive("a", math.inf, math.inf, 6)
        self.time_passes(0.02)
        for _ in range(times - 1):
            self.a_worker_gives_back(pick, keeps, passes_holes)

    @rule(pick=picks, keeps=st.integers(0, 2), passes_holes=st.booleans())
    def a_worker_gives_back(self, pick: int, keeps: int, passes_holes: bool) -> None:
        """What it was asked for and has not taken up; it may have taken up some meanwhile, and have
        come past the holes since."""

        def was_asked(process: Process) -> bool:
            return bool(process.recalled)

        if process := self.some(pick, was_asked):
            for _ in range(min(keeps, len(process.calls) - process.taken_up)):
                self.take_up(process)
            given = [c for c in process.calls[process.taken_up :] if c in process.recalled]
            ids = [call.id for call in given]
            if process.is_condemned:
                assert self.machine.gave_back(process.worker, ids, self.now) == []
                return
            # The others were asked for all the same: it has begun them.
            process.recalled = [call for call in process.recalled if call not in given]
            process.calls = [call for call in process.calls if call not in given]
            process.line = [None if call in given else call for call in process.line]
            self.queue[:0] = [call for call in given if self.answers[call] == 0]
            self.perform(self.machine.gave_back(process.worker, ids, self.now))
            while passes_holes and process.line and process.line[0] is None:
                process.started += 1
                del process.line[0]

    @rule(pick=picks)
    def a_worker_pongs(self, pick: int) -> None:
        """And then once more."""
        if process := self.some(pick, lambda p: p.ping is not None and not p.is_condemned):
            assert process.ping is not None
            number, _ = process.ping
            process.ping = None
            self.perform(self.machine.ponged(process.worker, number, self.now))
            if process.worker.state is WorkerState.READY:
                assert self.machine.ponged(process.worker, number, self.now) is None

    @rule(pick=picks)
    def a_worker_is_unwell(self, pick: int) -> None:
        if process := self.some(pick, lambda p: p.worker.state is WorkerState.READY):
            process.is_unwell = True
            self.perform(self.machine.unwell(process.worker, "it says so", self.now))
            assert process.is_killed

    @rule(pick=picks)
    def a_worker_that_was_killed_is_held(self, pick: int) -> None:
        """By a debugger, say."""
        if process := self.some(pick, lambda p: p.is_killed and not p.is_held):
            process.is_held = True
            if not process.is_ready and not self.is_stopping:
                is_outdated = self.machine._reloading.is_outdated(process.worker)
                self.counts["start_failures"] += not is_outdated
            error = {"type": "pool_unavailable", "message": "it is held", "pool": "p"}
            self.perform(self.machine.held(process.worker, error, self.now))

    @rule(hears=st.booleans())
    def workers_are_read_from_or_not(self, hears: bool) -> None:
        self.is_deaf = not hears
        self.machine.hear(hears, self.now)

    @rule(allowed=st.booleans())
    def calls_that_wait_may_take_more_memory_or_not(self, allowed: bool) -> None:
        self.has_bytes_left = allowed
        self.machine.queue.allow_bytes(allowed)

    @rule(pick=picks)
    def a_worker_gives_back_what_it_was_not_asked_for(self, pick: int) -> None:
        if process := self.some(pick, lambda p: not p.is_condemned):
            assert self.machine.gave_back(process.worker, [10**6], self.now) is None
            kept = [call.id for call in process.calls if call not in process.recalled]
            if kept:
                ids = [call.id for call in process.recalled] + kept
                assert self.machine.gave_back(process.worker, ids, self.now) is None

    @rule(pick=picks)
    def a_worker_answers_what_it_was_not_given(self, pick: int) -> None:
        if process := self.some(pick, lambda p: not p.is_condemned):
            assert self.machine.answered(process.worker, 10**6, True, self.now) is None

    @rule(pick=picks)
    def a_worker_breaks_the_protocol(self, pick: int) -> None:
        if process := self.some(pick, lambda p: not p.is_killed and not p.is_finishing):
            process.is_condemned = True
            error = {"type": "protocol_error", "message": "nonsense", "pool": "p"}
            self.perform(self.machine.condemn(process.worker, error, self.now))
            assert process.is_killed

    @rule(pick=picks, takes_up=st.integers(0, 3))
    def a_worker_is_gone(self, pick: int, takes_up: int) -> None:
        if process := self.some(pick, lambda _: True):
            for _ in range(min(takes_up, len(process.calls) - process.taken_up)):
                self.take_up(process)
            self.gone(process)

    @rule(pick=picks, times=st.integers(2, 4), apart=st.sampled_from([0.1, 1.0, 5.0]))
    def workers_are_gone_with_the_same_calls(self, pick: int, times: int, apart: float) -> None:
        """As when reading one of these is what ends them."""
        for _ in range(times):
            if process := self.some(pick, lambda p: bool(p.calls) and not p.is_killed):
                self.gone(process)
            self.time_passes(apart)
            self.a_worker_is_ready(pick, 2**20)

    @rule(pick=picks)
    def a_worker_that_was_told_to_go_is_gone(self, pick: int) -> None:
        if process := self.some(pick, lambda p: p.is_killed or p.is_finishing):
            self.gone(process)

    def gone(self, process: Process) -> None:
        del self.processes[process.worker]
        if process.is_ready and not process.is_killed and not process.is_finishing:
            self.counts["worker_crashes"] += 1
        if not process.is_ready and not self.is_stopping and not process.is_held:
            # A reload had other settings for it: nobody waits for it any more.
            is_outdated = self.machine._reloading.is_outdated(process.worker)
            self.counts["start_failures"] += not is_outdated
        left = process.calls[process.taken_up :]
        may_have_read = process.worker.capacity > 1 or not process.taken_up
        if left and may_have_read and not (process.is_killed or process.is_finishing):
            self.losses[left[0]] += 1
        again = [
            c for c in process.calls[: process.taken_up] if self.may_be_tried_again(process, c)
        ]
        self.queue[:0] = [call for call in again + left if self.answers[call] == 0]
        error = {"type": "worker_crashed", "message": "it died", "pool": "p"}
        self.perform(
            self.machine.worker_gone(process.worker, self.now, started=process.started, error=error)
        )
        for call in process.calls[: process.taken_up]:
            assert self.answers[call] == 1 or call in again
        for call in left:
            assert self.answers[call] == 1 or self.losses[call] < MOST_LOSSES

    def may_be_tried_again(self, process: Process, call: Call) -> bool:
        return (
            call.command == "b"
            and call.attempt <= self.settings.max_retries
            and call.credit is None
            and not process.is_condemned
            and not (self.is_strict and call.session is not None)
        )

    @rule(seconds=seconds)
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        while (due := self.machine.next_due) is not None and due <= until:
            self.now = max(self.now, due)
            self.perform(self.machine.tick(self.now))
        self.now = until
        for call in self.calls:
            assert self.answers[call] or self.now < call.arrived_at + call.timeout
        looks = self.machine._roster.judges_speed and not self.is_deaf
        if looks and self.machine._standing.takes_calls:
            for process in self.processes.values():
                self.nobody_waits_too_long_at(process.worker)

    def nobody_waits_too_long_at(self, worker: Worker) -> None:
        process = self.processes[worker]
        stalls = worker.busy_since + STALL_SECONDS
        if worker.listens and self.now >= stalls:
            for call in list(worker.calls.values())[worker.capacity :]:
                if self.answers[call] or self.now < call.queue_due:
                    continue
                assert call.is_recalled, "was not asked for"
                # Half as much again, for what is added up in another order is another number.
                told = max(stalls, call.queue_due) + 2.5 * STALL_SECONDS
                has_begun = call in process.calls[: process.taken_up]
                assert has_begun or self.now < told, "was not told"

    @rule(seconds=seconds)
    def time_passes_unseen(self, seconds: float) -> None:
        """What happens next is looked at before what is due."""
        self.now += seconds

    @rule(grace=st.sampled_from([0.0, 1.0, 10.0]), really=st.sampled_from([False] * 15 + [True]))
    def stop(self, grace: float, really: bool) -> None:
        if really:
            self.is_stopping = True
            self.perform(self.machine.stop(self.now, grace))

    # -- what is true whatever happens -------------------------------------------------------------

    @invariant()
    def the_queue_is_as_it_should_be(self) -> None:
        queue = self.machine.queue
        assert sorted(map(id, queue.calls())) == sorted(map(id, self.queue))
        assert all(queue.lines.values())
        assert self.machine.queue.bytes == sum(len(call.frame) for call in self.queue)

    @invariant()
    def every_call_is_somewhere(self) -> None:
        held = {call for process in self.processes.values() for call in process.calls}
        for call in self.calls:
            if self.answers[call] == 0:
                assert call in self.queue or call in held

    @invariant()
    def workers_have_what_they_were_sent(self) -> None:
        assert set(self.machine.workers.values()) == set(self.processes)
        for worker, process in self.processes.items():
            assert list(worker.calls.values()) == process.calls

    @invariant()
    def nobody_waits_beside_an_idle_worker(self) -> None:
        if self.machine.queue.waiting:
            assert all(p.calls for p in self.processes.values() if p.serves)
        for worker in self.machine.queue.lines:
            assert worker.calls or not worker.listens

    @invariant()
    def what_is_missing_will_be_started(self) -> None:
        if self.is_stopping:
            return
        processes = self.processes.values()
        wanted = self.machine.wanted
        assert self.least <= wanted <= self.settings.pool_size
        booting = any(not p.is_ready and not p.is_held for p in processes)
        serving = [process for process in processes if process.serves]
        if len(serving) < wanted:
            assert booting or self.waits_to_start

    @invariant()
    def what_is_due_will_be_replaced(self) -> None:
        if self.is_stopping:
            return
        processes = self.processes.values()
        due = any(p.serves and p.worker.recycled_for for p in processes)
        booting = any(not p.is_ready and not p.is_held for p in processes)
        leaving = any(process.worker.is_leaving for process in processes)
        assert not due or booting or leaving or self.waits_to_start

    @invariant()
    def statistics_are_true(self) -> None:
        stats = self.machine.stats()
        serving = [process for process in self.processes.values() if process.serves]
        busy = sum(1 for process in serving if process.calls)
        assert stats == {
            "state": self.machine.state.value,
            "reload": self.machine._reloading.progress,
            "requests": len(self.calls),
            "errors": self.counts["errors"],
            "queued": len(self.queue),
            "sessions": len(self.machine._sessions),
            "queue_timeouts": self.counts["queue_timeout"],
            "pool_saturated": self.counts["pool_saturated"],
            "timeouts": self.counts["timeout"],
            "cancelled": self.counts["cancelled"],
            "worker_crashes": self.counts["worker_crashes"],
            "started": self.counts["started"],
            "start_failures": self.counts["start_failures"],
            "retries": sum(call.attempt - 1 for call in self.calls),
            "workers": len(serving),
            "available": len(serving) - busy,
            "busy": busy,
        }

    @invariant()
    def the_state_fits(self) -> None:
        state = self.machine.state.value
        serving = any(process.serves for process in self.processes.values())
        assert (state in ("stopping", "stopped")) == self.is_stopping
        assert (state == "stopped") == self.has_stopped
        if state == "unavailable":
            assert self.queue == []
            assert not serving or self.machine._starting.is_pausing
        assert self.settled == (state in ("ready", "unavailable") or self.settled)

    @invariant()
    def timers_are_bounded(self) -> None:
        unanswered = sum(1 for call in self.calls if self.answers[call] == 0)
        timers = self.machine._timers
        # Two for a call, one for each that a worker is to leave, three for a worker, one each for
        # starting (and a pause of it) and for stopping, for workers that are idle, for memory, for
        # sessions and for what was sent ahead.
        held = sum(len(process.calls) for process in self.processes.values())
        abandoned = min(held, sum(worker.capacity for worker in self.processes))
        assert len(timers) <= 2 * unanswered + abandoned + 3 * len(self.processes) + 7
        assert len(timers._heap) <= max(65, 2 * len(timers) + 1)

    # -- the end -----------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "machine"):
            return
        if not self.ends_early:
            self.everything_is_answered_while_workers_go_on()
        if not self.is_stopping:
            self.is_stopping = True
            self.perform(self.machine.stop(self.now, 5.0))
        # Nobody answers or goes by itself any more.
        self.time_passes(1000.0)
        assert all(process.is_killed for process in self.processes.values())
        for process in list(self.processes.values()):
            self.gone(process)
        assert self.has_stopped
        assert all(self.answers[call] == 1 for call in self.calls)
        assert self.machine.next_due is None

    def everything_is_answered_while_workers_go_on(self) -> None:
        self.workers_are_read_from_or_not(True)
        for _ in range(10 * len(self.calls) + 100):
            if all(self.answers[call] for call in self.calls):
                return
            is_idle = True
            for process in list(self.processes.values()):
                if process.is_killed or process.is_finishing:
                    self.gone(process)
                elif not process.is_ready:
                    process.is_ready = True
                    self.perform(
                        self.machine.worker_ready(process.worker, {}, self.now, None, {"b"})
                    )
                elif process.calls:
                    self.answer_one(process, True)
                else:
                    continue
                is_idle = False
            if (due := self.machine.next_due) is not None and is_idle:
                self.time_passes(max(0.0, due - self.now))
        raise AssertionError("calls are left, though workers answer")


PERFORM: dict[type, Callable[..., None]] = {
    effects.Send: AnyOrder.send,
    effects.Grant: AnyOrder.grant,
    effects.Forward: AnyOrder.forward,
    effects.Reply: AnyOrder.reply,
    effects.Start: AnyOrder.start_worker,
    effects.Interrupt: AnyOrder.interrupt,
    effects.Recall: AnyOrder.recall,
    effects.Finish: AnyOrder.finish,
    effects.Kill: AnyOrder.kill,
    effects.Ping: AnyOrder.ping,
    effects.Measure: AnyOrder.measure,
    effects.Emit: AnyOrder.emit,
    effects.Settled: AnyOrder.note_settled,
    effects.Stopped: AnyOrder.note_stopped,
}

AnyOrder.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=60, deadline=None)
TestAnyOrder = AnyOrder.TestCase
