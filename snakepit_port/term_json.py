"""Terms as JSON and back, for the command line.

What JSON has no word for is an object with one key that begins with a dollar:

| value | JSON |
|---|---|
| bytes | `{"$bytes": "base64"}` |
| atom | `{"$atom": "name"}`; so a NaN is `{"$atom": "nan"}` |
| tuple | `{"$tuple": [...]}` |
| map with a key that is no string, or begins with a dollar | `{"$map": [[key, value], ...]}` |
| array | `{"$array": {"type": "f32", "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]}}` |
| pid, reference and other opaque terms | `{"$term": "base64 of the external term"}` |

The types of an array are those of SPEC section 2, from `s8` to `c128`. Its data are all its numbers
in C order; a complex one is a pair, `[real, imaginary]`.

`from_json(to_json(value)) == value` for every value that a call can return, as long as arrays are
`Tensor`s. (NaNs in them are all the same.)
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping
from typing import Any

from snakepit_port.wire import Atom, FrozenList, FrozenMap, Tensor, decode, encode
from snakepit_port.wire.bulk import MAX_DIMENSIONS, TYPES

#: What JSON has no number for.
_ODD = {"nan": math.nan, "infinity": math.inf, "neg_infinity": -math.inf}


def to_json(value: Any) -> Any:
    """The form of a value that `json.dumps` takes."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Atom):
        return {"$atom": str(value)}
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, Tensor):
        return {"$array": _array_form(value)}
    if isinstance(value, (list, FrozenList)):
        return [to_json(item) for item in value]
    if isinstance(value, tuple):
        return {"$tuple": [to_json(item) for item in value]}
    if isinstance(value, Mapping):
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: to_json(item) for key, item in value.items()}
        return {"$map": [[to_json(key), to_json(item)] for key, item in value.items()]}
    return {"$term": base64.b64encode(encode(value)).decode()}


def from_json(form: Any) -> Any:
    """The value of a form that `json.loads` gave.

    Raises:
        ValueError: an object with a key that begins with a dollar is none of the forms above.
    """
    if isinstance(form, list):
        return [from_json(item) for item in form]
    if not isinstance(form, dict):
        return form
    key = next((key for key in form if key.startswith("$")), None)
    if key is None:
        return {key: from_json(item) for key, item in form.items()}
    try:
        (content,) = form.values()
        if key in ("$tuple", "$map"):
            if not isinstance(content, list):
                raise ValueError("a list belongs here")
            if key == "$tuple":
                return tuple(from_json(content))
            return _map(content)
        if key == "$array":
            return _array(content)
        if key in ("$atom", "$bytes", "$term"):
            if not isinstance(content, str):
                raise ValueError("a string belongs here")
            if key == "$atom":
                return Atom(content)
            raw = base64.b64decode(content, validate=True)
            return raw if key == "$bytes" else decode(raw)
    except (ValueError, TypeError, OverflowError, struct.error) as exc:
        raise ValueError(f"{key}: {exc}") from None
    raise ValueError(f"there is no form {key}; write a key with a dollar as a $map")


def _map(pairs: list[Any]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for form, item in pairs:
        key = _frozen(from_json(form))
        if key in found:
            raise ValueError(f"two keys are the same in Python: {key!r}")
        found[key] = from_json(item)
    return found


def _frozen(key: Any) -> Any:
    """A value as `decode` gives it inside a map's key."""
    if isinstance(key, Tensor):
        return key
    if isinstance(key, list):
        return FrozenList(map(_frozen, key))
    if isinstance(key, dict):
        return FrozenMap((_frozen(name), _frozen(item)) for name, item in key.items())
    if isinstance(key, tuple):
        return tuple(map(_frozen, key))
    return key


# -- arrays ----------------------------------------------------------------------------------------


def _array_form(tensor: Tensor) -> dict[str, Any]:
    kind, width = tensor.type
    if kind == "bf":
        # The upper halves of 32-bit floats.
        halves = struct.unpack(f"={len(tensor.data) // 2}H", tensor.data)
        words = struct.pack(f"={len(halves)}I", *(half << 16 for half in halves))
        numbers = [_number_form(number) for number in struct.unpack(f"={len(halves)}f", words)]
    else:
        letter, size = _layout(tensor.type)
        flat = struct.unpack(f"={len(tensor.data) // size}{letter}", tensor.data)
        numbers = [_number_form(number) for number in flat]
    if kind == "c":
        numbers = [list(pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]
    return {"type": f"{kind}{width}", "shape": list(tensor.shape), "data": numbers}


def _number_form(number: float) -> Any:
    if math.isfinite(number):
        return number
    if math.isnan(number):
        return {"$atom": "nan"}
    return {"$atom": "infinity" if number > 0 else "neg_infinity"}


def _array(form: Any) -> Tensor:
    """Raises `ValueError`, and what `struct` raises for numbers that the type does not hold."""
    if not isinstance(form, dict) or form.keys() != {"type", "shape", "data"}:
        raise ValueError('an object with "type", "shape" and "data" belongs here')
    types = {f"{kind}{width}": (kind, width) for kind, width in TYPES}
    type = types.get(form["type"]) if isinstance(form["type"], str) else None
    if type is None:
        raise ValueError(f"the type is one of {', '.join(types)}")
    shape, data = form["shape"], form["data"]
    if not isinstance(shape, list) or not all(_is_size(size) for size in shape):
        raise ValueError("the shape is a list of integers from zero")
    if len(shape) > MAX_DIMENSIONS or any(size >= 2**31 for size in shape):
        raise ValueError(f"an array has at most {MAX_DIMENSIONS} dimensions, each below 2^31")
    if not isinstance(data, list) or len(data) != math.prod(shape):
        raise ValueError(f"the data are a list of {math.prod(shape)} numbers, for this shape")
    if type[0] == "c":
        data = [part for real, imaginary in data for part in (real, imaginary)]
    numbers = [_number(number) for number in data]
    if type[0] == "bf":
        raw = struct.pack(f"={len(numbers)}H", *map(_upper_half, numbers))
    else:
        raw = struct.pack(f"={len(numbers)}{_layout(type)[0]}", *numbers)
    return Tensor(type, tuple(shape), raw)


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0


def _number(form: Any) -> Any:
    number = _ODD.get(str(form.get("$atom")), form) if isinstance(form, dict) else form
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise ValueError(f"{number!r:.40} is no number")
    return number


def _layout(type: tuple[str, int]) -> tuple[str, int]:
    """The letter of `struct` for a type's numbers, or for their halves, and how many bytes these
    are."""
    kind, width = type
    if kind == "c":
        return ("f", 4) if width == 64 else ("d", 8)
    letter = TYPES[type]
    assert letter is not None, "there is a letter for all but bf16"
    return letter, width // 8


def _upper_half(number: float) -> int:
    """The nearest of the numbers that are the upper half of a 32-bit float."""
    (word,) = struct.unpack("=I", struct.pack("=f", number))
    if math.isnan(number):
        return int(word >> 16) | 0x40
    return int(word + 0x7FFF + (word >> 16 & 1)) >> 16
