"""`snakepit-port doctor`: whether the pools of a configuration would start here, and what could
go better."""

from __future__ import annotations

import argparse
import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from snakepit_port import __version__
from snakepit_port.cli.printing import DIM, GREEN, RED, YELLOW, paint, print_json
from snakepit_port.cli.statuses import BAD_CONFIG, FAILED
from snakepit_port.printable import shown

if TYPE_CHECKING:
    from snakepit_port.config import Config, PoolSettings
    from snakepit_port.environment import Interpreter

ABOUT = "say whether the pools of a configuration would start here, and why not"
EXAMPLES = """\
examples:
  snakepit-port doctor pools.toml
  snakepit-port doctor --no-start pools.toml      without starting a worker of each pool
  snakepit-port doctor --json pools.toml          for programs; "problems" are those of `check`

The exit status is 0 if every pool would start, 1 if not, 78 if the configuration is wrong, 64 for
wrong usage.
"""

_COLOURS = {"ok": GREEN, "note": DIM, "warning": YELLOW, "failure": RED}

#: Seconds for `elixir --version`, which starts a BEAM.
_ELIXIR_SECONDS = 20.0


#: What to do about an interpreter that runs no worker.
_NAME_ANOTHER = (
    "Have the pool's `python`, or `$SNAKEPIT_PYTHON` where it has none, name a Python 3.9 or newer."
    " `scripts/setup_python FILE` of a checkout makes the environments that a configuration names."
)

#: What a worker says of itself that somebody should know.
_WORKER_WARNINGS = ("worker.gil_enabled", "worker.thread_safety")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``pool`` is empty for what concerns all; ``level`` is "ok",
    "note", "warning" (a pool would start), or "failure" (one would not). ``traceback`` is empty
    where Python raised nothing. One that is not ``for_people`` says them nothing they can use here;
    programs get it. ``problem`` is a mistake in the configuration as `check --json` has it."""

    pool: str
    subject: str
    level: str
    message: str
    traceback: str = ""
    for_people: bool = True
    problem: Mapping[str, Any] | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("file", metavar="FILE", help="TOML file")
    parser.add_argument("--no-start", action="store_true", help="start no worker")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints what was found, as it is found. Returns the exit status."""
    findings = []
    status = 0
    for finding in examine(args.file, start=not args.no_start):
        findings.append(finding)
        if not args.json and finding.for_people:
            _print(finding)
        if finding.level == "failure":
            status = BAD_CONFIG if finding.subject == "configuration" else FAILED
    problems = [finding.problem for finding in findings if finding.problem]
    if args.json:
        wrong = {"problems": problems} if problems else {}
        print_json({"ok": status == 0, "findings": [_row(found) for found in findings], **wrong})
    else:
        verdict = shown(_verdict(findings, not args.no_start))
        print(paint(sys.stdout, RED if status else GREEN, verdict))
    return status


def _verdict(findings: list[Finding], tried: bool) -> str:
    """Which pools would start, in a line. Without *tried* no adapter was loaded."""
    failed = {finding.pool for finding in findings if finding.level == "failure"}
    # In the order of the configuration, which has one interpreter for each.
    pools = [finding.pool for finding in findings if finding.subject == "interpreter"]
    if not pools:
        return "the configuration is wrong, see above" if failed else "there is no pool to start"
    good = [] if "" in failed else [pool for pool in pools if pool not in failed]
    bad = [pool for pool in pools if pool not in good]
    parts = []
    if good:
        parts.append(f"{_names(good)} {'would' if tried else 'may'} start")
        if not tried:
            parts[-1] += " (no worker was started)"
    if bad:
        parts.append(f"{_names(bad)} would not{'' if good else ' start'}, see above")
    count = sum(finding.level == "warning" and finding.for_people for finding in findings)
    if count:
        parts.append(f"{count} warning{'s' * (count != 1)}")
    return f"{len(pools)} pool{'s' * (len(pools) != 1)}: {'; '.join(parts)}"


def _names(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _row(finding: Finding) -> dict[str, str]:
    row = asdict(finding)
    del row["for_people"], row["problem"]
    if not finding.traceback:
        del row["traceback"]
    return row


def _print(finding: Finding) -> None:
    level = paint(sys.stdout, _COLOURS[finding.level], f"{finding.level:8}")
    where = f"pool {shown(finding.pool)}: " if finding.pool else ""
    lines = (*finding.message.splitlines(), *finding.traceback.splitlines())
    first, *more = [shown(line, keep="\t") for line in lines] or [""]
    print(level, f"{where}{finding.subject}: {first}", flush=True)
    for line in more:
        print(f"         {line}")


def examine(file: str, *, start: bool) -> Iterator[Finding]:
    """Everything that is looked at, in turn. With *start*, a worker of each pool is started."""
    from snakepit_port.config import ConfigError, load_toml

    yield from _versions()
    try:
        config = load_toml(file)
    except ConfigError as exc:
        for problem in exc.problems:
            message, term = f"{file}: {problem}", problem.as_term()
            yield Finding("", "configuration", "failure", message, problem=term)
        return
    count = len(config.pools)
    yield Finding("", "configuration", "ok", f"{count} pool{'s' * (count != 1)}")
    for warning in config.warnings:
        yield Finding("", "configuration", "warning", f"{file}: {warning}")
    yield from _limits(config)
    yield from _seen_processes(config)
    for pool in config.pools:
        runs = True
        for finding in _interpreter(config, pool):
            runs = runs and finding.level != "failure"
            yield finding
        if runs and start:
            yield from _start(config, pool)


def _versions() -> Iterator[Finding]:
    from snakepit_port.environment.asking import ask, last_words

    parts = [f"snakepit_port {__version__}", f"Python {platform.python_version()}"]
    parts += [f"{name} {metadata.version(name)}" for name in ("trio", "tomlkit", "erlpack")]
    yield Finding("", "supervisor", "ok", ", ".join(parts))
    elixir = shutil.which("elixir")
    if elixir is None:
        yield Finding("", "host", "note", "there is no Elixir on PATH; the host may be elsewhere")
        return
    try:
        # Where a BEAM does not start, it would leave a file of megabytes here.
        env = {**os.environ, "ERL_CRASH_DUMP_SECONDS": "0"}
        ran = ask([elixir, "--version"], env, _ELIXIR_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as exc:
        yield Finding("", "host", "warning", f"{elixir} --version: {exc}")
        return
    if ran.returncode != 0:
        said = last_words(ran)
        message = f"{elixir} --version ended with status {ran.returncode}"
        yield Finding("", "host", "warning", f"{message}\n{said}" if said else message)
        return
    lines = [line for line in ran.stdout.splitlines() if line.strip()]
    yield Finding("", "host", "ok", ", ".join(lines))


def _limits(config: Config) -> Iterator[Finding]:
    from snakepit_port.environment import limits

    sizes = [
        limits.PoolSize(
            pool.pool_size,
            pool.startup_batch_size,
            pool.max_surge,
            pool.threads_per_worker if config.profile_of(pool).kind == "thread" else 0,
        )
        for pool in config.pools
    ]
    for limit in limits.limits(sizes):
        has = "no limit" if limit.has is None else f"{limit.has}"
        message = (
            f"{has}, about {limit.needs} needed, and {limit.at_most} while workers start or are"
            " replaced"
        )
        if limit.always_suffices:
            yield Finding("", limit.name, "ok", message)
        else:
            level = "warning" if limit.suffices else "failure"
            yield Finding("", limit.name, level, f"{message}; {limit.hint}")
    pipe = limits.pipe_bytes()
    if pipe is not None and pipe < limits.PIPE_BYTES:
        message = f"{pipe} bytes at most (fs.pipe-max-size): large frames take more wake-ups"
        yield Finding("", "pipes", "note", message)
    memory, threshold = limits.shared_memory_bytes(), config.supervisor.shm_threshold
    if memory is None:
        missing = f"none (no {limits.SHARED_MEMORY})"
    elif not limits.may_write_shared_memory():
        missing = f"none ({limits.SHARED_MEMORY} cannot be written to)"
    elif memory < threshold:
        missing = f"{memory} bytes free in {limits.SHARED_MEMORY}, shm_threshold is {threshold}"
    else:
        free = f"{memory // 2**20} MiB free in {limits.SHARED_MEMORY}"
        yield Finding("", "shared memory", "ok", free)
        return
    yield Finding("", "shared memory", "note", f"{missing}: large bytes travel in frames")


def _seen_processes(config: Config) -> Iterator[Finding]:
    from snakepit_port.processes import shows_own_processes

    if shows_own_processes():
        return
    missing = "there is no /proc that shows the processes here"
    left = f"{missing}: what a command has started may outlive its worker, and `status` sees no run"
    yield Finding("", "seen processes", "note", left)
    for pool in config.pools:
        for name in ("memory_threshold_mb", "memory_limit_mb"):
            if getattr(pool, name) != math.inf:
                message = f"{missing}: no memory is measured, and this does nothing"
                yield Finding(pool.name, name, "warning", message)


def _interpreter(config: Config, pool: PoolSettings) -> Iterator[Finding]:
    from snakepit_port.config.env import effective_environment
    from snakepit_port.environment import ProbeError, advise, installed, look_at

    say: Callable[..., Finding] = lambda *args: Finding(pool.name, *args)  # noqa: E731
    profile = config.profile_of(pool)
    layers = effective_environment(pool, profile, os.environ)
    try:
        found = look_at(pool.python, {name: value for name, (value, _) in layers.items()})
    except ProbeError as exc:
        said = f"\n{exc.said}" if exc.said else ""
        hint = f"{exc.hint[0].upper()}{exc.hint[1:]}." if exc.hint else _NAME_ANOTHER
        yield say("interpreter", "failure", f"{exc.message}{said}\n{hint}")
        return
    if not found.is_new_enough:
        yield say("interpreter", "failure", f"{found.too_old}\n{_NAME_ANOTHER}")
        return
    yield say("interpreter", "ok", _described(found))
    advice = advise(found)
    if profile.kind == advice.profile:
        yield say("profile", "ok", f"{profile.kind}: {advice.reason}")
    else:
        level = "warning" if profile.kind == "thread" else "note"
        message = f"{profile.kind}; recommended is {advice.profile}: {advice.reason}"
        yield say("profile", level, message)
    for library, version in installed(found.distributions):
        unsafe = profile.kind == "thread" and library.threads == "unsafe"
        message = f"threads: {library.threads}. {library.note}\n{library.source}"
        level = "warning" if unsafe else "note"
        # What a library does on threads matters where it meets some.
        matters = profile.kind == "thread"
        yield say(f"{library.name} {version}", level, message, "", matters)


def _described(found: Interpreter) -> str:
    where = found.virtual_environment
    environment = f"virtual environment {where}" if where else "no virtual environment"
    return f"{found.implementation} {found.version}, {found.gil}, {environment}"


def _start(config: Config, pool: PoolSettings) -> Iterator[Finding]:
    """Start one worker of a pool, as the supervisor would, and tell what it says of itself."""
    import tomllib

    import trio

    from snakepit_port.config.dump import resolved
    from snakepit_port.harness import CallError, Event, open_host

    tree = tomllib.loads(resolved(config))
    [settings] = [entry for entry in tree["pools"] if entry["name"] == pool.name]
    tree["pools"] = [{**settings, "pool_size": 1, "min_workers": "pool_size"}]
    tree.setdefault("supervisor", {})["pooling_enabled"] = True

    async def start() -> list[Event]:
        # All paths in it are absolute; the working directory, from which others start, may be gone.
        async with open_host(tree, base_dir="/") as host:
            await host.await_ready()
            events = host.events(past=True)
            # A worker speaks of these once it is ready; until it has gone, there may be more.
            await host.close()
            return [event async for event in events]

    try:
        events = trio.run(start)
    except CallError as exc:
        said = f"\nit wrote on stderr:\n{exc.stderr}" if exc.stderr else ""
        yield Finding(pool.name, "start", "failure", exc.message + said, exc.traceback or "")
        return
    yield Finding(pool.name, "start", "ok", f"a worker loaded adapter {pool.adapter}")
    for event in events:
        if event.name in _WORKER_WARNINGS:
            message = str(event.metadata["message"])
            # Where no module turned the GIL on, the profile's finding has said it.
            gil_anyway = event.name == "worker.gil_enabled" and not event.metadata["module"]
            yield Finding(pool.name, event.name, "warning", message, for_people=not gil_anyway)
