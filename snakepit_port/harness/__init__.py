"""The host's side of the protocol, in Trio: what a BEAM does, for tests and for people without one.

    async with open_host("pools.toml") as host:
        await host.await_ready()
        print(await host.call("default", "add", [1, 2]))

`open_host` starts a supervisor the way a BEAM does: as a child with a pipe on its stdin and one on
its stdout. `host_over` speaks the same protocol over any Trio stream.
"""

from __future__ import annotations

from snakepit_port.harness.host import MAX_SECONDS, Host
from snakepit_port.harness.opening import host_over, open_host
from snakepit_port.harness.reports import (
    CallError,
    Event,
    LogLine,
    Message,
    RawFrame,
    Subscription,
)
from snakepit_port.harness.stream import Stream

__all__ = [
    "MAX_SECONDS",
    "CallError",
    "Event",
    "Host",
    "LogLine",
    "Message",
    "RawFrame",
    "Stream",
    "Subscription",
    "host_over",
    "open_host",
]
