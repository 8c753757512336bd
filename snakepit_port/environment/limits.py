"""What the machine allows, and what a configuration needs of it."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path

#: Descriptors of the supervisor itself: its own, Trio's, and those of each pool's starter.
BASE_DESCRIPTORS = 32
DESCRIPTORS_OF_A_POOL = 4

#: Channel, stdout, stderr and stacks of a worker; and the ends that travel to it while it is
#: started.
DESCRIPTORS_OF_A_WORKER = 8

#: What the supervisor asks a pipe to hold.
PIPE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limit:
    """``has`` is None where there is no limit, or none is known."""

    name: str
    has: int | None
    needs: int
    hint: str

    @property
    def suffices(self) -> bool:
        return self.has is None or self.has >= self.needs


def limits(pools: int, workers: int) -> list[Limit]:
    """The limits of this process, and what a supervisor of so many pools and workers needs."""
    return [
        Limit(
            "file descriptors",
            _soft(resource.RLIMIT_NOFILE),
            BASE_DESCRIPTORS + DESCRIPTORS_OF_A_POOL * pools + DESCRIPTORS_OF_A_WORKER * workers,
            "raise `ulimit -n`",
        ),
        # Of the whole user, so that others of the user's processes count too.
        Limit("processes", _soft(resource.RLIMIT_NPROC), 1 + pools + workers, "raise `ulimit -u`"),
    ]


def _soft(which: int) -> int | None:
    soft, _hard = resource.getrlimit(which)
    return None if soft == resource.RLIM_INFINITY else soft


def pipe_bytes() -> int | None:
    """What an unprivileged pipe may hold; None where the system does not say (only Linux does)."""
    try:
        return int(Path("/proc/sys/fs/pipe-max-size").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def shared_memory_bytes() -> int | None:
    """Bytes free in memory that processes can share as files; None where there is no such place."""
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
