"""Cutting a stream of bytes into frames, however the bytes arrive."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakepit_port.wire.framing import OVERSIZED_HEAD_BYTES, Framer, Oversized, cut_to, pack

LIMIT = 2000

payloads = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 3 * LIMIT).map(lambda n: (b"0123456789" * (n // 10 + 1))[:n]),
)
streams = st.lists(payloads, max_size=12)

#: Comes out under any limit, and alone if nothing is left of the frames before.
NEXT = pack(b"")


def expected(contents: list[bytes], limit: int = LIMIT) -> list[bytes | Oversized]:
    """What a stream of these payloads must come out as."""
    return [
        pack(content)
        if len(content) <= limit
        else Oversized(len(content), content[:OVERSIZED_HEAD_BYTES])
        for content in contents
    ]


def feed_in_pieces(framer: Framer, data: bytes, cuts: list[int]) -> list[bytes | Oversized]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    frames = []
    for start, stop in itertools.pairwise(edges):
        frames += framer.feed(data[start:stop])
    return frames


def test_a_frame_keeps_its_length_in_front():
    assert Framer(LIMIT).feed(b"\0\0\0\x02ab") == [b"\0\0\0\x02ab"]
    assert pack(b"ab") == b"\0\0\0\x02ab"


def test_an_empty_frame_is_a_frame():
    assert Framer(LIMIT).feed(pack(b"") * 2) == [pack(b"")] * 2


@given(contents=streams)
def test_whole_streams(contents):
    framer = Framer(LIMIT)
    assert framer.feed(b"".join(map(pack, contents))) == expected(contents)
    assert framer.feed(NEXT) == [NEXT]


@given(contents=streams, cuts=st.lists(st.integers(0, 10**6), max_size=20))
def test_streams_cut_anywhere_give_the_same_frames(contents, cuts):
    framer = Framer(LIMIT)
    data = b"".join(map(pack, contents))
    assert feed_in_pieces(framer, data, cuts) == expected(contents)
    assert framer.feed(NEXT) == [NEXT]


@given(contents=st.lists(st.binary(max_size=600), max_size=5), limit=st.integers(0, 700))
def test_byte_by_byte(contents, limit):
    framer = Framer(limit)
    data = b"".join(map(pack, contents))
    frames = []
    for i in range(len(data)):
        frames += framer.feed(data[i : i + 1])
    assert frames == expected(contents, limit)
    assert framer.feed(NEXT) == [NEXT]


@given(
    contents=streams,
    cut=st.integers(0, 10**6),
    before=st.integers(0, 3 * LIMIT),
    after=st.integers(0, 3 * LIMIT),
)
def test_another_limit_counts_from_where_it_is_set(contents, cut, before, after):
    framer = Framer(before)
    data = b"".join(map(pack, contents))
    cut %= len(data) + 1
    frames = framer.feed(data[:cut])
    framer.limit(after)
    told = len(frames)
    frames += framer.feed(data[cut:])
    assert frames == expected(contents[:told], before) + expected(contents[told:], after)
    assert framer.feed(NEXT) == [NEXT]


@pytest.mark.parametrize("before", [1, OVERSIZED_HEAD_BYTES, 2 * LIMIT])
def test_a_piece_that_looks_like_a_frame_may_be_of_another(before):
    content = b"x" * before + pack(b"ab") + b"y"
    edges = [4 + before, 4 + before + 6]
    framer = Framer(LIMIT)
    assert feed_in_pieces(framer, pack(content), edges) == expected([content])
    assert framer.feed(NEXT) == [NEXT]


@given(content=payloads, limit=st.integers(0, LIMIT))
def test_a_frame_can_be_cut_to_a_limit(content, limit):
    (frame,) = Framer(3 * LIMIT).feed(pack(content))
    assert [cut_to(limit, frame)] == expected([content], limit)
    oversized = Oversized(4 * LIMIT, b"")
    assert cut_to(limit, oversized) is oversized


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_the_caller_may_reuse_its_buffer(kind):
    buffer = bytearray(pack(b"x" * 10) + pack(b"y" * 5000)[:-1])
    framer = Framer(10_000)
    frames = framer.feed(kind(buffer))
    buffer[:] = b"\xff" * len(buffer)
    frames += framer.feed(kind(bytearray(b"y")))
    assert frames == [pack(b"x" * 10), pack(b"y" * 5000)]
    assert all(type(frame) is bytes for frame in frames)


def test_an_oversized_frame_is_told_as_soon_as_its_head_is_there():
    framer = Framer(1000)
    header = (2**32 - 1).to_bytes(4, "big")
    assert framer.feed(header + b"a" * 511) == []
    assert framer.feed(b"bc") == [Oversized(2**32 - 1, b"a" * 511 + b"b")]


def test_an_oversized_body_is_not_kept():
    framer = Framer(1000)
    framer.feed((2**31).to_bytes(4, "big") + bytes(512))
    piece = bytes(2**16)
    tracemalloc.start()
    for _ in range(200):
        assert framer.feed(piece) == []
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000


def test_a_claimed_length_takes_no_memory():
    tracemalloc.start()
    framer = Framer(2**32 - 1)
    framer.feed((2**32 - 1).to_bytes(4, "big") + b"x")
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000


@pytest.mark.parametrize(("size", "piece"), [(2_000_000, 1000), (200_000, 2), (40_000_000, 65_536)])
def test_a_dripping_frame_costs_little_more_than_its_bytes(size, piece):
    # Copying what has arrived for every piece would copy up to 10^10 bytes here, and an object
    # for each piece of two bytes would take ten times the memory of the frame.
    frame = pack(bytes(size))
    framer = Framer(size)
    tracemalloc.start()
    for pos in range(0, len(frame) - 1, piece):
        framer.feed(frame[pos : min(pos + piece, len(frame) - 1)])
    kept, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1.3 * size + 20_000
    assert framer.feed(frame[-1:]) == [frame]


def test_pack_refuses_what_the_length_cannot_say():
    class Huge(bytes):
        def __len__(self) -> int:
            return 2**32

    with pytest.raises(ValueError, match="4294967296 bytes"):
        pack(Huge())
