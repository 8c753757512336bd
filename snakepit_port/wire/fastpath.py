"""erlpack, where it is installed and provably writes the term that `etf_encode` would.

Only for encoding. Decoding with erlpack 1.0.1 is not quicker than `etf_decode`, and would have to
be guarded against bytes that crash the interpreter.

Guarded against, each with a test: bytes, which erlpack does not wrap; subclasses and atoms, which
it takes for binaries; NaN and infinities, which it writes; integers of more than 64 bits; depth; an
encoder used twice at a time, which mixes two terms up.
"""

from __future__ import annotations

import sys
from typing import Any

from .limits import DEFAULT_LIMITS, Limits

#: Whether erlpack is in use.
AVAILABLE = False

_encoders: list[Any] = []
_new_encoder: Any = None


def _load() -> bool:
    """Finds erlpack, and whether it is one that is known."""
    global _new_encoder
    # Without a GIL erlpack does not build; and to import it would bring the GIL back.
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    try:
        from erlpack import ErlangTermEncoder
    except ImportError:
        return False
    _new_encoder = ErlangTermEncoder
    return bool(ErlangTermEncoder().pack(_SAMPLE) == _SAMPLE_TERM)


_SAMPLE = {"é": [True, (None, -1, 2**40), 0.5]}
_SAMPLE_TERM = (
    b"\x83t\0\0\0\1m\0\0\0\2\xc3\xa9l\0\0\0\3s\4trueh\3s\3nilb\xff\xff\xff\xff"
    b"n\6\0\0\0\0\0\0\1F?\xe0\0\0\0\0\0\0j"
)

_KEYS = frozenset((str, int))
_LEAVES = frozenset((str, int, float, bool, type(None)))
_CONTAINERS = frozenset((list, tuple, dict))


def encode(value: Any, limits: Limits = DEFAULT_LIMITS) -> bytes | None:
    """The term of a list, tuple or dict; None for other values, where there is no erlpack, where it
    is not certain that `etf_encode` writes the same term, and where that is not quicker."""
    if not AVAILABLE or type(value) not in _CONTAINERS or not _is_plain(value, limits):
        return None
    try:
        encoder = _encoders.pop()
    except IndexError:
        encoder = _new_encoder()
    try:
        term: bytes = encoder.pack(value)
    except Exception:
        return None
    finally:
        _encoders.append(encoder)
    # A float whose exponent might be that of NaN and infinity, or bytes that look like it.
    if b"F\x7f" in term or b"F\xff" in term or len(term) > limits.size:
        return None
    return term


def _is_plain(value: Any, limits: Limits) -> bool:
    level = [value]
    room = limits.elements
    depth = limits.depth
    are_leaves = _LEAVES.issuperset
    while level:
        depth -= 1
        if depth < 0:
            return False
        below: list[Any] = []
        for container in level:
            inside = container
            if type(container) is dict:
                room -= 2 * len(container)
                if not _KEYS.issuperset(map(type, container)):
                    return False
                inside = container.values()
            else:
                room -= len(container)
            if not are_leaves(map(type, inside)):
                for item in inside:
                    kind = type(item)
                    if kind in _CONTAINERS:
                        below.append(item)
                    elif kind not in _LEAVES:
                        return False
        if room < 0:
            return False
        level = below
    return True


AVAILABLE = _load()
