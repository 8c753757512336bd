"""What the demo says."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

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


def run_where_no_file_can_be_read(folder: Path, *host: str | Path) -> None:
    here = folder / "demo_files"
    shutil.copytree(ROOT / "scripts/demo_files", here)
    adapter = here / "adapter.py"
    source = adapter.read_text()
    assert "        with open(path" in source
    adapter.write_text(
        source.replace("        with open(path", "        os._exit(3)\n        with open(path")
    )
    *command, program = host
    ran = subprocess.run(
        [*command, here / program, here / "demo.toml", "6", "lines"],
        capture_output=True,
        text=True,
        env={**os.environ, "SNAKEPIT_PORT_PYTHON": sys.executable},
    )
    assert ran.returncode == 1
    errors = [line for line in ran.stderr.splitlines() if line.startswith("error: ")]
    assert errors[0] == "error: no file could be read"
    assert all("exited with status 3" in line for line in errors[1:4])
    assert errors[4:] == ["error: 3 more calls failed"]


def test_what_went_wrong_is_said_where_no_file_could_be_read(tmp_path: Path) -> None:
    run_where_no_file_can_be_read(tmp_path, sys.executable, "demo.py")


def test_so_it_is_from_elixir(tmp_path: Path) -> None:
    bridge = ROOT / "elixir_bridge/_build/dev/lib/snakepit_port/ebin"
    run_where_no_file_can_be_read(tmp_path, "elixir", "-pa", bridge, "demo.exs")
