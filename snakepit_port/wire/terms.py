"""Python's side of the Erlang terms that Python has no type for, and the codec's two errors.

The table of what becomes what is in the docstring of `snakepit_port.wire`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar


class TermError(ValueError):
    """What `DecodeError` and `EncodeError` share: a message and a place.

    `path` leads from the outermost value to the one at fault: `[0]["name"]`, `[2][:key]`, or
    `[3].key` if a map's key itself is at fault; empty for the outermost value. Whoever calls may
    put the name of the outermost value in front of it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.path = ""

    def __str__(self) -> str:
        return f"{self.message} (at {self.path})" if self.path else self.message


class EncodeError(TermError):
    """A Python value has no term, or exceeds a limit."""


class DecodeError(TermError):
    """Bytes are not a term, or hold one that has no Python value, or exceed a limit.

    `kind` is one of `DecodeError.KINDS`.
    """

    KINDS: ClassVar[frozenset[str]] = frozenset(
        {
            "version",  # The first byte is not 131.
            "truncated",  # The bytes end before the term, or claim more elements than can follow.
            "trailing",  # Bytes follow the term.
            "tag",  # A tag that does not exist, or not here.
            "malformed",  # A part of a term has a value it must not have.
            "utf8",  # A binary is not UTF-8 and not wrapped by SnakepitPort.bytes/1.
            "duplicate_key",  # Two keys of a map are the same in Python.
            "compressed",  # A compressed term; none is accepted.
            "limit",  # Larger, or more deeply nested, than the limits allow.
            "file",  # A file in shared memory is not there, or not what its name says.
            "array",  # A tensor of a kind that nothing installed here can hold.
        }
    )

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.args = (message, kind)
        self.kind = kind


#: Longer texts, and longer paths, are cut in messages.
_MAX_SHOWN_CHARS = 60
_MAX_SHOWN_STEPS = 16


def show(value: Any) -> str:
    """A map's key as a message shows it, in the way Elixir writes it; its type if it is not simple.

    Takes no time to speak of, unlike `repr`, which may also raise.
    """
    if isinstance(value, str):
        text = value if len(value) <= _MAX_SHOWN_CHARS else value[:_MAX_SHOWN_CHARS] + "…"
        # The quote in front makes repr choose the other kind around it.
        return f":{text}" if isinstance(value, Atom) else f'"{repr(chr(34) + text)[2:-1]}"'
    if type(value) is int and value.bit_length() > 64:
        return "<int>"
    if value is None or type(value) in (int, float, bool):
        return repr(value)
    return f"<{type(value).__name__}>"


def join_path(steps: list[str]) -> str:
    """A path out of its steps."""
    if len(steps) > _MAX_SHOWN_STEPS:
        steps = [*steps[:_MAX_SHOWN_STEPS], "…"]
    return "".join(steps)


class Atom(str):
    """An atom other than `true`, `false` and `nil`. Equal to the text of its name.

    So `d["name"]` finds the key `:name`, and a map that has both `:name` and `"name"` as keys
    cannot become a dict.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Atom({str.__repr__(self)})"


class Opaque:
    """A term that Python can hold, compare and give back unchanged, but not look into.

    Instances come out of `decode`; `raw` is the term's external form without the version byte.
    Two are equal when their bytes are.
    """

    __slots__ = ("raw",)

    raw: bytes

    def __init__(self, raw: bytes) -> None:
        object.__setattr__(self, "raw", raw)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} does not change")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.raw,)

    def __eq__(self, other: object) -> bool:
        if type(other) is type(self):
            return self.raw == other.raw
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        text = self.raw.hex()
        return f"<{type(self).__name__} {text if len(text) <= 60 else text[:59] + '…'}>"


class Pid(Opaque):
    """A process identifier."""

    __slots__ = ()


class Port(Opaque):
    """A port identifier."""

    __slots__ = ()


class Reference(Opaque):
    """A reference, as `make_ref/0` makes it."""

    __slots__ = ()


class Fun(Opaque):
    """A function, with the variables it closes over or by its name (`&Mod.fun/1`).

    The variables are not looked into: they may hold binaries that are not UTF-8.
    """

    __slots__ = ()


class BitString(Opaque):
    """A bit string whose length is no multiple of 8."""

    __slots__ = ()


class ImproperList(Opaque):
    """A list whose tail is not a list: `[1 | 2]`."""

    __slots__ = ()


class FrozenList:
    """A list inside a map's key, where Python allows no `list`. Travels back as a list.

    It is equal to another `FrozenList` of equal items, and to nothing else.
    """

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._items = tuple(items)
        self._hash = hash(("list", self._items))

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FrozenList):
            return self._hash == other._hash and self._items == other._items
        return NotImplemented

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenList, (self._items,)

    def __repr__(self) -> str:
        return f"FrozenList({list(self._items)!r})"


class FrozenMap(Mapping[Any, Any]):
    """A map inside a map's key, where Python allows no `dict`. Travels back as a map.

    It is equal to another `FrozenMap` of equal entries, and to nothing else.
    """

    __slots__ = ("_entries", "_hash")

    def __init__(self, entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = ()) -> None:
        self._entries = dict(entries)
        # The order of the entries does not count.
        self._hash = hash(("map", sum(map(hash, self._entries.items()))))

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._entries)

    def __getitem__(self, key: Any) -> Any:
        return self._entries[key]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FrozenMap):
            return self._hash == other._hash and self._entries == other._entries
        return NotImplemented

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenMap, (self._entries,)

    def __repr__(self) -> str:
        return f"FrozenMap({self._entries!r})"
