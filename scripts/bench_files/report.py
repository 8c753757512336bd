"""Figures as data and as a table."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from figures import FIGURES, Figure

import snakepit_port


def summary(
    series: Mapping[str, Sequence[float]], repetitions: int, scale: float
) -> dict[str, Any]:
    """What is kept of a run: nothing in it names the machine."""
    return {
        "version": snakepit_port.__version__,
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "repetitions": repetitions,
        "scale": scale,
        "figures": {
            figure.name: one for figure in FIGURES if (one := _figure(figure, series)) is not None
        },
    }


def _figure(figure: Figure, series: Mapping[str, Sequence[float]]) -> dict[str, Any] | None:
    value = figure.value(series)
    if value is None:
        return None
    one: dict[str, Any] = {
        "title": figure.title,
        "unit": figure.unit,
        **{key: _rounded(getattr(value, key)) for key in ("median", "low", "high")},
        "bar": figure.bar,
        "at_least": figure.at_least,
        "met": figure.is_met(value.median),
        "measured": _amount(statistics.median(series[figure.of]), figure.each),
    }
    if figure.against is not None:
        one["reference"] = _amount(statistics.median(series[figure.against]), figure.each)
    return one


def table(result: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> str:
    """One line for each figure; with the change since `before`, as a factor of the median."""
    head = ["", "measured", "reference", "figure", "quartiles", "bar", ""]
    rows = [[*head, "before", "change"] if before else head]
    for name, one in result["figures"].items():
        row = [
            one["title"],
            one["measured"],
            one.get("reference", ""),
            f"{one['median']:g} {one['unit']}",
            f"{one['low']:g} to {one['high']:g}",
            "" if one["bar"] is None else f"{'≥' if one['at_least'] else '≤'} {one['bar']:g}",
            "" if one["bar"] is None else "met" if one["met"] else "MISSED",
        ]
        if before:
            row += _change(one, before["figures"].get(name))
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    if result["scale"] != 1.0:
        lines.append(f"(at scale {result['scale']:g}: fewer calls and workers than it says above)")
    return "\n".join(lines)


def _change(one: Mapping[str, Any], past: Mapping[str, Any] | None) -> list[str]:
    if past is None or not past["median"]:
        return ["", ""]
    return [f"{past['median']:g} {past['unit']}", f"x {one['median'] / past['median']:.2f}"]


def _rounded(number: float) -> float:
    """Three digits: more would be noise."""
    return float(f"{number:.3g}")


def _amount(number: float, each: str) -> str:
    if each == "rate":
        return f"{number:,.0f}/s"
    if each == "MiB":
        return f"{number:.2f} MiB"
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if number * factor >= 1:
            return f"{number * factor:.3g} {unit}"
    return f"{number * 1e6:.3g} µs"
