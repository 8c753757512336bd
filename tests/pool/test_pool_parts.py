"""The parts that a machine is made of: timers, speeds, backoff."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from snakepit_port.pool.backoff import FIRST_SECONDS, MAX_SECONDS, Backoff
from snakepit_port.pool.speed import (
    FAST_SECONDS,
    FIRST_AHEAD,
    KNOWN_AFTER,
    MAX_COMMANDS,
    MOST_AHEAD,
    OVERDUE_SECONDS,
    STALL_SECONDS,
    TRUSTED_AFTER,
    Speeds,
)
from snakepit_port.pool.timers import Timers


def run(timers: Timers, now: float) -> None:
    for action, argument in timers.due(now):
        action(argument, now)


class TestTimers:
    def test_what_is_due_comes_first_due_first_and_once(self) -> None:
        timers, ran = Timers(), []

        def note(what: Any, now: float) -> None:
            ran.append((what, now))

        for due in (3.0, 1.0, 2.0, 1.0):
            timers.at(due, note, due)
        assert timers.next_due == 1.0
        run(timers, 2.0)
        run(timers, 2.5)
        assert ran == [(1.0, 2.0), (1.0, 2.0), (2.0, 2.0)]
        assert timers.next_due == 3.0
        assert len(timers) == 1

    def test_same_time_keeps_the_order_in_which_they_were_set(self) -> None:
        timers, ran = Timers(), []
        for name in "abcd":
            timers.at(1.0, lambda what, _: ran.append(what), name)
        run(timers, 1.0)
        assert "".join(ran) == "abcd"

    def test_cancelling_twice_late_or_nothing_does_nothing(self) -> None:
        timers = Timers()
        timer = timers.at(1.0, lambda *_: None)
        other = timers.at(2.0, lambda *_: None)
        run(timers, 1.0)
        for late in (timer, None, other, other):
            timers.cancel(late)
        assert len(timers) == 0
        assert timers.next_due is None

    def test_what_runs_may_set_and_cancel_others(self) -> None:
        timers, ran = Timers(), []
        victim = timers.at(2.0, lambda *_: ran.append("cancelled"))

        def first(_: Any, now: float) -> None:
            timers.cancel(victim)
            timers.at(now, lambda *_: ran.append("at once"))

        timers.at(1.0, first)
        run(timers, 5.0)
        assert ran == ["at once"]

    @given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=300), st.integers(0, 30))
    def test_a_timer_runs_if_it_is_due_and_was_not_cancelled(
        self, wanted: list[tuple[int, bool]], now: int
    ) -> None:
        timers, ran = Timers(), []
        made = [
            timers.at(due, lambda what, _: ran.append(what), n) for n, (due, _) in enumerate(wanted)
        ]
        for timer, (_, cancel) in zip(made, wanted, strict=True):
            if cancel:
                timers.cancel(timer)
        live = [(due, n) for n, (due, cancel) in enumerate(wanted) if not cancel]
        assert len(timers) == len(live)
        assert timers.next_due == min((due for due, _ in live), default=None)
        run(timers, now)
        assert ran == [n for due, n in sorted(live) if due <= now]

    def test_cancelled_timers_take_no_memory_for_long(self) -> None:
        timers = Timers()
        timers.at(1e9, lambda *_: None)
        for n in range(10_000):
            timers.cancel(timers.at(1e6 + n, lambda *_: None))
        assert len(timers) == 1
        assert len(timers._heap) < 200


class TestSpeeds:
    def known(self, seconds: float) -> Speeds:
        speeds = Speeds()
        for _ in range(KNOWN_AFTER):
            speeds.record("c", seconds)
        return speeds

    def test_a_command_is_fast_once_it_has_been_fast_often_enough(self) -> None:
        speeds = Speeds()
        seen = []
        for _ in range(KNOWN_AFTER):
            seen.append("c" in speeds.fast)
            speeds.record("c", 20e-6)
        assert seen == [False] * KNOWN_AFTER
        assert "c" in speeds.fast
        assert "another" not in speeds.fast

    def test_a_slow_one_never_counts_as_fast(self) -> None:
        assert "c" not in self.known(FAST_SECONDS).fast

    def test_one_slow_run_counts_at_once_and_is_told_once(self) -> None:
        speeds = self.known(20e-6)
        assert [speeds.record("c", seconds) for seconds in (0.5, 0.5, 20e-6)] == [
            True,
            False,
            False,
        ]
        assert "c" not in speeds.fast

    def test_many_fast_runs_make_up_for_a_slow_one(self) -> None:
        speeds = self.known(20e-6)
        speeds.record("c", 2.0)
        runs = 0
        while "c" not in speeds.fast:
            speeds.record("c", 20e-6)
            runs += 1
        assert 60 < runs < 90

    def test_a_run_that_was_cut_short_can_only_show_that_it_is_slow(self) -> None:
        speeds = self.known(0.5)
        for _ in range(1000):
            speeds.at_least("c", 20e-6)
        assert "c" not in speeds.fast
        speeds = self.known(20e-6)
        assert not speeds.at_least("c", FAST_SECONDS / 2)
        assert "c" in speeds.fast
        assert speeds.at_least("c", FAST_SECONDS)
        assert "c" not in speeds.fast

    def test_how_far_a_command_is_trusted_grows_with_its_runs(self) -> None:
        speeds = self.known(20e-6)
        seen = []
        while speeds.fast["c"] < MOST_AHEAD:
            seen.append(speeds.fast["c"])
            for _ in range(TRUSTED_AFTER):
                speeds.record("c", 20e-6)
        assert seen == [3, 7, 15]
        for _ in range(2 * TRUSTED_AFTER):
            speeds.record("c", 20e-6)
        assert speeds.fast["c"] == MOST_AHEAD

    def trusted(self) -> Speeds:
        speeds = self.known(20e-6)
        while speeds.fast["c"] < MOST_AHEAD:
            speeds.record("c", 20e-6)
        return speeds

    def test_a_stall_costs_all_trust(self) -> None:
        for record in (
            lambda speeds: speeds.record("c", STALL_SECONDS),
            lambda speeds: speeds.at_least("c", STALL_SECONDS),
            # It was answered along with others, and any of them may have taken most of it.
            lambda speeds: speeds.record("c", STALL_SECONDS / 16, STALL_SECONDS),
            lambda speeds: speeds.record("c", 20e-6, STALL_SECONDS),
        ):
            speeds = self.trusted()
            record(speeds)
            while "c" not in speeds.fast:
                speeds.record("c", 20e-6)
            assert speeds.fast["c"] == FIRST_AHEAD

    def test_what_is_slow_but_no_stall_costs_none(self) -> None:
        speeds = self.trusted()
        assert speeds.record("c", OVERDUE_SECONDS)
        while "c" not in speeds.fast:
            speeds.record("c", 20e-6)
        assert speeds.fast["c"] == MOST_AHEAD

    def test_names_that_a_host_makes_up_take_bounded_memory(self) -> None:
        speeds = self.known(20e-6)
        for n in range(MAX_COMMANDS + 100):
            for _ in range(KNOWN_AFTER):
                speeds.record(f"c{n}", 20e-6)
        assert len(speeds._known) == MAX_COMMANDS
        assert "c" in speeds.fast
        assert f"c{MAX_COMMANDS + 50}" not in speeds.fast


class TestBackoff:
    @given(st.integers())
    def test_it_doubles_up_to_a_ceiling_less_up_to_half(self, seed: int) -> None:
        backoff = Backoff(random.Random(seed))
        for n in range(1100):
            full = min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(n, 100))
            assert full / 2 <= backoff.failed() <= full

    def test_success_starts_it_anew(self) -> None:
        backoff = Backoff(random.Random(1))
        for _ in range(10):
            backoff.failed()
        backoff.succeeded()
        assert backoff.failures == 0
        assert backoff.failed() <= FIRST_SECONDS

    def test_pools_that_fail_together_do_not_retry_together(self) -> None:
        delays = {Backoff(random.Random(seed)).failed() for seed in range(20)}
        assert len(delays) == 20
