"""Terms that contain no term: atoms, large numbers, and what Python only carries.

A reader gets the position behind a tag, and returns the value and the position behind it. None of
them trusts a length: what a term claims is compared with the bytes that are there.
"""

from __future__ import annotations

import re
from math import isfinite
from struct import Struct
from typing import Any, Callable, NoReturn

from .limits import DEFAULT_LIMITS, MAX_ATOM_CHARS, Limits
from .tags import (
    ATOM,
    ATOM_UTF8,
    BINARY,
    BIT_BINARY,
    EXPORT,
    FLOAT,
    FUN,
    INTEGER,
    LARGE_BIG,
    LARGE_TUPLE,
    LIST,
    MAP,
    NEW_FLOAT,
    NEW_FUN,
    NEW_PID,
    NEW_PORT,
    NEW_REFERENCE,
    NEWER_REFERENCE,
    NIL,
    PID,
    PORT,
    REFERENCE,
    SMALL_ATOM,
    SMALL_ATOM_UTF8,
    SMALL_BIG,
    SMALL_INTEGER,
    SMALL_TUPLE,
    STRING,
    V4_PORT,
)
from .terms import Atom, BitString, DecodeError, Fun, Pid, Port, Reference

#: (value,) of a number at a position.
u16 = Struct(">H").unpack_from
u32 = Struct(">I").unpack_from
i32 = Struct(">i").unpack_from
f64 = Struct(">d").unpack_from

NESTED = frozenset((SMALL_TUPLE, LARGE_TUPLE, LIST, MAP))

MISSING: Any = object()

_CONSTANTS: dict[bytes, Any] = {b"true": True, b"false": False, b"nil": None}

#: Atoms met so far, by their bytes. A host has few, and uses them again and again; when it has
#: many, the first ones stay.
_MAX_CACHED_ATOMS = 4096
utf8_atoms = dict(_CONSTANTS)
latin1_atoms = dict(_CONSTANTS)


def fail(kind: str, message: str) -> NoReturn:
    raise DecodeError(message, kind)


def truncated() -> NoReturn:
    """As an index behind the end of the bytes does: `decode_prefix` makes one error of both."""
    raise IndexError


def new_atom(raw: bytes, encoding: str, known: dict[bytes, Any]) -> Atom:
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        fail("malformed", "an atom that is not UTF-8")
    if len(text) > MAX_ATOM_CHARS:
        fail("limit", f"an atom of {len(text)} characters, over the limit of {MAX_ATOM_CHARS}")
    atom = Atom(text)
    if len(known) < _MAX_CACHED_ATOMS:
        known[raw] = atom
    return atom


#: tag -> bytes of its length, encoding, and the atoms known by that encoding.
_ATOMS = {
    ATOM: (2, "latin-1", latin1_atoms),
    SMALL_ATOM: (1, "latin-1", latin1_atoms),
    ATOM_UTF8: (2, "utf-8", utf8_atoms),
    SMALL_ATOM_UTF8: (1, "utf-8", utf8_atoms),
}


def read_atom(data: bytes, pos: int) -> tuple[Any, int]:
    """The atom at `pos`, its tag included: some terms contain an atom, and nothing else will do."""
    layout = _ATOMS.get(data[pos])
    if layout is None:
        fail("malformed", f"an atom belongs here, not tag {data[pos]}")
    width, encoding, known = layout
    begin = pos + 1 + width
    stop = begin + int.from_bytes(data[pos + 1 : begin], "big")
    if stop > len(data):
        truncated()
    raw = data[begin:stop]
    atom = known.get(raw, MISSING)
    return (new_atom(raw, encoding, known) if atom is MISSING else atom), stop


def _other_atom(data: bytes, pos: int, limits: Limits) -> tuple[Any, int]:
    return read_atom(data, pos - 1)


def _small_big(data: bytes, pos: int, limits: Limits) -> tuple[int, int]:
    return _big(data, pos + 1, data[pos], limits)


def _large_big(data: bytes, pos: int, limits: Limits) -> tuple[int, int]:
    return _big(data, pos + 4, u32(data, pos)[0], limits)


def _big(data: bytes, pos: int, length: int, limits: Limits) -> tuple[int, int]:
    begin = pos + 1
    stop = begin + length
    if stop > len(data):
        truncated()
    if length > limits.integer_bytes:
        fail("limit", f"an integer of {length} bytes, over the limit of {limits.integer_bytes}")
    value = int.from_bytes(data[begin:stop], "little")
    return (-value if data[pos] else value), stop


_DECIMAL = re.compile(rb"[+-]?[0-9]+\.[0-9]+([eE][+-]?[0-9]+)?")


def _decimal_float(data: bytes, pos: int, limits: Limits) -> tuple[float, int]:
    """FLOAT_EXT: 31 bytes of text, which the BEAM wrote before release R11B-4."""
    stop = pos + 31
    if stop > len(data):
        truncated()
    text = data[pos:stop].partition(b"\0")[0]
    if not _DECIMAL.fullmatch(text) or not isfinite(value := float(text)):
        fail("malformed", f"not a float: {text!r}")
    return value, stop


def _bit_string(data: bytes, pos: int, limits: Limits) -> tuple[BitString | str, int]:
    (length,) = u32(data, pos)
    bits = data[pos + 4]
    stop = pos + 5 + length
    if stop > len(data):
        truncated()
    if bits > 8 or (bits == 0) != (length == 0):
        fail("malformed", f"a bit string of {length} bytes, with {bits} bits in the last")
    if bits in (0, 8):  # For the BEAM it is a binary as any other.
        return data[pos + 5 : stop].decode(), stop
    return BitString(data[pos - 1 : stop]), stop


#: Terms that are a node's name and some numbers: type, and bytes of the numbers.
_NAMED: dict[int, tuple[Callable[[bytes], Any], int]] = {
    PID: (Pid, 9),
    NEW_PID: (Pid, 12),
    PORT: (Port, 5),
    NEW_PORT: (Port, 8),
    V4_PORT: (Port, 12),
    REFERENCE: (Reference, 5),
}


def _named(data: bytes, pos: int, limits: Limits) -> tuple[Any, int]:
    make, numbers = _NAMED[data[pos - 1]]
    _node, stop = read_atom(data, pos)
    stop += numbers
    if stop > len(data):
        truncated()
    return make(data[pos - 1 : stop]), stop


def _reference(data: bytes, pos: int, limits: Limits) -> tuple[Reference, int]:
    (words,) = u16(data, pos)
    if not 1 <= words <= 5:
        fail("malformed", f"a reference of {words} words")
    _node, stop = read_atom(data, pos + 2)
    stop += (1 if data[pos - 1] == NEW_REFERENCE else 4) + 4 * words
    if stop > len(data):
        truncated()
    return Reference(data[pos - 1 : stop]), stop


def _export(data: bytes, pos: int, limits: Limits) -> tuple[Fun, int]:
    _module, stop = read_atom(data, pos)
    _function, stop = read_atom(data, stop)
    if data[stop] != SMALL_INTEGER:
        fail("malformed", "the arity of a function is a small integer")
    stop += 2
    if stop > len(data):
        truncated()
    return Fun(data[pos - 1 : stop]), stop


def _new_fun(data: bytes, pos: int, limits: Limits) -> tuple[Fun, int]:
    (length,) = u32(data, pos)
    (variables,) = u32(data, pos + 25)
    _module, stop = read_atom(data, pos + 29)
    stop = _skip(data, _pid_end(data, _integer_end(data, _integer_end(data, stop))), variables)
    if stop != pos + length:
        fail("malformed", f"a function says it takes {length} bytes, and takes {stop - pos}")
    return Fun(data[pos - 1 : stop]), stop


def _old_fun(data: bytes, pos: int, limits: Limits) -> tuple[Fun, int]:
    (variables,) = u32(data, pos)
    _module, stop = read_atom(data, _pid_end(data, pos + 4))
    stop = _skip(data, _integer_end(data, _integer_end(data, stop)), variables)
    return Fun(data[pos - 1 : stop]), stop


def _pid_end(data: bytes, pos: int) -> int:
    if data[pos] not in (PID, NEW_PID):
        fail("malformed", f"a pid belongs here, not tag {data[pos]}")
    return _named(data, pos + 1, DEFAULT_LIMITS)[1]


def _integer_end(data: bytes, pos: int) -> int:
    if data[pos] not in (SMALL_INTEGER, INTEGER):
        fail("malformed", f"an integer belongs here, not tag {data[pos]}")
    return pos + (2 if data[pos] == SMALL_INTEGER else 5)


_Reader = Callable[[bytes, int, Limits], "tuple[Any, int]"]

OTHERS: dict[int, _Reader] = {
    **dict.fromkeys(_NAMED, _named),
    BIT_BINARY: _bit_string,
    NEWER_REFERENCE: _reference,
    NEW_REFERENCE: _reference,
    FLOAT: _decimal_float,
    SMALL_BIG: _small_big,
    LARGE_BIG: _large_big,
    NEW_FUN: _new_fun,
    FUN: _old_fun,
    EXPORT: _export,
    ATOM_UTF8: _other_atom,
    SMALL_ATOM: _other_atom,
}

#: The other terms that contain no term: bytes of the number behind the tag that is a length, and
#: bytes behind it that are there in any case.
_PLAIN = {
    SMALL_INTEGER: (0, 1),
    INTEGER: (0, 4),
    NEW_FLOAT: (0, 8),
    FLOAT: (0, 31),
    NIL: (0, 0),
    STRING: (2, 0),
    BINARY: (4, 0),
    BIT_BINARY: (4, 1),
    SMALL_BIG: (1, 1),
    LARGE_BIG: (4, 1),
    ATOM: (2, 0),
    SMALL_ATOM: (1, 0),
    ATOM_UTF8: (2, 0),
    SMALL_ATOM_UTF8: (1, 0),
}


def _skip(data: bytes, pos: int, count: int) -> int:
    """The position behind `count` terms that are not looked into."""
    size = len(data)
    while count:
        count -= 1
        if count >= size - pos:
            truncated()
        tag = data[pos]
        pos += 1
        plain = _PLAIN.get(tag)
        if plain is not None:
            width, rest = plain
            pos += width + rest + int.from_bytes(data[pos : pos + width], "big")
        elif tag == SMALL_TUPLE:
            count += data[pos]
            pos += 1
        elif tag in NESTED:
            (arity,) = u32(data, pos)
            count += 2 * arity if tag == MAP else arity + (tag == LIST)
            pos += 4
        elif tag == NEW_FUN:  # module, two integers, pid, variables
            count += 4 + u32(data, pos + 25)[0]
            pos += 29
        elif tag == FUN:  # pid, module, two integers, variables
            count += 4 + u32(data, pos)[0]
            pos += 4
        elif tag in OTHERS:
            _value, pos = OTHERS[tag](data, pos, DEFAULT_LIMITS)
        else:
            fail("tag", f"there is no tag {tag} here")
    if pos > size:
        truncated()
    return pos
