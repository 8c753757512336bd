"""The supervisor's process, from the first frame of its host to its exit status."""

from __future__ import annotations

import math
import os
import signal
import sys
import traceback
from typing import Any

import trio

from snakepit_port.config import Config, ConfigError
from snakepit_port.config.model import MIN_FRAME_BYTES
from snakepit_port.supervisor import replies, stdio
from snakepit_port.supervisor.greeting import (
    HELLO_MAX_BYTES,
    Stop,
    introduction,
    refused,
    understand,
)
from snakepit_port.supervisor.host import Host
from snakepit_port.supervisor.link import Link
from snakepit_port.supervisor.pump import READ, Pump
from snakepit_port.supervisor.run import Run, find_leavings, remove
from snakepit_port.supervisor.signals import STOP_SIGNALS, Signals
from snakepit_port.wire.framing import Frame, cut_to
from snakepit_port.worker import linux

#: Seconds that a host may take to read the last answers, and starters to end.
_FAREWELL = 2.0

#: Seconds that commands get to clean up when their host has died. A second more is left for
#: killing: nothing is to run 2 s after the host.
_LAST_GRACE = 1.0

#: Seconds, while there is much to do, between two looks at what is due.
_LOOK_EVERY = 0.001

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
        self._host_watch = stdio.watch_peer(host_out)
        if self._host_watch is not None:
            self._pump.watch(self._host_watch.fileno(), READ, self._host_died)
        self._closing_watch = stdio.watch_peer(host_in, stdio.HALF_CLOSED)
        if self._closing_watch is not None:
            self._pump.watch(self._closing_watch.fileno(), READ, self._host_closes)
        self._link = Link(
            self._pump, host_in, host_out, HELLO_MAX_BYTES, self._received, self._closed
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
                self._host.shm.leave(to_host=not stdio.is_broken(self._host_out))

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
        pump = self._pump
        if not pump.turn_at_once():
            due = math.inf if self._host is None else self._host.next_due
            await pump.turn(min(deadline, self._last_moment, self._patience_ends, due))
            self._looks_at = pump.now
        # It may have said hello in this turn, and a signal have come with that.
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
            self._stop = Stop(os.EX_OK)

    def _signalled(self, _events: int) -> None:
        came = self._signals.take()
        if signal.SIGCHLD in came:
            # Not a starter: what a starter that was killed has left to this process.
            linux.end_orphans(spared=self._host.pools.starter_pids if self._host else ())
        if came.intersection(STOP_SIGNALS):
            self._shut_down()

    def _host_died(self, _events: int) -> None:
        """Nobody reads answers any more. What runs may clean up, and that is all."""
        assert self._host_watch is not None
        self._pump.watch(self._host_watch.fileno(), 0, self._host_died)
        self._shut_down()
        self._last_moment = self._pump.now + _LAST_GRACE
        if self._host is not None:
            self._host.cancel_all()

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
            self._stop = self._stop or Stop(os.EX_OK)
        elif not self._stopping:
            self._stopping = True
            self._host.stop(self._host.pools.supervisor.shutdown_grace_period)

    # -- hello -------------------------------------------------------------------------------------

    def _received(self, frames: list[Frame]) -> None:
        if self._host is None and self._stop is None:
            first, *frames = frames
            try:
                self._host = host = self._begin(*understand(first, self._config_path))
                frames = [cut_to(host.max_frame_bytes, frame) for frame in frames]
            except ConfigError as exc:
                self._stop = refused(exc)
            except Stop as stop:
                self._stop = stop
        if self._host is not None and frames:
            self._host.received(frames)

    def _closed(self) -> None:
        if self._host is None and self._stop is None:
            self._stop = Stop(os.EX_PROTOCOL)
        self._shut_down()
        if self._host is not None:
            self._host.hears_no_more()

    def _begin(self, config: Config, info: dict[str, Any]) -> Host:
        """Remove what dead runs have left, say hello, and start the pools."""
        linux.adopt_orphans()
        leavings = find_leavings()
        remove(leavings)
        self._link.limit(config.supervisor.max_frame_bytes)
        host = Host(
            self._pump,
            self._link,
            config,
            lambda: self._pump.now,
            self._run,
            info,
            self._config_path,
        )
        hello = introduction(config, host.shm, self._run.id)
        self._link.send(replies.hello(hello, host.host_max_frame_bytes))
        # The first pool starts at the end of this turn, and that takes a moment.
        self._pump.flush()
        host.start()
        for process in leavings.processes:
            line = f"killed process {process.pid}, left by run {process.run_id}: {process.command}"
            host.log(None, None, "supervisor", "warning", line)
        host.warn_of(config)
        return host


_NO_PIPES = (
    "snakepit-port serve: stdin and stdout have to be pipes to a host, which starts this; to try a"
    " configuration use `snakepit-port call`"
)


def main(config_path: str | None) -> int:
    """Be the supervisor of the host on stdin and stdout. Returns the exit status."""
    if sys.stdin is None:
        # Closed: whatever is opened next would be taken for it.
        print(_NO_PIPES, file=sys.stderr)
        return os.EX_PROTOCOL
    signals = Signals()
    host_in, host_out = stdio.take()
    if not (stdio.can_be_waited_for(host_in) and stdio.can_be_waited_for(host_out)):
        print(_NO_PIPES, file=sys.stderr)
        return os.EX_PROTOCOL
    try:
        return trio.run(Supervisor(host_in, host_out, signals, config_path).run)
    except BaseException:
        traceback.print_exc()
        return os.EX_SOFTWARE
