"""Small rules of the house that nobody remembers to check by eye."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from checkout import PACKAGE, ROOT, tracked

from snakepit_port import __version__

TOP_LEVEL = {
    *("pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE"),
    *("protocol", "snakepit_port", "elixir_bridge", "tests", "scripts"),
    *(".ci", ".gitignore", ".gitattributes", ".editorconfig"),
}

# Put together here, so that this file does not hold what it looks for.
REGISTRIES = re.compile("|".join(rf"{name}\.{end}\b" for name, end in (
    ("pypi", "org"), ("pythonhosted", "org"), ("hex", "pm"), ("proxy.golang", "org"),
)))  # fmt: skip
PRIVATE_PATHS = re.compile(r"(?<![\w.})-])/(?:work|root)\b")

SLEEPERS = {"time", "trio", "asyncio", "anyio"}
ELIXIR_SLEEP = re.compile(r"\bProcess\.sleep\b|:timer\.sleep\b|\bmonotonic_time\(")


def test_the_top_level_holds_what_the_design_names() -> None:
    assert {name.parts[0] for name in tracked()} - TOP_LEVEL == set()


def test_no_module_is_called_utils() -> None:
    assert [name for name in tracked() if name.stem in ("util", "utils")] == []


@pytest.mark.parametrize("pattern", [REGISTRIES, PRIVATE_PATHS])
def test_files_name_no_registry_and_no_path_of_a_private_machine(pattern: re.Pattern[str]) -> None:
    wrong = [
        f"{name}:{number}: {line.strip()}"
        for name in tracked()
        for number, line in enumerate(
            (ROOT / name).read_text(encoding="utf-8", errors="replace").splitlines(), 1
        )
        if pattern.search(line)
    ]
    assert wrong == []


def packages() -> list[Path]:
    """All but the command line, whose modules are its commands."""
    return sorted(
        path.parent for path in PACKAGE.glob("*/__init__.py") if path.parent.name != "cli"
    )


@pytest.mark.parametrize("package", packages(), ids=lambda path: path.name)
def test_a_package_says_what_each_of_its_modules_is_for(package: Path) -> None:
    said = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8")))
    listed = re.findall(r"^ *(\w+\.py) +\S", said or "", re.MULTILINE)
    modules = {path.name for path in package.glob("*.py")} - {"__init__.py"}
    assert sorted(listed) == sorted(modules)


def sleeps(source: str) -> list[int]:
    """Lines of a source that sleep: not by the autojump clock, nor for ever."""
    found: list[int] = []

    def visit(node: ast.AST, jumps: bool) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            jumps = jumps or any(arg.arg == "autojump_clock" for arg in node.args.args)
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in SLEEPERS
            and node.attr in ("sleep", "sleep_until")
            and not (jumps and node.value.id == "trio")
        ):
            found.append(node.lineno)
        if isinstance(node, ast.ImportFrom) and node.module in SLEEPERS:
            found.extend(node.lineno for alias in node.names if alias.name.startswith("sleep"))
        for child in ast.iter_child_nodes(node):
            visit(child, jumps)

    visit(ast.parse(source), jumps=False)
    return found


def test_tests_do_not_sleep() -> None:
    wrong = []
    for name in tracked():
        if name.parts[0] == "tests" and name.suffix == ".py":
            source = (ROOT / name).read_text(encoding="utf-8")
            wrong += [f"{name}:{line}" for line in sleeps(source)]
        if name.parts[:2] == ("elixir_bridge", "test") and name.suffix in (".ex", ".exs"):
            lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
            wrong += [f"{name}:{n}" for n, line in enumerate(lines, 1) if ELIXIR_SLEEP.search(line)]
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ("import time\ntime.sleep(1)", True),
        ("from time import sleep", True),
        ("async def test_a():\n    await trio.sleep(1)", True),
        ("async def test_a(autojump_clock):\n    await trio.sleep(1)", False),
        ("async def test_a(autojump_clock):\n    time.sleep(1)", True),
        ("async def test_a():\n    await trio.sleep_forever()", False),
    ],
)
def test_the_rule_about_sleep(source: str, caught: bool) -> None:
    assert bool(sleeps(source)) is caught


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    mix = re.search(
        r'^\s*version: "([^"]+)"',
        (ROOT / "elixir_bridge/mix.exs").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert mix is not None
    assert {project["version"], mix[1]} == {__version__}


def test_what_stands_in_the_package_is_installed_with_it() -> None:
    """The guide and the reference, too: error messages and docstrings name them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"][PACKAGE.name]
    shipped = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    there = {ROOT / name for name in tracked() if name.parts[0] == PACKAGE.name}
    assert {path for path in there if path.suffix != ".py"} == shipped


def test_the_licence_is_told_as_packages_tell_it() -> None:
    """A table in its place is deprecated, and setuptools knows the other way since version 77."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert told["build-system"]["requires"] == ["setuptools>=77"]
    assert told["project"]["license"] == "MIT"
    assert [(ROOT / name).is_file() for name in told["project"]["license-files"]] == [True]


def test_a_source_distribution_has_the_tests_and_what_they_read() -> None:
    lines = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    held = {name for line in lines if not line.startswith("#") for name in line.split()[1:]}
    assert {"CHANGELOG.md", "protocol", "tests"} <= held


def scripts() -> list[Path]:
    return sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.name)
def test_scripts_explain_themselves(script: Path) -> None:
    assert os.access(script, os.X_OK)
    shown = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "usage:" in shown.stdout.lower()
