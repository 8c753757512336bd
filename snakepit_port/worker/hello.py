"""How a worker begins: hello, and then the loop that its profile asks for."""

from __future__ import annotations

import os
import platform
import socket
import sys
from typing import Any

from snakepit_port import __version__
from snakepit_port.wire import messages
from snakepit_port.wire.framing import Frame, Framer
from snakepit_port.worker.runtime import Runtime
from snakepit_port.worker.threads import ThreadedRuntime

# BSD's sysexits.h, as the supervisor uses them.
_EX_OK, _EX_PROTOCOL = 0, 76

#: Before hello has said what the supervisor accepts.
_HELLO_MAX_BYTES = 1024 * 1024

_READ_BYTES = 64 * 1024


def run(channel: socket.socket, ledger: memoryview, slot: int) -> int:
    """Say hello, load the adapter, and answer calls until the channel ends. Returns the exit
    status."""
    try:
        hello, behind = _receive_hello(channel)
        if hello is None:
            return _EX_OK
        error, info = _read_hello(hello)
        if error is not None:
            channel.sendall(messages.error(None, error))
            return _EX_PROTOCOL
        channel.sendall(messages.hello(_about()))
        profile = ThreadedRuntime if info.get("threads") else Runtime
        return profile(channel, ledger, slot, info).run(behind)
    except (BrokenPipeError, ConnectionResetError):
        # The supervisor is gone, and with it everybody who would want to know.
        return _EX_OK


def _receive_hello(channel: socket.socket) -> tuple[Frame | None, bytes]:
    """The first frame, and what came behind it, which is for a framer that knows the limit."""
    data = b""
    while more := channel.recv(_READ_BYTES):
        data += more
        for frame in Framer(_HELLO_MAX_BYTES).feed(data):
            return frame, data[len(frame) :]
    return None, b""


def _read_hello(frame: Frame) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """(error, info) of the supervisor's first frame."""
    try:
        said = messages.parse(frame) if isinstance(frame, bytes) else ("frame too large",)
        if said[0] != "hello":
            raise messages.ProtocolError(f"hello comes first, not {said[0]}")
    except messages.ProtocolError as exc:
        return {"type": "protocol_error", "message": exc.message}, {}
    if said[1] != messages.PROTOCOL_VERSION:
        message = (
            f"the supervisor speaks protocol version {said[1]}, this worker"
            f" {messages.PROTOCOL_VERSION}: they come from different releases"
        )
        return {"type": "protocol_version", "message": message}, {}
    return None, said[2]


def _about() -> dict[str, Any]:
    return {
        "software": f"snakepit_port {__version__}",
        "python": platform.python_version(),
        "executable": sys.executable,
        "os_pid": os.getpid(),
    }
