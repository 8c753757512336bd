"""Terms as JSON: nothing is lost on the way."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakepit_port.term_json import from_json, to_json
from snakepit_port.wire import Atom, FrozenList, Tensor, decode, encode
from snakepit_port.wire.bulk import TYPES, tensor_bytes

words = st.text(st.characters(codec="utf-8"), max_size=8)
atoms = words.filter(lambda text: text not in ("nil", "true", "false")).map(Atom)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words
    | words.map(lambda text: "$" + text)
    | st.binary(max_size=8)
    | atoms
)
keys = words | words.map(lambda text: "$" + text) | atoms | st.integers() | st.binary(max_size=4)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
    ),
)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Any bits, but for NaNs, which are of many kinds."""
    type = draw(st.sampled_from(sorted(TYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    kind, width = type
    count = tensor_bytes(type, shape) * 8 // (width // 2 if kind == "c" else width)
    if kind in ("f", "c"):
        letter = {16: "e", 32: "f", 64: "d"}[width // (2 if kind == "c" else 1)]
        size = struct.calcsize(letter) * 8
        numbers = st.floats(width=size, allow_nan=False)  # type: ignore[arg-type]
        data = struct.pack(
            f"={count}{letter}", *draw(st.lists(numbers, min_size=count, max_size=count))
        )
    elif kind == "bf":
        halves = st.integers(0, 0x7F80) | st.integers(0x8000, 0xFF80)
        data = struct.pack(f"={count}H", *draw(st.lists(halves, min_size=count, max_size=count)))
    else:
        size = tensor_bytes(type, shape)
        data = draw(st.binary(min_size=size, max_size=size))
    return Tensor(type, shape, data)


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down: 1 is not True, an atom is no string."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(pair, other_pair)
            for pair, other_pair in zip(one.items(), other.items(), strict=True)
        )
    return bool(one == other)


def array_form(type: Any, shape: Any, data: Any) -> Any:
    return {"$array": {"type": type, "shape": shape, "data": data}}


@given(values)
def test_every_value_survives(value: Any) -> None:
    assert same(from_json(json.loads(json.dumps(to_json(value)))), value)


@given(tensors())
def test_every_array_survives(tensor: Tensor) -> None:
    form = json.loads(json.dumps(to_json({"a": [tensor], tensor: 1})))
    assert from_json(form) == {"a": [tensor], tensor: 1}
    assert decode(encode(from_json(form))) == {"a": [tensor], tensor: 1}


@given(values)
def test_a_map_may_have_any_key(value: Any) -> None:
    # As bytes, because Python has no list as a key.
    one_entry = b"\x83t\0\0\0\x01" + encode((value, 1))[1:] + encode(2)[1:]
    entry = decode(one_entry)
    form = json.loads(json.dumps(to_json(entry)))
    assert encode(from_json(form)) == encode(entry)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ({"a": [1, 2.5, None, True]}, {"a": [1, 2.5, None, True]}),
        (b"\xff\x00", {"$bytes": "/wA="}),
        (Atom("ok"), {"$atom": "ok"}),
        ((Atom("ok"), 1), {"$tuple": [{"$atom": "ok"}, 1]}),
        ({1: "one"}, {"$map": [[1, "one"]]}),
        ({"$atom": "no atom"}, {"$map": [["$atom", "no atom"]]}),
        (
            Tensor(("f", 32), (2, 1), struct.pack("=2f", 1.5, math.inf)),
            {"$array": {"type": "f32", "shape": [2, 1], "data": [1.5, {"$atom": "infinity"}]}},
        ),
        (
            Tensor(("c", 64), (1,), struct.pack("=2f", 1.0, -2.0)),
            {"$array": {"type": "c64", "shape": [1], "data": [[1.0, -2.0]]}},
        ),
        (
            Tensor(("bf", 16), (2,), struct.pack("=2H", 0x3FC0, 0xFF80)),
            {"$array": {"type": "bf16", "shape": [2], "data": [1.5, {"$atom": "neg_infinity"}]}},
        ),
        (
            Tensor(("u", 8), (), b"\x07"),
            {"$array": {"type": "u8", "shape": [], "data": [7]}},
        ),
        ({FrozenList([1]): 1}, {"$map": [[[1], 1]]}),
        ({Atom("k"): 1}, {"$map": [[{"$atom": "k"}, 1]]}),
    ],
)
def test_forms(value: Any, form: Any) -> None:
    assert to_json(value) == form
    assert same(from_json(form), value)


def test_opaque_terms_travel_as_they_are() -> None:
    pid = b"\x83Xw\x0dnonode@nohost\0\0\0\x54\0\0\0\0\0\0\0\0"
    form = to_json([decode(pid)])
    assert list(form[0]) == ["$term"]
    assert from_json(form) == [decode(pid)]


def test_json_numbers_that_are_none() -> None:
    assert math.isnan(from_json(json.loads("NaN")))
    for type in ("f16", "f32", "f64", "bf16"):
        array = from_json(array_form(type, [3], [{"$atom": "nan"}, math.nan, 0]))
        nan = {"$atom": "nan"}
        assert to_json(array)["$array"]["data"] == [nan, nan, 0.0]


@pytest.mark.parametrize(
    ("number", "kept"), [(1.0, 1.0), (1.00390625, 1.0), (1.01171875, 1.015625), (3.4e38, math.inf)]
)
def test_a_bfloat_is_the_nearest(number: float, kept: float) -> None:
    for sign in (1, -1):
        array = from_json(array_form("bf16", [1], [sign * number]))
        (word,) = struct.unpack("=H", array.data)
        assert struct.unpack("=f", struct.pack("=I", word << 16)) == (sign * kept,)


@pytest.mark.parametrize(
    "form",
    [
        {"$bytes": "not base64"},
        {"$bytes": 1},
        {"$bytes": "AA==", "and": 1},
        {"$atom": 1},
        {"$tuple": 1},
        {"$tuple": {"a": 1}},
        {"$map": [[1]]},
        {"$map": [[1, 1], [1.0, 2]]},
        {"$term": "AA=="},
        {"$term": None},
        {"$array": [1, 2]},
        {"$array": {"type": "f32", "data": [1]}},
        array_form("f33", [1], [1]),
        array_form(["f32"], [1], [1]),
        array_form("f32", [2], [1]),
        array_form("f32", [-1, -1], [1]),
        array_form("f32", [1.0], [1]),
        array_form("f32", 1, [1]),
        array_form("f32", [1], ["1"]),
        array_form("f32", [1], [{"$atom": "two"}]),
        array_form("f32", [1], [1e300]),
        array_form("bf16", [1], [1e300]),
        array_form("u8", [1], [256]),
        array_form("u8", [1], [1.5]),
        array_form("u8", [1], [True]),
        array_form("s64", [1], [2**70]),
        array_form("c64", [1], [1.5]),
        array_form("c64", [1], [[1, 2, 3]]),
        {"$else": 1},
        {"a": {"$else": 1}},
    ],
)
def test_forms_that_are_none(form: Any) -> None:
    with pytest.raises(ValueError, match=r"\$"):
        from_json(form)


@pytest.mark.parametrize("shape", [[10**9] * 600, [1] * 33, [2**31], [0, 10**5000]])
def test_a_shape_that_no_array_has_is_told_the_limits(shape: list[int]) -> None:
    with pytest.raises(
        ValueError, match=r"^\$array: an array has at most 32 dimensions, each below"
    ):
        from_json(array_form("u8", shape, []))
