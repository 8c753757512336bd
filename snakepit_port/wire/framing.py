"""`{packet, 4}` framing: bytes in, whole frames out. No I/O.

A frame is a 4-byte big-endian length and that many bytes of payload (`erlang:open_port/2`). Frames
come out as `bytes` with the length still in front, so that they can be forwarded as they are; the
payload begins at offset 4.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple, Union

#: Bytes of length in front of a payload.
HEADER_BYTES = 4

#: The largest payload that `{packet, 4}` can announce.
MAX_PAYLOAD_BYTES = 2**32 - 1

#: How much of a frame that is too large is kept: enough to find out which call it belongs to.
OVERSIZED_HEAD_BYTES = 512

#: Pieces smaller than this are gathered in one buffer while a frame is incomplete, so that a peer
#: that drips a frame byte by byte does not cost an object for every piece. Larger ones are kept as
#: they came, and copied once, into the frame.
_SMALL_PIECE = 4096

_LENGTH = Struct(">I")
_length_at = _LENGTH.unpack_from


class Oversized(NamedTuple):
    """A frame over the limit. Its body is skipped as it streams past."""

    #: Payload bytes that its length announced.
    size: int
    #: The first payload bytes: all of them, or `OVERSIZED_HEAD_BYTES`.
    head: bytes


Frame = Union[bytes, Oversized]


def cut_to(max_frame_bytes: int, frame: Frame) -> Frame:
    """A frame as it would have come out under a lower limit than it did."""
    size = len(frame) - HEADER_BYTES
    if isinstance(frame, Oversized) or size <= max_frame_bytes:
        return frame
    return Oversized(size, frame[HEADER_BYTES : HEADER_BYTES + OVERSIZED_HEAD_BYTES])


def pack(payload: bytes) -> bytes:
    """The frame that holds a payload. Raises `ValueError` over `MAX_PAYLOAD_BYTES`."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"{len(payload)} bytes do not fit into one frame")
    return _LENGTH.pack(len(payload)) + payload


class Framer:
    """Cuts one direction of a link into frames.

    `max_frame_bytes` bounds a payload; the 4 bytes of length do not count. A length is never
    trusted: only bytes that have arrived take memory.
    """

    __slots__ = ("_gathered", "_max", "_missing", "_parts", "_skip")

    def __init__(self, max_frame_bytes: int) -> None:
        self._max = max_frame_bytes
        # The first bytes of a frame that is not complete, its length among them.
        self._parts: list[bytes | bytearray] = []
        self._gathered = 0
        # How many more bytes it takes to know the length, or else to have the frame (of one that
        # is too large: the head).
        self._missing = HEADER_BYTES
        # Bytes of an oversized frame that have yet to stream past.
        self._skip = 0

    def limit(self, max_frame_bytes: int) -> None:
        """Another bound from now on, for a frame that is not complete yet, too."""
        self._max = max_frame_bytes
        if self._gathered >= HEADER_BYTES:
            (size,) = _length_at(self._parts[0])
            # Of a frame that is too large now the head may be there already: then nothing is
            # missing, and it comes out when the next bytes arrive.
            self._missing = max(0, HEADER_BYTES + self._kept_of(size) - self._gathered)

    def _kept_of(self, size: int) -> int:
        """How much is kept of a payload of so many bytes."""
        return size if size <= self._max else min(size, OVERSIZED_HEAD_BYTES)

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """The frames that these bytes complete, in order.

        `data` may be cut anywhere, and reused by the caller afterwards. A frame over the limit
        appears once, as `Oversized`, as soon as its head is there.
        """
        if type(data) is not bytes:
            data = bytes(data)
        end = len(data)
        if end > HEADER_BYTES and not self._gathered and not self._skip:
            (size,) = _length_at(data)
            if size == end - HEADER_BYTES and size <= self._max:
                return [data]
        frames: list[Frame] = []
        pos = 0
        while pos < end:
            if self._skip:
                step = min(self._skip, end - pos)
                self._skip -= step
                pos += step
            elif self._gathered:
                pos = self._resume(data, pos, frames)
            else:
                pos = self._cut(data, pos, frames)
        return frames

    def _cut(self, data: bytes, pos: int, frames: list[Frame]) -> int:
        """Takes whole frames from `pos` on, and the length of one that is cut or too large."""
        end = len(data)
        limit = self._max
        append = frames.append
        while end - pos >= HEADER_BYTES:
            (size,) = _length_at(data, pos)
            stop = pos + HEADER_BYTES + size
            if size > limit or stop > end:
                break
            append(data[pos:stop])
            pos = stop
        header = data[pos : pos + HEADER_BYTES]
        if header:
            self._gather(header)
        return pos + len(header)

    def _resume(self, data: bytes, pos: int, frames: list[Frame]) -> int:
        """Takes what the incomplete frame is missing."""
        piece = data[pos : pos + self._missing]
        self._gather(piece)
        if self._missing == 0:
            self._finish(frames)
        return pos + len(piece)

    def _gather(self, piece: bytes) -> None:
        parts = self._parts
        if len(piece) >= _SMALL_PIECE:
            parts.append(piece)
        elif parts and type(parts[-1]) is bytearray:
            parts[-1] += piece
        else:
            parts.append(bytearray(piece))
        self._gathered += len(piece)
        self._missing -= len(piece)
        if self._gathered == HEADER_BYTES:
            (size,) = _length_at(parts[0])
            self._missing = self._kept_of(size)

    def _finish(self, frames: list[Frame]) -> None:
        whole = b"".join(self._parts)
        (size,) = _length_at(whole)
        if size <= self._max:
            frames.append(whole)
        else:
            frames.append(
                Oversized(size, whole[HEADER_BYTES : HEADER_BYTES + OVERSIZED_HEAD_BYTES])
            )
            self._skip = size + HEADER_BYTES - len(whole)
        self._parts.clear()
        self._gathered = 0
        self._missing = HEADER_BYTES
