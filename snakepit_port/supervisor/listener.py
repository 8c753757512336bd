"""What a pool's workers say, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from snakepit_port.pool import streams
from snakepit_port.printable import shown
from snakepit_port.supervisor import asides
from snakepit_port.supervisor.worker_process import WorkerProcess
from snakepit_port.wire import envelopes, messages
from snakepit_port.wire.framing import Frame, Oversized
from snakepit_port.wire.grammar import ProtocolError
from snakepit_port.wire.terms import show
from snakepit_port.worker.starter_frames import is_process_id

if TYPE_CHECKING:
    from snakepit_port.supervisor.runner import Runner

#: What a worker may tell the host of itself.
WORKER_EVENTS = ("worker.gil_enabled", "worker.thread_safety")


class Listener:
    """Hears the workers of one pool, whose runner carries out what follows.

    `answer` is the frame of the answer that the pool's machine is told of, until it is forwarded.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._machine = runner.machine
        self._perform = runner.perform
        self._outside = runner.outside
        self._now = runner.now
        self.answer: bytes = b""

    def said(self, process: WorkerProcess, frames: list[Frame]) -> None:
        """Frames of a worker that arrived together. One that breaks the protocol is killed."""
        if process.condemned:
            return
        now = self._now()
        worker = process.worker
        answered, perform = self._machine.answered, self._perform
        read_answer, ends_a_call = envelopes.read_answer, envelopes.ends_a_call
        together = 1
        if len(frames) > 1:
            # What else a worker says takes no part of the time that its calls took.
            together = sum(ends_a_call(f) for f in frames if type(f) is bytes) or 1
        try:
            for frame in frames:
                if isinstance(frame, Oversized):
                    raise _too_large(frame)
                tag, id = read_answer(frame)
                if id is None:
                    self._said_otherwise(process, messages.parse(frame), frame)
                elif tag == "chunk":
                    wanted = streams.chunk_came(worker, id)
                    if wanted is None:
                        raise ProtocolError(f"it sent a chunk of call {id} unasked")
                    if wanted:
                        self._outside.pass_on(frame)
                else:
                    self.answer = frame
                    todo = answered(worker, id, tag == "result", now, together)
                    if todo is None:
                        raise ProtocolError(f"it answered call {id}, which it has not")
                    perform(todo)
                    if self.answer:
                        self._drop_answer()
        except ProtocolError as exc:
            self._condemn(process, exc.message, now)

    def _drop_answer(self) -> None:
        """The call was answered before: nobody will read the files."""
        frame, self.answer = self.answer, b""
        if self._outside.shm is not None:
            self._outside.shm.discard(envelopes.files_of(frame))

    def _said_otherwise(self, process: WorkerProcess, said: tuple[Any, ...], frame: bytes) -> None:
        tag = said[0]
        if tag == "hello":
            process.python = said[2].get("python", "")
            # It may be quicker than its starter, which says the same.
            if process.os_pid is None and is_process_id(said[2].get("os_pid")):
                process.os_pid = said[2]["os_pid"]
        elif tag == "ready":
            process.is_ready = True
            process.gil = said[1].get("gil")
            process.idempotent = _names(said[1].get("idempotent"))
            self.may_be_ready(process)
        elif tag == "event" and said[1] in WORKER_EVENTS:
            if process.source.is_news(said[1], _message_of(said[3])):
                where = {"pool": self._runner.name, "worker": process.worker.id}
                self._outside.event(said[1], said[2], {**said[3], **where})
        elif tag == "failed":
            # Of one that has served, its calls are told that it went, and how, as of any other.
            if process.worker.ready_at is None:
                process.failure = said[1]
            message = f"it says: {_message_of(said[1])}"
            self._perform(self._machine.unwell(process.worker, message, self._now()))
        elif tag == "pong":
            todo = self._machine.ponged(process.worker, said[1], self._now())
            if todo is None:
                raise ProtocolError("it sent a pong that nobody asked for")
            self._perform(todo)
        elif tag == "recalled":
            todo = self._machine.gave_back(process.worker, said[1], self._now())
            if todo is None:
                raise ProtocolError("it gave back a call that nobody asked for")
            self._perform(todo)
        elif tag in asides.TAGS:
            asides.told(self._outside, process, said, frame)
        elif tag == "error":
            line = shown(_message_of(said[2]))
            self._outside.log(self._runner.name, process.worker.id, "supervisor", "error", line)
        else:
            raise ProtocolError(f"it sent a {tag}, which is not a worker's to send")

    def may_be_ready(self, process: WorkerProcess) -> None:
        """A worker takes calls when it has said so and its starter has said which process it is;
        nothing orders the two. Where its memory is limited it is measured first, as it will be
        again and again."""
        if process.is_announced or not process.is_ready or process.os_pid is None:
            return
        process.is_announced = True
        if self._runner.settings.watches_memory:
            self._outside.sampler.measure(
                process.os_pid, lambda size: self._has_become_ready(process, size)
            )
        else:
            self._has_become_ready(process, None)

    def _has_become_ready(self, process: WorkerProcess, memory: int | None) -> None:
        if not self._runner.has(process):
            return
        metadata = {"os_pid": process.os_pid, "python": process.python, "gil": process.gil}
        # Nothing comes of it, if it was killed while it was measured.
        todo = self._machine.worker_ready(
            process.worker, metadata, self._now(), memory, process.idempotent
        )
        self._perform(todo)

    def _condemn(self, process: WorkerProcess, message: str, now: float) -> None:
        process.condemned = True
        process.pause(self._runner.paused)
        worker = process.worker
        error = {
            "type": "protocol_error",
            "message": f"worker {worker.id} broke the protocol and was killed: {message}",
            "pool": self._runner.name,
            "worker": worker.id,
        }
        self._outside.log(self._runner.name, worker.id, "supervisor", "error", error["message"])
        self._perform(self._machine.condemn(worker, error, now))


def _too_large(frame: Oversized) -> ProtocolError:
    """A worker keeps to the limit it was told, so this one is broken, or not ours."""
    return ProtocolError(f"it sent a frame of {frame.size} bytes")


def _message_of(said: Mapping[str, Any]) -> str:
    """The text that belongs there. What else a worker put in its place may be anything."""
    message = said.get("message", "")
    return str(message) if isinstance(message, str) else show(message)


def _names(value: Any) -> frozenset[str]:
    if not isinstance(value, list):
        return frozenset()
    return frozenset(str(name) for name in value if isinstance(name, str))
