"""The descriptors on which the host is, and the signals that end the supervisor."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from snakepit_port.environment.limits import PIPE_BYTES
from snakepit_port.supervisor import stdio
from snakepit_port.supervisor.signals import STOP_SIGNALS, Signals

# -- descriptors -----------------------------------------------------------------------------------

#: What a supervisor does before it says anything; what it prints then is not for its host.
TAKES = f"""
import fcntl, os, subprocess, sys
from snakepit_port.supervisor import stdio
held = len(os.listdir("/proc/self/fd"))
host_in, host_out = stdio.take()
assert len(os.listdir("/proc/self/fd")) == held + 2
assert not os.get_inheritable(host_in) and not os.get_inheritable(host_out)
if sys.argv[1] == "pipe":
    for fd in (host_in, host_out):
        assert fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) == {PIPE_BYTES}
assert os.read(0, 1) == b""
print("printed", flush=True)
subprocess.run(["sh", "-c", "cat; echo echoed"])
os.write(host_out, os.read(host_in, 100))
"""


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_printed_by_mistake_is_not_for_the_host_nor_what_it_says_for_others(
    kind: str,
) -> None:
    command = [sys.executable, "-c", TAKES, kind]
    ours, theirs = socket.socketpair()
    ends = subprocess.PIPE if kind == "pipe" else theirs
    with (
        ours,
        subprocess.Popen(command, stdin=ends, stdout=ends, stderr=subprocess.PIPE) as process,
    ):
        theirs.close()
        if kind == "socket":
            ours.sendall(b"from the host")
        told, printed = process.communicate(b"from the host" if kind == "pipe" else None)
        assert printed.decode() == "printed\nechoed\n"
        assert (ours.recv(100) if kind == "socket" else told) == b"from the host"
    assert process.returncode == 0


def test_what_can_be_waited_for_is_looked_at_and_no_descriptor_stays(tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe()
    file_fd = os.open(tmp_path, os.O_RDONLY)
    held = os.listdir("/proc/self/fd")
    assert [stdio.can_be_waited_for(fd) for fd in (read_fd, write_fd, file_fd)] == [
        True,
        True,
        False,
    ]
    assert os.listdir("/proc/self/fd") == held
    for fd in (read_fd, write_fd, file_fd):
        os.close(fd)


def test_a_pipe_is_broken_once_nobody_reads_from_it() -> None:
    read_fd, write_fd = os.pipe()
    assert not stdio.is_broken(write_fd)
    os.close(read_fd)
    assert stdio.is_broken(write_fd)
    os.close(write_fd)


# -- signals ---------------------------------------------------------------------------------------


@pytest.fixture
def signals() -> Iterator[Signals]:
    handled = (*STOP_SIGNALS, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in handled}
    # What nohup, say, gave these tests.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signals = Signals()
    yield signals
    for number, handler in before.items():
        signal.signal(number, handler)
    os.close(signals.fd)
    os.close(signals._wake)


def test_signals_that_came_are_told_once(signals: Signals) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGTERM):
        signal.raise_signal(number)
    assert signals.take() == {signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}
    assert signals.take() == set()


def test_signals_that_nobody_looks_at_make_nobody_wait(signals: Signals) -> None:
    for _ in range(2**16 + 1):
        signals._note(signal.SIGCHLD, None)
    assert signals.take() == {signal.SIGCHLD}


def test_signals_are_nothing_to_one_that_ends(signals: Signals) -> None:
    signals.ignore()
    for number in (*STOP_SIGNALS, signal.SIGCHLD):
        signal.raise_signal(number)
    assert signals.take() == set()
    # Ignored, the ends of children could not be waited for.
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
