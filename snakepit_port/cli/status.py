"""`snakepit-port status`: the runs that are alive on this machine."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from snakepit_port.cli.printing import (
    RED,
    YELLOW,
    paint,
    print_json,
    print_table,
    refuse_unless_processes_show,
)
from snakepit_port.cli.statuses import FAILED, NOTHING_RUNS
from snakepit_port.printable import shown

if TYPE_CHECKING:
    from snakepit_port.supervisor.alive import AliveRun, DeadRun, Host, Pool, Process

ABOUT = "show the runs that are alive on this machine, and their processes"
EXAMPLES = """\
A run is a supervisor with all that it started. Shown are those of this user; to root, everybody's.
They are found by what the system says of their processes, and are not asked: a run that is stuck or
stopped is shown like any other. A pool that has no process at the moment is not seen.

The memory of a supervisor is what it has resident; that of a starter or worker what it has to
itself, of a worker with what it started.

examples:
  snakepit-port status
  snakepit-port status --json        for programs
  watch snakepit-port status

The exit status is 0 if a run is alive, 69 if none is, also where dead ones have left something, 64
for wrong usage, and 1 if that cannot be told here: with --json as {"ok": false, "error":
{"message": ...}} on stdout.
"""

#: States in which a process does nothing, and somebody may wonder why.
_HALTED = ("stopped", "traced", "zombie")


#: Each with its seconds, and the one below it with those of that.
_UNITS = (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints what is found. Returns the exit status."""
    from snakepit_port.supervisor.alive import find_runs

    if refuse_unless_processes_show(args.json):
        return FAILED
    alive, dead = find_runs()
    if args.json:
        runs = [_alive_as_json(found) for found in alive]
        print_json({"runs": runs, "dead_runs": [_dead_as_json(found) for found in dead]})
    else:
        _print(alive, dead)
    return 0 if alive else NOTHING_RUNS


# -- for programs ----------------------------------------------------------------------------------


def _alive_as_json(run: AliveRun) -> dict[str, Any]:
    supervisor = _process_as_json(run.supervisor)
    supervisor["rss_bytes"] = supervisor.pop("memory_bytes")
    return {
        "run_id": run.run_id,
        "supervisor": supervisor,
        "host": run.host and run.host._asdict(),
        "pools": [
            {
                "pool": pool.name,
                "starters": [_process_as_json(process) for process in pool.starters],
                "workers": [_process_as_json(process) for process in pool.workers],
            }
            for pool in run.pools
        ],
    }


def _process_as_json(process: Process) -> dict[str, Any]:
    times = {
        "uptime_seconds": round(process.uptime_seconds, 2),
        "cpu_seconds": round(process.cpu_seconds, 2),
    }
    return {**process._asdict(), **times}


def _dead_as_json(run: DeadRun) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "zombie": run.zombie,
        "processes": [{"pid": left.pid, "command": left.command} for left in run.processes],
        "folders": [str(folder) for folder in run.folders],
    }


# -- for people ------------------------------------------------------------------------------------


def _print(alive: list[AliveRun], dead: list[DeadRun]) -> None:
    if not alive:
        print("no run is alive")
    for number, run in enumerate(alive):
        if number:
            print()
        _print_alive(run)
    for left in dead:
        print()
        _print_dead(left)
    if dead:
        print()
        print("`snakepit-port cleanup` removes what dead runs have left; the next start does, too")


def _print_alive(run: AliveRun) -> None:
    found = run.supervisor
    state = paint(sys.stdout, YELLOW, found.state) if found.state in _HALTED else found.state
    memory, uptime = size(found.memory_bytes), duration(found.uptime_seconds)
    print(f"run {run.run_id}")
    print(f"supervisor {found.pid}: {state}, up {uptime}, {memory} resident; {_host(run.host)}")
    rows = [
        {
            "pool": "?" if pool.name is None else pool.name,
            "process": what,
            "pid": process.pid,
            "state": process.state,
            "uptime": duration(process.uptime_seconds),
            "cpu": f"{process.cpu_seconds:.1f} s",
            "memory": size(process.memory_bytes),
        }
        for pool in run.pools
        for what, process in _of_pool(pool)
    ]
    if rows:
        print_table(rows)
    else:
        print("no pool has a process")


def _of_pool(pool: Pool) -> list[tuple[str, Process]]:
    starters = [("starter", process) for process in pool.starters]
    return starters + [("worker", process) for process in pool.workers]


def _host(host: Host | None) -> str:
    if host is None:
        return "its host is not to be seen from here"
    return f"host {host.pid}" + (f" {shown(host.name)}" if host.name else "")


def _print_dead(run: DeadRun) -> None:
    print(f"{paint(sys.stdout, RED, 'dead run')} {run.run_id}")
    if run.zombie is not None:
        print(f"supervisor {run.zombie}: zombie, its host has not waited for it")
    for process in run.processes:
        print(f"left process {process.pid}: {shown(process.command)}")
    for folder in run.folders:
        print(f"left {folder}")


def duration(seconds: float) -> str:
    """A time in its two largest units."""
    whole = int(seconds)
    for unit, of, less, of_less in _UNITS:
        if whole >= of:
            return f"{whole // of} {unit} {whole % of // of_less} {less}"
    return f"{whole} s"


def size(count: int | None) -> str:
    """A number of bytes in MiB, or that it is not known."""
    return "?" if count is None else f"{count / 2**20:.1f} MiB"
