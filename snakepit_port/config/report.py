"""Collecting mistakes: where in the tree one is, and how the tree is spoken of in messages."""

from __future__ import annotations

import datetime
import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

Path = tuple[str | int, ...]
"""The keys and list positions that lead to a value from the top of the configuration."""

Mistake = tuple[Path, str, str]
"""Where a mistake is, what is wrong, and what might have been meant (or nothing)."""

INVALID: Any = object()
"""What a parser returns for a value it has reported as wrong."""

QUOTES = 'a string has double quotes in Elixir, and is <<"...">> in Erlang'
"""A hint for whoever wrote a list of characters."""

ALIAS = 'that is a module of Elixir; one of Python is named by a string, like "my_app.commands"'
"""A hint for whoever wrote an alias, as Elixir names its own modules."""

_BARE = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class At:
    """A place in the tree, handed down while the tree is checked.

    ``expects`` replaces a parser's own words for what it takes, where it is one of alternatives.
    """

    report: Callable[[Path, str, str], None]
    base_dir: str
    path: Path = ()
    expects: str = ""

    def child(self, key: str | int) -> At:
        return replace(self, path=(*self.path, key), expects="")

    def wrong(self, message: str, hint: str = "") -> Any:
        """Report a mistake here. Returns ``INVALID``."""
        self.report(self.path, message, hint)
        return INVALID

    def unexpected(self, expects: str, value: object, hint: str = "") -> Any:
        """Report that *value* is not what *expects* says. Returns ``INVALID``."""
        if not hint and is_charlist(value):
            hint = QUOTES
        return self.wrong(f"expected {self.expects or expects}, found {found(value)}", hint)


def is_charlist(value: object) -> bool:
    """Whether *value* is what Elixir makes of 'hello', and Erlang of "hello"."""
    return (
        isinstance(value, list)
        and value != []
        and all(type(char) is int and 0 < char < 0x110000 for char in value)
        and "".join(map(chr, value)).isprintable()
    )


def quoted(text: str, longest: int = 60) -> str:
    """*text* for a message: in quotes, on one line, shortened, encodable whatever it holds."""
    if len(text) > longest:
        text = text[: longest - 3] + "..."
    return encodable(json.dumps(text, ensure_ascii=False))


def encodable(text: str) -> str:
    """*text* with lone surrogates, as names of files that are not UTF-8 have them, written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def found(value: object) -> str:
    """What a value is, in the words of a message."""
    match value:
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
        case int():
            # Python refuses to print integers beyond some 4,300 digits.
            return str(value) if abs(value) < 10**20 else "a huge integer"
        case float():
            return str(value)
        case str():
            return quoted(value)
        case list() if is_charlist(value):
            # Without them: they may be a secret.
            return "a list of characters"
        case list():
            return "a list" if value else "an empty list"
        case Mapping():
            return "a table"
        case tuple():
            return "a tuple"
        case datetime.date() | datetime.time():
            return "a date or time"
        case _:
            return type(value).__name__


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint naming the known word closest to *word*, or nothing."""
    close = difflib.get_close_matches(word[:64], list(known), n=1)
    return f"did you mean {close[0]}?" if close else ""


def problem_line(problem: Mapping[str, Any]) -> str:
    """A problem without its hint, as ``Problem.as_term`` has it or a host has received it."""
    source = ":".join(str(problem[key]) for key in ("file", "line") if problem.get(key))
    parts = (source, *(str(problem.get(key) or "") for key in ("place", "message")))
    return ": ".join(part for part in parts if part)


def _key(key: str | int) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    return "." + (key if _BARE.fullmatch(key) else quoted(key))


def place_of(path: Path, tree: object) -> str:
    """A path as a reader would say it: ``pools[1] "gpu": adapter_env.HOME``."""
    match path:
        case ("pools", int(index), *rest):
            head = f"pools[{index}]"
            match tree:
                case {"pools": list(pools)}:
                    match pools[index]:
                        case {"name": str(name)}:
                            head += f" {quoted(name)}"
        case ("profiles", str(name), *rest):
            head = f"profiles {quoted(name)}"
        case ("supervisor", *rest):
            head = "supervisor"
        case _:
            return "".join(map(_key, path)).removeprefix(".")
    return f"{head}: {''.join(map(_key, rest)).removeprefix('.')}" if rest else head
