"""The tools of a host of the harness: functions that commands have it run (SPEC, section 8)."""

from __future__ import annotations

import difflib
import inspect
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import trio

from snakepit_port.harness.reports import CallError
from snakepit_port.wire import DecodeError, EncodeError, decode, encode, messages
from snakepit_port.wire.framing import HEADER_BYTES

#: A function that a command may have run. One that is not async runs on a thread of its own.
Tool = Callable[..., Any]


#: Characters of why a tool failed: that fits into the smallest frame that there may be.
_MAX_CHARS = 16 * 1024


class _Refusal(Exception):
    """There is no result. Arguments are the type of the error, its message, and perhaps where."""


def check_tools(tools: Mapping[str, Tool] | None) -> None:
    """Raises `TypeError` for what are no functions by their names."""
    if tools is not None and not (
        isinstance(tools, Mapping)
        and all(isinstance(name, str) and callable(tool) for name, tool in tools.items())
    ):
        raise TypeError(f'tools are functions by their names, like {{"now": now}}, not {tools!r}')


class Tools:
    """Runs tools; those of a call that is answered are cancelled."""

    def __init__(self, tools: Mapping[str, Tool] | None, post: Callable[[bytes], None]) -> None:
        self._tools = dict(tools or {})
        self._post = post
        self._running: dict[int, trio.CancelScope] = {}
        #: The largest frame that the supervisor accepts, as its hello says.
        self.max_frame_bytes = 0

    def begin(self, call_id: int) -> trio.CancelScope:
        """The scope for a tool of a call, which has one at a time."""
        self.close(call_id)
        scope = self._running[call_id] = trio.CancelScope()
        return scope

    def close(self, call_id: int) -> None:
        """Nobody waits for the tool of this call any more."""
        scope = self._running.pop(call_id, None)
        if scope is not None:
            scope.cancel()

    async def run(
        self, scope: trio.CancelScope, call_id: int, number: int, name: str, args: bytes
    ) -> None:
        """Run a tool in its scope, and post the answer."""
        with scope:
            await trio.lowlevel.checkpoint_if_cancelled()
            frame = await self._answer(call_id, number, name, args)
            # Over, if it went on all the same.
            if self._running.get(call_id) is scope:
                del self._running[call_id]
                self._post(frame)

    async def _answer(self, call_id: int, number: int, name: str, args: bytes) -> bytes:
        try:
            frame = messages.tool_result(call_id, number, await self._result(name, args))
            size = len(frame) - HEADER_BYTES
            if size > self.max_frame_bytes:
                raise _Refusal(
                    "frame_too_large",
                    f"its result takes a frame of {size} bytes, over max_frame_bytes"
                    f" ({self.max_frame_bytes})",
                )
        except _Refusal as exc:
            names = ("type", "message", "traceback")
            error = {name: _fitting(text) for name, text in zip(names, exc.args, strict=False)}
            return messages.tool_error(call_id, number, error)
        return frame

    async def _result(self, name: str, args: bytes) -> bytes:
        tool = self._tools.get(name)
        if tool is None:
            raise _Refusal("unknown_tool", self._unknown(name))
        try:
            positions = decode(args)
        except DecodeError as exc:
            raise _Refusal("decode", f"its arguments cannot be read: {exc}") from None
        _check_arguments(tool, positions)
        try:
            if inspect.iscoroutinefunction(tool):
                value = tool(*positions)
            else:
                # Given up where it is when nobody waits for it any more.
                (value,) = await trio.to_thread.run_sync(
                    lambda: (tool(*positions),), abandon_on_cancel=True
                )
            if inspect.isawaitable(value):
                value = await value
        except (Exception, SystemExit) as exc:
            raise _Refusal("tool_error", _told_by(exc), traceback.format_exc()) from None
        try:
            return encode(value)
        except EncodeError as exc:
            raise _Refusal("encode", f"its result has no term: {exc}") from None

    def _unknown(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._tools, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return (
            f"the host has no such tool{hint} (tools: {', '.join(sorted(self._tools)) or 'none'})"
        )


def _told_by(exc: BaseException) -> str:
    name = type(exc).__name__
    try:
        # What that of a call quotes says what its message says: it would double with each tool that
        # it passes.
        text = exc.headline if isinstance(exc, CallError) else str(exc)
    except Exception:
        text = ""
    return f"{name}: {text}" if text else name


def _fitting(text: str) -> str:
    """Text that can travel, of one that is very long the beginning."""
    if len(text) > _MAX_CHARS:
        text = text[:_MAX_CHARS] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


def _check_arguments(tool: Tool, positions: list[Any]) -> None:
    try:
        signature = inspect.signature(tool)
    except (TypeError, ValueError):
        # Builtins may have none.
        return
    try:
        signature.bind(*positions)
    except TypeError as exc:
        raise _Refusal("bad_arguments", f"it cannot be called like this: {exc}") from None
