"""Interpreters that tests run workers on; what is made for that is kept in a cache folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes depends on what else the machine does.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snakepit-port"


@pytest.fixture(autouse=True)
def _no_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """For workers, by whoever runs the tests."""
    monkeypatch.delenv("SNAKEPIT_PYTHON", raising=False)
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)


@pytest.fixture(scope="session")
def free_threaded_python() -> str:
    """A Python whose GIL is off. Made, if there is none: that may take minutes, once."""
    made = subprocess.run(
        [ROOT / "scripts" / "setup_python", "--free-threaded"], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    return made.stdout.splitlines()[-1]


#: An extension module that does not say that it is safe without a GIL.
NEEDS_GIL = """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "needs_gil"};
PyMODINIT_FUNC PyInit_needs_gil(void) { return PyModule_Create(&module); }
"""


@pytest.fixture(scope="session")
def needs_gil(tmp_path_factory: pytest.TempPathFactory, free_threaded_python: str) -> Path:
    """A folder with a module `needs_gil`, which turns on the GIL of the free-threaded Python."""
    folder = tmp_path_factory.mktemp("needs_gil")
    ask = (
        "import sysconfig as s; print(s.get_path('include')); print(s.get_config_var('EXT_SUFFIX'))"
    )
    asked = subprocess.run(
        [free_threaded_python, "-c", ask], capture_output=True, text=True, check=True
    )
    include, suffix = asked.stdout.splitlines()
    (folder / "needs_gil.c").write_text(NEEDS_GIL)
    made = ["gcc", "-shared", "-fPIC", f"-I{include}", "needs_gil.c", "-o", f"needs_gil{suffix}"]
    subprocess.run(made, cwd=folder, check=True)
    return folder


@pytest.fixture(scope="session")
def uv() -> Path:
    """The folder of a uv, which is made once."""
    return Path(with_package("uv", sys.executable)).parent


@pytest.fixture(scope="session", params=["gil", "free-threaded"])
def numpy_python(request: pytest.FixtureRequest) -> str:
    """An interpreter that has NumPy: one with a GIL, and one without."""
    if request.param == "gil":
        return with_package("numpy", sys.executable)
    return with_package("numpy", request.getfixturevalue("free_threaded_python"))


def with_package(package: str, base: str) -> str:
    """The interpreter of a virtual environment of `base` with a package, made once."""
    ask = "import sys; print(sys.implementation.cache_tag, '%d.%d.%d' % sys.version_info[:3])"
    about = subprocess.run([base, "-c", ask], capture_output=True, text=True, check=True).stdout
    folder = CACHE / "tests" / "-".join([package, *about.split(), Path(base).name])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([base, "-m", "venv", folder], check=True)
            pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
            # From source it would take minutes, and compilers.
            subprocess.run([*pip, "--only-binary", ":all:", package], check=True)
            (folder / "complete").touch()
    return str(folder / "bin" / "python")
