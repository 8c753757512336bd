"""What scripts/setup says when it is done, in a checkout where nothing is left for it to do; and
how scripts find their checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout, with a blank in its name, whose environment and bridge are made."""
    tree = tmp_path / "a checkout"
    shutil.copytree(ROOT / "scripts", tree / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tree)
    bin = tree / ".venv" / "bin"
    bin.mkdir(parents=True)
    for name in ("python", "snakepit-port"):
        (bin / name).symlink_to(Path(sys.executable).with_name(name))
    stamp = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    (tree / ".venv" / ".setup-stamp").write_text(f"{stamp}  -\n")
    bridge = tree / "elixir_bridge"
    (bridge / "lib").mkdir(parents=True)
    (bridge / "mix.exs").touch()
    (bridge / "_build/dev/lib/snakepit_port/ebin").mkdir(parents=True)
    # Compiles nothing, and says so.
    (tmp_path / "mix").write_text("#!/bin/sh\n")
    (tmp_path / "mix").chmod(0o755)
    return tree


def setup(tree: Path, *options: str, script: str = "scripts/setup") -> list[str]:
    ran = subprocess.run(
        [script, *options],
        capture_output=True,
        text=True,
        cwd=tree,
        env={
            **os.environ,
            "PATH": f"{tree.parent}{os.pathsep}{os.environ['PATH']}",
            # `cd` looks there first, and then prints where it went.
            "CDPATH": str(ROOT),
        },
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return [line for line in ran.stdout.splitlines() if line != "setup: compiling elixir_bridge"]


def in_a_shell(line: str, command: str) -> str:
    """What a command says in a shell, anywhere, that was given the line."""
    ran = subprocess.run(
        ["bash", "-euc", f"{line}\n{command}"], capture_output=True, text=True, cwd="/"
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.strip()


def test_it_says_how_a_shell_finds_everything(tree: Path) -> None:
    [line] = [line.strip() for line in setup(tree) if "export" in line]
    assert in_a_shell(line, "command -v snakepit-port") == f"{tree}/.venv/bin/snakepit-port"
    assert in_a_shell(line, 'ls "$ERL_LIBS"') == "snakepit_port"


def test_without_elixir_it_says_nothing_of_the_bridge(tree: Path) -> None:
    said = setup(tree, "--no-elixir")
    [line] = [line.strip() for line in said if "export" in line]
    assert in_a_shell(line, "command -v snakepit-port") == f"{tree}/.venv/bin/snakepit-port"
    assert "ERL_LIBS" not in "".join(said)


@pytest.mark.parametrize(
    ("link", "target", "script"),
    [("linked", "scripts", "linked/setup"), ("s", "scripts/setup", "./s")],
)
def test_it_may_be_reached_by_a_link(tree: Path, link: str, target: str, script: str) -> None:
    (tree / link).symlink_to(target)
    assert setup(tree, script=script) == setup(tree)


@pytest.mark.parametrize(
    "command",
    [
        ["bench", "--quick"],
        ["demo", "--host", "harness"],
        ["setup_python", "pools.toml"],
        ["soak"],
        ["test", "--python"],
        ["verify_python", "python3"],
    ],
    ids=lambda command: command[0],
)
def test_scripts_find_their_checkout(tree: Path, command: list[str]) -> None:
    script, *options = command
    shutil.rmtree(tree / ".venv")
    for other in (tree / "scripts").iterdir():
        if other.is_file() and other.name != script:
            other.write_text('#!/bin/sh\nrealpath "$0"\nexit 3\n')
    (tree / "a link").symlink_to(f"scripts/{script}")
    (tree / "pools.toml").write_text('[[pools]]\nname = "a"\nadapter = "a"\n')
    for way in (f"scripts/{script}", "./a link"):
        ran = subprocess.run(
            [way, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tree,
            env={**os.environ, "CDPATH": f"{ROOT}:{tree}"},
        )
        assert ran.returncode != 0
        assert f"{tree}/scripts/setup" in ran.stdout.splitlines()


def test_scripts_that_go_on_from_there_hear_nothing(tree: Path) -> None:
    assert setup(tree, "--quiet") == []
    for script in (ROOT / "scripts").iterdir():
        if script.is_file():
            text = script.read_text(encoding="utf-8")
            calls = text.count('/scripts/setup" ') + text.count("part . setup scripts/setup ")
            quiet = text.count('scripts/setup" --quiet') + text.count("scripts/setup --quiet")
            assert (script.name, quiet) == (script.name, calls)


def test_the_readme_shows_that_line(tree: Path) -> None:
    moved = tree.rename(tree.parent / "CHECKOUT")
    [line] = [line.strip() for line in setup(moved) if "export" in line]
    shown = line.replace(f"{moved.parent}/", "")
    assert f"\n{shown}\n" in (ROOT / "README.md").read_text(encoding="utf-8")
