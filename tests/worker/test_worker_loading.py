"""What an adapter's commands are, and what is said of one that has a mistake in it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snakepit_port.worker.loading import Adapter, LoadError

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules, which are importable and forgotten when the test is over."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"from snakepit_port.adapter import command\n{text}", encoding="utf-8")

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refused(name: str) -> str:
    """What is said of an adapter that cannot serve."""
    with pytest.raises(LoadError) as caught:
        Adapter(name, [], [], [])
    assert caught.value.error["type"] == "pool_unavailable"
    return str(caught.value)


# -- commands of one name --------------------------------------------------------------------------

ADD_AND_PLUS = """
@command
def add(a, b): return a + b
@command(name="add")
def plus(a, b): return a - b
"""


def test_two_commands_of_one_name_are_refused(write: Write) -> None:
    write("hello.py", ADD_AND_PLUS)
    assert refused("hello") == (
        "adapter hello has two commands named add: the functions add and plus; give one of them"
        ' another name, as in @command(name="other")'
    )


def methods(text: str) -> str:
    return text.replace("(a, b)", "(self, a, b)").strip().replace("\n", "\n    ")


@pytest.mark.parametrize(
    "text",
    [
        f"class Adder:\n    {methods(ADD_AND_PLUS)}",
        # Both can be called, so this does not override.
        f"class Base:\n    {methods(ADD_AND_PLUS.partition('@command(')[0])}\n"
        'class Adder(Base):\n    @command(name="add")\n    def plus(self, a, b): pass',
        # One function, of two objects.
        "class Part:\n    @command\n    def add(self, a, b): pass\n"
        "class Adder:\n    def __init__(self): self.one, self.other = Part().add, Part().add",
    ],
)
def test_two_methods_of_one_name_are_refused(write: Write, text: str) -> None:
    write("hello.py", text)
    assert "has two commands named add: the functions" in refused("hello:Adder")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hello", "@command\ndef add(a, b): return a + b\nplus = add"),
        ("hello", '@command(name="add")\ndef plus(a, b): return a + b\nalso = plus'),
        (
            "hello:Adder",
            "class Base:\n    @command\n    def add(self, a, b): pass\n"
            "class Adder(Base):\n    @command\n    def add(self, a, b): return a + b",
        ),
        (
            "hello:Adder",
            "class Adder:\n    @command\n    def add(self, a, b): return a + b\n    x = add",
        ),
        (
            "hello:Adder",
            "class Adder:\n    def __init__(self): self.first = self.add\n"
            "    @command\n    def add(self, a, b): return a + b",
        ),
        (
            "hello:Adder",
            "class Adder:\n    @classmethod\n    @command\n    def add(cls, a, b): return a + b\n"
            "    x = add",
        ),
        # What functools.wraps has made of a command has its mark, too.
        (
            "hello",
            "import functools\n@command\ndef add(a, b): return a + b\n"
            "@functools.wraps(add)\ndef timed(a, b): raise AssertionError",
        ),
        (
            "hello",
            "import functools\n@command\ndef add(a, b): return a + b\nplain = add\n"
            "@functools.wraps(plain)\ndef add(a, b): return plain(a, b)",
        ),
    ],
)
def test_one_function_that_is_found_twice_is_one_command(
    write: Write, name: str, text: str
) -> None:
    write("hello.py", text)
    adapter = Adapter(name, [], [], [])
    assert list(adapter.commands) == ["add"]
    assert adapter.commands["add"](1, 2) == 3


def test_wrappers_of_which_none_has_the_functions_name_are_refused(write: Write) -> None:
    text = "import functools\n@command\ndef add(a, b): pass\none = functools.lru_cache(add)\n"
    write("hello.py", f"{text}other = functools.lru_cache(add)\ndel add")
    assert "the functions one and other" in refused("hello")
