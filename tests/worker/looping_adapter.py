"""Loops that a cancel interrupts where they jump back, and what cleans up after them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from snakepit_port.adapter import CallCancelled, command


@contextmanager
def cleaning() -> Iterator[None]:
    try:
        yield
    finally:
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
    n = 0
    with cleaning():
        print("in")
        for i in range(10**12):
            if i & 1:
                n += i


@command
def nothing_traces() -> bool:
    return sys.gettrace() is None
