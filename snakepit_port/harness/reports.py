"""What a host of the harness hands to its user: errors, events, log lines, frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import trio

from snakepit_port.wire import Pid

#: How many past items of a kind are kept for subscribers that are slow.
KEPT_ITEMS = 1000

_T = TypeVar("_T")


class CallError(Exception):
    """A call that ended without a result.

    Attributes are those of an error in protocol/SPEC.md, section 11, and None where not known:
    `type` (such as "exception", "timeout", "worker_crashed"), `message`, `exception` (the Python
    class), `traceback`, `pool`, `worker`, `command`, `signal`, `status`, `stderr`, `problems`.
    `details` is the whole map. `str()` begins with the Python class where a command raised, else
    with the type; it ends with the traceback.
    """

    def __init__(self, details: Mapping[str, Any]) -> None:
        super().__init__(details)
        self.details = details
        self.type = str(details.get("type", "protocol_error"))
        self.message = str(details.get("message", ""))
        self.exception: str | None = details.get("exception")
        self.traceback: str | None = details.get("traceback")
        self.pool: str | None = details.get("pool")
        self.worker: str | None = details.get("worker")
        self.command: str | None = details.get("command")
        self.signal: str | None = details.get("signal")
        self.status: int | None = details.get("status")
        self.stderr: str | None = details.get("stderr")
        self.problems: list[Mapping[str, Any]] | None = details.get("problems")

    @property
    def headline(self) -> str:
        """How `str()` begins: what happened, without where, and without what it quotes."""
        what = (self.type == "exception" and self.exception) or self.type
        return f"{what}: {self.message}" if self.message else what

    def __str__(self) -> str:
        lines = [self.headline]
        where = [
            f"{name} {value or repr(value)}"
            for name, value in (
                ("pool", self.pool),
                ("worker", self.worker),
                ("command", self.command),
            )
            if value is not None
        ]
        if where:
            lines.append(f"  in {', '.join(where)}")
        if self.problems:
            from snakepit_port.config.report import problem_line  # Few errors have any.
        for problem in self.problems or ():
            if str(problem.get("message") or "") in self.message:
                continue  # The supervisor's message has them all.
            lines.append(f"  {problem_line(problem)}")
            if problem.get("hint"):
                lines.append(f"    {problem['hint']}")
        if self.stderr:
            lines += ["  last lines on stderr:", self.stderr.rstrip("\n")]
        if self.traceback:
            lines.append(self.traceback.rstrip("\n"))
        return "\n".join(lines)


class Event(NamedTuple):
    """Something that happened in the supervisor (SPEC, section 10)."""

    name: str
    measurements: Mapping[str, Any]
    metadata: Mapping[str, Any]


class LogLine(NamedTuple):
    """One line that a worker or the supervisor wrote; `worker` and `pool` are None where unknown.

    `source` is "stdout", "stderr", "log" (`host.log`) or "supervisor"; `level` is "debug", "info",
    "warning" or "error".
    """

    pool: str | None
    worker: str | None
    source: str
    level: str
    line: str

    @property
    def who(self) -> str:
        """The one who wrote it, as far as known."""
        return self.worker or self.pool or "supervisor"


class Message(NamedTuple):
    """What a command sent to a process (SPEC, section 8); `pid` is what it was given for one."""

    pid: Pid
    message: Any


class RawFrame(NamedTuple):
    """A frame as it went over the link, its 4-byte length in front. `sent`: by the host."""

    sent: bool
    data: bytes


class Subscription(Generic[_T]):
    """An async iterator over what a host receives. It ends when the link has.

    The last `KEPT_ITEMS` items are kept for all subscribers together; `dropped` counts those that
    went past unread because this one was slower than that. Cancelling `__anext__` takes nothing.
    """

    def __init__(self, feed: Feed[_T], position: int) -> None:
        self._feed = feed
        self._position = position
        self.dropped = 0

    def __aiter__(self) -> Subscription[_T]:
        return self

    async def __anext__(self) -> _T:
        feed = self._feed
        await trio.lowlevel.checkpoint()
        while self._position == feed.total:
            if feed.ended:
                raise StopAsyncIteration
            await feed.news.park()
        oldest = feed.total - len(feed.items)
        if self._position < oldest:
            self.dropped += oldest - self._position
            self._position = oldest
        item = feed.items[self._position - oldest]
        self._position += 1
        return item


class Feed(Generic[_T]):
    """The last items of one kind, and who waits for the next."""

    def __init__(self) -> None:
        self.items: deque[_T] = deque(maxlen=KEPT_ITEMS)
        self.total = 0
        self.ended = False
        self.news = trio.lowlevel.ParkingLot()

    def put(self, item: _T) -> None:
        self.items.append(item)
        self.total += 1
        self.news.unpark_all()

    def end(self) -> None:
        self.ended = True
        self.news.unpark_all()

    def subscribe(self, past: bool) -> Subscription[_T]:
        return Subscription(self, self.total - len(self.items) if past else self.total)


def call_error(type: str, message: str, **details: Any) -> CallError:
    """An error that the host makes itself."""
    return CallError({"type": type, "message": message, **details})
