"""An adapter whose commands leave things behind."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import select
import signal
import subprocess
import threading
import time
from typing import Any

from snakepit_port.adapter import command, host


@command
def add(a: int, b: int) -> int:
    return a + b


@command
def echo(value: Any) -> Any:
    return value


@command
def note(path: str, number: int) -> int:
    """Writes down that it has started, in one go whoever else does, and returns the number."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(fd, b"%d\n" % number)
    finally:
        os.close(fd)
    return number


@command
def note_slowly(path: str, number: int) -> int:
    note(path, number)
    run_for(0.003)
    return number


@command
def leave() -> None:
    os._exit(0)


@command
def send_garbage(data: bytes) -> None:
    """Sends the supervisor what a worker does not."""
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                os.write(int(fd), data)


@command
def pid() -> int:
    return os.getpid()


@command
def hang() -> None:
    """Says so on stdout when it has begun."""
    print("hanging", flush=True)
    while True:
        signal.pause()


@command
def loop_in_python() -> None:
    while True:
        pass


def deeper(n: int) -> int:
    return deeper(n - 1) if n else 0


@command
def call_on() -> None:
    """Calls functions all the time."""
    while True:
        deeper(300)


@command
def call_on_threads() -> None:
    for _ in range(2):
        threading.Thread(target=call_on, daemon=True).start()
    call_on()


@command
def loop_in_c() -> int:
    """Holds the interpreter: nothing of Python's runs meanwhile, signal handlers included."""
    return sum(itertools.repeat(0))


@command
def sleep_on() -> None:
    select.select([], [], [], 600)


@command
def run_for(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@command
def read_on() -> bytes:
    ours, theirs = os.pipe()
    try:
        return os.read(ours, 1)
    finally:
        os.close(ours)
        os.close(theirs)


@command
def read(path: str) -> bytes:
    """Fast, or until somebody has written a pipe."""
    with open(path, "rb") as file:
        return file.read()


@command
def read_in_c(path: str) -> None:
    """The same, but waits in C, for a mutex, and no signal ends that."""
    if path == os.devnull:
        return
    libc = ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(128)

    def read() -> None:
        with open(path) as file:
            file.read()
        libc.pthread_mutex_unlock(mutex)

    libc.pthread_mutex_lock(mutex)
    threading.Thread(target=read).start()
    libc.pthread_mutex_lock(mutex)


@command
def wait_on_a_lock() -> None:
    threading.Event().wait()


@command
def swallow_interrupts() -> None:
    while True:
        with contextlib.suppress(BaseException):
            select.select([], [], [], 600)


@command
def keep_a_thread() -> None:
    threading.Thread(target=thread_of_a_command, daemon=True).start()


def thread_of_a_command() -> None:
    threading.Event().wait()


@command
def clean_up(pipe: str) -> None:
    """Waits for ever, and when it is interrupted writes to a named pipe."""
    try:
        hang()
    finally:
        with open(pipe, "w") as file:
            file.write("cleaned up")


@command
def abandon() -> int:
    """Starts a daemon: in a session of its own, and its parent gone. Returns its process id."""
    shell = "setsid sleep 600 >/dev/null 2>&1 & echo $!"
    return int(subprocess.run(["sh", "-c", shell], check=True, capture_output=True).stdout)


@command
def ask_thrice(tool: str, number: int) -> list[int]:
    answers = []
    for _ in range(3):
        number = host.call(tool, number)
        answers.append(number)
    return answers


@command
def abandon_without_environment() -> int:
    """Starts a process in the worker's group that nothing marks. Returns its process id."""
    return subprocess.Popen(["sleep", "600"], env={}).pid
