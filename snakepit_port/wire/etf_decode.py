"""External term format to Python values, in Python, whatever the bytes are.

There is no recursion: a stack holds the containers that are open. Every claim a term makes about
its size is compared with the bytes that are there before anything is allocated.

Layouts are those of the "External Term Format" chapter of the ERTS user's guide.
"""

from __future__ import annotations

from collections import Counter
from math import isfinite
from struct import error as StructError
from typing import Any, NoReturn

from .bulk import Reader
from .etf_parts import (
    MISSING,
    NESTED,
    OTHERS,
    f64,
    fail,
    i32,
    latin1_atoms,
    new_atom,
    truncated,
    u16,
    u32,
    utf8_atoms,
)
from .etf_wrapped import WRAPPERS, unwrap
from .limits import DEFAULT_LIMITS, Limits
from .tags import (
    ATOM,
    BINARY,
    COMPRESSED,
    FLOATS,
    INTEGER,
    INTEGERS,
    LIST,
    MAP,
    NEW_FLOAT,
    NIL,
    RUN,
    SMALL_ATOM_UTF8,
    SMALL_INTEGER,
    SMALL_TUPLE,
    STRING,
    VERSION,
)
from .terms import DecodeError, FrozenList, FrozenMap, ImproperList, join_path, show

#: What is being filled: one of the tags SMALL_TUPLE, LARGE_TUPLE, LIST, MAP, or one of these.
_ROOT, _TAIL = 0, 1

#: What does not change can be shared; each would be a hundred bytes for the one or five it came in.
_NO_ITEMS = FrozenList()
_NO_ENTRIES = FrozenMap()

#: More keys of a map than this may not share a hash. Hashes of numbers and tuples are no secret,
#: and a dict of keys with one hash takes quadratic time to build.
_MAX_SAME_HASH = 64

#: Keys and values of the largest map that cannot have so many.
_MAY_SHARE_HASH = 2 * _MAX_SAME_HASH

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
        fail("limit", f"a term of {len(data)} bytes, over the limit of {limits.size}")
    if not data:
        fail("truncated", "there is nothing to decode")
    if data[0] != VERSION:
        fail("version", f"a term begins with the byte 131, not {data[0]}")
    if data[1:2] == bytes((COMPRESSED,)):  # A kilobyte can inflate to a megabyte.
        fail("compressed", "compressed terms are not accepted")
    value, end = decode_prefix(data, 1, limits=limits, reader=reader)
    if end != len(data):
        fail("trailing", f"{len(data) - end} bytes follow the term")
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
                    (length,) = u32(data, pos + 1)
                    begin = pos + 5
                    stop = begin + length
                    if stop > size:
                        truncated()
                    append(data[begin:stop].decode())
                    pos = stop
                elif tag == SMALL_INTEGER:
                    append(data[pos + 1])
                    pos += 2
                elif tag in NESTED:
                    begin = pos
                    if tag == MAP:
                        (count,) = u32(data, pos + 1)
                        count *= 2
                        pos += 5
                    elif tag == LIST:
                        (count,) = u32(data, pos + 1)
                        pos += 5
                    else:
                        if tag == SMALL_TUPLE:
                            count = data[pos + 1]
                            pos += 2
                        else:
                            (count,) = u32(data, pos + 1)
                            pos += 5
                        if count in WRAPPERS and startswith(WRAPPERS[count], pos):
                            in_key = frozen or (kind == MAP and not len(items) & 1)
                            value, pos = unwrap(data, pos, count, reader, in_key)
                            append(value)
                            left -= 1
                            continue
                    if count > size - pos:
                        truncated()
                    elements += count
                    if elements > max_elements:
                        fail("limit", f"more than {max_elements} elements")
                    if len(stack) >= max_depth:
                        fail("limit", f"nested deeper than {max_depth}")
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
                    (value,) = f64(data, pos + 1)
                    if value - value != 0.0:
                        fail("malformed", "a float that is not finite")
                    append(value)
                    pos += 9
                elif tag == SMALL_ATOM_UTF8:
                    begin = pos + 2
                    pos = begin + data[pos + 1]
                    if pos > size:
                        truncated()
                    raw = data[begin:pos]
                    value = utf8_atoms.get(raw, MISSING)
                    append(new_atom(raw, "utf-8", utf8_atoms) if value is MISSING else value)
                elif tag == ATOM:
                    begin = pos + 3
                    pos = begin + u16(data, pos + 1)[0]
                    if pos > size:
                        truncated()
                    raw = data[begin:pos]
                    value = latin1_atoms.get(raw, MISSING)
                    append(new_atom(raw, "latin-1", latin1_atoms) if value is MISSING else value)
                elif tag == NIL:
                    append(_NO_ITEMS if frozen or (kind == MAP and not len(items) & 1) else [])
                    pos += 1
                elif tag == STRING:
                    begin = pos + 3
                    pos = begin + u16(data, pos + 1)[0]
                    if pos > size:
                        truncated()
                    elements += pos - begin
                    if elements > max_elements:
                        fail("limit", f"more than {max_elements} elements")
                    in_key = frozen or (kind == MAP and not len(items) & 1)
                    append((FrozenList if in_key else list)(data[begin:pos]))
                elif tag == INTEGER:
                    append(i32(data, pos + 1)[0])
                    pos += 5
                else:
                    read = OTHERS.get(tag)
                    if read is None:
                        fail("tag", f"there is no tag {tag} here")
                    value, pos = read(data, pos + 1, limits)
                    append(value)
                left -= 1

            # A container is full.
            if kind == MAP:
                if len(items) > _MAY_SHARE_HASH:
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
                    fail("limit", "too many improper lists inside each other")
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
            truncated()
        if tag == NEW_FLOAT:
            values = FLOATS[run].unpack_from(data, pos)
            if not isfinite(sum(values)) and not all(map(isfinite, values)):
                fail("malformed", "a float that is not finite")
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
    if len(hashes) - len(set(hashes)) >= _MAX_SAME_HASH:
        ((_hash, times),) = Counter(hashes).most_common(1)
        if times > _MAX_SAME_HASH:
            fail("limit", f"a map with {times} keys of one hash")


def _duplicate_key(items: list[Any]) -> NoReturn:
    seen: dict[Any, Any] = {}
    for key in items[::2]:
        if key in seen:
            break
        seen[key] = key
    first, second = show(seen[key]), show(key)
    fail("duplicate_key", f"the keys {first} and {second} of a map are the same in Python")
