"""`snakepit-port cleanup`: what runs that are dead have left."""

from __future__ import annotations

import argparse

from snakepit_port.cli.printing import print_json, refuse_unless_processes_show
from snakepit_port.cli.statuses import FAILED
from snakepit_port.printable import shown

ABOUT = "remove processes and files that dead runs have left"
EXAMPLES = """\
A run is a supervisor with all that it started. What outlives it, because the whole run was killed
at once, is removed when the next one starts; this does it now. Runs that are alive are not touched.
A folder of a dead run in which something changed in the last minute is left alone, and told: a host
may still read results there.

examples:
  snakepit-port cleanup --dry-run    what would be removed
  snakepit-port cleanup
  snakepit-port cleanup --json       what was removed, for programs

The exit status is 0, 64 for wrong usage, and 1 if what is left cannot be told here: with --json as
{"ok": false, "error": {"message": ...}} on stdout.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("--dry-run", action="store_true", help="only say what there is")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Removes what there is and prints it. Returns the exit status."""
    from snakepit_port.supervisor.run import find_leavings, find_waiting, remove

    if refuse_unless_processes_show(args.json):
        return FAILED
    leavings = find_leavings()
    stay = [] if args.dry_run else [str(folder) for folder in remove(leavings)]
    processes = [
        {"pid": process.pid, "run_id": process.run_id, "command": process.command}
        for process in leavings.processes
    ]
    folders = [path for folder in leavings.folders if (path := str(folder)) not in stay]
    waiting = find_waiting()
    if args.json:
        left_alone = [{"folder": str(left.folder), "seconds": left.seconds} for left in waiting]
        found = {"processes": processes, "folders": folders, "left_alone": left_alone, "stay": stay}
        print_json({"dry_run": args.dry_run, **found})
        return 0
    kill, delete = ("would kill", "would remove") if args.dry_run else ("killed", "removed")
    for process in leavings.processes:
        print(f"{kill} {process.pid} of run {process.run_id}: {shown(process.command)}")
    for folder in folders:
        print(f"{delete} {folder}")
    for folder in stay:
        print(f"could not remove {folder}: it is held, or has more in it than a run's files")
    for left in waiting:
        print(
            f"left alone {left.folder}: a host may still read results there; a cleanup or a start"
            f" in {left.seconds} s removes it"
        )
    if not processes and not folders and not waiting and not stay:
        print("dead runs have left nothing")
    return 0
