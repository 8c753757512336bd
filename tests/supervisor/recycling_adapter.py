"""Commands of workers that grow, take long, or have children that grow."""

from __future__ import annotations

import os
import signal
from typing import Any

from pool_adapter import about, add, wait  # noqa: F401 (commands too)

from snakepit_port.adapter import command

_kept: list[Any] = []


def _fill(mib: int) -> bytearray:
    """Memory that is really there: every page is written."""
    return bytearray(b"x") * (mib * 2**20)


@command
def grow(mib: int) -> int:
    _kept.append(_fill(mib))
    return os.getpid()


@command
def grow_and_wait(mib: int) -> None:
    grow(mib)
    wait()


@command
def have_a_child_that_grows(mib: int) -> int:
    ours, theirs = os.pipe()
    if os.fork() == 0:
        grow(mib)
        os.write(theirs, b"!")
        signal.pause()
    os.read(ours, 1)
    return os.getpid()


@command
def read_pipe(path: str) -> tuple[int, str]:
    """Takes as long as whoever has the other end of the named pipe wants."""
    with open(path, encoding="ascii") as pipe:
        return os.getpid(), pipe.read()


class Parent:
    """Small itself; its child is not."""

    def __init__(self, mib: int) -> None:
        have_a_child_that_grows(mib)

    @command
    def nothing(self) -> None:
        pass


class Large:
    def __init__(self, mib: int) -> None:
        self.kept = _fill(mib)

    @command
    def nothing(self) -> None:
        pass
