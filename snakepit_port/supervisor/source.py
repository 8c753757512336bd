"""Where a pool's workers come from: its settings as a worker sees them, and a starter.

A reload that changes what workers see gives the pool another source. The one of before starts no
more, and its starter ends when the last worker that came from it has gone.
"""

from __future__ import annotations

import math
import os
import re
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from snakepit_port import wire
from snakepit_port.config import Config, PoolSettings
from snakepit_port.config.env import effective_environment
from snakepit_port.environment.finding import where_to_look
from snakepit_port.environment.libraries import known_libraries
from snakepit_port.processes import signal_name
from snakepit_port.supervisor.starter import Starter
from snakepit_port.supervisor.worker_process import LOST_CHANNEL, WorkerProcess, tail_of

if TYPE_CHECKING:
    from snakepit_port.supervisor.runner import Runner

#: Read with this module: a reload may be what first asks for them, and the folder that the
#: supervisor was started from be moved or removed by then.
_UNSAFE_MODULES = {
    library.module: library.note for library in known_libraries() if library.threads == "unsafe"
}

#: What a Python says that cannot be a starter.
_BY_PYTHON = re.compile(
    '^(Traceback |  File "|Fatal Python error|a worker needs Python)', re.MULTILINE
)

#: What it says first of why; where it was comes last.
_FATAL = re.compile("^Fatal Python error: .*", re.MULTILINE)

#: Seconds within which a starter tells that a worker which was killed is gone, or ends itself. It
#: waits for nothing but the kernel. One that has to end and does not is killed.
_STARTER_GRACE = 2.0

#: Seconds within which a starter says that it is there, when it is asked because a worker does not
#: go. One that does not is stuck, and is killed; all its workers go with it, so it gets the time
#: that it may take where there are more processes than processors.
_ANSWER_GRACE = 5.0


class Source:
    """One of a runner's. There is a starter from the first worker on; another one, when that went
    and a worker is wanted."""

    def __init__(self, runner: Runner, config: Config, settings: PoolSettings) -> None:
        self.runner = runner
        self.settings = settings
        profile = config.profile_of(settings)
        layers = effective_environment(settings, profile, os.environ)
        self._env = {name: value for name, (value, _source) in layers.items()}
        #: Calls that each worker runs at a time, on threads; None where it runs one, as a process.
        self.threads = settings.threads_per_worker if profile.kind == "thread" else None
        self._unsafe_modules = _UNSAFE_MODULES if settings.thread_safety_checks else {}
        self.starter: Starter | None = None
        #: Why the last starter went, and whether it had begun to work.
        self.failure: dict[str, Any] | None = None
        self.works = False
        #: What its workers have said of their adapter: each that comes says the same again.
        self._heard: set[tuple[str, str]] = set()
        #: What the starter is to tell, by when: a worker's end, or (None) its own.
        self._awaited: dict[str | None, float] = {}
        #: By when it is to answer, if it was asked whether it is there.
        self._answer_due = math.inf
        #: When `tick` has last dealt with all that were late by then.
        self._looked_at = -math.inf
        #: Workers that were not gone when it had answered, and whether that was logged: a debugger
        #: has them, or the kernel. Nobody can do anything about it but wait.
        self._slow: dict[str, bool] = {}

    def makes_the_same_as(self, other: Source) -> bool:
        """Whether workers of both cannot be told apart, and run the same way."""
        return self._seen_by_workers() == other._seen_by_workers()

    def _seen_by_workers(self) -> tuple[Any, ...]:
        settings = self.settings
        started_with = settings.python, settings.preload, settings.start_method
        # As a term: to Python, 1 and True are equal.
        return self._env, started_with, wire.encode(self.worker_hello())

    def worker_hello(self) -> dict[str, Any]:
        """What hello tells a worker of these settings."""
        settings = self.settings
        args = settings.adapter_args
        return {
            "adapter": settings.adapter,
            "adapter_args": dict(args) if isinstance(args, Mapping) else list(args),
            "python_path": list(settings.python_path),
            "direct_calls": list(settings.direct_calls),
            "threads": self.threads,
            "thread_safety_checks": settings.thread_safety_checks,
            "unsafe_modules": self._unsafe_modules,
        }

    def is_news(self, event: str, message: str) -> bool:
        """Whether none of its workers has said this of itself before."""
        before = len(self._heard)
        self._heard.add((event, message))
        return len(self._heard) > before

    # -- the starter -------------------------------------------------------------------------------

    @property
    def starter_pid(self) -> int | None:
        return None if self.starter is None else self.starter.process.pid

    def start(self, process: WorkerProcess) -> None:
        """Have a worker's process started, by a new starter where there is none.

        Raises `StarterError` if there can be none; the descriptors of the process are still open.
        """
        if self.starter is None:
            runner = self.runner
            shm = runner.outside.shm
            self.failure = None
            self.works = False
            self.starter = Starter(
                runner.pump,
                self.settings,
                runner.run,
                self._env,
                runner.ledger.fd,
                None if shm is None else shm.folder,
                lambda said: runner.starter_said(self, said),
                self._starter_gone,
                lambda level, line: runner.outside.log(runner.name, None, "stderr", level, line),
            )
            self.pause()
        process.starter = self.starter
        self.starter.start(process.worker.id, process.slot, process.inherited)

    def pause(self) -> None:
        """Read what the starter prints, or do not, as the pool's workers are read from."""
        if self.starter is not None:
            self.starter.output.pause(self.runner.paused)

    def signal(self, worker: str, signum: int, *, group: bool) -> None:
        if self.starter is not None:
            self.starter.signal(worker, signum, group=group)

    def finish(self) -> None:
        """Have the starter end, if there is one."""
        if self.starter is not None:
            self.starter.finish()
            self.expect(None)

    def expect(self, worker: str | None) -> None:
        """The starter is to tell of a worker's end before long, or (None) to end itself."""
        self.runner.touch()
        self._awaited.setdefault(worker, self.runner.now() + _STARTER_GRACE)

    def has_told(self, worker: str) -> None:
        self._awaited.pop(worker, None)
        self._slow.pop(worker, None)
        if not self._awaited:
            self._answer_due = math.inf

    def has_answered(self) -> None:
        """The starter is there, and has killed what it was told to kill."""
        self.runner.touch()
        self._answer_due = math.inf
        now = self.runner.now()
        for worker in self._late(now):
            if worker is not None:
                # Awaited anew: the starter could still get stuck.
                self._awaited[worker] = now + _STARTER_GRACE
                self._slow.setdefault(worker, False)

    def _late(self, now: float) -> list[str | None]:
        return [worker for worker, due in self._awaited.items() if due <= now]

    @property
    def next_due(self) -> float:
        """When the first of what it is to tell is due."""
        if self.starter is None or not self._awaited:
            return math.inf
        if self._answer_due == math.inf:
            return min(self._awaited.values())
        # Those that become late meanwhile may be all that a pool which stops waits for.
        coming = (due for due in self._awaited.values() if due > self._looked_at)
        return min((self._answer_due, *coming))

    def look_again(self) -> None:
        """The pool is to stop: those that are late may be all that it waits for."""
        self._looked_at = -math.inf

    def tick(self, now: float) -> None:
        """Ask a starter that is late with the end of a worker whether it is there. Kill one that
        does not answer, or is late with its own end."""
        if self.starter is None or self.next_due > now:
            return
        self._looked_at = now
        late = self._late(now)
        gets_no_more = self._answer_due <= now or None in late
        if gets_no_more or self.runner.is_over_but_for(self, late):
            self._await_nothing()
            self.starter.kill()
            return
        if self._answer_due < math.inf:
            # It was asked already.
            return
        for worker in late:
            if worker is not None and self._slow.get(worker) is False:
                self._slow[worker] = True
                self.runner.outside.log(
                    self.runner.name,
                    worker,
                    "supervisor",
                    "warning",
                    f"worker {worker} was killed and is not gone: a debugger has it, or the kernel;"
                    " the pool goes on without it",
                )
                self.runner.held(worker)
        self._answer_due = now + _ANSWER_GRACE
        self.starter.ping()

    def _await_nothing(self) -> None:
        self._awaited.clear()
        self._slow.clear()
        self._answer_due = math.inf

    def _starter_gone(self) -> None:
        starter, self.starter = self.starter, None
        assert starter is not None
        self._await_nothing()
        if self.failure is None:
            code = starter.process.returncode
            how = f"ended with {signal_name(-code) if code < 0 else f'status {code}'}"
            if starter.left and code == -signal.SIGKILL:
                how = f"{LOST_CHANNEL}, and was killed"
            tail = tail_of(starter.output)
            if not (self.works or code < 0 or _BY_PYTHON.search(tail)):
                tail = _is_it_a_python(self.settings.python, tail)
            fatal = _FATAL.search(tail)
            last = fatal[0] if fatal else tail.strip().rpartition("\n")[2]
            self.failure = {
                "type": "pool_unavailable",
                "message": f"the starter of pool {self.runner.name!r} {how}"
                + (f": {last}" if last else ""),
                "pool": self.runner.name,
            }
            if last != tail:
                self.failure["stderr"] = tail
        self.runner.starter_gone(self)


def _is_it_a_python(python: str, tail: str) -> str:
    """What to say of a program that ended before it was a starter, and of its last lines: a shell
    shows much of the file that it was to run in them."""
    question = f"is {python!r} a Python, 3.9 or newer? {where_to_look(python)}"
    last = tail.strip().rpartition("\n")[2]
    return f"{question} (it ended with: {last})" if last else question
