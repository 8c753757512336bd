"""How a worker begins: hello, and then the loop that its profile asks for."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from snakepit_port import __version__
from snakepit_port.wire import messages
from snakepit_port.wire.framing import MAX_PAYLOAD_BYTES, Frame, Framer, cut_to
from snakepit_port.wire.grammar import PROTOCOL_VERSION, ProtocolError
from snakepit_port.worker.runtime import Runtime
from snakepit_port.worker.threads import ThreadedRuntime

_READ_BYTES = 64 * 1024

#: Known before a starter forks: what a worker need not find out takes no memory of its own.
_ABOUT = {
    "software": f"snakepit_port {__version__}",
    # As `platform` has it, whose import and search for it takes memory of every starter.
    "python": sys.version.split(maxsplit=1)[0].rstrip("+"),
    "executable": sys.executable,
}


def run(channel: socket.socket, ledger: memoryview, slot: int) -> int:
    """Say hello, load the adapter, and answer calls until the channel ends. Returns the exit
    status."""
    try:
        # With what the adapter is made with, hello is as large as the supervisor likes. What limit
        # there is for the rest, it says.
        framer = Framer(MAX_PAYLOAD_BYTES)
        frames = _receive(channel, framer)
        if not frames:
            return os.EX_OK
        hello, *behind = frames
        error, info = _read_hello(hello)
        if error is not None:
            channel.sendall(messages.error(None, error))
            return os.EX_PROTOCOL
        channel.sendall(messages.hello(_about()))
        limit = info["max_frame_bytes"]
        framer.limit(limit)
        profile = ThreadedRuntime if info.get("threads") else Runtime
        runtime = profile(channel, ledger, slot, info, framer)
        return runtime.run([cut_to(limit, frame) for frame in behind])
    except (BrokenPipeError, ConnectionResetError):
        # The supervisor is gone, and with it everybody who would want to know.
        return os.EX_OK


def _receive(channel: socket.socket, framer: Framer) -> list[Frame]:
    """The first frame, and those that came with it; nothing at the end."""
    while data := channel.recv(_READ_BYTES):
        if frames := framer.feed(data):
            return frames
    return []


def _read_hello(frame: Frame) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """(error, info) of the supervisor's first frame."""
    try:
        assert isinstance(frame, bytes)
        said = messages.parse(frame)
        if said[0] != "hello":
            raise ProtocolError(f"hello comes first, not {said[0]}")
    except ProtocolError as exc:
        return {"type": "protocol_error", "message": exc.message}, {}
    if said[1] != PROTOCOL_VERSION:
        message = (
            f"the supervisor speaks protocol version {said[1]}, this worker"
            f" {PROTOCOL_VERSION}: they come from different releases"
        )
        return {"type": "protocol_version", "message": message}, {}
    return None, said[2]


def _about() -> dict[str, Any]:
    return {**_ABOUT, "os_pid": os.getpid()}
