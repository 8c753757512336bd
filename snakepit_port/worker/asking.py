"""What `snakepit_port.adapter.host` does in a worker: it asks the host, and tells it (SPEC 8)."""

from __future__ import annotations

import math
import operator
from time import perf_counter
from typing import TYPE_CHECKING, Any, Callable

from snakepit_port import adapter, wire
from snakepit_port.adapter import ToolError
from snakepit_port.bulk.files import HOST, FileReader
from snakepit_port.wire import messages
from snakepit_port.wire.framing import HEADER_BYTES
from snakepit_port.wire.grammar import LOG_LEVELS, MAX_LINE_CHARS
from snakepit_port.worker.held_signals import with_signals_held
from snakepit_port.worker.outgoing import LateWriter

if TYPE_CHECKING:
    from snakepit_port.worker.serving import Serving

#: Seconds between what a call tells of its progress.
_PROGRESS_EVERY = 0.1

#: Makes arrays; there are no files in these frames.
_READER = FileReader(None, HOST)


class Question:
    """A tool that a command asked for: `payload` or `error` is the answer when it `is_over`.

    It `is_cancelled` when nobody wants the answer of the command's call any more."""

    __slots__ = ("call_id", "error", "is_cancelled", "is_over", "number", "payload")

    def __init__(self, call_id: int, number: int) -> None:
        self.call_id = call_id
        self.number = number
        self.is_over = self.is_cancelled = False
        self.payload = b""
        self.error: dict[str, Any] | None = None

    def answer(self, payload: bytes, error: dict[str, Any] | None) -> None:
        """The first answer counts."""
        if not self.is_over:
            self.payload, self.error = payload, error
            self.is_over = True


class Telling:
    """What a call has told of its progress: when, and whether it was done."""

    __slots__ = ("call_id", "is_done", "told_at")

    def __init__(self, call_id: int) -> None:
        self.call_id = call_id
        self.told_at = -math.inf
        self.is_done = False

    def is_news(self, done: float, total: float, now: float) -> bool:
        """Whether the host is to hear of this; then it has."""
        ends = done >= total and not self.is_done
        if not ends and now - self.told_at < _PROGRESS_EVERY:
            return False
        self.told_at = now
        self.is_done = self.is_done or ends
        return True


class Line:
    """Speaks for a worker. `put` sends a frame when it is flushed; `serving` is what runs a command
    on the calling thread, or None."""

    def __init__(
        self,
        put: Callable[[bytes], None],
        late: LateWriter,
        serving: Callable[[], Serving | None],
        max_frame_bytes: int,
        has_tools: bool,
    ) -> None:
        self._put = put
        self._late = late
        self._serving = serving
        self._max_frame_bytes = max_frame_bytes
        self._has_tools = has_tools

    def open(self) -> None:
        """Be what `snakepit_port.adapter.host` speaks through."""
        adapter.LINE = self

    def call(self, tool: str, args: tuple[Any, ...]) -> Any:
        if not isinstance(tool, str):
            raise TypeError(f"a tool is named by a text, not by {tool!r}")
        serving = self._command("call")
        if not self._has_tools:
            raise ToolError("unknown_tool", "this host runs none", tool)
        question = serving.question()
        payload = wire.encode(list(args))
        frame = messages.tool(question.call_id, question.number, tool, payload)
        self._check_size(frame, f"the arguments of tool {tool}")
        serving.ask(question, frame)
        error = question.error
        if error is not None:
            traceback = error.get("traceback")
            raise ToolError(
                str(error.get("type")),
                str(error.get("message")),
                tool,
                None if traceback is None else str(traceback),
            )
        try:
            return wire.decode(question.payload, reader=_READER)
        except wire.DecodeError as exc:
            raise ToolError("decode", f"its result cannot be read: {exc}", tool) from None

    def send(self, pid: wire.Pid, message: Any) -> None:
        if not isinstance(pid, wire.Pid):
            raise TypeError(f"a message goes to a pid that came from the host, not to {pid!r}")
        if not self._has_tools:
            raise RuntimeError("this host takes no messages")
        frame = messages.send(pid, wire.encode(message))
        self._check_size(frame, "the message")
        self._tell(frame)

    def progress(self, done: float, total: float) -> None:
        serving = self._command("progress")
        done, total = _number(done), _number(total)
        telling = serving.telling
        frame = messages.progress(telling.call_id, done, total)
        self._check_size(frame, "the progress")
        if telling.is_news(done, total, perf_counter()) and self._has_tools:
            self._tell(frame)

    def log(self, message: str, level: str) -> None:
        if not isinstance(message, str):
            raise TypeError(f"a message is a text, not {type(message).__name__}")
        if level not in LOG_LEVELS:
            raise ValueError(f"a level is one of {', '.join(sorted(LOG_LEVELS))}, not {level!r}")
        for line in message.splitlines() or [""]:
            # A longer one is cut by the supervisor, who marks that.
            text = line[: MAX_LINE_CHARS + 1].encode("utf-8", "backslashreplace").decode()
            self._tell(messages.log({"level": level, "line": text}))

    def _command(self, what: str) -> Serving:
        serving = self._serving()
        if serving is None:
            raise RuntimeError(f"host.{what} is for a command, on the thread that runs it")
        return serving

    def _check_size(self, frame: bytes, what: str) -> None:
        size = len(frame) - HEADER_BYTES
        if size > self._max_frame_bytes:
            raise ValueError(
                f"{what} would take a frame of {size} bytes, over max_frame_bytes"
                f" ({self._max_frame_bytes})"
            )

    def _tell(self, frame: bytes) -> None:
        serving = self._serving()
        if serving is not None:
            serving.tell(frame)
        else:
            with_signals_held(lambda: self._leave(frame))

    def _leave(self, frame: bytes) -> None:
        self._put(frame)
        self._late.ask()


def close_line() -> None:
    """There is no host any more for `snakepit_port.adapter.host`."""
    adapter.LINE = None


def _number(value: Any) -> float:
    """An `int` or a finite `float`, also of what only behaves like one, as NumPy's numbers do."""
    try:
        # Of True, 1.
        return int(operator.index(value))
    except TypeError:
        number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"progress is told in finite numbers, not {value!r}")
    return number
