"""What counts as a frame between the supervisor and a starter, and from whom."""

from __future__ import annotations

import signal
from collections.abc import Container

import pytest

from snakepit_port.worker.starter_frames import (
    FROM_STARTER,
    TO_STARTER,
    exited,
    failed,
    finish,
    hello,
    parse,
    ping,
    pong,
    start,
    start_failed,
    started,
)
from snakepit_port.worker.starter_frames import signal as send_signal

OF_BOTH = [hello({})]
OF_THE_STARTER = [
    failed({}),
    started("a-1", 1234),
    start_failed("a-1", "no"),
    exited("a-1", signal.SIGKILL),
    exited("a-1", 70 << 8),
    pong(),
]
OF_THE_SUPERVISOR = [start("a-1", 0), send_signal("a-1", 9, True), ping(), finish()]


def reads(frame: bytes, tags: Container[str]) -> bool:
    try:
        parse(frame, tags)
    except ValueError:
        return False
    return True


def test_each_is_said_by_one_side() -> None:
    for frame in OF_BOTH + OF_THE_STARTER:
        assert reads(frame, FROM_STARTER)
    for frame in OF_BOTH + OF_THE_SUPERVISOR:
        assert reads(frame, TO_STARTER)
    for frame in OF_THE_STARTER:
        assert not reads(frame, TO_STARTER)
    for frame in OF_THE_SUPERVISOR:
        assert not reads(frame, FROM_STARTER)


@pytest.mark.parametrize("pid", [-1, 0, 1, 2**31, 2**70])
def test_no_process_is_one_that_kill_takes_for_others(pid: int) -> None:
    assert not reads(started("a-1", pid), FROM_STARTER)


@pytest.mark.parametrize("status", [-1, 2**16, 2**70, signal.SIGSTOP << 8 | 0x7F])
def test_a_status_is_that_of_one_that_ended(status: int) -> None:
    assert not reads(exited("a-1", status), FROM_STARTER)
