"""What the workers of the benchmark run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from snakepit_port.adapter import command


@command
def echo(value: Any) -> Any:
    return value


@command
def repeat(value: Any, times: int) -> Iterator[Any]:
    for _ in range(times):
        yield value


@command
def meet(folder: str, count: int) -> int:
    """Returns in `count` workers at once, when all of them have come: so each of them was called.

    `folder` is theirs alone.
    """
    gate = f"{folder}/gate"
    with suppress(FileExistsError):
        os.mkfifo(gate)
    # Opened for both, so that opening does not wait and what is written stays.
    fd = os.open(gate, os.O_RDWR)
    come = os.open(f"{folder}/come", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(come, b"x")
    if os.fstat(come).st_size == count:
        os.write(fd, b"x" * count)
    os.read(fd, 1)
    os.close(come)
    os.close(fd)
    return os.getpid()
