"""A stream call as its consumer sees it: an async iterator, and how much of it is under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import trio

from snakepit_port.harness.reports import CallError
from snakepit_port.wire.grammar import ProtocolError

#: Chunks under way at most, unless the consumer says otherwise: what a worker makes of small ones
#: while credit is on its way.
WINDOW = 512

#: Chunks under way at first, when nobody knows yet how large they are.
FIRST_WINDOW = 2

#: Bytes under way that are enough to keep a stream of large chunks going.
WINDOW_BYTES = 1024 * 1024

#: How fast a large chunk is forgotten, when smaller ones follow.
_DECAY = 0.9


class Window:
    """How many chunks may be under way: granted, and not yet taken by the consumer.

    It begins small and doubles as chunks are taken, up to `most` chunks or about `WINDOW_BYTES`,
    but never below one chunk. So the memory that waiting chunks take is bounded by their size, not
    only by their number. No I/O. Raises `ValueError` if `most` is below one.
    """

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError(f"a window is at least one chunk, not {most}")
        self._most = most
        self._size = min(most, FIRST_WINDOW)
        self._under_way = self._size
        self._largest = 1.0

    @property
    def under_way(self) -> int:
        """At first, the credit that goes with the call."""
        return self._under_way

    def taken(self, size: int) -> int:
        """The consumer took a chunk of `size` bytes; returns the credit to grant, often none."""
        self._under_way -= 1
        self._largest = max(size, self._largest * _DECAY)
        if self._under_way * 2 > self._size:
            return 0
        fitting = max(1, int(WINDOW_BYTES / self._largest))
        self._size = min(2 * self._size, self._most, fitting)
        credit = max(0, self._size - self._under_way)
        self._under_way += credit
        return credit


class Stream:
    """An async iterator over the chunks of one call. Made by `Host.stream`.

    It ends when the command has returned; `result` is then what it returned. Cancelling `__anext__`
    takes nothing.
    """

    def __init__(
        self, window: Window, grant: Callable[[int], None], decode: Callable[[bytes], Any]
    ) -> None:
        self._window = window
        self._grant = grant
        self._decode = decode
        self._credit = window.under_way  # What the supervisor has and has not used.
        self._chunks: deque[bytes] = deque()
        self._news = trio.lowlevel.ParkingLot()
        self._answered = False
        self._payload: bytes | None = None
        #: The result, where files went with it and it was read at once.
        self.value: Any = None
        self._error: CallError | None = None
        self._left = False
        #: What the command returned, once the iteration is over.
        self.result: Any = None

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        """The next chunk.

        Raises:
            CallError: the call ended without a result; the chunks before that have been given out.
            trio.ClosedResourceError: the `async with` block of the stream is over.
        """
        await trio.lowlevel.checkpoint()
        while not self._chunks:
            if self._left:
                raise trio.ClosedResourceError("this stream was left")
            if self._error is not None:
                raise self._error
            if self._answered:
                payload = self._payload
                self.result = self.value if payload is None else self._decode(payload)
                raise StopAsyncIteration
            await self._news.park()
        chunk = self._chunks.popleft()
        credit = self._window.taken(len(chunk))
        if credit and not self._answered:
            self._credit += credit
            self._grant(credit)
        return self._decode(chunk)

    # -- for the link ------------------------------------------------------------------------------

    def chunk(self, payload: bytes) -> None:
        """A chunk arrived. Raises `ProtocolError` if there was no credit for it."""
        if not self._credit:
            raise ProtocolError("a chunk without credit")
        self._credit -= 1
        self._chunks.append(payload)
        self._news.unpark_all()

    def answer(self, payload: bytes | None, error: CallError | None) -> None:
        """The terminal answer arrived; no payload: it is in `value`."""
        self._answered = True
        self._payload = payload
        self._error = error
        self._news.unpark_all()

    def leave(self) -> None:
        """The consumer wants no more of it."""
        self._left = True
        self._chunks.clear()
        self._news.unpark_all()
