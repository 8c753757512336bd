"""Frames over non-blocking descriptors, and the one task that waits for all of them."""

from __future__ import annotations

import errno
import math
import os
import socket
from collections.abc import Iterator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from snakepit_port.supervisor import pump as pumps
from snakepit_port.supervisor.link import Link
from snakepit_port.supervisor.pump import READ, Pump
from snakepit_port.supervisor.starter import _Control
from snakepit_port.wire.framing import Frame, Oversized, pack
from snakepit_port.worker import starter_frames


class Peer:
    """A link of the supervisor, and the other end of its socket."""

    def __init__(self, pump: Pump, max_frame_bytes: int = 1000) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.received: list[Frame] = []
        self.closed = 0
        fd = self.ours.fileno()
        self.link = Link(pump, fd, fd, max_frame_bytes, self.received.extend, self._closed)

    def _closed(self) -> None:
        self.closed += 1

    def close(self) -> None:
        self.link.close()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def pump() -> Iterator[Pump]:
    pump = Pump()
    yield pump
    pump.close()


@pytest.fixture
def peer(pump: Pump) -> Iterator[Peer]:
    peer = Peer(pump)
    yield peer
    peer.close()


def read_all(sock: socket.socket) -> bytes:
    """What is there to read now."""
    sock.setblocking(False)
    data = b""
    try:
        while piece := sock.recv(2**20):
            data += piece
    except BlockingIOError:
        pass
    return data


async def turn(pump: Pump) -> None:
    """One turn that does not wait."""
    await pump.turn(-math.inf)


async def test_frames_that_arrive_together_are_received_together(pump: Pump, peer: Peer) -> None:
    peer.theirs.sendall(pack(b"one") + pack(b"") + pack(b"three"))
    await pump.turn(math.inf)
    assert peer.received == [pack(b"one"), pack(b""), pack(b"three")]


async def test_a_frame_may_arrive_in_pieces(pump: Pump, peer: Peer) -> None:
    frame = pack(b"a frame")
    for byte in frame[:-1]:
        peer.theirs.sendall(bytes([byte]))
        await pump.turn(math.inf)
        assert peer.received == []
    peer.theirs.sendall(frame[-1:])
    await pump.turn(math.inf)
    assert peer.received == [frame]


async def test_a_frame_over_the_limit_is_told(pump: Pump, peer: Peer) -> None:
    peer.theirs.sendall(pack(b"x" * 1001) + pack(b"next"))
    await pump.turn(math.inf)
    assert peer.received == [Oversized(1001, b"x" * 512), pack(b"next")]


async def test_one_write_takes_everything_that_was_sent_in_a_turn(
    pump: Pump, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: writes.append(fd) or write(fd, data))
    for number in range(100):
        peer.link.send(pack(b"%d" % number))
    assert not writes
    pump.flush()
    assert len(writes) == 1
    assert read_all(peer.theirs) == b"".join(pack(b"%d" % number) for number in range(100))
    assert peer.link.out_bytes == 0


@pytest.mark.parametrize("size", [10, 5_000, 100_000])
async def test_what_does_not_fit_is_written_when_there_is_room(
    pump: Pump, peer: Peer, size: int
) -> None:
    frames = [pack(bytes([number % 256]) * size) for number in range(2_000_000 // size)]
    for frame in frames:
        peer.link.send(frame)
    sent = b"".join(frames)
    assert peer.link.out_bytes == len(sent)
    arrived = b""
    while peer.link.out_bytes:
        await turn(pump)
        arrived += read_all(peer.theirs)
    assert arrived + read_all(peer.theirs) == sent
    # Nobody is woken for room that is not needed.
    assert not pump._poller.poll(0)


async def test_a_paused_link_is_not_read(pump: Pump, peer: Peer) -> None:
    peer.link.pause(True)
    peer.theirs.sendall(pack(b"one"))
    await turn(pump)
    assert peer.received == []
    peer.link.pause(False)
    await pump.turn(math.inf)
    assert peer.received == [pack(b"one")]


async def test_a_paused_link_is_not_read_though_its_peer_hung_up(pump: Pump, peer: Peer) -> None:
    peer.link.send(bytes(2_000_000))
    pump.flush()
    peer.link.pause(True)
    peer.theirs.sendall(pack(b"one"))
    peer.theirs.close()
    await turn(pump)
    assert (peer.received, peer.closed) == ([], 0)
    assert pump.out_bytes == 0


async def test_what_a_closed_link_had_to_write_counts_no_more(pump: Pump, peer: Peer) -> None:
    peer.link.send(bytes(2_000_000))
    pump.flush()
    assert pump.out_bytes == peer.link.out_bytes > 0
    peer.link.close()
    assert pump.out_bytes == peer.link.out_bytes == 0


async def test_the_end_is_told_once_after_the_last_frames(pump: Pump, peer: Peer) -> None:
    peer.theirs.sendall(pack(b"one") + pack(b"cut")[:-1])
    peer.theirs.shutdown(socket.SHUT_WR)
    while not peer.closed:
        await pump.turn(math.inf)
    assert peer.received == [pack(b"one")]
    assert not peer.link.is_open
    peer.link.drain()
    await turn(pump)
    assert peer.closed == 1
    # The other direction is still there.
    peer.link.send(pack(b"farewell"))
    pump.flush()
    assert read_all(peer.theirs) == pack(b"farewell")


async def test_sending_to_a_peer_that_is_gone_drops_it(pump: Pump, peer: Peer) -> None:
    peer.theirs.close()
    peer.link.send(pack(b"one"))
    pump.flush()
    assert peer.link.out_bytes == 0
    peer.link.send(pack(b"two"))
    assert peer.link.out_bytes == 0


async def test_drain_reads_what_a_dead_peer_left_behind_even_when_paused(
    pump: Pump, peer: Peer
) -> None:
    peer.link.pause(True)
    peer.theirs.sendall(pack(b"last words"))
    peer.theirs.close()
    peer.link.drain()
    assert peer.received == [pack(b"last words")]
    assert peer.closed == 1


async def test_a_turn_ends_at_its_deadline(
    pump: Pump, autojump_clock: trio.testing.MockClock
) -> None:
    peer = Peer(pump)
    await pump.turn(trio.current_time() + 60)
    assert trio.current_time() == 60
    assert peer.received == []
    peer.close()


async def test_what_arrives_is_dated_when_it_came(
    pump: Pump, autojump_clock: trio.testing.MockClock
) -> None:
    """Not when the turn began: a call that took two seconds would have taken no time."""
    ours, theirs = socket.socketpair()
    came: list[float] = []
    pump.watch(ours.fileno(), READ, lambda _events: came.append(pump.now))

    async def peer() -> None:
        # Of the mock clock: what is tested is the time that it says.
        await trio.sleep(2)
        theirs.sendall(b"x")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer)
        await pump.turn(math.inf)
    assert came == [2]
    pump.watch(ours.fileno(), 0, lambda _events: None)
    ours.close()
    theirs.close()


async def test_the_end_of_a_pipe_is_told_to_who_waits_for_data(pump: Pump) -> None:
    ours, theirs = os.pipe()
    told: list[int] = []
    pump.watch(ours, READ, told.append)
    os.close(theirs)
    await turn(pump)
    assert [events & READ for events in told] == [READ]
    pump.forget(ours)
    os.close(ours)


async def test_a_callback_may_take_another_ready_descriptor_away(pump: Pump) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    called = []

    def ready(which: int) -> None:
        called.append(which)
        pump.watch(pairs[1 - which][0].fileno(), 0, lambda _: None)

    for which, (ours, theirs) in enumerate(pairs):
        theirs.sendall(b"x")
        pump.watch(ours.fileno(), READ, lambda _, which=which: ready(which))
    await pump.turn(math.inf)
    assert len(called) == 1
    for pair in pairs:
        for sock in pair:
            sock.close()


@given(st.lists(st.binary(max_size=300), max_size=30), st.lists(st.integers(1, 400)))
def test_frames_arrive_as_they_were_sent_however_they_are_cut(
    payloads: list[bytes], cuts: list[int]
) -> None:
    async def main() -> None:
        pump = Pump()
        peer = Peer(pump)
        stream = b"".join(map(pack, payloads))
        while stream:
            size = cuts.pop() if cuts else len(stream)
            peer.theirs.sendall(stream[:size])
            stream = stream[size:]
            await pump.turn(math.inf)
        assert peer.received == [pack(payload) for payload in payloads]
        peer.close()
        pump.close()

    trio.run(main)


async def test_a_pump_works_where_there_is_no_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pumps, "new_poller", pumps.Selector)
    pump = Pump()
    peer = Peer(pump)
    peer.theirs.sendall(pack(b"one"))
    await pump.turn(math.inf)
    assert peer.received == [pack(b"one")]
    filler = [pack(b"x" * 900) for _ in range(1000)]
    for frame in filler:
        peer.link.send(frame)
    await turn(pump)
    assert peer.link.out_bytes
    got = read_all(peer.theirs)
    while peer.link.out_bytes:
        assert pump.turn_at_once() or await turn(pump) is None
        got += read_all(peer.theirs)
    assert got == b"".join(filler)
    peer.theirs.close()
    await pump.turn(math.inf)
    assert peer.closed == 1
    peer.close()
    pump.close()


# -- a link that passes descriptors along ----------------------------------------------------------


class Control:
    """The link to a starter, and the starter's end."""

    def __init__(self, pump: Pump) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.not_sent: list[bytes] = []
        self.link = _Control(pump, self.ours, lambda _: None, lambda: None, self.not_sent.append)

    def close(self) -> None:
        self.link.close()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def control(pump: Pump) -> Iterator[Control]:
    control = Control(pump)
    yield control
    control.close()


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


async def test_descriptors_travel_with_their_frame_and_are_closed_here(
    pump: Pump, control: Control
) -> None:
    sent = [os.pipe() for _ in range(2)]
    inodes = [os.fstat(fd).st_ino for fd, _ in sent]
    control.link.send(pack(b"first"))
    for number, fds in enumerate(sent):
        control.link.send_with(pack(b"%d" % number), fds)
    pump.flush()
    assert not any(is_open(fd) for fds in sent for fd in fds)
    assert control.theirs.recv(len(pack(b"first"))) == pack(b"first")
    for number, inode in enumerate(inodes):
        frame, got, _, _ = socket.recv_fds(control.theirs, 100, 4)
        assert frame == pack(b"%d" % number)
        assert [os.fstat(fd).st_ino for fd in got] == [inode, inode]
        for fd in got:
            os.close(fd)


async def test_descriptors_go_once_though_their_frame_goes_in_parts(
    pump: Pump, control: Control
) -> None:
    first, last = os.pipe()
    frames = [bytes(2_000_000), pack(b"last")]
    control.link.send_with(frames[0], (first,))
    control.link.send_with(frames[1], (last,))
    arrived = b""
    while control.link.out_bytes:
        await turn(pump)
        arrived += read_all(control.theirs)
    assert arrived + read_all(control.theirs) == b"".join(frames)
    assert not is_open(first)
    assert not is_open(last)


@pytest.mark.parametrize("how", ["close", "finish", "the peer is gone"])
async def test_descriptors_that_cannot_go_are_closed(
    pump: Pump, control: Control, how: str
) -> None:
    early, late = os.pipe()
    control.link.send(bytes(2_000_000))
    control.link.send_with(pack(b"start"), (early,))
    pump.flush()
    assert is_open(early)
    if how == "close":
        control.link.close()
    elif how == "finish":
        control.link.finish()
    else:
        control.theirs.close()
        await turn(pump)
    assert not is_open(early)
    control.link.send_with(pack(b"start"), (late,))
    assert not is_open(late)


async def test_a_frame_whose_descriptors_the_system_does_not_take_is_told_and_no_other_lost(
    pump: Pump, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, taken = os.pipe()
    send_fds = socket.send_fds

    def send(sock: socket.socket, frames: list[bytes], fds: list[int]) -> int:
        if fds == [refused]:
            raise OSError(errno.ETOOMANYREFS, "Too many references: cannot splice")
        return send_fds(sock, frames, fds)

    monkeypatch.setattr(socket, "send_fds", send)
    control.link.send(pack(b"first"))
    control.link.send_with(pack(b"refused"), (refused,))
    control.link.send_with(pack(b"taken"), (taken,))
    control.link.send(pack(b"last"))
    pump.flush()
    assert control.not_sent == [pack(b"refused")]
    assert not is_open(refused)
    assert not is_open(taken)
    assert read_all(control.theirs) == pack(b"first") + pack(b"taken") + pack(b"last")


async def test_nothing_is_sent_after_the_end(pump: Pump, control: Control) -> None:
    control.link.finish()
    control.link.send(pack(b"more"))
    pump.flush()
    assert read_all(control.theirs) == starter_frames.finish()
