"""Answers that the supervisor makes itself, as frames that the host accepts.

Those of workers are as large as they were told that an answer may be.
"""

from __future__ import annotations

from typing import Any

from snakepit_port.wire import encode, messages
from snakepit_port.wire.framing import HEADER_BYTES
from snakepit_port.worker.fitting import ENVELOPE_BYTES, fit


def error(id: int | None, content: dict[str, Any], max_frame_bytes: int) -> bytes:
    """An error; texts that are too long are cut, and of too many problems the first ones stay."""
    frame = messages.error(id, content)
    if len(frame) - HEADER_BYTES <= max_frame_bytes:
        return frame
    room = max_frame_bytes - ENVELOPE_BYTES
    fitting = dict(content)
    while (problems := fitting.get("problems")) and len(encode(problems)) > room // 2:
        fitting["problems"] = problems[: len(problems) * 3 // 4]
    return messages.error(id, fit(fitting, room))


def result(id: int, control: str, value: Any, max_frame_bytes: int) -> bytes:
    """What a control call asked for, or the error that it is too large."""
    frame = messages.result(id, encode(value))
    size = len(frame) - HEADER_BYTES
    if size <= max_frame_bytes:
        return frame
    if isinstance(value, dict) and "converted" in value:
        # Of a reload, which has happened.
        return result(id, control, _without_converted(value), max_frame_bytes)
    message = (
        f"the result of {control} takes a frame of {size} bytes, over what the host accepts"
        f" (max_frame_bytes: {max_frame_bytes}); ask for less, that of one pool or worker, say, or"
        " have the host accept more"
    )
    return error(
        id, {"type": "frame_too_large", "message": message, "command": control}, max_frame_bytes
    )


def hello(info: dict[str, Any], max_frame_bytes: int) -> bytes:
    """The first frame, without what became of an older configuration, if that is too much."""
    frame = messages.hello(info)
    if len(frame) - HEADER_BYTES <= max_frame_bytes:
        return frame
    return messages.hello(_without_converted(info))


def _without_converted(info: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in info.items() if key != "converted"}
