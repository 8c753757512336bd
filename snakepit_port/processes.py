"""What the system says of processes. Where there is no /proc, it knows of none."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from snakepit_port.printable import shown

#: <linux/sched.h>: set before the descriptors of a process that ends are closed.
_PF_EXITING = 4

#: proc(5): a zombie, which is dead and waits for its parent; and what is not even that any more.
_DEAD = ("Z", "X")

#: Clock ticks, in which the system counts times, for each second.
_TICKS = os.sysconf("SC_CLK_TCK")

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Seen(NamedTuple):
    """A process; its start time tells it from a later one with the same id."""

    parent: int
    #: In clock ticks since the system was started.
    started: str
    #: A letter, as proc(5) has it.
    state: str
    #: That it has used itself.
    cpu_seconds: float
    #: What it has in memory, shared or not.
    resident_bytes: int

    @property
    def uptime_seconds(self) -> float:
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - int(self.started) / _TICKS)


def look_at(pid: int) -> Seen | None:
    """A process; None if it is gone, dead and only waits for its parent, or not to be seen."""
    seen = look_at_dead(pid)
    return None if seen is None or seen.state in _DEAD else seen


def look_at_dead(pid: int) -> Seen | None:
    """The same, but one that is dead and waits for its parent is there, too."""
    fields = _stat(pid)
    if not fields:
        return None
    return Seen(
        parent=int(fields[4 - 3]),
        started=fields[22 - 3],
        state=fields[3 - 3],
        cpu_seconds=(int(fields[14 - 3]) + int(fields[15 - 3])) / _TICKS,
        resident_bytes=int(fields[24 - 3]) * _PAGE_BYTES,
    )


def lives(pid: int) -> bool:
    """Whether a process is there and not about to end, as far as the system says."""
    fields = _stat(pid)
    return bool(fields) and fields[3 - 3] not in _DEAD and not int(fields[9 - 3]) & _PF_EXITING


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


def descendants_of(pid: int) -> list[int]:
    # Not by recursion: what a command starts may be as deep as it likes.
    found, seen = [pid], {pid}
    for parent in found:
        for child in children_of(parent):
            if child not in seen:
                seen.add(child)
                found.append(child)
    return found[1:]


def name_of(pid: int) -> str:
    """The name of what it executes, cut to 15 bytes, unless it has given itself another."""
    return _read(pid, "comm").decode(errors="replace").removesuffix("\n")


def command_of(pid: int) -> str:
    words = _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    # On one line: it may be somebody else's process.
    return shown(words)


def environment_of(pid: int) -> list[bytes]:
    """Its variables, each as NAME=VALUE; empty where it may not be seen."""
    return _read(pid, "environ").split(b"\0")


def private_bytes(pid: int) -> int | None:
    """Bytes that would be free if the process went: without the pages a forked worker shares.

    None where the system does not say (only Linux does), or when the process is gone.
    """
    total = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                # proc(5): Private_Clean, Private_Dirty and Private_Hugetlb, in kB.
                if line.startswith("Private_"):
                    total += int(line.split()[1]) * 1024
    except OSError:
        return None
    return total


def private_bytes_of_all(pid: int) -> int | None:
    """The same of a process and all its descendants; of those that are still there."""
    total = private_bytes(pid)
    if total is None:
        return None
    return total + sum(private_bytes(child) or 0 for child in descendants_of(pid))


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # Most real-time signals have none.
        return f"signal {number}"


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on, `state`; empty if it is gone."""
    # proc(5): the name, the second, is in parentheses and may hold any character.
    return _read(pid, "stat").rpartition(b")")[2].decode().split()


def _read(pid: int, name: str) -> bytes:
    # A process may go at any time.
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""
