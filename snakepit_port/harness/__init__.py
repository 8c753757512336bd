"""The host's side of the protocol, in Trio: what a BEAM does, for tests and for people without one.

    async with open_host("pools.toml") as host:
        await host.await_ready()
        print(await host.call("default", "add", [1, 2]))

`open_host` starts a supervisor the way a BEAM does: as a child with a pipe on its stdin and one on
its stdout. `host_over` speaks the same protocol over any Trio stream.

opening.py  how a host comes by its supervisor, and lets go of it
host.py     what a host can do: the public methods
link.py     frames, and who waits for which answer
outbox.py   frames on their way out
process.py  the supervisor as a child process
pools.py    which pools are still starting
stream.py   a stream call as its consumer sees it
tools.py    functions that commands have it run
reports.py  errors, events, log lines and frames, as they are handed out
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
