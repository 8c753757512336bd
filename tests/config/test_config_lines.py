"""The lines on which the values of a TOML text are set."""

from __future__ import annotations

import json
from typing import Any

import tomlkit
from config_trees import few, quick, texts, trees
from hypothesis import given
from hypothesis import strategies as st

from snakepit_port.config.lines import lines_of
from snakepit_port.config.report import Path

TEXT = (
    r'''# a comment with [brackets] = "and quotes
top = 1
a . "b c" . 'd.e' = 2
when = 1979-05-27 07:32:00 # a space in a value

[supervisor] # not [[pools]]
text = """
not_a_key = 1
\""" [nor.a.table] ""
"""""
raw = '''
    + "'''\n[x]\ny = 1'''''"
    + r"""
after = "a # b \" ]"

[[pools]]
name = 'default'
env.A = 1
env.B = { x = 1, y = [ 1, { z = 2 } ] }

[pools.more.deeper]
inner = 1

[[pools]]
paths = [ # [
  "lib", "two",

  # "three"
  [ 3,
    4 ],
]
table = {
  multi = 1,
  line = 2 }

[[pools.sub]]
one = 1
[[pools.sub]]
two = 2
[profiles."g p.u"]
kind = 1
[late]
"caf\u00e9" = 1
"""
)

LINES: dict[Path, int] = {
    ("top",): 2,
    ("a",): 3,
    ("a", "b c"): 3,
    ("a", "b c", "d.e"): 3,
    ("when",): 4,
    ("supervisor",): 6,
    ("supervisor", "text"): 7,
    ("supervisor", "raw"): 11,
    ("supervisor", "after"): 14,
    ("pools",): 16,
    ("pools", 0): 16,
    ("pools", 0, "name"): 17,
    ("pools", 0, "env"): 18,
    ("pools", 0, "env", "A"): 18,
    ("pools", 0, "env", "B"): 19,
    ("pools", 0, "env", "B", "x"): 19,
    ("pools", 0, "env", "B", "y"): 19,
    ("pools", 0, "env", "B", "y", 0): 19,
    ("pools", 0, "env", "B", "y", 1): 19,
    ("pools", 0, "env", "B", "y", 1, "z"): 19,
    ("pools", 0, "more"): 21,
    ("pools", 0, "more", "deeper"): 21,
    ("pools", 0, "more", "deeper", "inner"): 22,
    ("pools", 1): 24,
    ("pools", 1, "paths"): 25,
    ("pools", 1, "paths", 0): 26,
    ("pools", 1, "paths", 1): 26,
    ("pools", 1, "paths", 2): 29,
    ("pools", 1, "paths", 2, 0): 29,
    ("pools", 1, "paths", 2, 1): 30,
    ("pools", 1, "table"): 32,
    ("pools", 1, "table", "multi"): 33,
    ("pools", 1, "table", "line"): 34,
    ("pools", 1, "sub"): 36,
    ("pools", 1, "sub", 0): 36,
    ("pools", 1, "sub", 0, "one"): 37,
    ("pools", 1, "sub", 1): 38,
    ("pools", 1, "sub", 1, "two"): 39,
    ("profiles",): 40,
    ("profiles", "g p.u"): 40,
    ("profiles", "g p.u", "kind"): 41,
    ("late",): 42,
    ("late", "café"): 43,
}


def paths_of(value: Any, path: Path = ()) -> list[Path]:
    """Every path in a plain tree."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    return [
        found for key, inner in items for found in [(*path, key), *paths_of(inner, (*path, key))]
    ]


def test_every_form_of_value() -> None:
    assert lines_of(TEXT) == LINES
    # The expectations are about the text as the parser reads it.
    assert set(LINES) == set(paths_of(tomlkit.parse(TEXT).unwrap()))


def test_windows_line_ends() -> None:
    assert lines_of(TEXT.replace("\n", "\r\n")) == LINES


@few
@given(trees())
def test_every_path_of_a_configuration_has_a_line(tree: dict[str, Any]) -> None:
    text = tomlkit.dumps(tree)
    lines = lines_of(text)
    assert set(lines) == set(paths_of(tomlkit.parse(text).unwrap()))
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


# What can stand in the way on a line of its own, each with the number of lines it takes.
tricky = st.text("\"'\\[]{}=#,\n a", max_size=12)


@quick
@given(st.lists(tricky | texts.filter(lambda text: "\r" not in text), max_size=6))
def test_strings_do_not_confuse_the_walk(strings: list[str]) -> None:
    """Each string once as a key, and once as a basic, a multi-line and a literal value."""
    written: list[str] = []
    expected: dict[Path, int] = {}
    line = 1

    def add(key: str, value: str) -> None:
        nonlocal line
        expected[(key,)] = line
        entry = f"{json.dumps(key).replace(chr(127), '?')} = {value}\n"
        line += entry.count("\n")
        written.append(entry)

    for number, text in enumerate(strings):
        plain = "".join(letter for letter in text if letter == "\n" or letter.isprintable())
        escaped = json.dumps(plain, ensure_ascii=False)[1:-1]
        key = f"{number} {plain}"
        if key.isascii():
            add(key, "1")
        add(f"basic {number}", f'"{escaped}"')
        add(f"multi {number}", f'"""\n{escaped.replace(chr(92) + "n", chr(10))}"""')
        literal = plain.replace("'", "").replace("\n", " ")
        add(f"literal {number}", f"'{literal}'")
        add(f"lines {number}", f"'''{plain.replace(chr(39), '')}'''")
    text = "".join(written)
    assert {(key,) for key in tomlkit.parse(text).unwrap()} == set(expected)
    assert lines_of(text) == expected
