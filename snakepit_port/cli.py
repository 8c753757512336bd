"""The command line: `snakepit-port serve | check | call`.

Exit statuses are those of protocol/SPEC.md, section 15, and 1 for a call that failed, 130 for an
interrupt from the keyboard. What a command needs is imported when it runs: `--help` is quick.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from snakepit_port import __version__

if TYPE_CHECKING:
    from snakepit_port.config import Config
    from snakepit_port.harness import LogLine

CALL_FAILED = 1
USAGE = 64
BAD_CONFIG = 78
INTERRUPTED = 130

_RED, _GREEN, _DIM = "31", "32", "2"

_SERVE_BY_HAND = """\
`snakepit-port serve` is the far end of a port: a program starts it, and speaks to it over its
stdin and stdout in binary frames. There is nothing to type here.

From Elixir:
    {:ok, _} = SnakepitPort.start_link(config: "pools.toml")
    SnakepitPort.execute("add", [1, 2])

From this terminal:
    snakepit-port check pools.toml
    snakepit-port call --config pools.toml default add '[1, 2]'
"""

_EXAMPLES = {
    "": """\
examples:
  snakepit-port check pools.toml
  snakepit-port call --config pools.toml default add '[1, 2]'
""",
    "serve": """\
examples:
  snakepit-port serve --config pools.toml   what a port runs; the host speaks on stdin and stdout
  snakepit-port serve                       the host sends the configuration itself
""",
    "check": """\
examples:
  snakepit-port check pools.toml
  snakepit-port check --resolved pools.toml       every setting with its value, as TOML
  snakepit-port check --env default pools.toml    what the workers of a pool find in os.environ
  snakepit-port check --json pools.toml           any of these for programs
""",
    "call": """\
arguments and results are JSON. What JSON has no word for is an object with one key:
  {"$bytes": "base64"}   {"$atom": "ok"}   {"$tuple": [1, 2]}   {"$map": [[key, value], ...]}
  {"$term": "base64"}    a pid, reference or other term that only travels

examples:
  snakepit-port call --config pools.toml default add '[1, 2]'
  snakepit-port call --config pools.toml default greet '{"name": "Ada"}' --timeout 2
""",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status. Raises `SystemExit` for wrong usage."""
    try:
        args = _parser().parse_args(argv)
        run: Callable[[argparse.Namespace], int] = args.run
        return run(args)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is not None:
            raise
        return INTERRUPTED


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    def add(name: str, run: Callable[[argparse.Namespace], int], about: str) -> _Parser:
        command = commands.add_parser(
            name,
            help=about,
            description=f"{about[0].upper()}{about[1:]}.",
            epilog=_EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        return command

    parser = _Parser(
        prog="snakepit-port",
        description="Pools of Python workers behind a port.",
        epilog=_EXAMPLES[""],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"snakepit-port {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    serve = add("serve", _serve, "be the supervisor of a host that started this as a port")
    serve.add_argument("--config", metavar="FILE", help="TOML file; default: the host sends terms")

    check = add("check", _check, "say whether a configuration is right, and what it means")
    check.add_argument("file", metavar="FILE", help="TOML file")
    shown = check.add_mutually_exclusive_group()
    shown.add_argument("--resolved", action="store_true", help="print every setting with its value")
    shown.add_argument("--env", metavar="POOL", help="print the environment of a pool's workers")
    check.add_argument("--json", action="store_true", help="print JSON")

    call = add("call", _call, "start a supervisor, call one command, print its result as JSON")
    call.add_argument("--config", metavar="FILE", required=True, help="TOML file")
    call.add_argument("--timeout", metavar="SECONDS", type=_seconds, help="deadline of the call")
    call.add_argument("pool", metavar="POOL")
    call.add_argument("command", metavar="COMMAND")
    call.add_argument(
        "args", metavar="JSON-ARGS", nargs="?", default=[], type=_json_args, help="default: []"
    )
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"a number of seconds belongs here, not {text!r}")
    return seconds


def _json_args(text: str) -> Any:
    from snakepit_port.term_json import from_json

    try:
        value = from_json(json.loads(text))
    except json.JSONDecodeError as exc:
        line = exc.doc.split("\n")[exc.lineno - 1]
        raise argparse.ArgumentTypeError(
            f"not JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}\n"
            f"  {line}\n  {' ' * (exc.colno - 1)}^"
        ) from None
    except RecursionError:
        raise argparse.ArgumentTypeError("nested too deeply") from None
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None
    if not isinstance(value, (list, dict)):
        raise argparse.ArgumentTypeError(
            'arguments are a list of positions or an object of keywords: [1, 2] or {"a": 1}'
        )
    return value


# -- serve --------------------------------------------------------------------------------------


def _serve(args: argparse.Namespace) -> int:
    if sys.stdin is not None and sys.stdin.isatty():
        sys.stderr.write(_SERVE_BY_HAND)
        return USAGE
    from snakepit_port.supervisor.serve import main as serve

    return serve(args.config)


# -- check --------------------------------------------------------------------------------------


def _check(args: argparse.Namespace) -> int:
    from snakepit_port.config import ConfigError, load_toml

    try:
        config = load_toml(args.file)
    except ConfigError as exc:
        if args.json:
            _print_json({"ok": False, "problems": exc.as_term()})
        else:
            _print_problems(exc.as_term())
        return BAD_CONFIG
    if args.env is not None:
        return _check_env(config, args.env, args.json)
    if args.resolved:
        _check_resolved(config, args.json)
    elif args.json:
        _print_json({"ok": True, "pools": _pool_rows(config)})
    else:
        print(_paint(sys.stdout, _GREEN, "ok"))
        _print_table(_pool_rows(config))
    return 0


def _check_resolved(config: Config, as_json: bool) -> None:
    from snakepit_port.config.dump import resolved

    text = resolved(config)
    if as_json:
        import tomllib

        _print_json(tomllib.loads(text))
    else:
        print(text, end="")


def _check_env(config: Config, name: str, as_json: bool) -> int:
    from snakepit_port.config.env import effective_environment

    pool = next((pool for pool in config.pools if pool.name == name), None)
    if pool is None:
        names = ", ".join(pool.name for pool in config.pools)
        _complain(f"there is no pool {name!r}; there is {names}")
        return USAGE
    environment = effective_environment(pool, config.profile_of(pool), os.environ)
    rows = [
        {"name": name, "value": value, "source": source}
        for name, (value, source) in sorted(environment.items())
    ]
    if as_json:
        _print_json(rows)
    else:
        for row in rows:
            print(f"{row['name']}={row['value']}  {_paint(sys.stdout, _DIM, '# ' + row['source'])}")
    return 0


def _pool_rows(config: Config) -> list[dict[str, Any]]:
    return [
        {
            "pool": pool.name,
            "pool_size": pool.pool_size,
            "worker_profile": pool.worker_profile,
            "adapter": pool.adapter,
            "python": pool.python,
        }
        for pool in config.pools
    ]


# -- call ---------------------------------------------------------------------------------------


def _call(args: argparse.Namespace) -> int:
    import trio

    from snakepit_port.harness import CallError, open_host
    from snakepit_port.term_json import to_json
    from snakepit_port.wire import EncodeError

    async def call() -> Any:
        async with open_host(args.config, on_log=_print_log) as host:
            # Its pool is only starting: the call waits as long as that takes.
            return await host.call(
                args.pool, args.command, args.args, timeout=args.timeout, queue_timeout=math.inf
            )

    try:
        value = trio.run(call)
    except CallError as exc:
        if exc.type == "config" and exc.problems:
            _print_problems(exc.problems)
            return BAD_CONFIG
        _complain(str(exc))
        return CALL_FAILED
    except EncodeError as exc:
        _complain(f"the arguments cannot be sent: {exc}")
        return USAGE
    _print_json(to_json(value))
    return 0


def _print_log(line: LogLine) -> None:
    who = line.worker or line.pool or "supervisor"
    print(_paint(sys.stderr, _DIM, f"[{who}]"), line.line, file=sys.stderr)


# -- printing -----------------------------------------------------------------------------------


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def _print_problems(problems: Sequence[Mapping[str, Any]]) -> None:
    for problem in problems:
        source = ":".join(str(problem[key]) for key in ("file", "line") if problem.get(key))
        parts = (source, problem.get("place"), problem["message"])
        _complain(": ".join(part for part in parts if part))
        if problem.get("hint"):
            print(f"  {problem['hint']}", file=sys.stderr)


def _print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def _complain(text: str) -> None:
    print(_paint(sys.stderr, _RED, "error:"), text, file=sys.stderr)


def _paint(stream: TextIO, code: str, text: str) -> str:
    """Text in a colour where it goes to a terminal, unless NO_COLOR (no-color.org) forbids it."""
    if stream.isatty() and not os.environ.get("NO_COLOR"):
        return f"\033[{code}m{text}\033[0m"
    return text
