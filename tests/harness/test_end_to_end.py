"""The harness with a real supervisor and real workers."""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from snakepit_port.harness import CallError, Host, RawFrame, Subscription, host_over, open_host
from snakepit_port.harness.process import SupervisorProcess, start_supervisor
from snakepit_port.supervisor.link import READ_BYTES, READ_MORE_BYTES
from snakepit_port.wire import decode, encode, messages
from snakepit_port.wire.framing import Framer, pack

HERE = Path(__file__).parent


def config(**pool: Any) -> dict[str, Any]:
    """A configuration with one pool, `default`, of one worker that serves `trouble_adapter`."""
    settings = {
        "name": "default",
        "adapter": "trouble_adapter",
        "pool_size": 1,
        "python": sys.executable,
        "python_path": [str(HERE)],
        **pool,
    }
    return {"pools": [settings]}


async def failure_of(wait: Callable[[], Awaitable[Any]]) -> CallError:
    with pytest.raises(CallError) as caught:
        await wait()
    return caught.value


async def line(host: Host, text: str) -> None:
    """Waits until a worker has printed a line."""
    async for entry in host.logs(past=True):
        if entry.line == text:
            return
    pytest.fail("the link ended")


async def answer_to(id: int | None, frames: Subscription[RawFrame]) -> tuple[Any, ...]:
    """The answer with an id that a raw frame gets."""
    async for frame in frames:
        if not frame.sent:
            answer = messages.parse(frame.data)
            if answer[0] in ("result", "error") and answer[1] == id:
                return answer
    pytest.fail("the link ended")


@asynccontextmanager
async def in_flight(host: Host, command: str, *args: Any) -> AsyncIterator[None]:
    """A call that goes on in the background; whatever ends it is not looked at."""

    async def call() -> None:
        with suppress(CallError):
            await host.call(None, command, args)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        yield
        nursery.cancel_scope.cancel()


def watch(pid: int) -> int:
    """A descriptor that becomes readable when a process that is alive now ends."""
    return os.pidfd_open(pid)


async def all_gone(pidfds: list[int]) -> None:
    for pidfd in pidfds:
        await trio.lowlevel.wait_readable(pidfd)
        os.close(pidfd)


# -- calls ------------------------------------------------------------------------------------


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_calls(start_method: str) -> None:
    async with open_host(config(start_method=start_method)) as host:
        assert await host.await_ready() == {"default": "ready"}
        assert await host.call("default", "add", [1, 2]) == 3
        assert await host.call(None, "add", {"a": "x", "b": "y"}) == "xy"
        value = [None, True, 2**70, -1.5, "žluť", b"\xff\0", (1, "two"), {"k": [1, {}]}]
        assert await host.call("default", "echo", [value]) == value
        (worker,) = await host.workers()
        assert worker["os_pid"] == await host.call(None, "pid") != host.os_pid
        assert host.os_pid == host.info["os_pid"]
    assert host.exit_status == 0


async def test_many_callers_at_once() -> None:
    results: dict[int, int] = {}

    async def call(number: int) -> None:
        results[number] = await host.call(None, "add", [number, 1])

    async with open_host(config(pool_size=2)) as host:
        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(call, number)
        stats = await host.stats()
        assert (stats["requests"], stats["errors"]) == (500, 0)
    assert results == {number: number + 1 for number in range(500)}
    assert host.stray_answers == 0


async def test_a_file_configures_as_terms_do(tmp_path: Path) -> None:
    file = tmp_path / "pools.toml"
    file.write_text(
        "[[pools]]\nname = 'one'\nadapter = 'trouble_adapter'\npool_size = 1\n"
        f"python = '{sys.executable}'\npython_path = ['adapters']\n"
    )
    (tmp_path / "adapters").symlink_to(HERE)
    async with open_host(file) as host:
        assert [pool["name"] for pool in host.info["pools"]] == ["one"]
        assert host.info["stop_time"] == 7_500
        assert await host.call(None, "add", [1, 2]) == 3


# -- errors -----------------------------------------------------------------------------------


async def test_errors_of_commands_and_arguments() -> None:
    async with open_host(config()) as host:
        for command, args, type in [
            ("fail", ["on purpose"], "exception"),
            ("no_such_command", [], "unknown_command"),
            ("add", [1], "bad_arguments"),
            ("add", {"a": 1, "c": 2}, "bad_arguments"),
            ("add", 5, "bad_arguments"),
            ("unencodable", [], "encode"),
        ]:
            error = await failure_of(lambda c=command, a=args: host.call("default", c, a))
            assert (error.type, error.pool, error.command) == (type, "default", command), error
            assert error.worker is not None
            assert error.message
        error = await failure_of(lambda: host.call("default", "fail", ["on purpose"]))
        assert error.exception == "ValueError"
        assert error.traceback is not None
        assert "trouble_adapter.py" in error.traceback
        assert str(error).endswith("ValueError: on purpose")
        error = await failure_of(lambda: host.call("nowhere", "add", [1, 2]))
        assert error.type == "unknown_pool"
        error = await failure_of(lambda: host.control("no_such_control"))
        assert error.type == "unknown_control"
        assert await host.call("default", "add", [1, 2]) == 3


async def test_arguments_that_have_no_python_form() -> None:
    async with open_host(config()) as host:
        frames = host.frames()
        not_utf8 = b"\x83l\0\0\0\x01m\0\0\0\x01\xffj"
        await host.send_frame(messages.call(10**6, None, "echo", not_utf8))
        answer = await answer_to(10**6, frames)
        assert (answer[0], answer[2]["type"]) == ("error", "decode")


async def test_a_deadline_frees_the_worker() -> None:
    async with open_host(config()) as host:
        pid = await host.call(None, "pid")
        error = await failure_of(lambda: host.call(None, "hang", timeout=0.05))
        assert (error.type, error.command) == ("timeout", "hang")
        assert await host.call(None, "pid") == pid


async def test_a_cancelled_call_frees_the_worker() -> None:
    async with open_host(config()) as host:
        pid = await host.call(None, "pid")
        async with in_flight(host, "hang"):
            await line(host, "hanging")
        assert await host.call(None, "pid") == pid
        assert (await host.stats())["pools"]["default"]["cancelled"] == 1
    assert host.stray_answers == 0


async def test_a_call_nobody_has_time_for() -> None:
    async with (
        open_host(config(max_queue_size=1, prefetch=1)) as host,
        in_flight(host, "hang"),
    ):
        await line(host, "hanging")
        error = await failure_of(lambda: host.call(None, "pid", queue_timeout=0.05))
        assert error.type == "queue_timeout"
        frames = host.frames()
        for id in (10**6, 10**6 + 1):
            await host.send_frame(messages.call(id, None, "pid", encode([])))
        answer = await answer_to(10**6 + 1, frames)
        assert (answer[0], answer[2]["type"]) == ("error", "pool_saturated")


@pytest.mark.parametrize(
    ("how", "signal_name", "status"), [(signal.SIGKILL, "SIGKILL", None), (-3, None, 3)]
)
async def test_a_worker_that_dies(how: int, signal_name: str | None, status: int | None) -> None:
    async with open_host(config()) as host:
        pid = await host.call(None, "pid")
        error = await failure_of(lambda: host.call(None, "crash", [how]))
        assert error.type == "worker_crashed"
        assert (error.signal, error.status) == (signal_name, status)
        assert error.stderr is not None
        assert "last words" in error.stderr
        assert await host.call(None, "pid") != pid


async def test_a_pool_that_cannot_start() -> None:
    async with open_host(config(adapter="no_such_module")) as host:
        error = await failure_of(host.await_ready)
        assert (error.type, error.pool) == ("pool_unavailable", "default")
        assert "no_such_module" in str(error)
        error = await failure_of(lambda: host.call(None, "add", [1, 2]))
        assert error.type == "pool_unavailable"
        assert "no_such_module" in str(error)


async def test_a_result_over_the_hosts_limit() -> None:
    async with open_host(config(), max_frame_bytes=2**17) as host:
        error = await failure_of(lambda: host.call(None, "echo", ["x" * 2**17]))
        assert error.type == "frame_too_large"
        assert await host.call(None, "add", [1, 2]) == 3


async def test_the_longest_line_fits_where_the_host_accepts_as_little_as_it_may(
    tmp_path: Path,
) -> None:
    (tmp_path / "loud.py").write_text("import os\nos.write(1, b'\\xff' * 20_000 + b'\\n')\n")
    loud = config(adapter="loud", python_path=[str(tmp_path)])
    async with open_host(loud, max_frame_bytes=2**17) as host:
        await line(host, "\ufffd" * 2**14 + "…")


# -- bad input (SPEC, section 12) -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "id"),
    [
        (pack(b""), None),
        (pack(b"\xff"), None),
        (pack(b"\x83h\x02w\x04call"), None),
        (pack(b"\x83j"), None),
        (pack(b"\x83h\x02w\x07unknowna\x01"), None),
        (pack(b"\x83h\x02w\x04calla\x09"), 9),
        (pack(b"\x83h\x05w\x04calla\x09jjj"), 9),
        (pack(b"\x83h\x04w\x07controla\x09a\x01a\x01"), 9),
        (pack(messages.call(9, None, "add", encode([1, 2]))[4:] + b"\0"), 9),
        (messages.result(9, encode(1)), None),
        (messages.hello({}), None),
    ],
    ids=[
        "empty",
        "no version",
        "cut",
        "no tuple",
        "unknown tag",
        "short call",
        "wrong kinds",
        "control call of wrong kinds",
        "trailing byte",
        "misplaced",
        "second hello",
    ],
)
async def test_a_bad_frame_changes_nothing(frame: bytes, id: int | None) -> None:
    async with open_host(config()) as host:
        frames = host.frames()
        await host.send_frame(frame)
        answer = await answer_to(id, frames)
        assert (answer[0], answer[2]["type"]) == ("error", "protocol_error")
        assert answer[2]["message"]
        assert await host.call(None, "add", [1, 2]) == 3
    assert host.exit_status == 0


async def test_an_identifier_in_use_leaves_its_call_alone(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with open_host(config()) as host:
        frames = host.frames()
        complaints = host.complaints()
        call = messages.call(10**6, None, "wait_for", encode([str(pipe)]))
        await host.send_frame(call)
        await line(host, "waiting")
        await host.send_frame(call)
        assert (await anext(complaints)).type == "protocol_error"
        await trio.Path(pipe).write_text("first")
        assert await answer_to(10**6, frames) == ("result", 10**6, encode("first"))


async def test_a_frame_that_is_too_large_is_skipped() -> None:
    terms = {**config(), "supervisor": {"max_frame_bytes": 2**17}}
    async with open_host(terms) as host:
        assert host.info["max_frame_bytes"] == 2**17
        error = await failure_of(lambda: host.call(None, "echo", ["x" * 2**20]))
        assert error.type == "frame_too_large"
        complaints = host.complaints()
        await host.send_frame(pack(b"x" * 2**18))
        assert (await anext(complaints)).type == "frame_too_large"
        assert await host.call(None, "add", [1, 2]) == 3


# -- beginnings ---------------------------------------------------------------------------------


@asynccontextmanager
async def bare_supervisor(
    *shell: str,
) -> AsyncIterator[tuple[SupervisorProcess, trio.abc.Stream]]:
    """A supervisor that nobody has said hello to; started by a shell, after some commands."""
    command = [sys.executable, "-P", "-m", "snakepit_port", "serve"]
    if shell:
        command = ["sh", "-c", "; ".join([*shell, 'exec "$0" "$@"']), *command]
    process, stream = start_supervisor(command, None, None, None)
    async with stream:
        yield process, stream
        with trio.CancelScope(shield=True):
            await process.wait()


async def frames_of(stream: trio.abc.Stream) -> list[tuple[Any, ...]]:
    framer = Framer(2**20)
    frames: list[tuple[Any, ...]] = []
    async for data in stream:
        for frame in framer.feed(data):
            assert isinstance(frame, bytes)
            frames.append(messages.parse(frame))
    return frames


async def test_a_host_may_send_calls_right_behind_its_hello() -> None:
    """In one piece with it: half a call, and one that is larger than the configuration allows."""
    hello = messages.hello({"config": {**config(), "supervisor": {"max_frame_bytes": "128KiB"}}})
    too_large = messages.call(1, None, "add", bytes(2**17))
    call = messages.call(2, None, "add", encode([1, 2]))
    answers = {}
    async with bare_supervisor() as (process, stream):
        await stream.send_all(hello + too_large + call[:20])
        framer = Framer(2**20)
        async for data in stream:
            for frame in framer.feed(data):
                assert isinstance(frame, bytes)
                tag, *elements = messages.parse(frame)
                if tag == "hello":
                    await stream.send_all(call[20:])
                elif tag in ("result", "error"):
                    answers[elements[0]] = elements[1]
            if 2 in answers:
                break
        assert isinstance(stream, trio.StapledStream)
        await stream.send_eof()
        await frames_of(stream)
    assert answers.keys() == {1, 2}
    assert answers[1]["type"] == "frame_too_large"
    assert answers[2] == encode(3)
    assert process.exit_status == 0


def test_the_limit_holds_for_what_is_read_along_with_the_end_of_hello() -> None:
    """A hello that takes more than one read is read together with much that follows it."""
    terms = {**config(), "supervisor": {"max_frame_bytes": 2**17}}
    hello = messages.hello({"config": terms, "software": "x" * READ_BYTES})
    # A worker would refuse it as well, but there is no such pool.
    too_large = messages.call(1, "none", "add", bytes(2**17))
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, READ_MORE_BYTES)
    with open(read, "rb") as stdin:
        with open(write, "wb") as said:
            said.write(hello + too_large)
        command = [sys.executable, "-P", "-m", "snakepit_port", "serve"]
        done = subprocess.run(command, stdin=stdin, capture_output=True, check=True)
    frames = [frame for frame in Framer(2**20).feed(done.stdout) if isinstance(frame, bytes)]
    ((_, id, error),) = (said for said in map(messages.parse, frames) if said[0] == "error")
    assert (id, error["type"]) == (1, "frame_too_large")


async def test_what_is_due_after_hello_is_done_though_nobody_says_anything(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    settings = config(preload=["waits_at_import"], adapter_env={"FIFO": str(fifo)})
    hello = messages.hello({"config": settings})
    call = messages.call(2, None, "add", encode([1, 2]), {"timeout": 50})
    async with bare_supervisor() as (process, stream):
        await stream.send_all(hello + call)
        framer = Framer(2**20)
        answer = None
        while answer is None:
            data = await stream.receive_some()
            assert data
            for frame in framer.feed(data):
                assert isinstance(frame, bytes)
                said = messages.parse(frame)
                if said[0] == "error":
                    answer = said
        assert (answer[1], answer[2]["type"]) == (2, "timeout")
        # For reading, too, so that this waits for nobody.
        opened = os.open(fifo, os.O_RDWR)
        try:
            assert isinstance(stream, trio.StapledStream)
            await stream.send_eof()
            await frames_of(stream)
        finally:
            os.close(opened)
    assert process.exit_status == 0


async def test_another_version_of_the_protocol() -> None:
    async with bare_supervisor() as (process, stream):
        await stream.send_all(messages.hello({"config": config()}, version=2))
        ((tag, id, error),) = await frames_of(stream)
        assert (tag, id, error["type"]) == ("error", None, "protocol_version")
        assert "1" in error["message"]
        assert "2" in error["message"]
    assert process.exit_status == 76


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0\0\x09\x83h\x03", messages.ping(1), pack(b"GET / HTTP/1.1")],
    ids=["nothing", "half a frame", "another frame", "another protocol"],
)
async def test_no_hello(data: bytes) -> None:
    async with bare_supervisor() as (process, stream):
        await stream.send_all(data)
        assert isinstance(stream, trio.StapledStream)
        await stream.send_eof()
        assert all(frame[0] == "error" for frame in await frames_of(stream))
    assert process.exit_status == 76


@pytest.mark.parametrize("limit", [0, -1, 2**17 - 1, True, 1e6, "64MiB", None])
async def test_a_host_that_does_not_accept_enough(limit: Any) -> None:
    async with bare_supervisor() as (process, stream):
        hello = messages.hello({"config": config(), "max_frame_bytes": limit})
        await stream.send_all(hello)
        ((tag, id, error),) = await frames_of(stream)
        assert (tag, id, error["type"]) == ("error", None, "protocol_error")
        assert "an integer of at least 131072" in error["message"]
    assert process.exit_status == 76


async def test_mistakes_in_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "pools.toml"
    file.write_text("[[pools]]\nname = 'one'\nadapter = 'm'\npool_sise = 1\n")
    for wrong in (config(pool_sise=1), file):
        stderr = (tmp_path / "stderr").open("w")
        with stderr, pytest.raises(CallError) as caught:
            async with open_host(wrong, stderr=stderr):
                pytest.fail("there was a hello")
        assert caught.value.type == "config"
        assert caught.value.problems is not None
        (problem,) = caught.value.problems
        assert "pool_sise" in str(caught.value)
        assert "pool_size" in problem["hint"]
    assert problem["file"] == str(file)
    assert problem["line"] == 4


async def test_more_pools_than_there_are_descriptors_for() -> None:
    one_of_them = {"adapter": "a", "pool_size": 1}
    pools = [{"name": str(number), **one_of_them} for number in range(80)]
    async with bare_supervisor("ulimit -n 60") as (process, stream):
        hello = messages.hello({"config": {"pools": pools}, "capabilities": ["shm"]})
        await stream.send_all(hello)
        ((tag, id, error),) = await frames_of(stream)
        assert (tag, id, error["type"]) == ("error", None, "config")
        assert "raise `ulimit -n`" in error["message"]
        assert [problem["place"] for problem in error["problems"]] == ["pools"]
    assert process.exit_status == 78
    assert [name for name in os.listdir("/dev/shm") if f"-{process.os_pid}-" in name] == []


@pytest.mark.parametrize("named", ["./python", "python"])
async def test_a_working_directory_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str
) -> None:
    """Where paths are relative: that of the interpreter, or all that the host sends."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setenv("SNAKEPIT_PYTHON", named)
    async with bare_supervisor() as (process, stream):
        where = {"base_dir": str(tmp_path)} if "/" in named else {}
        pool = {"name": "default", "adapter": "a"}
        await stream.send_all(messages.hello({"config": {"pools": [pool]}, **where}))
        ((tag, id, error),) = await frames_of(stream)
        assert (tag, id, error["type"]) == ("error", None, "config")
        assert "working directory is gone" in error["message"]
    assert process.exit_status == 78


async def test_the_configuration_of_a_hello_counts_and_not_that_of_the_command_line(
    tmp_path: Path,
) -> None:
    file = tmp_path / "pools.toml"
    command = [sys.executable, "-m", "snakepit_port", "serve", "--config", str(file)]
    process, stream = start_supervisor(command, None, None, None)
    async with host_over(stream, config=config(name="told")) as host:
        assert [pool["name"] for pool in host.info["pools"]] == ["told"]
        # The file is for a reload that names no other.
        file.write_text("[[pools]]\nname = 'written'\nadapter = 'm'\npool_size = 1\n")
        assert await host.reload() == {"told": "removed", "written": "added"}
    await process.wait()
    assert process.exit_status == 0


@pytest.mark.parametrize("kind", ["pipe", "device"])
async def test_nobody_who_writes_the_configuration_is_waited_for(tmp_path: Path, kind: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    file = {"pipe": str(pipe), "device": "/dev/zero"}[kind]
    with pytest.raises(CallError) as caught:
        async with open_host(file):
            pytest.fail("there was a hello")
    assert caught.value.type == "config"
    assert caught.value.message.startswith(f"{file}: this is no regular file")


async def test_paths_that_are_not_utf_8_are_mistakes_in_the_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    with pytest.raises(CallError) as caught:
        async with open_host(folder / "missing.toml"):
            pytest.fail("there was a hello")
    assert caught.value.type == "config"
    assert "caf\\udce9/missing.toml: there is no such file" in caught.value.message
    async with open_host(config(), cwd=folder) as host:
        for base_dir in (None, "a\0b"):
            with pytest.raises(CallError) as caught:
                await host.reload(config(python="bin/python"), base_dir=base_dir)
            assert caught.value.type == "config"
        assert await host.call(None, "add", [1, 2]) == 3


@pytest.mark.parametrize(
    ("prints", "last"), [("", ""), ("echo one; echo two", r" \(it ended with: two\)")]
)
async def test_a_python_that_is_none_is_told_so(tmp_path: Path, prints: str, last: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{prints}\nexit 2\n")
    python.chmod(0o755)
    question = rf"is '{python}' a Python, 3\.9 or newer\? check the pool's `python` setting"
    async with open_host(config(python=str(python))) as host:
        with pytest.raises(CallError) as caught:
            await host.await_ready()
    assert re.fullmatch(rf".* ended with status \d+: {question}{last}", caught.value.message)


async def test_what_a_python_says_that_cannot_begin_is_told_whole(tmp_path: Path) -> None:
    (tmp_path / "enum.py").write_text("def broken():\n    1 / 0\nbroken()\n")
    async with open_host(config(adapter_env={"PYTHONPATH": str(tmp_path)})) as host:
        with pytest.raises(CallError) as caught:
            await host.await_ready()
    assert caught.value.message.endswith(" status 1: ZeroDivisionError: division by zero")
    assert "Traceback (most recent call last):\n" in str(caught.value.stderr)
    assert str(caught.value.stderr).endswith("\nZeroDivisionError: division by zero")


async def test_a_fatal_error_of_python_is_told_with_its_first_words() -> None:
    async with open_host(config(adapter_env={"PYTHONHOME": "/nowhere"})) as host:
        with pytest.raises(CallError) as caught:
            await host.await_ready()
    assert " ended with status 1: Fatal Python error: " in caught.value.message
    assert "\n" not in caught.value.message


async def test_that_is_so_however_long_it_is(tmp_path: Path) -> None:
    functions = "".join(f"def f{n}(): f{n + 1}()\n" for n in range(60))
    (tmp_path / "enum.py").write_text(f"{functions}def f60(): 1 / 0\nf0()\n")
    async with open_host(config(adapter_env={"PYTHONPATH": str(tmp_path)})) as host:
        with pytest.raises(CallError) as caught:
            await host.await_ready()
    assert caught.value.message.endswith(" status 1: ZeroDivisionError: division by zero")
    assert str(caught.value.stderr).endswith("\nZeroDivisionError: division by zero")


# -- endings ------------------------------------------------------------------------------------


async def test_end_of_file_lets_calls_finish(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    results = []

    async def call(host: Host) -> None:
        results.append(await host.call(None, "wait_for", [str(pipe)]))

    async with open_host(config()) as host, trio.open_nursery() as nursery:
        nursery.start_soon(call, host)
        await line(host, "waiting")
        (worker,) = await host.workers()
        pidfds = [watch(worker["os_pid"]), watch(host.os_pid)]
        nursery.start_soon(host.close)
        await trio.testing.wait_all_tasks_blocked()
        assert host.exit_status is None
        await trio.Path(pipe).write_text("in the end")
        await all_gone(pidfds)
    assert results == ["in the end"]
    assert host.exit_status == 0


@pytest.mark.parametrize("way", ["end-of-file", "sigterm"])
async def test_calls_that_come_before_their_pools_have_begun_to_start_are_answered(
    way: str,
) -> None:
    names = [f"pool-{n}" for n in range(5)]
    pools = [config(name=name)["pools"][0] for name in names]
    terms = {"pools": pools, "supervisor": {"shutdown_grace_period": "60s"}}
    calls = [messages.call(300 + n, name, "add", encode([n, 1])) for n, name in enumerate(names)]
    async with bare_supervisor() as (process, stream):
        await stream.send_all(messages.hello({"config": terms}) + b"".join(calls))
        # With its hello.
        said = await stream.receive_some()
        if way == "sigterm":
            process.kill(signal.SIGTERM)
        else:
            await stream.send_stream.aclose()
        said += b"".join([data async for data in stream])
    frames = [messages.parse(frame) for frame in Framer(2**20).feed(said)]
    results = {frame[1]: decode(frame[2]) for frame in frames if frame[0] == "result"}
    assert results == {300 + n: n + 1 for n in range(5)}
    assert process.exit_status == 0


async def test_a_call_that_outlasts_the_grace_is_answered() -> None:
    terms = {**config(), "supervisor": {"shutdown_grace_period": "50ms"}}
    errors = []

    async def call(host: Host) -> None:
        errors.append(await failure_of(lambda: host.call(None, "hang")))

    async with open_host(terms) as host, trio.open_nursery() as nursery:
        nursery.start_soon(call, host)
        await line(host, "hanging")
        (worker,) = await host.workers()
        pidfds = [watch(worker["os_pid"])]
        assert await host.close() == 0
        error = await failure_of(lambda: host.call(None, "add", [1, 2]))
        assert (error.type, error.message) == ("supervisor_down", "this host closed the link")
        await all_gone(pidfds)
    assert [error.type for error in errors] == ["shutting_down"]


async def test_a_supervisor_told_to_stop_takes_no_more_calls(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with open_host(config()) as host, in_flight(host, "wait_for", str(pipe)):
        await line(host, "waiting")
        host.kill(signal.SIGTERM)
        # The worker is busy; how the call ends tells whether the signal has arrived.
        while (await failure_of(lambda: host.call(None, "pid", timeout=0.05))).type == "timeout":
            pass
        error = await failure_of(lambda: host.call(None, "pid"))
        assert error.type == "shutting_down"
        await trio.Path(pipe).write_text("")
        assert await host.close() == 0


async def test_signals_never_kill_a_supervisor_that_is_stopping() -> None:
    async with open_host(config()) as host:
        await host.await_ready()

        async def signal_on() -> None:
            for number in itertools.cycle((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)):
                host.kill(number)
                # Slower than they are handled: Python nests the handlers of those that are not.
                await trio.to_thread.run_sync(os.getpid)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(signal_on)
            assert await host.close() == 0
            nursery.cancel_scope.cancel()


async def test_signals_that_were_blocked_where_it_was_started_stop_it() -> None:
    command = [sys.executable, "-m", "snakepit_port", "serve"]
    handled = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, handled)
    try:
        process, stream = start_supervisor(command, None, None, None)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    async with host_over(stream, config=config()) as host:
        await host.await_ready()
        status = await trio.Path(f"/proc/{process.os_pid}/status").read_text()
        (blocked,) = (line for line in status.splitlines() if line.startswith("SigBlk:"))
        assert int(blocked.split()[1], 16) == 0
        process.kill(signal.SIGTERM)
        await process.wait()
    assert process.exit_status == 0


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_nothing_is_left_of_a_supervisor_that_was_killed(start_method: str) -> None:
    async with open_host(config(pool_size=2, start_method=start_method)) as host:
        await host.await_ready()
        child = await host.call(None, "start_child")
        pids = [worker["os_pid"] for worker in await host.workers()]
        assert len(pids) == 2
        async with in_flight(host, "hang"):
            await line(host, "hanging")
            pidfds = [watch(pid) for pid in (*pids, child, host.os_pid)]
            host.kill()
            await all_gone(pidfds)
        error = await failure_of(lambda: host.call(None, "pid"))
        assert (error.type, error.signal) == ("supervisor_down", "SIGKILL")


# -- what workers write, and what stays open ----------------------------------------------------


async def test_stdout_of_a_worker_is_no_part_of_the_protocol() -> None:
    async with open_host(config()) as host:
        assert await host.call(None, "write_everywhere") == "done"
        seen: dict[str, str] = {}
        async for entry in host.logs(past=True):
            seen[entry.line.rpartition("by ")[2]] = entry.source
            assert entry.pool == "default"
            assert entry.worker == (await host.workers())[0]["id"]
            if len(seen) == 6:
                break
        assert seen == {
            "print": "stdout",
            "buffer": "stdout",
            "descriptor": "stdout",
            "C": "stdout",
            "child": "stdout",
            "child on stderr": "stderr",
        }


def open_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


async def test_descriptors_of_the_supervisor_stay_as_many() -> None:
    async with open_host(config()) as host:
        await host.await_ready()
        before = open_descriptors(host.os_pid)
        events = host.events()
        for _ in range(5):
            for number in range(40):
                assert await host.call(None, "add", [number, 1]) == number + 1
            await failure_of(lambda: host.call(None, "crash", [signal.SIGKILL]))
            names = set()
            while not {"worker.stopped", "worker.started"} <= names:
                names.add((await anext(events)).name)
        assert open_descriptors(host.os_pid) == before
