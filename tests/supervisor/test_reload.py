"""Real pools that get another configuration while they work."""

from __future__ import annotations

import os
import resource
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from test_pools import failure_of, pool, pools, printed
from test_recycling import first

from snakepit_port.environment import limits
from snakepit_port.harness import Event, Host, Subscription, open_host

ONE_MIB = 2**20


def version(folder: Path, number: int) -> dict[str, Any]:
    """Settings of a pool whose adapter says that it is of this version."""
    home = folder / f"v{number}"
    home.mkdir(exist_ok=True)
    (home / "versioned.py").write_text(
        "from pool_adapter import about, wait\n"
        "from snakepit_port.adapter import command\n"
        "@command\n"
        "def version():\n"
        f"    return {number}\n"
    )
    return {
        "adapter": "versioned",
        "python_path": [str(home), *pool()["python_path"]],
        "health_check_interval": "infinity",
    }


async def reload(host: Host, config: dict[str, Any]) -> dict[str, str]:
    answer = await host.control("reload", {"config": config})
    what: dict[str, str] = answer["pools"]
    return what


async def whole(events: Subscription[Event], *names: str) -> None:
    """Wait until each of these pools is whole on its new settings."""
    missing = set(names)
    async for event in events:
        assert event.name != "pool.reload_failed", event
        if event.name == "pool.reloaded":
            missing.discard(event.metadata["pool"])
        if not missing:
            return


@asynccontextmanager
async def under_load(host: Host, callers: int, name: str = "default") -> AsyncIterator[list[int]]:
    """Many callers who call without a pause; gives the answers as they come. None may fail."""
    answers: list[int] = []
    stop = trio.Event()

    async def call() -> None:
        while not stop.is_set():
            answers.append(await host.call(name, "version", []))

    async with trio.open_nursery() as nursery:
        for _ in range(callers):
            nursery.start_soon(call)
        yield answers
        stop.set()


# -- what becomes of a pool ------------------------------------------------------------------------


async def test_every_pool_becomes_what_the_new_configuration_says(tmp_path: Path) -> None:
    one, two = version(tmp_path, 1), version(tmp_path, 2)
    config = pools(pool("same", **one), pool("grows", **one), pool("new_code", **one), pool("goes"))
    async with open_host(config) as host:
        await host.await_ready()
        events = host.events()
        before = {worker["pool"]: worker["os_pid"] for worker in await host.workers()}
        config = pools(
            pool("same", **one),
            pool("grows", **one, pool_size=3),
            pool("new_code", **two),
            pool("comes", **two),
        )
        assert await reload(host, config) == {
            "same": "unchanged",
            "grows": "resized",
            "new_code": "replaced",
            "comes": "added",
            "goes": "removed",
        }
        assert (await failure_of(lambda: host.call("goes", "add", [1, 2]))).type == "unknown_pool"
        removed = host.events(past=True)
        await whole(events, "grows", "new_code", "comes")
        assert (await first(removed, "pool.removed")).metadata == {"pool": "goes"}
        versions = [await host.call(name, "version", []) for name in ("same", "new_code", "comes")]
        assert versions == [1, 2, 2]
        workers = await host.workers()
        assert Counter(worker["pool"] for worker in workers) == {
            "same": 1,
            "grows": 3,
            "new_code": 1,
            "comes": 1,
        }
        pids = {worker["os_pid"] for worker in workers}
        assert {before["same"], before["grows"]} <= pids
        assert not {before["goes"], before["new_code"]} & pids


async def test_under_load_no_call_fails_and_in_the_end_all_are_new(tmp_path: Path) -> None:
    def config(number: int) -> dict[str, Any]:
        return pools(pool(pool_size=2, **version(tmp_path, number)))

    async with open_host(config(1)) as host:
        await host.await_ready()
        events, told = host.events(), host.events()
        async with under_load(host, 16) as answers:
            for number in (2, 3):
                assert await reload(host, config(number)) == {"default": "replaced"}
                await whole(events, "default")
                first_after = len(answers) + 16
        stats = await host.stats()
        assert stats["errors"] == 0
        assert stats["requests"] == len(answers)
        assert set(answers) <= {1, 2, 3}
        assert answers[0] == 1
        # Those that were under way when the pool was whole may still be of before.
        assert set(answers[first_after:]) <= {3}
        assert await host.call(None, "version", []) == 3
        await host.close()
        recycled = [event async for event in told if event.name == "worker.recycled"]
    assert [event.metadata["reason"] for event in recycled] == ["reload"] * len(recycled)
    assert len(recycled) >= 2


async def test_the_size_of_a_pool_changes_without_a_process_more_than_that(tmp_path: Path) -> None:
    config = version(tmp_path, 1)
    async with open_host(pools(pool(pool_size=4, **config))) as host:
        await host.await_ready()
        events, told = host.events(), host.events()
        before = {worker["os_pid"] for worker in await host.workers()}
        async with under_load(host, 8):
            what = await reload(host, pools(pool(pool_size=1, **config)))
            assert what == {"default": "resized"}
            await whole(events, "default")
        for _ in range(3):
            gone = await first(told, "worker.recycled")
            assert gone.metadata["reason"] == "resized"
        after = {worker["os_pid"] for worker in await host.workers()}
        assert after < before
        assert len(after) == 1
        assert (await host.stats())["errors"] == 0


async def test_a_profile_changes_under_load(tmp_path: Path) -> None:
    config = version(tmp_path, 1)
    threads = {"worker_profile": "thread", "threads_per_worker": 4}
    async with open_host(pools(pool(pool_size=2, **config))) as host:
        await host.await_ready()
        events = host.events()
        async with under_load(host, 16):
            for settings in ({**threads, "pool_size": 1}, {"pool_size": 2}):
                what = await reload(host, pools(pool(**config, **settings)))
                assert what == {"default": "replaced"}
                await whole(events, "default")
        assert (await host.stats())["errors"] == 0


async def test_an_environment_that_differs_replaces_workers() -> None:
    def config(value: str) -> dict[str, Any]:
        profiles = {"mine": {"kind": "process", "env": {"MINE": value}}}
        return {**pools(pool(worker_profile="mine")), "profiles": profiles}

    async with open_host(config("1")) as host:
        await host.await_ready()
        events = host.events()
        assert await reload(host, config("1")) == {"default": "unchanged"}
        assert await reload(host, config("2")) == {"default": "replaced"}
        await whole(events, "default")
        assert await host.call(None, "env", ["MINE"]) == "2"


async def test_a_long_call_ends_where_it_began_and_a_removed_pool_waits_for_it(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = pool("reads", adapter="recycling_adapter", worker_shutdown_grace_period="30s")
    async with open_host(pools(reader, pool())) as host:
        await host.await_ready()
        results = []

        async def read() -> None:
            results.append(await host.call("reads", "read_pipe", [str(tmp_path / "pipe")]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            pipe = await trio.to_thread.run_sync(open, tmp_path / "pipe", "w")
            events = host.events()
            answer = await host.control("reload", {"config": pools(pool())})
            assert answer["pools"]["reads"] == "removed"
            # It may still take that long to go.
            assert answer["stop_time"] == 35_500
            # It comes again while the one of before still works.
            assert (await reload(host, pools(reader, pool())))["reads"] == "added"
            await whole(events, "reads")
            (new,) = await host.workers("reads")
            assert new["id"] == "reads-2"
            removed = host.events(past=True)
            pipe.write("at last")
            pipe.close()
        assert [text for _pid, text in results] == ["at last"]
        assert results[0][0] != new["os_pid"]
        await first(removed, "pool.removed")
        assert (await host.call("reads", "about", []))["pid"] == new["os_pid"]
        # Nor is an id used again when the one of before is gone.
        events = host.events()
        await reload(host, pools(pool()))
        await first(events, "pool.removed")
        await reload(host, pools(reader, pool()))
        await whole(events, "reads")
        assert [worker["id"] for worker in await host.workers("reads")] == ["reads-3"]


async def test_the_default_pool_is_found_anew() -> None:
    async with open_host(pools(pool("one"), pool("two"))) as host:
        await host.await_ready()
        assert (await failure_of(lambda: host.call(None, "add", [1, 2]))).type == "unknown_pool"
        await reload(host, pools(pool("two")))
        assert await host.call(None, "add", [1, 2]) == 3
        await reload(host, pools(pool("two"), pool("default", adapter="recycling_adapter")))
        assert await host.call(None, "add", [1, 2]) == 3
        assert (await host.stats("default"))["requests"] == 1


# -- what is wrong ---------------------------------------------------------------------------------


async def test_a_bad_configuration_changes_nothing_and_says_all_that_is_wrong() -> None:
    config = pools(pool())
    async with open_host(config) as host:
        await host.await_ready()
        before = await host.workers()
        bad = pools(pool("ok"), pool("bad", pool_sice=3, worker_profile="nothing"))
        error = await failure_of(lambda: reload(host, bad))
        assert error.type == "config"
        assert "pool_sice" in str(error)
        assert "nothing" in str(error)
        error = await failure_of(lambda: reload(host, pools(pool("ok"), max_frame_bytes=ONE_MIB)))
        assert error.type == "config"
        assert "supervisor.max_frame_bytes: cannot change" in str(error)
        assert (await failure_of(lambda: host.control("reload"))).type == "bad_arguments"
        assert [worker["os_pid"] for worker in await host.workers()] == [
            worker["os_pid"] for worker in before
        ]
        assert await host.call(None, "add", [1, 2]) == 3


async def test_new_workers_that_do_not_start_leave_the_old_ones_serving(tmp_path: Path) -> None:
    good = version(tmp_path, 1)
    async with open_host(pools(pool(pool_size=2, **good))) as host:
        await host.await_ready()
        events = host.events()
        async with under_load(host, 4) as answers:
            await reload(host, pools(pool(pool_size=2, **{**good, "adapter": "there_is_none"})))
            failed = await first(events, "pool.reload_failed")
            assert "there_is_none" in failed.metadata["message"]
            assert await host.call(None, "version", []) == 1
            await reload(host, pools(pool(pool_size=2, **version(tmp_path, 2))))
            await whole(events, "default")
        assert await host.call(None, "version", []) == 2
        assert set(answers) <= {1, 2}
        assert (await host.stats())["errors"] == 0


async def test_a_pool_that_could_not_start_recovers_at_once(tmp_path: Path) -> None:
    bad = {**version(tmp_path, 1), "adapter": "there_is_none"}
    async with open_host(pools(pool(**bad), pool("other"))) as host:
        assert (await failure_of(host.await_ready)).type == "pool_unavailable"
        assert (await failure_of(lambda: host.call("default", "version", []))).type == (
            "pool_unavailable"
        )
        events = host.events()
        what = await reload(host, pools(pool(**version(tmp_path, 1)), pool("other")))
        assert what == {"default": "replaced", "other": "unchanged"}
        assert await host.call("default", "version", []) == 1
        await whole(events, "default")


# -- accidents -------------------------------------------------------------------------------------


async def test_starters_that_die_meanwhile_change_nothing_in_the_end(tmp_path: Path) -> None:
    def config(number: int) -> dict[str, Any]:
        return pools(pool(pool_size=2, **version(tmp_path, number)))

    async with open_host(config(1)) as host:
        await host.await_ready()
        events = host.events()
        old = (await host.call(None, "about", []))["starter"]
        await reload(host, config(2))
        os.kill(old, signal.SIGKILL)
        await whole(events, "default")
        new = (await host.call(None, "about", []))["starter"]
        assert new != old
        assert await host.call(None, "version", []) == 2
        os.kill(new, signal.SIGKILL)
        await reload(host, config(3))
        await whole(events, "default")
        assert await host.call(None, "version", []) == 3


@pytest.mark.parametrize("way", ["end-of-file", "sigterm"])
async def test_the_supervisor_stops_while_pools_are_reloaded(tmp_path: Path, way: str) -> None:
    waiting = pool("waits", **version(tmp_path, 1))
    config = pools(pool(**version(tmp_path, 1)), waiting, shutdown_grace_period="60s")
    async with open_host(config) as host:
        await host.await_ready()
        errors = []

        async def wait() -> None:
            errors.append(await failure_of(lambda: host.call("waits", "wait", [])))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await printed(host, "waiting")
            await reload(host, pools(pool(**version(tmp_path, 2)), shutdown_grace_period="100ms"))
            if way == "sigterm":
                host.kill(signal.SIGTERM)
            assert await host.close() == 0
        assert [error.type for error in errors] == ["shutting_down"]


async def test_what_is_hardly_meant_is_logged_at_the_start_and_at_a_reload(tmp_path: Path) -> None:
    async with open_host(pools(pool(threads_per_worker=4))) as host:
        await reload(host, pools(pool(python_path=[*pool()["python_path"], str(tmp_path / "no")])))
        told = []
        async for entry in host.logs(past=True):
            if entry.source == "supervisor" and entry.level == "warning":
                told.append(entry.line)
                if len(told) == 2:
                    break
    assert told[0].startswith(
        'the configuration: pools[0] "default": threads_per_worker: it has no effect'
    )
    assert f'python_path[1]: there is no folder "{tmp_path}/no"' in told[1]


async def test_many_reloads_leave_nothing_behind(tmp_path: Path) -> None:
    def config(number: int) -> dict[str, Any]:
        changing = pool("changes", **version(tmp_path, number))
        return pools(pool(), changing, *([pool("comes")] if number % 2 else []))

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{host.os_pid}/fd"))

    async with open_host(config(0)) as host:
        await host.await_ready()
        events, removals = host.events(), host.events()
        counts = []
        for number in range(1, 13):
            old_starter = os.pidfd_open((await host.call("changes", "about", []))["starter"])
            await reload(host, config(number))
            await whole(events, "changes", *(["comes"] if number % 2 else []))
            await trio.lowlevel.wait_readable(old_starter)
            os.close(old_starter)
            if number % 2 == 0:
                await first(removals, "pool.removed")
                # Asked, it has done all that came before.
                await host.stats()
                counts.append(descriptors())
        assert max(counts) == min(counts)


async def test_what_is_preloaded_is_read_again_by_a_reload_and_not_by_recycling(
    tmp_path: Path,
) -> None:
    def edit(number: int) -> None:
        (tmp_path / "heavy.py").write_text(f"NUMBER = {number}\n")
        (tmp_path / "edited.py").write_text(
            f"import heavy\nfrom snakepit_port.adapter import command\n"
            f"@command\ndef numbers():\n    return {number}, heavy.NUMBER\n"
        )

    settings = {"adapter": "edited", "preload": ["heavy"], "python_path": [str(tmp_path)]}
    edit(1)
    async with open_host(pools(pool(**settings))) as host:
        await host.await_ready()
        events = host.events()
        assert await host.call(None, "numbers") == (1, 1)
        # Of another length: Python tells what it has compiled by size and whole seconds.
        edit(22)
        assert await host.recycle() == 1
        await first(events, "worker.stopped")
        assert await host.call(None, "numbers") == (22, 1)
        assert await reload(host, pools(pool(**settings))) == {"default": "unchanged"}
        changed = pools(pool(**settings, adapter_env={"RELEASE": "2"}))
        assert await reload(host, changed) == {"default": "replaced"}
        await whole(events, "default")
        assert await host.call(None, "numbers") == (22, 22)


@pytest.mark.parametrize(("count", "workers", "surge"), [(1, 2, 1), (4, 3, 1), (2, 4, 4)])
async def test_as_many_descriptors_are_needed_as_doctor_says(
    count: int, workers: int, surge: int
) -> None:
    names = [f"pool{number}" for number in range(count)]
    size = limits.PoolSize(workers, batch=32, surge=surge)
    needed, *_ = limits.limits([size] * count)

    def config(value: str) -> dict[str, Any]:
        settings = {"pool_size": workers, "max_surge": surge, "adapter_env": {"VALUE": value}}
        return pools(*(pool(name, **settings) for name in names))

    async with open_host(config("before")) as host:
        events = host.events(past=True)
        for _ in range(count * workers):
            await first(events, "worker.started")
        held = len(os.listdir(f"/proc/{host.os_pid}/fd"))
        assert needed.needs - limits.BASE_DESCRIPTORS < held <= needed.needs
        limit = (needed.at_most, needed.at_most)
        resource.prlimit(host.os_pid, resource.RLIMIT_NOFILE, limit)
        assert set((await reload(host, config("after"))).values()) == {"replaced"}
        await whole(events, *names)
