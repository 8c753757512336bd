"""The supervisor's process: descriptors, hello, signals, exit codes."""

from __future__ import annotations

import fcntl
import math
import os
import platform
import select
import signal
import sys
import traceback
from contextlib import suppress
from typing import Any

import trio

from snakepit_port import __version__
from snakepit_port.config import Config, ConfigError
from snakepit_port.config.model import MIN_FRAME_BYTES
from snakepit_port.config.report import encodable
from snakepit_port.supervisor import configuration, replies
from snakepit_port.supervisor.host import Host
from snakepit_port.supervisor.link import Link
from snakepit_port.supervisor.pump import READ, Pump, new_poller
from snakepit_port.supervisor.run import Run, find_leavings, remove
from snakepit_port.supervisor.shm import SharedMemory
from snakepit_port.wire import messages
from snakepit_port.wire.framing import Frame, cut_to
from snakepit_port.wire.grammar import PROTOCOL_VERSION, ProtocolError
from snakepit_port.wire.terms import show
from snakepit_port.worker import linux

# The codes of BSD's sysexits.h; SPEC section 15 says which is for what.
EX_OK, EX_SOFTWARE, EX_PROTOCOL, EX_CONFIG = 0, 70, 76, 78

SOFTWARE = f"snakepit_port {__version__}"

#: What this version can do beyond the core: SPEC section 16.
CAPABILITIES = ["streams", "sessions", "recycle", "reload", "stacks", "tools"]

#: Before the configuration is known; a hello carries it, and is not large.
_HELLO_MAX_BYTES = 64 * 1024 * 1024

#: Seconds that a host may take to read the last answers, and starters to end.
_FAREWELL = 2.0

#: Seconds that commands get to clean up when their host has died. A second more is left for
#: killing: nothing is to run 2 s after the host.
_LAST_GRACE = 1.0

#: Seconds, while there is much to do, between two looks at what is due.
_LOOK_EVERY = 0.001

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: The peer of a socket writes no more, which a pipe tells unasked.
_HALF_CLOSED = getattr(select, "EPOLLRDHUP", 0)

#: Linux lets anybody have pipes of 1 MiB: a large frame then takes fewer wake-ups on both sides.
_PIPE_BYTES = 1024 * 1024


class Stop(Exception):
    """End the process with this status, after telling the host why."""

    def __init__(self, status: int, error: dict[str, Any] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.error = error


class Signals:
    """SIGTERM, SIGINT, SIGHUP and SIGCHLD as a descriptor that becomes readable, until `ignore`:
    there is no moment at which one of them is lost, or kills. Nor are they blocked, as whoever
    started this may have had them."""

    def __init__(self) -> None:
        self.fd, self._wake = os.pipe()
        for fd in (self.fd, self._wake):
            os.set_blocking(fd, False)
        self._came: set[int] = set()
        for number in (*_STOP_SIGNALS, signal.SIGCHLD):
            # Whoever started this with nohup(1) wants it to outlive a terminal.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_STOP_SIGNALS, signal.SIGCHLD))

    def _note(self, number: int, _frame: Any) -> None:
        self._came.add(number)
        # The pipe is full: of signals that nobody has looked at yet.
        with suppress(BlockingIOError):
            os.write(self._wake, b"!")

    def ignore(self) -> None:
        """The process is ending. Python takes its handlers back as it ends, and a signal then
        kills; one that comes while Trio ends may find Trio's descriptors closed."""
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def take(self) -> set[int]:
        """Those that came since it was asked last."""
        with suppress(BlockingIOError):
            os.read(self.fd, 4096)
        came, self._came = self._came, set()
        return came


#: Seconds at the end without the end of any process that was killed, after which it is held.
_DESCENDANTS_GRACE = 1.0


class Supervisor:
    """From the first frame to the exit status."""

    def __init__(
        self, host_in: int, host_out: int, signals: Signals, config_path: str | None
    ) -> None:
        self._config_path = config_path
        self._signals = signals
        self._pump = Pump()
        self._pump.watch(signals.fd, READ, self._signalled)
        self._host: Host | None = None
        self._stopping = False
        #: How it ends, once it does.
        self._stop: Stop | None = None
        self._host_out = host_out
        #: When to be gone, whatever is left: nobody is there to answer.
        self._last_moment = math.inf
        #: Whether the host has closed its end of stdin, and until when what it sent before may wait
        #: to be read.
        self._is_closed = False
        self._patience_ends = math.inf
        #: When to see what is due next.
        self._looks_at = 0.0
        self._run = Run()
        self._host_watch = _watch_peer(host_out)
        if self._host_watch is not None:
            self._pump.watch(self._host_watch.fileno(), READ, self._host_died)
        self._closing_watch = _watch_peer(host_in, _HALF_CLOSED)
        if self._closing_watch is not None:
            self._pump.watch(self._closing_watch.fileno(), READ, self._host_closes)
        self._link = Link(
            self._pump, host_in, host_out, _HELLO_MAX_BYTES, self._received, self._closed
        )

    async def run(self) -> int:
        """Serve until the host or a signal ends it. Returns the exit status.

        Cancelled, it leaves at once. In any case nothing that it started is left.
        """
        try:
            return await self._serve()
        finally:
            self._signals.ignore()
            self._pump.close()
            linux.end_descendants(_DESCENDANTS_GRACE)
            if self._host is not None and self._host.shm is not None:
                self._host.shm.leave(to_host=not _is_broken(self._host_out))

    async def _serve(self) -> int:
        while self._stop is None:
            await self._turn(math.inf)
        if self._stop.error is not None:
            # Whatever it has said that it accepts: it may not have come to that.
            self._link.send(replies.error(None, self._stop.error, MIN_FRAME_BYTES))
        deadline = trio.current_time() + _FAREWELL
        self._pump.flush()
        while self._link.out_bytes and trio.current_time() < deadline:
            await self._turn(deadline)
        if self._host is not None:
            self._host.release()
        return self._stop.status

    async def _turn(self, deadline: float) -> None:
        pump, host = self._pump, self._host
        if not pump.turn_at_once():
            due = math.inf if host is None else host.next_due
            await pump.turn(min(deadline, self._last_moment, self._patience_ends, due))
            self._looks_at = pump.now
            # It may have said hello in this turn, and what it is owed from then on be due.
            host = self._host
        if host is None:
            return
        if pump.now >= self._looks_at:
            self._looks_at = pump.now + _LOOK_EVERY
            host.tick(pump.now)
        if pump.now >= self._patience_ends:
            self._closed()
        pump.flush()
        host.take_stock()
        if self._is_closed:
            self._patience_ends = self._patience_with(host)
        if self._stopping and (host.pools.stopped or pump.now >= self._last_moment):
            self._stop = self._stop or Stop(EX_OK)

    def _signalled(self, _events: int) -> None:
        came = self._signals.take()
        if signal.SIGCHLD in came:
            # Not a starter: what a starter that was killed has left to this process.
            linux.end_orphans(spared=self._host.pools.starter_pids if self._host else ())
        if came.intersection(_STOP_SIGNALS):
            self._shut_down()

    def _host_died(self, _events: int) -> None:
        """Nobody reads answers any more. What runs may clean up, and that is all."""
        assert self._host_watch is not None
        self._pump.watch(self._host_watch.fileno(), 0, self._host_died)
        self._shut_down()
        self._last_moment = self._pump.now + _LAST_GRACE
        if self._host is not None:
            self._host.cancel_all()
            self._pump.flush()

    def _host_closes(self, _events: int) -> None:
        """It says no more. That is told when what it has said is read; this tells it before."""
        assert self._closing_watch is not None
        self._pump.watch(self._closing_watch.fileno(), 0, self._host_closes)
        self._is_closed = True

    def _patience_with(self, host: Host) -> float:
        """Until when a host that has closed its end may go on not to read either: perhaps it waits
        for the exit. One that reads has answers to all that it asked before."""
        if self._stopping or not host.is_behind:
            return math.inf
        grace = host.pools.supervisor.shutdown_grace_period
        return min(self._patience_ends, self._pump.now + grace)

    def _shut_down(self) -> None:
        if self._host is None:
            self._stop = self._stop or Stop(EX_OK)
        elif not self._stopping:
            self._stopping = True
            self._host.stop(self._host.pools.supervisor.shutdown_grace_period)
            self._pump.flush()

    # -- hello -------------------------------------------------------------------------------------

    def _received(self, frames: list[Frame]) -> None:
        if self._host is None and self._stop is None:
            first, *frames = frames
            try:
                self._host = host = self._greet(first)
                frames = [cut_to(host.max_frame_bytes, frame) for frame in frames]
            except Stop as stop:
                self._stop = stop
        if self._host is not None and frames:
            self._host.received(frames)

    def _closed(self) -> None:
        if self._host is None and self._stop is None:
            self._stop = Stop(EX_PROTOCOL)
        self._shut_down()
        if self._host is not None:
            self._host.hears_no_more()

    def _greet(self, frame: Frame) -> Host:
        try:
            said = messages.parse(frame) if isinstance(frame, bytes) else ("a frame too large",)
        except ProtocolError as exc:
            raise Stop(EX_PROTOCOL, _error("protocol_error", exc.message)) from None
        if said[0] != "hello":
            message = f"a host says hello first, not {said[0]}: see protocol/SPEC.md, section 3"
            raise Stop(EX_PROTOCOL, _error("protocol_error", message))
        _, version, info = said
        if version != PROTOCOL_VERSION:
            message = (
                f"the host speaks protocol version {version}, {SOFTWARE} speaks"
                f" {PROTOCOL_VERSION}; install the same release on both sides"
            )
            raise Stop(EX_PROTOCOL, _error("protocol_version", message))
        accepted = info.get("max_frame_bytes", MIN_FRAME_BYTES)
        if type(accepted) is not int or accepted < MIN_FRAME_BYTES:
            message = (
                "max_frame_bytes of a host's hello is the largest frame that it accepts, an integer"
                f" of at least {MIN_FRAME_BYTES}, not {show(accepted)}: raise it, or leave it out"
            )
            raise Stop(EX_PROTOCOL, _error("protocol_error", message))
        try:
            return self._begin(self._load(info), info)
        except ConfigError as exc:
            problems = {"problems": exc.as_term()}
            raise Stop(EX_CONFIG, {**_error("config", str(exc)), **problems}) from None

    def _begin(self, config: Config, info: dict[str, Any]) -> Host:
        """Remove what dead runs have left, say hello, and start the pools."""
        linux.adopt_orphans()
        leavings = find_leavings()
        remove(leavings)
        self._link.limit(config.supervisor.max_frame_bytes)
        host = Host(
            self._pump,
            config,
            lambda: self._pump.now,
            SOFTWARE,
            self._run,
            info,
            self._config_path,
        )
        hello = self._hello(config, host.shm)
        self._link.send(replies.hello(hello, host.host_max_frame_bytes))
        host.attach(self._link)
        for process in leavings.processes:
            line = f"killed process {process.pid}, left by run {process.run_id}: {process.command}"
            host.log(None, None, "supervisor", "warning", line)
        host.warn_of(config)
        return host

    def _load(self, info: dict[str, Any]) -> Config:
        config = configuration.load(info, self._config_path)
        if config is None:
            message = "there is no configuration: give serve --config FILE, or send one in hello"
            raise Stop(EX_CONFIG, {**_error("config", message), "problems": []})
        return config

    def _hello(self, config: Config, shm: SharedMemory | None) -> dict[str, Any]:
        converted = [change.as_term() for change in config.changes]
        return {
            "software": SOFTWARE,
            "max_frame_bytes": config.supervisor.max_frame_bytes,
            "capabilities": CAPABILITIES if shm is None else [*CAPABILITIES, "shm"],
            **({} if shm is None else {"shm": shm.info}),
            "os_pid": os.getpid(),
            "run_id": self._run.id,
            "python": platform.python_version(),
            "pools": [
                {
                    "name": pool.name,
                    "pool_size": pool.pool_size,
                    "worker_profile": pool.worker_profile,
                }
                for pool in config.enabled_pools
            ],
            "call_timeouts": configuration.call_timeouts(config),
            "stop_time": configuration.stop_time(config),
            **({"converted": converted} if converted else {}),
        }


def _is_broken(fd: int) -> bool:
    """Whether nobody reads from a pipe any more."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


def _error(type: str, message: str) -> dict[str, Any]:
    # It may name a file whose name is not UTF-8: better written out than not sent.
    return {"type": type, "message": encodable(message)}


def _watch_peer(fd: int, events: int = 0) -> select.epoll | None:
    """Becomes readable when nobody has the other end of a descriptor any more, whatever is still to
    be read. None where the system cannot tell: then end-of-file on stdin has to do."""
    if not hasattr(select, "epoll"):
        return None
    watch = select.epoll()
    # Asked for nothing, it is told of that and of errors.
    watch.register(fd, events)
    return watch


def _take_stdio() -> tuple[int, int]:
    """Move the protocol to descriptors of its own: what is printed by mistake goes to stderr."""
    host_in, host_out = os.dup(0), os.dup(1)
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0, inheritable=True)
    os.close(devnull)
    os.dup2(2, 1, inheritable=True)
    widen = getattr(fcntl, "F_SETPIPE_SZ", None)
    if widen is not None:
        for fd in (host_in, host_out):
            # Not a pipe, or over the user's share (fs.pipe-user-pages-soft): as it was.
            with suppress(OSError):
                fcntl.fcntl(fd, widen, _PIPE_BYTES)
    return host_in, host_out


def _can_be_waited_for(fd: int) -> bool:
    """Not a file, a folder, or /dev/null."""
    poller = new_poller()
    try:
        poller.register(fd, READ)
    except PermissionError:
        return False
    else:
        return True
    finally:
        poller.close()


async def _run(host_in: int, host_out: int, signals: Signals, config_path: str | None) -> int:
    return await Supervisor(host_in, host_out, signals, config_path).run()


_NO_PIPES = (
    "snakepit-port serve: stdin and stdout have to be pipes to a host, which starts this; to try a"
    " configuration use `snakepit-port call`"
)


def main(config_path: str | None) -> int:
    """Be the supervisor of the host on stdin and stdout. Returns the exit status."""
    if sys.stdin is None or sys.stdout is None:
        # Closed: whatever is opened next would be taken for it.
        print(_NO_PIPES, file=sys.stderr)
        return EX_PROTOCOL
    signals = Signals()
    host_in, host_out = _take_stdio()
    if not (_can_be_waited_for(host_in) and _can_be_waited_for(host_out)):
        print(_NO_PIPES, file=sys.stderr)
        return EX_PROTOCOL
    try:
        return trio.run(_run, host_in, host_out, signals, config_path)
    except BaseException:
        traceback.print_exc()
        return EX_SOFTWARE
