"""Tuples that stand for something that the BEAM has no type for: bytes, files, tensors."""

from __future__ import annotations

from typing import Any, Callable

from .bulk import FILE_PATTERN, MAX_DIMENSIONS, TYPES, Reader, Tensor, tensor_bytes
from .etf_parts import fail, i32, read_atom, truncated, u32
from .tags import (
    ATOM,
    ATOM_UTF8,
    BINARY,
    BYTES_NAME,
    FILE_NAME,
    INTEGER,
    SMALL_ATOM,
    SMALL_ATOM_UTF8,
    SMALL_INTEGER,
    SMALL_TUPLE,
    TENSOR_NAME,
)


def _bytes(data: bytes, pos: int, reader: Reader | None, in_key: bool) -> tuple[Any, int]:
    """The content of `SnakepitPort.bytes(binary)`."""
    if data[pos] != BINARY:
        fail("malformed", 'only a binary may follow the atom "$bytes" in a pair')
    content, stop = _binary(data, pos)
    return memoryview(content) if reader is not None and reader.views else content, stop


def _file(data: bytes, pos: int, reader: Reader | None, in_key: bool) -> tuple[Any, int]:
    """The content of a file."""
    name, stop = _file_name(data, pos)
    if reader is None:
        fail("file", f"a file, {name}, and there is no shared memory here")
    return reader.read(name), stop


def _tensor(data: bytes, pos: int, reader: Reader | None, in_key: bool) -> tuple[Any, int]:
    type, pos = _tensor_type(data, pos)
    shape, pos = _tensor_shape(data, pos)
    content: bytes | str
    if data[pos] == BINARY:
        content, stop = _binary(data, pos)
        size = len(content)
    else:
        form = next((form for form in _FILE_FORMS if data.startswith(form, pos)), None)
        if form is None:
            fail("malformed", "a tensor's data are a binary")
        content, stop = _file_name(data, pos + len(form))
        size = int(content.rpartition("-")[2])
    if size != tensor_bytes(type, shape):
        expected = tensor_bytes(type, shape)
        fail("malformed", f"a tensor whose data are {size} bytes, of {expected} that it needs")
    if reader is None or in_key:  # No array can be a key.
        if isinstance(content, str):
            fail("file", f"a tensor in a file, {content}, and nobody here to read it")
        return Tensor(type, shape, content), stop
    return reader.array(type, shape, content), stop


def _binary(data: bytes, pos: int) -> tuple[bytes, int]:
    begin = pos + 5
    stop = begin + u32(data, pos + 1)[0]
    if stop > len(data):
        truncated()
    return data[begin:stop], stop


def _file_name(data: bytes, pos: int) -> tuple[str, int]:
    if data[pos] != BINARY:
        fail("malformed", "a file has a name, which is a binary")
    raw, stop = _binary(data, pos)
    name = raw.decode("latin-1")
    if not FILE_PATTERN.fullmatch(name):
        fail("malformed", f"{name[:64]!r} is no name of a file in shared memory")
    return name, stop


def _tensor_type(data: bytes, pos: int) -> tuple[tuple[str, int], int]:
    if data[pos] != SMALL_TUPLE or data[pos + 1] != 2:
        fail("malformed", "a tensor's type is a pair, such as {:f, 32}")
    kind, pos = read_atom(data, pos + 2)
    if data[pos] != SMALL_INTEGER:
        fail("malformed", "the second element of a tensor's type is its width in bits")
    type = (str(kind), data[pos + 1])
    if type not in TYPES:
        fail("malformed", f"there is no type {{:{type[0]}, {type[1]}}} of a tensor")
    return type, pos + 2


def _tensor_shape(data: bytes, pos: int) -> tuple[tuple[int, ...], int]:
    if data[pos] != SMALL_TUPLE or data[pos + 1] > MAX_DIMENSIONS:
        fail("malformed", f"a tensor's shape is a tuple of at most {MAX_DIMENSIONS} integers")
    shape = []
    count, pos = data[pos + 1], pos + 2
    for _ in range(count):
        tag = data[pos]
        if tag == SMALL_INTEGER:
            shape.append(data[pos + 1])
            pos += 2
        elif tag == INTEGER and i32(data, pos + 1)[0] >= 0:
            shape.append(i32(data, pos + 1)[0])
            pos += 5
        else:  # Larger ones are over the limit of a term's size.
            fail("malformed", "a tensor's shape holds integers from 0 to 2^31-1")
    return tuple(shape), pos


def _forms(name: str) -> list[bytes]:
    """Every external form of an atom."""
    raw = name.encode()
    layouts = ((SMALL_ATOM_UTF8, 1), (ATOM, 2), (ATOM_UTF8, 2), (SMALL_ATOM, 1))
    return [bytes([tag]) + len(raw).to_bytes(width, "big") + raw for tag, width in layouts]


_Unwrap = Callable[[bytes, int, "Reader | None", bool], "tuple[Any, int]"]

#: A tuple of this arity that begins with this atom stands for a value of another type. Each reads
#: the terms at `pos`, which have not been looked at, and returns the value and the position behind
#: them.
_WRAPPED: list[tuple[int, str, _Unwrap]] = [
    (2, BYTES_NAME, _bytes),
    (2, FILE_NAME, _file),
    (4, TENSOR_NAME, _tensor),
]

_WRAPPER_FORMS = {(arity, form): read for arity, name, read in _WRAPPED for form in _forms(name)}

#: The forms by arity, for a glance at each tuple; and how a file begins inside a tensor.
WRAPPERS = {
    arity: tuple(form for count, form in _WRAPPER_FORMS if count == arity) for arity in (2, 4)
}
_FILE_FORMS = [bytes((SMALL_TUPLE, 2)) + form for form in _forms(FILE_NAME)]


def unwrap(
    data: bytes, pos: int, arity: int, reader: Reader | None, in_key: bool
) -> tuple[Any, int]:
    form = next(form for form in WRAPPERS[arity] if data.startswith(form, pos))
    return _WRAPPER_FORMS[arity, form](data, pos + len(form), reader, in_key)
