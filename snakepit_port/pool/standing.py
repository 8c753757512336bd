"""What state a pool is in, and what it tells the calls that it does not take."""

from __future__ import annotations

from enum import Enum
from typing import Any

from snakepit_port.pool.call import Call
from snakepit_port.pool.effects import Settled, Stopped
from snakepit_port.pool.queue import Queue
from snakepit_port.pool.record import Record, milliseconds
from snakepit_port.pool.roster import Roster
from snakepit_port.pool.scaling import Scaling
from snakepit_port.pool.starting import Starting


class PoolState(Enum):
    STARTING = "starting"
    READY = "ready"
    UNAVAILABLE = "unavailable"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Standing:
    """Ready once the first workers have been tried and some serve; unavailable when none does and
    none can be started, or for a while when too many have crashed."""

    def __init__(
        self,
        record: Record,
        roster: Roster,
        starting: Starting,
        queue: Queue,
        scaling: Scaling,
        now: float,
    ) -> None:
        self._record = record
        self._roster = roster
        self._starting = starting
        self._queue = queue
        self._scaling = scaling
        self.state = PoolState.STARTING
        #: It stops, or has stopped: what `state` says, for this is asked after every answer.
        self.is_stopping = False
        #: Why it does, as a sentence begins with it.
        self.why = ""
        self._began_at = now
        self._is_settled = False

    @property
    def takes_calls(self) -> bool:
        return self.state in (PoolState.STARTING, PoolState.READY)

    # -- what becomes of it ------------------------------------------------------------------------

    def settle(self, now: float) -> None:
        """After a change among the workers. While it stops, none matters."""
        serving = self._roster.serving()
        # A crash alone is not enough: its successor must have failed to start.
        failed = self._starting.cannot_start and not self._roster.is_starting
        # Where workers have served, one start that fails may be an accident, and the next is a
        # moment away: that is shorter than what calls can wait.
        hopeless = failed and (self.state is PoolState.STARTING or self._starting.keeps_failing)
        if self.state is PoolState.STARTING and serving:
            if self._starting.attempts_ended >= self._scaling.wanted or failed:
                self._become_ready(serving, now)
        elif self.state is PoolState.UNAVAILABLE and serving and not self._starting.is_pausing:
            self._become_ready(serving, now)
        elif self.takes_calls and hopeless and not serving:
            self.become_unavailable(now)

    def begin_anew(self, now: float) -> bool:
        """The settings have changed: a pool that has no worker starts, as at first. Returns whether
        it does."""
        if self.state is not PoolState.UNAVAILABLE or self._roster.serving():
            return False
        self.state = PoolState.STARTING
        self._began_at = now
        return True

    def become_unavailable(self, now: float) -> None:
        if self.state is PoolState.UNAVAILABLE:
            return
        self.state = PoolState.UNAVAILABLE
        self._began_at = now
        self._record.emit("pool.unavailable", {}, **self._starting.cause_for_people())
        self._note_settled()
        for call in self._queue.take_all():
            self._record.reply(call, self._unavailable(call))

    def stop(self, why: str) -> None:
        self.state = PoolState.STOPPING
        self.is_stopping = True
        self.why = why

    def has_stopped(self) -> None:
        if self.state is not PoolState.STOPPED:
            self.state = PoolState.STOPPED
            self._record.effects.append(Stopped())

    def _become_ready(self, serving: int, now: float) -> None:
        self.state = PoolState.READY
        measurements = {"workers": serving, "startup_ms": milliseconds(now - self._began_at)}
        self._record.emit("pool.ready", measurements)
        self._note_settled()

    def _note_settled(self) -> None:
        if not self._is_settled:
            self._is_settled = True
            self._record.effects.append(Settled())

    # -- what it tells -----------------------------------------------------------------------------

    def refuse_if_closed(self, call: Call) -> bool:
        """Whether the pool takes no calls, and has answered this one with the reason."""
        if self.is_stopping:
            self._record.fail(call, "shutting_down", self.why)
            return True
        return self.refuse_if_unavailable(call)

    def refuse_if_unavailable(self, call: Call) -> bool:
        """Whether the pool is unavailable, and has answered the call with the reason."""
        if self.state is not PoolState.UNAVAILABLE:
            return False
        self._record.reply(call, self._unavailable(call))
        return True

    def why_none_serves(self, now: float) -> str | None:
        """Why a call finds no worker, if there is none."""
        if self._roster.serving():
            return None
        if self._roster.is_starting:
            return "its workers are still starting; wait for the pool to be ready, or longer"
        return self._starting.why_none_starts(now)

    def _unavailable(self, call: Call) -> dict[str, Any]:
        cause = self._starting.cause
        why = cause.get("message", "no worker could be started")
        what = "is paused" if self._starting.is_pausing else "has no worker"
        name = self._record.name
        return {
            **cause,
            "type": "pool_unavailable",
            "message": f"pool {name!r} {what}: {why}",
            "pool": name,
            "command": call.command,
        }
