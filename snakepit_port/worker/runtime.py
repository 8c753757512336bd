"""The loop of a worker: calls in, answers out, one at a time on the main thread.

What arrives is read in batches and answered in batches, but no answer waits while a command runs
that is not known to be quick.

**Interrupts.** SIGURG means "look at your channel now" (SPEC section 13). Its handler reads only
while a command runs, when the loop itself does not, so the two never meet inside the framer. If a
cancel names the running call, the handler raises `CallCancelled`, which Python delivers in the
command; `_running` is cleared before, so that it is raised at most once, and never outside the
`try` that surrounds the command. A signal that comes between two commands is remembered, and the
next one begins with the look that was missed. A stream is a command for each of its values.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import sys
import traceback
from collections import deque
from collections.abc import Iterator
from time import perf_counter
from typing import Any, NamedTuple, Union

from snakepit_port import __version__
from snakepit_port.adapter import CallCancelled
from snakepit_port.bulk.files import Folder
from snakepit_port.wire import messages
from snakepit_port.wire.framing import Frame, Framer, Oversized
from snakepit_port.worker.calls import Answers, Refusal
from snakepit_port.worker.loading import Adapter, LoadError
from snakepit_port.worker.outgoing import FLUSH_SECONDS, LateWriter, Outgoing
from snakepit_port.worker.streams import Stream, close

# BSD's sysexits.h, as the supervisor uses them.
_EX_OK, _EX_SOFTWARE, _EX_PROTOCOL = 0, 70, 76

#: A worker that cannot load its adapter.
_EX_FAILED = 1

#: Bytes read at once: below what malloc maps afresh each time; and once that was not enough.
_READ_BYTES = 64 * 1024
_READ_MORE_BYTES = 1024 * 1024

#: A command that took longer than this of late has answers written before it runs.
_QUICK_SECONDS = 0.001

#: How fast a long run is forgotten.
_DECAY = 0.9

#: Before hello has said what the supervisor accepts.
_HELLO_MAX_BYTES = 1024 * 1024


class _Settled(NamedTuple):
    """In place of the arguments of a call that is not to be run: it was cancelled before it was
    taken up, or is malformed. It waits its turn, so that it is counted like any other."""

    answer: bytes


_Arguments = Union[bytes, _Settled]


class Runtime:
    """One worker. `channel` is blocking; `ledger[slot]` counts the calls it has started."""

    def __init__(self, channel: socket.socket, ledger: memoryview, slot: int) -> None:
        self._channel = channel
        self._ledger = ledger
        self._slot = slot
        self._read_bytes = _READ_BYTES
        #: (id, command, arguments, credit of a stream).
        self._queue: deque[tuple[int, str, _Arguments, int | None]] = deque()
        self._ended = False
        self._out = Outgoing(channel)
        self._send = self._out.put
        self._flush = self._out.flush
        self._recent: dict[str, float] = {}
        self._running: int | None = None
        self._stream: Stream | None = None
        self._interrupted = False
        self._looking = False
        self._missed = False
        os.register_at_fork(after_in_child=self._forked)

    def run(self) -> int:
        """Say hello, load the adapter, and answer calls until the channel ends. Returns the exit
        status."""
        try:
            return self._run()
        except (BrokenPipeError, ConnectionResetError):
            # The supervisor is gone, and with it everybody who would want to know.
            return _EX_OK

    def _run(self) -> int:
        hello, behind = self._receive_hello()
        if hello is None:
            return _EX_OK
        error, info = _read_hello(hello)
        if error is not None:
            self._send(messages.error(None, error))
            self._flush()
            return _EX_PROTOCOL
        self._max_frame_bytes = info["max_frame_bytes"]
        self._framer = Framer(self._max_frame_bytes)
        self._send(messages.hello(_about()))
        self._flush()
        try:
            adapter = Adapter(
                info["adapter"], info["adapter_args"], info["python_path"], info["direct_calls"]
            )
        except LoadError as exc:
            where = {"pool": info["pool"], "worker": info["worker"]}
            self._send(messages.failed({**exc.error, **where}))
            self._flush()
            return _EX_FAILED
        self._answers = Answers(
            adapter, info["pool"], info["worker"], info["max_answer_bytes"], Folder.of(info)
        )
        signal.signal(signal.SIGURG, self._look)
        self._send(messages.ready({"commands": sorted(adapter.commands)}))
        self._flush()
        self._arrived(self._framer.feed(behind))
        self._answer_all()
        try:
            adapter.close()
        except BaseException:
            traceback.print_exc()
        return _EX_OK

    def _answer_all(self) -> None:
        queue = self._queue
        while True:
            while queue:
                # Counted before it leaves the queue, and never twice: whatever kills this process,
                # the supervisor knows which calls it may have begun.
                self._ledger[self._slot] += 1
                self._answer(*queue.popleft())
            self._flush()
            if self._ended:
                return
            self._arrived(self._receive())

    # -- one call ----------------------------------------------------------------------------------

    def _answer(self, id: int, command: str, raw: _Arguments, credit: int | None) -> None:
        if isinstance(raw, _Settled):
            self._send(raw.answer)
            return
        recent = self._recent.get(command, 1.0)
        if self._out.waiting and recent > _QUICK_SECONDS:
            self._flush()
        answers = self._answers
        try:
            function = answers.command(command, streams=credit is not None)
            positions, keywords = answers.arguments(function, raw)
        except Refusal as exc:
            self._send(answers.refusal(id, command, exc.type, str(exc)))
            return
        except BaseException as exc:
            self._send(answers.failed(id, command, exc))
            return
        values = None
        if credit is not None:
            # Before the command is called: credit may come while that takes.
            self._stream = Stream(id, command, credit)
        began = perf_counter()
        try:
            try:
                self._running = id
                if self._missed:
                    self._look()
                value = function(*positions, **keywords)
            finally:
                self._running = None
            if credit is not None and isinstance(value, Iterator):
                values = value
            else:
                answer = answers.result(id, command, value)
        except BaseException as exc:
            answer = answers.raised(id, command, function, (positions, keywords), exc)
        if self._stream is not None:
            if values is not None:
                answer = self._serve(self._stream, values)
            self._stream = None
        now = perf_counter()
        self._recent[command] = max(now - began, recent * _DECAY)
        self._send(answer)
        if now - self._out.flushed_at > FLUSH_SECONDS:
            self._flush()

    def _serve(self, stream: Stream, values: Iterator[Any]) -> bytes:
        """Send its chunks for as long as they are wanted; returns the terminal answer."""
        id, command = stream.id, stream.command
        answers = self._answers
        recent = 1.0
        late = LateWriter(self._out)
        try:
            while stream.credit or self._await_credit(stream):
                stream.credit -= 1
                began = perf_counter()
                try:
                    try:
                        self._running = id
                        if self._missed:
                            self._look()
                        value = next(values)
                    finally:
                        self._running = None
                    frame = answers.chunk(id, command, value)
                except StopIteration as end:
                    return answers.result(id, command, end.value)
                except Refusal as exc:
                    return answers.refusal(id, command, exc.type, str(exc))
                except CallCancelled:
                    return answers.cancelled(id, command)
                except BaseException as exc:
                    return answers.failed(id, command, exc)
                self._send(frame)
                now = perf_counter()
                recent = max(now - began, recent * _DECAY)
                if recent > _QUICK_SECONDS or now - self._out.flushed_at > FLUSH_SECONDS:
                    self._flush()
                else:
                    late.ask()
            return answers.cancelled(id, command)
        finally:
            close(values)
            late.close()

    def _await_credit(self, stream: Stream) -> bool:
        """Wait until it may go on. False: nobody wants it to."""
        while not stream.credit and not stream.cancelled and not self._ended:
            self._flush()
            self._arrived(self._receive())
        return bool(stream.credit)

    # -- the channel -------------------------------------------------------------------------------

    def _receive_hello(self) -> tuple[Frame | None, bytes]:
        """The first frame, and what came behind it, which is for a framer that knows the limit."""
        data = b""
        while more := self._channel.recv(_READ_BYTES):
            data += more
            for frame in Framer(_HELLO_MAX_BYTES).feed(data):
                return frame, data[len(frame) :]
        return None, b""

    def _receive(self, flags: int = 0) -> list[Frame]:
        """Frames that have arrived, waiting for some unless `flags` say otherwise."""
        data = self._channel.recv(self._read_bytes, flags)
        full = len(data) == self._read_bytes
        self._read_bytes = _READ_MORE_BYTES if full else _READ_BYTES
        if not data:
            self._ended = True
        return self._framer.feed(data)

    def _arrived(self, frames: list[Frame]) -> None:
        """Queue calls; do at once what else was asked."""
        for frame in frames:
            try:
                if isinstance(frame, Oversized):
                    self._too_large(frame)
                elif messages.is_call(frame):
                    self._queue.append(messages.open_call(frame))
                else:
                    self._asked(frame, *messages.parse(frame))
            except messages.ProtocolError as exc:
                self._refuse(exc.id, "protocol_error", exc.message)

    def _too_large(self, frame: Oversized) -> None:
        limit = self._max_frame_bytes
        message = f"a frame of {frame.size} bytes is over max_frame_bytes ({limit})"
        self._refuse(messages.read_head(frame.head), "frame_too_large", message)

    def _asked(self, frame: bytes, tag: str, *rest: Any) -> None:
        if tag == "call":
            # In an encoding that is legal and not the usual one.
            self._queue.append(messages.open_call(frame))
        elif tag == "credit":
            self._grant(*rest)
        elif tag == "cancel":
            self._cancel(rest[0])
        elif tag == "ping":
            self._send(messages.pong(rest[0]))
        else:
            id = rest[0] if tag == "control" else None
            raise messages.ProtocolError(f"a {tag} is not for a worker", id)

    def _refuse(self, id: int | None, type: str, message: str) -> None:
        answer = messages.error(id, {"type": type, "message": message})
        if id is None:
            self._send(answer)
        else:
            self._queue.append((id, "", _Settled(answer), None))

    # -- credit and cancelling ---------------------------------------------------------------------

    def _grant(self, id: int, credit: int) -> None:
        """For the stream that runs, or one that waits here."""
        stream = self._stream
        if stream is not None and stream.id == id:
            stream.grant(credit)
            return
        for place, (queued, command, raw, granted) in enumerate(self._queue):
            if queued == id and granted is not None:
                self._queue[place] = id, command, raw, granted + credit

    def _cancel(self, id: int) -> None:
        """The running call is dealt with by `_look`; of others, only those that wait here count."""
        if self._stream is not None and self._stream.id == id:
            self._stream.cancel()
        if id == self._running:
            self._interrupted = True
            return
        for place, (queued, command, raw, _credit) in enumerate(self._queue):
            if queued == id and type(raw) is not _Settled:
                answer = self._answers.cancelled(id, command)
                self._queue[place] = id, command, _Settled(answer), None

    def _look(self, *_: Any) -> None:
        """SIGURG: read what has arrived, if a command runs; raise in it if it was cancelled."""
        self._missed = True
        if self._running is None or self._looking:
            return
        # Again, if a signal came meanwhile: its own handler has returned at once.
        while self._missed:
            self._missed = False
            self._looking = True
            try:
                while not self._ended:
                    self._arrived(self._receive(socket.MSG_DONTWAIT))
            except BlockingIOError:
                pass
            except ConnectionError:
                self._ended = True
            except BaseException:
                self._give_up()
            self._looking = False
        if self._interrupted:
            self._interrupted = False
            self._running = None
            raise CallCancelled

    def _give_up(self) -> None:
        """End at once: something was thrown into the handler, by a signal handler of the adapter's
        or for want of stack or memory. What was read may be lost, and a call that is never answered
        is worse than a worker that died."""
        try:
            traceback.print_exc()
        finally:
            os._exit(_EX_SOFTWARE)

    # -- children of commands ----------------------------------------------------------------------

    def _forked(self) -> None:
        """In a child of a command: what this worker was asked is not for it to answer."""
        self._channel.close()
        self._out.forget()
        self._queue.clear()
        if self._stream is not None:
            self._stream.cancel()
        self._ended = True


def _read_hello(frame: Frame) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """(error, info) of the supervisor's first frame."""
    try:
        said = messages.parse(frame) if isinstance(frame, bytes) else ("frame too large",)
        if said[0] != "hello":
            raise messages.ProtocolError(f"hello comes first, not {said[0]}")
    except messages.ProtocolError as exc:
        return {"type": "protocol_error", "message": exc.message}, {}
    if said[1] != messages.PROTOCOL_VERSION:
        message = (
            f"the supervisor speaks protocol version {said[1]}, this worker"
            f" {messages.PROTOCOL_VERSION}: they come from different releases"
        )
        return {"type": "protocol_version", "message": message}, {}
    return None, said[2]


def _about() -> dict[str, Any]:
    return {
        "software": f"snakepit_port {__version__}",
        "python": platform.python_version(),
        "executable": sys.executable,
        "os_pid": os.getpid(),
    }
