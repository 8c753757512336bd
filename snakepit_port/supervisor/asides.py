"""What a command says besides its answer: what it asks of the host, and what it tells it (SPEC,
section 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snakepit_port.pool import CallState
from snakepit_port.supervisor.outside import Outside
from snakepit_port.wire.grammar import LOG_LEVELS, ProtocolError

if TYPE_CHECKING:
    from snakepit_port.supervisor.worker_process import WorkerProcess

TAGS = ("tool", "progress", "send", "log")


def told(outside: Outside, process: WorkerProcess, said: tuple[Any, ...], frame: bytes) -> None:
    """A worker said this. Raises `ProtocolError` where it must not."""
    tag = said[0]
    if tag == "log":
        _log(outside, process, said[1])
    elif not outside.host_runs_tools:
        raise ProtocolError(f"it sent a {tag}, which this host does not take")
    elif tag == "send":
        outside.pass_on(frame)
    else:
        call = process.worker.calls.get(said[1])
        if call is None:
            raise ProtocolError(f"it sent a {tag} for call {said[1]}, which it has not")
        if call.state is CallState.ANSWERED:
            # Its command is being stopped.
            return
        if tag == "progress":
            outside.pass_on(frame)
        else:
            outside.tool(call.id, process.link, *said[2:])


def _log(outside: Outside, process: WorkerProcess, entry: dict[str, Any]) -> None:
    level, line = entry.get("level"), entry.get("line")
    if not (isinstance(level, str) and level in LOG_LEVELS and isinstance(line, str)):
        raise ProtocolError("it sent a log entry without a level or a line")
    outside.log(process.runner.name, process.worker.id, "log", level, line)
