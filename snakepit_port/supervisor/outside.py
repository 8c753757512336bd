"""What a pool needs of the host's side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from snakepit_port.pool import Call
from snakepit_port.supervisor.link import Link
from snakepit_port.supervisor.memory import Sampler
from snakepit_port.supervisor.shm import SharedMemory

if TYPE_CHECKING:
    from snakepit_port.supervisor.runner import Runner


class Outside(Protocol):
    """What a runner needs of the host's side."""

    host_max_frame_bytes: int
    #: Whether the host takes what commands ask of it and tell it.
    host_runs_tools: bool
    shm: SharedMemory | None
    sampler: Sampler

    def answer(self, call: Call, frame: bytes) -> None:
        """Send the terminal answer of a call."""

    def tool(self, call_id: int, link: Link, number: int, name: str, args: bytes) -> None:
        """Have the host run a tool for a call of the worker at `link`."""

    def pass_on(self, frame: bytes) -> None:
        """Send what a worker says to the host, as it is."""

    def event(
        self, name: str, measurements: Mapping[str, float], metadata: Mapping[str, Any]
    ) -> None: ...

    def log(self, pool: str, worker: str | None, source: str, level: str, line: str) -> None: ...

    def settled(self, runner: Runner) -> None:
        """The pool has become ready or unavailable for the first time."""

    def touched(self, runner: Runner) -> None:
        """Something has happened in the pool: what is due next, and how much is queued, may have
        changed."""
