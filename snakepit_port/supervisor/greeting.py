"""How a host and the supervisor greet each other: SPEC section 3."""

from __future__ import annotations

import os
import platform
from typing import Any

from snakepit_port import __version__
from snakepit_port.config import Config, ConfigError
from snakepit_port.config.model import MIN_FRAME_BYTES
from snakepit_port.config.report import encodable
from snakepit_port.supervisor import configuration
from snakepit_port.supervisor.shm import SharedMemory
from snakepit_port.wire import messages
from snakepit_port.wire.framing import Frame
from snakepit_port.wire.grammar import PROTOCOL_VERSION, ProtocolError
from snakepit_port.wire.terms import show

SOFTWARE = f"snakepit_port {__version__}"

#: What this version can do beyond the core: SPEC section 16.
CAPABILITIES = ["streams", "sessions", "recycle", "reload", "stacks", "tools"]

#: Before the configuration is known; a hello carries it, and is not large.
HELLO_MAX_BYTES = 64 * 1024 * 1024


class Stop(Exception):
    """End the process with this status, of SPEC section 15, after telling the host why."""

    def __init__(self, status: int, error: dict[str, Any] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.error = error


def understand(frame: Frame, config_path: str | None) -> tuple[Config, dict[str, Any]]:
    """The configuration that the host's first frame asks for, or that in the file at `config_path`,
    and what it says besides. Raises `Stop`, and `ConfigError` as `configuration.load`."""
    try:
        said = messages.parse(frame) if isinstance(frame, bytes) else ("a frame too large",)
    except ProtocolError as exc:
        raise Stop(os.EX_PROTOCOL, _error("protocol_error", exc.message)) from None
    if said[0] != "hello":
        message = f"a host says hello first, not {said[0]}: see protocol/SPEC.md, section 3"
        raise Stop(os.EX_PROTOCOL, _error("protocol_error", message))
    _, version, info = said
    if version != PROTOCOL_VERSION:
        message = (
            f"the host speaks protocol version {version}, {SOFTWARE} speaks"
            f" {PROTOCOL_VERSION}; install the same release on both sides"
        )
        raise Stop(os.EX_PROTOCOL, _error("protocol_version", message))
    accepted = info.get("max_frame_bytes", MIN_FRAME_BYTES)
    if type(accepted) is not int or accepted < MIN_FRAME_BYTES:
        message = (
            "max_frame_bytes of a host's hello is the largest frame that it accepts, an integer"
            f" of at least {MIN_FRAME_BYTES}, not {show(accepted)}: raise it, or leave it out"
        )
        raise Stop(os.EX_PROTOCOL, _error("protocol_error", message))
    config = configuration.load(info, config_path)
    if config is None:
        message = "there is no configuration: give serve --config FILE, or send one in hello"
        raise Stop(os.EX_CONFIG, {**_error("config", message), "problems": []})
    return config, info


def refused(wrong: ConfigError) -> Stop:
    """What becomes of a host whose configuration cannot be had."""
    return Stop(os.EX_CONFIG, {**_error("config", str(wrong)), "problems": wrong.as_term()})


def _error(type: str, message: str) -> dict[str, Any]:
    # It may name a file whose name is not UTF-8: better written out than not sent.
    return {"type": type, "message": encodable(message)}


def introduction(config: Config, shm: SharedMemory | None, run_id: str) -> dict[str, Any]:
    """What the supervisor says of itself in its own hello."""
    converted = [change.as_term() for change in config.changes]
    return {
        "software": SOFTWARE,
        "max_frame_bytes": config.supervisor.max_frame_bytes,
        "capabilities": CAPABILITIES if shm is None else [*CAPABILITIES, "shm"],
        **({} if shm is None else {"shm": shm.info}),
        "os_pid": os.getpid(),
        "run_id": run_id,
        "python": platform.python_version(),
        "pools": [
            {
                "name": pool.name,
                "pool_size": pool.pool_size,
                "worker_profile": pool.worker_profile,
            }
            for pool in config.enabled_pools
        ],
        "call_timeouts": configuration.call_timeouts(config),
        "stop_time": configuration.stop_time(config),
        **({"converted": converted} if converted else {}),
    }
