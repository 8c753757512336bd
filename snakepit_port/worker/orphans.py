"""What a worker leaves to its starter when it goes, and how that is told from what is to stay.

A worker's process id stands in its environment (`MARK`), and so in that of whatever it starts: in
sessions of its own, with or without executing a program. Those whose own parent has gone are the
starter's children (`linux.adopt_orphans`). They live as long as the worker whose mark they carry;
one that was given another environment lives as long as the starter.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Container

from snakepit_port.worker import linux

MARK = "SNAKEPIT_PORT_WORKER_PID"

#: What a starter has in its environment, so that there is room for the marks of those it forks.
NOBODY = {MARK: "0" * 10}


def mark(pid: int) -> dict[str, str]:
    """The mark of a worker, as long as the one of nobody."""
    return {MARK: f"{pid:010}"}


def mark_this_process() -> None:
    """For a worker that was forked, which has the starter's mark so far."""
    (value,) = mark(os.getpid()).values()
    linux.overwrite_variable(MARK, value)
    os.environ[MARK] = value


class Orphans:
    """The children of this process, a starter, which are not its workers."""

    def __init__(self) -> None:
        self._held: set[int] = set()

    def end(self, workers: Container[int]) -> None:
        """Kill those whose worker is not among those that live. It costs little where there are
        none; for when a child has ended, as that may have left others."""
        children = linux.children()
        self._held.intersection_update(children)
        for pid in children:
            if pid in workers:
                continue
            environment = linux.environment_of(pid)
            if environment is None:
                # It says once it has stopped, which is when its program is there.
                if pid not in self._held:
                    self._held.add(pid)
                    linux.send_signal(pid, signal.SIGSTOP)
                continue
            worker = _worker_in(environment)
            if worker is not None and worker not in workers:
                linux.send_signal(pid, signal.SIGKILL)
            elif pid in self._held:
                linux.send_signal(pid, signal.SIGCONT)
            self._held.discard(pid)


def _worker_in(environment: list[bytes]) -> int | None:
    """The worker that an environment has the mark of."""
    for variable in environment:
        name, _, value = variable.partition(b"=")
        if name == MARK.encode():
            # Others may write anything: `mark` makes ten digits.
            return int(value) or None if len(value) == 10 and value.isdigit() else None
    return None
