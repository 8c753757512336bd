"""Control calls: what the host asks of the supervisor itself (SPEC section 9)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from snakepit_port import wire
from snakepit_port.config import Config, ConfigError
from snakepit_port.pool.record import COUNTERS
from snakepit_port.supervisor import configuration, replies
from snakepit_port.supervisor.gathering import Gathering
from snakepit_port.supervisor.pools import Pools
from snakepit_port.supervisor.runner import Runner
from snakepit_port.supervisor.stacks import PATIENCE, REMIND_AFTER
from snakepit_port.wire.terms import show

#: Seconds to wait for the memory of workers: what is not measured by then, 160 GiB on, is not told.
#: Less than a host waits for the answer to a control call.
MEMORY_PATIENCE = 4.0


class CallRefused(Exception):
    """A control call that is answered with an error of this type."""

    def __init__(self, type: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.type = type
        self.more = more


@dataclass(slots=True)
class _Pending:
    """A call whose answer comes later: when those that it waits for are reminded, and until when
    it waits."""

    gathering: Gathering
    remind_at: float
    until: float


class Controls:
    """Each call gets one `answer`, a frame, at once or when the workers that have a part in it have
    told that, or had the time to.

    `reloaded` is called with a configuration that is in force now, and the pools that leave.
    """

    def __init__(
        self,
        pools: Pools,
        clock: Callable[[], float],
        run_id: str,
        config_path: str | None,
        max_frame_bytes: int,
        answer: Callable[[bytes], None],
        reloaded: Callable[[Config, Collection[Runner]], None],
    ) -> None:
        self._pools = pools
        self._clock = clock
        self._run_id = run_id
        self._config_path = config_path
        self._max_frame_bytes = max_frame_bytes
        self._answer = answer
        self._reloaded = reloaded
        self._born_at = clock()
        self._stopping = False
        #: Calls whose answers come later, by id.
        self.pending: dict[int, _Pending] = {}
        #: When `tick` has something to do next.
        self.next_due = math.inf

    def call(self, id: int, name: str, raw: bytes) -> None:
        """Carry a call out. `raw` is an encoded map of arguments."""
        handler = _HANDLERS.get(name)
        try:
            if handler is None:
                known = ", ".join(sorted(_HANDLERS))
                raise CallRefused(
                    "unknown_control", f"there is no control {show(name)}; use {known}"
                )
            args = wire.decode(raw)
            if not isinstance(args, dict):
                raise CallRefused("bad_arguments", f"{name} takes a map, not {show(args)}")
            answer = handler(self, args)
        except CallRefused as exc:
            self._refuse(id, name, exc.type, str(exc), **exc.more)
        except wire.DecodeError as exc:
            self._refuse(id, name, "decode", str(exc))
        else:
            if isinstance(answer, Gathering):
                self._await(id, name, answer)
            else:
                self._answer(replies.result(id, name, answer, self._max_frame_bytes))

    def _refuse(self, id: int, name: str, type: str, message: str, **more: Any) -> None:
        error = {"type": type, "message": message, "command": name, **more}
        self._answer(replies.error(id, error, self._max_frame_bytes))

    # -- answers that come later -------------------------------------------------------------------

    def _await(self, id: int, name: str, gathering: Gathering) -> None:
        now = self._clock()
        self.pending[id] = _Pending(
            gathering, now + gathering.remind_after, now + gathering.patience
        )
        self._see_what_is_due()
        gathering.begin(lambda gathered: self._gathered(id, name, gathered))

    def _gathered(self, id: int, name: str, gathered: Any) -> None:
        del self.pending[id]
        self._see_what_is_due()
        self._answer(replies.result(id, name, gathered, self._max_frame_bytes))

    def _see_what_is_due(self) -> None:
        dates = (min(call.remind_at, call.until) for call in self.pending.values())
        self.next_due = min(dates, default=math.inf)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.next_due > now:
            return
        for call in self.pending.values():
            if call.remind_at <= now < call.until:
                call.remind_at = now + call.gathering.remind_after
                call.gathering.remind()
        self._give_up(now)
        self._see_what_is_due()

    def stop(self) -> None:
        """Answer what is open now, and reload and replace nothing any more."""
        self._stopping = True
        self._give_up(math.inf)

    def _give_up(self, now: float) -> None:
        for call in list(self.pending.values()):
            if call.until <= now:
                call.gathering.give_up()

    # -- whom a call is about ----------------------------------------------------------------------

    def _selected(self, args: Mapping[str, Any]) -> list[Runner]:
        pool = args.get("pool")
        return list(self._pools.running.values()) if pool is None else [self._pool(pool)]

    def _pool(self, name: Any) -> Runner:
        runner = self._pools.running.get(name) if isinstance(name, str) else None
        if runner is None:
            shown = name if isinstance(name, str) else show(name)
            raise CallRefused("unknown_pool", self._pools.no_such(shown))
        return runner

    def _with_worker(self, args: Mapping[str, Any]) -> list[Runner]:
        """The pool that has the worker, where a control call names one; else as `_selected`."""
        runners, worker = self._selected(args), args.get("worker")
        if worker is None:
            return runners
        for runner in runners:
            if isinstance(worker, str) and worker in runner.machine.workers:
                return [runner]
        where = "" if args.get("pool") is None else f" in pool {runners[0].name!r}"
        message = f"there is no worker {show(worker)}{where}; see `workers`"
        raise CallRefused("bad_arguments", message)

    def _refuse_while_stopping(self) -> None:
        if self._stopping:
            raise CallRefused("shutting_down", "the supervisor is shutting down")

    # -- each of them ------------------------------------------------------------------------------

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

    def _close_session(self, args: Mapping[str, Any]) -> bool:
        pool, session = args.get("pool"), args.get("session")
        runner = self._pools.default if pool is None else self._pool(pool)
        if runner is None:
            raise CallRefused("unknown_pool", self._pools.no_such(None))
        if not isinstance(session, str):
            raise CallRefused("bad_arguments", f"a session is a text, not {show(session)}")
        return runner.close_session(str(session))

    def _stacks(self, args: Mapping[str, Any]) -> Gathering:
        gathering = Gathering(PATIENCE, remind_after=REMIND_AFTER)
        for runner in self._with_worker(args):
            runner.ask_stacks(gathering, args.get("worker"))
        return gathering

    def _reload(self, args: Mapping[str, Any]) -> dict[str, Any]:
        self._refuse_while_stopping()
        try:
            file = args.get("file", self._config_path)
            config = configuration.load(args, file)
            if config is None:
                message = "there is no file to read again: reload takes a `config`, or a `file`"
                raise CallRefused("bad_arguments", message)
            done = self._pools.reconfigure(config)
        except ConfigError as exc:
            raise CallRefused("config", str(exc), problems=exc.as_term()) from None
        self._reloaded(config, self._pools.leaving)
        converted = [change.as_term() for change in config.changes]
        left = [runner.settings for runner in self._pools.leaving]
        return {
            "pools": done,
            "call_timeouts": configuration.call_timeouts(config),
            "stop_time": configuration.stop_time(config, left),
            **({"converted": converted} if converted else {}),
        }


_HANDLERS: dict[str, Callable[[Controls, Mapping[str, Any]], Any]] = {
    "close_session": Controls._close_session,
    "recycle": Controls._recycle,
    "reload": Controls._reload,
    "stacks": Controls._stacks,
    "stats": Controls._stats,
    "workers": Controls._workers,
}
