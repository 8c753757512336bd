"""`snakepit-port call`: one call of one command, with arguments and a result in JSON.

Of a generator every value is printed, one on a line, as soon as it is there; and what it returns,
unless that is None. With --json each line says which of these it is.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shlex
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from snakepit_port.cli.printing import (
    DIM,
    complain,
    is_screen,
    paint,
    print_json,
    print_json_line,
    print_problems,
    tell,
)
from snakepit_port.cli.statuses import BAD_CONFIG, FAILED, USAGE
from snakepit_port.printable import shown

if TYPE_CHECKING:
    from snakepit_port.harness import Host, LogLine

ABOUT = "start a supervisor, call one command, print its result as JSON"
EXAMPLES = """\
arguments and results are JSON. What JSON has no word for is an object with one key:
  {"$bytes": "base64"}   {"$atom": "ok"}   {"$tuple": [1, 2]}   {"$map": [[key, value], ...]}
  {"$array": {"type": "f32", "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]}}
  {"$term": "base64"}    a pid, reference or other term that only travels

With --json every line is an object: {"value": ...} for each value of a generator, {"progress":
[DONE, TOTAL]} when the command tells how far it is, and at the end {"result": ...}, or {"error":
{"type": ..., "message": ..., ...}}. Otherwise progress is shown on a terminal only. That of a
generator is left out, and there are no tools that a command could call. Wrong usage of the command,
JSON-ARGS that are no JSON included, is text on stderr with --json, too.

A command that returns an iterator, and is no generator itself, takes --stream: nothing tells of it
before it has run.

examples:
  snakepit-port call --config pools.toml default add '[1, 2]'
  snakepit-port call --config pools.toml default greet '{"name": "Ada"}' --timeout 2
  snakepit-port call --config pools.toml default lines '["big.csv"]'   a line for each value

The exit status is 0 if there is a result, 1 if the call fails or the supervisor does, 64 for wrong
usage, 78 if the configuration is wrong.
"""

#: The pool is only starting: the call waits as long as that takes.
_QUEUE_TIMEOUT = math.inf

#: Neither a list nor an object.
_NO_ARGUMENTS = "none"


_TIMEOUT_HELP = (
    "deadline of the call, the start of its worker included; default: the pool's call_timeout"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument(
        "--config", metavar="FILE", required=True, help="TOML file; each of its pools is started"
    )
    parser.add_argument("--timeout", metavar="SECONDS", type=_seconds, help=_TIMEOUT_HELP)
    parser.add_argument(
        "--json", action="store_true", help="say on each line what it is; errors too"
    )
    parser.add_argument("--stream", action="store_true", help="the command returns an iterator")
    parser.add_argument("pool", metavar="POOL", type=_name, help="a pool of FILE")
    parser.add_argument("command", metavar="COMMAND", type=_name, help="of the pool's adapter")
    parser.add_argument(
        "args",
        metavar="JSON-ARGS",
        nargs="?",
        default=[],
        action=_JsonArgs,
        help="a list of positions or an object of keywords; default: []",
    )


def _name(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"a name is UTF-8 text, not {text!r}") from None
    return text


def _seconds(text: str) -> float:
    from snakepit_port.config.amounts import MAX_SECONDS

    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise argparse.ArgumentTypeError(f"a number of seconds belongs here, not {text!r}")
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"the seconds have to be above zero, not {text}")
    if seconds > MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"the seconds have to be {MAX_SECONDS} at most")
    return seconds


def _no_number(text: str) -> Any:
    raise ValueError(f"JSON has no number {text}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"an object has the key {json.dumps(twice)} twice: leave one of them out")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text:.60} is too large for a float")
    return number


def _as_text(word: str) -> str:
    """What to write for a word that was meant as a text, and nothing for what was meant as JSON."""
    if len(word) > 60 or not re.fullmatch(r"[^][{}\":,]+", word):
        return ""
    return f"\n  as a text it is {shlex.quote(json.dumps([word], ensure_ascii=False))}"


def _json_args(text: str) -> Any:
    from snakepit_port.term_json import from_json

    try:
        form = json.loads(
            text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_object
        )
        value = from_json(form)
    except json.JSONDecodeError as exc:
        line = exc.doc.split("\n")[exc.lineno - 1]
        raise argparse.ArgumentTypeError(
            f"not JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}\n"
            f"  {line}\n  {' ' * (exc.colno - 1)}^{_as_text(text)}"
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


class _JsonArgs(argparse.Action):
    """Takes the arguments; or tells of the file that stands in the place of the pool, where the
    other commands have it, so that the command has come to stand here."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        # As many as a term has, in the result too.
        sys.set_int_max_str_digits(0)
        try:
            value = _json_args(values) if isinstance(values, str) else values
        except argparse.ArgumentTypeError as exc:
            file = namespace.pool
            if namespace.config is None and (file.endswith(".toml") or os.path.isfile(file)):
                parser.error(
                    f"the file is given with --config: --config {file} {namespace.command} {values}"
                )
            raise argparse.ArgumentError(self, str(exc)) from None
        setattr(namespace, self.dest, value)


def run(args: argparse.Namespace) -> int:
    """Makes the call and prints what it gives, or why it fails. Returns the exit status."""
    import trio

    from snakepit_port.environment.finding import what_to_do
    from snakepit_port.harness import CallError, open_host
    from snakepit_port.term_json import to_json
    from snakepit_port.wire import EncodeError

    #: Whose stderr has been printed: by pool and worker, a starter without one.
    told: set[tuple[str | None, str | None]] = set()
    progress = _Progress(args.json)

    def print_log(line: LogLine) -> None:
        progress.end_line()
        # What workers print is their own business: it may have colours.
        text = shown(line.line, keep="\t") if line.source == "supervisor" else line.line
        tell(paint(sys.stderr, DIM, f"[{shown(line.who)}]"), text)
        if line.source == "stderr":
            told.add((line.pool, line.worker))

    async def call(config: str | dict[str, Any], folder: str | None) -> None:
        async with AsyncExitStack() as stack:
            opening = open_host(config, base_dir=folder, on_log=print_log, tensors=True)
            try:
                host = await stack.enter_async_context(opening)
            except OSError as exc:
                hint = f"; {hint}" if (hint := what_to_do(exc)) else ""
                message = f"the supervisor cannot be started: {exc.strerror}{hint}"
                raise CallError({"type": "supervisor_down", "message": message}) from None
            if args.stream:
                await _stream(host, args)
            else:
                await _call(host, args, progress)

    try:
        trio.run(call, *_configuration(args.config))
    except CallError as exc:
        progress.end_line()
        if args.json:
            print_json_line({"error": to_json(exc.details)})
        elif exc.problems:
            print_problems(exc.problems)
        elif (exc.pool, exc.worker) in told:
            # What it wrote was printed as it came.
            complain(str(CallError({**exc.details, "stderr": None})))
        else:
            complain(str(exc))
        return BAD_CONFIG if exc.type == "config" and exc.problems else FAILED
    except EncodeError as exc:
        message = f"the arguments cannot be sent: {exc}"
        if args.json:
            print_json_line({"error": {"type": "encode", "message": message}})
        else:
            complain(message)
        return USAGE
    return 0


def _configuration(file: str) -> tuple[str | dict[str, Any], str | None]:
    """What the supervisor is told of it: the file, or what it holds and its folder. A pipe, or a
    descriptor of this process, it would not find where it looks. Raises CallError."""
    own = os.path.isfile(file) and os.path.abspath(file).startswith(("/dev/", "/proc/"))
    if not own and (os.path.isfile(file) or not os.path.exists(file)):
        return file, None
    import tomllib

    from snakepit_port.config import ConfigError, load_toml_text
    from snakepit_port.config.toml import read_toml
    from snakepit_port.harness import CallError

    folder = os.path.dirname(os.path.abspath(file))
    try:
        text = read_toml(file)
        load_toml_text(text, folder, file)
    except ConfigError as exc:
        error = {"type": "config", "message": str(exc), "problems": exc.as_term()}
        raise CallError(error) from None
    return tomllib.loads(text), folder


class _Progress:
    """Shows how far a command is: as lines of JSON, or in one line of a terminal."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._is_in_line = False

    def __call__(self, done: float, total: float) -> None:
        if self._as_json:
            print_json_line({"progress": [done, total]})
        elif is_screen(sys.stderr):
            # Over what stands there, and no further.
            print(f"\r{done:g} of {total:g}\033[K", end="", file=sys.stderr, flush=True)
            self._is_in_line = True

    def end_line(self) -> None:
        """Something else is to be printed."""
        if self._is_in_line:
            print(file=sys.stderr)
            self._is_in_line = False


async def _call(host: Host, args: argparse.Namespace, progress: _Progress) -> None:
    """A call for a result first, because streams are never run again after a crash."""
    from snakepit_port.harness import CallError

    try:
        result = await host.call(
            args.pool,
            args.command,
            args.args,
            timeout=args.timeout,
            queue_timeout=_QUEUE_TIMEOUT,
            progress=progress,
        )
    except CallError as exc:
        if exc.type != "not_a_stream_call":
            raise
        if not await _is_generator(host, args):
            message = (
                f"command {args.command!r} has run, and returned an iterator, whose values only a"
                " stream call gets: add --stream"
            )
            raise CallError({**exc.details, "message": message}) from None
    else:
        progress.end_line()
        _print_result(result, args.json)
        return
    await _stream(host, args)


async def _is_generator(host: Host, args: argparse.Namespace) -> bool:
    """Whether a command that is `not_a_stream_call` has not run. A generator is refused before
    anybody looks at its arguments; so with some that are none, nothing is run to find out."""
    from snakepit_port.harness import CallError

    try:
        await host.call(args.pool, args.command, _NO_ARGUMENTS, queue_timeout=_QUEUE_TIMEOUT)
    except CallError as exc:
        if exc.type not in ("not_a_stream_call", "bad_arguments"):
            raise
        return exc.type == "not_a_stream_call"
    return False


async def _stream(host: Host, args: argparse.Namespace) -> None:
    from snakepit_port.term_json import to_json

    async with host.stream(
        args.pool, args.command, args.args, timeout=args.timeout, queue_timeout=_QUEUE_TIMEOUT
    ) as chunks:
        is_generator = False
        async for chunk in chunks:
            is_generator = True
            value = to_json(chunk)
            print_json_line({"value": value} if args.json else value)
        if args.json or chunks.result is not None or not is_generator:
            _print_result(chunks.result, args.json)


def _print_result(result: Any, as_json: bool) -> None:
    from snakepit_port.term_json import to_json

    if as_json:
        print_json_line({"result": to_json(result)})
    else:
        print_json(to_json(result))
