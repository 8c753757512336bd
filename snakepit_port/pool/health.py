"""Which workers have shown of late that they are well.

A worker is pinged when `health_check_interval` has passed since it last was. It answers in turn,
after the calls that it was sent before; when it has those behind it, it has `health_check_timeout`.
What those calls themselves may take is up to their deadlines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from snakepit_port.pool.effects import Ping
from snakepit_port.pool.record import CATCHING_UP, Record, in_words
from snakepit_port.pool.worker import Worker, WorkerState


class Checkup:
    """One ping that is not answered yet. Its turn is when the worker has none left of the first
    `turn` calls that it was sent; `due` is whether that was so when it was looked at last."""

    __slots__ = ("due", "number", "turn")

    def __init__(self, number: int, worker: Worker) -> None:
        self.number = number
        self.turn = worker.sent
        self.due = not worker.calls


class Health:
    """`unwell(worker, message, now)` is called for a worker that has not answered in time."""

    def __init__(self, record: Record, unwell: Callable[[Worker, str, float], None]) -> None:
        self._record = record
        self._unwell = unwell
        self._number = 0

    def watch(self, worker: Worker, now: float) -> None:
        """It has just become ready, or has shown that it is well."""
        worker.checkup = None
        interval = self._record.settings.health_check_interval
        if interval != math.inf:
            worker.health_timer = self._record.timers.at(now + interval, self._ping, worker)

    def reconfigure(self, workers: Iterable[Worker], now: float) -> None:
        """The interval has changed: these, which serve, are asked as often from now on. What one
        was asked before has its time."""
        for worker in workers:
            if worker.checkup is None:
                self._record.timers.cancel(worker.health_timer)
                self.watch(worker, now)

    def answered(self, worker: Worker, number: int, now: float) -> bool:
        """It has answered a ping. Returns whether it was asked."""
        if worker.checkup is None or worker.checkup.number != number:
            return False
        self._record.timers.cancel(worker.health_timer)
        self.watch(worker, now)
        return True

    def has_answered_a_call(self, worker: Worker, now: float) -> None:
        """One that was pinged: perhaps it is the turn of that now, which has its time from then."""
        checkup = worker.checkup
        assert checkup is not None
        if not checkup.due:
            self._see_turn(worker, checkup)
            if checkup.due:
                self._record.timers.cancel(worker.health_timer)
                self._wait(worker, now)

    def _ping(self, worker: Worker, now: float) -> None:
        if worker.state is WorkerState.READY:
            self._number += 1
            worker.checkup = Checkup(self._number, worker)
            self._record.effects.append(Ping(worker, self._number))
            self._wait(worker, now)

    def _wait(self, worker: Worker, now: float) -> None:
        due = now + self._record.settings.health_check_timeout
        worker.health_timer = self._record.timers.at(due, self._look, worker)

    def _look(self, worker: Worker, now: float) -> None:
        checkup = worker.checkup
        if worker.state is not WorkerState.READY or checkup is None:
            return
        if self._record.may_have_missed(now, worker):
            worker.health_timer = self._record.timers.at(now + CATCHING_UP, self._look, worker)
        elif checkup.due:
            limit = in_words(self._record.settings.health_check_timeout)
            self._unwell(worker, f"it did not answer a ping within {limit}", now)
        else:
            # Calls that were taken back are not answered here.
            self._see_turn(worker, checkup)
            self._wait(worker, now)

    @staticmethod
    def _see_turn(worker: Worker, checkup: Checkup) -> None:
        first = worker.running
        checkup.due = first is None or first.sequence >= checkup.turn
