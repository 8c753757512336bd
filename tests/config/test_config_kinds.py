"""Durations and sizes, read and written back."""

from __future__ import annotations

import math
from typing import Any

import pytest
from config_trees import quick, zero_or_durations
from hypothesis import given
from hypothesis import strategies as st

from snakepit_port.config.amounts import Duration, Integer, Size
from snakepit_port.config.kinds import Either
from snakepit_port.config.report import INVALID, At

# More digits than Python is willing to print.
HUGE = 10**5000


def parse(kind: Any, value: object) -> Any:
    mistakes: list[object] = []
    parsed = kind.parse(value, At(lambda *mistake: mistakes.append(mistake), "/base"))
    assert (parsed is INVALID) == bool(mistakes)
    return None if parsed is INVALID else parsed


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (250, 0.25),
        ("250ms", 0.25),
        ("1.5ms", 0.0015),
        ("5s", 5.0),
        ("10m", 600.0),
        ("1h", 3600.0),
        ("1.5h", 5400.0),
        ("1d", 86400.0),
        ("2 s", 2.0),
        ("0.1s", 0.1),
        ((3600, "seconds"), 3600.0),
        ((1.5, "hours"), 5400.0),
        ((2, "days"), 172800.0),
        ((3, "minutes"), 180.0),
        ((7, "milliseconds"), 0.007),
        (0, 0.0),
        ("infinity", math.inf),
    ],
)
def test_durations(value: object, seconds: float) -> None:
    assert parse(Duration(zero=True, infinity=True), value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        -1,
        1.5,
        True,
        None,
        [1, "s"],
        b"5s",
        HUGE,
        "",
        "5",
        "5 sec",
        "-5s",
        "s",
        "1e3s",
        "\u0661s",
        "5S",
        "infinite",
        "999999999999999d",
        (1, "s"),
        (1,),
        ("1", "seconds"),
        (True, "seconds"),
        (1, 2),
        (-1, "days"),
        (math.nan, "days"),
        (math.inf, "days"),
        (HUGE, "days"),
    ],
    ids=lambda value: "huge" if value in (HUGE, (HUGE, "days")) else repr(value),
)
def test_what_is_no_duration(value: object) -> None:
    assert parse(Duration(zero=True), value) is None


def test_bounds_of_durations() -> None:
    assert parse(Duration(), 0) is None
    assert parse(Duration(), "0.0s") is None
    # Kept, it would be nothing: what waits for so long would never have waited.
    for nothing in ("0.0004ms", "0.0000005s", (0.0000001, "seconds")):
        assert parse(Duration(), nothing) is None
        assert parse(Duration(zero=True), nothing) == 0.0
    assert parse(Duration(), "0.0006ms") == 0.000001
    assert parse(Duration(zero=True), (-0.0000001, "seconds")) is None
    assert parse(Duration(), "infinity") is None
    assert parse(Duration(), "36500d") == 36500 * 86400
    assert parse(Duration(), "36501d") is None


@quick
@given(zero_or_durations | st.integers(0, 10**12).map(lambda amount: (amount / 7, "seconds")))
def test_durations_are_written_back_exactly(value: object) -> None:
    duration = Duration(zero=True)
    seconds = parse(duration, value)
    if seconds is not None:
        assert parse(duration, duration.dump(seconds)) == seconds


def test_durations_are_written_for_people() -> None:
    written = [0.0, 0.0015, 0.25, 1.0, 90.0, 600.0, 5400.0, 3600.0, 172800.0, math.inf]
    assert [Duration().dump(seconds) for seconds in written] == (
        ["0ms", "1.5ms", "250ms", "1s", "90s", "10m", "90m", "1h", "2d", "infinity"]
    )


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (2048, 2048),
        ("2048B", 2048),
        ("9KB", 9000),
        ("64MiB", 64 * 2**20),
        ("64 MB", 64 * 10**6),
        ("1GiB", 2**30),
    ],
)
def test_sizes(value: object, size: int) -> None:
    assert parse(Size("1KiB", "1GiB"), value) == size


@pytest.mark.parametrize(
    "value",
    [1023, "1023B", "2GiB", "1.5MiB", "64mib", "64", True, 2048.0, -2048, HUGE],
    ids=lambda value: "huge" if value is HUGE else repr(value),
)
def test_what_is_no_size(value: object) -> None:
    assert parse(Size("1KiB", "1GiB"), value) is None


@quick
@given(st.integers(1024, 2**30))
def test_sizes_are_written_back_exactly(size: int) -> None:
    kind = Size("1KiB", "1GiB")
    assert parse(kind, kind.dump(size)) == size


def test_one_is_not_true() -> None:
    either = Either(True, other=Integer(5))
    assert parse(either, True) is True
    assert parse(either, 1) is None
