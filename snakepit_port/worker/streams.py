"""What a stream call is while it runs: how many values its consumer takes, and how it ends.

A command that is a generator, or returns an iterator, is a stream for whoever calls it as one. It
is advanced only when there is credit for one more chunk, so it is as fast as its consumer and no
faster. However the stream ends, it is closed: the `finally` blocks of a generator run.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from types import GeneratorType
from typing import Any

#: A `finally` block that yields has to be closed again: this often. Nobody nests them deeper, and
#: one that goes on for ever is left where it is.
_MAX_CLOSINGS = 100


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


def close(values: Iterator[Any]) -> None:
    """Have a generator clean up. What that raises concerns no caller, and is printed."""
    for _ in range(_MAX_CLOSINGS):
        try:
            closing = getattr(values, "close", None)
            if callable(closing):
                closing()
            return
        except BaseException:
            traceback.print_exc()
        if type(values) is not GeneratorType or values.gi_frame is None:
            return
