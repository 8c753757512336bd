"""A host that asks and does not read: it is slowed down, and the supervisor does not grow."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import pytest

from snakepit_port.processes import children_of
from snakepit_port.supervisor.balance import HOST_BEHIND_BYTES, MAX_FRAMES_HELD
from snakepit_port.wire import encode, messages
from snakepit_port.wire.framing import Framer

HERE = Path(__file__).parent
MIB = 1024 * 1024
MAX_FRAME_BYTES = MIB

#: What the limits allow, and as much again for the interpreter.
MAY_GROW = 2 * (HOST_BEHIND_BYTES + MAX_FRAMES_HELD * MAX_FRAME_BYTES)


class RawHost:
    """Plain pipes: it reads when a test says so."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: IO[bytes] | socket.socket) -> None:
        assert process.stdout is not None
        self.process = process
        self._in = stdin
        self._out: IO[bytes] = process.stdout
        self._framer = Framer(64 * MIB)

    def hello(self, grace: str = "5s", **settings: Any) -> None:
        """Greet it, and read until its pool is ready."""
        pool = {
            "name": "default",
            "adapter": "pool_adapter",
            "pool_size": 1,
            "python": sys.executable,
            "python_path": [str(HERE)],
            **settings,
        }
        supervisor = {"max_frame_bytes": MAX_FRAME_BYTES, "shutdown_grace_period": grace}
        config = {"supervisor": supervisor, "pools": [pool]}
        os.write(self._in.fileno(), messages.hello({"software": "test", "config": config}))
        while not any(frame[0] == "ready" for frame in self.read()):
            pass

    def read(self) -> list[tuple[Any, ...]]:
        frames = self._framer.feed(os.read(self._out.fileno(), MIB))
        return [messages.parse(frame) for frame in frames if isinstance(frame, bytes)]

    def ask_until_blocked(self, args: bytes, most: int) -> tuple[int, bytes]:
        """Make calls until no more are taken: how many were begun, and what is missing of the
        last."""
        fd = self._in.fileno()
        os.set_blocking(fd, False)
        for number in range(most):
            frame = messages.call(number, None, "echo", args)
            while frame:
                if self._is_blocked():
                    return number + 1, frame
                frame = frame[os.write(fd, frame) :]
        return most, b""

    def _is_blocked(self) -> bool:
        """Wait until the supervisor's stdin takes more (False), or is full at a moment when all who
        could make room for more are asleep: nothing happens any more before somebody reads."""
        while not self._has_room(seconds=0.01):
            before = self._sleeps()
            # Those who were asleep, and have not gone to sleep again, have slept on meanwhile.
            if before and not self._has_room(seconds=0) and self._sleeps() == before:
                return True
        return False

    def _has_room(self, seconds: float) -> bool:
        return bool(select.select([], [self._in], [], seconds)[1])

    def _sleeps(self) -> dict[Path, str]:
        """How often each thread of the supervisor and its descendants has gone to sleep; nothing if
        one is awake."""
        found = {}
        pids = [self.process.pid]
        for pid in pids:
            pids += children_of(pid)
            for file in Path(f"/proc/{pid}/task").glob("*/status"):
                lines = file.read_text(encoding="ascii").splitlines()
                status = dict(line.split(":\t", 1) for line in lines)
                if not status["State"].startswith("S"):
                    return {}
                found[file] = status["voluntary_ctxt_switches"]
        return found

    def close(self) -> None:
        """Say no more: a socket can still be read from."""
        if isinstance(self._in, socket.socket):
            self._in.shutdown(socket.SHUT_WR)
        else:
            self._in.close()

    def memory(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def answers(self, calls: int, rest: bytes) -> dict[int, str]:
        """Read at last, and send what was missing: the tag of each answer, or the type of error."""
        found: dict[int, str] = {}
        while len(found) < calls:
            if rest and self._has_room(seconds=0):
                rest = rest[os.write(self._in.fileno(), rest) :]
            for frame in self.read():
                if frame[0] in ("result", "error"):
                    assert frame[1] not in found, "answered twice"
                    found[frame[1]] = frame[0] if frame[0] == "result" else frame[2]["type"]
        return found


@pytest.fixture(params=["pipe"])
def host(request: pytest.FixtureRequest) -> Iterator[RawHost]:
    """On pipes, unless a test asks for a socket."""
    command = [sys.executable, "-m", "snakepit_port", "serve"]
    with ExitStack() as stack:
        stdin: int | socket.socket = subprocess.PIPE
        if request.param == "socket":
            ours, stdin = map(stack.enter_context, socket.socketpair())
        process = stack.enter_context(
            subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE)
        )
        stack.callback(process.kill)
        if isinstance(stdin, socket.socket):
            stdin.close()
            yield RawHost(process, ours)
        else:
            assert process.stdin is not None
            yield RawHost(process, process.stdin)


def test_answers_that_are_not_read_hold_workers_and_host_back(host: RawHost) -> None:
    host.hello(max_queue_size=100_000, queue_timeout="infinity")
    before = host.memory()
    most = 6000
    calls, rest = host.ask_until_blocked(encode(["x" * 16_000]), most)
    assert calls < most, "the supervisor took 90 MiB of calls that nobody reads the answers of"
    assert host.memory() - before < MAY_GROW
    assert set(host.answers(calls, rest).values()) == {"result"}


def test_refusals_that_are_not_read_hold_the_host_back(host: RawHost) -> None:
    host.hello(max_queue_size=1)
    before = host.memory()
    most = 250_000
    calls, rest = host.ask_until_blocked(encode(["x"]), most)
    assert calls < most, "the supervisor keeps refusals for a host that does not read them"
    assert host.memory() - before < MAY_GROW
    answers = host.answers(calls, rest)
    assert "pool_saturated" in answers.values()
    assert set(answers.values()) <= {"pool_saturated", "result"}


on_both = pytest.mark.parametrize("host", ["pipe", "socket"], indirect=True)


@on_both
def test_a_host_that_closes_its_end_and_does_not_read_sees_the_exit(host: RawHost) -> None:
    host.hello(grace="1ms", max_queue_size=100_000, queue_timeout="infinity")
    most = 6000
    calls, _ = host.ask_until_blocked(encode(["x" * 16_000]), most)
    assert calls < most
    host.close()
    assert host.process.wait() == 0


@on_both
def test_one_that_reads_has_answers_to_all_that_it_asked_before(host: RawHost) -> None:
    host.hello(grace="10m", max_queue_size=100_000, queue_timeout="infinity")
    most = 6000
    calls, rest = host.ask_until_blocked(encode(["x" * 16_000]), most)
    assert rest, "it was never behind"
    host.close()
    assert set(host.answers(calls - 1, b"").values()) == {"result"}
    assert host.process.wait() == 0
