"""After `kill -9` of host, supervisor or starter nothing of theirs is left."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from fault_settings import config, times

from snakepit_port.harness import CallError, Host, open_host
from snakepit_port.testing.processes import Run

HERE = Path(__file__).parent

MARK = b"SNAKEPIT_PORT_RUN_ID"


#: Seconds that what was left has to go in. It takes milliseconds; a machine may be busy.
GRACE = 20.0


@pytest.fixture
def marked() -> Iterator[Run]:
    """Everything that is started with its mark; none of it may outlive the test."""
    run = Run()
    yield run
    assert run.end(GRACE) == []


class Watched:
    """Processes that are alive now, and need not be children of this one."""

    def __init__(self, *pids: int) -> None:
        self._pidfds = {pid: os.pidfd_open(pid) for pid in pids}

    def alive(self) -> list[int]:
        poll = select.poll()
        for pidfd in self._pidfds.values():
            poll.register(pidfd, select.POLLIN)
        ended = {fd for fd, _ in poll.poll(0)}
        return [pid for pid, fd in self._pidfds.items() if fd not in ended]

    async def gone(self) -> None:
        for pidfd in self._pidfds.values():
            await trio.lowlevel.wait_readable(pidfd)
            os.close(pidfd)


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def mark_of(pid: int) -> str:
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    (run_id,) = (line[len(MARK) + 1 :].decode() for line in environ if line.startswith(MARK + b"="))
    return run_id


async def stopped(pid: int) -> None:
    """Stop a process, and return when it is."""
    os.kill(pid, signal.SIGSTOP)
    while state_of(pid) != "T":
        await trio.lowlevel.checkpoint()


def folder_of(pid: int) -> Path:
    """The folder in shared memory of the run that a process belongs to. It is there."""
    folder = Path("/dev/shm", f"snakepit-port-{mark_of(pid)}")
    assert folder.is_dir()
    return folder


async def fails(host: Host, command: str) -> None:
    """A call that is not to succeed; how it fails is not looked at."""
    with suppress(CallError):
        await host.call(None, command)
        pytest.fail(f"{command} returned")


@contextmanager
def loaded_host(
    config: dict[str, Any], marked: Run, *call: str, own_session: bool = False
) -> Iterator[tuple[subprocess.Popen[str], Watched]]:
    """A host with calls in flight, and what it has started."""
    script = [sys.executable, str(HERE / "loaded_host.py")]
    command = [*script, json.dumps(config), *(call or ("hang",))]
    with subprocess.Popen(
        command,
        env=marked.mark(None),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=own_session,
    ) as process:
        assert process.stdout is not None
        supervisor, *daemons = json.loads(process.stdout.readline())
        starters = children_of(supervisor)
        workers = [pid for starter in starters for pid in children_of(starter)]
        assert len(starters) == 1
        assert set(daemons) < set(workers), "orphans are not their starter's"
        yield process, Watched(supervisor, *starters, *workers)


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_nothing_is_left_of_a_host_that_was_killed(marked: Run, start_method: str) -> None:
    for _ in times(2, 25):
        with loaded_host(config(start_method=start_method), marked) as (host, started):
            assert len(started.alive()) == 6
            folder = folder_of(started.alive()[-1])
            host.kill()
            await started.gone()
            assert not folder.exists()


async def test_a_host_that_was_killed_lets_commands_clean_up(marked: Run, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with loaded_host(config(), marked, "clean_up", str(pipe)) as (host, started):
        host.kill()
        assert await trio.Path(pipe).read_text() == "cleaned up"
        await started.gone()


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_nothing_is_left_of_a_supervisor_that_was_killed(
    marked: Run, start_method: str
) -> None:
    for _ in times(2, 25):
        with loaded_host(config(start_method=start_method), marked) as (host, started):
            supervisor, *others = started.alive()
            assert len(others) == 5
            folder = folder_of(others[-1])
            os.kill(supervisor, signal.SIGKILL)
            await started.gone()
            assert not folder.exists()
            host.kill()


async def test_a_starter_that_is_stopped_clears_away_too(marked: Run) -> None:
    # Whoever the orphans go to is not of this session: then the kernel lets the starter go on.
    with loaded_host(config(), marked, own_session=True) as (host, started):
        supervisor, starter, *_ = started.alive()
        folder = folder_of(starter)
        # It would remove the folder, when it sees the supervisor gone.
        host.send_signal(signal.SIGSTOP)
        await stopped(starter)
        os.kill(supervisor, signal.SIGKILL)
        await started.gone()
        assert not folder.exists()
        host.kill()


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_nothing_is_left_of_a_starter_that_was_killed(marked: Run, start_method: str) -> None:
    other = config(name="other", pool_size=1)["pools"][0]
    terms = config(start_method=start_method)
    terms["pools"].append(other)
    async with open_host(terms, env=marked.mark(None)) as host:
        await host.await_ready()
        spared = Watched(await host.call("other", "abandon"), await host.call("other", "pid"))
        for _ in times(2, 10):
            workers = [worker["os_pid"] for worker in await host.workers("default")]
            daemons = [await host.call("default", "abandon") for _ in range(2)]
            (starter,) = {parent_of(pid) for pid in workers}
            started = Watched(starter, *workers, *daemons)
            logs, events = host.logs(), host.events()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fails, host, "hang")
                while (await anext(logs)).line != "hanging":
                    pass
                assert len(started.alive()) == 5
                os.kill(starter, signal.SIGKILL)
                await started.gone()
            assert await host.call("default", "add", [1, 2]) == 3
            for _ in range(2):
                while (await anext(events)).name != "worker.started":
                    pass
        assert len(spared.alive()) == 2
        # Those that were adopted are reaped, too, at the latest with the first of two pings.
        await host.ping()
        await host.ping()
        assert len(children_of(host.os_pid)) == 2
    await spared.gone()


async def test_what_a_worker_left_goes_when_it_is_replaced(marked: Run) -> None:
    """And what another one left stays, as long as that lives."""
    terms = config(pool_size=1, cancel_grace_period="10ms")
    async with open_host(terms, env=marked.mark(None)) as host:
        left = Watched(await host.call(None, "abandon"))
        assert await host.recycle() == 1
        await left.gone()
        left = Watched(await host.call(None, "abandon"))
        with pytest.raises(CallError, match="timeout"):
            # Enough for the command to begin: one that has not is cancelled in its place.
            await host.call(None, "swallow_interrupts", timeout=0.5)
        await left.gone()
        left = Watched(await host.call(None, "abandon"))
        await fails(host, "leave")
        await left.gone()
        left = Watched(await host.call(None, "abandon"))
        assert await host.call(None, "add", [1, 2]) == 3
        assert len(left.alive()) == 1
    await left.gone()


async def test_what_a_worker_left_in_its_group_goes_though_it_has_no_mark(marked: Run) -> None:
    async with open_host(config(pool_size=1), env=marked.mark(None)) as host:
        left = Watched(await host.call(None, "abandon_without_environment"))
        await fails(host, "leave")
        await left.gone()


# -- what is left when nobody was left to clear it away -------------------------------------------


@contextmanager
def wreck(config: dict[str, Any], marked: Run) -> Iterator[tuple[Path, Watched]]:
    """A run whose supervisor and starter were killed at once: its folder, and its daemons, which
    live.

    They keep the mark of their run, so any supervisor that starts on this machine may end them.
    """
    with loaded_host(config, marked) as (host, started):
        supervisor, starter, *others = started.alive()
        daemons = [pid for pid in others if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(daemons) == 2
        left = Watched(*daemons)
        folder = folder_of(daemons[0])
        # The host would remove the folder, when it sees the supervisor gone.
        host.send_signal(signal.SIGSTOP)
        os.kill(starter, signal.SIGSTOP)
        os.kill(supervisor, signal.SIGKILL)
        os.kill(starter, signal.SIGKILL)
        host.kill()
    # As if it was long ago: a host that lives gets a minute to read what is in it.
    os.utime(folder, (0, 0))
    yield folder, left


async def test_the_next_run_ends_what_a_dead_one_left(marked: Run) -> None:
    async with open_host(config(), env=marked.mark(None)) as alive:
        await alive.await_ready()
        kept = Watched(await alive.call(None, "pid"), await alive.call(None, "abandon"))
        with wreck(config(), marked) as (folder, left):
            async with open_host(config(), env=marked.mark(None)) as host:
                await left.gone()
                assert not folder.exists()
                assert await host.call(None, "add", [1, 2]) == 3
        assert len(kept.alive()) == 2
        assert await alive.call(None, "add", [1, 2]) == 3
    await kept.gone()


#: PTRACE_SEIZE, ptrace(2): a process that is traced is not gone before its tracer has seen it.
HOLD = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
print(libc.ptrace(0x4206, int(sys.argv[1]), 0, 0), flush=True)
sys.stdin.read()
"""


@contextmanager
def held(pid: int) -> Iterator[None]:
    command = [sys.executable, "-c", HOLD, str(pid)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != "0\n":
            pytest.skip("nobody may trace here")
        yield


async def test_a_supervisor_does_not_wait_for_a_worker_that_is_held(marked: Run) -> None:
    async with open_host(config(pool_size=1), env=marked.mark(None)) as host:
        await host.await_ready()
        (worker,) = await host.workers()
        with held(worker["os_pid"]):
            assert await host.close() == 0
