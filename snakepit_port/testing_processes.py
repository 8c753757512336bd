"""Which processes a test started, and whether they are gone. Without /proc it sees none."""

from __future__ import annotations

import os
import select
import signal
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

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

    def note_children_of(self, pid: int) -> None:
        """Remembers all descendants that a process has now."""
        for child in _children(pid):
            process = _look_at(child)
            if process is not None:
                self._noted.add(process)
                self.note_children_of(child)

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
        for pid in _all_pids():
            if f"{_MARK}={self._mark}".encode() in _read(pid, "environ").split(b"\0"):
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
    """The process with this id; None if it is gone, or dead and only waits for its parent."""
    # proc(5): the command's name is in parentheses and may hold any character.
    stat = _read(pid, "stat").rpartition(b")")[2].split()
    if not stat or stat[0] in (b"Z", b"X"):
        return None
    command = _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    return Process(pid, stat[19].decode(), command)


def _look_again(process: Process) -> Process | None:
    """The process as it is now; it may have executed another program."""
    seen = _look_at(process.pid)
    return seen if seen is not None and seen.started == process.started else None


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        tasks = os.listdir(f"/proc/{pid}/task")
        lists = [_read(pid, f"task/{task}/children").split() for task in tasks]
        return [int(child) for children in lists for child in children]
    return []


def _all_pids() -> Iterator[int]:
    with suppress(FileNotFoundError):
        yield from (int(name) for name in os.listdir("/proc") if name.isdigit())


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""
