"""How the harness's link ends, and what those who wait then learn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from fake_supervisor import FakeSupervisor, connected

from snakepit_port.harness import CallError, Host, host_over
from snakepit_port.wire import encode, messages
from snakepit_port.wire.framing import pack


class Connection:
    """`connected` without a nursery around the body, which would wrap what it raises."""

    def __init__(self, closes: bool = True) -> None:
        self.closes = closes

    async def __aenter__(self) -> Host:
        ours, self.theirs = trio.testing.memory_stream_pair()
        await self.theirs.send_all(messages.hello({}))
        if self.closes:
            assert isinstance(self.theirs, trio.StapledStream)
            await self.theirs.send_stream.aclose()
        self.manager = host_over(ours)
        return await self.manager.__aenter__()

    async def __aexit__(self, *exc: Any) -> Any:
        return await self.manager.__aexit__(*exc)


async def expect_error(type: str, wait: Callable[[], Awaitable[Any]]) -> None:
    with pytest.raises(CallError) as caught:
        await wait()
    assert caught.value.type == type, caught.value


async def test_everyone_who_waits_learns_that_the_supervisor_is_gone() -> None:
    async with connected() as (host, supervisor):
        async with trio.open_nursery() as nursery:
            for wait in (lambda: host.call("p", "c"), host.stats, host.ping, host.await_ready):
                nursery.start_soon(expect_error, "supervisor_down", wait)
            assert {(await supervisor.next())[0] for _ in range(3)} == {"call", "control", "ping"}
            await supervisor.stream.aclose()
        # and whoever comes later
        for wait in (lambda: host.call("p", "c"), host.stats, host.ping, host.await_ready):
            await expect_error("supervisor_down", wait)
        await expect_error("supervisor_down", lambda: host.send_frame(b""))


async def test_pools_of_a_supervisor_that_is_gone_are_not_ready() -> None:
    async with connected() as (host, supervisor):
        await supervisor.send(messages.ready({"pools": {"default": "ready"}}))
        assert await host.await_ready() == {"default": "ready"}
        await supervisor.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        await expect_error("supervisor_down", host.await_ready)


async def test_answers_sent_before_the_end_still_count() -> None:
    async with connected() as (host, supervisor), trio.open_nursery() as nursery:

        async def answer_and_go() -> None:
            (id, *_) = await supervisor.expect("call")
            await supervisor.send(messages.result(id, encode("done")))
            await supervisor.stream.aclose()

        nursery.start_soon(answer_and_go)
        assert await host.call("p", "c") == "done"


async def test_a_supervisor_that_stops_reading_refuses_new_calls_and_answers_old_ones() -> None:
    async with connected() as (host, supervisor), trio.open_nursery() as nursery:
        results: list[Any] = []

        async def call() -> None:
            results.append(await host.call("p", "c"))

        nursery.start_soon(call)
        (id, *_) = await supervisor.expect("call")
        assert isinstance(supervisor.stream, trio.StapledStream)
        await supervisor.stream.receive_stream.aclose()
        await host.send_frame(messages.cancel(99))
        await trio.testing.wait_all_tasks_blocked()
        await expect_error("supervisor_down", lambda: host.call("p", "new"))
        await supervisor.send(messages.result(id, encode("old")))
        await supervisor.stream.aclose()
    assert results == ["old"]


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x01\xff",
        messages.hello({}),
        messages.call(1, None, "c", b""),
        pack(messages.result(1, b"")[4:] + b"\0"),
        pack(b"\x83h\x02w\x07unheardj"),
        b"\x7f\xff\xff\xff" + b"\x83h\x02w\x07unheard" * 100,
        messages.ready({"pools": 3}),
        messages.ready({"pools": {"default": None}}),
    ],
    ids=[
        *("garbage", "second hello", "misplaced", "trailing byte", "unknown tag", "endless"),
        *("pools of nonsense", "a pool of nonsense"),
    ],
)
async def test_what_a_supervisor_must_not_send_ends_the_link(data: bytes) -> None:
    async with connected() as (host, supervisor), trio.open_nursery() as nursery:
        nursery.start_soon(expect_error, "protocol_error", lambda: host.call("p", "c"))
        await supervisor.expect("call")
        await supervisor.send(data)
        await supervisor.close_at_eof()
    await expect_error("protocol_error", host.ping)


@pytest.mark.parametrize(
    "answer",
    [b"", *map(encode, (None, [], {}, {"pools": 3}, {"pools": {3: "added"}}, {"pools": {"p": 3}}))],
)
async def test_an_answer_to_a_reload_that_says_nothing_ends_the_link(answer: bytes) -> None:
    async with connected() as (host, supervisor), trio.open_nursery() as nursery:
        nursery.start_soon(expect_error, "protocol_error", host.reload)
        (id, *_) = await supervisor.expect("control")
        await supervisor.send(messages.result(id, answer))
        await supervisor.close_at_eof()
    await expect_error("protocol_error", host.ping)


def _config_error() -> bytes:
    problems = [
        {
            "place": "pools[0].pool_sise",
            "message": "no such setting",
            "hint": "did you mean pool_size?",
            "file": "pools.toml",
            "line": 4,
        }
    ]
    error = {"type": "config", "message": "the configuration has mistakes", "problems": problems}
    return messages.error(None, error)


@pytest.mark.parametrize(
    ("data", "type", "text"),
    [
        (messages.hello({}, version=2), "protocol_version", "version 2"),
        (
            messages.error(None, {"type": "protocol_version", "message": "I speak 9, you speak 1"}),
            "protocol_version",
            "I speak 9",
        ),
        (_config_error(), "config", "pools.toml:4: pools[0].pool_sise: no such setting"),
        (messages.ready({}), "protocol_error", "ready before its hello"),
        (messages.hello({"shm": {"folder": "/"}}), "protocol_error", "no folder with its limits"),
        (
            messages.hello({"shm": {"folder": "/", "threshold": [], "max_bytes": 1}}),
            "protocol_error",
            "no folder with its limits",
        ),
        (b"", "supervisor_down", "closed the link"),
    ],
    ids=["version", "refused version", "config", "no hello", "half", "limits", "nothing"],
)
async def test_a_handshake_that_fails_says_why(data: bytes, type: str, text: str) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    supervisor = FakeSupervisor(theirs)

    async def refuse() -> None:
        await supervisor.expect("hello")
        if data:
            await supervisor.send(data)
            await supervisor.close_at_eof()
        else:
            await supervisor.stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        with pytest.raises(CallError) as caught:
            async with host_over(ours):
                pytest.fail("there was no hello")
    assert caught.value.type == type
    assert text in str(caught.value)


async def test_leaving_waits_for_answers_and_takes_no_more_calls() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    supervisor = FakeSupervisor(theirs)
    results = []

    async def call(host: Host) -> None:
        results.append(await host.call("p", "c"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.greet)
        async with host_over(ours) as host:
            nursery.start_soon(call, host)
            (id, *_) = await supervisor.expect("call")
            nursery.start_soon(host.close)
            assert await supervisor.next() == ("eof",)
            await expect_error("supervisor_down", lambda: host.call("p", "late"))
            assert not results
            await supervisor.send(messages.result(id, encode("done")))
            await supervisor.stream.aclose()
    assert results == ["done"]


async def test_what_the_body_raises_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with Connection():
            raise KeyError("mine")


async def test_a_supervisor_that_does_not_go_is_given_up_after_a_grace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    start = trio.current_time()
    with pytest.raises(KeyError):
        async with Connection(closes=False) as host:
            raise KeyError("mine")
    assert trio.current_time() - start == 10
    await expect_error("supervisor_down", host.ping)


async def test_a_cancelled_host_gives_up_after_a_grace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    start = trio.current_time()
    with trio.move_on_after(3) as scope:
        async with Connection(closes=False):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() - start == 13


async def test_a_way_out_that_is_cancelled_gives_up_after_a_grace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    start = trio.current_time()
    with trio.move_on_after(3) as scope:
        async with Connection(closes=False):
            pass
    assert scope.cancelled_caught
    assert trio.current_time() - start == 13
