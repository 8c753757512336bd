"""The wire: frames and terms as bytes. No I/O, and nothing but the standard library.

What a term becomes in Python, and what it becomes on its way back:

| Elixir | Python | back |
|---|---|---|
| integer | `int` | same |
| float | `float`; the BEAM has neither NaN nor infinities | same; those become the atoms `nan`, `infinity`, `neg_infinity` |
| binary | `str`; an error if it is not UTF-8 | same |
| `SnakepitPort.bytes(binary)`, which is `{:"$bytes", binary}` | `bytes` | same; also from bytearray, mmap, and a memoryview of bytes |
| `%SnakepitPort.Tensor{}`, which is `{:"$tensor", type, shape, data}` | an array; here a `Tensor` unless a `Reader` makes one | same; from what has a dtype, a shape and a buffer, and a memoryview of numbers |
| `true`, `false`, `nil` | `True`, `False`, `None` | same |
| other atom | `Atom` | same |
| list, charlist | `list` | same |
| tuple | `tuple` | same; also from named tuples |
| map, struct | `dict` | same; also from dataclasses, with binary keys |
| pid, port, reference, fun, bitstring, improper list | `Pid`, `Port`, `Reference`, `Fun`, `BitString`, `ImproperList` | same bytes |

Inside a map's key, where Python takes neither list nor dict, a list is a `FrozenList` and a map a
`FrozenMap`. A map whose keys are different terms but equal in Python (`1` and `1.0`, `:a` and `"a"`)
is a `DecodeError`: no entry is ever lost. Section 2 of protocol/SPEC.md has all the rules.

framing.py      a stream of bytes as frames
grammar.py      which frames there are, and what is in them
messages.py     builds frames, and reads whole ones
envelopes.py    reads of a frame what takes to pass it on: the hot path
terms.py        the Erlang terms that Python has no type for, and the errors
limits.py       how large a term may be
tags.py         the tags of the external term format
etf_encode.py   values to terms
fastpath.py     the same by erlpack, where that writes the same
etf_decode.py   terms to values
etf_parts.py    those that contain no other
etf_wrapped.py  tuples that stand for bytes, files and tensors
bulk.py         files and tensors as they stand in a term
no_term.py      what to use instead of a value that has no term
"""  # noqa: E501

from __future__ import annotations

from typing import Any

from . import etf_encode
from .bulk import Reader, Tensor, Writer
from .etf_decode import decode
from .fastpath import encode as encode_plain
from .limits import DEFAULT_LIMITS, Limits
from .terms import (
    Atom,
    BitString,
    DecodeError,
    EncodeError,
    FrozenList,
    FrozenMap,
    Fun,
    ImproperList,
    Opaque,
    Pid,
    Port,
    Reference,
    TermError,
)


def encode(value: Any, *, limits: Limits = DEFAULT_LIMITS, writer: Writer | None = None) -> bytes:
    """The external term of a value, with its version byte. See `etf_encode.encode`."""
    term = encode_plain(value, limits)
    if term is not None:
        return term
    return etf_encode.encode(value, limits=limits, writer=writer)


__all__ = [
    "DEFAULT_LIMITS",
    "Atom",
    "BitString",
    "DecodeError",
    "EncodeError",
    "FrozenList",
    "FrozenMap",
    "Fun",
    "ImproperList",
    "Limits",
    "Opaque",
    "Pid",
    "Port",
    "Reader",
    "Reference",
    "Tensor",
    "TermError",
    "Writer",
    "decode",
    "encode",
    "encode_plain",
]
