"""The kinds of value a setting can have: how each is described, parsed and written back."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any, TypeGuard

from snakepit_port.config import meant
from snakepit_port.config.report import INVALID, At, did_you_mean, quoted

# TOML promises 64 bits, so a larger integer could not be written back for every reader.
MAX_INTEGER = 2**63 - 1
INTEGERS = range(-(2**63), 2**63)

# Longer than any use; whoever means for ever says "infinity".
MAX_SECONDS = 100 * 365 * 86400

DURATION_UNITS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
# The names Snakepit gives units in tuples such as {3600, :seconds}.
TERM_UNITS = {"milliseconds": "ms", "seconds": "s", "minutes": "m", "hours": "h", "days": "d"}

SIZE_UNITS = {
    "B": 1,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
}

_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([A-Za-z]+)")


def as_table(value: object) -> Mapping[str, Any] | None:
    """*value* if it is a table. An empty list is one too: it is Elixir's empty keyword list."""
    if isinstance(value, Mapping):
        return value
    return {} if value == [] and isinstance(value, list) else None


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _encodable(value: str) -> bool:
    """Whether UTF-8 can hold *value*: lone surrogates cannot travel or be written to a file."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _amount_schema(units: Iterable[str], fraction: str = r"(\.[0-9]+)?") -> dict[str, Any]:
    return {"type": "string", "pattern": f"^[0-9]+{fraction} ?({'|'.join(units)})$"}


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


class Integer(Kind):
    """An integer in a range; with *infinity*, also "infinity", which is ``math.inf``. *unit* is
    what it counts, where people write that behind it."""

    def __init__(
        self,
        minimum: int,
        maximum: int = MAX_INTEGER,
        what: str = "an integer",
        infinity: bool = False,
        unit: str = "",
    ) -> None:
        self._unit = unit
        self._range = range(minimum, maximum + 1)
        self._bounds = {"minimum": minimum}
        self._infinity = infinity
        bounds = f"of at least {minimum}"
        if maximum != MAX_INTEGER:
            self._bounds["maximum"] = maximum
            bounds = f"from {minimum} to {maximum}"
        alternative = ', or "infinity"' if infinity else ""
        self.expects = f"{what} {bounds}{alternative}"

    def parse(self, value: object, at: At) -> Any:
        if value == "infinity" and self._infinity:
            return math.inf
        if not _is_integer(value) or value not in self._range:
            return at.unexpected(self.expects, value, self._hint(value))
        return value

    def _hint(self, value: object) -> str:
        """What to write for what was meant by a text."""
        if not isinstance(value, str):
            return ""
        if self._infinity and value.lower() in meant.FOR_EVER:
            return 'write "infinity"'
        if re.fullmatch("[0-9]{1,18}", value):
            number, remark = int(value), ", without quotes"
        else:
            amount = self._amount(value)
            if amount is None:
                return ""
            number = math.ceil(amount)
            remark = f", which is {value} rounded up" if number != amount else ""
        return f"write {number}{remark}" if number in self._range else ""

    def _amount(self, text: str) -> Decimal | None:
        """What *text* is in this unit, if it is an amount with one."""
        if self._unit in SIZE_UNITS:
            size = meant.size(text)
            return size and meant.total([size], SIZE_UNITS) / SIZE_UNITS[self._unit]
        if self._unit in DURATION_UNITS:
            parts = meant.time(text)
            return (
                meant.total(parts, DURATION_UNITS) / DURATION_UNITS[self._unit] if parts else None
            )
        return meant.percentage(text) if self._unit == "%" else None

    def schema(self) -> dict[str, Any]:
        integer = {"type": "integer", **self._bounds}
        return {"anyOf": [integer, {"const": "infinity"}]} if self._infinity else integer

    def dump(self, value: float) -> float | str:
        return "infinity" if value == math.inf else value


class Size(Kind):
    """A number of bytes."""

    def __init__(self, minimum: str, maximum: str) -> None:
        low, high = self._bytes(minimum), self._bytes(maximum)
        assert low is not None
        assert high is not None
        self._range = range(low, high + 1)
        self.expects = f'a size from "{minimum}" to "{maximum}", as bytes or like "64MiB"'

    def parse(self, value: object, at: At) -> Any:
        size = self._bytes(value)
        if size is None or size not in self._range:
            hint = f"units: {', '.join(SIZE_UNITS)}" if size is None else ""
            return at.unexpected(self.expects, value, self._hint(value) or hint)
        return size

    def _hint(self, value: object) -> str:
        """What to write for what was meant by a text."""
        found = meant.size(value) if isinstance(value, str) else None
        if found is None:
            return ""
        amount, unit = found
        size = math.ceil(meant.total([found], SIZE_UNITS))
        if size not in self._range:
            return ""
        whole = amount == amount.to_integral_value()
        text = f"{meant.written(amount)}{unit}" if whole else self.dump(size)
        return f'write "{text}"' if isinstance(text, str) else f"write {text}"

    @staticmethod
    def _bytes(value: object) -> int | None:
        if _is_integer(value):
            return value
        match = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
        if match is None or "." in match[1] or match[2] not in SIZE_UNITS:
            return None
        return int(match[1]) * SIZE_UNITS[match[2]]

    def dump(self, value: int) -> str | int:
        for unit in ("GiB", "MiB", "KiB"):
            if value % SIZE_UNITS[unit] == 0:
                return f"{value // SIZE_UNITS[unit]}{unit}"
        return value

    def schema(self) -> dict[str, Any]:
        integer = {"type": "integer", "minimum": self._range[0], "maximum": self._range[-1]}
        return {"anyOf": [integer, _amount_schema(SIZE_UNITS, fraction="")]}


def _to_the_microsecond(seconds: Decimal) -> Decimal:
    return seconds.quantize(Decimal("0.000001"), ROUND_HALF_EVEN)


class Duration(Kind):
    """A time span, kept as float seconds to the microsecond; "infinity" is ``math.inf``."""

    def __init__(self, zero: bool = False, infinity: bool = False) -> None:
        self._zero = zero
        self._infinity = infinity
        bound = "" if zero else " above zero"
        alternative = ', or "infinity"' if infinity else ""
        self.expects = f'a duration{bound} like "250ms" or "1.5h", or milliseconds{alternative}'

    def parse(self, value: object, at: At) -> Any:
        if value == "infinity" and self._infinity:
            return math.inf
        seconds = self._seconds(value)
        if seconds is None:
            hint = self._hint(value) or f"units: {', '.join(DURATION_UNITS)}"
            return at.unexpected(self.expects, value, hint)
        kept = _to_the_microsecond(seconds)
        if seconds > MAX_SECONDS or seconds < 0 or (kept == 0 and not self._zero):
            return at.unexpected(self.expects, value)
        return float(kept)

    def _hint(self, value: object) -> str:
        """What to write for what was meant by a text."""
        if not isinstance(value, str):
            return ""
        if self._infinity and value.lower() in meant.FOR_EVER:
            return 'write "infinity"'
        if re.fullmatch("[0-9]{1,9}", value) and (int(value) or self._zero):
            return f'write "{value}s" for seconds, or {int(value)} for milliseconds'
        parts = meant.time(value)
        seconds = meant.total(parts, DURATION_UNITS)
        if not parts or seconds > MAX_SECONDS:
            return ""
        if _to_the_microsecond(seconds) == 0 and not self._zero:
            return ""
        # As one unit has it, if one was written.
        text = self.dump(float(seconds))
        if len(parts) == 1:
            text = f"{meant.written(parts[0][0])}{parts[0][1]}"
        return f'write "{text}"'

    @staticmethod
    def _seconds(value: object) -> Decimal | None:
        amount: object = value
        unit = "ms"
        if isinstance(value, str):
            match = _AMOUNT.fullmatch(value)
            amount, unit = (Decimal(match[1]), match[2]) if match else (None, "")
        elif isinstance(value, tuple):
            amount, unit = value if len(value) == 2 else (None, "")
            unit = TERM_UNITS.get(unit, "") if isinstance(unit, str) else ""
        elif not _is_integer(value):
            return None
        if not (_is_integer(amount) or isinstance(amount, float | Decimal)) or amount != amount:
            return None
        if unit not in DURATION_UNITS:
            return None
        # Clamped before it is multiplied, so that no amount is too large for Decimal.
        clamped = max(-1, min(amount, MAX_SECONDS * 1000 + 1))
        return Decimal(str(clamped)) * DURATION_UNITS[unit]

    def dump(self, value: float) -> str:
        if value == math.inf:
            return "infinity"
        seconds = Decimal(repr(value))
        for unit in ("d", "h", "m", "s"):
            if seconds and seconds % DURATION_UNITS[unit] == 0:
                return f"{seconds / DURATION_UNITS[unit]:.0f}{unit}"
        return f"{(seconds * 1000).normalize():f}ms"

    def schema(self) -> dict[str, Any]:
        integer = {"type": "integer", "minimum": 0 if self._zero else 1}
        alternatives = [integer, _amount_schema(DURATION_UNITS)]
        if self._infinity:
            alternatives.append({"const": "infinity"})
        return {"anyOf": alternatives}


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
        if not isinstance(value, list):
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
        if _is_integer(value) and value in INTEGERS:
            return str(value)
        if not isinstance(value, str) or "\0" in value or not _encodable(value):
            return at.unexpected("a string or an integer", value)
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
