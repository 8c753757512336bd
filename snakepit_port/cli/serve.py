"""`snakepit-port serve`: what a host starts as its port."""

from __future__ import annotations

import argparse
import sys

from snakepit_port.cli.printing import tell
from snakepit_port.cli.statuses import USAGE

ABOUT = "be the supervisor of a host that started this as a port"
EXAMPLES = """\
examples:
  snakepit-port serve --config pools.toml   what a port runs; the host speaks on stdin and stdout
  snakepit-port serve                       the host sends the configuration itself

The exit status is 0 after an orderly stop, or when the host has died; 64 for wrong usage; 70 for a
fault in the supervisor itself, with its traceback on stderr; 76 if stdin or stdout is no pipe, or
the host does not speak the protocol; 78 if the configuration is wrong.
"""

_BY_HAND = """\
`snakepit-port serve` is the far end of a port: a program starts it, and speaks to it over its
stdin and stdout in binary frames. There is nothing to type here.

From Elixir:
    {:ok, _} = SnakepitPort.start_link(config: "pools.toml")
    SnakepitPort.execute("add", [1, 2])

From this terminal:
    snakepit-port check pools.toml
    snakepit-port call --config pools.toml default add '[1, 2]'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("--config", metavar="FILE", help="TOML file; default: the host sends terms")


def run(args: argparse.Namespace) -> int:
    """Serves until the host is gone. Returns the exit status."""
    if sys.stdin is not None and sys.stdin.isatty():
        tell(_BY_HAND, end="")
        return USAGE
    from snakepit_port.supervisor.serve import main as serve

    return serve(args.config)
