"""The command line: `snakepit-port COMMAND ...`, one module for each command.

A module of a command has its `ABOUT` and `EXAMPLES` for the help, `add_arguments(parser)`, and
`run(args)`, which returns the exit status. What a command needs it imports when it runs: `--help`
is quick. `printing.py` is what all print alike, `statuses.py` the exit statuses.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from snakepit_port import __version__
from snakepit_port.cli import call, check, cleanup, convert, doctor, serve, status
from snakepit_port.cli.printing import tell
from snakepit_port.cli.statuses import FAILED, INTERRUPTED, USAGE

COMMANDS = (serve, check, doctor, convert, call, status, cleanup)

#: What writing to a file ends with where there is no room.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_EXAMPLES = """\
examples:
  snakepit-port check pools.toml                   is it right?
  snakepit-port doctor pools.toml                  would its pools start here?
  snakepit-port call --config pools.toml default add '[1, 2]'
  snakepit-port status                             what runs on this machine?
  snakepit-port convert old.toml -o pools.toml     from a configuration of Snakepit

`snakepit-port COMMAND --help` says more of each.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status. Raises `SystemExit` for wrong usage."""
    if sys.stdout is None:
        if sys.stderr is not None:
            print("snakepit-port: there is no stdout to print to", file=sys.stderr)
        return USAGE
    if sys.stderr is None:
        sys.stderr = io.StringIO()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names that are not UTF-8 are printed with escapes, as on stderr.
        sys.stdout.reconfigure(errors="backslashreplace")
    _let_signals_end()
    try:
        try:
            args = _parser().parse_args(argv)
            run: Callable[[argparse.Namespace], int] = args.run
            return run(args)
        finally:
            # Here, where it can be caught that nobody reads it, and not when Python ends.
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _not_read()
    except OSError as exc:
        if exc.errno == errno.EMFILE:
            tell(f"snakepit-port: {exc.strerror}; raise `ulimit -n`")
            return FAILED
        if exc.errno not in _FULL:
            raise
        return _not_written(exc)
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is None:
            return INTERRUPTED
        if group.split(BrokenPipeError)[1] is None:
            return _not_read()
        raise


def _let_signals_end() -> None:
    """Have SIGTERM and SIGHUP end the first process of a container, too: the kernel keeps from it
    what it does not handle."""
    if os.getpid() == 1:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _end)


def _end(number: int, _frame: Any) -> NoReturn:
    # As a shell tells of one that a signal has ended; and at once, as that would be.
    os._exit(128 + number)


def _not_read() -> int:
    """Whoever reads has had enough, like `head`: not for Python to complain of when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


def _not_written(exc: OSError) -> int:
    tell(f"snakepit-port: what it prints cannot be written: {exc.strerror}")
    return _not_read()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"{self.prog}: {message}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse is silent where it cannot write; that of stdout is told."""
        if file is sys.stdout:
            sys.stdout.write(message)
        else:
            tell(message, end="")


class _CommandParser(_Parser):
    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        """What a command does not know is told with its own usage, not with that of all."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def _ask_for_command(parser: argparse.ArgumentParser) -> int:
    parser.print_help(sys.stderr)
    return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="snakepit-port",
        description="Pools of Python workers behind a port.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"snakepit-port {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=_CommandParser)
    parser.set_defaults(run=lambda _: _ask_for_command(parser))
    for command in COMMANDS:
        subparser = commands.add_parser(
            command.__name__.rpartition(".")[2],
            help=command.ABOUT,
            description=f"{command.ABOUT[0].upper()}{command.ABOUT[1:]}.",
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser
