"""A supervisor made of a stream and whatever a test has it say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from snakepit_port.harness import Host, host_over
from snakepit_port.wire import decode, encode, messages
from snakepit_port.wire.framing import Framer


class FakeSupervisor:
    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self.framer = Framer(2**26)
        self.received: list[tuple[Any, ...]] = []
        self.reads = 0

    async def next(self) -> tuple[Any, ...]:
        """The next frame of the host; ("eof",) once either has closed its side."""
        while not self.received:
            try:
                data = await self.stream.receive_some()
            except trio.ClosedResourceError:
                data = b""
            if not data:
                return ("eof",)
            self.reads += 1
            self.received += [messages.parse(frame) for frame in self.framer.feed(data)]
        return self.received.pop(0)

    async def expect(self, tag: str) -> tuple[Any, ...]:
        frame = await self.next()
        assert frame[0] == tag, frame
        return frame[1:]

    async def send(self, *frames: bytes) -> None:
        await self.stream.send_all(b"".join(frames))

    async def greet(self, **info: Any) -> tuple[Any, ...]:
        """Answers the host's hello, and returns it."""
        hello = await self.expect("hello")
        await self.send(messages.hello({"software": "fake", "os_pid": 1, **info}))
        return hello

    async def answer(self, frame: tuple[Any, ...], value: Any) -> None:
        await self.send(messages.result(frame[0], encode(value)))

    async def close_at_eof(self) -> list[tuple[Any, ...]]:
        """Reads on to the end of the host's side, closes too, and returns what came before."""
        rest: list[tuple[Any, ...]] = []
        while (frame := await self.next()) != ("eof",):
            rest.append(frame)
        await self.stream.aclose()
        return rest


def args_of(call: tuple[Any, ...]) -> Any:
    """The arguments of a call or control frame that `expect` returned."""
    return decode(next(element for element in reversed(call) if isinstance(element, bytes)))


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[tuple[Host, FakeSupervisor]]:
    """A host and a supervisor that have said hello, and that part in good order."""
    ours, theirs = trio.testing.memory_stream_pair()
    supervisor = FakeSupervisor(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.greet)
        async with host_over(ours, **options) as host:
            yield host, supervisor
            nursery.start_soon(supervisor.close_at_eof)
