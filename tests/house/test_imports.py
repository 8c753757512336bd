"""Which room of the package may import which: so decisions stay pure, and workers bare."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from checkout import PACKAGE, ROOT

OUTSIDE = ("processes", "wire", "bulk", "config", "harness", "term_json", "testing")

#: Room -> what it may import of ours, by the start of the name; "" is the package's own name.
ALLOWED = {
    "printable": (),
    "processes": ("printable",),
    "wire": ("wire",),
    "bulk": ("wire", "bulk"),
    "adapter": ("", "wire", "adapter", "worker"),
    "logs": (),
    "worker": ("", "wire", "bulk", "adapter", "worker"),
    "config": ("", "config"),
    "environment": ("", "environment", "worker.boot", "worker.linux"),
    "pool": ("", "pool", "config.model"),
    "supervisor": (
        *("", "supervisor", "wire", "bulk", "config", "environment", "pool", "worker", "adapter"),
        *("processes", "printable"),
    ),
    "harness": ("", *OUTSIDE),
    "testing": ("", *OUTSIDE),
    "term_json": ("", *OUTSIDE),
    "cli": ("", "cli", "environment", "supervisor", "printable", *OUTSIDE),
    "__main__": ("cli",),
    "__init__": (),
}

#: What runs in a user's own environment has nothing installed there; erlpack may happen to be.
BARE = ("__init__", "wire", "bulk", "worker", "adapter", "logs")

#: A pool neither acts nor knows the time.
IMPURE = {
    *("asyncio", "os", "select", "selectors", "signal", "socket", "subprocess", "threading"),
    *("time", "trio"),
}


def room_of(path: Path) -> str:
    """The room of a file of the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(source: str, package: str) -> set[str]:
    """Names of the modules that a source imports anywhere; `package` is what dots start from."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            found |= {submodule(base, alias.name) for alias in node.names}
    return found


def submodule(base: str, name: str) -> str:
    """`from base import name` names a module of ours, or something in one."""
    path = ROOT.joinpath(*base.split("."), name)
    ours = base.split(".")[0] == PACKAGE.name
    return (
        f"{base}.{name}" if ours and (path.is_dir() or path.with_suffix(".py").is_file()) else base
    )


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    package = ".".join(path.relative_to(ROOT).parent.parts)
    return imports(path.read_text(encoding="utf-8"), package)


def forbidden(room: str, module: str) -> bool:
    """Whether a room must not import a module of ours."""
    name = module.removeprefix(PACKAGE.name).removeprefix(".")
    return not any(
        name == start or (start and name.startswith(f"{start}.")) for start in ALLOWED[room]
    )


def test_rooms_import_only_what_they_may() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files()
        for module in sorted(imports_of(path))
        if module.split(".")[0] == PACKAGE.name and forbidden(room_of(path), module)
    ]
    assert wrong == []


def test_what_runs_in_workers_needs_the_standard_library_only() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files()
        if room_of(path) in BARE
        for module in sorted(imports_of(path))
        if module.split(".")[0] not in {*sys.stdlib_module_names, PACKAGE.name, "erlpack"}
    ]
    assert wrong == []


def test_pools_neither_act_nor_know_the_time() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files()
        if room_of(path) == "pool"
        for module in sorted(imports_of(path))
        if module.split(".")[0] in IMPURE
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("room", "source", "caught"),
    [
        ("wire", "import snakepit_port.config", True),
        ("wire", "from snakepit_port import __version__", True),
        ("wire", "from . import framing", False),
        ("pool", "from snakepit_port.config import PoolSettings", True),
        ("pool", "from snakepit_port.config.model import PoolSettings", False),
        ("pool", "from ..wire import messages", True),
        ("harness", "def late():\n    from snakepit_port import supervisor", True),
        ("harness", "from snakepit_port.harness.link import Link", False),
        ("cli", "from snakepit_port import supervisor", False),
    ],
)
def test_the_rule_itself(room: str, source: str, caught: bool) -> None:
    found = imports(source, f"snakepit_port.{room}")
    assert any(forbidden(room, module) for module in found) is caught
