"""Small inputs that would take a careless reader much memory, much time, or its stack.

`python bombs.py ROOT` decodes all of them with little memory to spare.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import zlib

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])

from snakepit_port import wire
from snakepit_port.wire import DecodeError, Limits, envelopes, messages
from snakepit_port.wire.framing import pack
from snakepit_port.wire.grammar import ProtocolError

#: What decoding them may take beyond what the process has when it begins.
SPARE_BYTES = 96 * 2**20

_BILLIONS = b"\xff\xff\xff\xff"
_HALF = b"\x7f\xff\xff\xff"
_DEEP = 20_000


def _u32(n: int) -> bytes:
    return n.to_bytes(4, "big")


def _map_of(keys: list[bytes]) -> bytes:
    return b"\x83t" + _u32(len(keys)) + b"".join(key + b"a\1" for key in keys)


def fun(variables: bytes, count: int = 1, inside: bytes = b"w\1aa\1a\1Xw\1a" + bytes(12)) -> bytes:
    """A function; `inside` are its module, two numbers and a pid."""
    body = b"\1" + bytes(20) + _u32(count) + inside + variables
    return b"\x83p" + _u32(len(body) + 4) + body


# Python's hash of an integer is its remainder by this number.
_MODULUS = 2**61 - 1
_SAME_INTEGERS = [b"n\x0b\0" + (k * _MODULUS).to_bytes(11, "little") for k in range(1, 5_000)]
# -1 and -2 have one hash in Python, and so have tuples of them.
_SAME_TUPLES = [
    b"h\x0c" + b"".join(choice)
    for choice in itertools.product((b"b\xff\xff\xff\xff", b"b\xff\xff\xff\xfe"), repeat=12)
]
# A map's hash is the sum of those of its entries, or Python's dicts would be ordered.
_SAME_MAPS = [
    b"t\0\0\0\2" + b"a\0" + b"n\x0b\0" + (k * _MODULUS).to_bytes(11, "little") + b"a\1a\1"
    for k in range(1, 3_000)
]

#: name -> (bytes, limits, the error expected; None where it is a value)
BOMBS: dict[str, tuple[bytes, Limits, str | None]] = {
    "list of 4 billion": (b"\x83l" + _BILLIONS + b"j", Limits(), "truncated"),
    "tuple of 4 billion": (b"\x83i" + _BILLIONS + b"j", Limits(), "truncated"),
    "map of 4 billion": (b"\x83t" + _BILLIONS + b"j", Limits(), "truncated"),
    "lists that claim 2 billion each": (b"\x83" + (b"l" + _HALF) * 200, Limits(), "truncated"),
    "binary of 4 GiB": (b"\x83m" + _BILLIONS, Limits(), "truncated"),
    "bit string of 4 GiB": (b"\x83M" + _BILLIONS + b"\1", Limits(), "truncated"),
    "integer of 4 GiB": (b"\x83o" + _BILLIONS + b"\0", Limits(), "truncated"),
    "integer of 2 MiB": (b"\x83o" + _u32(2**21) + bytes(2**21 + 1), Limits(), "limit"),
    "run of 4 billion floats": (b"\x83l" + _BILLIONS + b"F" + bytes(99), Limits(), "truncated"),
    "deep lists": (b"\x83" + b"l\0\0\0\1" * _DEEP, Limits(), "limit"),
    "deep tuples": (b"\x83" + b"h\1" * _DEEP + b"a\1", Limits(), "limit"),
    "deep maps": (b"\x83" + b"t\0\0\0\1a\1" * _DEEP + b"a\1", Limits(), "limit"),
    "deep keys": (b"\x83" + b"t\0\0\0\1" * _DEEP + b"a\1" * (2 * _DEEP), Limits(), "limit"),
    "deep tails": (b"\x83" + b"l\0\0\0\1j" * _DEEP + b"a\1", Limits(), "limit"),
    "deep empty tails": (b"\x83" + b"l\0\0\0\0" * _DEEP + b"a\1", Limits(), "limit"),
    "long list": (b"\x83l" + _u32(2**21) + b"j" * 2**21 + b"j", Limits(elements=2**20), "limit"),
    "many lists": (
        b"\x83l" + _u32(2**19) + b"l\0\0\0\4" + b"j" * 2**22,
        Limits(elements=2**19 + 3),
        "limit",
    ),
    "long charlists": (
        b"\x83l" + _u32(64) + (b"k\xff\xff" + bytes(65_535)) * 64,
        Limits(elements=2**17),
        "limit",
    ),
    "improper lists in each other": (
        b"\x83" + b"l\0\0\0\1" * 200 + b"m" + _u32(2**20) + bytes(2**20) + b"a\1" * 200,
        Limits(),
        "limit",
    ),
    "integers of one hash": (_map_of(_SAME_INTEGERS), Limits(), "limit"),
    "tuples of one hash": (_map_of(_SAME_TUPLES), Limits(), "limit"),
    "maps of one hash": (_map_of(_SAME_MAPS), Limits(), "limit"),
    "keys of one hash inside a key": (
        b"\x83t\0\0\0\1" + _map_of(_SAME_INTEGERS)[1:] + b"a\1",
        Limits(),
        "limit",
    ),
    "deep function": (fun(b"l\0\0\0\1" * _DEEP + b"j" * (_DEEP + 1)), Limits(), None),
    "functions in a function": (b"\x83" + fun(b"a\1")[1:], Limits(), None),
    "function of 4 billion": (fun(b"a\1", 2**32 - 1), Limits(), "truncated"),
    "function with a list of 4 billion": (fun(b"l" + _BILLIONS), Limits(), "truncated"),
    "compressed 1 GiB": (
        b"\x83P" + _u32(2**30) + zlib.compress(bytes(2**24), 9),
        Limits(),
        "compressed",
    ),
}


def decoded(data: bytes, limits: Limits) -> str | None:
    """The kind of error that bytes give, or None for a value."""
    try:
        wire.decode(data, limits=limits)
    except DecodeError as exc:
        return exc.kind
    return None


def parsed(data: bytes) -> bool:
    """Whether bytes are a frame, which is read in every way."""
    frame = pack(data)
    for read in (envelopes.read_usual_call, envelopes.open_usual_call, envelopes.read_answer):
        with contextlib.suppress(ProtocolError):
            read(frame)
    try:
        messages.parse(frame)
    except ProtocolError:
        return False
    return True


def main() -> None:
    import resource

    with open("/proc/self/statm", encoding="ascii") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + SPARE_BYTES, now + SPARE_BYTES))
    results = {}
    for name, (data, limits, _error) in BOMBS.items():
        results[name] = [decoded(data, limits)]
        if limits == Limits():  # There are no others for frames.
            inner = data[1:]
            frames = [data, b"\x83h\2w\3log" + inner, b"\x83h\2" + inner + b"a\1"]
            results[name] += map(parsed, frames)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
