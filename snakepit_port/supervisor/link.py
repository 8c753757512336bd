"""Frames over non-blocking descriptors."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from itertools import islice

from snakepit_port.supervisor.pump import READ, WRITE, Pump
from snakepit_port.wire.framing import Frame, Framer

#: Bytes taken from a descriptor in one go, and once that was not enough: all that a pipe holds. A
#: buffer that malloc maps afresh makes five times the cost of a small read.
READ_BYTES = 64 * 1024
READ_MORE_BYTES = 1024 * 1024

#: Buffers given to one writev; Linux and macOS take 1024.
_MAX_BUFFERS = 1024

#: Waiting frames are joined, and written in one go, up to so many bytes.
_JOIN_BYTES = 256 * 1024

#: Frames smaller than this are copied together before they are written, which is cheaper than
#: handing each to the kernel; larger ones are not copied.
_JOIN_BELOW = 64 * 1024


class Link:
    """Both directions of a link. `read_fd` and `write_fd` may be the same socket's.

    `received` gets the frames that arrived together; `closed` is called once, when the peer has
    closed its end or the link broke, after the last frames. What is sent after that is dropped.
    """

    def __init__(
        self,
        pump: Pump,
        read_fd: int,
        write_fd: int,
        max_frame_bytes: int,
        received: Callable[[list[Frame]], None],
        closed: Callable[[], None],
    ) -> None:
        self._pump = pump
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._framer = Framer(max_frame_bytes)
        self._read_bytes = READ_BYTES
        self._received = received
        self._closed = closed
        self._out: deque[bytes | memoryview] = deque()
        self.out_bytes = 0
        #: What of `out_bytes` the pump has in its sum.
        self._counted = 0
        self._flushes_soon = False
        self._paused = False
        self._blocked = False
        self._reading = True
        self._writable = True
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)
        self._update()

    # -- reading -----------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the peer may still say something."""
        return self._reading

    def limit(self, max_frame_bytes: int) -> None:
        """What may come from now on; frames that `received` has are of before."""
        self._framer.limit(max_frame_bytes)

    def pause(self, paused: bool) -> None:
        """Stop reading, or go on. What the peer writes stays in the kernel, and then blocks it."""
        if paused is not self._paused:
            self._paused = paused
            self._update()

    def drain(self) -> None:
        """Read what a dead peer left behind. Paused or not: the kernel's buffer bounds it."""
        while self._reading and self._read():
            pass

    def _read(self) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(self._read_fd, self._read_bytes)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._reading = False
            self._update()
            self._closed()
            return False
        self._read_bytes = READ_BYTES if len(data) < self._read_bytes else READ_MORE_BYTES
        frames = self._framer.feed(data)
        if frames:
            self._received(frames)
        return True

    # -- writing -----------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        if self._writable:
            self._out.append(frame)
            self.out_bytes += len(frame)
            if not self._flushes_soon:
                self._flushes_soon = True
                self._pump.flush_soon(self)

    def flush(self) -> None:
        """Write as much as the descriptor takes, and have the rest written when it takes more."""
        self._flushes_soon = False
        out = self._out
        if out and self._writable and not self._blocked:
            self._write_all(out)
        if self.out_bytes != self._counted:
            self._count()

    def _count(self) -> None:
        self._pump.out_bytes += self.out_bytes - self._counted
        self._counted = self.out_bytes

    def _write_all(self, out: deque[bytes | memoryview]) -> None:
        while out:
            try:
                written = self._write_some()
            except BlockingIOError:
                self._blocked = True
                self._update()
                return
            except OSError:
                self._writable = False
                self._forget()
                return
            self.out_bytes -= written
            self._drop(written)

    def _write_some(self) -> int:
        """One system call's worth of what is waiting; returns the bytes written."""
        out = self._out
        if len(out) > 1 and len(out[0]) < _JOIN_BELOW:
            if self.out_bytes <= _JOIN_BYTES:
                return os.write(self._write_fd, b"".join(out))
            return os.writev(self._write_fd, list(islice(out, _MAX_BUFFERS)))
        return os.write(self._write_fd, out[0])

    def _drop(self, written: int) -> None:
        out = self._out
        if not self.out_bytes:
            out.clear()
            return
        while written:
            size = len(out[0])
            if written < size:
                out[0] = memoryview(out[0])[written:]
                return
            out.popleft()
            written -= size

    def _forget(self) -> None:
        self._out.clear()
        self.out_bytes = 0
        self._count()

    # -- both --------------------------------------------------------------------------------------

    def _ready(self, events: int) -> None:
        if events & WRITE and self._blocked:
            self._blocked = False
            self._update()
            self.flush()
        if events & READ and self._reading and not self._paused:
            self._read()

    def _update(self) -> None:
        reads = READ if self._reading and not self._paused else 0
        writes = WRITE if self._blocked and self._writable else 0
        if self._read_fd == self._write_fd:
            self._pump.watch(self._read_fd, reads | writes, self._ready)
        else:
            self._pump.watch(self._read_fd, reads, self._ready)
            self._pump.watch(self._write_fd, writes, self._ready)

    def close(self) -> None:
        """Forget the descriptors; whoever opened them closes them."""
        self._reading = self._writable = False
        self._blocked = False
        self._forget()
        self._update()
