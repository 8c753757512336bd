"""The process that forks a pool's workers, seen from the supervisor.

One for each source of a pool's workers, in the pool's interpreter and environment;
`worker/starter.py` is its other end.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import snakepit_port
from snakepit_port.config.model import PoolSettings
from snakepit_port.environment.finding import find_python, what_to_do, where_to_look, why_not_run
from snakepit_port.processes import lives
from snakepit_port.supervisor.link import Link
from snakepit_port.supervisor.output import Output
from snakepit_port.supervisor.pump import Pump
from snakepit_port.supervisor.run import Run
from snakepit_port.wire.framing import Frame, Oversized
from snakepit_port.worker import starter_frames

BOOT = Path(snakepit_port.__file__).parent / "worker" / "boot.py"


class StarterError(Exception):
    """The starter's process could not be started; the text says why and what to do."""


class _Control(Link):
    """A link that passes descriptors along.

    `not_sent` is called with each frame that the system did not take because of its descriptors:
    of those that a user has under way, in all processes, it allows as many as one process may have
    open (unix(7), ETOOMANYREFS). They are closed then.
    """

    def __init__(
        self,
        pump: Pump,
        sock: socket.socket,
        received: Callable[[list[Frame]], None],
        closed: Callable[[], None],
        not_sent: Callable[[bytes], None],
    ) -> None:
        self._socket = sock
        self._not_sent = not_sent
        self._passed: deque[tuple[int, ...]] = deque()
        #: Frames that `not_sent` is yet to be called with.
        self._refused: deque[bytes] = deque()
        fd = sock.fileno()
        super().__init__(pump, fd, fd, starter_frames.MAX_FRAME_BYTES, received, closed)

    def send_with(self, frame: bytes, fds: tuple[int, ...]) -> None:
        """Send a frame and descriptors, which are closed here once they have gone."""
        if not self._writable:
            _close_all(fds)
            return
        self._passed.append(fds)
        super().send(frame)

    def send(self, frame: bytes) -> None:
        self.send_with(frame, ())

    def _write_some(self) -> int:
        # One frame a call, so that its descriptors travel with its first byte.
        frame, fds = self._out[0], self._passed[0]
        if not fds:
            return self._socket.send(frame)
        try:
            written = socket.send_fds(self._socket, [frame], list(fds))
        except OSError as exc:
            if exc.errno != errno.ETOOMANYREFS:
                raise
            # All of it is left out, for nothing of it has gone; what comes behind it is not lost.
            self._refused.append(bytes(frame))
            written = len(frame)
        _close_all(fds)
        self._passed[0] = ()
        return written

    def _drop(self, written: int) -> None:
        frames = len(self._out)
        super()._drop(written)
        if len(self._out) < frames:
            self._passed.popleft()

    def flush(self) -> None:
        super().flush()
        if not self._writable:
            self._close_passed()
        while self._refused:
            self._not_sent(self._refused.popleft())

    def finish(self) -> None:
        """Send nothing more after this; what the other end still says is read."""
        self.send(starter_frames.finish())
        self.flush()
        self._writable = False
        self._close_passed()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._close_passed()
        super().close()

    def _close_passed(self) -> None:
        while self._passed:
            _close_all(self._passed.popleft())


class Starter:
    """`told` gets each frame of the starter as a tuple, and `("broken", Why)` if one breaks its
    protocol, for which it is killed: that is the last of it. `gone` is called once, when it has
    ended.

    Raises `StarterError`, and leaves nothing, if the interpreter cannot be executed, or there is
    nothing to talk to it with.
    """

    def __init__(
        self,
        pump: Pump,
        settings: PoolSettings,
        run: Run,
        env: Mapping[str, str],
        ledger_fd: int,
        shm_folder: str | None,
        told: Callable[[tuple[Any, ...]], None],
        gone: Callable[[], None],
        log: Callable[[str, str], None],
    ) -> None:
        self._told = told
        self._gone = gone
        self._is_broken = False
        #: Whether it lived when its link closed.
        self.left = False
        with ExitStack() as undo, ExitStack() as inherited:
            try:
                ours, theirs = socket.socketpair()
                undo.callback(ours.close)
                inherited.callback(theirs.close)
                out, their_out = os.pipe()
                undo.callback(os.close, out)
                inherited.callback(os.close, their_out)
            except OSError as exc:
                message = f"no descriptors for a starter: {exc.strerror}; raise `ulimit -n`"
                raise StarterError(message) from None
            marked = {**env, **run.marks(settings.name)}
            fds = theirs.fileno(), ledger_fd
            self.process = _execute(settings.python, marked, fds, their_out)
            for fd in (ours.fileno(), out):
                undo.callback(pump.forget, fd)
            undo.callback(self._end)
            try:
                self.output = Output(pump, out, "warning", log)
                self.control = _Control(
                    pump, ours, self._received, self._closed, self._could_not_ask
                )
            except OSError as exc:
                message = (
                    f"a starter cannot be waited for: {exc.strerror}; raise"
                    " `fs.epoll.max_user_watches`"
                )
                raise StarterError(message) from None
            undo.pop_all()
        self._socket = ours
        self.control.send(
            starter_frames.hello(
                {
                    "pool": settings.name,
                    "start_method": settings.start_method,
                    "preload": list(settings.preload),
                    "python_path": list(settings.python_path),
                    "shm_folder": shm_folder,
                }
            )
        )

    def start(self, worker: str, slot: int, fds: tuple[int, int, int, int]) -> None:
        """Ask for a worker; the descriptors (channel, stdout, stderr, stacks) go to it and are
        closed."""
        self.control.send_with(starter_frames.start(worker, slot), fds)

    def signal(self, worker: str, signum: int, *, group: bool) -> None:
        self.control.send(starter_frames.signal(worker, signum, group))

    def ping(self) -> None:
        """Have it tell that it is there, once it has done all it was told."""
        self.control.send(starter_frames.ping())

    def finish(self) -> None:
        """Have it end, once: it kills every worker that is left."""
        self.control.finish()

    def kill(self) -> None:
        self.process.kill()

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()

    def _received(self, frames: list[Frame]) -> None:
        for frame in frames:
            if self._is_broken:
                return
            try:
                if isinstance(frame, Oversized):
                    raise ValueError(f"a frame of {frame.size} bytes")
                said = starter_frames.parse(frame, starter_frames.FROM_STARTER)
            except ValueError as exc:
                # A module that it preloaded got hold of its descriptor, say.
                self._is_broken = True
                self.process.kill()
                said = "broken", f"it sent {exc}"
            self._told(said)

    def _could_not_ask(self, frame: bytes) -> None:
        _, worker, _ = starter_frames.parse(frame, ("start",))
        message = (
            f"no descriptors for worker {worker}: too many of this user's are being passed between"
            " processes; raise `ulimit -n`"
        )
        self._told(("start_failed", worker, message))

    def _closed(self) -> None:
        # Its end of the link closes as it exits; if it only lost the link, it is of no use. Killed
        # first: what sees this end close takes it that the supervisor died, and cleans up after it.
        self.left = lives(self.process.pid)
        self._end()
        self.control.close()
        self._socket.close()
        self.output.close()
        self._gone()


def _execute(
    python: str, env: Mapping[str, str], fds: tuple[int, int], output: int
) -> subprocess.Popen[bytes]:
    """Have an interpreter be a starter, which inherits its end of the link and the ledger. Raises
    `StarterError`."""
    look = where_to_look(python)
    try:
        python = find_python(python, env)
        # From the main thread, and nothing runs between fork and exec: a thread of Trio's would
        # take a child armed with PR_SET_PDEATHSIG along when it ends.
        return subprocess.Popen(
            [python, str(BOOT), "starter", *map(str, fds)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            pass_fds=fds,
            process_group=0,
        )
    except OSError as exc:
        hint = what_to_do(exc)
        if not hint:
            hint = look
            if not os.path.lexists(python) and Path(python).parent.name == "bin":
                hint += (
                    ", or have `scripts/setup_python FILE` of a checkout make the environments that"
                    " a configuration names"
                )
        raise StarterError(f"{why_not_run(python, exc)}; {hint}") from None
    except ValueError as exc:
        # Nothing can have such a name.
        message = f"the interpreter {python!r} cannot be started: {exc}"
        raise StarterError(f"{message}; {look}") from None


def _close_all(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)
