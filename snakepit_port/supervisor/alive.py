"""Which runs are alive, and what they are like, told from outside.

A supervisor has no door but its host. What it starts carries marks, and the folder in shared memory
has the run's id in its name (`run.py`); the rest is what the system says of processes. So a pool
without a process is not seen, and neither is a run that has neither a process nor a folder.

Whoever goes away while this looks at it is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from snakepit_port.processes import (
    Seen,
    children_of,
    look_at,
    look_at_dead,
    name_of,
    private_bytes,
    private_bytes_of_all,
)
from snakepit_port.supervisor.run import (
    Leaving,
    Leavings,
    Look,
    Waiting,
    find_leavings,
    find_waiting,
    look_around,
    run_of,
    supervisor_of,
)
from snakepit_port.worker.orphans import MARK as WORKER_MARK
from snakepit_port.worker.orphans import NOBODY, mark

#: What proc(5) has letters for.
_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting for a device",
    "T": "stopped",
    "t": "traced",
    "Z": "zombie",
}

#: The process through which a BEAM starts its ports; it is a child of the BEAM.
_STARTS_PORTS = "erl_child_setup"


class Process(NamedTuple):
    """A process of a run."""

    pid: int
    state: str
    uptime_seconds: float
    cpu_seconds: float
    #: Of a supervisor what it has in memory; of a starter what it has there to itself; of a worker
    #: the same, its children's included, as recycling counts it. None where that may not be seen.
    memory_bytes: int | None


class Host(NamedTuple):
    """Who started a supervisor: a BEAM, say. The name is None where it may not be seen."""

    pid: int
    name: str | None


class Pool(NamedTuple):
    """The processes of a pool, the oldest first. There are several starters while workers of before
    a reload serve on. The name is None where the processes do not say it."""

    name: str | None
    starters: list[Process]
    workers: list[Process]


class AliveRun(NamedTuple):
    """A run whose supervisor lives. The host is None if it is in no namespace of this process."""

    run_id: str
    supervisor: Process
    host: Host | None
    pools: list[Pool]


class DeadRun(NamedTuple):
    """What a run whose supervisor is dead has left. `zombie` is the supervisor's process id, if
    nobody has waited for it."""

    run_id: str
    zombie: int | None
    processes: list[Leaving]
    folders: list[Path]


class Part(NamedTuple):
    """A process that does a run's work, and for which pool."""

    pid: int
    pool: str | None
    is_starter: bool


def find_runs() -> tuple[list[AliveRun], list[DeadRun]]:
    """Every run of this user, or for root of everybody, the oldest first."""
    look = look_around()
    parts = parts_of(look)
    supervisors = [(pid, run_id) for run_id, pid in look.supervisors.items() if pid is not None]
    supervisors.sort(key=lambda found: (int(look.seen[found[0]].started), found))
    runs = (_alive(run_id, pid, look, parts[run_id]) for pid, run_id in supervisors)
    alive = [run for run in runs if run is not None]
    # Last, so that of what is ending now as little as possible is taken for left.
    dead = _dead(find_leavings(look), find_waiting())
    return alive, dead


def parts_of(look: Look) -> dict[str, list[Part]]:
    """The starters and workers of each run that is alive, the oldest first; without what workers
    have started, which has their marks."""
    parts: dict[str, list[Part]] = {
        run_id: [] for run_id, supervisor in look.supervisors.items() if supervisor is not None
    }
    for pid in sorted(look.marks, key=lambda pid: (int(look.seen[pid].started), pid)):
        marks = look.marks[pid]
        if marks.run_id not in parts:
            continue
        supervisor = look.supervisors[marks.run_id]
        is_starter = marks.worker == NOBODY[WORKER_MARK] and look.seen[pid].parent == supervisor
        if is_starter or marks.worker == mark(pid)[WORKER_MARK]:
            parts[marks.run_id].append(Part(pid, marks.pool, is_starter))
    return parts


def _alive(run_id: str, pid: int, look: Look, parts: Iterable[Part]) -> AliveRun | None:
    pools: dict[str | None, Pool] = {}
    for part in parts:
        measure = private_bytes if part.is_starter else private_bytes_of_all
        process = _process(part.pid, look.seen[part.pid], measure)
        if process is not None:
            pool = pools.setdefault(part.pool, Pool(part.pool, [], []))
            (pool.starters if part.is_starter else pool.workers).append(process)
        if part.is_starter and part.pool in pools:
            pools[part.pool].workers.extend(_zombies(part.pid))
    supervisor = _process(pid, look.seen[pid], _resident_bytes)
    if supervisor is None:
        return None
    by_name = sorted(pools.values(), key=lambda pool: pool.name or "")
    return AliveRun(run_id, supervisor, _host_of(pid), by_name)


def _process(pid: int, seen: Seen, measure: Callable[[int], int | None]) -> Process | None:
    """A process as it is now; None if it has gone since it was seen."""
    memory = measure(pid)
    now = look_at_dead(pid)
    if now is None or now.started != seen.started:
        return None
    state = _STATES.get(now.state, now.state)
    return Process(pid, state, now.uptime_seconds, now.cpu_seconds, memory)


def _resident_bytes(pid: int) -> int | None:
    seen = look_at(pid)
    return None if seen is None else seen.resident_bytes


def _zombies(starter: int) -> list[Process]:
    """Its dead children, for which it has not waited: it is stopped, say. They have no marks any
    more. Some may be what workers left; most are workers."""
    found = []
    for pid in children_of(starter):
        seen = look_at_dead(pid)
        if seen is not None and seen.state == "Z":
            found.append(Process(pid, _STATES["Z"], seen.uptime_seconds, seen.cpu_seconds, None))
    return found


def _host_of(supervisor: int) -> Host | None:
    seen = look_at_dead(supervisor)
    host = seen.parent if seen else 0
    if name_of(host) == _STARTS_PORTS and (parent := look_at(host)):
        host = parent.parent
    # proc(5): 0 is one that this process's namespace does not have.
    return Host(host, name_of(host) or None) if host else None


def _dead(leavings: Leavings, waiting: Iterable[Waiting]) -> list[DeadRun]:
    runs: dict[str, DeadRun] = {}

    def of(run_id: str) -> DeadRun:
        return runs.setdefault(run_id, DeadRun(run_id, _zombie(run_id), [], []))

    for process in leavings.processes:
        now = look_at(process.pid)
        if now is not None and now.started == process.started:
            of(process.run_id).processes.append(process)
    for folder in (*leavings.folders, *(left.folder for left in waiting)):
        if run_id := run_of(folder):
            of(run_id).folders.append(folder)
    return list(runs.values())


def _zombie(run_id: str) -> int | None:
    pid, started = supervisor_of(run_id)
    seen = look_at_dead(pid)
    return pid if seen is not None and (seen.state, seen.started) == ("Z", started) else None
