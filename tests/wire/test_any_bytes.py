"""Any bytes whatsoever give a value or the one error, and take no more than the limits say."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from bombs import BOMBS, decoded
from hypothesis import given, settings
from term_strategies import term_like
from vector_files import same

from snakepit_port import wire
from snakepit_port.wire import DecodeError, Limits, etf_encode

HERE = Path(__file__).resolve().parent


def read(data: bytes) -> Any:
    """The value of bytes, or the error."""
    try:
        return wire.decode(data)
    except DecodeError as exc:
        return exc


@given(term_like)
@settings(max_examples=600)
def test_a_value_that_has_a_term_or_the_one_error(data):
    value = read(data)
    if isinstance(value, DecodeError):
        assert value.kind in DecodeError.KINDS
        assert 0 < len(str(value)) < 1000
    else:
        for encode in (wire.encode, etf_encode.encode):
            assert same(wire.decode(encode(value)), value)


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name):
    data, limits, error = BOMBS[name]
    tracemalloc.start()
    assert decoded(data, limits) == error
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Some are of small things, which are many times the size of their bytes.
    assert peak < 16 * 2**20 + 2 * len(data)


def test_bombs_with_little_memory():
    ran = subprocess.run(
        [sys.executable, HERE / "bombs.py", HERE.parents[1]], capture_output=True, text=True
    )
    assert (ran.stderr, ran.returncode) == ("", 0)
    results = json.loads(ran.stdout)
    for name, (_data, limits, error) in BOMBS.items():
        assert results.pop(name) == [error] + [False] * (3 if limits == Limits() else 0), name
    assert results == {}


N = 2**13


def _u32(n: int) -> bytes:
    return n.to_bytes(4, "big")


def _many(count: int, items: bytes) -> bytes:
    return b"\x83l" + _u32(count) + items + b"j"


def _numbered(count: int, before: bytes, behind: bytes) -> bytes:
    return b"".join(before + _u32(i) + behind for i in range(count))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_many(N, b"j" * N), id="empty lists"),
        pytest.param(_many(N, b"t\0\0\0\0" * N), id="empty maps"),
        pytest.param(_many(N // 2, b"l\0\0\0\1jj" * (N // 2)), id="lists of one list"),
        pytest.param(_many(N // 3, b"t\0\0\0\1a\1j" * (N // 3)), id="maps of one entry"),
        pytest.param(_many(N // 2, b"h\1j" * (N // 2)), id="tuples of one list"),
        pytest.param(_many(N, b"M\0\0\0\1\1\x80" * N), id="bit strings"),
        pytest.param(_many(N, b"Xw\0" * N + bytes(12 * N)), id="something like pids"),
        pytest.param(_many(N, b"qw\0w\0a\0" * N), id="functions"),
        pytest.param(_many(N, b"m\0\0\0\4\xf0\x9f\x90\x8d" * N), id="characters beyond 16 bits"),
        pytest.param(_many(N, _numbered(N, b"b", b"")), id="integers"),
        pytest.param(_many(N, _numbered(N, b"v\0\4", b"")), id="atoms"),
        pytest.param(_many(N // 2, b"k\0\1a" * (N // 2)), id="charlists of one"),
        pytest.param(b"\x83t" + _u32(N // 2) + _numbered(N // 2, b"b", b"j"), id="keys"),
        pytest.param(
            b"\x83t" + _u32(N // 5) + _numbered(N // 5, b"t\0\0\0\1b", b"jj"), id="maps as keys"
        ),
        pytest.param(
            b"\x83t" + _u32(N // 3) + _numbered(N // 3, b"l\0\0\0\1b", b"jj"), id="lists as keys"
        ),
        pytest.param(b"\x83t\0\0\0\1i" + _u32(N - 2) + b"j" * (N - 2) + b"j", id="lists in a key"),
        pytest.param(
            b"\x83t\0\0\0\1i" + _u32(N - 2) + b"t\0\0\0\0" * (N - 2) + b"j", id="maps in a key"
        ),
    ],
)
def test_what_an_element_takes(data):
    # The figure that the limit of elements reckons with.
    tracemalloc.start()
    decoded(data, Limits(elements=N))
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 142 * N


def test_keys_that_are_deep_and_equal():
    # Python compares them by recursion.
    for deep in (b"h\1" * 250 + b"a\1", b"l\0\0\0\1" * 250 + b"a\1" + b"j" * 250):
        with pytest.raises(DecodeError) as caught:
            wire.decode(b"\x83t\0\0\0\2" + deep + b"a\1" + deep + b"a\1")
        assert caught.value.kind in ("duplicate_key", "limit")


def test_atoms_that_are_many_are_not_kept():
    def atoms(first):
        return _many(N, b"".join(b"w\6" + b"%06d" % n for n in range(first, first + N)))

    wire.decode(atoms(0))
    tracemalloc.start()
    for first in range(N, 3 * N, N):
        wire.decode(atoms(first))
    now, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert now < 100_000
