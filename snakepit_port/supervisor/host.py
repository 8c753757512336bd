"""What the host says, and what is said to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from snakepit_port.config import Config, PoolSettings
from snakepit_port.pool import Call, PoolState
from snakepit_port.supervisor import replies
from snakepit_port.supervisor.balance import Balance
from snakepit_port.supervisor.controls import Controls
from snakepit_port.supervisor.link import Link
from snakepit_port.supervisor.memory import Sampler
from snakepit_port.supervisor.pools import Pools
from snakepit_port.supervisor.pump import Pump
from snakepit_port.supervisor.run import Run
from snakepit_port.supervisor.runner import Runner
from snakepit_port.supervisor.shm import SharedMemory
from snakepit_port.supervisor.tools import Tools
from snakepit_port.wire import envelopes, messages
from snakepit_port.wire.framing import Frame, Oversized
from snakepit_port.wire.grammar import MAX_ID, MAX_LINE_CHARS, ProtocolError
from snakepit_port.wire.terms import show

#: Characters of a session id. A pool remembers `max_sessions` of them.
MAX_SESSION_ID = 255


class Host:
    """The host's side of the supervisor, once both have said hello: routes calls to pools.

    Raises `ConfigError`, and holds nothing then, where there cannot be so many pools.
    """

    def __init__(
        self,
        pump: Pump,
        link: Link,
        config: Config,
        clock: Callable[[], float],
        run: Run,
        info: Mapping[str, Any],
        config_path: str | None = None,
    ) -> None:
        self._pump = pump
        self._clock = clock
        self._link = link
        self._calls: dict[int, tuple[Call, Runner]] = {}
        self._touched: list[Runner] = []
        #: When each pool has something to do next; not of those that are `_undated`, in which
        #: something has happened since, and which have to be asked again.
        self._due: dict[Runner, float] = {}
        self._undated: set[Runner] = set()
        self._next_due = math.inf
        #: What is to be said after the answer to a control call that is being carried out.
        self._later: list[bytes] | None = None
        self.max_frame_bytes = config.supervisor.max_frame_bytes
        self.host_max_frame_bytes: int = info.get("max_frame_bytes", self.max_frame_bytes)
        self.sampler = Sampler(pump)
        self._tools = Tools()

        def make(config: Config, pool: PoolSettings, first_number: int) -> Runner:
            runner = Runner(pump, config, pool, run, self, clock, first_number)
            runner.pause(self._balance.is_behind)
            return runner

        self._balance = Balance(pump, link, clock, self.max_frame_bytes)
        self.pools = Pools(config, make)
        self._controls = Controls(
            self.pools,
            clock,
            run.id,
            config_path,
            max_frame_bytes=self.host_max_frame_bytes,
            answer=link.send,
            reloaded=self._reloaded,
        )
        told = info.get("capabilities")
        can = told if isinstance(told, list) else []
        self.host_runs_tools = "tools" in can
        # Last: nobody removes it, if anything else fails.
        self.shm = SharedMemory.make(run.id, config.supervisor) if "shm" in can else None
        #: Pools that have been there from the beginning and were neither ready nor unavailable yet.
        self._unsettled = set(self.pools)

    def start(self) -> None:
        """Hello was said: the pools start."""
        self.pools.start()
        if not self.pools.running:
            self._send(messages.ready({"pools": {}}))

    def stop(self, grace: float) -> None:
        """Take no more calls; finish what there is within `grace` seconds."""
        self._controls.stop()
        self.pools.stop(grace)

    @property
    def is_behind(self) -> bool:
        """Whether the host takes answers too slowly: it is not read from then."""
        return self._balance.is_behind

    def hears_no_more(self) -> None:
        """The host has closed its end of the link."""
        self._tools.refuse("the host has closed its end of the link, and runs no tools any more")

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
        if self._later is None:
            self._link.send(frame)
        else:
            self._later.append(frame)

    def answer(self, call: Call, frame: bytes) -> None:
        self._calls.pop(call.id, None)
        self._tools.close(call.id)
        # Not `_send`: an answer is about its call, whatever else is told before or after.
        self._link.send(frame)

    def tool(self, call_id: int, link: Link, number: int, name: str, args: bytes) -> None:
        frame = self._tools.ask(call_id, link, number, name, args)
        if frame is not None:
            self._send(frame)

    def pass_on(self, frame: bytes) -> None:
        self._send(frame)

    def event(
        self, name: str, measurements: Mapping[str, float], metadata: Mapping[str, Any]
    ) -> None:
        self._send(messages.event(name, dict(measurements), dict(metadata)))

    def log(self, pool: str | None, worker: str | None, source: str, level: str, line: str) -> None:
        if len(line) > MAX_LINE_CHARS:
            # What a worker printed was cut before. Here it is the command of a process, say.
            line = line[:MAX_LINE_CHARS] + "…"
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
        error = {"type": type, "message": message, **more}
        self._send(replies.error(id, error, self.host_max_frame_bytes))

    # -- from the host -----------------------------------------------------------------------------

    def received(self, frames: list[Frame]) -> None:
        """Frames that arrived together. Each bad one is answered, and changes nothing else."""
        now = self._clock()
        read_usual_call = envelopes.read_usual_call
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
        return id in self._calls or id in self._controls.pending

    def _too_large(self, frame: Oversized) -> None:
        message = (
            f"a frame of {frame.size} bytes is over max_frame_bytes ({self.max_frame_bytes});"
            " send less at once, or raise it in [supervisor]"
        )
        self._refuse(self._free(envelopes.read_head(frame.head)), "frame_too_large", message)

    def _call(
        self,
        frame: bytes,
        now: float,
        id: int,
        pool: str | None,
        command: str,
        options: Mapping[str, Any] | None,
    ) -> None:
        if self._is_used(id):
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
            credit = envelopes.stream_credit(options, id)
        call = Call(id, command, frame, timeout, queue_timeout, credit, session)
        self._calls[id] = call, runner
        runner.call_arrived(call, now)

    def _other(self, said: tuple[Any, ...], frame: bytes) -> None:
        tag = said[0]
        if tag == "call":
            # In an encoding that is legal and not the usual one.
            _, id, pool, command, _args, options = said
            self._call(frame, self._clock(), id, pool, command, options)
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
        elif tag in ("tool_result", "tool_error") and self.host_runs_tools:
            self._tools.answer(*said[1:])
        elif tag == "ping":
            self._send(messages.pong(said[1]))
        else:
            raise ProtocolError(f"a {tag} is not for the host to send here")

    def _control(self, id: int, name: str, raw: bytes) -> None:
        # What it causes at once is told after its answer: told before, it could as well be about
        # what was before.
        later: list[bytes] = []
        self._later = later
        self._controls.call(id, name, raw)
        self._later = None
        for frame in later:
            self._send(frame)

    def _reloaded(self, config: Config, leaving: Collection[Runner]) -> None:
        for runner in leaving:
            # Nobody has to wait any longer for it to be ready.
            self.settled(runner)
        self.warn_of(config)

    def _see_off(self) -> None:
        """Forget the removed pools of which nothing is left."""
        for runner in self.pools.take_gone():
            self._undated.discard(runner)
            self._due.pop(runner, None)
            self._balance.forget(runner)
            runner.release()
            self.event("pool.removed", {}, {"pool": runner.name})
        self._next_due = min(self._due.values(), default=math.inf)

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
        self.pools.tick()
        self._controls.tick(now)
        self._balance.tick(now, self.pools)

    @property
    def next_due(self) -> float:
        """When `tick` has something to do next, if nothing else happens."""
        if self._undated:
            for runner in self._undated:
                self._due[runner] = runner.next_due
            self._undated.clear()
            self._next_due = min(self._due.values())
        return min(
            self._next_due, self._controls.next_due, self._balance.next_due, self.pools.next_due
        )

    def take_stock(self) -> None:
        """End a turn: see what the pools hold now, and read only as fast as the other side takes
        it."""
        for runner in self._touched:
            runner.touched = False
            self._undated.add(runner)
            self._balance.note(runner)
        if self._touched:
            self._touched.clear()
            if self.pools.leaving:
                self._see_off()
        self._balance.is_asked = bool(self._tools.open)
        self._balance.see(self.pools)


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
    if type(value) is int and 0 <= value <= MAX_ID:
        return int(value) / 1000
    raise ProtocolError(f"option {key} is milliseconds or nil, not {show(value)}", id)
