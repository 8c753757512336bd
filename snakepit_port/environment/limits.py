"""What the machine allows, and what a configuration needs of it."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from snakepit_port.environment.finding import MORE_PROCESSES

#: Descriptors of the supervisor itself: 16 of its own and Trio's, 2 to measure memory with, and
#: what a starter takes for a moment.
BASE_DESCRIPTORS = 24

#: Link and output of a starter; and a pool's ledger, which is a file and a map.
DESCRIPTORS_OF_A_STARTER = 2
DESCRIPTORS_OF_A_POOL = DESCRIPTORS_OF_A_STARTER + 2

#: Channel, stdout, stderr and stacks of a worker. As many ends travel to it while it is started.
DESCRIPTORS_OF_A_WORKER = 4

#: What the supervisor asks a pipe to hold: so a large frame takes fewer wake-ups on both sides.
#: Linux lets anybody have that.
PIPE_BYTES = 1024 * 1024

#: Memory that processes can share as files.
SHARED_MEMORY = "/dev/shm"

#: The control groups that this process is in, and where they are to be seen.
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


class PoolSize(NamedTuple):
    """Of the workers of a pool, so many start at once; ``surge`` is by how many they may be more
    while they are replaced, ``threads`` how many each starts beside its first."""

    workers: int
    batch: int
    surge: int
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """``has`` is None where there is no limit, or none is known. ``needs`` is what pools run with,
    and ``at_most`` what is needed for a while where they all start, or have their workers replaced.
    With less, what could not be started is tried again."""

    name: str
    has: int | None
    needs: int
    at_most: int
    hint: str

    @property
    def suffices(self) -> bool:
        return self.has is None or self.has >= self.needs

    @property
    def always_suffices(self) -> bool:
        return self.has is None or self.has >= self.at_most


def limits(pools: Sequence[PoolSize]) -> list[Limit]:
    """The limits of this process, and what a supervisor of such pools needs."""
    workers = sum(pool.workers for pool in pools)
    descriptors = (
        BASE_DESCRIPTORS + DESCRIPTORS_OF_A_POOL * len(pools) + DESCRIPTORS_OF_A_WORKER * workers
    )
    # To the kernel each thread is one more.
    processes = 1 + len(pools) + sum(pool.workers * (1 + pool.threads) for pool in pools)
    surge = sum(min(pool.surge, pool.workers) * (1 + pool.threads) for pool in pools)
    return [
        Limit(
            "file descriptors",
            _soft(resource.RLIMIT_NOFILE),
            descriptors,
            descriptors + max(_while_started(pools), _while_replaced(pools)),
            "raise `ulimit -n`",
        ),
        # Of the whole user, so that others of the user's processes count too. What replaces workers
        # has a starter of its own.
        Limit("processes", _processes(), processes, processes + len(pools) + surge, MORE_PROCESSES),
    ]


def _while_started(pools: Sequence[PoolSize]) -> int:
    """Descriptors that travel to workers: pools are started one after the other."""
    batches = (min(pool.batch, pool.workers) for pool in pools)
    return DESCRIPTORS_OF_A_WORKER * max(batches, default=0)


def _while_replaced(pools: Sequence[PoolSize]) -> int:
    """Descriptors of successors, and those that travel to them: a reload has all pools begin at
    once, each with another starter."""
    successors = [min(pool.surge, pool.workers) for pool in pools]
    travelling = [min(more, pool.batch) for more, pool in zip(successors, pools, strict=True)]
    return DESCRIPTORS_OF_A_STARTER * len(pools) + DESCRIPTORS_OF_A_WORKER * (
        sum(successors) + sum(travelling)
    )


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


def file_bytes() -> int | None:
    """What a file that this process writes may hold; None where that is not limited."""
    return _soft(resource.RLIMIT_FSIZE)


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
