"""What marks a run, and what to remove of one that is dead.

A *run* is one supervisor with all that it started. Its processes carry its id in their environment
(`MARK`), which whatever they start inherits. The id begins with the supervisor's process id and
start time, so everybody can tell whether the run is alive, and no file has to be kept for that,
which somebody could delete: a process that is marked lives with its supervisor, or is a leaving.
Beside it stands the name of the pool, for those who look from outside (`alive.py`).

The run's folder in shared memory has the id in its name, and the supervisor holds it locked
(flock), also for those who see the folder and not the process. It is removed in the end by the
supervisor or its host, by the starters if the supervisor was killed, and if they were too, by a run
that starts later.
"""

from __future__ import annotations

import fcntl
import math
import os
import re
import secrets
import signal
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from snakepit_port.processes import (
    Seen,
    all_pids,
    command_of,
    environment_of,
    look_at,
    shows_own_processes,
)
from snakepit_port.worker.orphans import MARK as WORKER_MARK
from snakepit_port.worker.orphans import NOBODY

MARK = "SNAKEPIT_PORT_RUN_ID"

#: The name of the pool that a process belongs to, in UTF-8.
POOL_MARK = "SNAKEPIT_PORT_POOL"

#: Where Linux keeps files in memory, and what the names of runs' folders there begin with.
MEMORY = "/dev/shm"
PREFIX = "snakepit-port-"

#: A run's id, as this program makes it. Anybody can put anything into an environment.
_RUN_ID = re.compile(r"[1-9][0-9]{0,6}-[0-9]{1,20}-[0-9a-f]{6}")

#: In an id, in place of the start time: no process of a user's starts with the system.
_UNKNOWN = "0"

#: Seconds without a change in it after which a folder that nobody holds is a leaving: a supervisor
#: that ends leaves results to its host, which reads them and removes the folder.
_HOST_GRACE = 60.0


class Run:
    """The run of this process."""

    def __init__(self) -> None:
        pid = os.getpid()
        # A /proc of other processes, or none, says nothing of this one.
        seen = look_at(pid) if shows_own_processes() else None
        self.id = f"{pid}-{seen.started if seen else _UNKNOWN}-{secrets.token_hex(3)}"

    def marks(self, pool: str) -> dict[str, str]:
        """For the environment of the process that starts a pool's workers."""
        # In bytes that are the same whatever the locale, which may not have all its characters.
        return {MARK: self.id, POOL_MARK: os.fsdecode(pool.encode()), **NOBODY}


class Marks(NamedTuple):
    """What the environment of a process says of it."""

    run_id: str
    #: None where that is not said.
    pool: str | None
    #: The process id of the worker that it is, or was started by, as `worker/orphans.py` has it.
    worker: str | None


class Look(NamedTuple):
    """All processes that may be looked at, as they were at one time, and which are whose."""

    seen: dict[int, Seen]
    marks: dict[int, Marks]
    #: The supervisor of each run that there is a sign of; None where that is dead.
    supervisors: dict[str, int | None]


class Leaving(NamedTuple):
    """A process of a run that is dead."""

    pid: int
    started: str
    run_id: str
    command: str


class Leavings(NamedTuple):
    """What dead runs of this user (for root, of everybody) have left."""

    processes: list[Leaving]
    folders: list[Path]


class Waiting(NamedTuple):
    """A folder of a run that is dead, which becomes a leaving if nothing changes for `seconds`."""

    folder: Path
    seconds: int


def find_leavings(look: Look | None = None) -> Leavings:
    """Looks at every process that this one may look at, unless somebody just has, and at every
    folder of a run."""
    return Leavings(_find_processes(look or look_around()), _find_folders())


def remove(leavings: Leavings) -> list[Path]:
    """Kills the processes and removes the folders; returns those that are there all the same.
    Nothing happens to what has gone meanwhile, to a process that has got the id of one that has, or
    where there is no descriptor left."""
    for process in leavings.processes:
        with suppress(OSError):
            pidfd = os.pidfd_open(process.pid)
            try:
                seen = look_at(process.pid)
                if seen is not None and seen.started == process.started:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)
    for folder in leavings.folders:
        with suppress(OSError):
            lock = hold(folder)
            try:
                _remove(folder, lock)
            finally:
                os.close(lock)
    return [folder for folder in leavings.folders if os.path.lexists(folder)]


def _remove(folder: Path, fd: int) -> None:
    """Remove a folder and its files; a run's has no others in it. By its descriptor: whoever owns
    it could put a link in its place meanwhile."""
    for name in os.listdir(fd):
        with suppress(OSError):
            os.unlink(name, dir_fd=fd)
    os.rmdir(folder)


# -- processes -------------------------------------------------------------------------------------


def _look_at_all() -> dict[int, Seen]:
    return {pid: process for pid in all_pids() if (process := look_at(pid))}


def look_around() -> Look:
    """Looks at every process that this one may look at."""
    # A run that has no process yet, or none at the moment, is known by its folder. The folders
    # first: whoever has made one of them is seen then.
    run_ids = {run_of(folder) for folder, _ in _own_folders()}
    seen = _look_at_all()
    marks = {pid: found for pid in seen if (found := _marks_of(pid))}
    run_ids |= {found.run_id for found in marks.values()}
    return Look(seen, marks, {run_id: _supervisor(run_id, seen) for run_id in run_ids})


def _find_processes(look: Look) -> list[Leaving]:
    """Marked processes whose supervisor is gone, and all that descends from them; without the
    processes of runs that are alive, and those above the one that asks."""
    seen, marks, supervisors = look
    spared = {pid for pid in supervisors.values() if pid is not None}
    spared |= {pid for pid, found in marks.items() if supervisors[found.run_id] is not None}
    asking = os.getpid()
    while asking in seen:
        spared.add(asking)
        asking = seen[asking].parent
    dead = {pid: found.run_id for pid, found in marks.items() if pid not in spared}
    children: dict[int, list[int]] = {}
    for pid, process in seen.items():
        children.setdefault(process.parent, []).append(pid)
    found = list(dead)
    for pid in found:
        for child in children.get(pid, ()):
            if child not in dead and child not in spared:
                dead[child] = dead[pid]
                found.append(child)
    return [Leaving(pid, seen[pid].started, dead[pid], command_of(pid)) for pid in found]


def supervisor_of(run_id: str) -> tuple[int, str]:
    """The process id of a run's supervisor, and when it was started, as far as it knew that."""
    pid, started, _ = run_id.split("-")
    return int(pid), started


def _supervisor(run_id: str, seen: dict[int, Seen]) -> int | None:
    """The process id of the run's supervisor, if it is alive; or if one of its id is, where it did
    not know when it was started."""
    pid, started = supervisor_of(run_id)
    process = seen.get(pid)
    alive = process is not None and started in (process.started, _UNKNOWN)
    return pid if alive else None


def marks_in(environment: Iterable[bytes]) -> Marks | None:
    """What the variables of a process, each as NAME=VALUE, say of it; None if it is of no run."""
    values: dict[str, str] = {}
    for variable in environment:
        name, _, value = variable.decode(errors="replace").partition("=")
        if name in (MARK, POOL_MARK, WORKER_MARK):
            values.setdefault(name, value)
    run_id = values.get(MARK, "")
    if not _RUN_ID.fullmatch(run_id):
        return None
    return Marks(run_id, values.get(POOL_MARK), values.get(WORKER_MARK))


def _marks_of(pid: int) -> Marks | None:
    """The marks of a process, if process ids and times mean there what they do here."""
    marks = marks_in(environment_of(pid))
    return marks if marks and _namespaces(pid) == _namespaces("self") else None


def _namespaces(pid: int | str) -> list[str]:
    found = []
    for kind in ("pid", "time"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/ns/{kind}"))
    return found


# -- folders ---------------------------------------------------------------------------------------


def hold(folder: str | Path) -> int:
    """Lock a folder until the descriptor that is returned is closed, or this process ends.

    Raises `OSError` if it is locked already, or is not there.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd


def find_waiting() -> list[Waiting]:
    """Folders of dead runs that are no leavings yet. That a supervisor is dead proves nothing: its
    host may be there, and read results."""
    found = []
    # The folders first: whoever has made one of them is seen then. A run that begins needs its own
    # free for itself.
    folders = list(_own_folders())
    seen = _look_at_all()
    for folder, age in folders:
        with suppress(OSError):
            if age <= _HOST_GRACE and _supervisor(run_of(folder), seen) is None:
                os.close(hold(folder))
                found.append(Waiting(folder, math.ceil(_HOST_GRACE - age)))
    return found


def run_of(folder: Path) -> str:
    """The run that a folder is of, going by its name; empty if it is of none."""
    run_id = folder.name.removeprefix(PREFIX)
    return run_id if _RUN_ID.fullmatch(run_id) else ""


def _find_folders() -> list[Path]:
    """Folders of this user's runs (for root, of everybody's) that nobody holds or reads."""
    found = []
    for folder, age in _own_folders():
        with suppress(OSError):
            if age > _HOST_GRACE:
                os.close(hold(folder))
                found.append(folder)
    return found


def _own_folders() -> Iterator[tuple[Path, float]]:
    """Folders of runs, of everybody's for root, and the seconds since something changed in them."""
    for folder in sorted(Path(MEMORY).glob(f"{PREFIX}*-*-*")):
        with suppress(OSError):
            about = folder.lstat()
            is_own = os.geteuid() in (0, about.st_uid)
            if is_own and stat.S_ISDIR(about.st_mode) and run_of(folder):
                yield folder, time.time() - about.st_mtime
