"""Pools of real processes: routing, environments, interpreters, and what becomes of accidents."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from snakepit_port.config.model import MIN_FRAME_BYTES
from snakepit_port.harness import CallError, Host, open_host
from snakepit_port.wire import Atom, encode, messages
from snakepit_port.wire.framing import pack
from snakepit_port.worker import starter_frames

HERE = Path(__file__).parent


def pool(name: str = "default", **settings: Any) -> dict[str, Any]:
    return {
        "name": name,
        "adapter": "pool_adapter",
        "pool_size": 1,
        "python": sys.executable,
        "python_path": [str(HERE)],
        **settings,
    }


def pools(*pools: dict[str, Any], **supervisor: Any) -> dict[str, Any]:
    return {"pools": list(pools), "supervisor": supervisor}


async def failure_of(wait: Callable[[], Awaitable[Any]]) -> CallError:
    with pytest.raises(CallError) as caught:
        await wait()
    return caught.value


async def printed(host: Host, text: str) -> None:
    async for entry in host.logs(past=True):
        if entry.line == text:
            return


def foreign_interpreters() -> list[str]:
    """Every other Python that a worker may have, by version: on PATH, and under pyenv."""
    found: dict[int, str] = {}
    for minor in range(9, 20):
        for path in (
            shutil.which(f"python3.{minor}"),
            *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}"),
        ):
            if path and "shims" not in str(path):
                found.setdefault(minor, os.path.realpath(path))
    return [found[minor] for minor in sorted(found)]


# -- many pools ------------------------------------------------------------------------------------


async def test_calls_go_to_the_pool_they_name() -> None:
    config = pools(pool("one", pool_size=2), pool("two"), pool("default"))
    async with open_host(config) as host:
        assert await host.await_ready() == {"one": "ready", "two": "ready", "default": "ready"}
        by_pool: dict[str, set[int]] = {}
        for worker in await host.workers():
            by_pool.setdefault(worker["pool"], set()).add(worker["os_pid"])
        assert {name: len(pids) for name, pids in by_pool.items()} == {
            "one": 2,
            "two": 1,
            "default": 1,
        }
        for name in ("one", "two", "default"):
            assert (await host.call(name, "about"))["pid"] in by_pool[name]
        assert (await host.call(None, "about"))["pid"] in by_pool["default"]
        error = await failure_of(lambda: host.call("tow", "about"))
        assert error.type == "unknown_pool"
        assert "'tow'" in str(error)
        assert "'two'" in str(error)
        stats = await host.stats()
        assert stats["requests"] == 4
        assert stats["pools"]["one"]["requests"] == 1
        assert (await host.stats("two"))["pools"].keys() == {"two"}
        assert [worker["pool"] for worker in await host.workers("two")] == ["two"]
        assert (await failure_of(lambda: host.workers("tow"))).type == "unknown_pool"


async def test_without_a_default_a_call_has_to_name_its_pool() -> None:
    async with open_host(pools(pool("one"), pool("two"))) as host:
        error = await failure_of(lambda: host.call(None, "about"))
        assert error.type == "unknown_pool"
        assert "'one', 'two'" in str(error)


async def test_the_only_pool_is_the_default() -> None:
    async with open_host(pools(pool("one"))) as host:
        assert await host.call(None, "add", [1, 2]) == 3


async def test_each_pool_has_its_own_environment() -> None:
    config = pools(
        pool("one", adapter_env={"WHICH": "one", "OMP_NUM_THREADS": "7"}),
        pool("two", inherit_env=False),
    )
    env = {**os.environ, "INHERITED": "yes"}
    async with open_host(config, env=env) as host:
        assert await host.call("one", "env", ["WHICH"]) == "one"
        assert await host.call("one", "env", ["INHERITED"]) == "yes"
        assert await host.call("one", "env", ["OMP_NUM_THREADS"]) == "7"
        assert await host.call("two", "env", ["INHERITED"]) is None
        assert await host.call("two", "env", ["WHICH"]) is None
        assert await host.call("two", "env", ["OMP_NUM_THREADS"]) == "1"
        assert await host.call("two", "env", ["OPENBLAS_NUM_THREADS"]) == "1"


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_each_pool_has_its_own_interpreter(start_method: str) -> None:
    interpreters = foreign_interpreters() or [sys.executable]
    config = pools(
        *(
            pool(f"pool-{number}", python=python, start_method=start_method)
            for number, python in enumerate(interpreters)
        )
    )
    async with open_host(config) as host:
        await host.await_ready()
        versions = []
        for number, python in enumerate(interpreters):
            about = await host.call(f"pool-{number}", "about")
            versions.append(about["version"])
            assert Path(python).is_relative_to(about["prefix"])
        assert versions == sorted(versions)
        assert len({tuple(version) for version in versions}) == len(interpreters)


# -- pools that cannot start -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"python": "/nowhere/python"}, "there is no /nowhere/python; check the pool's `python`"),
        ({"python": "/nowhere/bin/python"}, "have `scripts/setup_python FILE` of a checkout make"),
        ({"python": "no-such-python"}, "there is no 'no-such-python' on PATH; check the pool's"),
        ({"python": "/dev/null"}, "/dev/null cannot be run: Permission denied; check the pool's"),
        ({"python": "/dev"}, "/dev is a folder, not an interpreter; check the pool's"),
        ({"python": "/bin/false"}, "ended with status 1"),
        ({"adapter": "no_such_adapter"}, "no_such_adapter"),
        ({"adapter": "pool_adapter:Missing"}, "Missing"),
        ({"adapter": "json"}, "has no command"),
        ({"preload": ["no_such_module"]}, "preload of 'no_such_module'"),
        ({"adapter": "no_such_adapter", "start_method": "spawn"}, "no_such_adapter"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_a_pool_that_cannot_start_says_why(settings: dict[str, Any], said: str) -> None:
    async with open_host(pools(pool("bad", **settings), pool("good"))) as host:
        events = host.events(past=True)
        error = await failure_of(host.await_ready)
        assert error.type == "pool_unavailable"
        assert said in str(error)
        error = await failure_of(lambda: host.call("bad", "add", [1, 2]))
        assert error.type == "pool_unavailable"
        assert said in str(error)
        assert await host.call("good", "add", [1, 2]) == 3
        async for event in events:
            if event.name == "worker.start_failed":
                assert event.metadata["pool"] == "bad"
                assert event.measurements["attempt"] == 1
                break
    assert host.exit_status == 0


async def test_a_preload_that_closes_what_is_not_its_own_is_told(tmp_path: Path) -> None:
    (tmp_path / "closes.py").write_text("import os\nos.closerange(3, 256)\n")
    path = [str(tmp_path), str(HERE)]
    async with open_host(pools(pool("bad", python_path=path, preload=["closes"]))) as host:
        error = await failure_of(host.await_ready)
    assert "the starter of pool 'bad' closed its channel, as by closing" in str(error)


async def test_where_warnings_are_errors_nothing_is_said() -> None:
    said: list[Any] = []
    config = pools(pool("default", adapter_env={"PYTHONWARNINGS": "error"}))
    async with open_host(config, on_log=said.append) as host:
        assert await host.call(None, "add", [1, 2]) == 3
    assert said == []


@pytest.mark.parametrize("where", ["preload", "adapter"])
async def test_a_cause_that_is_longer_than_the_host_accepts_is_cut(
    tmp_path: Path, where: str
) -> None:
    (tmp_path / "verbose.py").write_text("raise RuntimeError('x' * 100_000)\n")
    path = [str(tmp_path), str(HERE)]
    value = ["verbose"] if where == "preload" else "verbose"
    config = pools(pool("bad", python_path=path, **{where: value}))
    async with open_host(config, max_frame_bytes=2**17) as host:
        error = await failure_of(lambda: host.call("bad", "add", [1, 2]))
        assert error.type == "pool_unavailable"
        assert "RuntimeError: xxx" in str(error)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((2**20 + 1).to_bytes(4, "big") + bytes(1000), "a frame of 1048577 bytes"),
        (pack(b"oops"), "a frame that is no term"),
        (pack(encode((Atom("started"),))), "a frame that does not exist"),
        (pack(encode((Atom("started"), 1, "x"))), "a frame that does not exist"),
        (pack(encode((Atom("other"), 1))), "a frame that does not exist"),
        (pack(encode([])), "a frame that does not exist"),
        (starter_frames.ping(), "a frame that does not exist"),
        (starter_frames.exited("bad-1", 2**70), "a frame that does not exist"),
    ],
    ids=[
        *("too large", "no term", "too short", "other kinds", "unknown", "no tuple"),
        *("the supervisor's", "no status"),
    ],
)
async def test_only_its_pool_suffers_from_a_starter_that_breaks_its_protocol(
    data: bytes, said: str
) -> None:
    settings = {"preload": ["says_it_at_once"], "adapter_env": {"IT": data.hex()}}
    async with open_host(pools(pool("bad", **settings), pool("good"))) as host:
        assert said in str(await failure_of(host.await_ready))
        error = await failure_of(lambda: host.call("bad", "add", [1, 2]))
        assert error.type == "pool_unavailable"
        assert "the starter of pool 'bad' broke its protocol and was killed" in str(error)
        assert await host.call("good", "add", [1, 2]) == 3
        async for entry in host.logs(past=True):
            if entry.source == "supervisor":
                assert said in entry.line
                break
    assert host.exit_status == 0


async def test_a_pool_recovers_when_the_cause_is_mended(tmp_path: Path) -> None:
    config = pools(pool("bad", adapter="late_adapter", python_path=[str(tmp_path), str(HERE)]))
    async with open_host(config) as host:
        assert (await failure_of(host.await_ready)).type == "pool_unavailable"
        events = host.events()
        (tmp_path / "late_adapter.py").write_text("from pool_adapter import add\n")
        async for event in events:
            if event.name == "pool.ready":
                break
        assert await host.call("bad", "add", [1, 2]) == 3


# -- accidents -------------------------------------------------------------------------------------


async def test_only_the_call_that_was_running_fails_when_a_worker_dies() -> None:
    results: dict[int, Any] = {}

    async def call(host: Host, number: int) -> None:
        try:
            command, args = ("die", []) if number % 5 == 2 else ("add", [number, 1])
            results[number] = await host.call(None, command, args)
        except CallError as exc:
            results[number] = (exc.type, exc.signal)

    # A number: sent ahead whatever it is, so that calls do wait behind the one that kills.
    async with open_host(pools(pool(prefetch=8))) as host:
        await host.await_ready()
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(call, host, number)
        stats = await host.stats()
        assert stats["worker_crashes"] == 6
        assert stats["errors"] == 6
    assert results == {
        number: ("worker_crashed", "SIGKILL") if number % 5 == 2 else number + 1
        for number in range(30)
    }


@pytest.mark.skipif(not os.path.exists("/proc/self/oom_score_adj"), reason="only Linux has it")
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_without_memory_the_kernel_takes_a_worker_before_the_supervisor(
    start_method: str,
) -> None:
    def score(pid: int | str) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    async with open_host(pools(pool(start_method=start_method))) as host:
        await host.await_ready()
        (worker,) = await host.workers()
        assert score(host.os_pid) == score("self")
        assert score(worker["os_pid"]) == min(score("self") + 300, 1000)


async def test_an_idempotent_command_is_run_again_and_sees_it(tmp_path: Path) -> None:
    async with open_host(pools(pool())) as host:
        await host.await_ready()
        assert await host.call(None, "die_twice", [str(tmp_path / "attempts")]) == 3
        assert (tmp_path / "attempts").read_text() == "1\n2\n3\n"
        assert await host.call(None, "which_attempt") == 1
        stats = await host.stats()
        assert (stats["worker_crashes"], stats["retries"], stats["errors"]) == (2, 2, 0)
    async with open_host(pools(pool(max_retries=1))) as host:
        path = str(tmp_path / "others")
        error = await failure_of(lambda: host.call(None, "die_twice", [path]))
        assert error.type == "worker_crashed"
        assert (tmp_path / "others").read_text() == "1\n2\n"


async def test_the_largest_call_is_run_again_too(tmp_path: Path) -> None:
    path = str(tmp_path / "attempts")
    smallest = messages.call(1000, None, "die_twice", encode([path, ""]))
    padding = "x" * (MIN_FRAME_BYTES + 4 - len(smallest))
    async with open_host(pools(pool(), max_frame_bytes=MIN_FRAME_BYTES)) as host:
        await host.await_ready()
        while host._take_id() < 255:
            # From there on ids take as many bytes.
            pass
        frames = host.frames()
        assert await host.call(None, "die_twice", [path, padding]) == 3
        sent = await anext(frames)
        assert len(sent.data) == MIN_FRAME_BYTES + 4


async def test_what_the_supervisor_says_itself_is_cut_to_what_the_host_accepts() -> None:
    mistakes = pools(*(pool(f"p{n}", pool_sise=1) for n in range(3000)))
    accepted = {"max_frame_bytes": MIN_FRAME_BYTES}
    with pytest.raises(CallError) as caught:
        async with open_host(mistakes, **accepted):
            pass
    assert (caught.value.type, caught.value.problems[0]["place"]) == (
        "config",
        'pools[0] "p0": pool_sise',
    )
    async with open_host(pools(pool()), **accepted) as host:
        await host.await_ready()
        frames = host.frames()
        error = await failure_of(lambda: host.reload(mistakes))
        assert (error.type, error.problems[0]) == ("config", caught.value.problems[0])
        error = await failure_of(lambda: host.call("x" * 140_000, "add"))
        assert error.type == "unknown_pool"
        assert error.message.startswith("there is no pool 'xxx")
        error = await failure_of(lambda: host.call(None, "y" * 130_000, timeout=0))
        assert error.type == "timeout"
    sizes = [len(frame.data) - 4 async for frame in frames if not frame.sent]
    # Both kinds of errors with long texts are there.
    assert MIN_FRAME_BYTES * 0.9 < max(sizes) <= MIN_FRAME_BYTES


async def test_what_became_of_an_older_configuration_is_left_out_where_it_is_too_much() -> None:
    old = {"pooling_enabled": False, "pools": []}
    many = [{"name": f"{'x' * 200}{n}", "adapter_spec": "a.B", "pool_size": 1} for n in range(300)]
    async with open_host({**old, "pools": many}, max_frame_bytes=MIN_FRAME_BYTES) as host:
        assert "converted" not in host.info
        assert await host.reload({**old, "pools": many[:1]}) == {}
        assert await host.reload({**old, "pools": many}) == {}


async def test_an_idle_worker_that_dies_is_replaced() -> None:
    async with open_host(pools(pool())) as host:
        await host.await_ready()
        about = await host.call(None, "about")
        events = host.events()
        os.kill(about["pid"], signal.SIGKILL)
        names = []
        async for event in events:
            names.append(event.name)
            if event.name == "worker.started":
                break
        assert names == ["worker.stopped", "worker.recycled", "worker.started"]
        assert (await host.call(None, "about"))["pid"] != about["pid"]


async def test_a_starter_that_is_killed_takes_its_own_pool_along_and_comes_back() -> None:
    async with open_host(pools(pool("one"), pool("two"))) as host:
        await host.await_ready()
        one, two = await host.call("one", "about"), await host.call("two", "about")
        errors = []

        async def call() -> None:
            errors.append(await failure_of(lambda: host.call("one", "wait")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await printed(host, "waiting")
            os.kill(one["starter"], signal.SIGKILL)
        assert errors[0].type == "worker_crashed"
        again = await host.call("one", "about")
        assert again["starter"] != one["starter"]
        assert again["pid"] != one["pid"]
        assert await host.call("two", "about") == two


async def cancel_once_it_waits(host: Host, command: str) -> None:
    """The worker has begun the call for certain: a deadline could pass before that."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.call, None, command)
        await printed(host, "waiting")
        nursery.cancel_scope.cancel()


async def test_a_starter_that_is_stuck_is_replaced() -> None:
    async with open_host(pools(pool(cancel_grace_period="10ms", queue_timeout="infinity"))) as host:
        await host.await_ready()
        before = await host.call(None, "about")
        os.kill(before["starter"], signal.SIGSTOP)
        # It can neither interrupt nor kill the worker of this one.
        await cancel_once_it_waits(host, "wait_stubbornly")
        after = await host.call(None, "about")
        assert after["starter"] != before["starter"]


async def test_a_worker_that_does_not_yield_is_replaced() -> None:
    async with open_host(pools(pool(cancel_grace_period="10ms"))) as host:
        events = host.events()
        await cancel_once_it_waits(host, "wait_stubbornly")
        assert await host.call(None, "add", [1, 2]) == 3
        async for event in events:
            if event.name == "worker.stopped":
                assert (event.metadata["reason"], event.metadata["status"]) == (
                    "cancelled",
                    "SIGKILL",
                )
                break


@pytest.mark.parametrize("command", ["write_garbage", "answer_another"])
async def test_a_worker_that_breaks_the_protocol_is_replaced(command: str) -> None:
    async with open_host(pools(pool("one"), pool("two"))) as host:
        await host.await_ready()
        args = [2**40] if command == "answer_another" else []
        error = await failure_of(lambda: host.call("one", command, args))
        assert error.type == "protocol_error"
        assert error.worker == "one-1"
        assert await host.call("one", "add", [1, 2]) == 3
        assert (await host.workers("two"))[0]["id"] == "two-1"


async def test_a_worker_that_hangs_up_is_replaced() -> None:
    async with open_host(pools(pool())) as host:
        error = await failure_of(lambda: host.call(None, "hang_up"))
        assert error.type == "worker_crashed"
        assert await host.call(None, "add", [1, 2]) == 3


async def test_nothing_is_sent_ahead_behind_a_slow_command() -> None:
    async with open_host(pools(pool())) as host:
        await host.await_ready()
        for _ in range(4):
            await host.call(None, "work", [5])
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(host.call, None, "work", [-1])
            await printed(host, "waiting")
            assert (await host.stats())["queued"] == 1
            nursery.cancel_scope.cancel()


# -- the queue -------------------------------------------------------------------------------------


async def test_a_full_queue_refuses_at_once() -> None:
    async with open_host(pools(pool(max_queue_size=3))) as host:
        await host.await_ready()
        events = host.events()
        async with trio.open_nursery() as nursery:

            async def wait(**options: Any) -> None:
                await failure_of(lambda: host.call(None, "wait", **options))

            nursery.start_soon(wait)
            await printed(host, "waiting")
            for _ in range(3):
                nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await host.ping()
            for _ in range(2):
                error = await failure_of(lambda: host.call(None, "add", [1, 2]))
                assert error.type == "pool_saturated"
            stats = await host.stats()
            assert (stats["queued"], stats["pool_saturated"]) == (3, 2)
            nursery.cancel_scope.cancel()
        # One event for the time of saturation, not for each call that was refused.
        assert await host.call(None, "add", [1, 2]) == 3
        await host.close()
        assert [event.name async for event in events].count("pool.saturated") == 1


@contextmanager
def hangups(handler: signal.Handlers) -> Iterator[None]:
    """What is started in it inherits this, and not what nohup, say, gave these tests."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_signals_stop_it_in_good_order() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with hangups(signal.SIG_DFL):
            async with open_host(pools(pool(), shutdown_grace_period="50ms")) as host:
                await host.await_ready()
                host.kill(number)
                error = await failure_of(lambda: host.call(None, "wait"))
                assert error.type in ("supervisor_down", "shutting_down")
            assert host.exit_status == 0


async def test_a_hangup_that_is_ignored_stops_nothing() -> None:
    with hangups(signal.SIG_IGN):
        async with open_host(pools(pool())) as host:
            host.kill(signal.SIGHUP)
            await host.ping()
            assert await host.call(None, "add", [1, 2]) == 3


# -- sending ahead ---------------------------------------------------------------------------------


async def test_what_waits_behind_a_stall_goes_to_whoever_is_free(tmp_path: Path) -> None:
    """A command that has always been fast takes long, once."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    async with open_host(pools(pool(pool_size=2))) as host:
        await host.await_ready()
        for _ in range(20):
            await host.call(None, "moody", [None])
        answered: list[int] = []

        async def call(gate: str | None) -> None:
            answered.append(await host.call(None, "moody", [gate]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, str(gate))
            async with trio.open_nursery() as others:
                for _ in range(8):
                    others.start_soon(call, None)
            assert len(answered) == 8
            writer = await trio.to_thread.run_sync(os.open, gate, os.O_WRONLY)
            os.close(writer)
        assert len(answered) == 9


async def test_a_worker_that_missed_the_signal_is_asked_again(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    async with open_host(pools(pool(queue_timeout="0.1s"))) as host:
        await host.await_ready()
        for _ in range(20):
            await host.call(None, "moody", [None])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.call, None, "moody", [str(gate), True])
            # What comes next is sent after it.
            await trio.testing.wait_all_tasks_blocked()
            error = await failure_of(lambda: host.call(None, "moody", [None]))
            assert error.type == "queue_timeout"
            writer = await trio.to_thread.run_sync(os.open, gate, os.O_WRONLY)
            os.close(writer)


async def test_no_fast_call_waits_behind_a_slow_one(tmp_path: Path) -> None:
    """64 callers on four workers, three of which are held by slow calls."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    async def slow(host: Host, done: list[int]) -> None:
        done.append(await host.call(None, "slow", [str(gate)]))

    async with open_host(pools(pool(pool_size=4))) as host:
        await host.await_ready()
        for _ in range(20):
            await host.call(None, "fast")
        held: list[int] = []
        answered: list[int] = []

        async def caller(free: trio.Event) -> None:
            for _ in range(20):
                answered.append(await host.call(None, "fast"))
            if len(answered) == 20 * 64:
                free.set()

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(slow, host, held)
            await host.ping()
            everything = trio.Event()
            for _ in range(64):
                nursery.start_soon(caller, everything)
            await everything.wait()
            # All went past the slow ones, which still wait.
            assert held == []
            assert len(set(answered)) == 1
            writer = await trio.to_thread.run_sync(os.open, gate, os.O_WRONLY)
            os.close(writer)
        assert not set(held) & set(answered)
