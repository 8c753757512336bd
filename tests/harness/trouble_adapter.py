"""An adapter whose commands do what they should not."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from typing import Any

from snakepit_port.adapter import command


@command
def add(a: int, b: int) -> int:
    return a + b


@command
def echo(value: Any) -> Any:
    return value


@command
def pid() -> int:
    return os.getpid()


@command
def fail(text: str) -> None:
    raise ValueError(text)


@command
def unencodable() -> list[Any]:
    return [1, {"here": object()}]


@command
def hang() -> None:
    print("hanging", flush=True)
    while True:
        signal.pause()


@command
def wait_for(path: str) -> str:
    """Returns what somebody writes to a named pipe; says on stdout that it waits."""
    print("waiting", flush=True)
    with open(path) as pipe:
        return pipe.read()


@command
def crash(how: int) -> None:
    """Ends the worker: by a signal, or for a negative number by an exit status."""
    print("last words", file=sys.stderr, flush=True)
    if how < 0:
        os._exit(-how)
    os.kill(os.getpid(), how)
    signal.pause()


@command
def start_child() -> int:
    """Starts a process that runs on, and returns its id."""
    return subprocess.Popen(["sleep", "600"]).pid


@command
def write_everywhere() -> str:
    """Writes to stdout in every way there is."""
    print("by print")
    sys.stdout.flush()
    sys.stdout.buffer.write(b"\x83h\x03 by buffer\n")
    sys.stdout.buffer.flush()
    os.write(1, b"\0\0\0\x01 by descriptor\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"by C")
    libc.fflush(None)
    subprocess.run(["sh", "-c", "echo by child; echo by child on stderr >&2"], check=True)
    return "done"
