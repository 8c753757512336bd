"""What a pool does with its processes, when starters and workers do what a test says."""

from __future__ import annotations

import math
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from snakepit_port import wire
from snakepit_port.config import load_terms
from snakepit_port.pool import Call, effects
from snakepit_port.supervisor import source as sources
from snakepit_port.supervisor.gathering import Gathering
from snakepit_port.supervisor.pump import Pump
from snakepit_port.supervisor.runner import Runner
from snakepit_port.supervisor.starter import StarterError
from snakepit_port.wire import messages
from snakepit_port.wire.framing import pack
from snakepit_port.wire.grammar import MAX_CREDIT

GARBAGE = pack(b"oops")


class FakeStarter:
    """Starts nothing, and notes what it is told."""

    def __init__(
        self,
        told: Callable[[tuple[Any, ...]], None],
        gone: Callable[[], None],
        ledger_fd: int,
        pid: int,
    ) -> None:
        self._told = told
        self._gone = gone
        self._ledger_fd = ledger_fd
        self.process = SimpleNamespace(pid=pid, returncode=-signal.SIGKILL)
        self.left = False
        self.is_paused = False
        self.output = SimpleNamespace(tail=[], fatal=None, pause=self._pause)
        #: The other ends of its workers' channels.
        self.workers: dict[str, socket.socket] = {}
        self.signals: list[tuple[str, int]] = []
        self.pings = 0
        self.killed = False
        self.finished = False

    def start(self, worker: str, slot: int, fds: tuple[int, ...]) -> None:
        self.workers[worker] = socket.socket(fileno=fds[0])
        # So that whatever it is sent has been started when it goes.
        os.pwrite(self._ledger_fd, (1).to_bytes(8, sys.byteorder), slot * 8)
        for fd in fds[1:]:
            os.close(fd)

    def signal(self, worker: str, signum: int, *, group: bool) -> None:
        self.signals.append((worker, signum))

    def ping(self) -> None:
        self.pings += 1

    def finish(self) -> None:
        self.finished = True

    def kill(self) -> None:
        self.killed = True

    def _pause(self, paused: bool) -> None:
        self.is_paused = paused

    # -- what it does ------------------------------------------------------------------------------

    def tell(self, *said: Any) -> None:
        self._told(said)

    def go(self) -> None:
        self._gone()


class Stage:
    """A pool, and who plays the others' parts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pool_size: int = 1, **more: Any) -> None:
        self.now = 0.0
        self.pump = Pump()
        self.starters: list[FakeStarter] = []
        self.answers: dict[int, Any] = {}
        self.logged: list[str] = []
        self.events: list[str] = []
        #: What workers asked of the host, and told it.
        self.asked: list[tuple[Any, ...]] = []
        self.passed: list[tuple[Any, ...]] = []
        #: What the sampler is to measure: process ids, and who is told.
        self.measured: list[tuple[int, Callable[[int | None], None]]] = []
        #: The process groups that the supervisor killed itself.
        self.killed: list[int] = []
        monkeypatch.setattr(sources, "Starter", self._starter)
        monkeypatch.setattr(os, "killpg", lambda group, _signum: self.killed.append(group))
        settings = {"name": "default", "adapter": "a", "pool_size": pool_size, "prefetch": 1}
        self._settings = {**settings, **more}
        config = load_terms({"pools": [self._settings]}, Path("/"))
        outside: Any = SimpleNamespace(
            host_max_frame_bytes=1000,
            host_runs_tools=True,
            shm=None,
            answer=self._answer,
            tool=lambda *asked: self.asked.append(asked),
            pass_on=lambda frame: self.passed.append(messages.parse(frame)),
            sampler=SimpleNamespace(measure=lambda *asked: self.measured.append(asked)),
            event=lambda name, *_: self.events.append(name),
            log=lambda *said: self.logged.append(said[-1]),
            settled=lambda _: None,
            touched=lambda _: None,
        )
        run: Any = None
        (pool,) = config.enabled_pools
        self.runner = Runner(self.pump, config, pool, run, outside, lambda: self.now)

    def _starter(self, *args: Any) -> FakeStarter:
        _, _, _, _, ledger_fd, _, told, gone, _ = args
        pid = 1000 * (len(self.starters) + 1)
        self.starters.append(FakeStarter(told, gone, ledger_fd, pid))
        return self.starters[-1]

    def _answer(self, call: Call, frame: bytes) -> None:
        _, id, said, *_ = messages.parse(frame)
        self.answers[id] = said.get("type") if isinstance(said, dict) else said

    # -- what happens ------------------------------------------------------------------------------

    async def up(self) -> list[socket.socket]:
        """Start the pool, and have all its workers be ready; returns their ends of the channels."""
        self.runner.start()
        (starter,) = self.starters
        starter.tell("hello", {})
        for number, (worker, channel) in enumerate(starter.workers.items(), 1):
            starter.tell("started", worker, starter.process.pid + number)
            channel.sendall(messages.hello({"python": "3"}) + messages.ready({}))
        await self.turn()
        return list(starter.workers.values())

    async def turn(self) -> None:
        await self.pump.turn(-math.inf)

    def call(self, id: int, credit: int | None = None) -> Call:
        frame = messages.call(id, "default", "c", wire.encode([]))
        call = Call(id, "c", frame, timeout=math.inf, queue_timeout=math.inf, credit=credit)
        self.runner.call_arrived(call, self.now)
        return call

    def reconfigure(self, **more: Any) -> str:
        config = load_terms({"pools": [{**self._settings, **more}]}, Path("/"))
        (pool,) = config.enabled_pools
        return self.runner.reconfigure(config, pool)

    def wait(self, seconds: float) -> None:
        """Time passes; what falls due is done when it is due."""
        until = self.now + seconds
        while self.runner.next_due <= until:
            self.now = max(self.now, self.runner.next_due)
            self.runner.tick()
        self.now = until

    def close(self) -> None:
        for process in list(self.runner._processes.values()):
            process.close()
        for starter in self.starters:
            for channel in starter.workers.values():
                channel.close()
        self.runner.release()
        self.pump.close()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Of one worker, unless a test asks for more."""
    stage = Stage(monkeypatch, getattr(request, "param", 1))
    yield stage
    stage.close()


async def test_credit_of_several_frames_fits_into_the_one_that_a_worker_gets(stage: Stage) -> None:
    (channel,) = await stage.up()
    stage.call(1)
    stream = stage.call(2, credit=1)
    for _ in range(2):
        stage.runner.grant(stream, MAX_CREDIT)
    channel.sendall(messages.result(1, b""))
    await stage.turn()
    stage.pump.flush()
    credit = messages.credit(2, MAX_CREDIT)
    assert channel.recv(2**16).endswith(credit)


@pytest.mark.parametrize("tag", ["cancel", "recall"])
async def test_what_a_worker_is_to_look_at_is_there_when_the_signal_comes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    (channel,) = await stage.up()
    call = stage.call(1)
    worker = call.worker
    assert worker is not None
    stage.pump.flush()
    channel.recv(2**16)
    channel.setblocking(False)
    seen = []

    def signalled(id: str, signum: int, *, group: bool) -> None:
        seen.append((id, signum, group, channel.recv(2**16)))

    monkeypatch.setattr(stage.starters[0], "signal", signalled)
    if tag == "cancel":
        stage.runner.perform([effects.Interrupt(worker, call)])
        frame = messages.cancel(1)
    else:
        stage.runner.perform([effects.Recall(worker, [call])])
        frame = messages.recall([1])
    assert seen == [(worker.id, signal.SIGURG, False, frame)]


# -- what commands ask of the host, and tell it ----------------------------------------------------

PID = wire.Pid(b"\x58\x77\x0dnonode@nohost" + bytes(12))


async def test_what_a_command_asks_and_tells_is_passed_on(stage: Stage) -> None:
    (channel,) = await stage.up()
    stage.call(1)
    channel.sendall(messages.tool(1, 7, "lookup", b"args") + messages.progress(1, 2, 3))
    channel.sendall(messages.send(PID, b"message") + messages.log({"level": "info", "line": "x"}))
    await stage.turn()
    ((call_id, link, *asked),) = stage.asked
    assert (call_id, asked) == (1, [7, "lookup", b"args"])
    assert link is stage.runner._processes["default-1"].link
    assert stage.passed == [("progress", 1, 2, 3), ("send", PID, b"message")]
    assert stage.logged == ["x"]


async def test_what_a_command_tells_takes_no_part_of_its_time(stage: Stage) -> None:
    (channel,) = await stage.up()
    stage.call(1)
    stage.now += 8.0
    channel.sendall(b"".join(messages.progress(1, n, 3) for n in range(3)))
    channel.sendall(messages.result(1, b""))
    await stage.turn()
    assert stage.runner._processes["default-1"].worker.run_time == 8.0


async def test_what_a_command_asks_whose_call_is_answered_is_dropped(stage: Stage) -> None:
    (channel,) = await stage.up()
    call = stage.call(1)
    stage.runner.cancel(call)
    channel.sendall(messages.tool(1, 7, "lookup", b"args") + messages.progress(1, 2, 3))
    await stage.turn()
    assert (stage.asked, stage.passed) == ([], [])
    assert not stage.runner._processes["default-1"].condemned


@pytest.mark.parametrize(
    "frame",
    [
        messages.tool(2, 1, "lookup", b""),
        messages.progress(2, 1, 2),
        messages.log({"level": "loud", "line": "x"}),
        messages.log({"level": "info", "line": 7}),
        messages.log({}),
        messages.pong(1),
        messages.recalled([1]),
    ],
)
async def test_what_no_command_may_say_breaks_the_protocol(stage: Stage, frame: bytes) -> None:
    (channel,) = await stage.up()
    stage.call(1)
    channel.sendall(frame)
    await stage.turn()
    assert stage.runner._processes["default-1"].condemned
    assert (stage.asked, stage.passed) == ([], [])


@pytest.mark.parametrize(
    "frame",
    [
        messages.tool(1, 1, "lookup", b""),
        messages.progress(1, 1, 2),
        messages.send(PID, b""),
    ],
)
async def test_a_host_that_takes_none_of_it_gets_none(stage: Stage, frame: bytes) -> None:
    stage.runner.outside.host_runs_tools = False
    (channel,) = await stage.up()
    stage.call(1)
    channel.sendall(frame)
    await stage.turn()
    assert stage.runner._processes["default-1"].condemned
    assert (stage.asked, stage.passed) == ([], [])


# -- a worker that begins, and one that ends -------------------------------------------------------


@pytest.mark.parametrize("os_pid", [0, -1, 1.5, True, "1001", 2**70])
async def test_what_is_no_process_id_is_none(stage: Stage, os_pid: Any) -> None:
    stage.runner.start()
    (channel,) = stage.starters[0].workers.values()
    channel.sendall(messages.hello({"os_pid": os_pid}) + messages.ready({}))
    await stage.turn()
    # It is ready when its starter has told which process it is.
    assert ([worker["os_pid"] for worker in stage.runner.workers()], stage.events) == ([None], [])
    stage.starters[0].tell("started", "default-1", 1001)
    assert stage.events == ["worker.started", "pool.ready"]


async def test_no_worker_says_that_it_is_another_process(stage: Stage) -> None:
    (channel,) = await stage.up()
    channel.sendall(messages.hello({"os_pid": os.getpid()}))
    await stage.turn()
    assert [worker["os_pid"] for worker in stage.runner.workers()] == [1001]


@pytest.mark.parametrize("drains", [False, True])
async def test_calls_of_one_that_is_unwell_are_told_that_it_went(
    stage: Stage, drains: bool
) -> None:
    (channel,) = await stage.up()
    stage.call(1)
    if drains:
        assert stage.reconfigure(adapter="b") == "replaced"
        successors = stage.starters[1].workers
        stage.starters[1].tell("started", *successors, 2001)
        next(iter(successors.values())).sendall(messages.hello({}) + messages.ready({}))
        await stage.turn()
    channel.sendall(messages.failed({"type": "exception", "message": "no health"}))
    await stage.turn()
    stage.starters[0].tell("exited", "default-1", 1 << 8)
    assert stage.answers == {1: "worker_crashed"}


async def test_what_one_said_before_it_ended_counts(stage: Stage) -> None:
    (channel,) = await stage.up()
    stage.call(1)
    channel.sendall(messages.result(1, b"done"))
    stage.starters[0].tell("exited", "default-1", signal.SIGKILL)
    assert stage.answers == {1: b"done"}


async def test_one_that_was_not_started_leaves_nothing_and_nobody_waits_for_it(
    stage: Stage,
) -> None:
    stage.runner.start()
    (starter,) = stage.starters
    stage.wait(30.0)
    assert starter.signals == [("default-1", signal.SIGKILL)]
    (channel,) = starter.workers.values()
    channel.setblocking(False)
    starter.tell("start_failed", "default-1", "no memory")
    while channel.recv(2**16):
        pass
    stage.wait(10.0)
    assert starter.pings == 0


async def test_where_there_is_no_starter_a_worker_leaves_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> Any:
        raise StarterError("no such interpreter")

    monkeypatch.setattr(sources, "Starter", none)
    before = os.listdir("/proc/self/fd")
    stage.runner.start()
    assert stage.events == ["worker.start_failed", "pool.unavailable"]
    assert os.listdir("/proc/self/fd") == before


async def test_one_is_signalled_by_the_starter_that_began_it(stage: Stage) -> None:
    await stage.up()
    call = stage.call(1)
    assert stage.reconfigure(adapter="b") == "replaced"
    before, after = stage.starters
    gathering = Gathering(1.0)
    stage.runner.ask_stacks(gathering, "default-1")
    gathering.remind()
    assert before.signals == [("default-1", signal.SIGWINCH)] * 2
    before.signals.clear()
    stage.runner.cancel(call)
    stage.wait(20.0)
    assert [signum for _, signum in before.signals] == [
        signal.SIGURG,
        signal.SIGURG,
        signal.SIGKILL,
    ]
    assert before.pings == 1
    assert (after.signals, after.pings) == ([], 0)


@pytest.mark.parametrize("end", [("exited", 0), ("start_failed", "no memory")])
async def test_a_starter_of_before_ends_when_the_last_of_its_workers_is_gone(
    stage: Stage, end: tuple[str, Any]
) -> None:
    stage.runner.start()
    assert stage.reconfigure(adapter="b") == "replaced"
    (before, *_) = stage.starters
    assert not before.finished
    how, why = end
    before.tell(how, "default-1", why)
    assert before.finished
    assert not stage.starters[-1].finished
    # It waits for nothing but the kernel.
    stage.wait(2.0)
    assert (before.pings, before.killed) == (0, True)


async def test_a_worker_that_has_told_what_it_has_is_not_asked_again(stage: Stage) -> None:
    await stage.up()
    (process,) = stage.runner._processes.values()
    stacks: Any = SimpleNamespace(ask=lambda _: True, is_silent=False, give_up=None)
    stacks.close = process.stacks.close
    process.stacks = stacks
    gathering = Gathering(1.0)
    stage.runner.ask_stacks(gathering, None)
    gathering.remind()
    assert stage.starters[0].signals == [("default-1", signal.SIGWINCH)]


async def test_nobody_is_late_while_nobody_is_read_from(stage: Stage) -> None:
    stage.runner.start()
    stage.runner.pause(True)
    stage.wait(1000.0)
    assert stage.starters[0].signals == []
    stage.runner.pause(False)
    stage.wait(1000.0)
    assert stage.starters[0].signals == [("default-1", signal.SIGKILL)]


async def test_a_pool_has_stopped_when_its_starter_has_ended(stage: Stage) -> None:
    await stage.up()
    (starter,) = stage.starters
    stage.runner.stop(60.0)
    starter.tell("exited", "default-1", 0)
    assert starter.finished
    stage.wait(1.9)
    assert not starter.killed
    stage.wait(0.1)
    assert (starter.pings, starter.killed) == (0, True)
    assert not stage.runner.stopped
    starter.go()
    assert stage.runner.stopped


# -- a worker whose memory is limited --------------------------------------------------------------


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = Stage(monkeypatch, memory_threshold_mb=60)
    yield stage
    stage.close()


async def test_it_is_announced_when_it_has_been_measured_and_once(limited: Stage) -> None:
    (channel,) = await limited.up()
    channel.sendall(messages.ready({}))
    await limited.turn()
    limited.starters[0].tell("started", "default-1", 1001)
    assert limited.events == []
    ((pid, told),) = limited.measured
    assert pid == 1001
    told(0)
    assert limited.events == ["worker.started", "pool.ready"]


async def test_one_that_is_too_large_never_serves(limited: Stage) -> None:
    await limited.up()
    ((_, told),) = limited.measured
    told(60 * 2**20)
    starter = limited.starters[0]
    assert starter.signals == [("default-1", signal.SIGKILL)]
    starter.tell("exited", "default-1", signal.SIGKILL)
    assert limited.events == ["worker.start_failed", "pool.unavailable"]


@pytest.mark.parametrize("fate", ["gone", "condemned", "late"])
async def test_one_that_ends_while_it_is_measured_is_not_announced(
    limited: Stage, fate: str
) -> None:
    (channel,) = await limited.up()
    ((_, told),) = limited.measured
    starter = limited.starters[0]
    if fate == "condemned":
        channel.sendall(GARBAGE)
        await limited.turn()
    elif fate == "late":
        limited.wait(30.0)
    if fate != "gone":
        assert starter.signals == [("default-1", signal.SIGKILL)]
        told(0)
    starter.tell("exited", "default-1", signal.SIGKILL)
    told(0)
    assert "worker.started" not in limited.events
    assert limited.events[0] == "worker.start_failed"


@pytest.mark.parametrize("is_ready", [False, True])
async def test_what_is_measured_of_one_that_is_gone_wakes_nobody(
    limited: Stage, is_ready: bool
) -> None:
    """Its pool may be gone, too: whoever was told of it would keep it for ever."""
    await limited.up()
    if is_ready:
        limited.measured.pop()[1](0)
        # Pools begin at any moment of the interval.
        limited.wait(2.0)
    _, told = limited.measured[-1]
    limited.starters[0].tell("exited", "default-1", signal.SIGKILL)
    limited.runner.touched = False
    told(0)
    assert not limited.runner.touched


# -- a worker whose starter is gone ----------------------------------------------------------------


@pytest.mark.parametrize("first", ["worker", "starter"])
async def test_one_that_broke_the_protocol_is_gone_when_its_starter_is(
    stage: Stage, first: str
) -> None:
    (channel,) = await stage.up()
    stage.call(1)
    starter = stage.starters[0]
    if first == "starter":
        # Its kernel is not done with the worker yet.
        starter.go()
    channel.sendall(GARBAGE + GARBAGE)
    await stage.turn()
    if first == "worker":
        starter.go()
    assert stage.killed == [1001]
    assert 1 not in stage.answers
    channel.sendall(GARBAGE)
    channel.close()
    await stage.turn()
    await stage.turn()
    assert stage.answers == {1: "protocol_error"}
    # What it said after that says nothing new.
    assert len([line for line in stage.logged if "broke the protocol" in line]) == 1
    assert stage.runner.workers() == []


@pytest.mark.parametrize("first", ["host", "starter"])
async def test_one_goes_with_its_starter_though_the_host_does_not_read(
    stage: Stage, first: str
) -> None:
    (channel,) = await stage.up()
    (starter,) = stage.starters
    stage.call(1)
    if first == "host":
        stage.runner.pause(True)
    stage.runner.stop(60.0)
    starter.go()
    if first == "starter":
        stage.runner.pause(True)
    channel.close()
    # Twice: what it had not read makes that an error first.
    await stage.turn()
    await stage.turn()
    assert stage.answers == {1: "worker_crashed"}
    assert stage.runner.stopped


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def die(process: subprocess.Popen[bytes]) -> None:
    """Kill it, and leave it for its parent to see."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


@pytest.mark.parametrize("lives", [True, False])
async def test_one_that_closed_its_channel_is_told_apart_from_one_that_died(
    stage: Stage, other: subprocess.Popen[bytes], lives: bool
) -> None:
    (channel,) = await stage.up()
    (process,) = stage.runner._processes.values()
    process.os_pid = other.pid
    if not lives:
        die(other)
    channel.close()
    await stage.turn()
    (starter,) = stage.starters
    assert starter.signals == [(process.worker.id, signal.SIGKILL)]
    stage.wait(2.0)
    assert starter.pings == 1
    error, status = process.obituary(signal.SIGKILL)
    assert (error["signal"], status) == ("SIGKILL", "SIGKILL")
    assert ("closed its channel" in error["message"]) is lives
    assert ("perhaps out of memory?" in error["message"]) is not lives


async def test_what_starters_print_is_read_as_what_workers_say(stage: Stage) -> None:
    stage.runner.start()
    stage.runner.pause(True)
    assert stage.starters[0].is_paused
    # A starter that begins meanwhile begins so: in the place of one that had begun to work.
    stage.starters[0].tell("hello", {})
    stage.starters[0].go()
    assert [starter.is_paused for starter in stage.starters] == [True, True]
    stage.runner.pause(False)
    assert not stage.starters[1].is_paused


async def test_a_worker_that_a_starter_did_not_begin_is_left_to_another_one_once(
    stage: Stage,
) -> None:
    stage.runner.start()
    for number in (1, 2):
        assert (len(stage.starters), stage.events) == (number, [])
        starter = stage.starters[-1]
        assert list(starter.workers) == ["default-1"]
        starter.tell("hello", {})
        starter.go()
    assert len(stage.starters) == 2
    assert stage.events == ["worker.start_failed", "pool.unavailable"]


@pytest.mark.parametrize("left", [False, True])
async def test_a_starter_that_closed_its_channel_is_told_apart(stage: Stage, left: bool) -> None:
    stage.runner.start()
    (starter,) = stage.starters
    starter.left = left
    starter.go()
    stage.call(1)
    error = stage.runner.machine._starting.cause["message"]
    assert ("closed its channel" in error) is left
    assert ("ended with SIGKILL" in error) is not left


async def test_why_a_worker_did_not_start_is_told_rather_than_why_its_starter_went(
    stage: Stage,
) -> None:
    stage.runner.start()
    (starter,) = stage.starters
    starter.tell("hello", {})
    starter.tell("started", "default-1", 1001)
    (channel,) = starter.workers.values()
    channel.sendall(messages.failed({"type": "exception", "message": "no such module"}))
    await stage.turn()
    starter.go()
    channel.close()
    await stage.turn()
    await stage.turn()
    assert stage.runner.machine._starting.cause["message"] == "no such module"


async def test_a_starter_that_goes_while_its_pool_stops_has_no_successor(stage: Stage) -> None:
    stage.runner.start()
    (starter,) = stage.starters
    starter.tell("hello", {})
    # Whose worker is kept for it.
    stage.call(1)
    stage.runner.stop(60.0)
    starter.go()
    assert len(stage.starters) == 1
    assert stage.answers == {1: "shutting_down"}
    assert stage.runner.stopped


async def test_nobody_is_late_for_one_that_a_starter_of_before_began(stage: Stage) -> None:
    (channel,) = await stage.up()
    stage.call(1)
    stage.starters[0].go()
    # There is another starter before the worker's end has been read.
    stage.runner.recycle()
    assert len(stage.starters) == 2
    # For this it is to be killed, but it has been.
    channel.sendall(GARBAGE)
    await stage.turn()
    assert any("broke the protocol" in line for line in stage.logged)
    stage.wait(10.0)
    assert not stage.starters[1].killed
    stage.starters[1].go()
    # Its id may be another process's by now.
    assert stage.killed == [1001]
    channel.close()
    await stage.turn()
    assert stage.answers == {1: "protocol_error"}


async def test_nobody_is_late_for_one_that_was_killed_before_its_starter_went(stage: Stage) -> None:
    (channel,) = await stage.up()
    channel.sendall(GARBAGE)
    await stage.turn()
    stage.starters[0].go()
    stage.runner.recycle()
    stage.wait(10.0)
    assert [starter.pings for starter in stage.starters] == [0, 0]


# -- a worker that does not go ---------------------------------------------------------------------

of_two = pytest.mark.parametrize("stage", [2], indirect=True)


@of_two
async def test_a_starter_that_answers_is_not_late_for_a_worker_that_does_not_go(
    stage: Stage,
) -> None:
    channel, _ = await stage.up()
    starter = stage.starters[0]
    channel.sendall(GARBAGE)
    await stage.turn()
    assert starter.signals == [("default-1", signal.SIGKILL)]
    stage.logged.clear()
    for times in range(1, 5):
        stage.wait(2.0)
        assert starter.pings == times
        # What it has to kill may have waited as long as the ping did.
        assert len(stage.logged) == min(times - 1, 1)
        stage.wait(2.0)
        starter.tell("pong")
    assert "default-1 was killed and is not gone" in stage.logged[0]
    stage.wait(2.0)
    starter.tell("exited", "default-1", signal.SIGKILL)
    stage.wait(9.0)
    assert (starter.pings, starter.killed) == (5, False)
    assert stage.answers == {}


async def test_one_that_broke_the_protocol_is_read_no_further(stage: Stage) -> None:
    (channel,) = await stage.up()
    channel.setblocking(False)
    channel.send(GARBAGE)
    await stage.turn()
    while select.select([], [channel], [], 0)[1]:
        channel.send(bytes(2**20))
    await stage.turn()
    with pytest.raises(BlockingIOError):
        channel.send(bytes(2**20))


@of_two
async def test_a_starter_that_does_not_answer_is_killed(stage: Stage) -> None:
    channels = await stage.up()
    starter = stage.starters[0]
    for channel in channels:
        channel.sendall(GARBAGE)
        await stage.turn()
        stage.wait(1.0)
    stage.wait(4.9)
    assert (starter.pings, starter.killed) == (1, False)
    stage.wait(0.2)
    assert starter.killed


@of_two
async def test_a_starter_that_told_of_a_worker_has_all_its_time_for_the_next(stage: Stage) -> None:
    channels = await stage.up()
    starter = stage.starters[0]
    for number, channel in enumerate(channels, 1):
        channel.sendall(GARBAGE)
        await stage.turn()
        stage.wait(2.0)
        assert starter.pings == number
        starter.tell("exited", f"default-{number}", signal.SIGKILL)
        stage.wait(10.0)
    assert not starter.killed


@of_two
async def test_a_worker_that_does_not_go_does_not_hold_up_the_end(stage: Stage) -> None:
    await stage.up()
    starter = stage.starters[0]
    worker = stage.call(1).worker
    assert worker is not None
    channels = dict(starter.workers)
    other = channels.pop(worker.id)
    (channel,) = channels.values()
    channel.sendall(GARBAGE)
    await stage.turn()
    stage.runner.stop(60.0)
    stage.wait(3.0)
    starter.tell("pong")
    # The other may still finish its call.
    stage.wait(3.0)
    starter.tell("pong")
    assert (starter.pings, starter.killed) == (2, False)
    other.sendall(messages.result(1, b"done"))
    await stage.turn()
    assert stage.answers == {1: b"done"}
    starter.tell("exited", worker.id, 0)
    stage.wait(2.0)
    assert (starter.pings, starter.killed) == (2, True)
