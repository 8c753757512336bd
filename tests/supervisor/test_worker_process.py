"""A worker's process before anything runs in it."""

from __future__ import annotations

import errno
import math
import os
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from snakepit_port.pool import Worker
from snakepit_port.supervisor.ledger import Ledger
from snakepit_port.supervisor.pump import Pump
from snakepit_port.supervisor.worker_process import WorkerProcess
from snakepit_port.wire import messages


class FullPump(Pump):
    """Can wait for so many descriptors, as where `fs.epoll.max_user_watches` is reached."""

    room: float = math.inf

    def watch(self, fd: int, events: int, ready: Callable[[int], None]) -> None:
        if events and len(self._watched) >= self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().watch(fd, events, ready)


class FakeRunner:
    """What a worker's process needs of its pool."""

    def __init__(self) -> None:
        self.name = "default"
        self.pump = FullPump()
        self.ledger = Ledger()
        self.max_frame_bytes = 1000
        self.outside = SimpleNamespace(shm=None)
        self.listener = SimpleNamespace(said=lambda *_: None)

    def worker_hello(self, *_: Any) -> dict[str, Any]:
        return {}


@pytest.fixture
def runner() -> Iterator[Any]:
    runner = FakeRunner()
    yield runner
    runner.ledger.close()
    runner.pump.close()


@pytest.mark.parametrize("pipes", [0, 1, 2])
def test_nothing_is_left_where_there_are_no_descriptors(
    runner: Any, pipes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, int]] = []
    pipe = os.pipe

    def few() -> tuple[int, int]:
        if len(made) == pipes:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        made.append(pipe())
        return made[-1]

    source: Any = None
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "pipe", few)
    with pytest.raises(OSError, match="Too many open files"):
        WorkerProcess(runner, source, Worker("default-1", 0.0), again=False)
    monkeypatch.undo()
    assert len(made) == pipes
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("room", range(4))
def test_nothing_is_left_where_descriptors_cannot_be_waited_for(runner: Any, room: int) -> None:
    pump = runner.pump
    pump.room = room
    source: Any = None
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="No space left"):
        WorkerProcess(runner, source, Worker("default-1", 0.0), again=False)
    assert os.listdir("/proc/self/fd") == before
    assert not pump._watched
    pump.flush()
    pump.room = math.inf
    process = WorkerProcess(runner, source, Worker("default-2", 0.0), again=False)
    assert process.slot == 0
    for fd in process.inherited:
        os.close(fd)
    process.close()
    assert os.listdir("/proc/self/fd") == before


def test_a_worker_reads_what_was_sent_before_the_end_and_its_slot_is_used_again(
    runner: Any,
) -> None:
    source: Any = None
    for number in range(2):
        process = WorkerProcess(runner, source, Worker(f"default-{number}", 0.0), again=False)
        assert process.slot == 0
        process.link.send(messages.ping(number))
        process.finish()
        channel, *others = process.inherited
        with socket.socket(fileno=channel) as theirs, theirs.makefile("rb") as said:
            assert said.read() == messages.hello({}) + messages.ping(number)
        for fd in others:
            os.close(fd)
        process.close()
