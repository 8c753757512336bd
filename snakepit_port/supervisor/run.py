"""What marks a run, and what to remove of one that is dead.

A *run* is one supervisor with all that it started. Its processes carry its id in their environment
(`MARK`), which whatever they start inherits. The id begins with the supervisor's process id and
start time, so everybody can tell whether the run is alive, and no file has to be kept for that,
which somebody could delete: a process that is marked lives with its supervisor, or is a leaving.

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
import shutil
import signal
import stat
import time
from collections.abc import Iterator
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

MARK = "SNAKEPIT_PORT_RUN_ID"

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
        #: The mark, for the environment of every process that is started.
        self.environment = {MARK: self.id}


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


def find_leavings() -> Leavings:
    """Looks at every process that this one may look at, and at every folder of a run."""
    return Leavings(_find_processes(), _find_folders())


def remove(leavings: Leavings) -> None:
    """Kills the processes and removes the folders. Nothing happens to what has gone meanwhile, to a
    process that has got the id of one that has, or where there is no descriptor left."""
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
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


# -- processes -------------------------------------------------------------------------------------


def _look_at_all() -> dict[int, Seen]:
    return {pid: process for pid in all_pids() if (process := look_at(pid))}


def _find_processes() -> list[Leaving]:
    """Marked processes whose supervisor is gone, and all that descends from them; without the
    processes of runs that are alive, and those above the one that asks."""
    seen = _look_at_all()
    runs = {pid: run_id for pid in seen if (run_id := _run_of(pid))}
    supervisors = {run_id: _supervisor(run_id, seen) for run_id in set(runs.values())}
    spared = {pid for pid in supervisors.values() if pid is not None}
    spared |= {pid for pid, run_id in runs.items() if supervisors[run_id] is not None}
    asking = os.getpid()
    while asking in seen:
        spared.add(asking)
        asking = seen[asking].parent
    dead = {pid: run_id for pid, run_id in runs.items() if pid not in spared}
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


def _supervisor(run_id: str, seen: dict[int, Seen]) -> int | None:
    """The process id of the run's supervisor, if it is alive; or if one of its id is, where it did
    not know when it was started."""
    pid, started, _ = run_id.split("-")
    process = seen.get(int(pid))
    alive = process is not None and started in (process.started, _UNKNOWN)
    return int(pid) if alive else None


def _run_of(pid: int) -> str | None:
    """The run that a process is marked with, if process ids and times mean there what they do
    here."""
    for variable in environment_of(pid):
        name, _, value = variable.partition(b"=")
        if name == MARK.encode():
            run_id = value.decode(errors="replace")
            ours = _RUN_ID.fullmatch(run_id) and _namespaces(pid) == _namespaces("self")
            return run_id if ours else None
    return None


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
        with suppress(OSError, ValueError):
            if age <= _HOST_GRACE and _supervisor(folder.name.removeprefix(PREFIX), seen) is None:
                os.close(hold(folder))
                found.append(Waiting(folder, math.ceil(_HOST_GRACE - age)))
    return found


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
            if stat.S_ISDIR(about.st_mode) and os.geteuid() in (0, about.st_uid):
                yield folder, time.time() - about.st_mtime
