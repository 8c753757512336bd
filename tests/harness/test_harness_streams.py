"""Streams of the harness: over a stream in memory, and with real processes."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from fake_supervisor import args_of, connected
from hypothesis import given
from hypothesis import strategies as st

from snakepit_port.harness import CallError, Host, LogLine, Stream, open_host
from snakepit_port.harness.stream import FIRST_WINDOW, WINDOW, WINDOW_BYTES, Window
from snakepit_port.wire import encode, messages

HERE = Path(__file__).parent


async def ending_of(stream: Stream) -> tuple[list[Any], CallError]:
    """The chunks of a stream that ends with an error."""
    chunks: list[Any] = []
    try:
        async for chunk in stream:
            chunks.append(chunk)
    except CallError as exc:
        return chunks, exc
    raise AssertionError(f"no error after {len(chunks)} chunks: {stream.result!r}")


# -- the window ------------------------------------------------------------------------------------


@given(
    most=st.integers(1, 600),
    sizes=st.lists(st.sampled_from([1, 50, 5000, 300_000, 2 * WINDOW_BYTES]), max_size=300),
)
def test_a_window_never_closes_and_never_grows_beyond_its_limits(
    most: int, sizes: list[int]
) -> None:
    window = Window(most)
    granted = window.under_way
    assert 1 <= granted <= min(most, FIRST_WINDOW)
    for taken, size in enumerate(sizes, 1):
        before = window.under_way
        credit = window.taken(size)
        granted += credit
        assert window.under_way == granted - taken == before - 1 + credit
        assert 1 <= window.under_way <= most
        assert credit == 0 or window.under_way * size <= max(WINDOW_BYTES, size)


def test_a_window_of_small_chunks_opens_and_one_of_large_chunks_closes() -> None:
    window = Window(WINDOW)
    for _ in range(2000):
        window.taken(100)
    assert window.under_way > WINDOW // 2
    for _ in range(WINDOW):
        window.taken(WINDOW_BYTES)
    assert window.under_way == 1
    for _ in range(2000):
        window.taken(100)
    assert window.under_way > WINDOW // 2


def test_a_window_holds_a_chunk() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Window(0)


# -- over a stream in memory -----------------------------------------------------------------------


async def test_a_stream_call_has_its_credit_and_options() -> None:
    options = {"window": 1, "timeout": 0.25, "queue_timeout": math.inf}
    async with connected() as (host, supervisor), host.stream("p", "c", (1,), **options) as stream:
        frame = await supervisor.expect("call")
        assert frame[1:3] == ("p", "c")
        assert args_of(frame) == [1]
        assert frame[4] == {"stream": 1, "timeout": 250, "queue_timeout": None}
        await supervisor.send(messages.chunk(frame[0], encode("only")))
        await supervisor.send(messages.result(frame[0], encode("end")))
        assert [chunk async for chunk in stream] == ["only"]
        assert stream.result == "end"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert host.stray_answers == 0


async def test_credit_is_granted_as_chunks_are_taken() -> None:
    async with connected() as (host, supervisor), host.stream("p", "c", window=4) as stream:
        (id, *_, options) = await supervisor.expect("call")
        credit = options["stream"]
        sent = taken = 0
        for _ in range(40):
            while sent < credit:
                await supervisor.send(messages.chunk(id, encode(sent)))
                sent += 1
            assert 1 <= sent - taken <= 4
            assert await anext(stream) == taken
            taken += 1
            await trio.testing.wait_all_tasks_blocked()
            await host.send_frame(messages.ping(taken))
            while (frame := await supervisor.next())[0] == "credit":
                assert frame[1] == id
                credit += frame[2]
            assert frame == ("ping", taken)
        await supervisor.send(messages.error(id, {"type": "exception", "message": "over"}))
        rest, error = await ending_of(stream)
        assert (rest, error.message) == (list(range(taken, sent)), "over")


async def test_leaving_a_stream_cancels_it_and_drops_what_is_late(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected() as (host, supervisor):
        async with host.stream("p", "c") as stream:
            (id, *_) = await supervisor.expect("call")
            await supervisor.send(messages.chunk(id, encode(1)))
            assert await anext(stream) == 1
            with trio.move_on_after(1) as scope:
                await anext(stream)
            assert scope.cancelled_caught
        while (frame := await supervisor.next())[0] == "credit":
            pass
        assert frame == ("cancel", id)
        with pytest.raises(trio.ClosedResourceError):
            await anext(stream)
        cancelled = {"type": "cancelled", "message": "x"}
        await supervisor.send(messages.chunk(id, encode(2)), messages.error(id, cancelled))
        await trio.testing.wait_all_tasks_blocked()
        assert host._waiters == {}
        assert host._forgotten == set()
    assert host.stray_answers == 0


async def test_a_stream_that_has_ended_is_not_cancelled() -> None:
    async with connected() as (host, supervisor):
        async with host.stream("p", "c") as stream:
            (id, *_) = await supervisor.expect("call")
            await supervisor.send(messages.chunk(id, encode(1)), messages.result(id, encode(2)))
            await trio.testing.wait_all_tasks_blocked()
            assert await anext(stream) == 1
        await host.send_frame(messages.ping(7))
        assert await supervisor.next() == ("ping", 7)


async def test_a_chunk_that_cannot_be_read_is_an_error() -> None:
    async with connected() as (host, supervisor), host.stream("p", "c") as stream:
        (id, *_) = await supervisor.expect("call")
        await supervisor.send(messages.chunk(id, b"\x83\xff"))
        with pytest.raises(CallError, match="decode: "):
            await anext(stream)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_chunks_that_were_not_asked_for_end_the_link(is_stream: bool) -> None:
    async def consume(host: Host) -> None:
        if is_stream:
            async with host.stream("p", "c") as stream:
                await trio.testing.wait_all_tasks_blocked()
                _, error = await ending_of(stream)
        else:
            with pytest.raises(CallError) as caught:
                await host.call("p", "c")
            error = caught.value
        assert error.type == "protocol_error"

    async with connected() as (host, supervisor), trio.open_nursery() as nursery:
        nursery.start_soon(consume, host)
        (id, *_) = await supervisor.expect("call")
        beyond = [messages.chunk(id, encode(n)) for n in range(FIRST_WINDOW + 1)]
        await supervisor.send(*beyond)


async def test_a_chunk_of_no_call_is_counted() -> None:
    async with connected() as (host, supervisor):
        await supervisor.send(messages.chunk(777, encode(1)))
        await trio.testing.wait_all_tasks_blocked()
    assert host.stray_answers == 1


async def test_a_stream_ends_with_its_supervisor() -> None:
    async def consume(host: Host) -> None:
        async with host.stream("p", "c") as stream:
            assert await anext(stream) == 1
            with pytest.raises(CallError) as caught:
                await anext(stream)
            assert caught.value.type == "supervisor_down"

    async with connected() as (host, supervisor), trio.open_nursery() as nursery:
        nursery.start_soon(consume, host)
        (id, *_) = await supervisor.expect("call")
        await supervisor.send(messages.chunk(id, encode(1)))
        await supervisor.stream.aclose()


# -- with real processes ---------------------------------------------------------------------------


@asynccontextmanager
async def opened(*, shutdown_grace_period: str = "5s", **settings: Any) -> AsyncIterator[Host]:
    pool = {
        "name": "default",
        "adapter": "stream_adapter",
        "pool_size": 1,
        "python": sys.executable,
        "python_path": [str(HERE.parent / "worker")],
        **settings,
    }
    supervisor = {"shutdown_grace_period": shutdown_grace_period}
    async with open_host({"supervisor": supervisor, "pools": [pool]}) as host:
        await host.await_ready()
        assert "streams" in host.info["capabilities"]
        yield host


async def printed(host: Host, text: str) -> LogLine:
    async for entry in host.logs(past=True):
        if entry.line == text:
            return entry
    raise AssertionError(f"nobody printed {text!r}")


async def all_of(stream: Stream) -> list[Any]:
    return [chunk async for chunk in stream]


async def test_chunks_results_and_errors() -> None:
    async with opened() as host:
        async with host.stream(None, "count", [5000]) as stream:
            assert await all_of(stream) == list(range(5000))
            assert stream.result == "counted to 5000"
        async with host.stream("default", "listed", {"n": 2}) as stream:
            chunks, error = await ending_of(stream)
        assert (chunks, error.type) == ([], "not_a_stream")
        async with host.stream(None, "fail_after", [3]) as stream:
            chunks, error = await ending_of(stream)
        assert chunks == [0, 1, 2]
        assert (error.type, error.exception) == ("exception", "ValueError")
        with pytest.raises(CallError) as caught:
            await host.call(None, "count", [1])
        assert caught.value.type == "not_a_stream_call"


async def test_large_bytes_go_in_files_or_chunks_and_leave_none() -> None:
    large = bytes(range(256)) * 4096
    async with opened() as host:
        assert host._shm is not None
        async with host.stream(None, "give_back", [large]) as stream:
            assert await all_of(stream) == [large]
            assert stream.result == large
        async with host.stream(None, "give_back", [large]):
            pass
        assert await host.call(None, "remembered") == []
        assert os.listdir(host._shm.path) == []


async def test_a_consumer_that_stops_closes_the_generator() -> None:
    async with opened() as host:
        async with host.stream(None, "endless", window=1) as stream:
            async for chunk in stream:
                if chunk == 10:
                    break
        assert await host.call(None, "remembered") == ["closed"]
        stats = await host.stats()
        assert (stats["cancelled"], stats["worker_crashes"]) == (1, 0)


async def test_a_slow_consumer_holds_the_generator_back() -> None:
    async with opened() as host, host.stream(None, "count_and_say", [1000], window=4) as stream:
        for n in range(8):
            assert await anext(stream) == n
        await printed(host, "making 9")
        # Whatever it was granted has been made and has arrived, and it waits.
        await host.ping()
        async with host.stream(None, "count", [1], queue_timeout=0) as refused:
            with pytest.raises(CallError) as caught:
                await anext(refused)
            assert caught.value.type == "queue_timeout"
        assert len(stream._chunks) <= 4
        made = [entry.line for entry in host._logs.items if entry.line.startswith("making")]
        assert made == [f"making {n}" for n in range(len(made))]
        assert 10 <= len(made) <= 8 + 4
        assert await all_of(stream) == list(range(8, 1000))


#: The worker stays, however long a busy machine takes to have it stop.
UNHURRIED = {"cancel_grace_period": "60s", "queue_timeout": "60s"}


async def test_a_deadline_counts_for_the_whole_stream() -> None:
    async with opened(**UNHURRIED) as host:
        async with host.stream(None, "endless", timeout=1) as stream:
            chunks, error = await ending_of(stream)
        assert error.type == "timeout"
        assert chunks == list(range(len(chunks)))
        assert await host.call(None, "remembered") == ["closed"]


async def test_a_deadline_reaches_a_stream_that_nobody_reads() -> None:
    async with opened(**UNHURRIED) as host, host.stream(None, "endless", timeout=1) as stream:
        assert await host.call(None, "remembered") == ["closed"]
        _, error = await ending_of(stream)
        assert error.type == "timeout"


async def test_a_worker_killed_in_a_stream_fails_it_and_it_is_not_begun_again() -> None:
    async with opened() as host:
        (worker,) = await host.workers()
        async with host.stream(None, "pid_and_die", [1000]) as stream:
            chunks, error = await ending_of(stream)
        assert (error.type, error.signal) == ("worker_crashed", "SIGKILL")
        # Those that it had not written yet died with it.
        assert 1 <= len(chunks) <= 1000
        assert set(chunks) == {worker["os_pid"]}
        assert await host.call(None, "remembered") == []
        stats = await host.stats()
        assert (stats["worker_crashes"], stats["started"]) == (1, 2)


async def test_a_host_that_ends_within_a_stream_leaves_nothing() -> None:
    async with opened(shutdown_grace_period="0.1s") as host:
        async with host.stream(None, "endless") as stream:
            await anext(stream)
            (worker,) = await host.workers()
            pidfd = os.pidfd_open(worker["os_pid"])
            host.kill(signal.SIGTERM)
            _, error = await ending_of(stream)
            assert error.type == "shutting_down"
        await host.close()
    assert host.exit_status == 0
    await trio.lowlevel.wait_readable(pidfd)
    os.close(pidfd)


@pytest.mark.parametrize("profile", ["process", "thread"])
async def test_what_cleans_up_runs_when_the_grace_of_a_stop_is_over(profile: str) -> None:
    settings = {
        "adapter": "stream_adapter:SaysHowItEnds",
        "worker_profile": profile,
        "pool_size": 2,
        # They end by themselves, however long a busy machine takes for that.
        "cancel_grace_period": "60s",
        "worker_shutdown_grace_period": "60s",
    }
    errors = []

    async def busy(host: Host) -> None:
        with pytest.raises(CallError) as caught:
            await host.call(None, "busy")
        errors.append(caught.value)

    async with (
        opened(shutdown_grace_period="0.1s", **settings) as host,
        host.stream(None, "endless") as stream,
        trio.open_nursery() as nursery,
    ):
        await anext(stream)
        nursery.start_soon(busy, host)
        await printed(host, "busy")
        host.kill(signal.SIGTERM)
        errors.append((await ending_of(stream))[1])
    assert host.exit_status == 0
    assert [error.type for error in errors] == ["shutting_down"] * 2
    said = [line.line for line in host._logs.items]
    assert said.count("adapter closed") >= 1
    assert {"generator closed", "command ended"} <= set(said)


async def test_many_streams_at_once_keep_their_order() -> None:
    async def consume(host: Host, n: int) -> None:
        async with host.stream(None, "count", [n]) as stream:
            assert await all_of(stream) == list(range(n))

    async with opened(pool_size=2) as host, trio.open_nursery() as nursery:
        for n in range(40):
            nursery.start_soon(consume, host, 17 * n)


async def test_memory_is_bounded_when_nobody_reads() -> None:
    """What was granted arrives here and waits; nothing else is made anywhere."""
    size = 100_000
    async with opened() as host, host.stream(None, "blobs", [size] * 500) as stream:
        for _ in range(20):
            assert len(await anext(stream)) == size
        frames = host.frames()
        while len(stream._chunks) < stream._window.under_way:
            await anext(frames)
        waiting = len(stream._chunks)
        assert 1 <= waiting * size <= WINDOW_BYTES
        await host.ping()
        assert len(stream._chunks) == waiting
        assert sum([len(chunk) for chunk in await all_of(stream)]) == 480 * size
