"""The figures as one picture: how much of its bar each one takes."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

WIDTH, LEFT, RIGHT = 880, 360, 150
ROW, TOP = 30, 64
#: Where a bar stands, as a part of the room for it.
FULL = 0.8

STYLE = """\
  text { font: 13px system-ui, sans-serif; fill: #57606a }
  .title { font-weight: 600; font-size: 15px }
  .met { fill: #2da44e } .missed { fill: #cf222e } .spread { stroke: #57606a }
  .bar { stroke: #57606a; stroke-dasharray: 3 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #8b949e } .bar, .spread { stroke: #8b949e }
  }"""


def draw(result: Mapping[str, Any]) -> str:
    """An SVG of the figures that have a bar."""
    figures = [one for one in result["figures"].values() if one["bar"] is not None]
    height = TOP + ROW * len(figures) + 12
    room = WIDTH - LEFT - RIGHT
    line = LEFT + room * FULL
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>snakepit-port {escape(result['version'])}: figures against their bars</title>",
        f"<style>\n{STYLE}\n</style>",
        f'<text class="title" x="12" y="24">snakepit-port {escape(result["version"])},'
        f" {result['cpus']} CPUs, Python {escape(result['python'])}</text>",
        '<text x="12" y="44">shorter is better; medians of'
        f" {result['repetitions']} turns, and quartiles</text>",
        f'<text x="{line:.0f}" y="44" text-anchor="middle">bar</text>',
    ]
    for number, one in enumerate(figures):
        y = TOP + ROW * number
        part, *ends = [_share(one, one[key]) * FULL for key in ("median", "low", "high")]
        low, high = (LEFT + room * min(end, 1.0) for end in sorted(ends))
        sign = "≥" if one["at_least"] else "≤"
        parts += [
            f'<text x="{LEFT - 12}" y="{y + 15}" text-anchor="end">{escape(one["title"])}</text>',
            f'<rect class="{"met" if one["met"] else "missed"}" x="{LEFT}" y="{y + 3}"'
            f' width="{room * min(part, 1.0):.1f}" height="16" rx="2"/>',
            f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{y + 11}" y2="{y + 11}"/>',
            f'<text x="{WIDTH - RIGHT + 12}" y="{y + 15}">{one["median"]:g} {escape(one["unit"])}'
            f" ({sign} {one['bar']:g})</text>",
        ]
    parts.append(
        f'<line class="bar" x1="{line:.1f}" x2="{line:.1f}" y1="{TOP - 12}" y2="{height - 8}"/>'
    )
    return "\n".join([*parts, "</svg>", ""])


def _share(one: Mapping[str, Any], value: float) -> float:
    """How much of its bar a value takes: 1 is all that it may."""
    if one["at_least"]:
        return float(one["bar"] / value) if value > 0 else 1 / FULL
    return max(float(value / one["bar"]), 0.0)
