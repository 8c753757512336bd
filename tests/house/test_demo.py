"""What the demo says."""

from __future__ import annotations

import importlib.util
import subprocess

import pytest
from checkout import ROOT


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--files", "x"], "demo: --files takes a number above zero, not 'x'"),
        (["--files", "0"], "demo: --files takes a number above zero, not '0'"),
        (["--files"], "demo: --files takes a number above zero, not ''"),
        (["--host", "nope"], "demo: --host takes elixir or harness, not 'nope'"),
        (["--files", "1", "--host"], "demo: --host takes elixir or harness, not ''"),
        (["--hurry"], "demo: unknown argument: --hurry"),
    ],
)
def test_what_is_wrong_is_said_before_the_usage(arguments: list[str], says: str) -> None:
    ran = subprocess.run([ROOT / "scripts/demo", *arguments], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (64, "")
    assert ran.stderr.splitlines()[0] == says
    assert "usage: scripts/demo" in ran.stderr


@pytest.mark.parametrize("failures", [[], [["SyntaxError", 2, 2]]])
def test_failures_have_a_heading_if_there_are_some(failures: list[object]) -> None:
    spec = importlib.util.spec_from_file_location("a", ROOT / "scripts/demo_files/adapter.py")
    assert spec is not None
    assert spec.loader is not None
    adapter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(adapter)
    report = {"files": 3, "lines": 9, "functions": 1, "classes": 0}
    report |= {"longest": [], "most_complex": []}
    table = adapter.Rank().table(report, failures, [["rank", "rank-1", 2]], 1.0)
    assert ("failures" in table.splitlines()) is bool(failures)
    assert ("  SyntaxError" in table) is bool(failures)
