"""Which pools are still starting, and which cannot: what a host waits for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio


class Pools:
    """Those of the beginning count until the supervisor says `ready`. Those that a reload has
    added, or has start anew because they could not, count until an event says how that went.

    What comes before the answer to a reload is about the settings of before.
    """

    def __init__(self) -> None:
        #: By name: "ready", "unavailable", or another state of SPEC section 14 until it has told.
        self.states: dict[str, str] = {}
        #: Why those that are unavailable are.
        self.causes: dict[str, Mapping[str, Any]] = {}
        #: The ids of the reloads that are not answered.
        self.reloads: set[int] = set()
        self._is_ready = False
        self._unsettled: set[str] = set()
        self._has_ended = False
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def settled(self) -> bool:
        return self._is_ready and not self._unsettled

    async def wait(self) -> None:
        """Waits until all have settled, or the link has ended."""
        await trio.lowlevel.checkpoint()
        while not self.settled and not self._has_ended:
            await self._waiting.park()

    def end(self) -> None:
        """Nothing more is to be learnt."""
        self._has_ended = True
        self._waiting.unpark_all()

    def ready(self, states: Mapping[str, str]) -> None:
        """The supervisor says that the pools of the beginning have settled."""
        self._is_ready = True
        self.states.update(states)
        self._waiting.unpark_all()

    def event(self, name: str, metadata: Mapping[str, Any]) -> None:
        if name in ("pool.ready", "pool.unavailable"):
            pool = str(metadata.get("pool"))
            self.states[pool] = name.removeprefix("pool.")
            self.causes[pool] = metadata
            self._unsettled.discard(pool)
            self._waiting.unpark_all()

    def reloading(self, id: int) -> None:
        """A reload with this id is about to be written."""
        self.reloads.add(id)

    def reloaded(self, id: int, changes: Mapping[str, str]) -> None:
        """The answer to that reload: what becomes of each pool. Of none, if it was an error."""
        self.reloads.discard(id)
        for pool, what in changes.items():
            again = what != "unchanged" and self.states.get(pool) == "unavailable"
            if what == "removed":
                # What more it tells would be of one of that name that a later reload adds.
                self.states.pop(pool, None)
                self._unsettled.discard(pool)
            elif what == "added" or again:
                self.states[pool] = "starting"
                self._unsettled.add(pool)
        self._waiting.unpark_all()
