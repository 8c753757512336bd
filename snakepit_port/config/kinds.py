"""The kinds of value a setting can have: how each is described, parsed and written back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from snakepit_port.config.report import ALIAS, INVALID, At, did_you_mean, is_charlist, quoted

# TOML promises 64 bits, so a larger integer could not be written back for every reader.
MAX_INTEGER = 2**63 - 1
INTEGERS = range(-(2**63), 2**63)


def as_table(value: object) -> Mapping[str, Any] | None:
    """*value* if it is a table. An empty list is one too: it is Elixir's empty keyword list."""
    if isinstance(value, Mapping):
        return value
    return {} if value == [] and isinstance(value, list) else None


def is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _encodable(value: str) -> bool:
    """Whether UTF-8 can hold *value*: lone surrogates cannot travel or be written to a file."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class Kind(ABC):
    """A kind of value. ``expects`` is what it takes, as words that follow "expected"."""

    expects: str

    @abstractmethod
    def parse(self, value: object, at: At) -> Any:
        """The checked value, or ``INVALID`` after reporting everything wrong with it to *at*."""

    def dump(self, value: Any) -> Any:
        """A value that TOML has and that parses to *value*."""
        return value

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """What it takes in a file, as a JSON schema. It may take more than the parser does."""


class Flag(Kind):
    expects = "true or false"

    def parse(self, value: object, at: At) -> Any:
        return value if isinstance(value, bool) else at.unexpected(self.expects, value)

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class Text(Kind):
    """A string that is not empty and that the operating system can take (it has no NUL)."""

    def __init__(self, expects: str, max_bytes: int | None = None, without: str = "\0") -> None:
        self.expects = expects
        self._max_bytes = max_bytes
        self._without = without

    def parse(self, value: object, at: At) -> Any:
        if not isinstance(value, str) or not value or not _encodable(value):
            return at.unexpected(self.expects, value)
        if any(character in value for character in self._without):
            return at.unexpected(self.expects, value)
        if self._max_bytes is not None and len(value.encode()) > self._max_bytes:
            return at.unexpected(self.expects, value, f"it has {len(value.encode())} bytes")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


class FilePath(Text):
    """A path, made absolute: relative ones start from the folder of the configuration.

    With *bare_names*, a value without a slash is a program's name and stays as it is. Symbolic
    links and ``..`` are left alone: following a virtual environment's interpreter leads out of it.
    """

    def __init__(self, expects: str, bare_names: bool = False) -> None:
        super().__init__(expects)
        self._bare_names = bare_names

    def parse(self, value: object, at: At) -> Any:
        text = super().parse(value, at)
        if text is INVALID or (self._bare_names and "/" not in text):
            return text
        path = str(Path(at.base_dir, text))
        # What stands before it comes from the file system, or from whoever sends a configuration.
        if "\0" in path or not _encodable(path):
            return at.wrong(
                f"the path starts from {quoted(at.base_dir)}, a folder whose name is not UTF-8"
                " text without NUL",
                "give the whole path, or have the configuration in a folder with another name",
            )
        return path


class Choice(Kind):
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self._words = words
        self.expects = " or ".join(map(quoted, words))

    def parse(self, value: object, at: At) -> Any:
        if not isinstance(value, str):
            return at.unexpected(self.expects, value)
        if value not in self._words:
            return at.unexpected(self.expects, value, did_you_mean(value, self._words))
        return value

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self._words)}


class Either(Kind):
    """A few fixed values, or else another kind."""

    def __init__(self, *words: str | bool, other: Kind) -> None:
        self._words = words
        self._other = other
        shown = [quoted(word) if isinstance(word, str) else str(word).lower() for word in words]
        self.expects = f"{', '.join(shown)} or {other.expects}"

    def _is_word(self, value: object) -> bool:
        # By type as well: 1 equals True.
        return any(type(value) is type(word) and value == word for word in self._words)

    def parse(self, value: object, at: At) -> Any:
        if self._is_word(value):
            return value
        return self._other.parse(value, replace(at, expects=self.expects))

    def dump(self, value: Any) -> Any:
        return value if self._is_word(value) else self._other.dump(value)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"enum": list(self._words)}, self._other.schema()]}


class Reference(Kind):
    """A dotted module name, with ``:attribute`` where *attribute* is "optional" or "required"."""

    def __init__(self, expects: str, attribute: str = "none", star: bool = False) -> None:
        self.expects = expects
        self._attribute = attribute
        self._star = star

    def parse(self, value: object, at: At) -> Any:
        if not isinstance(value, str) or not self._is_valid(value):
            return at.unexpected(self.expects, value)
        # Else a package Elixir would be missing, and whoever reads that might install one.
        if value.startswith("Elixir."):
            return at.unexpected(self.expects, value, ALIAS)
        return value

    def _is_valid(self, value: str) -> bool:
        module, colon, attribute = value.partition(":")
        if not all(part.isidentifier() for part in module.split(".")):
            return False
        if not colon:
            return self._attribute != "required"
        if self._attribute == "none":
            return False
        return attribute.isidentifier() or (self._star and attribute == "*")

    def schema(self) -> dict[str, Any]:
        attribute = {"none": "", "optional": "(:[^:]+)?", "required": ":[^:]+"}[self._attribute]
        return {"type": "string", "pattern": f"^[^:]+{attribute}$"}


class Listing(Kind):
    """A list of values of one kind, kept as a tuple."""

    def __init__(self, item: Kind, items: str) -> None:
        self._item = item
        self.expects = f"a list of {items}"

    def parse(self, value: object, at: At) -> Any:
        # One mistake, and not one for each character: there are no lists of numbers.
        if not isinstance(value, list) or is_charlist(value):
            return at.unexpected(self.expects, value)
        parsed = [self._item.parse(item, at.child(index)) for index, item in enumerate(value)]
        return INVALID if INVALID in parsed else tuple(parsed)

    def dump(self, value: tuple[Any, ...]) -> list[Any]:
        return [self._item.dump(item) for item in value]

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self._item.schema()}


ENV_NAME = Text("the name of an environment variable", without="\0=")


class EnvTable(Kind):
    """Environment variables. Integers are accepted and become strings."""

    expects = "a table of environment variables, each a string or an integer"

    def parse(self, value: object, at: At) -> Any:
        table = as_table(value)
        if table is None:
            return at.unexpected(self.expects, value)
        parsed = {
            ENV_NAME.parse(name, at.child(name)): self._value(setting, at.child(name))
            for name, setting in table.items()
        }
        return INVALID if INVALID in parsed or INVALID in parsed.values() else parsed

    @staticmethod
    def _value(value: object, at: At) -> Any:
        if is_integer(value) and value in INTEGERS:
            return str(value)
        if not isinstance(value, str):
            return at.unexpected("a string or an integer", value)
        if "\0" in value or not _encodable(value):
            # Without the value: it may be a secret.
            return at.wrong("expected UTF-8 text without NUL")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": {"type": ["string", "integer"]}}


class Arguments(Kind):
    """Arguments of the adapter's class: a table of keywords, or a list of positions.

    They reach the worker as terms and are written as TOML, so they hold what both have: strings,
    integers, finite floats, booleans, lists and tables.
    """

    expects = "a table (keyword arguments) or a list (positional arguments)"

    def parse(self, value: object, at: At) -> Any:
        if isinstance(value, list):
            plain = self._plain(value, at)
            return INVALID if plain is INVALID else tuple(plain)
        if not isinstance(value, Mapping):
            return at.unexpected(self.expects, value)
        for name in value:
            if not name.isidentifier():
                at.child(name).wrong("this cannot be the name of a keyword argument")
        named = all(name.isidentifier() for name in value)
        return self._plain(value, at) if named else INVALID

    def _plain(self, value: object, at: At) -> Any:
        match value:
            case list():
                items = [self._plain(item, at.child(index)) for index, item in enumerate(value)]
                return INVALID if any(item is INVALID for item in items) else items
            case Mapping():
                table = {key: self._plain(item, at.child(key)) for key, item in value.items()}
                if not all(map(_encodable, table)):
                    return at.wrong("a key is not valid Unicode")
                return INVALID if any(item is INVALID for item in table.values()) else table
            case str() if _encodable(value):
                return value
            case bool():
                return value
            case int() if value in INTEGERS:
                return value
            case float() if math.isfinite(value):
                return value
            case None:
                return at.wrong("nil cannot be written here", "leave the argument out")
        return at.unexpected(
            "a string, a 64-bit integer, a finite float, a boolean, a list or a table", value
        )

    def dump(self, value: tuple[Any, ...] | Mapping[str, Any]) -> Any:
        return list(value) if isinstance(value, tuple) else value

    def schema(self) -> dict[str, Any]:
        return {"type": ["object", "array"]}
