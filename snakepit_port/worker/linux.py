"""What only Linux has, each with what is done elsewhere."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Container
from contextlib import suppress
from time import monotonic
from typing import Any

# prctl(2), <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _load() -> tuple[Any, Any]:
    if not sys.platform.startswith("linux"):
        return None, None
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        libc.getenv.restype = ctypes.c_void_p
        return ctypes, libc
    except (ImportError, OSError):
        return None, None


# Loaded before anything forks: a forked worker should find it in memory.
_ctypes, _libc = _load()
_prctl = _libc and _libc.prctl


def die_with_parent(parent: int) -> None:
    """Be killed when the parent's main thread ends. Elsewhere end-of-file on the channel tells.

    The parent may be gone before the kernel was told, so that is looked at afterwards.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def outlive_parent() -> None:
    """Take `die_with_parent` back."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent has gone. Elsewhere they go to init."""
    if _prctl is not None:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def overwrite_variable(name: str, value: str) -> None:
    """Write over a variable's value, of the same length, in the memory where the kernel looks for
    the environment of this process, and of those that it forks. Elsewhere nothing is done."""
    if _libc is None:
        return
    address = _libc.getenv(name.encode())
    new = value.encode()
    if address and len(_ctypes.string_at(address)) == len(new):
        _ctypes.memmove(address, new, len(new))


def environment_of(pid: int) -> list[bytes] | None:
    """A process's environment, as far as it may be seen; None while it has none, in the middle of
    executing a program."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
        if not environment:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # proc(5): from `state` on, behind the name in parentheses; 51 is `env_end`.
                fields = file.read().rpartition(b")")[2].split()
            if fields[51 - 3] == b"0":
                return None
    except OSError:
        return []
    return environment.split(b"\0")


def stand_back(stands_back: bool) -> None:
    """Let others that wake up run first, or stop doing so.

    For a worker while it loads and while it ends: its pool has others, whose calls should not wait
    for it. Without, the slowest of a hundred small calls took five times as long while workers were
    recycled, with it three times (on two cores). Unlike a niceness it starves nobody, and whoever
    took it may leave it.
    """
    if hasattr(os, "SCHED_BATCH"):
        # Refused in some sandboxes.
        with suppress(OSError):
            policy = os.SCHED_BATCH if stands_back else os.SCHED_OTHER
            os.sched_setscheduler(0, policy, os.sched_param(0))


#: Thousandths of all memory by which a worker counts as larger than it is.
_OOM_HANDICAP = 300


def yield_memory_first() -> None:
    """Have the kernel, where memory runs out, take this process, and what it starts, before others
    that have up to 30 % of all memory more (proc(5), `oom_score_adj`): a worker costs the calls it
    has, the supervisor or its host cost everything. To ask for that takes no privilege."""
    with suppress(OSError):
        # Not by a file object: in a forked worker that makes more pages its own.
        fd = os.open("/proc/self/oom_score_adj", os.O_RDWR)
        try:
            score = min(int(os.read(fd, 16)) + _OOM_HANDICAP, 1000)
            os.write(fd, str(score).encode())
        finally:
            os.close(fd)


def children() -> list[int]:
    """The process ids of this process's children; empty where the system does not say."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def end_orphans(spared: Container[int]) -> None:
    """Reap the dead among the children, and kill the others but those spared.

    Children of theirs arrive here as they die (`adopt_orphans`), and SIGCHLD tells: then again.
    """
    for pid in children():
        if pid not in spared:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
    for pid in children():
        if pid not in spared:
            send_signal(pid, signal.SIGKILL)


def _one_ended(patience: float) -> bool:
    """Whether a child has ended within so many seconds."""
    if patience == math.inf:
        os.waitpid(-1, 0)
        return True
    # Blocked, it waits for `sigtimedwait`, even where nobody handles it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    until = monotonic() + patience
    while not os.waitpid(-1, os.WNOHANG)[0]:
        left = until - monotonic()
        if left <= 0:
            return False
        signal.sigtimedwait({signal.SIGCHLD}, left)
    return True


def end_descendants(patience: float = math.inf) -> None:
    """Kill them all, and return when they are gone; or after so many seconds without the end of
    one: what is left then is held by a debugger or the kernel, and ends when it is let go."""
    with suppress(ChildProcessError):
        # Killed children end; orphans of theirs arrive here as they do.
        while left := children():
            for pid in left:
                send_signal(pid, signal.SIGKILL)
            if not _one_ended(patience):
                return
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def send_signal(pid: int, number: int) -> None:
    """To a process, or as kill(2) has it to the group -pid; nothing happens if it is gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
