"""Frames of a host on their way out."""

from __future__ import annotations

import trio

from snakepit_port.harness.reports import CallError, call_error

#: Callers wait while more than this many bytes have not been written yet, so that a supervisor
#: that stops reading slows them down instead of filling this process's memory.
MAX_UNSENT_BYTES = 2**20

#: Why nothing goes out any more, and no answer comes, after `Outbox.close`.
CLOSED = "this host closed the link"


class Outbox:
    """Frames on their way out: any number of tasks put them here, one writes what has gathered.

    A caller never writes itself, so cancelling it cannot leave half a frame on the link.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._work = trio.Event()
        self._room = trio.lowlevel.ParkingLot()
        self.is_closed = False
        self._refusal: CallError | None = None

    def put(self, frame: bytes) -> None:
        """Queues a frame. Whoever is not answering or cancelling something awaits `room` first."""
        self._unsent.append(frame)
        self._unsent_bytes += len(frame)
        self._work.set()

    async def room(self) -> None:
        """Waits until there is little enough left to write. Raises `CallError` as `check` does."""
        self.check()
        while self._unsent_bytes > MAX_UNSENT_BYTES:
            await self._room.park()
            self.check()

    def check(self) -> None:
        """Raises the `CallError` that `refuse` was given, if it was."""
        if self._refusal is not None:
            raise CallError(self._refusal.details)

    def refuse(self, why: CallError) -> None:
        """From now on nobody gets room."""
        self._refusal = why
        self._room.unpark_all()

    def close(self) -> None:
        """Has `run` send end-of-file after what is queued."""
        self.is_closed = True
        self._work.set()
        if self._refusal is None:
            self.refuse(call_error("supervisor_down", CLOSED))

    async def run(self) -> None:
        """Writes until closed, or until the peer does not read any more."""
        try:
            while not self.is_closed or self._unsent:
                await self._work.wait()
                self._work = trio.Event()
                while self._unsent:
                    batch = b"".join(self._unsent)
                    self._unsent.clear()
                    self._unsent_bytes = 0
                    self._room.unpark_all()
                    await self._stream.send_all(batch)
            await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # Answers may still be on their way here; the reader finds the end of them.
            self.refuse(call_error("supervisor_down", "the supervisor closed its input"))
