"""What is found out about interpreters, and what is made of it."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest

from snakepit_port.environment import (
    Interpreter,
    ProbeError,
    advise,
    installed,
    known_libraries,
    look_at,
)

GIL = Interpreter(
    executable="/usr/bin/python3",
    version="3.13.5",
    version_info=(3, 13, 5),
    implementation="CPython",
    free_threading_build=False,
    gil_enabled=True,
    prefix="/usr",
    base_prefix="/usr",
    virtual_environment=None,
    distributions={},
)
FREE = replace(GIL, free_threading_build=True, gil_enabled=False)


def test_the_running_interpreter_is_described() -> None:
    found = look_at(sys.executable)
    assert found.version_info == sys.version_info[:3]
    assert found.prefix == sys.prefix
    assert found.virtual_environment == (sys.prefix if sys.prefix != sys.base_prefix else None)
    assert found.free_threading_build is bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    assert found.is_new_enough
    assert {"trio", "tomlkit", "erlpack"} <= found.distributions.keys()


def test_a_python_without_gil_is_described(free_threaded_python: str) -> None:
    found = look_at(free_threaded_python)
    assert (found.free_threading_build, found.gil_enabled, found.gil) == (
        True,
        False,
        "free-threaded",
    )
    switched_on = look_at(free_threaded_python, {"PYTHON_GIL": "1"})
    assert (switched_on.free_threading_build, switched_on.gil_enabled) == (True, True)
    assert advise(switched_on).profile == "process"


def test_numpy_and_its_version_are_found(numpy_python: str) -> None:
    found = look_at(numpy_python)
    assert found.virtual_environment is not None
    [(library, version)] = installed(found.distributions)
    assert (library.module, version) == ("numpy", found.distributions["numpy"])
    assert advise(found).profile == ("process" if found.gil_enabled else "thread")


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("echo no such option >&2; exit 3", "status 3: no such option"),
        ("echo hello", "printed 'hello\\n', which is no answer"),
        ("true", "printed '', which is no answer"),
        ("echo '{}'", "which is no answer"),
    ],
)
def test_what_fails_is_shown_with_its_command(tmp_path: Path, text: str, says: str) -> None:
    python = script(tmp_path, text)
    with pytest.raises(ProbeError) as caught:
        look_at(python)
    assert str(caught.value).startswith(f"{python} ")
    assert says in str(caught.value)


def test_a_path_without_an_interpreter(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"No such file or directory; check the pool's `python`"):
        look_at(str(tmp_path / "python"))


def test_a_name_is_looked_up_on_the_pools_path(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="there is no 'python' on PATH"):
        look_at("python", {"PATH": str(tmp_path)})
    script(tmp_path, f'exec {sys.executable} "$@"')
    assert look_at("python", {"PATH": str(tmp_path)}).version_info == sys.version_info[:3]


def test_what_site_prints_does_not_disturb(tmp_path: Path) -> None:
    python = script(tmp_path, f'echo welcome; exec {sys.executable} "$@"')
    assert look_at(python).version_info == sys.version_info[:3]


def test_a_python_too_old_for_workers() -> None:
    assert not replace(GIL, version_info=(3, 8, 18)).is_new_enough
    assert replace(GIL, version_info=(3, 9, 0)).is_new_enough


@pytest.mark.parametrize(
    ("interpreter", "profile", "reason"),
    [
        (GIL, "process", "has a GIL"),
        (FREE, "thread", "run in parallel"),
        (replace(FREE, gil_enabled=True), "process", "PYTHON_GIL"),
        (replace(FREE, distributions={"numpy": "2.4"}), "thread", "run in parallel"),
        (replace(FREE, distributions={"matplotlib": "3.9"}), "process", "matplotlib"),
    ],
)
def test_advice_has_a_reason(interpreter: Interpreter, profile: str, reason: str) -> None:
    advice = advise(interpreter)
    assert advice.profile == profile
    assert reason in advice.reason


def test_every_library_has_a_source() -> None:
    for library in known_libraries():
        assert library.name == library.name.lower().replace("_", "-")
        assert library.threads in ("safe", "care", "unsafe")
        assert library.note.endswith(".")
        assert library.source.startswith("https://")
    names = [library.name for library in known_libraries()]
    assert len(set(names)) == len(names)


def test_only_what_is_installed_is_listed() -> None:
    found = installed({"numpy": "1.26", "unheard-of": "1"})
    assert [(library.name, version) for library, version in found] == [("numpy", "1.26")]
