"""`snakepit-port check`: whether a configuration is right, and what it means."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from snakepit_port.cli.printing import (
    DIM,
    GREEN,
    note,
    paint,
    print_json,
    print_problems,
    print_table,
    refuse,
    refuse_config,
    warn,
)
from snakepit_port.cli.statuses import USAGE
from snakepit_port.printable import shown

if TYPE_CHECKING:
    from snakepit_port.config import Config

ABOUT = "say whether a configuration is right, and what it means"
EXAMPLES = """\
examples:
  snakepit-port check pools.toml
  snakepit-port check --resolved pools.toml       every setting with its value, as TOML
  snakepit-port check --env default pools.toml    what the workers of a pool find in os.environ,
                                                  besides the marks SNAKEPIT_PORT_RUN_ID,
                                                  SNAKEPIT_PORT_POOL, SNAKEPIT_PORT_WORKER_PID
  snakepit-port check --json pools.toml           any of these for programs

With --json a file that is right is {"ok": true, "pools": [...]}, with "warnings" and what was
"converted" where there is any; --resolved is the configuration alone, --env a list of variables.
Errors are JSON on stdout, too: {"ok": false, "problems": [...]} for a configuration,
{"ok": false, "error": {"message": ...}} for others; but for wrong usage of the command, which is
text on stderr.

The exit status is 0 if the configuration is right, warnings or not, 78 if it is wrong, 64 for wrong
usage and for a pool that it does not have.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("file", metavar="FILE", help="TOML file")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--resolved", action="store_true", help="print every setting with its value"
    )
    instead.add_argument(
        "--env",
        metavar="POOL",
        help="print the environment of a pool's workers, but for the marks of run, pool and worker",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, errors too")


def run(args: argparse.Namespace) -> int:
    """Prints what was asked for and what to warn of, or every mistake. Returns the exit status."""
    from snakepit_port.config import ConfigError, load_toml

    try:
        config = load_toml(args.file)
    except ConfigError as exc:
        return refuse_config(exc.as_term(), args.json)
    if config.changes and not args.json:
        note(
            "this is a configuration of Snakepit, which is converted whenever it is read; to see"
            f" how, or to have it done once: snakepit-port convert {args.file}"
        )
    warnings = [warning.as_term() for warning in config.warnings]
    if not args.json:
        print_problems(warnings, warn)
    if args.env is not None:
        return _print_env(config, args.env, args.json)
    if args.resolved:
        _print_resolved(config, args.json)
    elif args.json:
        changes = [change.as_term() for change in config.changes]
        converted = {"converted": changes} if changes else {}
        warned = {"warnings": warnings} if warnings else {}
        print_json({"ok": True, "pools": _pool_rows(config), **converted, **warned})
    else:
        print(paint(sys.stdout, GREEN, "ok"))
        if config.pools:
            print_table(_pool_rows(config))
    return 0


def _print_resolved(config: Config, as_json: bool) -> None:
    from snakepit_port.config.dump import resolved

    text = resolved(config)
    if as_json:
        import tomllib

        print_json(tomllib.loads(text))
    else:
        print(text, end="")


def _print_env(config: Config, name: str, as_json: bool) -> int:
    from snakepit_port.config.env import effective_environment

    pool = next((pool for pool in config.pools if pool.name == name), None)
    if pool is None:
        names = ", ".join(pool.name for pool in config.pools) or "none"
        refuse(f"there is no pool {name!r}; there is {names}", as_json)
        return USAGE
    environment = effective_environment(pool, config.profile_of(pool), os.environ)
    rows = [
        {"name": name, "value": value, "source": source}
        for name, (value, source) in sorted(environment.items())
    ]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            variable = shown(f"{row['name']}={row['value']}")
            print(f"{variable}  {paint(sys.stdout, DIM, '# ' + row['source'])}")
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
