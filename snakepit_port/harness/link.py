"""The lower half of the harness: carries frames, and finds who waits for each answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

from snakepit_port.bulk.files import FileReader, Folder, remove_folder
from snakepit_port.harness.outbox import CLOSED, Outbox
from snakepit_port.harness.pools import Pools
from snakepit_port.harness.process import SupervisorProcess
from snakepit_port.harness.reports import (
    CallError,
    Event,
    Feed,
    LogLine,
    Message,
    RawFrame,
    call_error,
)
from snakepit_port.harness.stream import Stream
from snakepit_port.harness.tools import Tool, Tools
from snakepit_port.processes import signal_name
from snakepit_port.wire import DecodeError, Pid, decode, envelopes, messages
from snakepit_port.wire.framing import Framer, Oversized
from snakepit_port.wire.grammar import PROTOCOL_VERSION, ProtocolError

#: Seconds between the end of one sign of life (the end of output, the exit) and giving up on the
#: other. They come together unless a stray process holds the supervisor's stdout.
LAST_WORDS = 1.0

#: What Python exits with where it has no such module, or is too old to know -P.
_NO_SUPERVISOR = (1, 2)

#: One read takes what a widened pipe holds.
_READ_BYTES = 2**20

#: How the names of files begin that workers write.
WORKERS = "w"


class _Waiter:
    """Who waits for an answer, and the answer: a payload, or a value that was in files."""

    __slots__ = ("answered", "error", "payload", "progress", "value")

    def __init__(self, progress: Callable[[float, float], object] | None = None) -> None:
        self.progress = progress
        self.answered = trio.Event()
        self.payload: bytes | None = None
        self.value: Any = None
        self.error: CallError | None = None

    def answer(self, payload: bytes | None, error: CallError | None) -> None:
        self.payload = payload
        self.error = error
        self.answered.set()


class Link:
    """A host without its public methods.

    One task reads: it takes every frame that has arrived and gives it to the handler of its tag.
    Another writes: see `Outbox`.
    """

    def __init__(
        self,
        stream: trio.abc.HalfCloseableStream,
        hello: bytes,
        max_frame_bytes: int,
        on_log: Callable[[LogLine], object] | None,
        process: SupervisorProcess | None = None,
        make_reader: Callable[[Folder | None, str], FileReader] = FileReader,
        tools: Mapping[str, Tool] | None = None,
    ) -> None:
        self._stream = stream
        self._hello = hello
        self._max_frame_bytes = max_frame_bytes
        self._on_log = on_log
        self._process = process
        self._life = trio.CancelScope(shield=True)
        self._framer = Framer(max_frame_bytes)
        self._outbox = Outbox(stream)
        self._next_id = 0
        self._waiters: dict[int, _Waiter | Stream] = {}
        self._forgotten: set[int] = set()
        self._pings: dict[int, _Waiter] = {}
        self._greeted = trio.Event()
        self._pools = Pools()
        self._read_all = trio.Event()
        self._ended = trio.Event()
        self._events: Feed[Event] = Feed()
        self._logs: Feed[LogLine] = Feed()
        self._messages: Feed[Message] = Feed()
        self._complaints: Feed[CallError] = Feed()
        self._frames: Feed[RawFrame] | None = None
        self._shm: Folder | None = None
        self._make_reader = make_reader
        self._reader = make_reader(None, WORKERS)
        self._tools = Tools(tools, self._post)
        self._nursery: trio.Nursery
        self._handlers: dict[str, Callable[..., None]] = {
            "hello": self._on_hello,
            "ready": self._on_ready,
            "result": self._on_result,
            "chunk": self._on_chunk,
            "error": self._on_error,
            "event": self._on_event,
            "log": self._on_log_entry,
            "pong": self._on_pong,
            "tool": self._on_tool,
            "send": self._on_send,
            "progress": self._on_progress,
        }
        #: What the supervisor said in its hello (SPEC, section 3).
        self.info: Mapping[str, Any] = {}
        #: Answers that belonged to no call of this host: a second answer to one call, or the answer
        #: to a frame that was sent raw.
        self.stray_answers = 0

    # -- the link: tasks ----------------------------------------------------------------------

    async def _run(self) -> None:
        """Carries frames until the link ends, whatever ends it, and then tells everyone who waits.

        Shielded, so that a cancelled host still says goodbye; `_life.cancel()` ends it at once.
        """
        end = call_error("supervisor_down", "this host gave up on the link")
        try:
            with self._life:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    nursery.start_soon(self._outbox.run)
                    wrong = None
                    with trio.CancelScope() as reading:
                        if self._process is not None:
                            nursery.start_soon(self._read_no_more, self._process, reading)
                        wrong = await self._read()
                    self._read_all.set()
                    end = wrong or await self._describe_end()
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)
            self._end(end)
            if self._shm is not None:
                # The supervisor leaves results there that this host might not have read.
                remove_folder(self._shm.path)

    def _end(self, why: CallError) -> None:
        self._outbox.refuse(why)
        for waiter in (*self._waiters.values(), *self._pings.values()):
            waiter.answer(b"", CallError(why.details))
        self._waiters.clear()
        for event in (self._greeted, self._ended):
            event.set()
        self._pools.end()
        for feed in (self._events, self._logs, self._messages, self._complaints, self._frames):
            if feed is not None:
                feed.end()

    async def _read(self) -> CallError | None:
        """Handles frames until the end of the link; returns what the supervisor did wrong."""
        self._post(self._hello)
        try:
            while data := await self._stream.receive_some(_READ_BYTES):
                for frame in self._framer.feed(data):
                    if isinstance(frame, Oversized):
                        self._on_oversized(frame)
                        continue
                    if self._frames is not None:
                        self._frames.put(RawFrame(False, frame))
                    self._handle(*messages.parse(frame))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # An end like any other.
        except ProtocolError as exc:
            return call_error(
                "protocol_error", f"the supervisor sent what it must not: {exc.message}"
            )
        except CallError as exc:
            return exc
        return None

    async def _read_no_more(self, process: SupervisorProcess, reading: trio.CancelScope) -> None:
        await process.wait()
        with trio.move_on_after(LAST_WORDS):
            await self._read_all.wait()
        reading.cancel()

    async def _describe_end(self) -> CallError:
        if self._process is None:
            return call_error("supervisor_down", "the supervisor closed the link")
        with trio.move_on_after(LAST_WORDS):
            await self._process.wait()
        status = self._process.exit_status
        if status is None:
            return call_error("supervisor_down", "the supervisor closed its output and still runs")
        if status < 0:
            name = signal_name(-status)
            why = " (perhaps out of memory?)" if name == "SIGKILL" else ""
            message = f"the supervisor was killed by {name}{why}"
            return call_error("supervisor_down", message, signal=name)
        if status == 0 and self._outbox.is_closed:
            return call_error("supervisor_down", CLOSED)
        message = f"the supervisor exited with status {status}"
        if self._greeted.is_set() or status not in _NO_SUPERVISOR:
            message += "; see its stderr"
        else:
            python = self._process.program
            message += (
                f", before its hello. Its interpreter, {python}, has to be Python 3.11 or newer"
                f" with snakepit-port installed: run {python} -m pip install PATH-OF-THE-CHECKOUT"
            )
        return call_error("supervisor_down", message, status=status)

    # -- the link: sending --------------------------------------------------------------------

    async def _ask(
        self,
        make_frame: Callable[[int], bytes],
        progress: Callable[[float, float], object] | None = None,
        *,
        cancels: bool = False,
    ) -> Any:
        """`cancels`: the other side is told when nobody waits for the answer any more."""
        await self._outbox.room()
        id = self._take_id()
        frame = make_frame(id)
        waiter = self._waiters[id] = _Waiter(progress)
        self._post(frame)
        try:
            await waiter.answered.wait()
        except BaseException:
            self._forget(id, cancels=cancels)
            raise
        if waiter.error is not None:
            raise waiter.error
        return waiter.value if waiter.payload is None else self._decode(waiter.payload)

    def _decode(self, payload: bytes) -> Any:
        try:
            return decode(payload, reader=self._reader)
        except DecodeError as exc:
            raise call_error("decode", f"the result cannot be read here: {exc}") from exc

    def _forget(self, id: int, *, cancels: bool) -> None:
        """Nobody waits for this answer any more, if it is still to come."""
        if self._waiters.pop(id, None) is not None:
            self._forgotten.add(id)
            if cancels:
                self._post(messages.cancel(id))

    async def _ping(self) -> None:
        await self._outbox.room()
        number = self._take_id()
        waiter = self._pings[number] = _Waiter()
        self._post(messages.ping(number))
        try:
            await waiter.answered.wait()
        finally:
            self._pings.pop(number, None)
        if waiter.error is not None:
            raise waiter.error

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _post(self, frame: bytes) -> None:
        if self._frames is not None:
            self._frames.put(RawFrame(True, frame))
        self._outbox.put(frame)

    # -- the link: what arrives ---------------------------------------------------------------

    def _handle(self, tag: str, *elements: Any) -> None:
        if not self._greeted.is_set() and tag not in ("hello", "error"):
            raise ProtocolError(f"{tag} before its hello")
        handler = self._handlers.get(tag)
        if handler is None:
            raise ProtocolError(f"{tag} is not for a host that did not ask for it")
        handler(*elements)

    def _on_hello(self, version: int, info: Mapping[str, Any]) -> None:
        if self._greeted.is_set():
            raise ProtocolError("a second hello")
        if version != PROTOCOL_VERSION:
            raise call_error(
                "protocol_version",
                f"the supervisor speaks protocol version {version}, this host speaks version "
                f"{PROTOCOL_VERSION}; install the same release on both sides",
            )
        try:
            self._shm = Folder.of(info)
        except (KeyError, TypeError, ValueError):
            message = "shm in its hello is no folder with its limits"
            raise ProtocolError(message) from None
        self.info = info
        self._tools.max_frame_bytes = info.get("max_frame_bytes", self._max_frame_bytes)
        self._reader = self._make_reader(self._shm, WORKERS)
        self._greeted.set()

    def _on_ready(self, info: Mapping[str, Any]) -> None:
        self._pools.ready(_by_pool("ready", info.get("pools", {})))

    def _on_result(self, id: int, payload: bytes, files: Sequence[str] = ()) -> None:
        if id in self._pools.reloads:
            self._pools.reloaded(id, _changes(payload))
        if not files:
            self._answer(id, payload, None)
            return
        # Read at once: so no file waits for a task that may be cancelled.
        waiter = self._waiters.get(id)
        problem = None
        if waiter is not None:
            try:
                waiter.value = self._decode(payload)
            except CallError as exc:
                problem = exc
        if self._shm is not None:
            self._shm.discard(files)
        self._answer(id, None, problem)

    def _on_chunk(self, id: int, payload: bytes) -> None:
        waiter = self._waiters.get(id)
        if isinstance(waiter, Stream):
            waiter.chunk(payload)
        elif waiter is not None:
            raise ProtocolError(f"a chunk of call {id}, which is no stream")
        elif id not in self._forgotten:
            self.stray_answers += 1

    def _on_error(self, id: int | None, error: Mapping[str, Any]) -> None:
        problem = CallError(error)
        if not self._greeted.is_set():
            raise problem
        if id is None:
            self._complaints.put(problem)
        else:
            self._fail(id, problem)

    def _on_oversized(self, frame: Oversized) -> None:
        id = envelopes.read_head(frame.head)
        message = (
            f"the supervisor sent a frame of {frame.size} bytes, over this host's limit of "
            f"{self._max_frame_bytes}"
        )
        if id is None:
            raise ProtocolError(message)
        self._fail(id, call_error("frame_too_large", message))

    def _fail(self, id: int, error: CallError) -> None:
        if id in self._pools.reloads:
            self._pools.reloaded(id, {})
        self._answer(id, b"", error)

    def _answer(self, id: int, payload: bytes | None, error: CallError | None) -> None:
        self._tools.close(id)
        waiter = self._waiters.pop(id, None)
        if waiter is None:
            if id in self._forgotten:
                self._forgotten.remove(id)
            else:
                self.stray_answers += 1
            return
        waiter.answer(payload, error)

    def _on_event(
        self, name: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        self._pools.event(name, metadata)
        self._events.put(Event(name, measurements, metadata))

    def _on_log_entry(self, entry: Mapping[str, Any]) -> None:
        line = LogLine(
            entry.get("pool"),
            entry.get("worker"),
            str(entry.get("source", "supervisor")),
            str(entry.get("level", "info")),
            str(entry.get("line", "")),
        )
        self._logs.put(line)
        if self._on_log is not None:
            self._on_log(line)

    def _on_tool(self, id: int, number: int, name: str, args: bytes) -> None:
        # Here: the call may be answered before the tool has begun.
        scope = self._tools.begin(id)
        self._nursery.start_soon(self._tools.run, scope, id, number, name, args)

    def _on_send(self, pid: Pid, message: bytes) -> None:
        try:
            self._messages.put(Message(pid, self._decode(message)))
        except CallError as exc:
            self._complaints.put(exc)

    def _on_progress(self, id: int, done: float, total: float) -> None:
        waiter = self._waiters.get(id)
        if isinstance(waiter, _Waiter) and waiter.progress is not None:
            waiter.progress(done, total)

    def _on_pong(self, number: int) -> None:
        waiter = self._pings.pop(number, None)
        if waiter is not None:
            waiter.answered.set()


def _changes(payload: bytes) -> Mapping[str, str]:
    """What the answer to a reload says becomes of each pool."""
    try:
        answer = decode(payload)
    except DecodeError as exc:
        raise ProtocolError(f"the answer to a reload: {exc}") from None
    return _by_pool("the answer to a reload", isinstance(answer, dict) and answer.get("pools"))


def _by_pool(where: str, said: Any) -> Mapping[str, str]:
    """Names of pools, and a word on each."""
    if isinstance(said, dict) and all(
        isinstance(text, str) for pair in said.items() for text in pair
    ):
        return said
    raise ProtocolError(f"{where} has no word on each pool")
