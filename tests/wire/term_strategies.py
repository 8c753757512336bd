"""Values that have a term, and bytes that look like one."""

from __future__ import annotations

from hypothesis import strategies as st
from vector_files import cases, value

from snakepit_port import wire
from snakepit_port.wire import Atom, FrozenList, FrozenMap, Opaque, etf_encode

_integers = st.one_of(
    st.integers(-300, 300),
    st.integers(),
    st.integers(-(2**33), 2**33),
    st.integers(2**63 - 2, 2**64 + 2),
    st.integers(0, 2200).map(lambda bits: -(1 << bits)),
)
_floats = st.floats(allow_nan=False, allow_infinity=False)
# Characters that UTF-8 has, and texts that meet the fast path's look for NaN.
_texts = st.one_of(st.text(max_size=8), st.sampled_from(["", "F\x7f\xf8", "true", "nil"]))
_names = st.text(max_size=6).filter(lambda name: name not in ("true", "false", "nil", "$bytes"))
_atoms = st.one_of(_names, st.sampled_from(["é" * 255, "日本", "nan"])).map(Atom)
_opaque = st.sampled_from(
    [
        described
        for described in (value(case["value"]) for case in cases("terms.json"))
        if isinstance(described, Opaque)
    ]
)
_constants = st.sampled_from([True, False, None])
_leaves = st.one_of(_integers, _floats, _texts, st.binary(max_size=8), _constants, _atoms, _opaque)


def _runs(numbers: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(numbers, min_size=8, max_size=100)


_lists_of_numbers = st.one_of(
    _runs(_floats), _runs(st.integers(0, 255)), _runs(st.integers(-400, 400)), _runs(_integers)
)

_keys = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(FrozenList),
        st.dictionaries(inner, inner, max_size=2).map(FrozenMap),
    ),
    max_leaves=4,
)

#: Values that come back from `wire.decode(wire.encode(...))` as they are.
values = st.recursive(
    st.one_of(_leaves, _lists_of_numbers),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(_keys, inner, max_size=4),
    ),
    max_leaves=12,
)

#: What erlpack could be given, and some of what it must not be.
_plain_leaves = st.one_of(
    _integers, st.floats(), st.text(max_size=8), st.characters(), _constants, _texts
)
plain_values = st.recursive(
    st.one_of(
        _plain_leaves, _runs(st.floats()), _runs(st.integers(0, 255)), st.binary(max_size=3), _atoms
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(_plain_leaves, st.binary(max_size=3), _atoms), inner, max_size=4),
    ),
    max_leaves=12,
)


@st.composite
def _changed(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes with some of them exchanged, removed, doubled or added."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 6)))
        piece = draw(st.one_of(st.binary(max_size=5), st.just(bytes(data[start:stop]) * 2)))
        data[start:stop] = piece
    return bytes(data)


def changed(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return _changed(whole)


_vectors = st.sampled_from(
    [case["bytes"] for file in ("terms.json", "malformed.json") for case in cases(file)]
).filter(lambda data: len(data) < 3000)

_tags = st.sampled_from(b"FMPXYZabcdefghijklmnopqrstuvwx")
_small = st.integers(0, 4).map(lambda n: bytes((0, 0, 0, n)))
_pieces = st.one_of(_tags.map(lambda tag: bytes((tag,))), _small, st.binary(max_size=3))
_grammar = st.lists(_pieces, max_size=30).map(lambda pieces: b"\x83" + b"".join(pieces))

#: Bytes that may or may not be a term.
term_like = st.one_of(
    st.binary(max_size=60),
    _grammar,
    _vectors,
    changed(_vectors),
    changed(values.map(etf_encode.encode)),
    changed(values.map(wire.encode)),
)
