"""What is found out about interpreters, and what is made of it."""

from __future__ import annotations

import ast
import resource
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
    limits,
    look_at,
)
from snakepit_port.environment.interpreter import PROBE
from snakepit_port.worker import boot

GIL = Interpreter(
    executable="/usr/bin/python3",
    version="3.13.5",
    version_info=(3, 13, 5),
    implementation="CPython",
    free_threading_build=False,
    gil_enabled=True,
    virtual_environment=None,
    distributions={},
)
FREE = replace(GIL, free_threading_build=True, gil_enabled=False)


def test_the_running_interpreter_is_described() -> None:
    found = look_at(sys.executable)
    assert found.version_info == sys.version_info[:3]
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
    ("text", "says", "said"),
    [
        ("echo no such option >&2; exit 3", "ended with status 3 and said this:", "no such option"),
        ("exit 1", "ended with status 1 and said nothing", ""),
        ("echo hello", "said something else:", "hello"),
        ("true", "said nothing", ""),
        ("echo '{}'", "said something else:", "{}"),
        # As cat does, which says all of what it is to run.
        ("seq 9", "said something else:", "1\n2\n3…"),
        ("printf %0999d 0", "said something else:", "0" * 300 + "…"),
    ],
)
def test_what_is_no_python(tmp_path: Path, text: str, says: str, said: str) -> None:
    python = script(tmp_path, text)
    with pytest.raises(ProbeError) as caught:
        look_at(python)
    assert caught.value.message == (
        f"{python} is no Python that works: asked what it is with `{python} {PROBE}`, it {says}"
    )
    assert caught.value.said == said
    assert str(caught.value).splitlines() == [caught.value.message, *said.splitlines()]


def test_a_python_that_fails_is_told_by_its_version(tmp_path: Path) -> None:
    python = script(tmp_path, 'if [ "$1" = -c ]; then echo 3.12.1; else echo oh >&2; exit 1; fi')
    with pytest.raises(ProbeError) as caught:
        look_at(python)
    assert caught.value.message.startswith(f"{python} is Python 3.12.1, but fails: ")
    assert caught.value.said == "oh"


def test_a_python_too_old_for_the_probe(tmp_path: Path) -> None:
    """Its own word for that is a SyntaxError."""
    python = script(tmp_path, 'if [ "$1" = -c ]; then echo 2.7.18; else exit 1; fi')
    with pytest.raises(ProbeError) as caught:
        look_at(python)
    assert str(caught.value) == f"{python} is Python 2.7.18; a worker needs 3.9 or newer"


def test_paths_without_an_interpreter(tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(ProbeError) as caught:
            look_at(str(path))
        return str(caught.value)

    python = tmp_path / "python"
    assert refused(python) == f"there is no {python}"
    assert refused(tmp_path) == f"{tmp_path} is a folder, not an interpreter"
    python.symlink_to(tmp_path / "gone")
    assert refused(python) == f"{python} is a link to {tmp_path}/gone, which is not there"
    python.unlink()
    python.touch()
    assert refused(python) == f"{python} cannot be run: Permission denied"
    python.write_text(f"#!{tmp_path}/gone\n")
    python.chmod(0o755)
    assert refused(python).startswith(f"{python} is there, but not the program that its first line")


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


def test_python_2_reads_what_tells_it_that_it_is_too_old() -> None:
    """Any other file would be a SyntaxError there."""
    tree = ast.parse(Path(boot.__file__).read_bytes().decode("ascii"))
    for node in ast.walk(tree):
        assert not isinstance(node, (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Nonlocal))
        if isinstance(node, ast.FunctionDef):
            every = [*node.args.args, *node.args.kwonlyargs]
            assert [node.returns, *(arg.annotation for arg in every)] == [None] * (len(every) + 1)
            assert not node.args.kwonlyargs


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


@pytest.mark.parametrize(
    ("own", "files", "most"),
    [
        # Version 2; a group has no more than those that it is in.
        ("0::/a/b", {"a/b": "90", "a": "70", "": "80"}, 70),
        ("0::/a/b", {"a/b": "max", "a": "max"}, None),
        # Version 1, beside version 2.
        ("8:pids:/a\n4:memory:/c\n0::/", {"pids/a": "60", "pids": "max", "c": "5"}, 60),
        ("4:cpu,pids:/a", {"pids/a": "60"}, 60),
        # In a container, the name is that of outside, or leads there.
        ("0::/docker/b", {"": "50"}, 50),
        ("0::/../../b", {"": "50"}, 50),
        ("", {"": "50"}, None),
        (None, {"": "50"}, None),
    ],
)
def test_a_container_may_limit_processes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: str | None,
    files: dict[str, str],
    most: int | None,
) -> None:
    monkeypatch.setattr(limits, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(limits, "_GROUPS", tmp_path / "groups")
    if own is not None:
        (tmp_path / "own").write_text(f"{own}\n")
    for group, text in files.items():
        folder = tmp_path / "groups" / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pids.max").write_text(f"{text}\n")
    assert limits.pids_max() == most
    pools = [limits.PoolSize(100, 32, 1)]
    [processes] = [limit for limit in limits.limits(pools) if limit.name == "processes"]
    soft = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    own_limit = None if soft == resource.RLIM_INFINITY else soft
    assert processes.has == (own_limit if most is None else min(most, own_limit or most))
    assert processes.hint == "raise `ulimit -u`, or the container's pids limit"


@pytest.mark.parametrize(("threads", "needs", "at_most"), [(0, 6, 9), (8, 38, 57)])
def test_threads_of_workers_count_as_processes(threads: int, needs: int, at_most: int) -> None:
    pools = [limits.PoolSize(4, 32, 2, threads)]
    [processes] = [limit for limit in limits.limits(pools) if limit.name == "processes"]
    assert (processes.needs, processes.at_most) == (needs, at_most)
