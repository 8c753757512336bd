"""Frames on their way out of a worker, and the thread that looks after what would wait."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from worker_driver import TIMEOUT

from snakepit_port.worker.outgoing import FLUSH_BYTES, LateWriter, Outgoing


@pytest.fixture
def channel() -> Iterator[tuple[Outgoing, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(TIMEOUT)
    yield Outgoing(ours), theirs
    ours.close()
    theirs.close()


def test_frames_are_gathered_until_they_are_much(channel: tuple[Outgoing, socket.socket]) -> None:
    outgoing, theirs = channel
    outgoing.put(b"a" * 10)
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    outgoing.put(b"b" * FLUSH_BYTES)
    assert len(theirs.recv(2 * FLUSH_BYTES)) == FLUSH_BYTES + 10
    outgoing.put(b"c")
    outgoing.flush()
    assert theirs.recv(10) == b"c"


class Rung:
    """A channel in the midst of whose writing a signal handler of an adapter's runs."""

    def __init__(self) -> None:
        self.outgoing = Outgoing(self)  # type: ignore[arg-type]
        self.written: list[bytes] = []
        self.raises: type[BaseException] | None = None

    def sendall(self, data: bytes) -> None:
        self.outgoing.put(b"of the handler")
        self.outgoing.flush()
        if self.raises is not None:
            raise self.raises
        self.written.append(data)


def test_what_a_signal_handler_says_does_not_get_into_a_frame() -> None:
    channel = Rung()
    channel.outgoing.put(b"a frame")
    channel.outgoing.flush()
    assert channel.written == [b"a frame"]
    assert channel.outgoing.waiting == [b"of the handler"]


@pytest.mark.parametrize("raises", [KeyboardInterrupt, TimeoutError])
def test_nothing_follows_a_part_of_a_frame(raises: type[BaseException]) -> None:
    channel = Rung()
    channel.outgoing.put(b"a frame")
    channel.raises = raises
    with pytest.raises(raises):
        channel.outgoing.flush()
    channel.raises = None
    channel.outgoing.put(b"a last one")
    channel.outgoing.flush()
    assert channel.written == []


def test_a_peer_that_is_gone_is_told_each_time(channel: tuple[Outgoing, socket.socket]) -> None:
    outgoing, theirs = channel
    theirs.close()
    for _ in range(2):
        outgoing.put(b"a frame")
        with pytest.raises(BrokenPipeError):
            outgoing.flush()


def test_what_is_left_is_written_late(channel: tuple[Outgoing, socket.socket]) -> None:
    outgoing, theirs = channel
    late = LateWriter(outgoing)
    for number in range(50):
        frame = str(number).encode()
        outgoing.put(frame)
        late.ask()
        assert theirs.recv(10) == frame
    late.close()
    assert outgoing.waiting == []


def test_frames_keep_their_order_whoever_writes_them(
    channel: tuple[Outgoing, socket.socket],
) -> None:
    outgoing, theirs = channel
    count = 200_000
    got = bytearray()

    def read() -> None:
        while len(got) < 4 * count:
            got.extend(theirs.recv(FLUSH_BYTES))

    reader = threading.Thread(target=read)
    reader.start()
    others = [LateWriter(outgoing) for _ in range(3)]
    for number in range(count):
        outgoing.put(number.to_bytes(4, "big"))
        others[number % 3].ask()
    outgoing.flush()
    for other in others:
        other.close()
    reader.join(TIMEOUT)
    assert got == b"".join(number.to_bytes(4, "big") for number in range(count))


def test_it_ends_though_it_was_about_to_look_away(
    channel: tuple[Outgoing, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    late = LateWriter(channel[0])
    begun, closing = threading.Event(), threading.Event()

    def wait(timeout: float) -> bool:
        """Its time is up just before it is closed."""
        begun.set()
        closing.wait(TIMEOUT)
        return False

    monkeypatch.setattr(late._closed, "wait", wait)
    join = threading.Thread.join
    monkeypatch.setattr(
        threading.Thread, "join", lambda thread: [closing.set(), join(thread, TIMEOUT)]
    )
    late.ask()
    assert begun.wait(TIMEOUT)
    late.close()
    assert late._thread is not None
    assert not late._thread.is_alive()


def test_it_ends_when_nobody_reads_any_more(channel: tuple[Outgoing, socket.socket]) -> None:
    outgoing, theirs = channel
    theirs.close()
    late = LateWriter(outgoing)
    outgoing.put(b"a")
    late.ask()
    assert late._thread is not None
    late._thread.join(TIMEOUT)
    assert not late._thread.is_alive()
    late.close()


def test_it_looks_less_often_where_others_write(
    channel: tuple[Outgoing, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    outgoing, _ = channel
    late = LateWriter(outgoing)
    waits: list[float] = []

    def wait(timeout: float) -> bool:
        waits.append(timeout)
        outgoing.flush()
        outgoing.put(b"a")
        if len(waits) == 6:
            late._closed.set()
        return False

    monkeypatch.setattr(late._closed, "wait", wait)
    outgoing.put(b"a")
    late.ask()
    assert late._thread is not None
    late._thread.join(TIMEOUT)
    assert waits == [0.002, 0.004, 0.008, 0.016, 0.016, 0.016]


def test_where_no_thread_can_be_had_nothing_is_late(
    channel: tuple[Outgoing, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    outgoing, theirs = channel
    late = LateWriter(outgoing)
    for frame in (b"a", b"b"):
        outgoing.put(frame)
        late.ask()
        assert theirs.recv(10) == frame
    late.close()
