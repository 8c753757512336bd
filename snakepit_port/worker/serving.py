"""How a call is served: its command is run, its answer made, its stream advanced.

Everything that happens to one call happens on one thread. What differs between profiles is left
open: how a command is interrupted, and where answers go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any, NamedTuple, Union

from snakepit_port.adapter import ATTEMPT, CallCancelled
from snakepit_port.wire.grammar import FIRST_QUESTION
from snakepit_port.worker.asking import Question, Telling
from snakepit_port.worker.calls import Answers, Refusal
from snakepit_port.worker.leaving import leave_as_python
from snakepit_port.worker.outgoing import FLUSH_SECONDS, LateWriter, Outgoing
from snakepit_port.worker.streams import Stream, close

#: A command that took longer than this of late has answers written before it runs; while another
#: runs they are written late.
_QUICK_SECONDS = 0.001

#: Answers that are written together, at most. It is half of what a pool sends ahead: it can send
#: the next while the other half is worked on.
_FLUSH_ANSWERS = 16

#: How fast a long run is forgotten.
_DECAY = 0.9


class Settled(NamedTuple):
    """In place of the arguments of a call that is not to be run: it was cancelled before it was
    taken up, or is malformed, or was given back, and then there is no answer. It waits its turn, so
    that it is counted like any other."""

    answer: bytes


class Checkup:
    """In place of the arguments: not a call, but a ping, whose number stands where the id would."""


CHECKUP = Checkup()

Arguments = Union[bytes, Settled, Checkup]


def _say_nothing(*_: object) -> None:
    pass


class Serving:
    """Serves calls, one at a time."""

    answers: Answers

    def __init__(self, out: Outgoing, late: LateWriter) -> None:
        self.out = out
        self.late = late
        self._send: Callable[[bytes], None] = out.put
        self._flush: Callable[[], None] = out.flush
        #: Seconds that commands took of late, whichever thread ran them.
        self.recent: dict[str, float] = {}
        #: Whether this is a child that a command has forked, and which nobody asks for anything.
        self.is_child = False
        self._stream: Stream | None = None
        #: The call whose command runs here now.
        self._serves: int | None = None
        #: What that waits for, and how many there have been here.
        self._question: Question | None = None
        self._questions = FIRST_QUESTION - 1
        self._telling: Telling | None = None

    def forget(self) -> None:
        """In a child that a command has forked: what it says is not for anybody to hear."""
        self.is_child = True
        self._send = self._flush = _say_nothing
        if self._stream is not None:
            self._stream.cancel()

    def _begin(self, id: int) -> None:
        """A command begins, and may be interrupted from now on. Raises `CallCancelled` if it was
        cancelled before."""
        raise NotImplementedError

    def _end(self) -> None:
        """The command has ended: nothing is raised in it after this."""
        raise NotImplementedError

    def _take_credit(self, stream: Stream) -> bool:
        """Take the credit for one more chunk, waiting for it. False: nobody wants one."""
        raise NotImplementedError

    @property
    def may_ask(self) -> bool:
        """Whether a command runs here, which may ask the host for something."""
        return self._serves is not None and self._question is None

    def question(self) -> Question:
        """One more of the command that runs here."""
        assert self._serves is not None
        self._questions += 1
        return Question(self._serves, self._questions)

    def ask(self, question: Question, frame: bytes) -> None:
        """Send a question of the command that runs here, and wait for the answer. Raises
        `CallCancelled` if the call is cancelled meanwhile, or was, or nobody can answer any
        more."""
        raise NotImplementedError

    def tell(self, frame: bytes) -> None:
        """Send what the command that runs here tells, and go on. Raises `CallCancelled`, when it is
        on its way, if the call was cancelled meanwhile."""
        raise NotImplementedError

    @property
    def telling(self) -> Telling:
        """What the command that runs here has told of its progress."""
        assert self._serves is not None
        if self._telling is None:
            self._telling = Telling(self._serves)
        return self._telling

    def _answer(
        self, id: int, command: str, raw: Arguments, credit: int | None, attempt: int
    ) -> None:
        if type(raw) is not bytes:
            assert isinstance(raw, Settled)
            if raw.answer:
                self._send(raw.answer)
            return
        if attempt > 1:
            token = ATTEMPT.set(attempt)
            try:
                self._answer(id, command, raw, credit, 1)
            finally:
                ATTEMPT.reset(token)
            return
        recent = self.recent.get(command, 1.0)
        if self.out.waiting:
            if recent > _QUICK_SECONDS:
                self._flush()
            elif not self.late.asked:
                # It may take longer than ever.
                self.late.ask()
        answers = self.answers
        try:
            function, positions, keywords = answers.read(command, raw, credit is not None)
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
                self._begin(id)
                value = function(*positions, **keywords)
            finally:
                self._end()
            if credit is None or value is None:
                answer = answers.result(id, command, value)
            elif isinstance(value, Iterator):
                values = value
            else:
                answer = answers.no_stream(id, command, value)
        except BaseException as exc:
            # Again: a signal handler of the adapter's may have raised in its place.
            self._end()
            if self.is_child:
                leave_as_python(exc)
            answer = answers.raised(id, command, function, (positions, keywords), exc)
        if self._stream is not None:
            if values is not None:
                answer = self._serve(self._stream, values)
            self._stream = None
        if self._telling is not None:
            self._telling = None
        now = perf_counter()
        self.recent[command] = max(now - began, recent * _DECAY)
        self._send(answer)
        out = self.out
        if now - out.flushed_at > FLUSH_SECONDS or len(out.waiting) >= _FLUSH_ANSWERS:
            self._flush()

    def _serve(self, stream: Stream, values: Iterator[Any]) -> bytes:
        """Send its chunks for as long as they are wanted; returns the terminal answer."""
        id, command = stream.id, stream.command
        answers = self.answers
        recent = 1.0
        try:
            while self._take_credit(stream):
                began = perf_counter()
                try:
                    try:
                        self._begin(id)
                        value = next(values)
                    finally:
                        self._end()
                    frame = answers.chunk(id, command, value)
                except StopIteration as end:
                    return answers.result(id, command, end.value)
                except Refusal as exc:
                    return answers.refusal(id, command, exc.type, str(exc))
                except CallCancelled:
                    return answers.cancelled(id, command)
                except BaseException as exc:
                    if self.is_child:
                        leave_as_python(exc)
                    return answers.failed(id, command, exc)
                self._send(frame)
                now = perf_counter()
                recent = max(now - began, recent * _DECAY)
                if recent > _QUICK_SECONDS or now - self.out.flushed_at > FLUSH_SECONDS:
                    self._flush()
                elif not self.late.asked:
                    self.late.ask()
            return answers.cancelled(id, command)
        finally:
            # What cleans up there is still the command.
            self._serves = id
            try:
                close(values, stream.command)
            finally:
                self._end()
