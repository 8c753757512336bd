"""What the system says of processes. Where there is no /proc, it knows of none."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

#: <linux/sched.h>: set before the descriptors of a process that ends are closed.
_PF_EXITING = 4


class Seen(NamedTuple):
    """A process; its start time tells it from a later one with the same id."""

    parent: int
    started: str


def look_at(pid: int) -> Seen | None:
    """A process; None if it is gone, dead and only waits for its parent, or not to be seen."""
    # proc(5): the command's name is in parentheses and may hold any character.
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    if not fields or fields[0] in (b"Z", b"X"):
        return None
    return Seen(int(fields[1]), fields[19].decode())


def lives(pid: int) -> bool:
    """Whether a process is there and not about to end, as far as the system says."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    # proc(5): from `state` on; 9 is `flags`.
    return bool(fields) and fields[0] not in (b"Z", b"X") and not int(fields[9 - 3]) & _PF_EXITING


def shows_own_processes() -> bool:
    """Whether /proc is there, and its process ids mean what they do here: in a container it may be
    that of another."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def all_pids() -> Iterator[int]:
    with suppress(FileNotFoundError):
        yield from (int(name) for name in os.listdir("/proc") if name.isdigit())


def children_of(pid: int) -> list[int]:
    """Those of all its threads; none where the kernel was made without CONFIG_PROC_CHILDREN."""
    with suppress(OSError):
        tasks = os.listdir(f"/proc/{pid}/task")
        lists = [_read(pid, f"task/{task}/children").split() for task in tasks]
        return [int(child) for children in lists for child in children]
    return []


def command_of(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def environment_of(pid: int) -> list[bytes]:
    """Its variables, each as NAME=VALUE; empty where it may not be seen."""
    return _read(pid, "environ").split(b"\0")


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # Most real-time signals have none.
        return f"signal {number}"


def _read(pid: int, name: str) -> bytes:
    # A process may go at any time.
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""
