"""Large values through real processes: how they travel, and that nothing of them stays."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from snakepit_port.config.model import SupervisorSettings
from snakepit_port.harness import CallError, Host, open_host
from snakepit_port.supervisor import shm
from snakepit_port.supervisor.shm import SharedMemory
from snakepit_port.wire import encode, envelopes, messages

HERE = Path(__file__).parent
LARGE = 1024 * 1024
THRESHOLD = 64 * 1024

pytestmark = pytest.mark.skipif(
    not os.path.isdir(shm.MEMORY), reason="a system without files in memory"
)


def config(**supervisor: Any) -> dict[str, Any]:
    pool = {
        "name": "default",
        "adapter": "bulk_adapter",
        "pool_size": 1,
        "python": sys.executable,
        "python_path": [str(HERE)],
    }
    return {"pools": [pool], "supervisor": {"shm_threshold": THRESHOLD, **supervisor}}


@asynccontextmanager
async def running(**supervisor: Any) -> AsyncIterator[Host]:
    """A host of a supervisor that is ready, and leaves nothing."""
    async with open_host(config(**supervisor)) as host:
        await host.await_ready()
        yield host
    if "shm" in host.info:
        assert not exists(folder_of(host))


def folder_of(host: Host) -> str:
    folder: str = host.info["shm"]["folder"]
    return folder


def files(host: Host) -> list[str]:
    return os.listdir(folder_of(host))


async def error_of(host: Host, command: str, *args: Any, **options: Any) -> CallError:
    with pytest.raises(CallError) as caught:
        await host.call(None, command, list(args), **options)
    return caught.value


async def printed(host: Host, text: str) -> None:
    async for entry in host.logs(past=True):
        if entry.line == text:
            return


def exists(folder: str) -> bool:
    return os.path.exists(folder)


async def gone(pidfd: int) -> None:
    """Wait for the end of a process that was alive when its descriptor was opened."""
    try:
        await trio.lowlevel.wait_readable(pidfd)
    finally:
        os.close(pidfd)


# -- how they travel -------------------------------------------------------------------------------


async def largest_frame_of_echo(host: Host, value: Any) -> int:
    """Bytes of the larger frame of a call and its answer."""
    frames = host.frames()
    assert await host.call(None, "echo", [value]) == value
    sizes = []
    async for frame in frames:
        sizes.append(len(frame.data))
        if frame.sent is False:
            break
    return max(sizes)


@pytest.mark.parametrize("command", ["crash_once", "crash_once_looking"])
async def test_a_call_that_is_begun_again_has_its_large_arguments_still(command: str) -> None:
    async with running() as host:
        assert await host.call(None, command, [bytes(LARGE)]) == LARGE
        assert files(host) == []


async def test_large_bytes_do_not_travel_in_frames() -> None:
    data = os.urandom(LARGE)
    async with running() as host:
        assert "shm" in host.info["capabilities"]
        assert os.stat(folder_of(host)).st_mode & 0o777 == 0o700
        value = {"a": [data, b"small"], "b": data[:THRESHOLD]}
        assert await largest_frame_of_echo(host, value) < 1000
        assert files(host) == []


async def test_a_pool_whose_preload_fails_leaves_the_folder_to_the_others() -> None:
    """Its starter ends while the supervisor lives: whose the folder is."""
    told = config()
    told["pools"].append({**told["pools"][0], "name": "bad", "preload": ["no_such_module"]})
    async with open_host(told) as host:
        async for event in host.events(past=True):
            if event.name == "worker.start_failed":
                assert event.metadata["pool"] == "bad"
                break
        assert await largest_frame_of_echo(host, os.urandom(LARGE)) < 1000
        assert files(host) == []
    assert not exists(folder_of(host))


async def test_a_command_can_see_them_without_a_copy() -> None:
    async with running() as host:
        for size in (LARGE, 10):
            look = await host.call(None, "look", [b"\1" * size])
            assert look == ["memoryview", True, "mmap" if size == LARGE else "bytes", size]
        data = os.urandom(LARGE)
        assert await host.call(None, "pass_on", [data]) == data
        assert files(host) == []


async def test_arrays_there_and_back() -> None:
    async with running() as host:
        for size in (6, LARGE):
            array = np.arange(size, dtype="float32").reshape(2, -1)
            arrived = await host.call(None, "echo", [array])
            assert (arrived.dtype, arrived.shape) == (array.dtype, array.shape)
            assert np.array_equal(arrived, array)
            seen = await host.call(None, "look_at_array", [array])
            assert seen[:3] == ["numpy", "float32", [2, size // 2]]
            assert seen[3] == pytest.approx(float((array + 1).sum()))
        assert files(host) == []


@pytest.mark.parametrize("limit", ["0", 10_000, LARGE + 1000])
async def test_what_has_no_room_travels_in_frames(limit: Any) -> None:
    data = os.urandom(LARGE)
    async with running(shm_max_bytes=int(limit)) as host:
        assert ("shm" in host.info) == (limit != "0")
        assert await host.call(None, "echo", [[data, data]]) == [data, data]


async def test_many_callers_at_once() -> None:
    async with running(shm_max_bytes=3 * LARGE) as host:
        results = []

        async def caller(number: int) -> None:
            data = bytes([number]) * LARGE
            results.append(await host.call(None, "echo", [data]) == data)

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(caller, number)
        assert results == [True] * 20
        assert files(host) == []


async def test_a_host_that_does_not_know_of_it_gets_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    build = messages.hello
    monkeypatch.setattr(
        messages, "hello", lambda info: build({**info, "capabilities": ["streams"]})
    )
    async with running() as host:
        assert "shm" not in host.info["capabilities"]
        assert "shm" not in host.info
        data = os.urandom(LARGE)
        assert await host.call(None, "echo", [data]) == data


# -- nothing stays ---------------------------------------------------------------------------------


async def test_a_call_that_is_never_started_leaves_nothing() -> None:
    data = bytes(LARGE)
    async with running() as host, trio.open_nursery() as nursery:
        nursery.start_soon(error_of, host, "wait")
        await printed(host, "waiting")
        assert (await error_of(host, "echo", data, timeout=0)).type == "timeout"
        assert (await error_of(host, "echo", data, queue_timeout=0.001)).type == "queue_timeout"
        with trio.CancelScope() as scope:

            async def cancel_when_written() -> None:
                await host.ping()
                assert len(files(host)) == 1
                scope.cancel()

            nursery.start_soon(cancel_when_written)
            await host.call(None, "echo", [data])
        assert files(host) == []
        os.kill((await host.workers())[0]["os_pid"], signal.SIGKILL)


async def test_an_answer_that_nobody_takes_leaves_nothing() -> None:
    async with running() as host:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.call, None, "answer_late", [LARGE])
            # A deadline could pass before the command begins.
            await printed(host, "waiting")
            nursery.cancel_scope.cancel()
        # Behind the late answer on the same worker.
        assert await host.call(None, "echo", [1]) == 1
        assert files(host) == []


async def test_a_child_that_returns_leaves_nothing_and_keeps_nobody_from_it() -> None:
    async with running(max_frame_bytes=2**17) as host:
        assert await host.call(None, "answer_twice", [LARGE]) == bytes(LARGE)
        assert files(host) == []


async def test_a_result_without_a_term_leaves_nothing() -> None:
    async with running() as host:
        assert (await error_of(host, "make_or_fail", LARGE)).type == "encode"
        assert files(host) == []


async def test_a_worker_that_dies_while_it_answers_leaves_nothing() -> None:
    async with running() as host:
        error = await error_of(host, "die_while_answering", LARGE)
        assert (error.type, error.details["signal"]) == ("worker_crashed", "SIGKILL")
        assert files(host) == []
        assert await host.call(None, "echo", [bytes(LARGE)]) == bytes(LARGE)


async def test_a_supervisor_that_is_killed_leaves_nothing() -> None:
    async with open_host(config()) as host:
        await host.await_ready()
        starter = os.pidfd_open(await host.call(None, "starter"))
        folder = folder_of(host)
        # Of the host itself: for it removes the folder, too.
        (Path(folder) / "h-1-0-5").write_bytes(b"12345")
        os.kill(host.os_pid, signal.SIGKILL)
        await gone(starter)
        assert not exists(folder)


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def test_a_host_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    script = """
        import os, sys, trio, trio.testing
        from snakepit_port.harness import open_host

        async def main():
            async with open_host(sys.argv[1]) as host:
                await host.await_ready()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(host.call, None, "wait", [])
                    await trio.testing.wait_all_tasks_blocked()
                    await host.ping()
                    nursery.start_soon(host.call, None, "echo", [bytes(2**20)])
                    await host.ping()
                    print(host.os_pid, host.info["shm"]["folder"], flush=True)

        trio.run(main)
    """
    path = tmp_path / "pools.toml"
    path.write_text(
        f"""
        [supervisor]
        shm_threshold = {THRESHOLD}
        shutdown_grace_period = 0
        [[pools]]
        name = "default"
        pool_size = 1
        adapter = "bulk_adapter"
        python_path = ["{HERE}"]
        """
    )
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    with start(command) as process:
        assert process.stdout is not None
        pid, folder = (await trio.to_thread.run_sync(process.stdout.readline)).split()
        assert os.listdir(folder) != []
        supervisor = os.pidfd_open(int(pid))
        process.kill()
        await gone(supervisor)
        assert not exists(folder)


# -- the supervisor's part -------------------------------------------------------------------------


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedMemory:
    monkeypatch.setattr(shm, "MEMORY", str(tmp_path))
    made = SharedMemory.make("run", SupervisorSettings())
    assert made is not None
    return made


def names_in(memory: SharedMemory) -> set[str]:
    return set(os.listdir(memory.folder))


def fill(memory: SharedMemory, *names: str) -> None:
    for name in names:
        (Path(memory.folder) / name).touch()


def test_only_its_owner_sees_what_is_there(memory: SharedMemory) -> None:
    assert stat.S_IMODE(os.stat(memory.folder).st_mode) == 0o700


def test_a_dead_workers_unanswered_calls_are_swept(memory: SharedMemory) -> None:
    assert [memory.new_writer(), memory.new_writer()] == ["w1", "w2"]
    fill(
        memory, "w1-5-0-9", "w1-5-1-9", "w1-6-0-9", "w1-55-0-9", "w2-5-0-9", "w11-5-0-9", "h-5-0-9"
    )
    memory.sweep("w1", {5: None})
    assert names_in(memory) == {"w1-6-0-9", "w1-55-0-9", "w2-5-0-9", "w11-5-0-9", "h-5-0-9"}


def test_only_files_of_the_folder_are_discarded(memory: SharedMemory, tmp_path: Path) -> None:
    (tmp_path / "w1-1-0-9").touch()
    fill(memory, "w1-1-0-9", "other")
    memory.discard(["../w1-1-0-9", "other", "w1-1-0-9", "w9-1-0-9"])
    assert names_in(memory) == {"other"}
    assert (tmp_path / "w1-1-0-9").exists()


def test_a_host_that_is_there_keeps_what_it_has_not_read(memory: SharedMemory) -> None:
    fill(memory, "w1-5-0-9")
    memory.leave(to_host=True)
    assert names_in(memory) == {"w1-5-0-9"}
    memory.leave(to_host=False)
    assert not os.path.exists(memory.folder)


def test_where_there_is_no_memory_nothing_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shm, "MEMORY", str(tmp_path / "none"))
    assert SharedMemory.make("run", SupervisorSettings()) is None


@pytest.mark.parametrize(("longest", "offered"), [(None, 9), (10, 9), (8, 8), (0, 0)])
def test_no_file_is_to_be_longer_than_the_system_lets_it(
    longest: int | None, offered: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shm, "MEMORY", str(tmp_path))
    monkeypatch.setattr(shm, "file_bytes", lambda: longest)
    made = SharedMemory.make("run", SupervisorSettings(shm_max_bytes=9))
    assert made is not None
    assert made.info["max_bytes"] == offered


def test_a_folder_that_cannot_be_held_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_descriptor(_folder: str) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(shm, "MEMORY", str(tmp_path))
    monkeypatch.setattr(shm, "hold", no_descriptor)
    assert SharedMemory.make("run", SupervisorSettings()) is None
    assert os.listdir(tmp_path) == []


def test_files_of_a_result_are_found_in_its_frame() -> None:
    assert envelopes.files_of(messages.result(300, b"", ["w1-300-0-9"])) == ["w1-300-0-9"]
    assert envelopes.files_of(messages.result(300, encode(1))) == []
    assert envelopes.files_of(messages.error(300, {"type": "timeout"})) == []
