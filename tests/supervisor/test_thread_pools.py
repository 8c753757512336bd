"""Pools whose workers run several calls at a time, with real processes: what callers see."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from test_pools import failure_of, pool, pools, printed

from snakepit_port.environment import look_at
from snakepit_port.harness import Host, open_host

THREADS = 4


@pytest.fixture(scope="session", params=["gil", "free-threaded"])
def python(request: pytest.FixtureRequest) -> str:
    if request.param == "gil":
        return sys.executable
    return str(request.getfixturevalue("free_threaded_python"))


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Path]:
    """For a command to wait at. It is open both ways, so that neither side waits to open it."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR)
    yield path
    os.close(fd)


def threads(python: str, **settings: Any) -> dict[str, Any]:
    kind = {"worker_profile": "thread", "threads_per_worker": THREADS}
    return pools(pool(adapter="thread_adapter", python=python, **kind, **settings))


async def call_all(host: Host, *calls: tuple[str, list[Any]]) -> list[Any]:
    """Make calls at the same time; what they are answered with, errors too."""
    answers: list[Any] = [None] * len(calls)

    async def one(place: int, command: str, args: list[Any]) -> None:
        try:
            answers[place] = await host.call(None, command, args)
        except Exception as exc:
            answers[place] = exc

    async with trio.open_nursery() as nursery:
        for place, (command, args) in enumerate(calls):
            nursery.start_soon(one, place, command, args)
    return answers


async def test_one_process_runs_as_many_calls_as_it_has_threads(python: str) -> None:
    async with open_host(threads(python)) as host:
        await host.await_ready()
        names = await call_all(host, *[("meet", [THREADS])] * THREADS)
        assert sorted(names) == [f"lane-{n}" for n in range(1, THREADS + 1)]
        [worker] = await host.workers()
        assert worker["requests"] == THREADS


async def test_a_pool_says_whether_its_workers_have_a_gil(python: str) -> None:
    has_gil = look_at(python).gil_enabled
    async with open_host(threads(python)) as host:
        await host.await_ready()
        assert (await host.call(None, "about"))["gil"] is has_gil
        heard = {}
        async for event in host.events(past=True):
            heard[event.name] = event.metadata
            if {"worker.started", "worker.gil_enabled"} <= heard.keys() or (
                "worker.started" in heard and not has_gil
            ):
                break
        assert heard["worker.started"]["gil"] is has_gil
        if has_gil:
            about = heard["worker.gil_enabled"]
            assert (about["pool"], about["module"]) == ("default", None)


async def test_a_call_that_runs_python_is_interrupted_alone(python: str, fifo: Path) -> None:
    async with open_host(threads(python, cancel_grace_period="60s")) as host:
        await host.await_ready()
        before = await host.call(None, "about")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.call, None, "read", [str(fifo)])
            await printed(host, "waiting")
            error = await failure_of(lambda: host.call(None, "spin", timeout=0.5))
            assert error.type == "timeout"
            assert (await host.call(None, "about"))["pid"] == before["pid"]
            write(fifo)
        stats = await host.stats()
        assert (stats["started"], stats["worker_crashes"]) == (1, 0)


def write(fifo: Path) -> None:
    fd = os.open(fifo, os.O_WRONLY)
    os.write(fd, b"x")
    os.close(fd)


async def test_a_call_that_will_not_stop_costs_no_other(
    python: str, fifo: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    os.mkfifo(other)
    keep_open = os.open(other, os.O_RDWR)
    answers = []
    try:
        async with open_host(threads(python, cancel_grace_period=100)) as host:
            await host.await_ready()
            first = (await host.call(None, "about"))["pid"]
            async with trio.open_nursery() as nursery:

                async def read_other() -> None:
                    answers.append(await host.call(None, "read", [str(other)]))

                nursery.start_soon(read_other)
                await printed(host, "waiting")
                error = await failure_of(lambda: host.call(None, "read", [str(fifo)], timeout=0.5))
                assert error.type == "timeout"
                # The worker it is stuck in is left, and a successor is there for the next call.
                async for event in host.events(past=True):
                    if event.name == "worker.started" and event.metadata["os_pid"] != first:
                        break
                assert (await host.call(None, "about"))["pid"] != first
                states = {worker["os_pid"]: worker["state"] for worker in await host.workers()}
                assert states[first] == "draining"
                # The other call goes on, and finishes; then the worker goes.
                write(other)
            async for event in host.events(past=True):
                if event.name == "worker.stopped":
                    assert event.metadata["reason"] == "cancelled"
                    break
            assert (await host.stats())["worker_crashes"] == 0
    finally:
        os.close(keep_open)
    assert answers == ["x"]


async def test_a_call_that_its_worker_is_kept_from_reading_goes_to_another() -> None:
    """By one that has the GIL and does not let go of it, nor stop."""
    async with open_host(threads(sys.executable, cancel_grace_period=100)) as host:
        await host.await_ready()
        before = await host.call(None, "about")
        after = {}
        async with trio.open_nursery() as nursery:
            holding = trio.CancelScope()

            async def hold() -> None:
                with holding:
                    await host.call(None, "hold_the_gil")

            async def ask() -> None:
                after.update(await host.call(None, "about"))

            nursery.start_soon(hold)
            await printed(host, "holding")
            nursery.start_soon(ask)
            while (await host.stats())["requests"] < 3:
                await trio.lowlevel.checkpoint()
            holding.cancel()
        assert after["pid"] != before["pid"]
        async for event in host.events(past=True):
            if event.name == "worker.stopped":
                assert event.metadata["reason"] == "cancelled"
                assert event.metadata["commands"] == ["hold_the_gil"]
                break


async def test_a_crash_fails_the_calls_that_had_started_and_no_other(
    python: str, fifo: Path
) -> None:
    """More calls than threads, all with the one worker: its successor runs those beyond."""
    async with open_host(threads(python, prefetch=THREADS)) as host:
        await host.await_ready()
        started: list[Any] = []
        others: list[Any] = []

        async def begin() -> None:
            started.extend(await call_all(host, *[("read_and_die", [str(fifo)])] * THREADS))

        async def wait() -> None:
            others.extend(await call_all(host, *[("about", [])] * 3))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            lines = host.logs(past=True)
            for _ in range(THREADS):
                assert (await anext(lines)).line == "waiting"
            nursery.start_soon(wait)
            while (await host.stats())["requests"] < THREADS + 3:
                await trio.lowlevel.checkpoint()
            assert (await host.stats())["queued"] == 0
            [before] = await host.workers()
            write(fifo)
        for error in started:
            assert (error.type, error.signal) == ("worker_crashed", "SIGKILL")
        [pid] = {about["pid"] for about in others}
        assert pid != before["os_pid"]
        assert (await host.stats())["worker_crashes"] == 1


async def test_checks_reach_the_host(python: str) -> None:
    config = threads(python, thread_safety_checks=True)
    config["pools"][0]["adapter"] = "pool_adapter"
    async with open_host(config) as host:
        await host.await_ready()
        async for event in host.events(past=True):
            if event.name == "worker.thread_safety":
                assert event.metadata["kind"] == "undeclared"
                assert event.metadata["worker"].startswith("default-")
                break


async def test_what_all_workers_say_of_their_adapter_is_told_once(python: str) -> None:
    config = threads(python, thread_safety_checks=True, pool_size=2)
    config["pools"][0]["adapter"] = "pool_adapter"
    heard = []
    async with open_host(config) as host:
        await host.await_ready()
        assert await host.recycle() == 2
        stopped = 0
        async for event in host.events(past=True):
            heard.append(event.name)
            stopped += event.name == "worker.stopped"
            if stopped == 2:
                break
    assert heard.count("worker.started") == 4
    assert heard.count("worker.thread_safety") == 1


# -- NumPy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["process", "thread"])
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_numpy_in_every_profile_and_environment(
    numpy_python: str, profile: str, start_method: str
) -> None:
    config = pools(
        pool(
            adapter="numpy_adapter:Model",
            adapter_args={"size": 3},
            python=numpy_python,
            worker_profile=profile,
            threads_per_worker=THREADS,
            start_method=start_method,
            preload=["numpy"] if start_method == "forkserver" else [],
            pool_startup_timeout="60s",
        )
    )
    found = look_at(numpy_python)
    async with open_host(config) as host:
        await host.await_ready()
        about = await host.call(None, "about")
        assert about["numpy"] == found.distributions["numpy"]
        # NumPy does not turn it on.
        assert about["gil"] is found.gil_enabled
        assert await host.call(None, "threads") == ("1" if profile == "process" else str(THREADS))
        rows = [[float(n), 0.0, 1.0] for n in range(8)]
        expected = [[n * 0 + 6.0, n * 1 + 7.0, n * 2 + 8.0] for n in range(8)]
        answers = await call_all(host, *[("predict", [[row]]) for row in rows])
        assert [answer[0] for answer in answers] == expected
