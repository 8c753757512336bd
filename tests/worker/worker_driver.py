"""The supervisor's part towards a starter and its workers, played without Trio, one step at a time.

Everything waits on a descriptor; the timeouts are for a test that would otherwise hang.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import snakepit_port
from snakepit_port import wire
from snakepit_port.wire import messages
from snakepit_port.wire.framing import Framer
from snakepit_port.worker import starter_frames
from snakepit_port.worker.orphans import NOBODY

HERE = Path(__file__).parent
BOOT = Path(snakepit_port.__file__).parent / "worker" / "boot.py"

#: Seconds. Nothing here takes a hundredth of it on an idle machine; a busy one may be that slow.
TIMEOUT = 30.0

MAX_FRAME_BYTES = 1024 * 1024

#: A process of the host's.
PID = wire.Pid(b"\x58\x77\x0dnonode@nohost" + (50).to_bytes(4, "big") + bytes(8))

SLOTS = 1024


def readable(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(TIMEOUT * 1000):
        raise TimeoutError(f"nothing came within {TIMEOUT} s")


class Process:
    """Watches a process that need not be a child of this one. It has to be alive at first."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    @property
    def alive(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return not poll.poll(0)

    def wait(self) -> None:
        """Wait until it has ended."""
        readable(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class Pipe:
    """The end of a pipe that somebody prints to."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._got = b""

    def line(self) -> str:
        """The next line without its end; what is left at end-of-file, which may be nothing."""
        while b"\n" not in self._got and self._more():
            pass
        line, _, self._got = self._got.partition(b"\n")
        return line.decode()

    def until(self, end: bytes, ask: Callable[[], None]) -> str:
        """What comes before this byte, which is asked for until something comes."""
        ask()
        while end not in self._got:
            if select.select([self._fd], [], [], 1.0)[0]:
                self._more()
            else:
                ask()
        text, _, self._got = self._got.partition(end)
        return text.decode()

    def rest(self) -> str:
        """Everything, until the last process that could write has gone."""
        while self._more():
            pass
        rest, self._got = self._got, b""
        return rest.decode()

    def _more(self) -> bool:
        readable(self._fd)
        data = os.read(self._fd, 65536)
        self._got += data
        return bool(data)

    def close(self) -> None:
        os.close(self._fd)


class Failure(Exception):
    """A call was answered with an error, which is in `error`."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.error = error


class Starter:
    """A pool's starter, in `python`; to be closed."""

    def __init__(
        self,
        start_method: str = "forkserver",
        *,
        python: str = sys.executable,
        preload: tuple[str, ...] = (),
        python_path: tuple[str, ...] = (str(HERE),),
        env: Mapping[str, str] | None = None,
        threads: int | None = None,
    ) -> None:
        self.start_method = start_method
        #: Calls at a time of each worker; None is the process profile.
        self.threads = threads
        self.python_path = list(python_path)
        self._ledger_fd = os.memfd_create("ledger", os.MFD_CLOEXEC)
        os.ftruncate(self._ledger_fd, 8 * SLOTS)
        self._map = mmap.mmap(self._ledger_fd, 8 * SLOTS)
        self.ledger = memoryview(self._map).cast("Q")
        self._numbers = itertools.count()
        self.control, theirs = socket.socketpair()
        self.control.settimeout(TIMEOUT)
        out, their_out = os.pipe()
        self.output = Pipe(out)
        self.process = subprocess.Popen(
            [python, str(BOOT), "starter", str(theirs.fileno()), str(self._ledger_fd)],
            stdin=subprocess.DEVNULL,
            stdout=their_out,
            stderr=their_out,
            env={**os.environ, **NOBODY, **(env or {})},
            pass_fds=(theirs.fileno(), self._ledger_fd),
            process_group=0,
        )
        theirs.close()
        os.close(their_out)
        self.alive = Process(self.process.pid)
        self._framer = Framer(starter_frames.MAX_FRAME_BYTES)
        self._told: deque[tuple[Any, ...]] = deque()
        info = {
            "pool": "default",
            "start_method": start_method,
            "preload": list(preload),
            "python_path": self.python_path,
        }
        self.control.sendall(starter_frames.hello(info))

    def told(self, tag: str, worker: str | None = None) -> tuple[Any, ...]:
        """What follows the tag, and the name of the worker, in its next frame of that kind."""
        while True:
            for said in self._told:
                if said[0] == tag and (worker is None or said[1] == worker):
                    self._told.remove(said)
                    return said[1:] if worker is None else said[2:]
            data = self.control.recv(65536)
            if not data:
                raise EOFError(f"the starter ended without {tag}: {self.output.rest()}")
            frames = self._framer.feed(data)
            for frame in frames:
                assert isinstance(frame, bytes)
                self._told.append(starter_frames.parse(frame, starter_frames.FROM_STARTER))

    @property
    def heard(self) -> list[tuple[Any, ...]]:
        """What it has said and nobody has asked for."""
        return list(self._told)

    def start(self, *, greeting: bytes | None = None, behind: bytes = b"", **info: Any) -> Worker:
        """Ask for a worker and greet it; it may not be ready yet. `info` goes into its hello,
        unless it gets another greeting; `behind` comes in one piece with it."""
        return Worker(self, next(self._numbers), greeting, behind, info)

    def end(self) -> int:
        """Close its link, as the supervisor does and as its death would; returns its status."""
        self.control.close()
        self.alive.wait()
        return self.process.wait()

    def close(self) -> None:
        if self.process.returncode is None:
            self.end()
        self.alive.close()
        self.control.close()
        self.output.close()
        self.ledger.release()
        self._map.close()
        os.close(self._ledger_fd)

    def __enter__(self) -> Starter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Worker:
    """A worker and its channel; closing it asks it to end and waits for that."""

    def __init__(
        self,
        starter: Starter,
        number: int,
        greeting: bytes | None,
        behind: bytes,
        info: Mapping[str, Any],
    ) -> None:
        self.starter = starter
        self.name = f"worker-{number}"
        self.slot = number
        self._ids = itertools.count(1)
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(TIMEOUT)
        out, their_out = os.pipe()
        err, their_err = os.pipe()
        stacks, their_stacks = os.pipe()
        self.stdout, self.stderr, self.stacks = Pipe(out), Pipe(err), Pipe(stacks)
        fds = [theirs.fileno(), their_out, their_err, their_stacks]
        socket.send_fds(starter.control, [starter_frames.start(self.name, self.slot)], fds)
        theirs.close()
        os.close(their_out)
        os.close(their_err)
        os.close(their_stacks)
        self._framer = Framer(MAX_FRAME_BYTES * 4)
        self._frames: deque[tuple[Any, ...]] = deque()
        #: What it said by the way: name and metadata of events.
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._status: int | None = None
        self._process: Process | None = None
        hello = {
            "software": "driver",
            "max_frame_bytes": MAX_FRAME_BYTES,
            "max_answer_bytes": MAX_FRAME_BYTES,
            "pool": "default",
            "worker": self.name,
            "adapter": "worker_adapter",
            "adapter_args": {},
            "python_path": starter.python_path,
            "direct_calls": [],
            "threads": starter.threads,
            "thread_safety_checks": False,
            "unsafe_modules": {},
            "tools": True,
            **info,
        }
        # One that could not be started has hung up by now, perhaps.
        with contextlib.suppress(BrokenPipeError):
            self.send(messages.hello(hello) if greeting is None else greeting, behind)

    # -- the process -------------------------------------------------------------------------------

    @property
    def process(self) -> Process:
        """Its process, which the starter has told of."""
        if self._process is None:
            self._process = Process(self.starter.told("started", self.name)[0])
        return self._process

    @property
    def begun(self) -> int:
        """Calls that it has started."""
        return self.starter.ledger[self.slot]

    def signal(self, number: int, *, group: bool = False) -> None:
        self.starter.control.sendall(starter_frames.signal(self.name, number, group))

    def exited(self) -> int:
        """Its wait status, once the starter has reaped it."""
        if self._status is None:
            (self._status,) = self.starter.told("exited", self.name)
        return self._status

    def hang_up(self) -> None:
        """End-of-file for the worker; what it still says can be read."""
        self.channel.shutdown(socket.SHUT_WR)

    def forget(self) -> None:
        """Close a worker that was never started."""
        self._status = -1
        self.close()

    def close(self) -> None:
        self.channel.close()
        if self.starter.alive.alive:
            self.exited()
        if self._process is not None:
            self._process.close()
        self.stdout.close()
        self.stderr.close()
        self.stacks.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the channel -------------------------------------------------------------------------------

    def send(self, *frames: bytes) -> None:
        self.channel.sendall(b"".join(frames))

    def frames(self) -> Iterator[tuple[Any, ...]]:
        """What it says, until it hangs up."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                if frame[0] == "event":
                    self.events.append((frame[1], frame[3]))
                else:
                    yield frame
            data = b""
            with contextlib.suppress(ConnectionResetError):
                data = self.channel.recv(65536)
            if not data:
                return
            self._frames.extend(messages.parse(frame) for frame in self._framer.feed(data))  # type: ignore[arg-type]

    def next(self) -> tuple[Any, ...]:
        for frame in self.frames():
            return frame
        raise EOFError(f"{self.name} hung up: {self.stderr.rest()}")

    def ready(self) -> Worker:
        """Wait until it has loaded its adapter."""
        assert self.next()[0] == "hello"
        said = self.next()
        assert said[0] == "ready", said
        return self

    def frame(self, command: str, *args: Any, **keywords: Any) -> tuple[int, bytes]:
        """A new id, and a call of a command with positions, or with keywords."""
        id = next(self._ids)
        return id, messages.call(id, "default", command, wire.encode(keywords or list(args)))

    def begin(self, command: str, *args: Any, **keywords: Any) -> int:
        """Send a call; returns its id."""
        id, frame = self.frame(command, *args, **keywords)
        self.send(frame)
        return id

    def begin_stream(self, credit: int, command: str, *args: Any) -> int:
        """Send a stream call; returns its id."""
        id, frame = self.stream_frame(credit, command, *args)
        self.send(frame)
        return id

    def stream_frame(self, credit: int, command: str, *args: Any) -> tuple[int, bytes]:
        """A new id, and a stream call."""
        id = next(self._ids)
        options = {"stream": credit}
        return id, messages.call(id, "default", command, wire.encode(list(args)), options)

    def chunk(self, id: int) -> Any:
        """A chunk of a stream, which has to be the next frame."""
        tag, answered, content = self.next()
        assert (tag, answered) == ("chunk", id), (tag, answered, content)
        return wire.decode(content)

    def chunks(self, id: int) -> tuple[list[Any], str, Any]:
        """What is left of a stream, which has to come next: its chunks, the tag and the content of
        the answer."""
        values = []
        for tag, answered, content in self.frames():
            assert answered == id, (tag, answered, content)
            if tag != "chunk":
                return values, tag, wire.decode(content) if tag == "result" else content
            values.append(wire.decode(content))
        raise EOFError(f"{self.name} hung up: {self.stderr.rest()}")

    def answer(self, id: int) -> Any:
        """The answer to a call, which has to be the next frame. Raises `Failure`."""
        tag, answered, content = self.next()
        assert answered == id, (tag, answered, content)
        if tag == "error":
            raise Failure(content)
        assert tag == "result", (tag, answered, content)
        return wire.decode(content)

    def call(self, command: str, *args: Any, **keywords: Any) -> Any:
        """Call and wait. Raises `Failure`."""
        return self.answer(self.begin(command, *args, **keywords))

    def failure(self, command: str, *args: Any, **keywords: Any) -> dict[str, Any]:
        """The error that a call is answered with."""
        return self.failure_of(self.begin(command, *args, **keywords))

    def failure_of(self, id: int) -> dict[str, Any]:
        try:
            value = self.answer(id)
        except Failure as exc:
            return exc.error
        raise AssertionError(f"call {id} was answered with {value!r}")

    def interrupt(self, id: int, times: int = 1) -> None:
        """Cancel a call as the supervisor does: the frame first, then the signal."""
        self.send(messages.cancel(id))
        for _ in range(times):
            self.signal_urgent()

    def signal_urgent(self) -> None:
        # Straight, not by way of the starter, so that a test can aim.
        os.kill(self.process.pid, signal.SIGURG)


class Start(Protocol):
    def __call__(self, **info: Any) -> Worker: ...


class Fifo:
    """A named pipe for a command to wait at."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        # Open both ways, so that neither opening nor writing waits for the other side.
        self._fd = os.open(path, os.O_RDWR)

    def release(self, text: str = "released") -> None:
        os.write(self._fd, f"{text}\n".encode())

    def close(self) -> None:
        os.close(self._fd)
