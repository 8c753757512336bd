"""Commands that look at, and attack, the processes they run in."""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
import time
from typing import Any

from snakepit_port.adapter import CallCancelled, attempt, command


@command
def add(a: int, b: int) -> int:
    return a + b


@command
def about() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "starter": os.getppid(),
        "prefix": sys.prefix,
        "version": list(sys.version_info[:2]),
    }


@command
def env(name: str) -> str | None:
    return os.environ.get(name)


@command
def names() -> list[str]:
    return sorted(os.environ)


@command
def wait() -> None:
    print("waiting", flush=True)
    signal.pause()


@command
def work(milliseconds: int) -> None:
    """Takes that long, or for ever."""
    if milliseconds < 0:
        wait()
    until = time.monotonic() + milliseconds / 1000
    while time.monotonic() < until:
        pass


@command
def wait_stubbornly() -> None:
    """Goes on whatever anybody says, from the moment that it is known to wait."""
    has_said = False
    while True:
        try:
            if not has_said:
                has_said = True
                print("waiting", flush=True)
            signal.pause()
        except CallCancelled:
            print("not now", flush=True)


@command(idempotent=True)
def die_twice(path: str, _padding: str = "") -> int:
    """Writes its attempts down, and returns the third."""
    with open(path, "a", encoding="ascii") as file:
        file.write(f"{attempt()}\n")
    if attempt() <= 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return attempt()


@command
def which_attempt() -> int:
    return attempt()


@command
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _channel() -> int:
    """The worker's channel: its only socket."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                return int(name)
        except OSError:
            continue
    raise LookupError("no socket")


@command
def write_garbage() -> None:
    os.write(_channel(), b"\0\0\0\4oops")
    signal.pause()


@command
def answer_another(id: int) -> None:
    from snakepit_port.wire import encode, messages

    os.write(_channel(), messages.result(id, encode(None)))
    signal.pause()


@command
def hang_up() -> None:
    sock = socket.socket(fileno=_channel())
    sock.shutdown(socket.SHUT_RDWR)
    signal.pause()


@command
def fast() -> int:
    return os.getpid()


@command
def slow(gate: str) -> int:
    """Opens a fifo: that takes until somebody opens its other end."""
    with open(gate):
        return os.getpid()


@command
def moody(gate: str | None, misses_a_signal: bool = False) -> int:
    """Takes no time, or as `slow` does.

    It can miss one signal, as a command does that begins to wait in C when that has just come."""
    if misses_a_signal:
        noticed = signal.getsignal(signal.SIGURG)
        signal.signal(signal.SIGURG, lambda *_: signal.signal(signal.SIGURG, noticed))
    return fast() if gate is None else slow(gate)


@command
def echo(value: Any) -> Any:
    return value


_loaded_under = os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None


@command
def schedulers() -> list[int] | None:
    """Of the kernel's: which one it was loaded under, and which one it runs under."""
    return None if _loaded_under is None else [_loaded_under, os.sched_getscheduler(0)]
