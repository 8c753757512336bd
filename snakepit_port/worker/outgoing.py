"""What a worker has to say, on its way out: gathered, so that many small frames cost one write.

What is gathered is written when it is much, when it has waited for long, and when there is nothing
else to do. That is not enough where a command has been quick and then takes its time: what was
finished before would wait with it, answers of other calls and a generator's last chunks. So whoever
leaves some unwritten has a thread look after them.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from time import perf_counter

from snakepit_port.worker.held_signals import with_signals_held

#: Frames are written when there are this many bytes of them, or when they took this long.
FLUSH_BYTES = 64 * 1024
FLUSH_SECONDS = 0.001

#: Seconds after which the thread writes what nobody else has: at first, and at most. Where it finds
#: that others write all the time, it looks less often, for that takes time from them.
_LATE_SECONDS, _LATEST_SECONDS = 0.002, 0.016


class Outgoing:
    """Frames for a blocking socket. Any thread may put some here, and any may flush."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        # A signal handler of the adapter's may raise when it has just been taken (from Python 3.14
        # on), and it is never given back: whoever ends this process writes all the same.
        self._writing = threading.RLock()
        #: Within a frame, until all of it is written: of what was begun nothing may follow a part.
        self._is_inside = False
        #: Always the same list: frames are put at its end while others are taken from its front.
        self.waiting: list[bytes] = []
        #: About, where several threads count.
        self._bytes = 0
        self.flushed_at = 0.0
        #: How often it has been flushed.
        self.flushes = 0

    def put(self, frame: bytes) -> None:
        self.waiting.append(frame)
        self._bytes += len(frame)
        if self._bytes > FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Raises `OSError` if the peer is gone."""
        if self.waiting:
            self._bytes = 0
            self.write()
        self.flushed_at = perf_counter()

    def write(self) -> None:
        """Flush from another thread: the counts of the one that puts frames are left alone."""
        with self._writing:
            if self._is_inside:
                # By a signal handler of the adapter's, or after one that has raised.
                return
            waiting = self.waiting
            count = len(waiting)
            out = waiting[0] if count == 1 else b"".join(waiting[:count])
            del waiting[:count]
            self.flushes += 1
            self._is_inside = True
            try:
                self._channel.sendall(out)
            except ConnectionError:
                # The peer is gone, as each is told that writes. Not any OSError: handlers of alarms
                # raise TimeoutError, which is one.
                self._is_inside = False
                raise
            self._is_inside = False

    def forget(self) -> None:
        """In a forked child: nothing of this is its own, and the lock may be held for ever."""
        self._writing = threading.RLock()
        self.waiting.clear()


class LateWriter:
    """Writes what a thread that runs commands puts and does not get round to flushing.

    Its own thread runs from the first time it is asked, by any, until it is closed, and takes no
    signals: those are for the thread that runs the commands.
    """

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        #: Whether it is going to look.
        self.asked = False
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def ask(self) -> None:
        """There is something in `outgoing` that may have to wait. Not needed while `asked`."""
        if not self.asked:
            self.asked = True
            self._wake.set()
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="late writer", daemon=True)

            def start() -> None:
                thread.start()
                self._thread = thread

            try:
                # It inherits what is held, for good.
                with_signals_held(start)
            except RuntimeError:
                # There may be no more threads: then nothing is left to be late.
                self._look_away()
                self._outgoing.flush()

    def forget(self) -> None:
        """In a forked child: there is no such thread, nor anything to write; and locks may be held
        for ever."""
        self.asked = True
        self._thread = None

    def _look_away(self) -> None:
        # In this order: whoever finds that it is not asked wakes it after that.
        self._wake.clear()
        self.asked = False

    def close(self) -> None:
        if self._thread is not None:
            self._closed.set()
            self._wake.set()
            self._thread.join()

    def _run(self) -> None:
        outgoing, seconds = self._outgoing, _LATE_SECONDS
        # The peer may be gone, as the threads that run commands will find out.
        with suppress(OSError):
            while True:
                self._wake.wait()
                before = outgoing.flushes
                self._closed.wait(seconds)
                self._look_away()
                # Looked at after that: what is asked from now on is heard.
                if self._closed.is_set():
                    return
                if outgoing.flushes != before:
                    seconds = min(2 * seconds, _LATEST_SECONDS)
                    if outgoing.waiting:
                        self.ask()
                elif outgoing.waiting:
                    seconds = _LATE_SECONDS
                    outgoing.write()
