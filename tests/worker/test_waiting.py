"""Waiting for a descriptor, in which no signal is missed: in this process, with real signals."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from snakepit_port.worker.waiting import Waiting


@pytest.fixture
def peer() -> Iterator[tuple[Waiting, socket.socket, int]]:
    """What waits, the other end of its channel, and where the signals were told of before."""
    ours, theirs = socket.socketpair()
    told, tell = os.pipe()
    for fd in (told, tell):
        os.set_blocking(fd, False)
    handler = signal.getsignal(signal.SIGALRM)
    before = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    waiting = Waiting(ours)
    yield waiting, theirs, told
    assert signal.set_wakeup_fd(before, warn_on_full_buffer=False) == tell
    waiting.close()
    signal.signal(signal.SIGALRM, handler)
    for end in (ours, theirs):
        end.close()
    for fd in (told, tell):
        os.close(fd)


def test_what_is_there_ends_it(peer: tuple[Waiting, socket.socket, int]) -> None:
    waiting, theirs, told = peer
    theirs.send(b"!")
    waiting.wait()
    with pytest.raises(BlockingIOError):
        os.read(told, 1)


@contextmanager
def alarms() -> Iterator[None]:
    """One after the other, from another thread, for as long as this lasts."""
    over = threading.Event()
    main = threading.get_ident()

    def send() -> None:
        while not over.is_set():
            signal.pthread_kill(main, signal.SIGALRM)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join()


def test_a_signal_ends_it_and_is_told_to_whom_it_was_for(
    peer: tuple[Waiting, socket.socket, int],
) -> None:
    waiting, _, told = peer
    signal.signal(signal.SIGALRM, lambda *_: None)
    with alarms():
        for _ in range(20):
            waiting.wait()
    assert set(os.read(told, 2**20)) == {signal.SIGALRM}


def test_what_a_handler_raises_ends_it(peer: tuple[Waiting, socket.socket, int]) -> None:
    waiting, theirs, told = peer
    raises = False

    def late(*_: Any) -> None:
        nonlocal raises
        if raises:
            raises = False
            raise TimeoutError

    def wait() -> None:
        nonlocal raises
        raises = True
        while True:
            waiting.wait()

    signal.signal(signal.SIGALRM, late)
    with alarms():
        for _ in range(20):
            with pytest.raises(TimeoutError):
                wait()
    theirs.send(b"!")
    waiting.wait()
    assert set(os.read(told, 2**20)) == {signal.SIGALRM}
