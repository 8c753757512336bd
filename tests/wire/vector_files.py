"""The files of `protocol/vectors`, as Python reads them.

Standard library only, and legal on Python 3.9: `every_python.py` runs it on whatever there is.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from snakepit_port import wire

FOLDER = Path(__file__).resolve().parents[2] / "protocol" / "vectors"

_CONSTANTS = {"true": True, "false": False, "nil": None}
_OPAQUE = {
    "pid": wire.Pid,
    "port": wire.Port,
    "reference": wire.Reference,
    "fun": wire.Fun,
    "bitstring": wire.BitString,
    "improper_list": wire.ImproperList,
}

#: Where a frame has names, which may be atoms. A pool's may be nil, which is no name.
_NAMES = {"call": (2, 3), "control": (2,), "tool": (3,), "event": (1,)}


def cases(file: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((FOLDER / file).read_text(encoding="utf-8"))
    for case in loaded:
        case["bytes"] = bytes.fromhex(case["bytes"])
    return loaded


def value(described: dict[str, Any], in_key: bool = False) -> Any:
    """The Python value that a vector describes, made without `wire.decode`."""
    if "external" in described:
        return _OPAQUE[described["opaque"]](bytes.fromhex(described["external"]))
    ((kind, content),) = described.items()
    if kind == "integer":
        return int(content)
    if kind == "float":
        return struct.unpack(">d", bytes.fromhex(content))[0]
    if kind == "string":
        return content
    if kind in ("bytes", "binary"):
        return bytes.fromhex(content)
    if kind == "tensor":
        (letter, width), shape = content["type"], content["shape"]
        data = bytes.fromhex(content["data"])
        return wire.Tensor((letter, int(width)), tuple(map(int, shape)), data)
    if kind == "atom":
        return _CONSTANTS[content] if content in _CONSTANTS else wire.Atom(content)
    if kind == "map":
        entries = {value(key, True): value(item, in_key) for key, item in content}
        return wire.FrozenMap(entries) if in_key else entries
    items = [value(item, in_key) for item in content]
    if kind == "tuple":
        return tuple(items)
    assert kind == "list"
    return wire.FrozenList(items) if in_key else items


def frame(described: dict[str, Any]) -> tuple[Any, ...]:
    """What `messages.parse` has to make of a frame."""
    elements = described["tuple"]
    tag = elements[0]["atom"]
    parsed = [tag]
    for index, element in enumerate(elements[1:], 1):
        if index in _NAMES.get(tag, ()) and "atom" in element:
            no_pool = (tag, index, element["atom"]) == ("call", 2, "nil")
            parsed.append(None if no_pool else element["atom"])
        else:
            parsed.append(value(element))
    if tag == "call" and len(parsed) == 5:
        parsed.append(None)
    return tuple(parsed)


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal in type, too, with the entries of maps in the same order."""
    pairs = [(left, right)]
    while pairs:  # No recursion: values may be deep.
        left, right = pairs.pop()
        if type(left) is not type(right):
            return False
        if isinstance(left, float):
            if struct.pack(">d", left) != struct.pack(">d", right):
                return False
        elif isinstance(left, (list, tuple, dict, wire.FrozenList, wire.FrozenMap)):
            if len(left) != len(right):
                return False
            pairs += zip(left, right)  # noqa: B905 - new in Python 3.10
            if isinstance(left, (dict, wire.FrozenMap)):
                pairs += zip(left.values(), right.values())  # noqa: B905
        elif left != right:
            return False
    return True
