"""Python values to external term format, in Python.

There is no recursion: a stack holds the containers that are open. What is written for a term is
what the BEAM itself writes for it from OTP 26 on (before, it wrote atoms in Latin-1).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from math import isfinite
from mmap import mmap
from struct import Struct
from typing import Any, NoReturn

from .bulk import (
    MAX_DIMENSIONS,
    TYPES,
    Tensor,
    Writer,
    flat,
    is_number,
    tensor_bytes,
    tensor_of,
    tensor_of_view,
)
from .limits import DEFAULT_LIMITS, MAX_ATOM_CHARS, Limits
from .tags import (
    ATOM_UTF8,
    BINARY,
    BYTES_NAME,
    FILE_NAME,
    FLOATS,
    INTEGER,
    INTEGERS,
    LARGE_BIG,
    LARGE_TUPLE,
    LIST,
    MAP,
    NEW_FLOAT,
    NIL,
    RUN,
    SMALL_ATOM_UTF8,
    SMALL_BIG,
    SMALL_INTEGER,
    SMALL_TUPLE,
    STRING,
    TENSOR_NAME,
    VERSION,
)
from .terms import Atom, EncodeError, FrozenList, FrozenMap, Opaque, join_path, show

_tag_u16 = Struct(">BH").pack
_tag_u32 = Struct(">BI").pack
_tag_i32 = Struct(">Bi").pack
_tag_f64 = Struct(">Bd").pack


def _atom(name: str) -> bytes:
    raw = name.encode()
    size = len(raw)
    return (bytes((SMALL_ATOM_UTF8, size)) if size < 256 else _tag_u16(ATOM_UTF8, size)) + raw


_TRUE, _FALSE, _NONE = _atom("true"), _atom("false"), _atom("nil")
_NAN, _INFINITY, _NEG_INFINITY = _atom("nan"), _atom("infinity"), _atom("neg_infinity")
_END_OF_LIST = bytes((NIL,))

_SMALL_INTEGERS = [bytes((SMALL_INTEGER, n)) for n in range(256)]
_SMALL_TUPLES = [bytes((SMALL_TUPLE, n)) for n in range(256)]
_SHORT_BINARIES = [_tag_u32(BINARY, n) for n in range(256)]

#: Tuples of this arity that begin with this atom stand for values of another type: the other half
#: of `_WRAPPED` in `etf_wrapped`.
_RESERVED = frozenset(((2, BYTES_NAME), (2, FILE_NAME), (4, TENSOR_NAME)))
_BYTES = _SMALL_TUPLES[2] + _atom(BYTES_NAME)
_FILE = _SMALL_TUPLES[2] + _atom(FILE_NAME)
_TENSOR = _SMALL_TUPLES[4] + _atom(TENSOR_NAME)


class _Term(bytes):
    """An encoded term, without version byte."""


#: The types that the loop of `_parts` knows. Values of other types go through `_lower` first.
_KNOWN = frozenset((str, int, float, bool, type(None), bytes, list, tuple, dict, Atom))

# What a type inherits from, and what it defines; as attributes they could be its metaclass's.
_mro_of = type.__dict__["__mro__"].__get__
_dict_of = type.__dict__["__dict__"].__get__

#: Keys of these types become different terms when they are different in Python.
_DISTINCT_KEYS = frozenset((str, int, bytes, Atom))


def encode(value: Any, *, limits: Limits = DEFAULT_LIMITS, writer: Writer | None = None) -> bytes:
    """The external term of a value, with its version byte.

    `writer` takes bytes that are large, as far as it has room; then the term holds the name of
    their file.

    Raises `EncodeError`, and nothing else, for a value that has no term, contains itself or exceeds
    a limit. While it works, a bytearray in the value cannot be resized. A dict that another thread
    resizes meanwhile is an `EncodeError` too; never a wrong term.
    """
    term = b"".join(_parts(value, limits, True, writer))
    if len(term) > limits.size:
        _too_large(limits)
    return term


def _parts(root: Any, limits: Limits, check_keys: bool, writer: Writer | None = None) -> list[Any]:
    """The bytes of a term, in pieces."""
    parts: list[Any] = [bytes((VERSION,))]
    append = parts.append
    # For each open container: the iterator it was found in, what is written behind its last
    # element, and itself, as found and as iterated.
    stack: list[tuple[Iterator[Any], bytes, Any, Any]] = []
    values: Iterator[Any] = iter((root,))
    found: Any = None
    elements = 0
    large = 0
    try:
        while True:
            for value in values:
                found = value
                kind = type(value)
                if kind is str:
                    raw = value.encode()
                    size = len(raw)
                    if size < 256:
                        append(_SHORT_BINARIES[size] + raw)
                    else:
                        large += size
                        if large > limits.size:
                            _too_large(limits)
                        append(_tag_u32(BINARY, size))
                        append(raw)
                    continue
                if kind is int:
                    if 0 <= value < 256:
                        append(_SMALL_INTEGERS[value])
                    elif -0x8000_0000 <= value <= 0x7FFF_FFFF:
                        append(_tag_i32(INTEGER, value))
                    else:
                        append(_big(value, limits))
                    continue
                if kind not in _KNOWN:
                    value = _lower(value, limits)
                    kind = type(value)
                if kind is float:
                    append(
                        _tag_f64(NEW_FLOAT, value) if value - value == 0.0 else _not_finite(value)
                    )
                elif kind is list:
                    if not value:
                        append(_END_OF_LIST)
                        continue
                    value = value[:]  # Another thread may append to it.
                    count = len(value)
                    numbers = _numbers(value)
                    if numbers is None:
                        inside, behind = iter(value), _END_OF_LIST
                        append(_tag_u32(LIST, count))
                        break
                    if len(stack) >= limits.depth and numbers[0] == LIST:
                        _too_deep(limits)
                    append(numbers)
                    elements += count
                    if elements > limits.elements:
                        _too_many(limits)
                elif kind is dict:
                    if check_keys and not _DISTINCT_KEYS.issuperset(map(type, value)):
                        _check_keys(value, limits)
                    # In this order: the iterator notices when the size changes afterwards.
                    inside, behind = chain.from_iterable(value.items()), b""
                    count = 2 * len(value)
                    append(_tag_u32(MAP, count >> 1))
                    break
                elif value is None:
                    append(_NONE)
                elif kind is bool:
                    append(_TRUE if value else _FALSE)
                elif kind is tuple:
                    count = len(value)
                    if count and type(value[0]) is Atom and (count, value[0]) in _RESERVED:
                        _fail(
                            f"a tuple of {count} that begins with {show(value[0])} stands for"
                            " something else"
                        )
                    append(_SMALL_TUPLES[count] if count < 256 else _tag_u32(LARGE_TUPLE, count))
                    inside, behind = iter(value), b""
                    break
                elif kind is Atom:
                    append(_checked_atom(value))
                elif kind is _Term:
                    append(value)
                else:  # bytes, or what `_lower` makes of a bytearray or memoryview; or a tensor
                    head, wrapper = b"", _BYTES
                    if kind is Tensor:
                        head, wrapper, value = _tensor_head(value), b"", value.data
                    size = len(value)
                    name = None
                    if writer is not None and size >= writer.threshold:
                        name = writer.write(value)
                    if name is not None:
                        append(head + _FILE + _SHORT_BINARIES[len(name)] + name.encode())
                        continue
                    large += size
                    if large > limits.size:
                        _too_large(limits)
                    append(head + wrapper + _tag_u32(BINARY, size))
                    append(value)
            else:
                if not stack:
                    return parts
                values, behind, _found, _value = stack.pop()
                append(behind)
                continue
            elements += count
            if elements > limits.elements:
                _too_many(limits)
            if len(stack) >= limits.depth:
                _too_deep(limits)
            stack.append((values, behind, found, value))
            values = inside
    except EncodeError as exc:
        error = exc
    except UnicodeEncodeError as exc:
        error = EncodeError(f"a str that is not valid Unicode: {exc.reason}")
    except RuntimeError as exc:  # An iterator found its dict resized.
        error = EncodeError(str(exc))
        found = stack.pop()[2]
    error.path = _path(stack, found)
    raise error from None


def _path(stack: list[tuple[Iterator[Any], bytes, Any, Any]], found: Any) -> str:
    """Where the value is that was found last."""
    children = [entry[2] for entry in stack[1:]] + [found]
    return join_path([_step(entry[3], child) for entry, child in zip(stack, children)])


def _step(container: Any, child: Any) -> str:
    # The first place that holds this very object is the one: an error ends everything, so an
    # earlier one would have ended it.
    if type(container) is dict:
        for key, value in container.items():
            if key is child:
                return ".key"
            if value is child:
                return f"[{show(key)}]"
    for index, value in enumerate(container):
        if value is child:
            return f"[{index}]"
    return "[?]"


def _fail(message: str) -> NoReturn:
    raise EncodeError(message)


def _too_large(limits: Limits) -> NoReturn:
    _fail(f"the term exceeds the limit of {limits.size} bytes")


def _too_deep(limits: Limits) -> NoReturn:
    _fail(f"nested deeper than {limits.depth}; does it contain itself?")


def _too_many(limits: Limits) -> NoReturn:
    _fail(f"more than {limits.elements} elements")


def _check_keys(entries: dict[Any, Any], limits: Limits) -> None:
    """Refuses keys that differ in Python, but not as terms: two NaNs, or None and Atom("nil").

    The BEAM would refuse the whole term.
    """
    seen: dict[bytes, Any] = {}
    for key in entries:
        try:
            term = b"".join(_parts(key, limits, False))
        except EncodeError:
            return  # The caller meets it again, and names its place.
        if term in seen:
            _fail(f"the keys {show(seen[term])} and {show(key)} of a map are the same term")
        seen[term] = key


# -- values that are not as common as those of the loop --------------------------------------------


def _big(value: int, limits: Limits) -> bytes:
    magnitude = abs(value)
    size = (magnitude.bit_length() + 7) // 8
    if size > limits.integer_bytes:
        _fail(f"an integer of {size} bytes, over the limit of {limits.integer_bytes}")
    head = bytes((SMALL_BIG, size)) if size < 256 else _tag_u32(LARGE_BIG, size)
    return head + bytes((value < 0,)) + magnitude.to_bytes(size, "little")


def _not_finite(value: float) -> bytes:
    if value != value:
        return _NAN
    return _INFINITY if value > 0 else _NEG_INFINITY


def _checked_atom(atom: Atom) -> bytes:
    if len(atom) > MAX_ATOM_CHARS:
        _fail(f"an atom of {len(atom)} characters, over the limit of {MAX_ATOM_CHARS}")
    return _atom(atom)


def _numbers(values: list[Any]) -> bytes | None:
    """The term of a list that is not empty and holds nothing but floats, or nothing but integers of
    32 bits; None if it is another, or too short to be worth it."""
    kind = type(values[0])
    if (kind is not int and kind is not float) or len(set(map(type, values))) != 1:
        return None
    count = len(values)
    if kind is float:
        if count < 8 or (not isfinite(sum(values)) and not all(map(isfinite, values))):
            return None
        body = _pack_run(FLOATS, NEW_FLOAT, values)
    else:
        least, most = min(values), max(values)
        if least >= 0 and most < 256:
            if count < 2**16:
                return _tag_u16(STRING, count) + bytes(values)
            body = bytearray(2 * count)
            body[0::2] = bytes((SMALL_INTEGER,)) * count
            body[1::2] = bytes(values)
        elif count < 8 or least < -0x8000_0000 or most > 0x7FFF_FFFF:
            return None
        elif least > 255 or most < 0:
            body = _pack_run(INTEGERS, INTEGER, values)
        else:
            body = bytearray().join(
                [_SMALL_INTEGERS[v] if 0 <= v < 256 else _tag_i32(INTEGER, v) for v in values]
            )
    return b"".join((_tag_u32(LIST, count), body, _END_OF_LIST))


def _pack_run(structs: list[Struct], tag: int, values: list[Any]) -> bytearray:
    """Numbers of one size, each with the tag in front."""
    stride = structs[1].size
    body = bytearray(stride * len(values))
    for start in range(0, len(values), RUN):
        chunk = values[start : start + RUN]
        structs[len(chunk)].pack_into(body, start * stride, *chunk)
    body[::stride] = bytes((tag,)) * len(values)
    return body


def _lower(value: Any, limits: Limits) -> Any:
    """A value of a type that the loop of `_parts` does not know, as one that it does: a float or
    container, bytes, a tensor, or a finished term.

    Subclasses count as what they are built on (so an enum counts only if it is one of str or int),
    and none of their code runs: what is raised meanwhile is a signal handler's, and passes.
    """
    kind = type(value)  # Not asked of the value, whose `__class__` may be code.
    if issubclass(kind, Tensor):
        return value
    if issubclass(kind, Opaque):
        return _Term(value.raw)
    if issubclass(kind, FrozenList):
        return list(value)
    if issubclass(kind, FrozenMap):
        return dict(value.items())
    if _is_dataclass(kind):
        return _fields(value)
    if issubclass(kind, Atom):
        return _Term(_checked_atom(Atom(str.__str__(value))))
    if issubclass(kind, str):
        return _Term(encode(str.__str__(value), limits=limits)[1:])
    if issubclass(kind, int):
        return _Term(encode(int.__index__(value), limits=limits)[1:])
    if issubclass(kind, float):
        return float.__float__(value)
    if issubclass(kind, list):
        return list.copy(value)
    if issubclass(kind, tuple):
        return tuple.__getitem__(value, slice(None))
    if issubclass(kind, dict):
        return dict(dict.items(value))
    if issubclass(kind, bytes):
        return bytes.__getitem__(value, slice(None))
    if issubclass(kind, (memoryview, bytearray, mmap)):
        try:
            view = memoryview(value)
        except ValueError as exc:  # By a `with` that it was returned from, say.
            _fail(f"a value of type {kind.__name__} that was closed: {exc}")
        # What an array is where there is no NumPy: its type and shape are part of it.
        return tensor_of_view(view) or flat(view)
    try:
        return _array(value, limits)
    except (EncodeError, MemoryError):
        raise
    except Exception as exc:
        _fail(f"a value that raises {type(exc).__name__} when it is looked at")


def _array(value: Any, limits: Limits) -> Any:
    """A value that is nothing of Python's own. Its code runs, and may raise anything."""
    if is_number(value):
        return _number(value, limits)
    try:
        tensor = tensor_of(value)
    except Exception as exc:  # Of a dtype that has no type; or what a property raises.
        from .no_term import array_hint

        _fail(f"an array that has no term: {exc}; {array_hint(value)}")
    if tensor is not None:
        return tensor
    _fail(_no_term(type(value)))


def _number(value: Any, limits: Limits) -> Any:
    """One of NumPy's numbers as one of Python's."""
    number = value.item()
    if type(number) not in (int, float, bool):
        _fail(_no_term(type(value)))
    return number if type(number) is float else _Term(encode(number, limits=limits)[1:])


def _tensor_head(tensor: Tensor) -> bytes:
    """What stands in front of a tensor's data."""
    (kind, width), shape = tensor.type, tensor.shape
    if (kind, width) not in TYPES:
        _fail(f"there is no type {{:{kind}, {width}}} of a tensor")
    if len(shape) > MAX_DIMENSIONS or not all(0 <= size < 2**31 for size in shape):
        _fail(f"a tensor has at most {MAX_DIMENSIONS} dimensions, each from 0 to 2^31-1")
    if tensor_bytes(tensor.type, shape) != len(tensor.data):
        expected = tensor_bytes(tensor.type, shape)
        _fail(f"a tensor whose data are {len(tensor.data)} bytes, of {expected} that it needs")
    type_term = _SMALL_TUPLES[2] + _atom(kind) + _SMALL_INTEGERS[width]
    sizes = [_SMALL_INTEGERS[size] if size < 256 else _tag_i32(INTEGER, size) for size in shape]
    return b"".join((_TENSOR, type_term, _SMALL_TUPLES[len(shape)], *sizes))


def _no_term(kind: type) -> str:
    from .no_term import hint  # Whoever has none of these need not load it.

    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    return f"a value of type {name} has no term; {hint(kind)}"


def _is_dataclass(kind: type) -> bool:
    # As `hasattr`, which would run code of a metaclass.
    return any("__dataclass_fields__" in _dict_of(base) for base in _mro_of(kind))


def _fields(value: Any) -> dict[str, Any]:
    from dataclasses import fields  # Whoever has a dataclass has it imported.

    try:
        return {field.name: getattr(value, field.name) for field in fields(value)}
    except Exception as exc:  # One that is missing, or what a property raises.
        _fail(f"a field of a dataclass cannot be read: {exc}")
