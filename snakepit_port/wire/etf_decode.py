"""External term format to Python values, in Python, whatever the bytes are.

There is no recursion: a stack holds the containers that are open. Every claim a term makes about
its size is compared with the bytes that are there before anything is allocated.

Layouts are those of the "External Term Format" chapter of the ERTS user's guide.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from math import isfinite
from struct import Struct
from struct import error as StructError
from typing import Any, Callable, NoReturn

from .bulk import FILE_NAME as FILE_PATTERN
from .bulk import MAX_DIMENSIONS, TYPES, Reader, Tensor, tensor_bytes
from .limits import DEFAULT_LIMITS, MAX_ATOM_CHARS, Limits
from .tags import (
    ATOM,
    ATOM_UTF8,
    BINARY,
    BIT_BINARY,
    BYTES_NAME,
    COMPRESSED,
    EXPORT,
    FILE_NAME,
    FLOAT,
    FLOATS,
    FUN,
    INTEGER,
    INTEGERS,
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
    RUN,
    SMALL_ATOM,
    SMALL_ATOM_UTF8,
    SMALL_BIG,
    SMALL_INTEGER,
    SMALL_TUPLE,
    STRING,
    TENSOR_NAME,
    V4_PORT,
    VERSION,
)
from .terms import (
    Atom,
    BitString,
    DecodeError,
    FrozenList,
    FrozenMap,
    Fun,
    ImproperList,
    Pid,
    Port,
    Reference,
    join_path,
    show,
)

#: What is being filled: one of the tags SMALL_TUPLE, LARGE_TUPLE, LIST, MAP, or one of these.
_ROOT, _TAIL = 0, 1

_u16 = Struct(">H").unpack_from
_u32 = Struct(">I").unpack_from
_i32 = Struct(">i").unpack_from
_f64 = Struct(">d").unpack_from

_NESTED = frozenset((SMALL_TUPLE, LARGE_TUPLE, LIST, MAP))

_MISSING: Any = object()

#: What does not change can be shared; each would be a hundred bytes for the one or five it came in.
_NO_ITEMS = FrozenList()
_NO_ENTRIES = FrozenMap()

_CONSTANTS: dict[bytes, Any] = {b"true": True, b"false": False, b"nil": None}

#: Atoms met so far, by their bytes. A host has few, and uses them again and again; when it has
#: many, the first ones stay.
_MAX_CACHED_ATOMS = 4096
_utf8_atoms = dict(_CONSTANTS)
_latin1_atoms = dict(_CONSTANTS)

#: More keys of a map than this may not share a hash. Hashes of numbers and tuples are no secret,
#: and a dict of keys with one hash takes quadratic time to build.
_MAX_SAME_HASH = 64

#: Bytes copied for lists with a tail, as a multiple of the bytes decoded. An improper list holds
#: its own external form, which contains that of every list inside it.
_MAX_COPIES = 8


def decode(
    data: bytes | bytearray | memoryview,
    *,
    limits: Limits = DEFAULT_LIMITS,
    reader: Reader | None = None,
) -> Any:
    """The value of an external term: the version byte and one term, nothing before or after.

    A bytearray or memoryview is copied first. `reader` fetches what lies in files, and makes
    arrays of tensors; without one a file is an error, and a tensor stays a `Tensor`. Raises
    `DecodeError`, and nothing else, for bytes that are no such term.
    """
    if type(data) is not bytes:
        data = bytes(data)
    if len(data) > limits.size:
        _fail("limit", f"a term of {len(data)} bytes, over the limit of {limits.size}")
    if not data:
        _fail("truncated", "there is nothing to decode")
    if data[0] != VERSION:
        _fail("version", f"a term begins with the byte 131, not {data[0]}")
    if data[1:2] == bytes((COMPRESSED,)):
        data = _inflate(data, limits)
    value, end = decode_prefix(data, 1, limits=limits, reader=reader)
    if end != len(data):
        _fail("trailing", f"{len(data) - end} bytes follow the term")
    return value


def decode_prefix(
    data: bytes, pos: int, *, limits: Limits = DEFAULT_LIMITS, reader: Reader | None = None
) -> tuple[Any, int]:
    """The value of the term at `pos`, without version byte, and the position behind it.

    What follows the term is not looked at. Raises `DecodeError`.
    """
    # The stack holds a tuple for each container around the one being filled; the names in it are
    # the state of that container. `items` holds a map's keys and values in turn. Inside a map's key
    # (`frozen`), lists and maps become their hashable forms.
    stack: list[tuple[Any, ...]] = []
    items: list[Any] = []
    append = items.append
    left, kind, start, frozen = 1, _ROOT, pos, False

    size = len(data)
    elements = 0
    copied = 0
    max_elements = limits.elements
    max_depth = limits.depth
    startswith = data.startswith
    try:
        while True:
            while left:
                tag = data[pos]
                if tag == BINARY:
                    (length,) = _u32(data, pos + 1)
                    begin = pos + 5
                    stop = begin + length
                    if stop > size:
                        _truncated()
                    append(data[begin:stop].decode())
                    pos = stop
                elif tag == SMALL_INTEGER:
                    append(data[pos + 1])
                    pos += 2
                elif tag in _NESTED:
                    begin = pos
                    if tag == SMALL_TUPLE:
                        count = data[pos + 1]
                        pos += 2
                    else:
                        (count,) = _u32(data, pos + 1)
                        pos += 5
                        if tag == MAP:
                            count *= 2
                    if (
                        tag != LIST
                        and tag != MAP
                        and count in _WRAPPERS
                        and startswith(_WRAPPERS[count], pos)
                    ):
                        in_key = frozen or (kind == MAP and not len(items) & 1)
                        value, pos = _unwrap(data, pos, count, reader, in_key)
                        append(value)
                        left -= 1
                        continue
                    if count > size - pos:
                        _truncated()
                    elements += count
                    if elements > max_elements:
                        _fail("limit", f"more than {max_elements} elements")
                    if len(stack) >= max_depth:
                        _fail("limit", f"nested deeper than {max_depth}")
                    stack.append((items, append, left, kind, start, frozen))
                    frozen = frozen or (kind == MAP and not len(items) & 1)
                    items = []
                    append = items.append
                    left, kind, start = count, tag, begin
                    if tag == LIST and count > 7:
                        pos = _run(data, pos, count, items)
                        left -= len(items)
                    continue
                elif tag == NEW_FLOAT:
                    (value,) = _f64(data, pos + 1)
                    if value - value != 0.0:
                        _fail("malformed", "a float that is not finite")
                    append(value)
                    pos += 9
                elif tag == SMALL_ATOM_UTF8:
                    begin = pos + 2
                    pos = begin + data[pos + 1]
                    if pos > size:
                        _truncated()
                    raw = data[begin:pos]
                    value = _utf8_atoms.get(raw, _MISSING)
                    append(_new_atom(raw, "utf-8", _utf8_atoms) if value is _MISSING else value)
                elif tag == ATOM:
                    begin = pos + 3
                    pos = begin + _u16(data, pos + 1)[0]
                    if pos > size:
                        _truncated()
                    raw = data[begin:pos]
                    value = _latin1_atoms.get(raw, _MISSING)
                    append(_new_atom(raw, "latin-1", _latin1_atoms) if value is _MISSING else value)
                elif tag == NIL:
                    append(_NO_ITEMS if frozen or (kind == MAP and not len(items) & 1) else [])
                    pos += 1
                elif tag == STRING:
                    begin = pos + 3
                    pos = begin + _u16(data, pos + 1)[0]
                    if pos > size:
                        _truncated()
                    elements += pos - begin
                    if elements > max_elements:
                        _fail("limit", f"more than {max_elements} elements")
                    in_key = frozen or (kind == MAP and not len(items) & 1)
                    append((FrozenList if in_key else list)(data[begin:pos]))
                elif tag == INTEGER:
                    append(_i32(data, pos + 1)[0])
                    pos += 5
                else:
                    read = _OTHERS.get(tag)
                    if read is None:
                        _fail("tag", f"there is no tag {tag} here")
                    value, pos = read(data, pos + 1, limits)
                    append(value)
                left -= 1

            # A container is full.
            if kind == MAP:
                if len(items) > 2 * _MAX_SAME_HASH:
                    _check_hashes(items[::2])
                pairs = iter(items)
                value = dict(zip(pairs, pairs))
                if 2 * len(value) != len(items):
                    _duplicate_key(items)
                if frozen:
                    value = FrozenMap(value) if items else _NO_ENTRIES
            elif kind == LIST:
                if data[pos] != NIL:
                    left, kind = 1, _TAIL
                    continue
                pos += 1
                value = FrozenList(items) if frozen else items
            elif kind == _ROOT:
                return items[0], pos
            elif kind == _TAIL:
                copied += pos - start
                if copied > _MAX_COPIES * size:
                    _fail("limit", "too many improper lists inside each other")
                tail = items.pop()
                if isinstance(tail, (list, FrozenList)):  # A list in two pieces.
                    items.extend(tail)
                    value = FrozenList(items) if frozen else items
                else:
                    value = ImproperList(data[start:pos]) if items else tail
            else:
                value = tuple(items)
            items, append, left, kind, start, frozen = stack.pop()
            append(value)
            left -= 1
    except (IndexError, StructError):
        error = DecodeError("the term is cut short", "truncated")
    except UnicodeDecodeError:
        error = DecodeError(
            "a binary that is not UTF-8; wrap it with SnakepitPort.bytes/1 to get bytes", "utf8"
        )
    except RecursionError:
        # Comparing keys that are equal and deep recurses, in C.
        error = DecodeError("a map's key is nested too deeply", "limit")
    except DecodeError as exc:
        error = exc
    stack.append((items, append, left, kind, start, frozen))
    error.path = _path(stack)
    raise error from None


def _path(stack: list[tuple[Any, ...]]) -> str:
    """Where the term is that was being read."""
    steps = []
    for items, _append, left, kind, *_ in stack:
        if left == 0:  # Its elements are fine; itself is at fault.
            break
        if kind == _TAIL:
            steps.append(".tail")
        elif kind == MAP:
            steps.append(f"[{show(items[-1])}]" if len(items) & 1 else ".key")
        elif kind != _ROOT:
            steps.append(f"[{len(items)}]")
    return join_path(steps)


def _fail(kind: str, message: str) -> NoReturn:
    raise DecodeError(message, kind)


def _truncated() -> NoReturn:
    raise IndexError


# -- many elements at once -------------------------------------------------------------------------


def _run(data: bytes, pos: int, count: int, items: list[Any]) -> int:
    """Reads elements of a list into `items` while they are numbers of one kind; returns the
    position behind them.

    Elements of one size stand at equal distances, so a slice with a step holds their tags: as long
    as these are what they must be, each says where the next is.
    """
    while count:
        tag = data[pos]
        if tag == NEW_FLOAT:
            stride = 9
        elif tag == INTEGER:
            stride = 5
        elif tag == SMALL_INTEGER:
            stride = 2
        else:
            break
        tags = data[pos : pos + stride * min(count, RUN) : stride]
        run = len(tags) - len(tags.lstrip(tags[:1]))
        stop = pos + stride * run
        if stop > len(data):
            _truncated()
        if tag == NEW_FLOAT:
            values = FLOATS[run].unpack_from(data, pos)
            if not isfinite(sum(values)) and not all(map(isfinite, values)):
                _fail("malformed", "a float that is not finite")
            items.extend(values)
        elif tag == INTEGER:
            items.extend(INTEGERS[run].unpack_from(data, pos))
        else:
            items.extend(data[pos + 1 : stop : 2])
        pos = stop
        count -= run
        if run < 8:  # Too mixed to be worth it.
            break
    return pos


def _check_hashes(keys: list[Any]) -> None:
    hashes = list(map(hash, keys))
    if len(hashes) - len(set(hashes)) > _MAX_SAME_HASH:
        ((_hash, times),) = Counter(hashes).most_common(1)
        if times > _MAX_SAME_HASH:
            _fail("limit", f"a map with {times} keys of one hash")


def _duplicate_key(items: list[Any]) -> NoReturn:
    seen: dict[Any, Any] = {}
    for key in items[::2]:
        first = seen.setdefault(key, key)
        if first is not key:
            break
    _fail(
        "duplicate_key", f"the keys {show(first)} and {show(key)} of a map are the same in Python"
    )


# -- tuples that stand for something else ----------------------------------------------------------


def _bytes(data: bytes, pos: int, reader: Reader | None, in_key: bool) -> tuple[Any, int]:
    """The content of `SnakepitPort.bytes(binary)`."""
    if data[pos] != BINARY:
        _fail("malformed", 'only a binary may follow the atom "$bytes" in a pair')
    content, stop = _binary(data, pos)
    return memoryview(content) if reader is not None and reader.views else content, stop


def _file(data: bytes, pos: int, reader: Reader | None, in_key: bool) -> tuple[Any, int]:
    """The content of a file."""
    name, stop = _file_name(data, pos)
    if reader is None:
        _fail("file", f"a file, {name}, and there is no shared memory here")
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
            _fail("malformed", "a tensor's data are a binary")
        content, stop = _file_name(data, pos + len(form))
        size = int(content.rpartition("-")[2])
    if size != tensor_bytes(type, shape):
        expected = tensor_bytes(type, shape)
        _fail("malformed", f"a tensor whose data are {size} bytes, of {expected} that it needs")
    if reader is None or in_key:  # No array can be a key.
        if isinstance(content, str):
            _fail("file", f"a tensor in a file, {content}, and nobody here to read it")
        return Tensor(type, shape, content), stop
    return reader.array(type, shape, content), stop


def _binary(data: bytes, pos: int) -> tuple[bytes, int]:
    begin = pos + 5
    stop = begin + _u32(data, pos + 1)[0]
    if stop > len(data):
        _truncated()
    return data[begin:stop], stop


def _file_name(data: bytes, pos: int) -> tuple[str, int]:
    if data[pos] != BINARY:
        _fail("malformed", "a file has a name, which is a binary")
    raw, stop = _binary(data, pos)
    name = raw.decode("latin-1")
    if not FILE_PATTERN.fullmatch(name):
        _fail("malformed", f"{name[:64]!r} is no name of a file in shared memory")
    return name, stop


def _tensor_type(data: bytes, pos: int) -> tuple[tuple[str, int], int]:
    if data[pos] != SMALL_TUPLE or data[pos + 1] != 2:
        _fail("malformed", "a tensor's type is a pair, such as {:f, 32}")
    kind, pos = _atom(data, pos + 2)
    if data[pos] != SMALL_INTEGER:
        _fail("malformed", "the second element of a tensor's type is its width in bits")
    type = (str(kind), data[pos + 1])
    if type not in TYPES:
        _fail("malformed", f"there is no type {{:{type[0]}, {type[1]}}} of a tensor")
    return type, pos + 2


def _tensor_shape(data: bytes, pos: int) -> tuple[tuple[int, ...], int]:
    if data[pos] != SMALL_TUPLE or data[pos + 1] > MAX_DIMENSIONS:
        _fail("malformed", f"a tensor's shape is a tuple of at most {MAX_DIMENSIONS} integers")
    shape = []
    count, pos = data[pos + 1], pos + 2
    for _ in range(count):
        tag = data[pos]
        if tag == SMALL_INTEGER:
            shape.append(data[pos + 1])
            pos += 2
        elif tag == INTEGER and _i32(data, pos + 1)[0] >= 0:
            shape.append(_i32(data, pos + 1)[0])
            pos += 5
        else:  # Larger ones are over the limit of a term's size.
            _fail("malformed", "a tensor's shape holds integers from 0 to 2^31-1")
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
_WRAPPERS = {
    arity: tuple(form for count, form in _WRAPPER_FORMS if count == arity) for arity in (2, 4)
}
_FILE_FORMS = [bytes((SMALL_TUPLE, 2)) + form for form in _forms(FILE_NAME)]


def _unwrap(
    data: bytes, pos: int, arity: int, reader: Reader | None, in_key: bool
) -> tuple[Any, int]:
    form = next(form for form in _WRAPPERS[arity] if data.startswith(form, pos))
    return _WRAPPER_FORMS[arity, form](data, pos + len(form), reader, in_key)


# -- tags that are rare ----------------------------------------------------------------------------
# Each reader gets the position behind the tag, and returns the value and the position behind it.


def _new_atom(raw: bytes, encoding: str, known: dict[bytes, Any]) -> Atom:
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        _fail("malformed", "an atom that is not UTF-8")
    if len(text) > MAX_ATOM_CHARS:
        _fail("limit", f"an atom of {len(text)} characters, over the limit of {MAX_ATOM_CHARS}")
    atom = Atom(text)
    if len(known) < _MAX_CACHED_ATOMS:
        known[raw] = atom
    return atom


#: tag -> bytes of its length, encoding, and the atoms known by that encoding.
_ATOMS = {
    ATOM: (2, "latin-1", _latin1_atoms),
    SMALL_ATOM: (1, "latin-1", _latin1_atoms),
    ATOM_UTF8: (2, "utf-8", _utf8_atoms),
    SMALL_ATOM_UTF8: (1, "utf-8", _utf8_atoms),
}


def _atom(data: bytes, pos: int) -> tuple[Any, int]:
    """The atom at `pos`, its tag included: some terms contain an atom, and nothing else will do."""
    layout = _ATOMS.get(data[pos])
    if layout is None:
        _fail("malformed", f"an atom belongs here, not tag {data[pos]}")
    width, encoding, known = layout
    begin = pos + 1 + width
    stop = begin + int.from_bytes(data[pos + 1 : begin], "big")
    if begin > len(data) or stop > len(data):
        _truncated()
    raw = data[begin:stop]
    atom = known.get(raw, _MISSING)
    return (_new_atom(raw, encoding, known) if atom is _MISSING else atom), stop


def _other_atom(data: bytes, pos: int, limits: Limits) -> tuple[Any, int]:
    return _atom(data, pos - 1)


def _small_big(data: bytes, pos: int, limits: Limits) -> tuple[int, int]:
    return _big(data, pos + 1, data[pos], limits)


def _large_big(data: bytes, pos: int, limits: Limits) -> tuple[int, int]:
    return _big(data, pos + 4, _u32(data, pos)[0], limits)


def _big(data: bytes, pos: int, length: int, limits: Limits) -> tuple[int, int]:
    begin = pos + 1
    stop = begin + length
    if stop > len(data):
        _truncated()
    if length > limits.integer_bytes:
        _fail("limit", f"an integer of {length} bytes, over the limit of {limits.integer_bytes}")
    value = int.from_bytes(data[begin:stop], "little")
    return (-value if data[pos] else value), stop


_DECIMAL = re.compile(rb"[+-]?[0-9]+\.[0-9]+([eE][+-]?[0-9]+)?")


def _decimal_float(data: bytes, pos: int, limits: Limits) -> tuple[float, int]:
    """FLOAT_EXT: 31 bytes of text, which the BEAM wrote before release R11B-4."""
    stop = pos + 31
    if stop > len(data):
        _truncated()
    text = data[pos:stop].partition(b"\0")[0]
    if not _DECIMAL.fullmatch(text) or not isfinite(value := float(text)):
        _fail("malformed", f"not a float: {text!r}")
    return value, stop


def _bit_string(data: bytes, pos: int, limits: Limits) -> tuple[BitString, int]:
    (length,) = _u32(data, pos)
    bits = data[pos + 4]
    stop = pos + 5 + length
    if stop > len(data):
        _truncated()
    if bits > 8 or (bits == 0) != (length == 0):
        _fail("malformed", f"a bit string of {length} bytes, with {bits} bits in the last")
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
    _node, stop = _atom(data, pos)
    stop += numbers
    if stop > len(data):
        _truncated()
    return make(data[pos - 1 : stop]), stop


def _reference(data: bytes, pos: int, limits: Limits) -> tuple[Reference, int]:
    (words,) = _u16(data, pos)
    if not 1 <= words <= 5:
        _fail("malformed", f"a reference of {words} words")
    _node, stop = _atom(data, pos + 2)
    stop += (1 if data[pos - 1] == NEW_REFERENCE else 4) + 4 * words
    if stop > len(data):
        _truncated()
    return Reference(data[pos - 1 : stop]), stop


def _export(data: bytes, pos: int, limits: Limits) -> tuple[Fun, int]:
    _module, stop = _atom(data, pos)
    _function, stop = _atom(data, stop)
    if data[stop] != SMALL_INTEGER:
        _fail("malformed", "the arity of a function is a small integer")
    stop += 2
    if stop > len(data):
        _truncated()
    return Fun(data[pos - 1 : stop]), stop


def _new_fun(data: bytes, pos: int, limits: Limits) -> tuple[Fun, int]:
    (length,) = _u32(data, pos)
    (variables,) = _u32(data, pos + 25)
    _module, stop = _atom(data, pos + 29)
    stop = _skip(data, _pid_end(data, _integer_end(data, _integer_end(data, stop))), variables)
    if stop != pos + length:
        _fail("malformed", f"a function says it takes {length} bytes, and takes {stop - pos}")
    return Fun(data[pos - 1 : stop]), stop


def _old_fun(data: bytes, pos: int, limits: Limits) -> tuple[Fun, int]:
    (variables,) = _u32(data, pos)
    _module, stop = _atom(data, _pid_end(data, pos + 4))
    stop = _skip(data, _integer_end(data, _integer_end(data, stop)), variables)
    return Fun(data[pos - 1 : stop]), stop


def _pid_end(data: bytes, pos: int) -> int:
    if data[pos] not in (PID, NEW_PID):
        _fail("malformed", f"a pid belongs here, not tag {data[pos]}")
    return _named(data, pos + 1, DEFAULT_LIMITS)[1]


def _integer_end(data: bytes, pos: int) -> int:
    if data[pos] not in (SMALL_INTEGER, INTEGER):
        _fail("malformed", f"an integer belongs here, not tag {data[pos]}")
    return pos + (2 if data[pos] == SMALL_INTEGER else 5)


_Reader = Callable[[bytes, int, Limits], "tuple[Any, int]"]

_OTHERS: dict[int, _Reader] = {
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
            _truncated()
        tag = data[pos]
        pos += 1
        plain = _PLAIN.get(tag)
        if plain is not None:
            width, rest = plain
            pos += width + rest + int.from_bytes(data[pos : pos + width], "big")
        elif tag == SMALL_TUPLE:
            count += data[pos]
            pos += 1
        elif tag in _NESTED:
            (arity,) = _u32(data, pos)
            count += 2 * arity if tag == MAP else arity + (tag == LIST)
            pos += 4
        elif tag == NEW_FUN:  # module, two integers, pid, variables
            count += 4 + _u32(data, pos + 25)[0]
            pos += 29
        elif tag == FUN:  # pid, module, two integers, variables
            count += 4 + _u32(data, pos)[0]
            pos += 4
        elif tag in _OTHERS:
            _value, pos = _OTHERS[tag](data, pos, DEFAULT_LIMITS)
        else:
            _fail("tag", f"there is no tag {tag} here")
    if pos > size:
        _truncated()
    return pos


def _inflate(data: bytes, limits: Limits) -> bytes:
    """A compressed term as it was before: version byte and term."""
    if limits.inflated == 0:
        _fail("compressed", "compressed terms are not accepted")
    if len(data) < 6:
        _fail("truncated", "the term is cut short")
    (length,) = _u32(data, 2)
    if length > limits.inflated:
        _fail("limit", f"a term of {length} bytes, inflated, over the limit of {limits.inflated}")
    inflater = zlib.decompressobj()
    try:
        term = inflater.decompress(memoryview(data)[6:], length + 1)
    except zlib.error as exc:
        _fail("malformed", f"a compressed term that does not inflate: {exc}")
    if not inflater.eof:
        kind = "malformed" if len(term) > length else "truncated"
        _fail(kind, f"a compressed term does not inflate to the {length} bytes it says")
    if len(term) != length:
        _fail("malformed", f"a compressed term inflates to {len(term)} bytes, not {length}")
    if inflater.unused_data:
        _fail("trailing", f"{len(inflater.unused_data)} bytes follow the term")
    return b"\x83" + term
