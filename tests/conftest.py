"""Interpreters that tests run workers on; what is made for that is kept in a cache folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snakepit-port"


@pytest.fixture(scope="session")
def free_threaded_python() -> str:
    """A Python whose GIL is off. Made, if there is none: that may take minutes, once."""
    made = subprocess.run(
        [ROOT / "scripts" / "setup_python", "--free-threaded"], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    return made.stdout.splitlines()[-1]


@pytest.fixture(scope="session", params=["gil", "free-threaded"])
def numpy_python(request: pytest.FixtureRequest) -> str:
    """An interpreter that has NumPy: one with a GIL, and one without."""
    if request.param == "gil":
        return with_numpy(sys.executable)
    return with_numpy(request.getfixturevalue("free_threaded_python"))


def with_numpy(base: str) -> str:
    """The interpreter of a virtual environment of `base` with NumPy, made once."""
    ask = "import sys; print(sys.implementation.cache_tag, '%d.%d.%d' % sys.version_info[:3])"
    about = subprocess.run([base, "-c", ask], capture_output=True, text=True, check=True).stdout
    folder = CACHE / "tests" / "-".join(["numpy", *about.split(), Path(base).name])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([base, "-m", "venv", folder], check=True)
            pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
            # From source it would take minutes, and compilers.
            subprocess.run([*pip, "--only-binary", ":all:", "numpy"], check=True)
            (folder / "complete").touch()
    return str(folder / "bin" / "python")
