"""What the host says, and what is said to it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from snakepit_port import wire
from snakepit_port.config import Config, ConfigError, PoolSettings
from snakepit_port.pool import Call, PoolState
from snakepit_port.pool.record import COUNTERS
from snakepit_port.supervisor import configuration
from snakepit_port.supervisor.gathering import Gathering
from snakepit_port.supervisor.link import Link
from snakepit_port.supervisor.memory import Sampler
from snakepit_port.supervisor.output import MAX_LINE_BYTES
from snakepit_port.supervisor.pools import Pools
from snakepit_port.supervisor.pump import Pump
from snakepit_port.supervisor.run import Run
from snakepit_port.supervisor.runner import Runner
from snakepit_port.supervisor.shm import SharedMemory
from snakepit_port.supervisor.stacks import PATIENCE
from snakepit_port.wire import messages
from snakepit_port.wire.framing import Frame, Oversized
from snakepit_port.wire.messages import ProtocolError
from snakepit_port.wire.terms import show

#: Bytes waiting for a host that reads slowly, beyond which workers are no longer read from (their
#: pipes fill, and then they wait), nor is the host. Some frames of the size that batching makes.
HOST_BEHIND_BYTES = 8 * 1024 * 1024

#: Frames of the largest size that may wait for workers, beyond which the host is not read from.
MAX_FRAMES_HELD = 2

#: Seconds after which it is read from all the same, and calls that would have to wait are refused:
#: what frees workers may be behind those, a stream's credit or a cancel. It is twice the usual
#: `queue_timeout`, which mostly makes room before.
MAX_HOLD = 10.0

#: Seconds to wait for the memory of workers: what is not measured by then, 160 GiB on, is not told.
#: Less than a host waits for the answer to a control call.
MEMORY_PATIENCE = 4.0

#: Characters of a session id. A pool remembers `max_sessions` of them.
MAX_SESSION_ID = 255


class CallRefused(Exception):
    """A control call that is answered with an error of this type."""

    def __init__(self, type: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.type = type
        self.more = more


class Host:
    """The host's side of the supervisor, once both have said hello: routes calls to pools.

    Raises `ConfigError`, and holds nothing then, where there cannot be so many pools.
    """

    def __init__(
        self,
        pump: Pump,
        config: Config,
        clock: Callable[[], float],
        software: str,
        run: Run,
        info: Mapping[str, Any],
        config_path: str | None = None,
    ) -> None:
        self._pump = pump
        self._clock = clock
        self._run_id = run.id
        self._config_path = config_path
        self._stopping = False
        self._born_at = clock()
        self._link: Link | None = None
        self._calls: dict[int, tuple[Call, Runner]] = {}
        #: Questions that several workers have a part in, and until when they wait for those.
        self._gatherings: dict[int, tuple[Gathering, float]] = {}
        self._touched: list[Runner] = []
        self._due: dict[Runner, float] = {}
        #: Those in which something has happened since it was seen what is due, and whether one of
        #: them, or a question, has come or gone since.
        self._undated: set[Runner] = set()
        self._dates_changed = False
        self._next_due = math.inf
        self._queued: dict[Runner, int] = {}
        self._queued_bytes = 0
        self._behind = False
        self._held = False
        #: Whether too much waits for workers, and until when the host is not read from for that.
        self._is_full = False
        self._full_until = math.inf
        self._refuses = False
        #: What is to be said after the answer to a control call that is being carried out.
        self._later: list[bytes] | None = None
        self.max_frame_bytes = config.supervisor.max_frame_bytes
        self.host_max_frame_bytes: int = info.get("max_frame_bytes", self.max_frame_bytes)
        self.sampler = Sampler(pump)

        def make(config: Config, pool: PoolSettings, first_number: int) -> Runner:
            runner = Runner(pump, config, pool, run, self, clock, software, first_number)
            runner.pause(self._behind)
            return runner

        self.pools = Pools(config, make)
        can = info.get("capabilities")
        reads_files = isinstance(can, list) and "shm" in can
        # Last: nobody removes it, if anything else fails.
        self.shm = SharedMemory.make(run.id, config.supervisor) if reads_files else None
        #: Pools that have been there from the beginning and were neither ready nor unavailable yet.
        self._unsettled = set(self.pools)

    def attach(self, link: Link) -> None:
        """The link that answers go to; the pools start."""
        self._link = link
        for runner in self.pools.running.values():
            runner.start()
        if not self.pools.running:
            self._send(messages.ready({"pools": {}}))

    def stop(self, grace: float) -> None:
        """Take no more calls; finish what there is within `grace` seconds."""
        self._stopping = True
        for gathering, _ in list(self._gatherings.values()):
            gathering.give_up()
        for runner in self.pools:
            runner.stop(grace)

    def cancel_all(self) -> None:
        """Nobody waits for an answer any more."""
        for call, runner in list(self._calls.values()):
            runner.cancel(call)

    def release(self) -> None:
        """Close what the pools hold, once they have stopped."""
        self.sampler.close()
        for runner in self.pools:
            runner.release()

    # -- to the host -------------------------------------------------------------------------------

    def _send(self, frame: bytes) -> None:
        assert self._link is not None
        if self._later is None:
            self._link.send(frame)
        else:
            self._later.append(frame)

    def answer(self, call: Call, frame: bytes) -> None:
        self._calls.pop(call.id, None)
        assert self._link is not None
        # Not `_send`: an answer is about its call, whatever else is told before or after.
        self._link.send(frame)

    def chunk(self, frame: bytes) -> None:
        self._send(frame)

    def event(
        self, name: str, measurements: Mapping[str, float], metadata: Mapping[str, Any]
    ) -> None:
        self._send(messages.event(name, dict(measurements), dict(metadata)))

    def log(self, pool: str | None, worker: str | None, source: str, level: str, line: str) -> None:
        if len(line) > MAX_LINE_BYTES:
            # What a worker printed was cut before. Here it is the command of a process, say.
            line = line[:MAX_LINE_BYTES] + "…"
        entry = {"pool": pool, "worker": worker, "source": source, "level": level, "line": line}
        self._send(messages.log(entry))

    def warn_of(self, config: Config) -> None:
        """Log what a configuration has that is hardly meant."""
        for warning in config.warnings:
            line = f"{warning.file or 'the configuration'}: {warning}"
            self.log(None, None, "supervisor", "warning", line)

    def settled(self, runner: Runner) -> None:
        if runner not in self._unsettled:
            return
        self._unsettled.discard(runner)
        if not self._unsettled:
            # One that a reload has added since, or begun anew, tells of itself later.
            pools = {
                name: runner.machine.state.value
                for name, runner in self.pools.running.items()
                if runner.machine.state is not PoolState.STARTING
            }
            self._send(messages.ready({"pools": pools}))

    def _refuse(self, id: int | None, type: str, message: str, **more: Any) -> None:
        self._send(_refusal(id, type, message, **more))

    # -- from the host -----------------------------------------------------------------------------

    def received(self, frames: list[Frame]) -> None:
        """Frames that arrived together. Each bad one is answered, and changes nothing else."""
        now = self._clock()
        read_usual_call = messages.read_usual_call
        for frame in frames:
            try:
                if isinstance(frame, Oversized):
                    self._too_large(frame)
                    continue
                usual = read_usual_call(frame)
                if usual is not None:
                    self._call(frame, now, *usual)
                else:
                    self._other(messages.parse(frame), frame)
            except ProtocolError as exc:
                self._refuse(self._free(exc.id), "protocol_error", exc.message)

    def _free(self, id: int | None) -> int | None:
        """An answer with the id of a call in progress would end that one."""
        return None if self._is_used(id) else id

    def _is_used(self, id: int | None) -> bool:
        return id in self._calls or id in self._gatherings

    def _too_large(self, frame: Oversized) -> None:
        message = (
            f"a frame of {frame.size} bytes is over max_frame_bytes ({self.max_frame_bytes});"
            " send less at once, or raise it in [supervisor]"
        )
        self._refuse(self._free(messages.read_head(frame.head)), "frame_too_large", message)

    def _call(
        self,
        frame: bytes,
        now: float,
        id: int,
        pool: str | None,
        command: str,
        options: Mapping[str, Any] | None,
    ) -> None:
        if id in self._calls or id in self._gatherings:
            raise ProtocolError(f"call {id} is still in progress; its id cannot be used yet")
        runner = self.pools.default if pool is None else self.pools.running.get(pool)
        if runner is None:
            self._refuse(id, "unknown_pool", self.pools.no_such(pool), command=command)
            return
        settings = runner.settings
        timeout, queue_timeout = settings.call_timeout, settings.queue_timeout
        session: str | None = None
        credit: int | None = None
        if options:
            timeout = _seconds(options, "timeout", timeout, id)
            queue_timeout = _seconds(options, "queue_timeout", queue_timeout, id)
            session = _session(options, id)
            credit = messages.stream_credit(options, id)
        call = Call(id, command, frame, timeout, queue_timeout, credit, session)
        self._calls[id] = call, runner
        runner.call_arrived(call, now)

    def _other(self, said: tuple[Any, ...], frame: bytes) -> None:
        tag = said[0]
        if tag == "call":
            # In an encoding that is legal and not the usual one.
            self._call(frame, self._clock(), *messages.read_call(frame))
        elif tag == "cancel":
            call, runner = self._calls.get(said[1], (None, None))
            if call is not None and runner is not None:
                runner.cancel(call)
        elif tag == "credit":
            call, runner = self._calls.get(said[1], (None, None))
            if call is not None and runner is not None:
                if call.credit is None:
                    raise ProtocolError(f"call {call.id} is not a stream: it takes no credit")
                runner.grant(call, said[2])
        elif tag == "control":
            _, id, name, args = said
            if self._is_used(id):
                raise ProtocolError(f"call {id} is still in progress; its id cannot be used yet")
            self._control(id, name, args)
        elif tag == "ping":
            self._send(messages.pong(said[1]))
        else:
            raise ProtocolError(f"a {tag} is not for the host to send here")

    def _control(self, id: int, name: str, raw: bytes) -> None:
        # What it causes at once is told after its answer: told before, it could as well be about
        # what was before.
        later: list[bytes] = []
        self._later = later
        answer = self._controlled(id, name, raw)
        self._later = None
        if isinstance(answer, Gathering):
            self._gatherings[id] = answer, self._clock() + answer.patience
            self._dates_changed = True
            answer.begin(lambda gathered: self._gathered(id, gathered))
        else:
            self._send(answer)
        for frame in later:
            self._send(frame)

    def _controlled(self, id: int, name: str, raw: bytes) -> Gathering | bytes:
        """Carry out a control call. Returns its answer, or what that will be made of."""
        handler = _CONTROLS.get(name)
        try:
            if handler is None:
                known = ", ".join(sorted(_CONTROLS))
                raise CallRefused(
                    "unknown_control", f"there is no control {show(name)}; use {known}"
                )
            args = wire.decode(raw)
            if not isinstance(args, dict):
                raise CallRefused("bad_arguments", f"{name} takes a map, not {show(args)}")
            answer = handler(self, args)
        except CallRefused as exc:
            return _refusal(id, exc.type, str(exc), command=name, **exc.more)
        except wire.DecodeError as exc:
            return _refusal(id, "decode", str(exc), command=name)
        if isinstance(answer, Gathering):
            return answer
        return messages.result(id, wire.encode(answer))

    def _selected(self, args: Mapping[str, Any]) -> list[Runner]:
        pool = args.get("pool")
        if pool is None:
            return list(self.pools.running.values())
        return [self._pool(pool)]

    def _pool(self, name: Any) -> Runner:
        runner = self.pools.running.get(name) if isinstance(name, str) else None
        if runner is None:
            shown = name if isinstance(name, str) else show(name)
            raise CallRefused("unknown_pool", self.pools.no_such(shown))
        return runner

    def _workers(self, args: Mapping[str, Any]) -> Gathering:
        runners = self._selected(args)
        workers = [worker for runner in runners for worker in runner.workers()]
        gathering = Gathering(
            MEMORY_PATIENCE,
            lambda sizes: [
                {**worker, "memory_bytes": sizes.get(worker["id"])} for worker in workers
            ],
        )
        for runner in runners:
            runner.ask_memory(gathering)
        return gathering

    def _stats(self, args: Mapping[str, Any]) -> dict[str, Any]:
        pools = {runner.name: runner.machine.stats() for runner in self._selected(args)}
        summed = (*COUNTERS, "queued", "workers", "available", "busy")
        return {
            **{key: sum(stats[key] for stats in pools.values()) for key in summed},
            "os_pid": os.getpid(),
            "run_id": self._run_id,
            "uptime_ms": round((self._clock() - self._born_at) * 1000),
            "pools": pools,
        }

    def _recycle(self, args: Mapping[str, Any]) -> int:
        self._refuse_while_stopping()
        worker = args.get("worker")
        return sum(runner.recycle(worker) for runner in self._with_worker(args))

    def _with_worker(self, args: Mapping[str, Any]) -> list[Runner]:
        """The pool that has the worker, where a control call names one; else as `_selected`."""
        runners, worker = self._selected(args), args.get("worker")
        if worker is None:
            return runners
        for runner in runners:
            if isinstance(worker, str) and worker in runner.machine.workers:
                return [runner]
        raise CallRefused("bad_arguments", f"there is no worker {show(worker)}; see `workers`")

    def _refuse_while_stopping(self) -> None:
        if self._stopping:
            raise CallRefused("shutting_down", "the supervisor is shutting down")

    def _close_session(self, args: Mapping[str, Any]) -> bool:
        pool, session = args.get("pool"), args.get("session")
        runner = self.pools.default if pool is None else self._pool(pool)
        if runner is None:
            raise CallRefused("unknown_pool", self.pools.no_such(None))
        if not isinstance(session, str):
            raise CallRefused("bad_arguments", f"a session is a text, not {show(session)}")
        return runner.close_session(str(session))

    def _stacks(self, args: Mapping[str, Any]) -> Gathering:
        gathering = Gathering(PATIENCE)
        for runner in self._with_worker(args):
            runner.ask_stacks(gathering, args.get("worker"))
        return gathering

    def _gathered(self, id: int, gathered: Any) -> None:
        del self._gatherings[id]
        self._dates_changed = True
        self._send(messages.result(id, wire.encode(gathered)))

    # -- reload ------------------------------------------------------------------------------------

    def _reload(self, args: Mapping[str, Any]) -> dict[str, Any]:
        self._refuse_while_stopping()
        before = set(self.pools)
        try:
            config = self._load(args)
            done = self.pools.reconfigure(config)
        except ConfigError as exc:
            raise CallRefused("config", str(exc), problems=exc.as_term()) from None
        for runner in before.intersection(self.pools.leaving):
            # Nobody has to wait any longer for it to be ready.
            self.settled(runner)
        self.warn_of(config)
        converted = [change.as_term() for change in config.changes]
        return {"pools": done, **({"converted": converted} if converted else {})}

    def _load(self, args: Mapping[str, Any]) -> Config:
        config = configuration.load(args, args.get("file", self._config_path))
        if config is None:
            message = "there is no file to read again: reload takes a `config`, or a `file`"
            raise CallRefused("bad_arguments", message)
        return config

    def _see_off(self) -> None:
        """Forget the removed pools of which nothing is left."""
        for runner in self.pools.take_gone():
            self._undated.discard(runner)
            self._due.pop(runner, None)
            self._dates_changed = True
            self._queued_bytes -= self._queued.pop(runner, 0)
            runner.release()
            self.event("pool.removed", {}, {"pool": runner.name})

    # -- once a turn -------------------------------------------------------------------------------

    def touched(self, runner: Runner) -> None:
        """Something happened in a pool; told once a turn. The others need not be looked at."""
        self._touched.append(runner)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.next_due > now:
            return
        for runner, due in list(self._due.items()):
            if due <= now:
                runner.tick()
        for gathering, until in list(self._gatherings.values()):
            if until <= now:
                gathering.give_up()
        if self._full_until <= now:
            self._full_until = math.inf
            self._dates_changed = True
            self._balance()

    @property
    def next_due(self) -> float:
        """When `tick` has something to do next, if nothing else happens."""
        if self._undated or self._dates_changed:
            for runner in self._undated:
                self._due[runner] = runner.next_due
            self._undated.clear()
            self._dates_changed = False
            waits = (until for _, until in self._gatherings.values())
            self._next_due = min([*self._due.values(), *waits, self._full_until])
        return self._next_due

    def take_stock(self) -> None:
        """End a turn: see what the pools hold now, and read only as fast as the other side takes
        it."""
        for runner in self._touched:
            runner.touched = False
            self._undated.add(runner)
            queued = runner.machine.queue.bytes
            if queued != self._queued.get(runner, 0):
                self._queued_bytes += queued - self._queued.get(runner, 0)
                self._queued[runner] = queued
        if self._touched:
            self._touched.clear()
            if self.pools.leaving:
                self._see_off()
        if self._queued_bytes or self._pump.out_bytes or self._behind or self._is_full:
            self._balance()

    def _balance(self) -> None:
        assert self._link is not None
        behind = self._link.out_bytes > HOST_BEHIND_BYTES // (2 if self._behind else 1)
        if behind is not self._behind:
            self._behind = behind
            for runner in self.pools:
                runner.pause(behind)
        limit = self.max_frame_bytes * MAX_FRAMES_HELD // (2 if self._is_full else 1)
        to_workers = self._pump.out_bytes - self._link.out_bytes
        is_full = to_workers + self._queued_bytes > limit
        if is_full is not self._is_full:
            self._is_full = is_full
            self._full_until = self._clock() + MAX_HOLD if is_full else math.inf
            self._dates_changed = True
        refuses = is_full and self._full_until == math.inf
        if refuses or self._refuses:
            self._refuses = refuses
            for runner in self.pools:
                runner.machine.queue.has_bytes_left = not refuses
        # What it asks is answered at once where it is refused: a host that does not read is not
        # asked for more.
        held = behind or (is_full and not refuses)
        if held is not self._held:
            self._held = held
            self._link.pause(held)


def _refusal(id: int | None, type: str, message: str, **more: Any) -> bytes:
    return messages.error(id, {"type": type, "message": message, **more})


def _session(options: Mapping[str, Any], id: int) -> str | None:
    value = options.get("session")
    if value is None:
        return None
    if isinstance(value, str) and 0 < len(value) <= MAX_SESSION_ID:
        return str(value)
    raise ProtocolError(
        f"option session is a text of 1 to {MAX_SESSION_ID} characters, not {show(value)}", id
    )


def _seconds(options: Mapping[str, Any], key: str, default: float, id: int) -> float:
    """An option in milliseconds; nil is for ever."""
    if key not in options:
        return default
    value = options[key]
    if value is None:
        return math.inf
    if type(value) is int and 0 <= value <= messages.MAX_ID:
        return int(value) / 1000
    raise ProtocolError(f"option {key} is milliseconds or nil, not {show(value)}", id)


_CONTROLS: dict[str, Callable[[Host, Mapping[str, Any]], Any]] = {
    "close_session": Host._close_session,
    "recycle": Host._recycle,
    "reload": Host._reload,
    "stacks": Host._stacks,
    "stats": Host._stats,
    "workers": Host._workers,
}
