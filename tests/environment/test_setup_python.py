"""The scripts that make interpreters, and look at them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from snakepit_port.environment import look_at

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"

POOL = '[[pools]]\nname = "{0}"\nadapter = "a"\npython = "{0}/bin/python"\n'


def setup_python(*args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [SCRIPTS / "setup_python", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHON": sys.executable},
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
    ]
    for name in ("one", "deep/two"):
        assert look_at(f"{tmp_path}/{name}/bin/python").virtual_environment == f"{tmp_path}/{name}"


def test_an_environment_without_a_gil(tmp_path: Path, free_threaded_python: str) -> None:
    config = tmp_path / "pools.toml"
    config.write_text(POOL.format("free"))
    status, lines, err = finished(setup_python("--free-threaded", config))
    assert (status, err) == (0, "")
    assert lines[-1] == str(tmp_path / "free/bin/python")
    assert not look_at(lines[-1]).gil_enabled


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


def test_a_name_that_venv_does_not_make(tmp_path: Path) -> None:
    path = tmp_path / "pools.toml"
    path.write_text('[[pools]]\nname = "a"\nadapter = "a"\npython = "env/bin/snake"\n')
    status, _, err = finished(setup_python(path))
    assert status == 1
    assert "has no snake" in err


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
