"""A pool's processes: carries out what its machine decides, and reports what becomes of it."""

from __future__ import annotations

import math
import os
import random
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from snakepit_port.config import Config, PoolSettings
from snakepit_port.config.env import effective_environment
from snakepit_port.environment.libraries import known_libraries
from snakepit_port.pool import Call, Machine, Worker, WorkerState, effects, streams
from snakepit_port.supervisor.ledger import Ledger
from snakepit_port.supervisor.memory import Sampler, private_bytes
from snakepit_port.supervisor.outside import Outside
from snakepit_port.supervisor.pump import Pump
from snakepit_port.supervisor.run import Run
from snakepit_port.supervisor.stacks import Gathering
from snakepit_port.supervisor.starter import Starter, StarterError
from snakepit_port.supervisor.worker_process import WorkerProcess, signal_name, tail_of
from snakepit_port.wire import messages
from snakepit_port.wire.framing import Frame, Oversized
from snakepit_port.worker.stacks import SIGNAL as STACKS_SIGNAL

#: What a worker may tell the host of itself.
WORKER_EVENTS = ("worker.gil_enabled", "worker.thread_safety")

#: Seconds within which a starter tells that a worker which was killed is gone, or ends itself. It
#: waits for nothing but the kernel; one that takes longer is stuck, and is killed in turn.
_STARTER_GRACE = 2.0


class Runner:
    """One pool. `now` is Trio's clock, read once a wake-up by whoever calls."""

    def __init__(
        self,
        pump: Pump,
        config: Config,
        settings: PoolSettings,
        run: Run,
        outside: Outside,
        clock: Callable[[], float],
        software: str,
    ) -> None:
        self.pump = pump
        self.name = settings.name
        self.settings = settings
        self.run = run
        self.outside = outside
        self.max_frame_bytes = config.supervisor.max_frame_bytes
        self.ledger = Ledger()
        self.stopped = False
        #: Whether `Outside.touched` was told of what has happened since it last looked.
        self.touched = False
        self._clock = clock
        self._software = software
        profile = config.profile_of(settings)
        layers = effective_environment(settings, profile, os.environ)
        self._unsafe_modules = {
            library.module: library.note
            for library in known_libraries()
            if settings.thread_safety_checks and library.threads == "unsafe"
        }
        self._env = {name: value for name, (value, _source) in layers.items()}
        #: Calls that each worker runs at a time, on threads; None where it runs one, as a process.
        self.threads = settings.threads_per_worker if profile.kind == "thread" else None
        self.machine = Machine(settings, clock(), random.Random(), self.threads or 1)
        self._processes: dict[str, WorkerProcess] = {}
        self._starter: Starter | None = None
        self._starter_failure: dict[str, Any] | None = None
        self._starter_works = False
        self._stopping = False
        #: What the starter is to tell, by when: a worker's end, or (None) its own.
        self._awaited: dict[str | None, float] = {}
        self._answer: bytes = b""
        self._has_memory_limits = (
            min(settings.memory_threshold_mb, settings.memory_limit_mb) != math.inf
        )
        self._sampler: Sampler[Worker] | None = None

    # -- what happens to the pool ------------------------------------------------------------------

    def start(self) -> None:
        self.perform(self.machine.start(self._clock()))

    def call_arrived(self, call: Call, now: float) -> None:
        self.perform(self.machine.call_arrived(call, now))

    def grant(self, call: Call, credit: int) -> None:
        self.perform(streams.credited(call, credit))

    def cancel(self, call: Call) -> None:
        self.perform(self.machine.cancelled(call, self._clock()))

    @property
    def next_due(self) -> float:
        """When `tick` has something to do next, if nothing else happens."""
        due = self.machine.next_due
        # Nearly always empty, and in the order they are due.
        for awaited in self._awaited.values():
            return awaited if due is None else min(due, awaited)
        return math.inf if due is None else due

    def tick(self) -> None:
        now = self._clock()
        self.perform(self.machine.tick(now))
        if any(due <= now for due in self._awaited.values()):
            self._awaited.clear()
            if self._starter is not None:
                self._starter.kill()

    def _touch(self) -> None:
        if not self.touched:
            self.touched = True
            self.outside.touched(self)

    def _await(self, worker: str | None) -> None:
        self._touch()
        self._awaited.setdefault(worker, self._clock() + _STARTER_GRACE)

    def stop(self, grace: float) -> None:
        self._stopping = True
        self.perform(self.machine.stop(self._clock(), grace))

    def recycle(self, worker_id: str | None = None) -> int:
        """Replace a worker, or all that serve; returns how many that are."""
        chosen = [
            worker
            for worker in self.machine.workers.values()
            if worker.state is WorkerState.READY and worker_id in (None, worker.id)
        ]
        self.perform(self.machine.recycle(chosen, "manual", self._clock()))
        return len(chosen)

    def close_session(self, session: str) -> bool:
        """End a session; whether there was one."""
        closed, todo = self.machine.close_session(session, self._clock())
        self.perform(todo)
        return closed

    @property
    def starter_pid(self) -> int | None:
        return self._starter.process.pid if self._starter is not None else None

    def pause(self, paused: bool) -> None:
        """Stop reading from the workers, or go on."""
        for process in self._processes.values():
            process.pause(paused)

    def workers(self) -> list[dict[str, Any]]:
        """What the control call `workers` says of each."""
        now = self._clock()
        return [
            {
                "id": worker.id,
                "pool": self.name,
                "os_pid": self._processes[worker.id].os_pid,
                "state": worker.state.value,
                "requests": worker.answered,
                "uptime_ms": round((now - worker.started_at) * 1000),
                "memory_bytes": private_bytes(self._processes[worker.id].os_pid or 0),
            }
            for worker in self.machine.workers.values()
        ]

    def ask_stacks(self, gathering: Gathering, only: str | None) -> None:
        """Have the workers, or only one, tell their stacks."""
        for id, process in self._processes.items():
            if only in (None, id) and gathering.ask(id, process.stacks):
                self._signal(process.worker, STACKS_SIGNAL, group=False)

    # -- effects -----------------------------------------------------------------------------------

    def perform(self, todo: list[effects.Effect]) -> None:
        if not self.touched:
            self._touch()
        for effect in todo:
            _PERFORM[type(effect)](self, effect)

    def _send(self, effect: effects.Send) -> None:
        link, call = self._processes[effect.worker.id].link, effect.call
        frame = call.frame
        if call.attempt > 1:
            frame = messages.call_again(frame, call.attempt)
        link.send(frame)
        if call.granted:
            link.send(messages.credit(call.id, call.granted))

    def _grant(self, effect: effects.Grant) -> None:
        frame = messages.credit(effect.call.id, effect.credit)
        self._processes[effect.worker.id].link.send(frame)

    def _forward(self, effect: effects.Forward) -> None:
        self.outside.answer(effect.call, self._answer)
        self._answer = b""

    def _reply(self, effect: effects.Reply) -> None:
        self.outside.answer(effect.call, messages.error(effect.call.id, effect.error))

    def _start(self, effect: effects.Start) -> None:
        self._start_process(effect.worker)

    def _start_process(self, worker: Worker, *, again: bool = False) -> None:
        try:
            process = WorkerProcess(self, worker, again)
        except OSError as exc:
            self._could_not_start(
                worker, f"no descriptors for a worker: {exc.strerror}; raise `ulimit -n`"
            )
            return
        self._processes[worker.id] = process
        try:
            if self._starter is None:
                self._starter_failure = None
                self._starter_works = False
                self._starter = Starter(
                    self.pump,
                    self.settings,
                    self.run,
                    self._env,
                    self.ledger.fd,
                    None if self.outside.shm is None else self.outside.shm.folder,
                    self._starter_said,
                    self._starter_gone,
                    lambda line: self.outside.log(self.name, None, "stderr", "warning", line),
                )
        except StarterError as exc:
            for fd in process.inherited:
                os.close(fd)
            self._could_not_start(worker, str(exc))
            return
        process.starter = self._starter
        self._starter.start(worker.id, process.slot, process.inherited)

    def _could_not_start(self, worker: Worker, message: str) -> None:
        process = self._processes.pop(worker.id, None)
        if process is not None:
            process.close()
        error = {"type": "pool_unavailable", "message": message, "pool": self.name}
        self.perform(self.machine.worker_gone(worker, self._clock(), started=0, error=error))

    def _interrupt(self, effect: effects.Interrupt) -> None:
        process = self._processes[effect.worker.id]
        process.link.send(messages.cancel(effect.call.id))
        # The signal says "look at your channel", so the frame has to be there first.
        process.link.flush()
        self._signal(effect.worker, signal.SIGURG, group=False)

    def _ping(self, effect: effects.Ping) -> None:
        self._processes[effect.worker.id].link.send(messages.ping(effect.number))

    def _finish(self, effect: effects.Finish) -> None:
        self._processes[effect.worker.id].finish()

    def _kill(self, effect: effects.Kill) -> None:
        self._signal(effect.worker, signal.SIGKILL, group=True)
        self._await(effect.worker.id)

    def _signal(self, worker: Worker, signum: int, *, group: bool) -> None:
        if self._starter is not None:
            self._starter.signal(worker.id, signum, group=group)

    def _measure(self, effect: effects.Measure) -> None:
        if self._sampler is None:
            self._sampler = Sampler(self.pump, self._measured)
        os_pid = self._processes[effect.worker.id].os_pid
        if os_pid is not None:
            self._sampler.measure(effect.worker, os_pid)

    def _measured(self, worker: Worker, size: int) -> None:
        self.perform(self.machine.measured(worker, size, self._clock()))

    def _emit(self, effect: effects.Emit) -> None:
        self.outside.event(effect.name, effect.measurements, effect.metadata)

    def _settled(self, _effect: effects.Settled) -> None:
        self.outside.settled()

    def _stopped(self, _effect: effects.Stopped) -> None:
        if self._starter is None:
            self.stopped = True
        else:
            self._starter.finish()
            self._await(None)

    # -- what workers say --------------------------------------------------------------------------

    def worker_hello(self, worker: str, shm_writer: str) -> dict[str, Any]:
        settings = self.settings
        args = settings.adapter_args
        shm = self.outside.shm
        return {
            "software": self._software,
            "max_frame_bytes": self.max_frame_bytes,
            "max_answer_bytes": min(self.max_frame_bytes, self.outside.host_max_frame_bytes),
            "pool": self.name,
            "worker": worker,
            "adapter": settings.adapter,
            "adapter_args": dict(args) if isinstance(args, Mapping) else list(args),
            "python_path": list(settings.python_path),
            "direct_calls": list(settings.direct_calls),
            "threads": self.threads,
            "thread_safety_checks": settings.thread_safety_checks,
            "unsafe_modules": self._unsafe_modules,
            **({} if shm is None else {"shm": {**shm.info, "writer": shm_writer}}),
        }

    def worker_said(self, process: WorkerProcess, frames: list[Frame]) -> None:
        now = self._clock()
        worker = process.worker
        answered = self.machine.answered
        together = len(frames)
        for frame in frames:
            try:
                if isinstance(frame, Oversized):
                    tag, id, frame = self._too_large(frame)
                else:
                    tag, id = messages.read_answer(frame)
                if tag == "chunk":
                    wanted = None if id is None else streams.chunk_came(worker, id)
                    if wanted is None:
                        raise messages.ProtocolError(f"it sent a chunk of call {id} unasked")
                    if wanted:
                        self.outside.chunk(frame)
                elif id is not None:
                    self._answer = frame
                    todo = answered(worker, id, tag == "result", now, together)
                    if todo is None:
                        raise messages.ProtocolError(f"it answered call {id}, which it has not")
                    self.perform(todo)
                    if self._answer:
                        self._drop_answer()
                else:
                    self._worker_said_otherwise(process, messages.parse(frame))
            except messages.ProtocolError as exc:
                self._condemn(process, exc.message, now)
                return

    def _drop_answer(self) -> None:
        """The call was answered before: nobody will read the files."""
        frame, self._answer = self._answer, b""
        if self.outside.shm is not None:
            self.outside.shm.discard(messages.files_of(frame))

    def _too_large(self, frame: Oversized) -> tuple[str, int | None, bytes]:
        """A worker keeps to the limit it was told, so this one is broken, or not ours."""
        raise messages.ProtocolError(f"it sent a frame of {frame.size} bytes")

    def _worker_said_otherwise(self, process: WorkerProcess, said: tuple[Any, ...]) -> None:
        tag = said[0]
        if tag == "hello":
            process.python = said[2].get("python", "")
            # It may be quicker than its starter, which says the same.
            if process.os_pid is None and isinstance(said[2].get("os_pid"), int):
                process.os_pid = said[2]["os_pid"]
        elif tag == "ready":
            process.is_ready = True
            process.gil = said[1].get("gil")
            process.idempotent = _names(said[1].get("idempotent"))
            self._may_be_ready(process)
        elif tag == "event" and said[1] in WORKER_EVENTS:
            where = {"pool": self.name, "worker": process.worker.id}
            self.outside.event(said[1], said[2], {**said[3], **where})
        elif tag == "failed":
            process.failure = said[1]
            message = f"it says: {said[1].get('message', '')}"
            self.perform(self.machine.unwell(process.worker, message, self._clock()))
        elif tag == "pong":
            todo = self.machine.ponged(process.worker, said[1], self._clock())
            if todo is None:
                raise messages.ProtocolError("it sent a pong that nobody asked for")
            self.perform(todo)
        elif tag == "error":
            line = said[2].get("message", "")
            self.outside.log(self.name, process.worker.id, "supervisor", "error", line)
        else:
            raise messages.ProtocolError(f"it sent a {tag}, which is not a worker's to send")

    def _may_be_ready(self, process: WorkerProcess) -> None:
        """A worker takes calls when it has said so and its starter has said which process it is;
        nothing orders the two."""
        if process.is_ready and process.os_pid is not None:
            metadata = {
                "os_pid": process.os_pid,
                "python": process.python,
                "gil": process.gil,
            }
            # A fresh worker is small, so that this does not take long.
            memory = private_bytes(process.os_pid) if self._has_memory_limits else None
            todo = self.machine.worker_ready(
                process.worker, metadata, self._clock(), memory, process.idempotent
            )
            self.perform(todo)

    def _condemn(self, process: WorkerProcess, message: str, now: float) -> None:
        process.link.pause(True)
        worker = process.worker
        error = {
            "type": "protocol_error",
            "message": f"worker {worker.id} broke the protocol and was killed: {message}",
            "pool": self.name,
            "worker": worker.id,
        }
        self.outside.log(self.name, worker.id, "supervisor", "error", error["message"])
        self.perform(self.machine.condemn(worker, error, now))

    def worker_hung_up(self, process: WorkerProcess) -> None:
        """Its exit is reported by the starter; a worker that only closed its channel is of no use.

        If its starter is gone too, nobody else reports the exit.
        """
        if process.starter is not self._starter or self._starter is None:
            self._worker_exited(process, None)
        else:
            self._starter.signal(process.worker.id, signal.SIGKILL, group=True)
            self._await(process.worker.id)

    # -- what the starter says ---------------------------------------------------------------------

    def _starter_said(self, said: tuple[Any, ...]) -> None:
        tag = said[0]
        if tag == "failed":
            self._starter_failure = said[1]
        elif tag == "hello":
            self._starter_works = True
        elif said[1] in self._processes:
            process = self._processes[said[1]]
            if tag == "started":
                process.os_pid = said[2]
                self._may_be_ready(process)
            elif tag == "exited":
                self._worker_exited(process, said[3])
            elif tag == "start_failed":
                self._could_not_start(process.worker, said[2])

    def _worker_exited(self, process: WorkerProcess, wait_status: int | None) -> None:
        # What it wrote before it died counts: answers, and the last words.
        process.link.drain()
        if self._processes.pop(process.worker.id, None) is None:
            return
        self._awaited.pop(process.worker.id, None)
        process.stdout.close()
        process.stderr.close()
        started = self.ledger.started(process.slot)
        process.close()
        error, status = process.obituary(wait_status)
        if self.outside.shm is not None:
            self.outside.shm.sweep(process.shm_writer, process.worker.calls)
        self.perform(
            self.machine.worker_gone(
                process.worker, self._clock(), started=started, error=error, status=status
            )
        )

    def _starter_gone(self) -> None:
        """Its workers are going too: their kernel kills them; their groups are killed here."""
        starter, self._starter = self._starter, None
        assert starter is not None
        self._awaited.clear()
        if self._starter_failure is None:
            code = starter.process.returncode
            how = signal_name(-code) if code < 0 else f"status {code}"
            tail = tail_of(starter.output)
            self._starter_failure = {
                "type": "pool_unavailable",
                "message": f"the starter of pool {self.name!r} ended with {how}"
                + (f": {tail}" if tail else ""),
                "pool": self.name,
            }
        works = self._starter_works
        for process in list(self._processes.values()):
            if process.os_pid is None and works and not process.again and not self._stopping:
                # Not its fault: it was not begun, and the next starter may do better.
                del self._processes[process.worker.id]
                process.close()
                self._start_process(process.worker, again=True)
            elif process.os_pid is None:
                process.failure = process.failure or self._starter_failure
                self._worker_exited(process, None)
            else:
                with suppress(ProcessLookupError):
                    os.killpg(process.os_pid, signal.SIGKILL)
                if not process.link.is_open:
                    self._worker_exited(process, None)
        if self.machine.state.value == "stopped":
            self.stopped = True

    def release(self) -> None:
        """Close what the pool holds, when it has stopped."""
        self.ledger.close()
        if self._sampler is not None:
            self._sampler.close()


_PERFORM: dict[type, Callable[[Runner, Any], None]] = {
    effects.Send: Runner._send,
    effects.Grant: Runner._grant,
    effects.Forward: Runner._forward,
    effects.Reply: Runner._reply,
    effects.Start: Runner._start,
    effects.Interrupt: Runner._interrupt,
    effects.Ping: Runner._ping,
    effects.Finish: Runner._finish,
    effects.Kill: Runner._kill,
    effects.Measure: Runner._measure,
    effects.Emit: Runner._emit,
    effects.Settled: Runner._settled,
    effects.Stopped: Runner._stopped,
}


def _names(value: Any) -> frozenset[str]:
    return frozenset(map(str, value)) if isinstance(value, list) else frozenset()
