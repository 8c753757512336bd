"""Commands that take and return large values."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

from snakepit_port.adapter import CallCancelled, attempt, command

LARGE = 1024 * 1024


@command
def echo(value: Any) -> Any:
    return value


@command
def starter() -> int:
    return os.getppid()


@command(zero_copy=True)
def look(value: Any) -> list[Any]:
    import numpy

    return [
        type(value).__name__,
        value.readonly,
        type(value.obj).__name__,
        int(numpy.frombuffer(value, "uint8").sum()),
    ]


@command(zero_copy=True)
def pass_on(value: Any) -> Any:
    return value


@command
def look_at_array(array: Any) -> list[Any]:
    array += 1  # It is this command's own.
    return [type(array).__module__, str(array.dtype), list(array.shape), float(array.sum())]


@command(idempotent=True)
def crash_once(value: Any) -> int:
    if attempt() == 1:
        os._exit(3)
    return len(value)


@command(idempotent=True, zero_copy=True)
def crash_once_looking(value: Any) -> int:
    if attempt() == 1:
        os._exit(3)
    return len(value)


@command
def shared(name: str) -> list[str]:
    """What is in the folder."""
    return os.listdir(name)


@command
def make_or_fail(size: int) -> Any:
    """The first part is written by the time the second turns out to have no term."""
    return [bytes(size), object()]


@dataclass
class Deadly:
    """Kills whoever asks for its field."""

    field: int = 0

    def __getattribute__(self, name: str) -> Any:
        if name == "field":
            os.kill(os.getpid(), signal.SIGKILL)
        return object.__getattribute__(self, name)


@command
def die_while_answering(size: int) -> Any:
    return [bytes(size), Deadly()]


@command
def answer_twice(size: int) -> bytes:
    """A child that it forks returns as well, and before it."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return bytes(size)


@command
def answer_late(size: int) -> bytes:
    """Answers only when nobody wants it any more."""
    try:
        print("waiting", flush=True)
        while True:
            signal.pause()
    except CallCancelled:
        return bytes(size)


@command
def wait() -> None:
    print("waiting", flush=True)
    signal.pause()
