"""When the next workers of a pool are started, and what becomes of attempts that fail."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from snakepit_port.config.model import PoolSettings
from snakepit_port.pool import backoff
from snakepit_port.pool.backoff import Backoff
from snakepit_port.pool.effects import Start
from snakepit_port.pool.record import CATCHING_UP, Record, in_words, milliseconds
from snakepit_port.pool.roster import Roster
from snakepit_port.pool.timers import Timer
from snakepit_port.pool.worker import Fate, Worker, WorkerState


class Starting:
    """`go_on` is called when it is time to see again what is missing.

    `cause` is the error of the last attempt that failed, `cannot_start` is whether none has
    succeeded since, and `attempts_ended` counts those that are over, of workers with the settings
    of now. `is_pausing` is whether none is started because too many workers crashed."""

    def __init__(
        self,
        record: Record,
        roster: Roster,
        now: float,
        rng: random.Random,
        go_on: Callable[[float], None],
        first_number: int,
    ) -> None:
        self._record = record
        self._roster = roster
        self._go_on = go_on
        self._starts = Backoff(rng)
        self._crashes = Backoff(rng)
        self._crashed_until = now
        self._may_start_at = now
        #: Until every worker has been there once: of what goes later only what is missing is
        #: started, and that need not be spread over time.
        self._is_starting_up = True
        #: The number of the next worker that is started.
        self.next_number = first_number
        self._timer: Timer | None = None
        self._pause_timer: Timer | None = None
        #: When workers crashed, as far back as counts.
        self._crash_times: deque[float] = deque()
        #: Why the last one did.
        self._last_words = ""
        #: A worker that failed while others of its batch go on, which tell how the batch went.
        self._untold: Worker | None = None
        self.cause: dict[str, Any] = {}
        self.attempts_ended = 0
        self.cannot_start = False
        self.is_pausing = False

    @property
    def _settings(self) -> PoolSettings:
        return self._record.settings

    def fill(self, wanted: int, now: float, *, is_whole: bool) -> None:
        """Start what is missing of `wanted` workers, a batch at a time: the next one begins when no
        worker of the last is starting any more. With `is_whole`, the pool is complete when none is
        missing: none of those wanted is a successor of another. After a failure no batch begins
        while workers are not read from: the host does not read then, and would be told of each
        worker that fails."""
        record, settings = self._record, self._settings
        missing = wanted - self._roster.count(WorkerState.STARTING, WorkerState.READY)
        if self._roster.is_starting:
            return
        if missing <= 0:
            if is_whole and self._is_starting_up and not self._starts.failures:
                self._is_starting_up = False
                self._may_start_at = now
            return
        may_start_at = max(self._may_start_at, self._crashed_until)
        if self._starts.failures and record.is_deaf:
            may_start_at = max(may_start_at, now + CATCHING_UP)
        if now < may_start_at:
            record.timers.cancel(self._timer)
            self._timer = record.timers.at(may_start_at, self._fill_again)
            return
        # After a failure one worker goes ahead, to see whether the cause is gone.
        batch = 1 if self._starts.failures else settings.startup_batch_size
        for _ in range(min(missing, batch)):
            worker = Worker(f"{record.name}-{self.next_number}", now, self._roster.capacity)
            self.next_number += 1
            record.counts["started"] += 1
            self._roster.begins(worker)
            due = now + settings.pool_startup_timeout
            worker.timer = record.timers.at(due, self._not_ready_in_time, worker)
            record.effects.append(Start(worker))

    def _fill_again(self, _: None, now: float) -> None:
        self._go_on(now)

    def _not_ready_in_time(self, worker: Worker, now: float) -> None:
        if self._record.may_have_missed(now, worker):
            later = now + CATCHING_UP
            worker.timer = self._record.timers.at(later, self._not_ready_in_time, worker)
        else:
            self._roster.kill(worker, Fate.STARTUP_TIMEOUT)

    def begin_anew(self, now: float, *, counts_anew: bool) -> None:
        """The settings have changed: what failed with those of before does not count any more."""
        if counts_anew:
            self.attempts_ended = 0
        self.stop()
        for attempts in (self._starts, self._crashes):
            attempts.succeeded()
        self._crash_times.clear()
        self._may_start_at = self._crashed_until = now
        self._is_starting_up = True
        self._untold = None
        self.cannot_start = self.is_pausing = False

    def stop(self) -> None:
        """Start none that is not being started."""
        for timer in (self._timer, self._pause_timer):
            self._record.timers.cancel(timer)

    # -- how it went -------------------------------------------------------------------------------

    def succeeded(self, now: float) -> None:
        """A worker is ready."""
        self._starts.succeeded()
        self.cannot_start = False
        self._attempt_ended(now)
        if self._untold is not None and not self._roster.is_starting:
            # Not all of them: what is missing is started as if none had.
            self._tell_failure(self._untold, 1, max(0.0, self._may_start_at - now))

    def failed(self, worker: Worker, error: Mapping[str, Any], now: float) -> None:
        """A worker went before it was ready."""
        self._record.counts["start_failures"] += 1
        self.cannot_start = True
        self._attempt_ended(now)
        self.cause = dict(error)
        if worker.fate is Fate.STARTUP_TIMEOUT:
            limit = in_words(self._settings.pool_startup_timeout)
            self.cause["message"] = (
                f"worker {worker.id} was not ready within {limit} and was killed;"
                " see what it logged, or raise pool_startup_timeout"
            )
        if self._roster.is_starting:
            self._untold = worker
        else:
            # Once for each batch: its workers fail together and for the same reason.
            delay = self._starts.failed()
            self._may_start_at = max(self._may_start_at, now + delay)
            self._tell_failure(worker, self._starts.failures, delay)

    def _tell_failure(self, worker: Worker, attempt: int, delay: float) -> None:
        self._untold = None
        told = {"attempt": attempt, "retry_in_ms": milliseconds(delay)}
        self._record.emit("worker.start_failed", told, worker, **self.cause_for_people())

    def _attempt_ended(self, now: float) -> None:
        self.attempts_ended += 1
        if not self._roster.is_starting:
            pause = self._settings.startup_batch_delay_ms / 1000 if self._is_starting_up else 0.0
            self._may_start_at = now + pause

    def why_none_starts(self, now: float) -> str | None:
        """Why no worker is being started where some are missing, and when one will be."""
        seconds = max(self._may_start_at, self._crashed_until) - now
        if seconds <= 0 or not self._last_words:
            return None
        return (
            f"its workers crash; the next is started in {in_words(round(seconds, 1))}; the last:"
            f" {self._last_words}"
        )

    @property
    def keeps_failing(self) -> bool:
        """Whether the next start after one that failed has failed, too."""
        return self._starts.failures > 1

    def cause_for_people(self) -> dict[str, Any]:
        keys = ("message", "traceback", "stderr")
        return {key: self.cause[key] for key in keys if key in self.cause}

    def answered_first(self) -> None:
        """A worker has given its first answer: it works."""
        self._crashes.succeeded()

    def may_have_died_young(self, worker: Worker, now: float) -> None:
        """If a worker ended soon and without an answer, the next may well do the same, of the same
        call: bound how often that is tried."""
        young = worker.ready_at is not None and now - worker.ready_at < backoff.MAX_SECONDS
        # Those that die together die of one cause: that counts once.
        if young and worker.answered == 0 and now >= self._crashed_until:
            self._crashed_until = now + self._crashes.failed()

    def crashed(self, error: Mapping[str, Any], now: float) -> bool:
        """Note that a worker crashed. Whether that makes more than `max_restarts` in `max_seconds`,
        as OTP counts: then none is started for a while, and the count begins anew."""
        settings, times = self._settings, self._crash_times
        self._last_words = str(error["message"])
        times.append(now)
        while times[0] <= now - settings.max_seconds:
            times.popleft()
        if len(times) <= settings.max_restarts or self.is_pausing:
            return False
        self.is_pausing = True
        pause = min(settings.max_seconds, backoff.MAX_SECONDS)
        self.cause = {
            **error,
            "message": (
                f"{len(times)} workers crashed within {in_words(settings.max_seconds)}"
                f" (max_restarts is {settings.max_restarts}), so none is started for"
                f" {in_words(pause)}; the last: {error['message']}"
            ),
        }
        times.clear()
        self._crashed_until = now + pause
        self._pause_timer = self._record.timers.at(self._crashed_until, self._pause_is_over)
        return True

    def _pause_is_over(self, _: None, now: float) -> None:
        self.is_pausing = False
        self._go_on(now)
