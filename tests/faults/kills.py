"""Killing workers at random."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress

from snakepit_port.harness import Host


class Kills:
    """Kills a random worker each time that the next of some random numbers of calls is answered, so
    that calls are in flight then."""

    def __init__(self, rng: random.Random, calls: int, kills: int) -> None:
        self._rng = rng
        self._at = sorted(rng.sample(range(calls // 10, calls * 9 // 10), kills), reverse=True)
        self._alive: dict[str, int] = {}
        self.killed: set[str] = set()

    async def watch(self, host: Host) -> None:
        """Keeps up with which workers there are."""
        async for event in host.events(past=True):
            if event.name == "worker.started":
                self._alive[event.metadata["worker"]] = event.metadata["os_pid"]
            elif event.name == "worker.stopped":
                self._alive.pop(event.metadata["worker"], None)

    def answered(self, count: int) -> None:
        """So many calls are answered now."""
        while self._at and self._at[-1] <= count and self._alive:
            worker = self._rng.choice(sorted(self._alive))
            with suppress(ProcessLookupError):
                os.kill(self._alive.pop(worker), signal.SIGKILL)
                self.killed.add(worker)
                self._at.pop()

    @property
    def are_over(self) -> bool:
        return not self._at
