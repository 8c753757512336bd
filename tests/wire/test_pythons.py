"""What runs in a worker runs on every Python from 3.9 on, with nothing installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from vector_files import cases

HERE = Path(__file__).resolve().parent

_ASK = "import os, sys; print(*sys.version_info[:2]); print(os.path.realpath(sys.executable))"


def pythons() -> dict[str, str]:
    """The Pythons of this machine, each once: its real path, and its version for people."""
    candidates = [sys.executable]
    for folder in os.get_exec_path():
        if os.path.isdir(folder):
            names = sorted(os.listdir(folder))
            candidates += [
                f"{folder}/{name}" for name in names if re.fullmatch(r"python3\.\d+t?", name)
            ]
    candidates += sorted(map(str, Path.home().glob(".pyenv/versions/*/bin/python3")))
    found = {}
    for candidate in candidates:
        asked = subprocess.run([candidate, "-I", "-S", "-c", _ASK], capture_output=True, text=True)
        if asked.returncode == 0:  # A shim answers only for versions that are switched on.
            version, path = asked.stdout.splitlines()
            major, minor = map(int, version.split())
            if (major, minor) >= (3, 9):
                found.setdefault(path, f"{major}.{minor}")
    return found


PYTHONS = pythons()


def test_the_running_python_is_among_them():
    assert os.path.realpath(sys.executable) in PYTHONS


@pytest.mark.parametrize("path", PYTHONS, ids=[f"{v}-{i}" for i, v in enumerate(PYTHONS.values())])
def test_the_wire_and_adapters_on_a_bare_python(path):
    ran = subprocess.run(
        [
            path,
            "-I",
            "-S",
            "-B",
            "-W",
            "error",
            str(HERE / "every_python.py"),
            str(HERE.parents[1]),
        ],
        capture_output=True,
        text=True,
    )
    assert (ran.stderr, ran.returncode) == ("", 0)
    frames = [case for case in cases("frames.json") if "frame" in case]
    expected = [len(cases("terms.json")), len(cases("malformed.json")), len(frames)]
    assert list(map(int, ran.stdout.split())) == expected
