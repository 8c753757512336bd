"""What is held against what: the bars, and how a figure comes from what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    `of` and `against` are series of `measure.exs`. With `against`, each number of one is divided by
    the one of the other that was measured in the same turn. `unit` is what the figure is in, and
    `each` what the numbers of the series are in. `bar` is what it may be at most or, with
    `at_least`, must be at least; None: just to know. A title speaks of a run at full scale.
    """

    name: str
    title: str
    group: str
    of: str
    against: str | None = None
    unit: str = "x"
    each: str = ""
    bar: float | None = None
    at_least: bool = False

    def value(self, series: Mapping[str, Sequence[float]]) -> Value | None:
        """None where it was not measured."""
        numbers = series.get(self.of, ())
        if self.against is not None:
            pairs = zip(numbers, series.get(self.against, ()), strict=False)
            numbers = [number / reference for number, reference in pairs]
        return Value.of(numbers) if numbers else None

    def is_met(self, value: float) -> bool:
        if self.bar is None:
            return True
        return value >= self.bar if self.at_least else value <= self.bar


@dataclass(frozen=True)
class Value:
    """A median, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Value:
        if len(numbers) == 1:
            return cls(numbers[0], numbers[0], numbers[0])
        low, median, high = statistics.quantiles(numbers, n=4, method="inclusive")
        return cls(median, low, high)


#: Groups of `measure.exs`, in the order they run. `one_core` is pinned, all processes of it.
GROUPS = (
    *("one_caller", "one_core", "callers", "stream", "pools", "broken", "bytes"),
    *("floats", "start", "memory", "growth"),
)

FIGURES = (
    Figure(
        "one_caller",
        "one caller, against the echo",
        "one_caller",
        "one_caller",
        "one_caller_echo",
        each="time",
        bar=2.7,
    ),
    Figure(
        "one_caller_relay",
        "one caller, against the relay",
        "one_caller",
        "one_caller",
        "one_caller_relay",
        each="time",
    ),
    Figure(
        "one_core",
        "one caller on one core, against the relay",
        "one_core",
        "one_core",
        "one_core_relay",
        each="time",
        bar=2.3,
    ),
    Figure(
        "callers_2_workers",
        "64 callers, 2 workers: rate against the echo",
        "callers",
        "callers_2_workers",
        "callers_echo",
        each="rate",
        bar=0.30,
        at_least=True,
    ),
    Figure(
        "callers_1_worker",
        "64 callers, 1 worker: rate against the echo",
        "callers",
        "callers_1_worker",
        "callers_echo",
        each="rate",
        bar=0.20,
        at_least=True,
    ),
    Figure(
        "stream",
        "chunks of one stream, against calls of 64 callers",
        "stream",
        "stream",
        "stream_calls",
        each="rate",
        bar=1.0,
        at_least=True,
    ),
    Figure(
        "bytes_64m",
        "64 MiB there and back, against the echo",
        "bytes",
        "bytes_64m",
        "bytes_64m_echo",
        each="time",
        bar=0.5,
    ),
    Figure(
        "bytes_1m",
        "1 MiB there and back, against the echo",
        "bytes",
        "bytes_1m",
        "bytes_1m_echo",
        each="time",
        bar=1.0,
    ),
    Figure(
        "start",
        "250 workers, until each has answered a call",
        "start",
        "start",
        unit="s",
        each="time",
        bar=1.0,
    ),
    Figure(
        "memory",
        "an idle forked worker's own memory (PSS)",
        "memory",
        "idle_pss",
        unit="MiB",
        each="MiB",
        bar=4.0,
    ),
    Figure(
        "pools",
        "rate with 32 pools of 8 beside, against 1 pool",
        "pools",
        "pools_33",
        "pools_1",
        each="rate",
        bar=0.85,
        at_least=True,
    ),
    Figure(
        "broken",
        "rate of 2 pools beside a broken one, against without",
        "broken",
        "beside_broken",
        "without_broken",
        each="rate",
        bar=0.95,
        at_least=True,
    ),
    Figure(
        "growth",
        "supervisor after 1,000,000 calls, against 10,000",
        "growth",
        "growth",
        unit="MiB",
        each="MiB",
        bar=5.0,
    ),
    Figure(
        "floats",
        "100,000 floats there and back, against erlpack",
        "floats",
        "floats",
        "floats_echo",
        each="time",
        bar=1.6,
    ),
)
