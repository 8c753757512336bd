"""The benchmark runs, and says what it measured. How fast anything is, is not for a test to say."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from checkout import ROOT

BENCH_FILES = ROOT / "scripts/bench_files"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark's own modules, by name; they are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(BENCH_FILES))

    def load(name: str) -> ModuleType:
        module = importlib.import_module(name)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    yield load
    for name in ("figures", "report", "picture"):
        sys.modules.pop(name, None)


def test_every_figure_is_measured(tmp_path: Path, modules: Any) -> None:
    """All of it, once and with next to no calls."""
    figures = modules("figures")
    out = tmp_path / "figures.json"
    done = subprocess.run(
        [ROOT / "scripts/bench", "--repetitions", "2", "--scale", "0.002", "--json", out],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text(encoding="utf-8"))
    expected = {figure.name for figure in figures.FIGURES}
    if "no C compiler" in done.stderr:
        expected -= {figure.name for figure in figures.FIGURES if "relay" in str(figure.against)}
    assert set(result["figures"]) == expected
    for figure in result["figures"].values():
        assert figure["low"] <= figure["median"] <= figure["high"]
        assert figure["title"] in done.stdout
    for name, numbers in result["series"].items():
        assert numbers
        assert name == "growth" or min(numbers) > 0


def series_for(figures: ModuleType, factor: float) -> dict[str, list[float]]:
    """Measurements by which every figure is `factor` times its bar."""
    series: dict[str, list[float]] = {}
    for figure in figures.FIGURES:
        if figure.bar is not None:
            series.setdefault(figure.of, [figure.bar * factor] * 3)
            if figure.against is not None:
                series.setdefault(figure.against, [1.0] * 3)
    return series


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_bars_are_bounds_of_one_side(modules: Any, factor: float) -> None:
    figures, report = modules("figures"), modules("report")
    result = report.summary(series_for(figures, factor), 3, 1.0)
    for figure in figures.FIGURES:
        if figure.bar is not None:
            met = factor >= 1 if figure.at_least else factor <= 1
            assert result["figures"][figure.name]["met"] is met, figure.name
    assert ("MISSED" in report.table(result)) is (factor != 1.0)


def test_a_ratio_is_of_numbers_from_one_turn(modules: Any) -> None:
    figures = modules("figures")
    figure = figures.Figure("f", "t", "g", "ours", "theirs", bar=2.0)
    value = figure.value({"ours": [2.0, 40.0, 6.0], "theirs": [1.0, 10.0, 2.0]})
    assert (value.low, value.median, value.high) == (2.5, 3.0, 3.5)
    assert figure.value({"theirs": [1.0]}) is None


def test_a_change_is_shown_as_a_factor(modules: Any) -> None:
    figures, report = modules("figures"), modules("report")
    before = report.summary(series_for(figures, 1.0), 3, 1.0)
    after = report.summary(series_for(figures, 0.5), 3, 1.0)
    assert "x 0.50" in report.table(after, before)
    assert "x 1.00" in report.table(before, before)
    del before["figures"]["start"]
    assert report.table(after, before)


@pytest.mark.parametrize("factor", [0.01, 1.0, 50.0])
def test_the_picture_is_svg_whatever_the_figures(modules: Any, factor: float) -> None:
    figures, report, picture = modules("figures"), modules("report"), modules("picture")
    svg = picture.draw(report.summary(series_for(figures, factor), 3, 1.0))
    root = ElementTree.fromstring(svg)
    width = float(root.attrib["viewBox"].split()[2])
    bars = root.findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == sum(figure.bar is not None for figure in figures.FIGURES)
    for bar in bars:
        assert float(bar.attrib["width"]) >= 0
        assert float(bar.attrib["x"]) + float(bar.attrib["width"]) < width


def test_a_group_that_does_not_exist_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, BENCH_FILES / "bench.py", "calers"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "callers" in done.stderr


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "no_folder" / "figures.json"
    done = subprocess.run(
        [sys.executable, BENCH_FILES / "bench.py", "--json", path], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{path} cannot be written" in done.stderr
