"""Reloading by the harness: what is asked, and which pools are waited for afterwards, in every
order in which events and the answer may come; and a file that is read again, by a real supervisor.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from fake_supervisor import FakeSupervisor, args_of, connected

from snakepit_port.harness import CallError, Event, Host, Subscription, open_host
from snakepit_port.wire import encode, messages

READY = messages.event("pool.ready", {}, {"pool": "a"})
UNAVAILABLE = messages.event("pool.unavailable", {}, {"pool": "a", "message": "no module"})


async def reload(
    host: Host, supervisor: FakeSupervisor, what: str, *before: bytes, after: bytes = b""
) -> None:
    """A reload that does this to pool "a", with these frames before and after the answer."""

    async def answer() -> None:
        frame = await supervisor.expect("control")
        done = messages.result(frame[0], encode({"pools": {"a": what}}))
        await supervisor.send(*before, done, after)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        assert await host.reload() == {"a": what}


async def waits(host: Host) -> bool:
    """Whether `await_ready` does."""
    with trio.move_on_after(1) as scope:
        await host.await_ready()
    return scope.cancelled_caught


async def unavailable(host: Host) -> CallError:
    with pytest.raises(CallError) as caught:
        await host.await_ready()
    return caught.value


@pytest.mark.parametrize(
    ("config", "asked"),
    [
        (None, {}),
        ("pools.toml", {"file": str(Path.cwd() / "pools.toml")}),
        (Path("/srv/pools.toml"), {"file": "/srv/pools.toml"}),
        ({"pools": []}, {"config": {"pools": []}, "base_dir": "/srv"}),
    ],
)
async def test_what_is_asked(config: Any, asked: Mapping[str, Any]) -> None:
    async with connected() as (host, supervisor), trio.open_nursery() as nursery:

        async def answer() -> None:
            frame = await supervisor.expect("control")
            assert frame[1] == "reload"
            assert args_of(frame) == asked
            await supervisor.answer(frame, {"pools": {"a": "unchanged"}, "converted": []})

        nursery.start_soon(answer)
        base_dir = "/srv" if isinstance(config, dict) else None
        assert await host.reload(config, base_dir=base_dir) == {"a": "unchanged"}


async def test_a_pool_that_was_added_is_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected() as (host, supervisor):
        await supervisor.send(messages.ready({"pools": {}}))
        assert await host.await_ready() == {}
        await reload(host, supervisor, "added")
        assert await waits(host)
        await supervisor.send(READY)
        assert await host.await_ready() == {"a": "ready"}
        await reload(host, supervisor, "removed")
        assert await host.await_ready() == {}
        await reload(host, supervisor, "added", after=UNAVAILABLE)
        assert (await unavailable(host)).message == "no module"


async def test_what_a_pool_has_told_before_the_answer_is_about_the_settings_of_before(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected() as (host, supervisor):
        await supervisor.send(messages.ready({"pools": {}}))
        for what in ("added", "replaced"):
            await reload(host, supervisor, what, UNAVAILABLE)
            assert await waits(host)
            await supervisor.send(UNAVAILABLE)
            assert (await unavailable(host)).pool == "a"


async def test_a_pool_that_could_not_start_is_waited_for_when_it_starts_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected() as (host, supervisor):
        await supervisor.send(UNAVAILABLE, messages.ready({"pools": {"a": "unavailable"}}))
        await reload(host, supervisor, "unchanged")
        assert (await unavailable(host)).pool == "a"
        await reload(host, supervisor, "resized")
        assert await waits(host)
        await supervisor.send(READY)
        assert await host.await_ready() == {"a": "ready"}
        await reload(host, supervisor, "replaced")
        assert await host.await_ready() == {"a": "ready"}


async def test_a_reload_that_is_cancelled_is_followed_all_the_same(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected() as (host, supervisor):
        await supervisor.send(messages.ready({"pools": {}}))
        with trio.move_on_after(1):
            await host.reload()
        frame = await supervisor.expect("control")
        await supervisor.answer(frame, {"pools": {"a": "added"}})
        await trio.testing.wait_all_tasks_blocked()
        assert await waits(host)
        await supervisor.send(READY)
        assert await host.await_ready() == {"a": "ready"}
        assert host.stray_answers == 0


async def test_one_that_waits_is_told_when_the_supervisor_goes() -> None:
    async with connected() as (host, supervisor):
        await supervisor.send(messages.ready({"pools": {}}))
        await reload(host, supervisor, "added")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.stream.aclose)
            assert (await unavailable(host)).type == "supervisor_down"


# -- a real supervisor --------------------------------------------------------------------------


async def whole(events: Subscription[Event]) -> None:
    """Waits until a pool is whole on its new settings."""
    async for event in events:
        if event.name == "pool.reloaded":
            return
    raise AssertionError("the supervisor went")


def write(path: Path, version: int) -> None:
    """A configuration with an adapter of this version."""
    folder = path.parent / str(version)
    folder.mkdir(exist_ok=True)
    text = (
        f"from snakepit_port.adapter import command\n\n@command\ndef v():\n    return {version}\n"
    )
    (folder / "versioned.py").write_text(text)
    lines = ["name = 'default'", "pool_size = 1", "adapter = 'versioned'"]
    path.write_text("\n".join(["[[pools]]", *lines, f"python_path = ['{version}']"]))


async def test_a_file_is_read_again_or_another_one(tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    write(first, 1)
    async with open_host(first) as host:
        await host.await_ready()
        events = host.events()
        assert await host.call(None, "v") == 1
        assert await host.reload() == {"default": "unchanged"}
        write(first, 2)
        assert await host.reload() == {"default": "replaced"}
        await whole(events)
        assert await host.call(None, "v") == 2
        write(second, 3)
        assert await host.reload(second) == {"default": "replaced"}
        await whole(events)
        assert await host.call(None, "v") == 3
        first.write_text("[[pools]]\nname = 'default'\nadaptor = 'versioned'\n")
        with pytest.raises(CallError) as caught:
            await host.reload()
        assert caught.value.type == "config"
        problems = caught.value.details["problems"]
        assert {problem["file"] for problem in problems} == {str(first)}
        assert await host.call(None, "v") == 3


async def test_there_is_no_file_to_read_again(tmp_path: Path) -> None:
    write(tmp_path / "a.toml", 1)
    pool = {"name": "default", "adapter": "versioned", "python_path": ["1"], "pool_size": 1}
    async with open_host({"pools": [pool]}, base_dir=tmp_path) as host:
        await host.await_ready()
        with pytest.raises(CallError) as caught:
            await host.reload()
        assert caught.value.type == "bad_arguments"
        assert await host.call(None, "v") == 1
