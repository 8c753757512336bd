"""The kinds of value that are numbers and amounts: integers, sizes in bytes, and spans of time."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from snakepit_port.config import meant
from snakepit_port.config.kinds import MAX_INTEGER, Kind, is_integer
from snakepit_port.config.report import At

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


def _amount_schema(units: Iterable[str], fraction: str = r"(\.[0-9]+)?") -> dict[str, Any]:
    return {"type": "string", "pattern": f"^[0-9]+{fraction} ?({'|'.join(units)})$"}


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
        if not is_integer(value) or value not in self._range:
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
        if is_integer(value):
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
        elif not is_integer(value):
            return None
        if not (is_integer(amount) or isinstance(amount, float | Decimal)) or amount != amount:
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
