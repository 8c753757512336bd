"""What a stream call is while it runs: how many values its consumer takes, and how it ends.

A command that is a generator, or returns an iterator, is a stream for whoever calls it as one. It
is advanced only when there is credit for one more chunk, so it is as fast as its consumer and no
faster. However the stream ends, it is closed: the `finally` blocks of a generator run.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from types import GeneratorType
from typing import Any

#: A `finally` block that yields has to be closed again: this often. Nobody nests them deeper, and
#: one that goes on for ever is left where it is.
_MAX_CLOSINGS = 100

#: What Python raises for a generator that yields instead of ending, and for one that another thread
#: is in: its traceback shows no line of either.
_NOT_CLOSED = (RuntimeError, ValueError)


class Stream:
    """One stream call. `credit` is how many more chunks it may send: none, once `cancelled`."""

    __slots__ = ("cancelled", "command", "credit", "id")

    def __init__(self, id: int, command: str, credit: int) -> None:
        self.id = id
        self.command = command
        self.credit = credit
        self.cancelled = False

    def grant(self, credit: int) -> None:
        if not self.cancelled:
            self.credit += credit

    def cancel(self) -> None:
        self.cancelled = True
        self.credit = 0


def close(values: Iterator[Any], command: str) -> None:
    """Have a command's generator clean up. What that raises concerns no caller, and is printed."""
    goes_on = False
    for _ in range(_MAX_CLOSINGS):
        try:
            closing = getattr(values, "close", None)
            if callable(closing):
                closing()
            return
        except BaseException as exc:
            is_open = type(values) is GeneratorType and values.gi_frame is not None
            # By its type: `isinstance` asks the exception itself, which may be broken.
            if not (is_open and type(exc) in _NOT_CLOSED):
                _print(f"command {command!r}, as its stream was closed:")
                traceback.print_exc()
            elif not goes_on:
                goes_on = True
                _print(f"command {command!r} goes on as its stream is closed: {exc}")
            if not is_open:
                return


def _print(line: str) -> None:
    print(line, file=sys.stderr)
