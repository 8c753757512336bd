"""Writing a converted configuration as TOML: with the comments, order and spacing of the text it
was, where it was one, and a comment on every key that changed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import tomlkit
from tomlkit.container import Container
from tomlkit.items import AoT, Array, Comment, InlineTable, Table, Whitespace

from snakepit_port.config.dump import toml_item
from snakepit_port.config.kinds import INTEGERS
from snakepit_port.config.legacy import Conversion, Entry, Unset
from snakepit_port.config.report import Path

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

#: A string, in which there is no comment, or else a comment.
_COMMENT = re.compile(
    r""""{3}(?:\\.|[^\\])*?"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\])*"|'[^']*'|(\#[^\n]*)""", re.DOTALL
)

#: A comment that ends the line of an array's element.
_BEHIND = re.compile(r"[ \t]*,?[ \t]*(#[^\n]*)")

HEAD = "# Converted from a configuration of Snakepit."


@dataclass(slots=True)
class _Key:
    """How a key stands in the text: the lines before it, its value, the comment behind it."""

    before: list[str] = field(default_factory=list)
    text: str = ""
    comment: str = ""


def write(conversion: Conversion, source: str | None = None) -> str:
    """*conversion* as TOML text; *source* is the TOML text it was made from, if it was one."""
    paths = {entry.path for entry in conversion.entries}
    layout = _Layout(source or "", paths)
    page = _Page()
    for path, value, why in conversion.added:
        page.section(path).add(path[-1], _text(value), why)
    current: Path = ("pools", 0) if conversion.pools else ("supervisor",)
    for entry in conversion.entries:
        key = layout.keys.get(entry.path, _Key())
        current = _home(entry, current)
        if not entry.settings:
            page.section((*current, "")).leave_out(entry, key)
        why = entry.change.note if entry.change.outcome == "kept" else _why(entry)
        for number, (path, value) in enumerate(entry.settings):
            if value == {} and path[0] != "pools":
                page.section((*path, "")).say(key)
                continue
            stays = value is entry.value and key.text
            if number == 0 and not stays:
                key.before += _comments_of(key.text)
            text = key.text if stays else _text(value)
            page.section(path).add(path[-1], text, why, key if number == 0 else None)
    added = {path for path, _, _ in conversion.added}
    for unset in conversion.unset:
        if unset.path not in added:
            page.section(unset.path).note_unset(unset)
    head = layout.head if source is not None else [HEAD, ""]
    return page.text(head, layout.tail)


def _why(entry: Entry) -> str:
    was = f"was {entry.change.key}"
    return f"{was}: {entry.change.note}" if entry.change.note else was


def _home(entry: Entry, current: Path) -> Path:
    """The section in which an entry would be told of that is left out: its pool's, or *current*."""
    for part, index in zip(entry.path, entry.path[1:], strict=False):
        if part == "pools" and isinstance(index, int):
            return ("pools", index)
    return current


def _text(value: Any) -> str:
    return toml_item(value).as_string()


class _Section:
    """The lines of one table."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, name: str | int, text: str, why: str, key: _Key | None = None) -> None:
        self.lines += key.before if key is not None else []
        why = _plain(why)
        remarks = [why] if why else []
        if key is not None and key.comment:
            remarks.append(key.comment.removeprefix("#").strip())
        behind = f"  # {'; '.join(remarks)}" if remarks else ""
        if "\n" in text and why:
            self.lines.append(f"# {why}")
            behind = f"  {key.comment}" if key is not None and key.comment else ""
        self.lines += f"{tomlkit.key(str(name)).as_string()} = {text}{behind}".split("\n")

    def say(self, key: _Key) -> None:
        """What stands with a table that has no keys."""
        self.lines += [*key.before, *([key.comment] if key.comment else [])]

    def note_unset(self, unset: Unset) -> None:
        self.lines.append(f"# {unset.path[-1]} is {_plain(unset.change.meaning)}")

    def leave_out(self, entry: Entry, key: _Key) -> None:
        self.lines += key.before
        text = key.text or _shown(entry.value)
        behind = f"  {key.comment}" if key.comment else ""
        shown = f"{entry.change.key}{f' = {text}' if text else ''}{behind}"
        self.lines += [f"# {_plain(line)}".rstrip() for line in shown.split("\n")]
        self.lines.append(f"#   {_plain(entry.change.meaning)}")


def _plain(text: str) -> str:
    """*text* without the control characters that a comment must not have."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _shown(value: Any) -> str:
    """*value* as TOML for a comment, or nothing where it has no such form."""
    match value:
        case str():
            return _text(value.removeprefix("Elixir.")) if value.isprintable() else ""
        case bool():
            return _text(value)
        case int():
            return str(value) if value in INTEGERS else ""
        case (int(amount), str(unit)):
            return _text([amount, str(unit)])
    return ""


class _Page:
    """All sections, by path; a path that ends in an empty key is of the section itself."""

    def __init__(self) -> None:
        self._sections: dict[Path, _Section] = {}

    def section(self, path: Path) -> _Section:
        return self._sections.setdefault(path[:-1], _Section())

    def text(self, head: list[str], tail: list[str]) -> str:
        parts: list[str] = [*head]
        for path in sorted(self._sections, key=_order):
            if parts and parts[-1]:
                parts.append("")
            parts += [_header(path), *_trimmed(self._sections[path].lines)]
        if tail:
            parts += ["", *tail]
        return "\n".join([*parts, ""])


def _order(path: Path) -> tuple[Any, ...]:
    return (["supervisor", "profiles", "pools"].index(str(path[0])), *path[1:])


def _header(path: Path) -> str:
    if path[0] == "pools":
        return "[[pools]]"
    return f"[{'.'.join(tomlkit.key(str(part)).as_string() for part in path)}]"


def _trimmed(lines: list[str]) -> list[str]:
    start = next((index for index, line in enumerate(lines) if line), len(lines))
    end = len(lines)
    while end > start and not lines[end - 1]:
        end -= 1
    return lines[start:end]


class _Layout:
    """Where comments and spacing of a text belong, by the paths of the keys they stand with."""

    def __init__(self, source: str, paths: Collection[Path]) -> None:
        self.keys: dict[Path, _Key] = {}
        self._paths = paths
        self._pending: list[str] = []
        self._walk(tomlkit.parse(source.replace("\r\n", "\n")), ())
        self.tail = _trimmed(self._pending)
        self.head: list[str] = []
        first = next(iter(self.keys.values()), None)
        if first is not None and "" in first.before and any(first.before):
            # What an empty line parts from the first key is of the whole file.
            end = len(first.before) - first.before[::-1].index("")
            self.head, first.before = first.before[:end], first.before[end:]

    def _walk(self, container: Container, path: Path) -> None:
        for key, item in container.body:
            if key is None:
                self._blank(item)
                continue
            inner = (*path, key.key)
            if inner in self._paths:
                self._key(inner, item)
            elif isinstance(item, AoT):
                for index, table in enumerate(item.body):
                    self._header(table)
                    self._walk(table.value, (*inner, index))
            elif isinstance(item, Table | InlineTable):
                self._header(item)
                self._walk(item.value, inner)
            elif isinstance(item, Array):
                self._array(item, inner)

    def _array(self, array: Array, path: Path) -> None:
        """An array of inline tables; what stands behind one on its line is said before it."""
        text, end = array.as_string(), 0
        for index, table in enumerate(array):
            if isinstance(table, InlineTable):
                start = text.index(table.as_string(), end)
                self._pending += _comments_of(text[end:start])
                end = start + len(table.as_string())
                if behind := _BEHIND.match(text, end):
                    self._pending.append(behind[1].rstrip())
                    end = behind.end()
                self._walk(table.value, (*path, index))
        self._pending += _comments_of(text[end:])
        if array.trivia.comment:
            self._pending.append(array.trivia.comment)

    def _blank(self, item: Any) -> None:
        if isinstance(item, Comment):
            self._pending.append(item.as_string().strip())
        elif isinstance(item, Whitespace):
            self._pending += [""] * item.s.count("\n")

    def _header(self, table: Table | InlineTable) -> None:
        # A table that has no header of its own shares the comment of the one inside it.
        implied = isinstance(table, Table) and table.is_super_table()
        if table.trivia.comment and not implied:
            self._pending.append(table.trivia.comment)

    def _key(self, path: Path, item: Any) -> None:
        is_table = isinstance(item, Table | AoT)
        self._pending += _comments_in(item) if is_table else ()
        text = "" if is_table else item.as_string()
        self.keys[path] = _Key(self._pending, text, item.trivia.comment)
        self._pending = []


def _comments_of(text: str) -> list[str]:
    """The comments in the text of a value."""
    return [found[1].rstrip() for found in _COMMENT.finditer(text) if found[1]]


def _comments_in(item: Any) -> Iterator[str]:
    """The comments inside a table that does not stay one."""
    if isinstance(item, Comment):
        yield item.as_string().strip()
    elif isinstance(item, AoT):
        for table in item.body:
            yield from _comments_in(table)
    elif isinstance(item, Table):
        for key, inner in item.value.body:
            if key is not None and inner.trivia.comment:
                yield inner.trivia.comment
            yield from _comments_in(inner)
