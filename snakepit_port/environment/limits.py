"""What the machine allows, and what a configuration needs of it."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from snakepit_port.environment.finding import MORE_PROCESSES

#: Descriptors of the supervisor itself: its own, Trio's, and those of each pool's starter.
BASE_DESCRIPTORS = 32
DESCRIPTORS_OF_A_POOL = 4

#: Channel, stdout, stderr and stacks of a worker; and the ends that travel to it while it is
#: started.
DESCRIPTORS_OF_A_WORKER = 8

#: What the supervisor asks a pipe to hold.
PIPE_BYTES = 1024 * 1024

#: Memory that processes can share as files.
SHARED_MEMORY = "/dev/shm"

#: The control groups that this process is in, and where they are to be seen.
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


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
        Limit("processes", _processes(), 1 + pools + workers, MORE_PROCESSES),
    ]


def _processes() -> int | None:
    given = _soft(resource.RLIMIT_NPROC), pids_max()
    return min((limit for limit in given if limit is not None), default=None)


def pids_max() -> int | None:
    """The processes that a control group may have which this one is in, such as a container; None
    where that is not limited, or not to be seen."""
    found = []
    with suppress(OSError, ValueError):
        for line in _OWN_GROUPS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            _, controllers, name = line.split(":", 2)
            if "pids" in controllers.split(","):
                top = _GROUPS / "pids"
            elif not controllers:  # version 2, which has all in one
                top = _GROUPS
            else:
                continue
            # In a container the name may be that of outside, which is not there; the top is.
            group = PurePosixPath(name)
            for folder in (group, *group.parents):
                with suppress(OSError, ValueError):
                    found.append(int(Path(f"{top}{folder}/pids.max").read_text(encoding="ascii")))
    return min(found, default=None)


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
    """Bytes free in shared memory; None where there is no such place."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def may_write_shared_memory() -> bool:
    return os.access(SHARED_MEMORY, os.W_OK | os.X_OK)
