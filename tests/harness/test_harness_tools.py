"""Tools, messages and progress, with a real supervisor and real workers."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from snakepit_port.harness import CallError, Host, host_over, open_host
from snakepit_port.wire import Pid

PID = Pid(b"\x58\x77\x0dnonode@nohost" + (50).to_bytes(4, "big") + bytes(8))

PROFILES = [
    {"start_method": "forkserver"},
    {"start_method": "spawn"},
    {"worker_profile": "thread", "threads_per_worker": 2},
]


def config(**pool: Any) -> dict[str, Any]:
    """A configuration with one pool, `default`, of one worker that serves `tools_adapter`."""
    settings = {
        "name": "default",
        "adapter": "tools_adapter",
        "pool_size": 1,
        "python": sys.executable,
        "python_path": [str(Path(__file__).parent)],
        **pool,
    }
    return {"pools": [settings]}


async def failure_of(call: Callable[[], Awaitable[Any]]) -> CallError:
    with pytest.raises(CallError) as caught:
        await call()
    return caught.value


class Desk:
    """A tool that is answered when the test says so."""

    def __init__(self) -> None:
        self._send, self.asked = trio.open_memory_channel[tuple[Any, ...]](10)
        self.answers: list[trio.Event] = []
        self.cancelled = trio.Event()

    async def __call__(self, *args: Any) -> str:
        answer = trio.Event()
        self.answers.append(answer)
        self._send.send_nowait(args)
        try:
            await answer.wait()
        except trio.Cancelled:
            self.cancelled.set()
            raise
        return f"answer {self.answers.index(answer)}"


# -- tools -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
async def test_commands_have_functions_of_the_host_run(profile: dict[str, Any]) -> None:
    async def later(n: int) -> int:
        await trio.lowlevel.checkpoint()
        return n + 1

    tools = {"double": lambda n: 2 * n, "later": later, "give_back": lambda value: value}
    async with open_host(config(**profile), tools=tools) as host:
        assert await host.call(None, "ask", ["double", 21]) == 42
        assert await host.call(None, "ask", ["later", 21]) == 22
        value = [None, True, 2**70, -1.5, "žluť", b"\xff\0", {"k": [1, {}]}]
        assert await host.call(None, "ask", ["give_back", value]) == value
        assert (await host.stats())["errors"] == 0


async def test_a_function_that_is_not_async_holds_nobody_up() -> None:
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        let_go.wait()

    async with open_host(config(pool_size=2), tools={"hold": hold}) as host:

        def pid() -> int:
            return trio.from_thread.run(host.call, None, "pid")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.call, None, "ask", ["hold"])
            await trio.to_thread.run_sync(held.wait)
            assert await host.call(None, "pid")
            nursery.cancel_scope.cancel()
        # The thread is left where it is.
        host._tools._tools["pid"] = pid
        assert await host.call(None, "ask", ["pid"]) in [w["os_pid"] for w in await host.workers()]
        let_go.set()


not_tools = pytest.mark.parametrize("tools", [[len], {"three": 3}, {3: len}])


@not_tools
async def test_what_are_no_tools_is_told_before_anything_is_started(tools: Any) -> None:
    with pytest.raises(TypeError, match="tools are functions by their names"):
        async with open_host(config(), tools=tools):
            pass


@not_tools
async def test_what_are_no_tools_is_told_before_anything_is_said(tools: Any) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.send_eof()
    with pytest.raises(TypeError, match="tools are functions by their names"):
        async with host_over(ours, tools=tools):
            pass
    assert await theirs.receive_some() == b""


async def test_many_at_once_get_their_own_answers() -> None:
    answers: dict[int, int] = {}
    async with open_host(config(pool_size=3), tools={"double": lambda n: 2 * n}) as host:

        async def ask(n: int) -> None:
            answers[n] = await host.call(None, "ask", ["double", n])

        async with trio.open_nursery() as nursery:
            for n in range(300):
                nursery.start_soon(ask, n)
    assert answers == {n: 2 * n for n in range(300)}


def fails() -> None:
    raise KeyError("k")


def wordless() -> None:
    raise LookupError


@pytest.mark.parametrize(
    ("tool", "args", "says"),
    [
        ("looku", [], "unknown_tool"),
        ("fails", [], "tool_error"),
        ("wordless", [], "tool_error"),
        ("fails", [1], "bad_arguments"),
        ("objects", [], "encode"),
        ("huge", [], "frame_too_large"),
    ],
)
async def test_why_there_is_no_result(tool: str, args: list[Any], says: str) -> None:
    tools = {
        "lookup": print,
        "fails": fails,
        "wordless": wordless,
        "objects": lambda: [object()],
        "huge": lambda: "x" * 200_000,
    }
    terms = {"supervisor": {"max_frame_bytes": "128KiB"}, **config()}
    async with open_host(terms, tools=tools) as host:
        error = await failure_of(lambda: host.call(None, "ask", [tool, *args]))
        assert (error.type, error.exception) == ("exception", "snakepit_port.adapter.ToolError")
        assert error.message.startswith(f"tool {tool}: ")
        assert error.message.endswith(f" ({says})")
        if tool == "wordless":
            assert error.message == "tool wordless: LookupError (tool_error)"
        if says == "unknown_tool":
            assert (
                "did you mean 'lookup'? (tools: fails, huge, lookup, objects, wordless)"
                in error.message
            )
        assert await host.call(None, "ask", ["lookup"]) is None


async def test_a_tool_may_make_calls() -> None:
    hosts: list[Host] = []
    tools = {"pid": lambda: hosts[0].call(None, "pid")}
    async with open_host(config(pool_size=2), tools=tools) as host:
        hosts.append(host)
        assert await host.call(None, "ask", ["pid"]) in {
            worker["os_pid"] for worker in await host.workers()
        }


async def test_tools_that_call_commands_that_call_tools_say_once_what_went_wrong() -> None:
    hosts: list[Host] = []

    async def down(n: int) -> object:
        return await hosts[0].call(None, "ask", ["down", n - 1] if n else ["nowhere"])

    async with open_host(config(pool_size=3), tools={"down": down}) as host:
        hosts.append(host)
        error = await failure_of(lambda: host.call(None, "ask", ["down", 1]))
        assert error.message.count("no such tool") == 1


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("not even this")


@pytest.mark.parametrize(
    "exc",
    [ValueError("x" * 3_000_000), ValueError("\udc80"), Unprintable(), SystemExit(3)],
    ids=["long", "surrogate", "unprintable", "exit"],
)
async def test_a_tool_may_fail_with_anything(exc: BaseException) -> None:
    def tool() -> None:
        raise exc

    async with open_host(config(), tools={"tool": tool}) as host:
        error = await failure_of(lambda: host.call(None, "ask", ["tool"]))
        assert error.message.startswith(f"tool tool: {type(exc).__name__}")
        assert len(error.message) < 20_000
        error = await failure_of(lambda: host.call(None, "ask", ["x" * 1_000_000]))
        assert "the host has no such tool" in error.message


async def test_what_fits_for_the_one_side_fits_for_the_other() -> None:
    """Whatever numbers a question has with either."""
    terms = {"supervisor": {"max_frame_bytes": "128KiB"}, **config()}
    tools = {"len": len, "text": lambda size: "x" * size}
    async with open_host(terms, tools=tools, max_frame_bytes=131072) as host:
        for _ in range(2):
            outcomes = set()
            for size in range(131_000, 131_072):
                for tool, argument in (("len", "x" * size), ("text", size)):
                    try:
                        result = await host.call(None, "ask", [tool, argument])
                    except CallError as exc:
                        # The command's own result, too, has to fit.
                        outcomes.add(exc.message.split(" ")[0])
                    else:
                        outcomes.add("fits")
                        assert result in (size, "x" * size)
            assert "fits" in outcomes
            # Others have counted on meanwhile.
            for _ in range(300):
                await host.call(None, "ask", ["len", ""])


# -- what may happen meanwhile ---------------------------------------------------------------------


async def test_a_tool_of_a_call_that_was_answered_before_it_began_does_not_run() -> None:
    ran = []
    async with open_host(config(), tools={"late": lambda: ran.append(1)}) as host:
        scope = host._tools.begin(7)
        host._tools.close(7)
        await host._tools.run(scope, 7, 256, "late", b"")
    assert ran == []


async def test_a_call_has_one_open_question_at_a_time() -> None:
    """As where a signal of the adapter's has ended the waiting for the first."""
    desk = Desk()
    async with open_host(config(), tools={"desk": desk, "double": lambda n: 2 * n}) as host:
        pid = await host.call(None, "pid")
        results: list[int] = []

        async def call() -> None:
            results.append(await host.call(None, "ask_twice", ["desk", "double", 21]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await desk.asked.receive()
            os.kill(pid, signal.SIGALRM)
        assert results == [42]
        await desk.cancelled.wait()


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_deadline_ends_the_command_and_the_tool(profile: dict[str, Any]) -> None:
    desk = Desk()
    terms = config(**profile, cancel_grace_period="60s")
    async with open_host(terms, tools={"desk": desk}) as host:
        pid = await host.call(None, "pid")
        error = await failure_of(lambda: host.call(None, "remember", ["desk"], timeout=0.5))
        assert error.type == "timeout"
        # A machine that was too busy to ask in that time has nothing to end.
        if desk.answers:
            async for line in host.logs(past=True):
                if line.line == "stopped":
                    break
            await desk.cancelled.wait()
        # It has stopped by itself, and serves on.
        assert await host.call(None, "pid") == pid


async def test_a_caller_that_gives_up_ends_both() -> None:
    desk = Desk()
    async with open_host(config(cancel_grace_period="60s"), tools={"desk": desk}) as host:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.call, None, "remember", ["desk"])
            await desk.asked.receive()
            nursery.cancel_scope.cancel()
        await desk.cancelled.wait()
        assert (await host.stats())["worker_crashes"] == 0


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_call_that_is_run_again_does_not_get_the_answer_to_what_it_asked_before(
    profile: dict[str, Any],
) -> None:
    desk = Desk()
    async with open_host(config(**profile), tools={"desk": desk}) as host:
        results: list[str] = []

        async def call() -> None:
            results.append(await host.call(None, "ask_whatever_happens", ["desk"]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            attempt, pid = await desk.asked.receive()
            assert attempt == 1
            os.kill(pid, signal.SIGKILL)
            again, other = await desk.asked.receive()
            assert again == 2
            assert other != pid
            # The first is answered first, and belongs to nobody now.
            desk.answers[0].set()
            await host.ping()
            desk.answers[1].set()
        assert results == ["answer 1"]
        assert (await host.stats())["retries"] == 1


async def test_a_worker_that_dies_while_it_waits_fails_its_call_alone() -> None:
    desk = Desk()
    async with open_host(config(), tools={"desk": desk}) as host:
        pid = await host.call(None, "pid")
        errors: list[CallError] = []

        async def call() -> None:
            errors.append(await failure_of(lambda: host.call(None, "ask", ["desk"])))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await desk.asked.receive()
            os.kill(pid, signal.SIGKILL)
        assert [error.type for error in errors] == ["worker_crashed"]
        await desk.cancelled.wait()
        assert await host.call(None, "pid") != pid


async def test_calls_behind_one_that_waits_go_elsewhere() -> None:
    """Sent ahead to a worker whose commands were quick until now."""
    desk = Desk()
    tools = {"quick": lambda: 1, "desk": desk}
    async with open_host(config(pool_size=2), tools=tools) as host:
        await host.await_ready()
        for _ in range(50):
            await host.call(None, "ask", ["quick"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(host.call, None, "ask", ["desk"])
            await desk.asked.receive()
            async with trio.open_nursery() as others:
                for _ in range(20):
                    others.start_soon(host.call, None, "ask", ["quick"])
            desk.answers[0].set()


async def test_a_host_that_closes_its_end_answers_no_more() -> None:
    desk = Desk()
    async with open_host(config(), tools={"desk": desk}) as host:
        errors: list[CallError] = []

        async def call() -> None:
            errors.append(await failure_of(lambda: host.call(None, "ask", ["desk"])))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await desk.asked.receive()
            assert await host.close() == 0
    (error,) = errors
    assert error.exception == "snakepit_port.adapter.ToolError"
    assert "the host has closed its end of the link" in error.message


async def test_a_supervisor_that_is_told_to_stop_lets_tools_finish() -> None:
    desk = Desk()
    async with open_host(config(), tools={"desk": desk}) as host:
        results: list[str] = []

        async def call() -> None:
            results.append(await host.call(None, "ask", ["desk"]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await desk.asked.receive()
            host.kill(signal.SIGTERM)
            desk.answers[0].set()
        assert results == ["answer 0"]


# -- messages, progress, lines ---------------------------------------------------------------------


async def test_messages_come_in_order() -> None:
    async with open_host(config()) as host:
        messages = host.messages()
        await host.call(None, "tell", [PID, *range(100), ["last"]])
        for n in range(100):
            assert await anext(messages) == (PID, n)
        assert await anext(messages) == (PID, ["last"])
        assert messages.dropped == 0


async def test_progress_is_told_to_who_asks() -> None:
    told: list[tuple[float, float]] = []
    async with open_host(config()) as host:
        result = await host.call(
            None, "work", [1000], progress=lambda done, total: told.append((done, total))
        )
        assert result == "done"
        assert (told[0], told[-1]) == ((0, 1000), (1000, 1000))
        assert await host.call(None, "work", [10]) == "done"


async def test_lines_have_a_source_of_their_own() -> None:
    async with open_host(config()) as host:
        logs = host.logs()
        await host.call(None, "log", ["so it is\nand so", "warning"])
        for text in ("so it is", "and so"):
            line = await anext(logs)
            assert (line.pool, line.worker, line.source) == ("default", "default-1", "log")
            assert (line.level, line.line) == ("warning", text)
