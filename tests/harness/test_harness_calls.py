"""Calls and answers of the harness, over a stream in memory and Trio's mock clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from fake_supervisor import FakeSupervisor, args_of, connected
from hypothesis import given, settings
from hypothesis import strategies as st

from snakepit_port.config import ConfigError
from snakepit_port.config.toml import load_toml_text
from snakepit_port.harness import (
    MAX_SECONDS,
    CallError,
    Host,
    LogLine,
    RawFrame,
    host_over,
)
from snakepit_port.wire import EncodeError, encode, messages
from snakepit_port.wire.grammar import MAX_ID


async def test_hello_carries_limit_and_configuration() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    supervisor = FakeSupervisor(theirs)
    hellos: list[tuple[Any, ...]] = []

    async def greet() -> None:
        hellos.append(await supervisor.greet(run_id="r1", os_pid=77))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(greet)
        config = {"pools": [{"name": "a", "adapter": "m"}]}
        async with host_over(
            ours, config=config, base_dir="/srv/app", max_frame_bytes=4096
        ) as host:
            assert host.info["run_id"] == "r1"
            assert host.os_pid == 77
            nursery.start_soon(supervisor.close_at_eof)
    ((version, info),) = hellos
    assert version == 1
    assert info["software"].startswith("snakepit-port")
    assert {key: info[key] for key in ("max_frame_bytes", "config", "base_dir")} == {
        "max_frame_bytes": 4096,
        "config": config,
        "base_dir": "/srv/app",
    }


async def test_a_call_without_options_is_the_short_frame() -> None:
    async with connected() as (host, supervisor), trio.open_nursery() as nursery:
        nursery.start_soon(host.call, None, "add", (1, 2))
        call = await supervisor.expect("call")
        assert call[1:3] == (None, "add")
        assert args_of(call) == [1, 2]
        assert call[4] is None
        await supervisor.answer(call, 3)


async def test_times_travel_in_milliseconds() -> None:
    async with connected() as (host, supervisor), trio.open_nursery() as nursery:

        async def call() -> None:
            await host.call("p", "c", {"k": 1}, timeout=0.0101, queue_timeout=math.inf)

        nursery.start_soon(call)
        frame = await supervisor.expect("call")
        assert args_of(frame) == {"k": 1}
        assert frame[4] == {"timeout": 11, "queue_timeout": None}
        await supervisor.answer(frame, None)


async def test_answers_come_in_any_order() -> None:
    results: dict[int, Any] = {}

    async def call(host: Host, number: int) -> None:
        results[number] = await host.call("p", "echo", [number])

    async with connected() as (host, supervisor), trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(call, host, number)
        calls = [await supervisor.expect("call") for _ in range(5)]
        for frame in sorted(calls, key=args_of, reverse=True):
            await supervisor.answer(frame, args_of(frame))
    assert results == {number: [number] for number in range(5)}


@settings(deadline=None, max_examples=40)
@given(order=st.permutations(range(6)), cuts=st.lists(st.integers(1, 40), max_size=12))
def test_answers_may_arrive_in_any_order_and_any_pieces(order: list[int], cuts: list[int]) -> None:
    async def main() -> None:
        results = {}

        async def call(host: Host, number: int) -> None:
            results[number] = await host.call("p", "echo", [number])

        async with connected() as (host, supervisor), trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(call, host, number)
            calls = sorted([await supervisor.expect("call") for _ in range(6)], key=args_of)
            data = b"".join(messages.result(calls[n][0], encode([n] * n)) for n in order)
            for cut in cuts:
                if data[:cut]:
                    await supervisor.send(data[:cut])
                    await trio.testing.wait_all_tasks_blocked()
                data = data[cut:]
            if data:
                await supervisor.send(data)
        assert results == {number: [number] * number for number in range(6)}

    trio.run(main)


async def test_an_error_carries_what_the_supervisor_knows() -> None:
    details = {
        "type": "exception",
        "message": "division by zero",
        "exception": "ZeroDivisionError",
        "traceback": "Traceback (most recent call last):\nZeroDivisionError: division by zero\n",
        "pool": "p",
        "worker": "p-1",
        "command": "divide",
        "not_known_yet": 1,
    }
    async with connected() as (host, supervisor), trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(CallError) as caught:
                await host.call("p", "divide", [1, 0])
            error = caught.value
            assert error.details == details
            assert (error.type, error.message) == ("exception", "division by zero")
            assert (error.exception, error.pool) == ("ZeroDivisionError", "p")
            assert (error.worker, error.command) == ("p-1", "divide")
            assert (error.signal, error.status, error.stderr) == (None, None, None)
            lines = str(error).splitlines()
            assert lines[0] == "ZeroDivisionError: division by zero"
            assert lines[1] == "  in pool p, worker p-1, command divide"
            assert lines[-1] == "ZeroDivisionError: division by zero"

        nursery.start_soon(call)
        (id, *_) = await supervisor.expect("call")
        await supervisor.send(messages.error(id, details))


@pytest.mark.parametrize(
    ("names", "error", "said"),
    [
        ({"command": None}, TypeError, "command is a text, not None"),
        ({"command": b"c"}, TypeError, "command is a text, not b'c'"),
        ({"command": "c\udcff"}, ValueError, r"command is a text that UTF-8 can hold, not 'c"),
        ({"pool": 5}, TypeError, "pool is a text, not 5"),
        ({"pool": "\ud800"}, ValueError, "pool is a text that UTF-8 can hold"),
        ({"session": 5}, TypeError, "session is a text, not 5"),
        ({"timeout": "3"}, TypeError, "timeout is a number of seconds, not '3'"),
        ({"session": "\ud800"}, ValueError, "session is a text that UTF-8 can hold"),
    ],
)
async def test_a_name_that_is_none_is_refused_at_once(
    names: dict[str, Any], error: type[Exception], said: str
) -> None:
    call = {"pool": "p", "command": "c", **names}
    async with connected() as (host, supervisor):
        with pytest.raises(error, match=f"^{said}"):
            await host.call(**call)
        with pytest.raises(error, match=f"^{said}"):
            async with host.stream(**call):
                pass
        await host.send_frame(messages.ping(9))
        assert await supervisor.next() == ("ping", 9)


def test_the_longest_timeout_is_one_that_a_supervisor_takes() -> None:
    assert math.ceil(MAX_SECONDS * 1000) <= MAX_ID


@pytest.mark.parametrize("seconds", [-1, -0.5, -math.inf, math.nan, 1e16, 1e308, 10**400])
@pytest.mark.parametrize("name", ["timeout", "queue_timeout"])
async def test_a_timeout_out_of_bounds_is_refused_at_once(name: str, seconds: float) -> None:
    async with connected() as (host, supervisor):
        with pytest.raises(ValueError, match=f"^{name} is .*seconds"):
            await host.call("p", "c", **{name: seconds})  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"^{name} is .*seconds"):
            async with host.stream("p", "c", **{name: seconds}):  # type: ignore[arg-type]
                pass
        await host.send_frame(messages.ping(9))
        assert await supervisor.next() == ("ping", 9)


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ({"type": "exception", "exception": "SystemExit", "message": "4"}, "SystemExit: 4"),
        (
            {"type": "exception", "exception": "KeyboardInterrupt", "message": ""},
            "KeyboardInterrupt",
        ),
        (
            {"type": "exception", "message": "health returned False"},
            "exception: health returned False",
        ),
        ({"type": "bad_arguments", "exception": "TypeError", "message": "no"}, "bad_arguments: no"),
        (
            {"type": "unknown_command", "message": "none", "pool": "p", "command": ""},
            "unknown_command: none\n  in pool p, command ''",
        ),
    ],
)
def test_what_is_raised_is_named_by_its_class(details: dict[str, str], said: str) -> None:
    assert str(CallError(details)) == said


@pytest.mark.parametrize("text", ["", "[[pools]]\nname = 'a'\nadaptor = 'b'\n"])
def test_each_problem_of_a_configuration_is_told_once(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_toml_text(text, ".", "pools.toml")
    problems = caught.value.as_term()
    error = CallError({"type": "config", "message": str(caught.value), "problems": problems})
    for problem in problems:
        place, message = problem["place"], problem["message"]
        assert str(error).count(f"{place}: {message}" if place else str(message)) == 1
    brief = CallError({"type": "config", "message": "mistakes", "problems": problems})
    first = ": ".join(str(problems[0][key]) for key in ("place", "message") if problems[0][key])
    line = f":{problems[0]['line']}" if problems[0]["line"] else ""
    assert str(brief).splitlines()[1] == f"  pools.toml{line}: {first}"
    assert "  : " not in str(CallError({"type": "config", "problems": [{"message": "empty"}]}))


async def test_a_cancelled_call_tells_the_supervisor_and_drops_the_late_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected() as (host, supervisor), trio.open_nursery() as nursery:
        with trio.move_on_after(5) as scope:
            await host.call("p", "slow")
        assert scope.cancelled_caught
        call = await supervisor.expect("call")
        assert await supervisor.expect("cancel") == (call[0],)

        nursery.start_soon(host.call, "p", "next")
        following = await supervisor.expect("call")
        assert following[0] != call[0]
        await supervisor.answer(call, "late")
        await supervisor.answer(following, "in time")
        await trio.testing.wait_all_tasks_blocked()
        assert host.stray_answers == 0
        # Of answers to a call that was given up one is due, and no other.
        await supervisor.answer(call, "again")
        await trio.testing.wait_all_tasks_blocked()
        assert host.stray_answers == 1


async def test_an_answer_to_no_call_is_counted() -> None:
    async with connected() as (host, supervisor), trio.open_nursery() as nursery:
        nursery.start_soon(host.call, "p", "c")
        call = await supervisor.expect("call")
        await supervisor.answer(call, 1)
        await supervisor.answer(call, 1)
        await trio.testing.wait_all_tasks_blocked()
        assert host.stray_answers == 1


async def test_a_result_that_cannot_be_decoded_fails_that_call_only() -> None:
    async with connected() as (host, supervisor), trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(CallError, match="decode") as caught:
                await host.call("p", "c")
            assert caught.value.type == "decode"

        nursery.start_soon(call)
        (id, *_) = await supervisor.expect("call")
        await supervisor.send(messages.result(id, b"\x83\xff"))
        nursery.start_soon(host.ping)
        (number,) = await supervisor.expect("ping")
        await supervisor.send(messages.pong(number))


async def test_arguments_without_a_term_are_refused_before_anything_is_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected() as (host, supervisor):
        with pytest.raises(EncodeError):
            await host.call("p", "c", [object()])
        with pytest.raises(EncodeError):
            await host.control("c", {"a": object()})
        for name, error in ((5, TypeError), (None, TypeError), ("\udc80", ValueError)):
            with pytest.raises(error):
                await host.control(name)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await host.send_frame("text")  # type: ignore[arg-type]
        assert host._waiters == {}
        with trio.move_on_after(1) as nothing_came:
            await supervisor.next()
        assert nothing_came.cancelled_caught


async def test_a_result_over_the_limit_fails_that_call_only() -> None:
    async with (
        connected(max_frame_bytes=1024) as (host, supervisor),
        trio.open_nursery() as nursery,
    ):

        async def call() -> None:
            with pytest.raises(CallError) as caught:
                await host.call("p", "big")
            assert caught.value.type == "frame_too_large"
            assert "1024" in caught.value.message

        nursery.start_soon(call)
        await supervisor.answer(await supervisor.expect("call"), "x" * 2000)
        nursery.start_soon(host.call, "p", "small")
        await supervisor.answer(await supervisor.expect("call"), "x")


async def test_control_calls() -> None:
    async with connected() as (host, supervisor), trio.open_nursery() as nursery:

        async def answer(name: str, args: Any, value: Any) -> None:
            frame = await supervisor.expect("control")
            assert frame[1] == name
            assert args_of(frame) == args
            await supervisor.answer(frame, value)

        nursery.start_soon(answer, "stats", {}, {"requests": 3})
        assert await host.stats() == {"requests": 3}
        nursery.start_soon(answer, "workers", {"pool": "p"}, [{"id": "p-1"}])
        assert await host.workers("p") == [{"id": "p-1"}]
        nursery.start_soon(answer, "recycle", {"worker": "p-1"}, 1)
        assert await host.control("recycle", {"worker": "p-1"}) == 1


async def test_cancelling_a_control_call_sends_no_cancel(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected() as (host, supervisor), trio.open_nursery() as nursery:
        with trio.move_on_after(1):
            await host.stats()
        control = await supervisor.expect("control")
        nursery.start_soon(host.ping)
        (number,) = await supervisor.expect("ping")
        await supervisor.answer(control, {})
        await supervisor.send(messages.pong(number))
    assert host.stray_answers == 0


async def test_many_callers_share_few_writes() -> None:
    async with connected() as (host, supervisor), trio.open_nursery() as nursery:
        writes = 0
        deliver = host._stream.send_stream.send_all_hook

        async def count() -> None:
            nonlocal writes
            writes += 1
            await deliver()

        host._stream.send_stream.send_all_hook = count
        for number in range(200):
            nursery.start_soon(host.call, "p", "echo", [number])
        calls = [await supervisor.expect("call") for _ in range(200)]
        assert writes == 1
        await supervisor.send(*(messages.result(call[0], encode(1)) for call in calls))


async def test_a_supervisor_that_does_not_read_holds_callers_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    supervisor = FakeSupervisor(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.greet)
        async with host_over(ours) as host:
            large = "x" * 2**18
            answered = 0

            async def call() -> None:
                nonlocal answered
                await host.call("p", "c", [large])
                answered += 1

            async with trio.open_nursery() as callers:
                for _ in range(40):
                    callers.start_soon(call)
                await trio.testing.wait_all_tasks_blocked()
                waiting = host._outbox._unsent_bytes
                assert 2**20 <= waiting < 2**20 + 2 * 2**18
                with trio.move_on_after(1) as scope:
                    await host.call("p", "cancelled before it was sent")
                assert scope.cancelled_caught
                for _ in range(40):
                    frame = await supervisor.expect("call")
                    assert frame[2] == "c"
                    await supervisor.answer(frame, None)
            assert answered == 40
            nursery.start_soon(supervisor.close_at_eof)


# -- watching -----------------------------------------------------------------------------------


async def test_events_go_to_every_subscriber() -> None:
    async with connected() as (host, supervisor):
        first, second = host.events(), host.events()
        await supervisor.send(messages.event("worker.started", {"startup_ms": 4}, {"pool": "p"}))
        for subscription in (first, second):
            event = await anext(subscription)
            assert event == ("worker.started", {"startup_ms": 4}, {"pool": "p"})
        late = host.events()
        assert (await anext(host.events(past=True))).name == "worker.started"
        await supervisor.send(messages.event("pool.ready", {}, {"pool": "p"}))
        assert (await anext(late)).name == "pool.ready"
        assert (await anext(first)).name == "pool.ready"


async def test_a_slow_subscriber_loses_the_oldest_and_knows_how_many() -> None:
    async with connected() as (host, supervisor):
        events = host.events()
        await supervisor.send(*(messages.event("e", {"n": n}, {}) for n in range(1010)))
        assert (await anext(events)).measurements == {"n": 10}
        assert events.dropped == 10
        assert (await anext(events)).measurements == {"n": 11}
        assert events.dropped == 10


async def test_subscriptions_end_with_the_link() -> None:
    async with connected() as (host, supervisor):
        kinds: list[Callable[[], Any]] = [host.events, host.logs, host.complaints, host.frames]
        subscriptions = [kind() for kind in kinds]
        await supervisor.send(messages.log({"line": "last words"}))
    assert [[item async for item in subscription] for subscription in subscriptions] == [
        [],
        [LogLine(None, None, "supervisor", "info", "last words")],
        [],
        [RawFrame(False, messages.log({"line": "last words"}))],
    ]
    assert [item async for item in host.frames()] == []


async def test_log_lines_reach_the_callback_and_subscribers() -> None:
    seen: list[LogLine] = []
    async with connected(on_log=seen.append) as (host, supervisor):
        entry = {
            "pool": "p",
            "worker": "p-1",
            "source": "stdout",
            "level": "info",
            "line": "hello",
        }
        await supervisor.send(messages.log(entry))
        line = await anext(host.logs(past=True))
    assert line == ("p", "p-1", "stdout", "info", "hello")
    assert seen == [line]


async def test_raw_frames_are_seen_both_ways() -> None:
    async with connected() as (host, supervisor):
        frames = host.frames()
        await host.send_frame(messages.cancel(7))
        assert await supervisor.expect("cancel") == (7,)
        complaint = messages.error(None, {"type": "protocol_error", "message": "no"})
        await supervisor.send(complaint)
        assert await anext(frames) == RawFrame(True, messages.cancel(7))
        assert await anext(frames) == RawFrame(False, complaint)
        error = await anext(host.complaints(past=True))
        assert (error.type, error.message) == ("protocol_error", "no")


async def test_ready_gives_the_states_of_the_pools() -> None:
    async with connected() as (host, supervisor), trio.open_nursery() as nursery:
        nursery.start_soon(
            supervisor.send,
            messages.event("pool.ready", {}, {"pool": "a"}),
            messages.ready({"pools": {"a": "ready"}}),
        )
        assert await host.await_ready() == {"a": "ready"}


async def test_ready_raises_the_cause_of_a_pool_that_could_not_start() -> None:
    async with connected() as (host, supervisor):
        cause = {"pool": "b", "message": "no module named b", "traceback": "Traceback: b"}
        await supervisor.send(
            messages.event("pool.unavailable", {}, cause),
            messages.ready({"pools": {"a": "ready", "b": "unavailable"}}),
        )
        with pytest.raises(CallError) as caught:
            await host.await_ready()
        error = caught.value
        assert (error.type, error.pool) == ("pool_unavailable", "b")
        assert (error.message, error.traceback) == ("no module named b", "Traceback: b")
        assert host.pools == {"a": "ready", "b": "unavailable"}


@pytest.mark.parametrize(
    ("pool", "worker", "who"),
    [("p", "p-1", "p-1"), ("p", None, "p"), (None, None, "supervisor")],
)
def test_who_wrote_a_line(pool: str | None, worker: str | None, who: str) -> None:
    assert LogLine(pool, worker, "log", "info", "").who == who
