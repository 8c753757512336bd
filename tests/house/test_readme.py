"""Everything README.md shows is tried.

The info string of each fenced block says how:

    bash help             every line is run from the root with --help appended
    bash run              run in the folder of the README's adapters and configurations
    python adapter=NAME   NAME.py of that folder; it must compile
    toml config=FILE      FILE of that folder; it must load
    elixir run            run in that folder, with the bridge on the code path
    text                  nothing to try
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from checkout import ROOT

from snakepit_port.config import load_toml

EBIN = ROOT / "elixir_bridge/_build/dev/lib/snakepit_port/ebin"
FENCE = re.compile(r"^ *(`{3,}|~{3,})[ \t]*(.*)$")
KNOWN = re.compile(r"bash help|bash run|python adapter=\w+|toml config=[\w.-]+|elixir run|text")


class Block(NamedTuple):
    line: int
    info: str
    text: str

    @property
    def name(self) -> str:
        return self.info.partition("=")[2]


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a Markdown text. Raises ValueError if one is not closed."""
    found, start, fence, info, body = [], 0, "", "", list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        match = FENCE.match(line)
        if not fence and match:
            start, fence, info, body = number, match[1], match[2].strip(), []
        elif fence and match and match[1].startswith(fence) and not match[2]:
            found.append(Block(start, info, "".join(f"{line}\n" for line in body)))
            fence = ""
        else:
            body.append(line)
    if fence:
        raise ValueError(f"the block that starts in line {start} does not end")
    return found


def unknown(found: list[Block]) -> list[str]:
    return [f"line {b.line}: {b.info!r}" for b in found if not KNOWN.fullmatch(b.info)]


def readme(kind: str = "") -> list[Block]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [block for block in blocks(text) if block.info.startswith(kind)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All adapters and configurations of the README, side by side."""
    folder = tmp_path_factory.mktemp("readme")
    for block in readme("python adapter="):
        (folder / f"{block.name}.py").write_text(block.text, encoding="utf-8")
    for block in readme("toml config="):
        (folder / block.name).write_text(block.text, encoding="utf-8")
    return folder


def run(command: list[str], cwd: Path, line: int) -> None:
    """Runs what a block says, with this interpreter's programs first on PATH."""
    bin = Path(sys.executable).parent
    env = {
        "LC_ALL": "C.UTF-8",
        **os.environ,
        "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}",
        "SNAKEPIT_PORT_PYTHON": sys.executable,
    }
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"README.md, line {line}: {shlex.join(command)}\n{done.stdout}"


def test_every_block_says_how_it_is_tried() -> None:
    assert unknown(readme()) == []


def test_no_two_blocks_are_the_same_file() -> None:
    names = [block.info for block in readme() if block.name]
    assert sorted(set(names)) == sorted(names)


def test_commands_exist() -> None:
    for block in readme("bash help"):
        for line in block.text.splitlines():
            if words := shlex.split(line, comments=True):
                run([*words, "--help"], ROOT, block.line)


def test_commands_run(folder: Path) -> None:
    for block in readme("bash run"):
        run(["bash", "-euo", "pipefail", "-c", block.text], folder, block.line)


def test_adapters_compile() -> None:
    for block in readme("python adapter="):
        compile(block.text, f"README.md, line {block.line}", "exec")


def test_configurations_load(folder: Path) -> None:
    for block in readme("toml config="):
        load_toml(folder / block.name)


def test_elixir_programs_run(folder: Path) -> None:
    for block in readme("elixir run"):
        program = folder / f"line_{block.line}.exs"
        program.write_text(block.text, encoding="utf-8")
        run(["elixir", "-pa", str(EBIN), program.name], folder, block.line)


def test_blocks_are_found_and_unknown_ones_are_named() -> None:
    text = "```bash help\nls\n```\n\n~~~~\n```\n~~~~\n```toml config=a.toml\n```\n"
    found = blocks(text)
    assert found == [
        Block(1, "bash help", "ls\n"),
        Block(5, "", "```\n"),
        Block(8, "toml config=a.toml", ""),
    ]
    assert unknown(found) == ["line 5: ''"]
    assert found[2].name == "a.toml"


def test_a_block_that_does_not_end_is_refused() -> None:
    with pytest.raises(ValueError, match="starts in line 2"):
        blocks("words\n```text\nmore words\n")


def test_a_command_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="line 7"):
        run(["bash", "-c", "exit 3"], tmp_path, 7)
