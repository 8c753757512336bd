"""Which thread of a worker is woken for a call, one step at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from snakepit_port.adapter import CallCancelled
from snakepit_port.wire.framing import Framer
from snakepit_port.worker import stacks, threads
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
    for _ in range(3):
        assert runtime.take(lane) is None
    lane.wake()
    runtime._queue.append((300, "first", b"", None, 1))
    assert runtime.take(lane) is not None
    runtime._queue.append((301, "second", b"", None, 1))
    runtime._hand_over()
    assert not other._woken.locked()


def test_an_id_that_is_used_again_is_that_of_the_new_call(runtime: ThreadedRuntime) -> None:
    """Whose thread has taken that up before the other was done with the old one."""
    other, lane = _Lane(runtime, 1), _Lane(runtime, 2)
    for one in (other, lane):
        runtime._queue.append((300, "count", b"", None, 1))
        assert runtime.take(one) is not None
    assert runtime.take(other) is None
    assert runtime._lane_of(300) is lane


def test_credit_that_comes_before_there_is_a_stream_counts_once(runtime: ThreadedRuntime) -> None:
    lane, stream = _Lane(runtime, 1), Stream(301, "count", 0)
    for id, credit in ((300, 5), (301, 2)):
        runtime._queue.append((id, "count", b"", 0, 1))
        assert runtime.take(lane) is not None
        lane.grant(credit)
    for left in (1, 0):
        assert lane._take_credit(stream)
        assert stream.credit == left


def test_calls_one_after_the_other_do_not_run_at_the_same_time(
    runtime: ThreadedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported = []
    monkeypatch.setattr(runtime, "_report", lambda *_, **about: reported.append(about))
    runtime._checks, runtime._thread_safe = True, None
    for number in range(2):
        lane = _Lane(runtime, number)
        runtime._lanes.append(lane)
        runtime._queue.append((number, "add", b"", None, 1))
        assert runtime.take(lane) is not None
        runtime.entering(lane)
        assert runtime.take(lane) is None
    assert reported == []


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


def test_nothing_is_raised_in_the_middle_of_a_question(
    runtime: ThreadedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threads, "_set_async_exc", lambda _thread, exc: raised.append(exc))
    lane = _Lane(runtime, 1)
    monkeypatch.setattr(lane, "_send", lambda _frame: lane.cancel())
    lane._begin(300)
    with pytest.raises(CallCancelled):
        lane.ask(lane.question(), b"")
    assert raised == []


def test_what_was_left_for_a_thread_is_raised_before_a_frame_and_not_in_it(
    runtime: ThreadedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[type[BaseException]] = []

    def have_raised() -> None:
        raise left.pop()

    monkeypatch.setattr(threads, "_set_async_exc", lambda _thread, exc: left.append(exc))
    monkeypatch.setattr(threads, "_have_raised", have_raised)
    lane = _Lane(runtime, 1)
    lane._begin(300)
    lane.cancel()
    with pytest.raises(CallCancelled):
        lane.tell(b"frame")
    assert runtime.out.waiting == []


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
