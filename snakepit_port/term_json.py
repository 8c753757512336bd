"""Terms as JSON and back, for the command line.

What JSON has no word for is an object with one key that begins with a dollar:

| value | JSON |
|---|---|
| bytes | `{"$bytes": "base64"}` |
| atom | `{"$atom": "name"}`; so a NaN is `{"$atom": "nan"}` |
| tuple | `{"$tuple": [...]}` |
| map with a key that is no string, or begins with a dollar | `{"$map": [[key, value], ...]}` |
| pid, reference and other opaque terms | `{"$term": "base64 of the external term"}` |

`from_json(to_json(value)) == value` for every value that a call can return.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from snakepit_port.wire import Atom, FrozenList, FrozenMap, decode, encode


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
            return {_frozen(from_json(name)): from_json(item) for name, item in content}
        if key in ("$atom", "$bytes", "$term"):
            if not isinstance(content, str):
                raise ValueError("a string belongs here")
            if key == "$atom":
                return Atom(content)
            raw = base64.b64decode(content, validate=True)
            return raw if key == "$bytes" else decode(raw)
    except (ValueError, TypeError) as exc:
        raise ValueError(f"{key}: {exc}") from None
    raise ValueError(f"there is no form {key}; write a key with a dollar as a $map")


def _frozen(key: Any) -> Any:
    """A value as `decode` gives it inside a map's key."""
    if isinstance(key, list):
        return FrozenList(map(_frozen, key))
    if isinstance(key, dict):
        return FrozenMap((_frozen(name), _frozen(item)) for name, item in key.items())
    if isinstance(key, tuple):
        return tuple(map(_frozen, key))
    return key
