"""Which thread of a worker is woken for a call, one step at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from snakepit_port.wire.framing import Framer
from snakepit_port.worker import stacks
from snakepit_port.worker.calls import Answers
from snakepit_port.worker.loading import Adapter
from snakepit_port.worker.streams import Stream
from snakepit_port.worker.threads import ThreadedRuntime, _Lane


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedRuntime]:
    """One in this process, whose lanes do what a test says and no more."""
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)
    ours, theirs = socket.socketpair()
    info = {"max_frame_bytes": 1024, "thread_safety_checks": False}
    runtime = ThreadedRuntime(ours, memoryview(bytearray(8)).cast("Q"), 0, info, Framer(1024))
    runtime.answers = Answers(cast(Adapter, None), "default", "worker-1", 1024)
    yield runtime
    ours.close()
    theirs.close()


def test_one_that_takes_a_call_unasked_is_not_idle_any_more(runtime: ThreadedRuntime) -> None:
    """It was woken for a stream that is over, looks again, and finds a call before anybody is
    chosen for that. Who is chosen for the next call has to be another."""
    other, lane = _Lane(runtime, 1), _Lane(runtime, 2)
    assert runtime.take(other) is None
    assert runtime.take(lane) is None
    lane.wake()
    runtime._queue.append((300, "first", b"", None, 1))
    assert runtime.take(lane) is not None
    runtime._queue.append((301, "second", b"", None, 1))
    runtime._hand_over()
    assert not other._woken.locked()


def test_a_child_has_no_lock_that_another_thread_held(
    runtime: ThreadedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Signals are those of this process.
    monkeypatch.setattr(stacks, "forget", lambda: None)
    lane = _Lane(runtime, 1)
    runtime._lanes = [lane]
    with runtime.lock, lane._arming:
        runtime._forked()
        assert not lane._lock.locked()
        assert not lane._arming.locked()


class Fleeting(_Lane):
    """Its stream ends as soon as it was looked at."""

    looks: list[Stream | None] = []  # noqa: RUF012 (each test sets its own)

    @property
    def _stream(self) -> Stream | None:
        return self.looks.pop(0) if self.looks else None

    @_stream.setter
    def _stream(self, stream: Stream | None) -> None: ...


def test_a_stream_may_end_while_it_is_granted_credit_or_cancelled(runtime: ThreadedRuntime) -> None:
    lane, stream = Fleeting(runtime, 1), Stream(300, "count", 0)
    lane.looks = [stream]
    lane.grant(2)
    assert stream.credit == 2
    lane.looks = [stream]
    lane.cancel()
    assert stream.cancelled
