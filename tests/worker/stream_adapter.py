"""Commands that make streams, of every kind of trouble."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from worker_adapter import lift, signal_at_step

from snakepit_port.adapter import CallCancelled, command

__all__ = ["lift", "signal_at_step"]

#: What commands leave for a later call to see.
seen: list[Any] = []


@command
def remembered() -> list[Any]:
    return seen


@command
def count(n: int) -> Iterator[int]:
    yield from range(n)
    return f"counted to {n}"


@command
def count_and_say(n: int) -> Iterator[int]:
    """Says before each value that it is being made."""
    for i in range(n):
        print(f"making {i}")
        yield i


@command
def give_back(value: Any) -> Iterator[Any]:
    yield value
    return value


@command
def iterator(n: int) -> Iterator[int]:
    return map(abs, range(n))


@command
def iterator_after(fifo: str) -> Iterator[int]:
    """Waits before there is anything to iterate over."""
    print("in")
    with open(fifo) as file:
        return iter(range(int(file.readline())))


@command
def nothing() -> None:
    pass


@command
def asynchronous(n: int) -> AsyncIterator[int]:
    async def values() -> AsyncIterator[int]:
        yield n

    return values()


@command
def listed(n: int) -> list[int]:
    return list(range(n))


@command
def fail_after(n: int) -> Iterator[int]:
    yield from range(n)
    raise ValueError("no more")


@command
def fail_in_c(n: int) -> Iterator[int]:
    return map(len, ["x"] * n + [1])  # type: ignore[list-item]


@command
def no_term_after(n: int) -> Iterator[Any]:
    try:
        yield from range(n)
        yield object()
    finally:
        seen.append("closed")


@command
def blobs(*sizes: int) -> Iterator[bytes]:
    try:
        for size in sizes:
            yield bytes(size)
    finally:
        seen.append("closed")


@command
def endless() -> Iterator[int]:
    i = 0
    try:
        while True:
            yield i
            i += 1
    finally:
        seen.append("closed")


@command
def wait_between(fifo: str) -> Iterator[str]:
    """Yields what is written to the named pipe, a line at a time."""
    try:
        while True:
            print("in")
            with open(fifo) as file:
                yield file.readline().strip()
    finally:
        seen.append("closed")


@command
def count_and_wait(n: int, fifo: str) -> Iterator[Any]:
    """Is quick, and then waits for a line in the named pipe; and again."""
    for _ in range(2):
        yield from range(n)
        with open(fifo) as file:
            yield file.readline().strip()


@command
def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


@command
def swallow() -> Iterator[str]:
    """Goes on after it was cancelled."""
    try:
        print("in")
        while True:
            pass
    except CallCancelled:
        seen.append("swallowed")
    try:
        yield "went on"
        seen.append("advanced")
    finally:
        seen.append("closed")


@command
def yield_in_finally() -> Iterator[str]:
    try:
        try:
            try:
                yield "first"
            finally:
                yield "inner"
                seen.append("not reached")
        finally:
            yield "middle"
            seen.append("not reached")
    finally:
        seen.append("outer")


@command
def never_end() -> Iterator[str]:
    while True:
        with contextlib.suppress(GeneratorExit):
            yield "first"


@command
def entered_by_another(fifo: str) -> Iterator[str]:
    """A generator that a thread of its own is in."""
    entered = threading.Event()

    def values() -> Iterator[str]:
        entered.set()
        with open(fifo) as file:
            yield file.readline()

    made = values()
    threading.Thread(target=next, args=(made,), daemon=True).start()
    entered.wait()
    return made


@command
def raise_in_finally() -> Iterator[str]:
    try:
        yield "first"
    finally:
        seen.append("raised")
        raise ValueError("in finally")


class Reader:
    """An iterator that is no generator, and has to be closed all the same."""

    def __iter__(self) -> Reader:
        return self

    def __next__(self) -> str:
        return "line"

    def close(self) -> None:
        seen.append("reader closed")


@command
def reader() -> Reader:
    return Reader()


@command
def pid_and_die(n: int) -> Iterator[int]:
    """Kills its worker after some chunks."""
    for _ in range(n):
        yield os.getpid()
    os.kill(os.getpid(), signal.SIGKILL)


@command
def fork_within() -> Iterator[int]:
    """Both processes go on."""
    try:
        yield os.getpid()
        os.fork()
        yield os.getpid()
    finally:
        # In one piece, also where Python is told not to buffer: the other does it at the same time.
        os.write(1, f"closed in {os.getpid()}\n".encode())


@command
def end_of_child() -> Iterator[int]:
    """Yields the exit status of a child, which has more to yield than anybody can take."""
    child = os.fork()
    if child:
        yield os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    else:
        yield from itertools.count()


class SaysHowItEnds:
    """Whatever cleans up says that it did."""

    thread_safe = True

    @command
    def endless(self) -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            print("generator closed")

    @command
    def busy(self) -> None:
        print("busy")
        try:
            while True:
                pass
        finally:
            print("command ended")

    def close(self) -> None:
        print("adapter closed")
