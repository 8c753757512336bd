"""Everything that pages for users show is tried, and what they point to exists.

The info string of each fenced block says how:

    bash help             every line is run from the root with --help appended
    bash run              run in the folder of the page's adapters, configurations, programs; in a
                          shell that was given the line that scripts/setup ends with
    bash run elixir       the same, where there is Elixir
    python adapter=NAME   NAME.py of that folder; it must compile
    toml config=FILE      FILE of that folder; it must load
    elixir file=FILE      FILE of that folder; a "bash run elixir" block must run it
    text                  nothing to try
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from checkout import ROOT

from snakepit_port import adapter
from snakepit_port.config import load_toml

PAGES = ["README.md", "snakepit_port/ADAPTERS.md"]

#: Where Elixir finds the bridge.
ERL_LIBS = ROOT / "elixir_bridge/_build/dev/lib"

FENCE = re.compile(r"^ *(`{3,}|~{3,})[ \t]*(.*)$")
KNOWN = re.compile(
    r"bash help|bash run( elixir)?|python adapter=\w+|toml config=[\w.-]+|elixir file=[\w.-]+|text"
)


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


def shown(page: str, kind: str = "") -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [block for block in blocks(text) if block.info.startswith(kind)]


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All adapters, configurations and programs of the page, side by side."""
    folder = tmp_path_factory.mktemp("page")
    for block in shown(page, "python adapter="):
        (folder / f"{block.name}.py").write_text(block.text, encoding="utf-8")
    for block in [*shown(page, "toml config="), *shown(page, "elixir file=")]:
        (folder / block.name).write_text(block.text, encoding="utf-8")
    return folder


def run(command: list[str], cwd: Path, where: str) -> None:
    """Runs what a block says, with this interpreter's programs first on PATH."""
    bin = Path(sys.executable).parent
    env = {
        "LC_ALL": "C.UTF-8",
        **os.environ,
        "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}",
        "ERL_LIBS": str(ERL_LIBS),
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
    assert done.returncode == 0, f"{where}: {shlex.join(command)}\n{done.stdout}"


def run_block(page: str, block: Block, folder: Path) -> None:
    run(["bash", "-euo", "pipefail", "-c", block.text], folder, f"{page}, line {block.line}")


def test_every_block_says_how_it_is_tried(page: str) -> None:
    assert unknown(shown(page)) == []


def test_no_two_blocks_are_the_same_file(page: str) -> None:
    names = [block.info for block in shown(page) if block.name]
    assert sorted(set(names)) == sorted(names)


def test_commands_exist(page: str) -> None:
    for block in shown(page, "bash help"):
        for line in block.text.splitlines():
            if words := shlex.split(line, comments=True):
                run([*words, "--help"], ROOT, f"{page}, line {block.line}")


def test_commands_run(page: str, folder: Path) -> None:
    for block in shown(page, "bash run"):
        if block.info == "bash run":
            run_block(page, block, folder)


def test_adapters_compile(page: str) -> None:
    for block in shown(page, "python adapter="):
        compile(block.text, f"{page}, line {block.line}", "exec")


def test_configurations_load(page: str, folder: Path) -> None:
    for block in shown(page, "toml config="):
        load_toml(folder / block.name)


def test_elixir_programs_run(page: str, folder: Path) -> None:
    running = shown(page, "bash run elixir")
    for block in running:
        run_block(page, block, folder)
    for program in shown(page, "elixir file="):
        assert any(program.name in block.text for block in running), program.name


# -- what pages point to ---------------------------------------------------------------------------

LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
PLAIN_PAGE = re.compile(r"(?<!\[)`[\w/]+\.md`")


def prose(text: str) -> str:
    """A Markdown text without its fenced blocks."""
    lines, fence = list[str](), ""
    for line in text.splitlines():
        match = FENCE.match(line)
        if match and not fence:
            fence = match[1]
        elif match and match[1].startswith(fence) and not match[2]:
            fence = ""
        elif not fence:
            lines.append(line)
    return "\n".join(lines)


def anchors(text: str) -> set[str]:
    """What a link may name in a Markdown text, as GitHub makes it of headings."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in HEADING.findall(prose(text))
    }


def dead_links(text: str, folder: Path) -> list[str]:
    """The links of a page in a folder that lead nowhere; only those to files are looked at."""
    found = []
    for link in LINK.findall(prose(text)):
        name, _, anchor = link.partition("#")
        if ":" in name:
            continue
        target = folder / name
        if not target.exists() or (
            anchor and anchor not in anchors(target.read_text(encoding="utf-8") if name else text)
        ):
            found.append(link)
    return found


def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert dead_links(text, (ROOT / page).parent) == []


def test_pages_are_named_by_links(page: str) -> None:
    assert PLAIN_PAGE.findall(prose((ROOT / page).read_text(encoding="utf-8"))) == []


def test_the_guide_for_adapters_has_all_that_they_may_use() -> None:
    names = {
        name
        for name, value in vars(adapter).items()
        if getattr(value, "__module__", "") == adapter.__name__ and not name.startswith("_")
    }
    names |= inspect.signature(adapter.command).parameters.keys() - {"function"}
    assert {"command", "CallCancelled", "attempt", "zero_copy"} <= names
    names |= {"health", "close", "thread_safe", "adapter_args", "async def"}
    text = (ROOT / "snakepit_port/ADAPTERS.md").read_text(encoding="utf-8")
    missing = {name for name in names if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", text)}
    assert missing == set()


def test_dead_links_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# `one` Two\n```text\n# three\n```\n## 4. Five, six\n")
    links = ["a.md", "a.md#one-two", "a.md#4-five-six", "#here", "https://x.example/b.md"]
    dead = ["b.md", "a.md#three", "#there"]
    text = "# Here\n" + " ".join(f"[x]({link})" for link in [*links, *dead])
    assert dead_links(f"{text}\n~~~\n[x](c.md)\n~~~\n", tmp_path) == dead
    assert PLAIN_PAGE.findall("`a/B.md` and [`C.md`](C.md)") == ["`a/B.md`"]


# -- how blocks are read ---------------------------------------------------------------------------


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
        run(["bash", "-c", "exit 3"], tmp_path, "README.md, line 7")
