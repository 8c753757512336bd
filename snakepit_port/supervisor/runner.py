"""A pool's processes: carries out what its machine decides, and reports what becomes of it."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from snakepit_port.config import Config, PoolSettings
from snakepit_port.pool import Call, Machine, PoolState, Worker, WorkerState, effects, streams
from snakepit_port.processes import lives
from snakepit_port.supervisor import replies
from snakepit_port.supervisor.gathering import Gathering
from snakepit_port.supervisor.greeting import SOFTWARE
from snakepit_port.supervisor.ledger import Ledger
from snakepit_port.supervisor.listener import Listener
from snakepit_port.supervisor.outside import Outside
from snakepit_port.supervisor.pump import Pump
from snakepit_port.supervisor.run import Run
from snakepit_port.supervisor.source import Source
from snakepit_port.supervisor.starter import StarterError
from snakepit_port.supervisor.worker_process import WorkerProcess
from snakepit_port.wire import envelopes, messages
from snakepit_port.wire.grammar import MAX_CREDIT
from snakepit_port.worker.fitting import fit_failure
from snakepit_port.worker.stacks import SIGNAL as STACKS_SIGNAL


class Runner:
    """One pool. `now` is the time of the pump's last wake-up.

    Raises `OSError`, and holds nothing then, where there are no descriptors for its ledger.
    """

    def __init__(
        self,
        pump: Pump,
        config: Config,
        settings: PoolSettings,
        run: Run,
        outside: Outside,
        clock: Callable[[], float],
        first_number: int = 1,
    ) -> None:
        self.pump = pump
        self.name = settings.name
        self.run = run
        self.outside = outside
        self.max_frame_bytes = config.supervisor.max_frame_bytes
        self.ledger = Ledger()
        self.stopped = False
        #: Whether `Outside.touched` was told of what has happened since it last looked.
        self.touched = False
        self.now = clock
        #: Where workers come from now.
        self._source = Source(self, config, settings)
        #: Those of settings of before, from which there still are workers, or a starter.
        self._retired: list[Source] = []
        self.settings = settings
        self.machine = Machine(
            settings,
            clock(),
            random.Random(),
            lambda worker: self.ledger.started(self._processes[worker.id].slot),
            self._source.threads or 1,
            first_number,
        )
        self._processes: dict[str, WorkerProcess] = {}
        self._stopping = False
        #: Whether what the pool's processes say is not read for now.
        self.paused = False
        self.listener = Listener(self)

    # -- what happens to the pool ------------------------------------------------------------------

    def added(self) -> None:
        """A reload has added the pool, which is started later: it tells when it is whole."""
        self.machine.added(self.now())

    def start(self) -> None:
        """Start the workers."""
        self.perform(self.machine.start(self.now()))

    def call_arrived(self, call: Call, now: float) -> None:
        self.perform(self.machine.call_arrived(call, now))

    def grant(self, call: Call, credit: int) -> None:
        self.perform(streams.credited(call, credit))

    def cancel(self, call: Call) -> None:
        self.perform(self.machine.cancelled(call, self.now()))

    @property
    def next_due(self) -> float:
        """When `tick` has something to do next, if nothing else happens."""
        due = self.machine.next_due
        first = self._source.next_due
        if self._retired:
            first = min(first, *(source.next_due for source in self._retired))
        return first if due is None else min(due, first)

    def tick(self) -> None:
        now = self.now()
        self.perform(self.machine.tick(now))
        for source in self._sources():
            source.tick(now)

    def touch(self) -> None:
        """Something has happened here."""
        if not self.touched:
            self.touched = True
            self.outside.touched(self)

    def _sources(self) -> Iterator[Source]:
        yield self._source
        yield from list(self._retired)

    def stop(self, grace: float, why: str = "the supervisor is shutting down") -> None:
        self._stopping = True
        self.perform(self.machine.stop(self.now(), grace, why))
        for source in self._sources():
            source.look_again()

    def reconfigure(self, config: Config, settings: PoolSettings) -> str:
        """Go on with other settings; returns what that means: "replaced", "resized" or "unchanged".

        Workers are replaced if their process would see a difference: successors come from another
        source, and are ready before those of before go.
        """
        before, source = self._source, Source(self, config, settings)
        replaces = not source.makes_the_same_as(before)
        if not replaces and settings == before.settings:
            return "unchanged"
        if replaces:
            self._source = source
            self._retired.append(before)
        else:
            before.settings = settings
        self.settings = settings
        todo = self.machine.reconfigure(
            settings, self.now(), capacity=source.threads or 1, replaces=replaces
        )
        self.perform(todo)
        self._let_go(before)
        return "replaced" if replaces else "resized"

    def _let_go(self, source: Source) -> None:
        """End a source of before, when no worker of it is left."""
        if source not in self._retired:
            return
        if any(process.source is source for process in self._processes.values()):
            return
        if source.starter is None:
            self._retired.remove(source)
        else:
            source.finish()

    def is_over_but_for(self, source: Source, workers: Collection[str | None]) -> bool:
        """Whether the pool is to stop, and of a source there are no other workers than these."""
        return self._stopping and all(
            id in workers
            for id, process in self._processes.items()
            if process.source is source and process.starter is not None
        )

    def recycle(self, worker_id: str | None = None) -> int:
        """Replace a worker, or all that serve; returns how many that are."""
        chosen = [
            worker
            for worker in self.machine.workers.values()
            if worker.state is WorkerState.READY and worker_id in (None, worker.id)
        ]
        self.perform(self.machine.recycle(chosen, "manual", self.now()))
        return len(chosen)

    def close_session(self, session: str) -> bool:
        """End a session; whether there was one."""
        closed, todo = self.machine.close_session(session, self.now())
        self.perform(todo)
        return closed

    @property
    def starter_pids(self) -> set[int]:
        pids = (source.starter_pid for source in self._sources())
        return {pid for pid in pids if pid is not None}

    def pause(self, paused: bool) -> None:
        """Stop reading from the pool's processes, and those that are started later, or go on."""
        self.paused = paused
        self.machine.hear(not paused, self.now())
        for source in self._sources():
            source.pause()
        for process in self._processes.values():
            process.pause(paused)

    def workers(self) -> list[dict[str, Any]]:
        """What the control call `workers` says of each, but for its memory."""
        now = self.now()
        return [
            {
                "id": worker.id,
                "pool": self.name,
                "os_pid": self._processes[worker.id].os_pid,
                "state": worker.state.value,
                "requests": worker.answered,
                "uptime_ms": round((now - worker.started_at) * 1000),
                **self.machine.work_of(worker, now),
            }
            for worker in self.machine.workers.values()
        ]

    def ask_memory(self, gathering: Gathering) -> None:
        """Have it measured how much memory each worker has to itself."""
        for id, process in self._processes.items():
            if process.os_pid is not None:
                self.outside.sampler.measure(process.os_pid, gathering.expect(id))

    def ask_stacks(self, gathering: Gathering, only: str | None) -> None:
        """Have the workers, or only one, tell their stacks."""
        for id, process in self._processes.items():
            if only in (None, id):
                remind = partial(self._ask_stacks_again, id)
                tell = gathering.expect(id, process.stacks.give_up, remind)
                if process.stacks.ask(tell):
                    process.source.signal(id, STACKS_SIGNAL, group=False)

    def _ask_stacks_again(self, id: str) -> None:
        process = self._processes.get(id)
        if process is not None and process.stacks.is_silent:
            process.source.signal(id, process.stacks.next_signal(), group=False)

    # -- effects -----------------------------------------------------------------------------------

    def perform(self, todo: list[effects.Effect]) -> None:
        if not self.touched:
            self.touch()
        for effect in todo:
            _PERFORM[type(effect)](self, effect)

    def _send(self, effect: effects.Send) -> None:
        worker, call = effect
        link, frame = self._processes[worker.id].link, call.frame
        if call.attempt > 1:
            frame = envelopes.call_again(frame, call.attempt)
        link.send(frame)
        if call.granted:
            # Granted in several frames, perhaps; it is to fit into one.
            link.send(messages.credit(call.id, min(call.granted, MAX_CREDIT)))

    def _grant(self, effect: effects.Grant) -> None:
        frame = messages.credit(effect.call.id, effect.credit)
        self._processes[effect.worker.id].link.send(frame)

    def _forward(self, effect: effects.Forward) -> None:
        listener = self.listener
        self.outside.answer(effect.call, listener.answer)
        listener.answer = b""

    def _reply(self, effect: effects.Reply) -> None:
        frame = replies.error(effect.call.id, effect.error, self._max_answer_bytes)
        self.outside.answer(effect.call, frame)

    def _start(self, effect: effects.Start) -> None:
        self._start_process(effect.worker)

    def _start_process(self, worker: Worker, *, again: bool = False) -> None:
        try:
            process = WorkerProcess(self, self._source, worker, again)
        except OSError as exc:
            self._could_not_start(
                worker, f"no descriptors for a worker: {exc.strerror}; raise `ulimit -n`"
            )
            return
        self._processes[worker.id] = process
        try:
            self._source.start(process)
        except StarterError as exc:
            for fd in process.inherited:
                os.close(fd)
            self._could_not_start(worker, str(exc))
            return
        if self.paused:
            process.pause(True)

    def held(self, id: str) -> None:
        """A worker was killed, and does not go."""
        process = self._processes.get(id)
        if process is not None:
            error = {
                "type": "pool_unavailable",
                "message": f"worker {id} did not start, and cannot be killed",
                "pool": self.name,
            }
            self.perform(self.machine.held(process.worker, error, self.now()))

    def _could_not_start(self, worker: Worker, message: str) -> None:
        process = self._processes.pop(worker.id, None)
        if process is not None:
            process.source.has_told(worker.id)
            process.close()
        error = {"type": "pool_unavailable", "message": message, "pool": self.name}
        self.perform(self.machine.worker_gone(worker, self.now(), started=0, error=error))
        if process is not None:
            self._let_go(process.source)

    def _interrupt(self, effect: effects.Interrupt) -> None:
        self._have_read_now(effect.worker, messages.cancel(effect.call.id))

    def _recall(self, effect: effects.Recall) -> None:
        ids = [call.id for call in effect.calls]
        self._have_read_now(effect.worker, messages.recall(ids))

    def _have_read_now(self, worker: Worker, frame: bytes) -> None:
        process = self._processes[worker.id]
        process.link.send(frame)
        # The signal says "look at your channel", so the frame has to be there first.
        process.link.flush()
        process.source.signal(worker.id, signal.SIGURG, group=False)

    def _ping(self, effect: effects.Ping) -> None:
        self._processes[effect.worker.id].link.send(messages.ping(effect.number))

    def _finish(self, effect: effects.Finish) -> None:
        self._processes[effect.worker.id].finish()

    def _kill(self, effect: effects.Kill) -> None:
        process = self._processes.get(effect.worker.id)
        # One that could not even be started is gone already; one whose starter is gone was killed
        # then, and a starter that came after it knows nothing of it.
        if process is not None and process.starter is not None:
            process.source.signal(effect.worker.id, signal.SIGKILL, group=True)
            process.source.expect(effect.worker.id)

    def _measure(self, effect: effects.Measure) -> None:
        worker = effect.worker
        os_pid = self._processes[worker.id].os_pid
        if os_pid is not None:
            self.outside.sampler.measure(os_pid, lambda size: self._measured(worker, size))

    def _measured(self, worker: Worker, size: int | None) -> None:
        process = self._processes.get(worker.id)
        # Of one that has gone meanwhile nothing comes, and its pool may be forgotten.
        if size is not None and process is not None:
            self.perform(self.machine.measured(worker, size, self.now()))

    def _emit(self, effect: effects.Emit) -> None:
        self.outside.event(effect.name, effect.measurements, effect.metadata)

    def _settled(self, _effect: effects.Settled) -> None:
        self.outside.settled(self)

    def _stopped(self, _effect: effects.Stopped) -> None:
        for source in self._sources():
            source.finish()
        self._may_have_stopped()

    def _may_have_stopped(self) -> None:
        if self.machine.state is PoolState.STOPPED and not self.starter_pids:
            self.stopped = True
            self.touch()

    # -- workers -----------------------------------------------------------------------------------

    def has(self, process: WorkerProcess) -> bool:
        """Whether a process is one of this pool's, and not gone."""
        return self._processes.get(process.worker.id) is process

    def worker_hello(self, source: Source, worker: str, shm_writer: str) -> dict[str, Any]:
        shm = self.outside.shm
        return {
            "software": SOFTWARE,
            # The largest call may have to be sent again.
            "max_frame_bytes": self.max_frame_bytes + envelopes.ATTEMPT_BYTES,
            "max_answer_bytes": self._max_answer_bytes,
            "pool": self.name,
            "worker": worker,
            "tools": self.outside.host_runs_tools,
            **source.worker_hello(),
            **({} if shm is None else {"shm": {**shm.info, "writer": shm_writer}}),
        }

    @property
    def _max_answer_bytes(self) -> int:
        return min(self.max_frame_bytes, self.outside.host_max_frame_bytes)

    def worker_hung_up(self, process: WorkerProcess) -> None:
        """Its exit is reported by the starter; a worker that only closed its channel is of no use.

        If its starter is gone too, nobody else reports the exit.
        """
        if process.starter is None:
            self._worker_exited(process, None)
        else:
            # One that dies hangs up, too.
            process.left = process.os_pid is not None and lives(process.os_pid)
            process.source.signal(process.worker.id, signal.SIGKILL, group=True)
            process.source.expect(process.worker.id)

    # -- what starters say -------------------------------------------------------------------------

    def starter_said(self, source: Source, said: tuple[Any, ...]) -> None:
        tag = said[0]
        if tag == "failed":
            # It does not know what the host accepts.
            source.failure = fit_failure(said[1], self._max_answer_bytes)
        elif tag == "broken":
            message = (
                f"the starter of pool {self.name!r} broke its protocol and was killed: {said[1]}"
            )
            source.failure = {"type": "pool_unavailable", "message": message, "pool": self.name}
            self.outside.log(self.name, None, "supervisor", "error", message)
        elif tag == "hello":
            source.works = True
        elif tag == "pong":
            source.has_answered()
        elif said[1] in self._processes:
            process = self._processes[said[1]]
            if tag == "started":
                process.os_pid = said[2]
                self.listener.may_be_ready(process)
            elif tag == "exited":
                self._worker_exited(process, said[2])
            elif tag == "start_failed":
                self._could_not_start(process.worker, said[2])

    def _worker_exited(self, process: WorkerProcess, wait_status: int | None) -> None:
        # What it wrote before it died counts: answers, and, as it is closed, the last words.
        process.link.drain()
        if self._processes.pop(process.worker.id, None) is None:
            return
        process.source.has_told(process.worker.id)
        started = self.ledger.started(process.slot)
        process.close()
        error, status = process.obituary(wait_status)
        if self.outside.shm is not None:
            self.outside.shm.sweep(process.shm_writer, process.worker.calls)
        self.perform(
            self.machine.worker_gone(
                process.worker, self.now(), started=started, error=error, status=status
            )
        )
        self._let_go(process.source)

    def starter_gone(self, source: Source) -> None:
        """Its workers are going too: their kernel kills them; their groups are killed here."""
        for process in list(self._processes.values()):
            # Those of one that went before are killed already, and their ids may be another's.
            if process.source is not source or process.starter is None:
                continue
            process.starter = None
            begins = process.worker.state is WorkerState.STARTING and not process.again
            if process.os_pid is None and source.works and begins and not self._stopping:
                # Not its fault: it was not begun, and the next starter may do better.
                del self._processes[process.worker.id]
                process.close()
                self._start_process(process.worker, again=True)
                continue
            if process.worker.ready_at is None:
                process.failure = process.failure or source.failure
            if process.os_pid is not None:
                with suppress(ProcessLookupError):
                    os.killpg(process.os_pid, signal.SIGKILL)
            if process.os_pid is not None and process.link.is_open:
                process.pause(self.paused)
            else:
                self._worker_exited(process, None)
        self._let_go(source)
        self._may_have_stopped()

    def release(self) -> None:
        """Close what the pool holds, when it has stopped."""
        self.ledger.close()


_PERFORM: dict[type, Callable[[Runner, Any], None]] = {
    effects.Send: Runner._send,
    effects.Grant: Runner._grant,
    effects.Forward: Runner._forward,
    effects.Reply: Runner._reply,
    effects.Start: Runner._start,
    effects.Interrupt: Runner._interrupt,
    effects.Recall: Runner._recall,
    effects.Ping: Runner._ping,
    effects.Finish: Runner._finish,
    effects.Kill: Runner._kill,
    effects.Measure: Runner._measure,
    effects.Emit: Runner._emit,
    effects.Settled: Runner._settled,
    effects.Stopped: Runner._stopped,
}
