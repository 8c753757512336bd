"""Terms as JSON: nothing is lost on the way."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakepit_port.term_json import from_json, to_json
from snakepit_port.wire import Atom, FrozenList, decode, encode

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


@given(values)
def test_every_value_survives(value: Any) -> None:
    assert same(from_json(json.loads(json.dumps(to_json(value)))), value)


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
        {"$term": "AA=="},
        {"$term": None},
        {"$else": 1},
        {"a": {"$else": 1}},
    ],
)
def test_forms_that_are_none(form: Any) -> None:
    with pytest.raises(ValueError, match=r"\$"):
        from_json(form)
