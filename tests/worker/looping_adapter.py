"""Loops that a cancel interrupts where they jump back, and what cleans up after them."""

from __future__ import annotations

import sys

from snakepit_port.adapter import CallCancelled, command


class Cleaning:
    """No generator: one that is let go has its `finally` run all the same."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        print("cleaned")


@command
def finally_() -> None:
    n = 1
    try:
        print("in")
        while n:
            n += 1
    finally:
        print("cleaned")


@command
def except_() -> None:
    n = 1
    try:
        print("in")
        while n:
            n += 1
    except CallCancelled:
        print("cleaned")
        raise


@command
def with_() -> None:
    n = 1
    with Cleaning():
        print("in")
        while n:
            n += 1


@command
def with_choices() -> None:
    n = 0
    with Cleaning():
        print("in")
        for i in range(10**12):
            if i & 1:
                n += i


@command
def nothing_traces() -> bool:
    return sys.gettrace() is None
