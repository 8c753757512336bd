"""From the first frame to the exit status, with a host that only notes what becomes of it."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from snakepit_port.config import load_terms
from snakepit_port.supervisor import serve
from snakepit_port.supervisor.run import Leaving, Leavings
from snakepit_port.supervisor.serve import Supervisor
from snakepit_port.wire import messages
from snakepit_port.wire.framing import Framer

GRACE = 7.0
TERMS = {
    "supervisor": {"max_frame_bytes": "128KiB", "shutdown_grace_period": "7s"},
    "pools": [{"name": "one", "adapter": "a"}],
}
HELLO = messages.hello({"config": TERMS})


class FakeSignals:
    """Those that a test sends."""

    def __init__(self) -> None:
        self.fd, self._wake = os.pipe()
        self._came: set[int] = set()
        self.are_ignored = False

    def send(self, *numbers: int) -> None:
        self._came.update(numbers)
        os.write(self._wake, b"!")

    def take(self) -> set[int]:
        os.read(self.fd, 4096)
        came, self._came = self._came, set()
        return came

    def ignore(self) -> None:
        self.are_ignored = True

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._wake)


class FakeHost:
    """Notes what it is told, but for the end of each turn, and has pools that stop when a test says
    so."""

    next_due = math.inf
    is_behind = False
    shm: Any = None

    def __init__(self, stage: Stage) -> None:
        supervisor = load_terms(TERMS, Path("/")).supervisor
        self.max_frame_bytes = self.host_max_frame_bytes = supervisor.max_frame_bytes
        self.pools = SimpleNamespace(supervisor=supervisor, stopped=False, starter_pids={1, 2})
        self._stage = stage

    def tick(self, now: float) -> None:
        if self.next_due <= now:
            self.next_due = math.inf
            self._stage.did.append(("tick", now))

    def take_stock(self) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return partial(self._stage.note, name)


class Stage:
    """A supervisor in this process, its host's ends of two pipes, and its signals."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        #: What was done, and with what.
        self.did: list[tuple[Any, ...]] = []
        self.leavings = Leavings([], [])
        self.status: int | None = None
        self.host = FakeHost(self)
        monkeypatch.setattr(serve, "Host", lambda *_: self.host)
        monkeypatch.setattr(serve, "find_leavings", lambda: self.leavings)
        monkeypatch.setattr(serve, "remove", partial(self.note, "remove"))
        for name in ("adopt_orphans", "end_orphans", "end_descendants"):
            monkeypatch.setattr(serve.linux, name, partial(self.note, name))
        self.signals = FakeSignals()
        host_in, self._stdin = os.pipe()
        self.stdout, self._host_out = os.pipe()
        self._held = {host_in, self._host_out, self._stdin, self.stdout}
        os.set_blocking(self.stdout, False)
        signals: Any = self.signals
        self.supervisor = Supervisor(host_in, self._host_out, signals, None)

    def note(self, *did: Any, **more: Any) -> None:
        self.did.append((*did, *more.values()))

    def say(self, *frames: bytes) -> None:
        os.write(self._stdin, b"".join(frames))

    def hear(self) -> list[tuple[Any, ...]]:
        """What was said to the host and is not read yet."""
        try:
            data = os.read(self.stdout, 2**20)
        except BlockingIOError:
            data = b""
        return [messages.parse(frame) for frame in Framer(2**20).feed(data)]  # type: ignore[arg-type]

    def fill(self) -> None:
        """Say to the host what it does not read, until no more is taken."""
        with suppress(BlockingIOError):
            while True:
                os.write(self._host_out, bytes(2**12))

    def close_stdin(self) -> None:
        self._close(self._stdin)

    def close_stdout(self) -> None:
        self._close(self.stdout)

    def _close(self, fd: int) -> None:
        self._held.remove(fd)
        os.close(fd)

    def close(self) -> None:
        for fd in self._held:
            os.close(fd)
        self.signals.close()

    async def run(self) -> float:
        """Until it ends; returns the seconds that this took."""
        began = trio.current_time()
        self.status = await self.supervisor.run()
        return trio.current_time() - began

    @asynccontextmanager
    async def greeted(self) -> AsyncIterator[trio.Nursery]:
        """Runs it, from hello on; waits for its end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run)
            self.say(HELLO)
            await trio.testing.wait_all_tasks_blocked()
            yield nursery


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = Stage(monkeypatch)
    yield stage
    stage.close()


# -- beginnings ------------------------------------------------------------------------------------


async def test_what_dead_runs_left_is_removed_and_hello_said_before_pools_start(
    stage: Stage,
    autojump_clock: MockClock,
) -> None:
    left = Leaving(12, "34", "1-2-abc", "sleep 600")
    stage.leavings = Leavings([left], [])
    async with stage.greeted() as nursery:
        assert [said[0] for said in stage.hear()] == ["hello"]
        line = "killed process 12, left by run 1-2-abc: sleep 600"
        *before, warned = stage.did
        assert before == [
            ("adopt_orphans",),
            ("remove", stage.leavings),
            ("start",),
            ("log", None, None, "supervisor", "warning", line),
        ]
        assert warned[0] == "warn_of"
        nursery.cancel_scope.cancel()


async def test_what_comes_with_hello_is_for_the_host_within_its_limit(
    stage: Stage, autojump_clock: MockClock
) -> None:
    stage.say(HELLO, messages.ping(1), HELLO[:3])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.run)
        await trio.testing.wait_all_tasks_blocked()
        stage.say(HELLO[3:])
        await trio.testing.wait_all_tasks_blocked()
        received = [did[1] for did in stage.did if did[0] == "received"]
        assert received == [[messages.ping(1)], [HELLO]]
        nursery.cancel_scope.cancel()


async def test_a_signal_that_comes_with_hello_waits_for_nothing_more(
    stage: Stage, autojump_clock: MockClock
) -> None:
    stage.host.pools.stopped = True
    stage.say(HELLO)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.run)
            stage.signals.send(signal.SIGTERM)
    assert stage.status == os.EX_OK


async def test_the_host_does_what_is_due_when_it_is(
    stage: Stage, autojump_clock: MockClock
) -> None:
    async with stage.greeted() as nursery:
        began = trio.current_time()
        for seconds in (3.0, 9.0):
            stage.host.next_due = began + seconds
            # A turn, in which it is asked when that is.
            stage.signals.send()
            await trio.sleep(seconds)
            await trio.testing.wait_all_tasks_blocked()
            assert stage.did[-1] == ("tick", began + seconds)
            began = trio.current_time()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("frame", [messages.ping(1), messages.hello({"config": {}})])
async def test_one_that_is_refused_is_told_at_once(
    stage: Stage, autojump_clock: MockClock, frame: bytes
) -> None:
    # Whatever comes behind that.
    stage.say(frame, HELLO)
    assert await stage.run() == 0
    ((tag, id, error),) = stage.hear()
    assert (tag, id) == ("error", None)
    told = {os.EX_PROTOCOL: "protocol_error", os.EX_CONFIG: "config"}
    assert error["type"] == told[stage.status]
    assert stage.did == [("end_descendants", 1.0)]


async def test_end_of_file_instead_of_hello_is_no_protocol(
    stage: Stage, autojump_clock: MockClock
) -> None:
    stage.close_stdin()
    assert await stage.run() == 0
    assert stage.status == os.EX_PROTOCOL
    assert stage.hear() == []


@pytest.mark.parametrize("end", ["signal", "death"])
async def test_before_hello_there_is_nothing_to_stop(
    stage: Stage, autojump_clock: MockClock, end: str
) -> None:
    if end == "signal":
        stage.signals.send(signal.SIGHUP)
    else:
        stage.close_stdout()
    assert await stage.run() == 0
    assert stage.status == os.EX_OK


async def test_one_without_pools_is_there_until_it_is_told_to_stop(
    stage: Stage, autojump_clock: MockClock
) -> None:
    stage.host.pools.stopped = True
    async with stage.greeted():
        assert stage.status is None
        stage.close_stdin()
    assert stage.status == os.EX_OK


# -- endings ---------------------------------------------------------------------------------------


async def test_end_of_file_has_pools_stop_once_and_waits_for_them(
    stage: Stage, autojump_clock: MockClock
) -> None:
    async with stage.greeted():
        stage.did.clear()
        stage.close_stdin()
        await trio.sleep(1000)
        stage.signals.send(signal.SIGTERM)
        await trio.testing.wait_all_tasks_blocked()
        assert stage.did == [("stop", GRACE), ("hears_no_more",)]
        assert stage.status is None
        stage.host.pools.stopped = True
        stage.signals.send()
    assert stage.status == os.EX_OK
    assert stage.did[2:] == [("release",), ("end_descendants", 1.0)]
    assert stage.signals.are_ignored


async def test_after_the_death_of_its_host_commands_get_a_second(
    stage: Stage, autojump_clock: MockClock
) -> None:
    async with stage.greeted():
        stage.did.clear()
        stage.close_stdout()
        began = trio.current_time()
        await trio.testing.wait_all_tasks_blocked()
        assert stage.did == [("stop", GRACE), ("cancel_all",)]
    assert trio.current_time() - began == 1
    assert stage.status == os.EX_OK


@pytest.mark.parametrize("how", ["is behind", "reads", "is told to stop", "may say more"])
async def test_one_that_says_no_more_and_does_not_read_has_its_grace(
    stage: Stage, autojump_clock: MockClock, how: str
) -> None:
    """Whatever else comes meanwhile. What others have said may wait to be read for ever."""
    async with stage.greeted() as nursery:
        stage.host.is_behind = True
        stage.supervisor._link.pause(True)
        if how != "may say more":
            stage.close_stdin()
        await trio.sleep(GRACE / 2)
        if how == "reads":
            stage.host.is_behind = False
        stage.signals.send(*([signal.SIGTERM] if how == "is told to stop" else []))
        await trio.sleep(GRACE / 2 - 1)
        assert ("hears_no_more",) not in stage.did
        await trio.sleep(GRACE)
        assert (("hears_no_more",) in stage.did) is (how == "is behind")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_read", [True, False])
async def test_the_last_that_is_said_may_be_read_for_a_while(
    stage: Stage, autojump_clock: MockClock, is_read: bool
) -> None:
    """And what the host says meanwhile changes nothing."""
    stage.fill()
    stage.say(messages.hello({"config": {}}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.run)
        began = trio.current_time()
        await trio.sleep(1)
        stage.say(HELLO)
        stage.close_stdin()
        await trio.testing.wait_all_tasks_blocked()
        assert stage.status is None
        if is_read:
            os.read(stage.stdout, 2**20)
    assert trio.current_time() - began == (1 if is_read else 2)
    assert (stage.status, stage.did) == (os.EX_CONFIG, [("end_descendants", 1.0)])
    if is_read:
        assert [said[0] for said in stage.hear()] == ["error"]


async def test_cancelled_it_leaves_at_once_and_nothing_behind(
    stage: Stage, autojump_clock: MockClock
) -> None:
    async with stage.greeted() as nursery:
        nursery.cancel_scope.cancel()
    assert stage.did[-1] == ("end_descendants", 1.0)
    assert stage.signals.are_ignored


@pytest.mark.parametrize("is_there", [True, False])
async def test_results_are_left_to_a_host_that_is_there(
    stage: Stage, autojump_clock: MockClock, is_there: bool
) -> None:
    stage.host.shm = SimpleNamespace(leave=partial(stage.note, "leave"), info={})
    async with stage.greeted():
        stage.host.pools.stopped = True
        if is_there:
            stage.close_stdin()
        else:
            stage.close_stdout()
    assert stage.did[-1] == ("leave", is_there)


# -- signals ---------------------------------------------------------------------------------------


async def test_what_starters_left_is_ended_and_starters_are_not(
    stage: Stage, autojump_clock: MockClock
) -> None:
    stage.signals.send(signal.SIGCHLD)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.run)
        await trio.testing.wait_all_tasks_blocked()
        stage.say(HELLO)
        await trio.testing.wait_all_tasks_blocked()
        stage.signals.send(signal.SIGCHLD)
        await trio.testing.wait_all_tasks_blocked()
        ended = [did[1] for did in stage.did if did[0] == "end_orphans"]
        assert ended == [(), {1, 2}]
        assert stage.status is None
        nursery.cancel_scope.cancel()
