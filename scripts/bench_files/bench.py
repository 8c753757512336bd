"""Measures, and shows, keeps and compares figures. `scripts/bench --help` says how to use it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from figures import GROUPS
from picture import draw
from report import summary, table

import snakepit_port

HERE = Path(__file__).resolve().parent
HISTORY = HERE / "history"
EBIN = HERE.parents[1] / "elixir_bridge/_build/dev/lib/snakepit_port/ebin"

REPETITIONS, QUICK_REPETITIONS = 15, 3
SCALE, QUICK_SCALE = 1.0, 0.2


class BenchError(Exception):
    """It cannot go on; the text says why."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", add_help=False)
    parser.add_argument("groups", nargs="*", metavar="GROUP")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repetitions", type=int)
    parser.add_argument("--scale", type=float)
    parser.add_argument("--json")
    parser.add_argument("--compare", nargs="?", const="")
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    for group in options.groups:
        if group not in GROUPS:
            parser.error(f"there is no group {group!r}; there are {', '.join(GROUPS)}")
    if options.repetitions is None:
        options.repetitions = QUICK_REPETITIONS if options.quick else REPETITIONS
    if options.scale is None:
        options.scale = QUICK_SCALE if options.quick else SCALE
    if options.repetitions < 1 or options.scale <= 0:
        parser.error("--repetitions and --scale are above zero")
    return options


def main() -> int:
    options = arguments()
    before = None if options.compare is None else read(options.compare)
    if options.json not in (None, "-"):
        # Rather now than when all is measured.
        try:
            Path(options.json).touch()
        except OSError as exc:
            raise BenchError(f"{options.json} cannot be written: {exc.strerror}") from None
    with tempfile.TemporaryDirectory(prefix="snakepit-bench-") as folder:
        relay = compile_relay(Path(folder))
        series: dict[str, list[float]] = {}
        for group in GROUPS:
            if not options.groups or group in options.groups:
                measure(group, series, Path(folder), relay, options)
    result = summary(series, options.repetitions, options.scale)
    print(table(result, before), file=sys.stderr if options.json == "-" else sys.stdout)
    if options.json is not None:
        text = json.dumps({**result, "series": series}, indent=1) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
        else:
            Path(options.json).write_text(text, encoding="utf-8")
    if options.save:
        keep(result)
    missed = [figure for figure in result["figures"].values() if not figure["met"]]
    return 1 if options.check and missed else 0


def read(name: str) -> dict[str, Any]:
    """The figures to compare with."""
    path = Path(name) if name else last_release()
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise BenchError(f"{path} cannot be compared with: {exc}") from None
    return found


def last_release() -> Path:
    releases = sorted(
        HISTORY.glob("*.json"), key=lambda path: [int(part) for part in path.stem.split(".")]
    )
    if not releases:
        raise BenchError(f"{HISTORY} is empty: give a file to --compare, or --save one first")
    return releases[-1]


def keep(result: dict[str, Any]) -> None:
    """The figures, as those of this version, and their picture."""
    HISTORY.mkdir(exist_ok=True)
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    (HISTORY / f"{snakepit_port.__version__}.json").write_text(text, encoding="utf-8")
    (HERE / "figures.svg").write_text(draw(result), encoding="utf-8")


def compile_relay(folder: Path) -> str:
    """The relay's program; "" where there is no compiler, and then no figure against it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        tell("no C compiler: nothing is measured against the relay")
        return ""
    program = folder / "relay"
    subprocess.run([compiler, "-O2", "-o", program, HERE / "relay.c"], check=True)
    return str(program)


def environment(folder: Path) -> dict[str, str]:
    """What is measured runs in this: a worker finds its adapter compiled, as it does elsewhere."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "TMPDIR": str(folder)}


def measure(
    group: str,
    series: dict[str, list[float]],
    folder: Path,
    relay: str,
    options: argparse.Namespace,
) -> None:
    """Runs one group, and adds what it measures to `series`."""
    command = ["elixir", "-pa", EBIN, HERE / "measure.exs", HERE, relay]
    command += [str(options.repetitions), str(float(options.scale)), group]
    cpus = os.sched_getaffinity(0)
    if group == "one_core":
        # What it starts is pinned along with it.
        os.sched_setaffinity(0, {min(cpus)})
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(folder),
        )
    finally:
        os.sched_setaffinity(0, cpus)
    count = 0
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            name, number = line.split()
            series.setdefault(name, []).append(float(number))
            count += 1
            if sys.stderr.isatty():
                sys.stderr.write(f"\rbench: {group}: {count} measurements ")
    if process.returncode != 0:
        raise BenchError(f"group {group} failed (status {process.returncode})")
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    else:
        tell(f"{group}: {count} measurements")


def tell(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"bench: {error}")
