"""Which processes a test started, and whether they are gone. Without /proc it sees none."""

from __future__ import annotations

import os
import select
import signal
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from snakepit_port.processes import all_pids, command_of, descendants_of, environment_of, look_at

#: A variable that every process of a run inherits, also one that was given away by its parent.
_MARK = "SNAKEPIT_PORT_TEST_RUN"


class Process(NamedTuple):
    """A process; its start time tells it from a later one with the same id."""

    pid: int
    started: str
    command: str

    def __str__(self) -> str:
        return f"{self.pid}: {self.command}"


class Run:
    """The processes of one test: those that carry its mark, and those it was told of.

    The mark finds processes wherever they went, unless their pool has `inherit_env = false`; those
    are known from having been children of the supervisor when its host was left.
    """

    def __init__(self) -> None:
        self._mark = uuid.uuid4().hex
        self._noted: set[Process] = set()

    def mark(self, env: Mapping[str, str] | None) -> dict[str, str]:
        """An environment (None: this process's) that marks those who get it."""
        return {**(os.environ if env is None else env), _MARK: self._mark}

    def note_descendants_of(self, pid: int) -> None:
        """Remembers all that a process has now."""
        self._noted.update(filter(None, map(_look_at, descendants_of(pid))))

    def end(self, grace: float) -> list[Process]:
        """Waits at most `grace` seconds until all are gone; kills and returns the others."""
        deadline = time.monotonic() + grace
        while (alive := self._alive()) and (left := deadline - time.monotonic()) > 0:
            _wait_for(alive[0], left)
        for process in alive:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        return alive

    def _alive(self) -> list[Process]:
        found = {seen for process in self._noted if (seen := _look_again(process))}
        for pid in all_pids():
            if f"{_MARK}={self._mark}".encode() in environment_of(pid):
                process = _look_at(pid)
                if process is not None:
                    found.add(process)
        return sorted(found)


def _wait_for(process: Process, seconds: float) -> None:
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if _look_again(process):
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(seconds * 1000)
    finally:
        os.close(pidfd)


def _look_at(pid: int) -> Process | None:
    seen = look_at(pid)
    return None if seen is None else Process(pid, seen.started, command_of(pid))


def _look_again(process: Process) -> Process | None:
    """The process as it is now; it may have executed another program."""
    seen = _look_at(process.pid)
    return seen if seen is not None and seen.started == process.started else None
