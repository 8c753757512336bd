"""The loop of a worker: calls in, answers out, one at a time on the main thread.

What arrives is read in batches and answered in batches, but no answer waits while a command runs
that is not known to be quick, or for long while one runs that is.

**Interrupts.** SIGURG means "look at your channel now" (SPEC section 13). Its handler reads only
while a command runs, when the loop itself does not, so the two never meet inside the framer. If a
cancel names the running call, the handler raises `CallCancelled`, which Python delivers in the
command (see `raising`); `_running` is cleared before, so that it is raised at most once, and never
outside the `try` that surrounds the command. A signal that comes between two commands is
remembered, and the next one begins with the look that was missed. A stream is a command for each of
its values.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import socket
import sys
import traceback
from collections import deque
from contextlib import suppress
from threading import get_ident
from types import FrameType
from typing import Any, Callable

from snakepit_port.adapter import CallCancelled
from snakepit_port.bulk.files import Folder
from snakepit_port.wire import envelopes, messages
from snakepit_port.wire.framing import Frame, Framer, Oversized
from snakepit_port.wire.grammar import ProtocolError
from snakepit_port.worker import gil, linux, stacks
from snakepit_port.worker.asking import Line, Question, close_line
from snakepit_port.worker.calls import Answers
from snakepit_port.worker.fitting import fit_failure
from snakepit_port.worker.held_signals import with_signals_held
from snakepit_port.worker.loading import Adapter, LoadError
from snakepit_port.worker.outgoing import LateWriter, Outgoing
from snakepit_port.worker.raising import pass_by, raise_in
from snakepit_port.worker.serving import CHECKUP, Arguments, Serving, Settled
from snakepit_port.worker.spare_frames import with_spare_frames
from snakepit_port.worker.streams import Stream
from snakepit_port.worker.vigil import Vigil
from snakepit_port.worker.waiting import Waiting

#: A worker that cannot load its adapter.
_EX_FAILED = 1

#: Bytes read at once: below what malloc maps afresh each time; and once that was not enough.
_READ_BYTES = 64 * 1024
_READ_MORE_BYTES = 1024 * 1024


#: Seconds to stay awake for the next call, once there is nothing left to do.
_AWAKE = 0.00005


class Unwell(Exception):
    """The adapter's `health` says so. `error` is a map as in SPEC section 11."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error


class Runtime(Serving):
    """One worker. `channel` is blocking; `ledger[slot]` counts the calls it has started; `info` is
    what the supervisor's hello says, and `framer` cuts what comes behind that."""

    def __init__(
        self,
        channel: socket.socket,
        ledger: memoryview,
        slot: int,
        info: dict[str, Any],
        framer: Framer,
    ) -> None:
        out = Outgoing(channel)
        super().__init__(out, LateWriter(out))
        self._info = info
        self._max_frame_bytes = info["max_frame_bytes"]
        self._framer = framer
        self._channel = channel
        self._ledger = ledger
        self._slot = slot
        self._folder = Folder.of(info)
        self._read_bytes = _READ_BYTES
        #: (id, command, arguments, credit of a stream, which attempt it is).
        self._queue: deque[tuple[int, str, Arguments, int | None, int]] = deque()
        self._ended = False
        self._running: int | None = None
        self._interrupted = False
        self._looking = False
        self._missed = False
        #: Whether a cancel is raised at the next step of what the handler has interrupted.
        self._raises_next = False
        self._thread = get_ident()
        #: How it waits for answers of the host, from the first question on.
        self._waiting: Waiting | None = None
        os.register_at_fork(after_in_child=self._forked)

    def run(self, frames: list[Frame]) -> int:
        """Load the adapter, and answer calls until the channel ends. Returns the exit status.

        `frames` are those that came with hello.
        """
        info = self._info
        where = {"pool": info["pool"], "worker": info["worker"]}
        gil.watch()
        self._open_line()
        try:
            adapter = Adapter(
                info["adapter"], info["adapter_args"], info["python_path"], info["direct_calls"]
            )
        except LoadError as exc:
            return self._fail({**exc.error, **where})
        self._adapter = adapter
        self.answers = Answers(
            adapter, info["pool"], info["worker"], info["max_answer_bytes"], self._folder
        )
        signal.signal(signal.SIGURG, self._look)
        linux.stand_back(False)
        try:
            self._take_up_work()
        except LoadError as exc:
            return self._fail({**exc.error, **where})
        self._thread_safe = adapter.is_thread_safe
        self._send(
            messages.ready(
                {
                    "commands": sorted(adapter.commands),
                    "idempotent": adapter.idempotent,
                    "gil": gil.is_enabled(),
                    "thread_safe": self._thread_safe,
                }
            )
        )
        self._report_gil()
        self._flush()
        self._arrived(frames)
        try:
            self._answer_all()
        except Unwell as exc:
            return self._fail(exc.error)
        self.late.close()
        if self.is_child:
            return os.EX_OK
        linux.stand_back(True)
        try:
            adapter.close()
        except BaseException:
            traceback.print_exc()
        return os.EX_OK

    def _open_line(self) -> None:
        """Have the adapter find the host, from when it is loaded to the end of this process."""
        info = self._info
        Line(
            self._send,
            self.late,
            self._serving_here,
            info["max_answer_bytes"],
            info["tools"],
        ).open()
        # The last of them to run: others may have something to say.
        atexit.register(self._flush_quietly)

    def _flush_quietly(self) -> None:
        with suppress(OSError):
            self._flush()

    def _fail(self, error: dict[str, Any]) -> int:
        self._send(messages.failed(fit_failure(error, self._info["max_answer_bytes"])))
        self._flush()
        return _EX_FAILED

    def _take_up_work(self) -> None:
        """Have everything that calls need, before the worker says that it is ready. Raises
        `LoadError`."""

    def _answer_all(self) -> None:
        queue, ledger, slot, answer = self._queue, self._ledger, self._slot, self._answer
        keep_vigil, poller = Vigil(_AWAKE).keep, select.poll()
        poller.register(self._channel, select.POLLIN)
        poll = poller.poll
        while True:
            while queue:
                if queue[0][2] is CHECKUP:
                    self._check_up(queue.popleft()[0])
                    continue
                # Counted before it leaves the queue, and never twice: whatever kills this process,
                # the supervisor knows which calls it may have begun.
                ledger[slot] += 1
                answer(*queue.popleft())
            self._flush()
            if self._ended:
                return
            keep_vigil(poll)
            self._arrived(self._receive())

    def _pinged(self, number: int) -> None:
        """Answer a ping when it is its turn, or when a stream waits for credit."""
        self._queue.append((number, "", CHECKUP, None, 1))

    def _check_up(self, number: int) -> None:
        """Answer a ping, which asks for what the adapter says of itself."""
        # That may take its time.
        self._flush()
        error = self._adapter.check_up()
        if error is not None:
            raise Unwell(error)
        self._send(messages.pong(number))

    def _report_gil(self) -> None:
        """Tell of the module that turned the GIL on, now or when one does."""
        if gil.enabled_by is not None:
            self._gil_enabled(gil.enabled_by)
        else:
            gil.when_enabled(self._gil_enabled)

    def _gil_enabled(self, module: str) -> None:
        message = (
            f"module {module} turned the GIL of this free-threaded Python on: its threads run one"
            " at a time from now on; use a release of it that supports free threading"
        )
        self._send(messages.event("worker.gil_enabled", {}, {"module": module, "message": message}))

    # -- one call ----------------------------------------------------------------------------------

    def _begin(self, id: int) -> None:
        self._running = self._serves = id
        if self._missed:
            self._look()

    def _end(self) -> None:
        self._running = self._serves = None
        if self._raises_next:
            # It was, or another handler has raised something before.
            self._raises_next = False
            sys.settrace(None)

    def _serving_here(self) -> Serving | None:
        """What runs a command on the calling thread."""
        return self if self.may_ask and get_ident() == self._thread else None

    def ask(self, question: Question, frame: bytes) -> None:
        id = None
        try:
            self._question = question
            # From here the channel is read where it is waited for: the handler leaves that alone.
            id, self._running = self._running, None
            if id is None:
                # It was cancelled, and goes on.
                raise CallCancelled
            with_signals_held(lambda: self._say(frame, self._flush))
            while not question.is_over and not question.is_cancelled:
                self._wait()
                with_signals_held(lambda: with_spare_frames(self._take_in))
                question.is_cancelled = question.is_cancelled or self._ended
        except ConnectionError:
            question.is_cancelled = True
        finally:
            self._question = None
            if id is not None and not question.is_cancelled:
                # Nothing is called before that: handlers of signals run where something is.
                self._running = id
                if self._missed:
                    self._look()
        if question.is_cancelled:
            raise CallCancelled

    def _wait(self) -> None:
        """For what the host says. May end by an exception of the adapter's own handlers."""
        if self._waiting is None:

            def make() -> None:
                self._waiting = Waiting(self._channel)

            with_signals_held(make)
        assert self._waiting is not None
        self._waiting.wait()

    def tell(self, frame: bytes) -> None:
        # A cancel, too, waits until all of it is out.
        id, self._running = self._running, None
        try:
            with_signals_held(lambda: self._say(frame, self.late.ask))
        finally:
            if id is not None:
                # As for a question.
                self._running = id
                if self._missed:
                    self._look()

    def _say(self, frame: bytes, have_written: Callable[[], None]) -> None:
        """Send a frame while a command runs. Raises `ConnectionError`."""

        def say() -> None:
            try:
                self._send(frame)
                have_written()
            except ConnectionError:
                raise
            except BaseException:
                self.give_up()

        with_spare_frames(say)

    def _told(
        self, id: int, number: int, payload: bytes = b"", error: dict[str, Any] | None = None
    ) -> None:
        """The host has answered a question. Nothing happens if it is not waited for any more."""
        question = self._question
        if question is not None and (question.call_id, question.number) == (id, number):
            question.answer(payload, error)

    def _take_credit(self, stream: Stream) -> bool:
        while not stream.credit:
            if stream.cancelled or self._ended:
                return False
            for ping in [waiting for waiting in self._queue if waiting[2] is CHECKUP]:
                self._queue.remove(ping)
                self._check_up(ping[0])
            self._flush()
            self._arrived(self._receive())
        stream.credit -= 1
        return True

    # -- the channel -------------------------------------------------------------------------------

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
                    continue
                usual = envelopes.open_usual_call(frame)
                if usual is not None:
                    self._queue.append(usual)
                else:
                    self._asked(*messages.parse(frame))
            except ProtocolError as exc:
                self._refuse(exc.id, "protocol_error", exc.message)

    def _too_large(self, frame: Oversized) -> None:
        limit = self._max_frame_bytes
        message = f"a frame of {frame.size} bytes is over max_frame_bytes ({limit})"
        self._refuse(envelopes.read_head(frame.head), "frame_too_large", message)

    def _asked(self, tag: str, *rest: Any) -> None:
        if tag == "call":
            # In an encoding that is legal and not the usual one.
            id, _pool, command, args, options = rest
            self._queue.append(envelopes.opened(id, command, args, options))
        elif tag == "credit":
            self._grant(*rest)
        elif tag == "cancel":
            self._cancel(rest[0])
        elif tag == "recall":
            self._give_back(rest[0])
        elif tag == "ping":
            self._pinged(rest[0])
        elif tag == "tool_result":
            self._told(*rest)
        elif tag == "tool_error":
            self._told(rest[0], rest[1], error=rest[2])
        else:
            id = rest[0] if tag == "control" else None
            raise ProtocolError(f"a {tag} is not for a worker", id)

    def _refuse(self, id: int | None, type: str, message: str) -> None:
        answer = messages.error(id, {"type": type, "message": message})
        if id is None:
            self._send(answer)
        else:
            self._queue.append((id, "", Settled(answer), None, 1))

    # -- credit and cancelling ---------------------------------------------------------------------

    def _grant(self, id: int, credit: int) -> None:
        """For the stream that runs, or one that waits here."""
        stream = self._stream
        if stream is not None and stream.id == id:
            stream.grant(credit)
            return
        for place, (queued, command, raw, granted, attempt) in enumerate(self._queue):
            if queued == id and granted is not None:
                self._queue[place] = id, command, raw, granted + credit, attempt

    def _cancel(self, id: int) -> None:
        """The running call is dealt with by `_look`; of others, only those that wait here count."""
        if self._stream is not None and self._stream.id == id:
            self._stream.cancel()
        if id == self._running:
            self._interrupted = True
            return
        if self._question is not None and self._question.call_id == id:
            self._question.is_cancelled = True
            return
        for place, (queued, command, raw, _credit, _attempt) in enumerate(self._queue):
            if queued == id and type(raw) is bytes:
                answer = self.answers.cancelled(id, command)
                self._queue[place] = id, command, Settled(answer), None, 1

    def _give_back(self, ids: list[int]) -> None:
        """Of these calls, leave those that are not begun to others. They are counted when their
        turn would have come, as if they had been cancelled."""
        asked = set(ids)
        given = []
        for place, (queued, command, raw, _credit, _attempt) in enumerate(self._queue):
            if queued in asked and type(raw) is bytes:
                given.append(queued)
                self._queue[place] = queued, command, Settled(b""), None, 1
        if given:
            self._send(messages.recalled(given))
            if not self.late.asked:
                # Nobody else may write it soon.
                self.late.ask()

    def _look(self, _signum: int = 0, frame: FrameType | None = None) -> None:
        """SIGURG: read what has arrived, if a command runs; raise in it if it was cancelled."""
        self._missed = True
        if self._running is None or self._looking:
            return
        with_spare_frames(lambda: self._look_now(frame))
        if self._raises_next:
            sys.settrace(pass_by)

    def _look_now(self, frame: FrameType | None) -> None:
        # Again, if a signal came meanwhile: its own handler has returned at once.
        while self._missed:
            self._missed = False
            self._looking = True
            self._take_in()
            self._looking = False
        if self._interrupted:
            self._interrupted = False
            self._running = None
            raise_in(frame, CallCancelled())
            self._raises_next = True

    def _take_in(self) -> None:
        """Read what has arrived, while a command runs."""
        try:
            while not self._ended:
                self._arrived(self._receive(socket.MSG_DONTWAIT))
        except BlockingIOError:
            pass
        except ConnectionError:
            self._ended = True
        except BaseException:
            self.give_up()

    def give_up(self) -> None:
        """End at once: something was thrown in here, by a signal handler of the adapter's or for
        want of stack or memory. What was read may be lost, and a call that is never answered is
        worse than a worker that died."""
        try:
            traceback.print_exc()
        finally:
            os._exit(os.EX_SOFTWARE)

    # -- children of commands ----------------------------------------------------------------------

    def _forked(self) -> None:
        """In a child of a command: what this worker was asked is not for it to answer."""
        # The forking thread is the main one of the child, unless it is of a subinterpreter.
        with suppress(ValueError):
            signal.set_wakeup_fd(-1)
        stacks.forget()
        close_line()
        self._channel.close()
        if self._waiting is not None:
            self._waiting.close()
        if self._folder is not None:
            self._folder.forget()
        self.out.forget()
        self.late.forget()
        self._queue.clear()
        self._ended = True
        self.forget()
