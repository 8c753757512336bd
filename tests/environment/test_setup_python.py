"""The scripts that make interpreters, and look at them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from snakepit_port.environment import look_at

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

POOL = '[[pools]]\nname = "{0}"\nadapter = "a"\npython = "{0}/bin/python"\n'


def setup_python(*args: object, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [SCRIPTS / "setup_python", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHON": sys.executable, **env},
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    out, err = process.communicate()
    return process.returncode, out.splitlines(), err


def test_the_environments_that_pools_name_are_made_even_by_two_at_once(tmp_path: Path) -> None:
    config = tmp_path / "pools.toml"
    config.write_text(POOL.format("one") + POOL.format("deep/two"))
    both = [finished(process) for process in [setup_python(config), setup_python(config)]]
    for status, lines, err in both:
        assert (status, err) == (0, "")
        assert lines[-1] == str(tmp_path / "deep/two/bin/python")
    # Each was made by one of them.
    assert sorted(line for _, lines, _ in both for line in lines[:-1]) == [
        f"setup_python: making {tmp_path}/deep/two",
        f"setup_python: making {tmp_path}/one",
        f"setup_python: pool deep/two: {tmp_path}/deep/two/bin/python is there",
        f"setup_python: pool deep/two: made {tmp_path}/deep/two/bin/python",
        f"setup_python: pool one: {tmp_path}/one/bin/python is there",
        f"setup_python: pool one: made {tmp_path}/one/bin/python",
    ]
    for name in ("one", "deep/two"):
        assert look_at(f"{tmp_path}/{name}/bin/python").virtual_environment == f"{tmp_path}/{name}"


def test_a_service_may_be_without_a_home(tmp_path: Path) -> None:
    config = tmp_path / "pools.toml"
    config.write_text(f'[[pools]]\nname = "one"\nadapter = "a"\npython = "{sys.executable}"\n')
    without = ["env", "-u", "HOME", "-u", "XDG_CACHE_HOME", SCRIPTS / "setup_python", config]
    ran = subprocess.run(without, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[-1] == sys.executable


def test_every_pool_is_told_of(tmp_path: Path) -> None:
    some = tmp_path / "programs" / "some-python"
    some.parent.mkdir()
    some.symlink_to(sys.executable)
    pythons = {
        "own": "",
        "one": "one/bin/python",
        "also": "one/bin/python3",
        "there": str(some),
        "bare": "some-python",
        "absent": "no-such-python",
        "folder": str(tmp_path),
        "bin": "gone/python3",
        "none": "./gone",
    }
    config = tmp_path / "pools.toml"
    config.write_text(
        "".join(
            f'[[pools]]\nname = "{name}"\nadapter = "a"\n' + f'python = "{python}"\n' * bool(python)
            for name, python in pythons.items()
        )
    )
    env = {"PATH": before_others(some.parent), "SNAKEPIT_PYTHON": ""}
    status, lines, err = finished(setup_python(config, **env))
    assert status == 0
    assert lines == [
        f"setup_python: making {tmp_path}/one",
        "setup_python: pool own: the supervisor's own interpreter",
        f"setup_python: pool one: made {tmp_path}/one/bin/python",
        f"setup_python: pool also: made {tmp_path}/one/bin/python3",
        f"setup_python: pool there: {some} is there",
        f"setup_python: pool bare: some-python is there, {some}",
        f"{tmp_path}/one/bin/python3",
    ]
    told = dict(
        line.removeprefix("setup_python: pool ").split(": ", 1) for line in err.splitlines()
    )
    assert list(told) == ["absent", "folder", "bin", "none"]
    assert told["absent"].startswith("there is no no-such-python on PATH, and none is made, ")
    assert told["folder"].startswith(f"{tmp_path} is a folder: ")
    assert told["bin"].startswith(f"there is no {tmp_path}/gone/python3, and none is made, ")
    write = {name: said.rpartition(": write python = ")[2] for name, said in told.items()}
    assert write == {
        "absent": '".venv/bin/python"',
        "folder": f'"{tmp_path}/bin/python"',
        "bin": f'"{tmp_path}/gone/bin/python"',
        "none": f'"{tmp_path}/gone/bin/python"',
    }


def test_an_environment_without_a_gil(tmp_path: Path, free_threaded_python: str) -> None:
    config = tmp_path / "pools.toml"
    config.write_text(POOL.format("free"))
    status, lines, err = finished(setup_python("--free-threaded", config))
    assert (status, err) == (0, "")
    assert lines[-1] == str(tmp_path / "free/bin/python")
    assert not look_at(lines[-1]).gil_enabled


# -- with uv ---------------------------------------------------------------------------------------


def before_others(folder: Path) -> str:
    """A PATH that finds first what is in a folder."""
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize("free_threaded", [False, True])
def test_uv_makes_environments(
    tmp_path: Path, uv: Path, free_threaded_python: str, free_threaded: bool
) -> None:
    config = tmp_path / "pools.toml"
    config.write_text(POOL.format("one"))
    options = ["--free-threaded"] * free_threaded
    status, lines, err = finished(setup_python(*options, config, PATH=before_others(uv)))
    assert (status, err) == (0, "")
    made = tmp_path / "one"
    assert lines[-1] == f"{made}/bin/python"
    assert look_at(lines[-1]).virtual_environment == str(made)
    assert look_at(lines[-1]).gil_enabled is not free_threaded
    assert "uv = " in (made / "pyvenv.cfg").read_text()
    assert (made / "bin" / "pip").exists()


def test_where_uv_cannot_make_one_venv_does(tmp_path: Path, uv: Path) -> None:
    config = tmp_path / "pools.toml"
    config.write_text(POOL.format("one"))
    # It has no pip at hand, and may not get it.
    offline = {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "cache")}
    status, lines, err = finished(setup_python(config, PATH=before_others(uv), **offline))
    assert status == 0
    assert "uv could not make it: trying venv" in err
    assert (tmp_path / "one" / "bin" / "pip").exists()
    assert look_at(lines[-1]).virtual_environment == str(tmp_path / "one")


def test_where_uv_gets_no_python_the_next_way_is_tried(tmp_path: Path, uv: Path) -> None:
    """There is no next way here: no apt, and nothing that was built before."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "env", "realpath", "sed", "tail"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    (programs / "uv").symlink_to(uv / "uv")
    nothing = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "UV_OFFLINE": "1"}
    status, lines, err = finished(setup_python("--free-threaded", PATH=str(programs), **nothing))
    assert (status, lines) == (1, [])
    told = err.splitlines()
    for line, version in zip(told, ("3.14t", "3.13t"), strict=False):
        assert line.startswith(f"setup_python: uv does not get Python {version} here: ")
    assert "put python3.14t or python3.13t on PATH" in told[-1]


# -- what it refuses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ('[[pools]]\nname = "a"\n', "adapter"),
        ('[[pools]]\nname = "a"\nadapter = "a"\npython = "python3"\n', "no pool of"),
    ],
)
def test_configurations_that_name_none(tmp_path: Path, config: str, says: str) -> None:
    path = tmp_path / "pools.toml"
    path.write_text(config)
    status, lines, err = finished(setup_python(path))
    assert (status, lines) == (1, [])
    assert says in err


def test_two_configurations_are_one_too_many(tmp_path: Path) -> None:
    configs = [tmp_path / name for name in ("one.toml", "two.toml")]
    for config in configs:
        config.write_text(POOL.format("env"))
    before = everything_in(tmp_path)
    status, lines, err = finished(setup_python(*configs))
    assert (status, lines) == (64, [])
    assert f"one FILE at a time, not {configs[0]} and {configs[1]}" in err
    assert everything_in(tmp_path) == before


def refused(config: Path, *pythons: str) -> str:
    """What is said about pools with these interpreters, none of which is made."""
    config.write_text(
        "".join(
            f'[[pools]]\nname = "{number}"\nadapter = "a"\npython = "{python}"\n'
            for number, python in enumerate(pythons)
        )
    )
    before = everything_in(config.parent)
    status, lines, err = finished(setup_python(config))
    assert (status, lines) == (1, [])
    assert everything_in(config.parent) == before
    [line] = err.splitlines()
    return line


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["snake", "python3.8", "python3.99", "python2"])
def test_a_name_that_venv_does_not_make(tmp_path: Path, name: str) -> None:
    said = refused(tmp_path / "pools.toml", "first/bin/python", f"env/bin/{name}")
    assert f"has an interpreter called {name}: " in said
    assert f"name {tmp_path}/env/bin/python (there will be python python3 " in said


def test_a_folder_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "system" / "bin").mkdir(parents=True)
    (tmp_path / "system" / "bin" / "tool").touch()
    (tmp_path / "link").symlink_to("system")
    for folder in ("system", "link"):
        said = refused(tmp_path / "pools.toml", "first/bin/python", f"{folder}/bin/python")
        assert f"{tmp_path}/{folder} is no virtual environment, and is not empty" in said
        assert "name an interpreter that exists, or one in a folder that does not" in said


def test_an_environment_that_is_there_is_not_made_over(tmp_path: Path) -> None:
    """With another Python, that would leave neither's."""
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "env" / "bin" / "python").symlink_to(sys.executable)
    said = refused(tmp_path / "pools.toml", "env/bin/python3")
    assert "is an environment already, and has no python3: " in said
    assert f"name what is there ({tmp_path}/env/bin/python), or remove {tmp_path}/env" in said
    (tmp_path / "env" / "bin" / "python").unlink()
    (tmp_path / "env" / "bin" / "python").symlink_to(tmp_path / "gone")
    said = refused(tmp_path / "pools.toml", "env/bin/python")
    assert f"is a link to a Python that is gone: remove {tmp_path}/env, and" in said


def test_an_empty_folder_becomes_an_environment(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    config = tmp_path / "pools.toml"
    config.write_text(POOL.format("one"))
    status, lines, err = finished(setup_python(config))
    assert (status, err, lines[-1]) == (0, "", str(tmp_path / "one" / "bin" / "python"))


def test_something_else_than_a_python_makes_no_environment(tmp_path: Path) -> None:
    config = tmp_path / "pools.toml"
    config.write_text(POOL.format("one"))
    status, lines, err = finished(setup_python(config, PYTHON="/bin/false"))
    assert (status, lines) == (1, [])
    assert err.startswith("setup_python: /bin/false does not run as a Python 3.9 or newer: ")
    assert not (tmp_path / "one").exists()


def test_an_interpreter_is_verified(free_threaded_python: str) -> None:
    ran = subprocess.run(
        [SCRIPTS / "verify_python", "--free-threaded", free_threaded_python],
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert lines[0] == free_threaded_python
    assert lines[1].endswith(", free-threaded")
    assert "two threads do" in lines[3]


def test_one_whose_gil_is_on_does_not_pass_for_free_threaded() -> None:
    ran = subprocess.run(
        [SCRIPTS / "verify_python", "--free-threaded", sys.executable],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1
    assert "has a GIL" in ran.stdout
    assert ran.stderr == f"verify_python: the GIL of {sys.executable} is on\n"


@pytest.mark.parametrize("says", ["3.8.18", "oh no"])
def test_interpreters_that_run_no_worker(tmp_path: Path, says: str) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] || exec >&2\necho {says}\n')
    python.chmod(0o755)
    ran = subprocess.run([SCRIPTS / "verify_python", python], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (1, "")
    what, *said, next = ran.stderr.splitlines()
    if says == "3.8.18":
        assert what == f"verify_python: {python} is Python 3.8.18; a worker needs 3.9 or newer"
        assert said == []
    else:
        assert what.startswith(f"verify_python: {python} is no Python that works: ")
        assert said == ["verify_python: oh no"]
    assert next.startswith("verify_python: give it the path of a Python 3.9 or newer")


# A machine's apt files, and what is made of them for another release.
LISTS = """
deb http://mirror.example/debian bookworm main contrib
deb [signed-by=/k.gpg] http://mirror.example/debian bookworm-updates main
deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian bookworm main
deb http://other.example/cloud cloud-bookworm main
"""
SOURCES = """
# comment
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /k.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""


def test_source_lists_follow_the_machines_own(tmp_path: Path) -> None:
    apt = tmp_path / "apt"
    (apt / "sources.list.d").mkdir(parents=True)
    (apt / "sources.list").write_text(LISTS)
    (apt / "sources.list.d" / "debian.sources").write_text(SOURCES)
    made = tmp_path / "made"
    made.mkdir()
    script = f'. "{SCRIPTS}/setup_files/source_python.sh"; source_lists "{apt}" bookworm trixie .'
    subprocess.run(["bash", "-euc", script], check=True, cwd=made)
    assert (made / "machine.list").read_text().splitlines() == [
        "deb-src [signed-by=/k.gpg arch=amd64] http://mirror.example/debian trixie main",
        "deb-src http://mirror.example/debian trixie main contrib",
    ]
    assert (made / "machine.sources").read_text().split("\n\n")[0].splitlines() == [
        "Types: deb-src",
        "URIs: http://mirror.example/debian",
        "Suites: trixie",
        "Components: main",
        "Signed-By: /k.gpg",
    ]
    assert "security" not in (made / "machine.sources").read_text()
