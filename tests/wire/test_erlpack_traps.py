"""What erlpack 1.0.1 does wrong must not be seen from outside: one test for each of its traps.

The guard of whatever concerns decoding is that erlpack never decodes.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import zlib
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import NamedTuple

import erlpack
import pytest
from vector_files import cases, same, value

from snakepit_port import wire
from snakepit_port.wire import Atom, DecodeError, EncodeError, Limits, etf_encode, fastpath

ROOT = Path(__file__).resolve().parents[2]


def run(program: str, path: Path = ROOT) -> tuple[str, str, int]:
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT,
        env={"PYTHONPATH": str(path)},
    )  # fmt: skip
    return ran.stdout, ran.stderr, ran.returncode


def test_erlpack_is_in_use():
    # Or else the rest of this file tests nothing.
    assert fastpath.AVAILABLE
    assert fastpath.encode([1, {"a": (None, 0.5)}], wire.DEFAULT_LIMITS) is not None


# -- decoding --------------------------------------------------------------------------------------

DEEP = """
import erlpack
from snakepit_port import wire
data = b"\\x83" + b"l\\0\\0\\0\\1" * 200_000 + b"j" * 200_001
try:
    %s(data)
except wire.DecodeError as exc:
    print(exc.kind)
"""


def test_deep_input_does_not_crash_the_interpreter():
    assert run(DEEP % "wire.decode") == ("limit\n", "", 0)


def test_deep_input_crashes_erlpack():
    # If this fails, erlpack has become better than its guards. Python 3.14 sees it coming, and
    # raises RecursionError.
    crash = -signal.SIGSEGV if sys.version_info < (3, 14) else 1
    assert run(DEEP % "erlpack.unpack")[2] == crash


def test_deep_values_do_not_crash_the_interpreter():
    program = """
import sys
from snakepit_port import wire
for kind in (lambda v: [v], lambda v: (v,), lambda v: {"a": v}):
    value = 1
    for _ in range(200_000):
        value = kind(value)
    try:
        wire.encode(value)
    except wire.EncodeError as exc:
        print("nested deeper" in str(exc))
"""
    assert run(program) == ("True\n" * 3, "", 0)


@pytest.mark.parametrize("length", [3, 100, 2**32 - 1])
def test_binaries_that_are_cut(length):
    with pytest.raises(DecodeError) as caught:
        wire.decode(b"\x83m" + length.to_bytes(4, "big") + b"ab")
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize("kind", ["pid", "port", "reference", "improper_list", "bitstring", "fun"])
def test_terms_that_are_opaque(kind):
    vectors = [case for case in cases("terms.json") if case["value"].get("opaque") == kind]
    assert vectors
    for case in vectors:
        decoded = wire.decode(case["bytes"])
        assert same(decoded, value(case["value"])), case["name"]
        assert wire.encode(decoded) == case["bytes"], case["name"]
        assert same(wire.decode(wire.encode([decoded, "a"])), [decoded, "a"]), case["name"]


def test_compressed_terms():
    data = b"\x83P\0\0\0\2" + zlib.compress(b"a\1")
    with pytest.raises(DecodeError) as caught:
        wire.decode(data)
    assert caught.value.kind == "compressed"


def test_bytes_behind_a_term():
    with pytest.raises(DecodeError) as caught:
        wire.decode(b"\x83a\1a\2")
    assert caught.value.kind == "trailing"


# -- encoding --------------------------------------------------------------------------------------


class Level(IntEnum):
    LOW = 1


class Colour(StrEnum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: int


class Mixed(dict):
    def items(self):
        raise AssertionError("no code of a subclass runs")


class Hooked:
    """What erlpack would ask for another value."""

    def __erlpack__(self):
        return 1


@pytest.mark.parametrize(
    ("given", "term"),
    [
        # Integers beyond 64 bits.
        ([-(2**64)], b"l\0\0\0\1n\x09\1" + bytes(8) + b"\1j"),
        ([2**70], b"l\0\0\0\1n\x09\0" + bytes(8) + b"\x40j"),
        # Atoms, beyond Latin-1 and at all: erlpack takes ours for binaries, and its own fail.
        ([Atom("日本")], b"l\0\0\0\1w\6\xe6\x97\xa5\xe6\x9c\xacj"),
        ({"a": Atom("ok")}, b"t\0\0\0\1m\0\0\0\1aw\2ok"),
        ({Atom("ok"): 1}, b"t\0\0\0\1w\2oka\1"),
        # Pids and references.
        ([wire.Pid(b"Xw\1a" + bytes(12))], b"l\0\0\0\1Xw\1a" + bytes(12) + b"j"),
        (
            {"r": wire.Reference(b"Z\0\1w\1a" + bytes(8))},
            b"t\0\0\0\1m\0\0\0\1rZ\0\1w\1a" + bytes(8),
        ),
        # Floats that the BEAM does not know, wherever they are.
        ([float("nan")], b"l\0\0\0\1w\3nanj"),
        ((float("inf"), float("-inf")), b"h\2w\x08infinityw\x0cneg_infinity"),
        ({"a": [{"b": -float("nan")}]}, b"t\0\0\0\1m\0\0\0\1al\0\0\0\1t\0\0\0\1m\0\0\0\1bw\3nanj"),
        ({float("inf"): 1}, b"t\0\0\0\1w\x08infinitya\1"),
        # Bytes, which have to be told from text.
        ([b"a"], b"l\0\0\0\1h\2w\6$bytesm\0\0\0\1aj"),
        ({b"a": 1}, b"t\0\0\0\1h\2w\6$bytesm\0\0\0\1aa\1"),
        # Subclasses, which may be anything inside.
        ([Level.LOW, Colour.RED], b"l\0\0\0\2a\1m\0\0\0\3redj"),
        ([Pair(1, 2)], b"l\0\0\0\1h\2a\1a\2j"),
        ([Mixed(a=1)], b"l\0\0\0\1t\0\0\0\1m\0\0\0\1aa\1j"),
    ],
)  # fmt: skip
def test_what_erlpack_must_not_be_given(given, term):
    assert wire.encode(given) == b"\x83" + term
    assert fastpath.encode(given, wire.DEFAULT_LIMITS) is None


@pytest.mark.parametrize(
    "given", [[Hooked()], {"a": "\ud800"}, ["\udfff"], {"a": Hooked()}, {Hooked(): 1}]
)
def test_what_has_no_term_by_either_way(given):
    with pytest.raises(EncodeError):
        wire.encode(given)


def test_erlpack_keeps_to_the_limits():
    for given, limits in (
        ([[[["a"]]]], Limits(depth=3)),
        ([1, 2, 3, 4], Limits(elements=3)),
        ({"a": [1, 2, 3], "b": 4}, Limits(elements=6)),
        (["a" * 100], Limits(size=100)),
    ):
        assert fastpath.encode(given, wire.DEFAULT_LIMITS) is not None
        assert fastpath.encode(given, limits) is None
        with pytest.raises(EncodeError):
            wire.encode(given, limits=limits)


def test_values_that_share_their_parts_are_not_copied_for_ever():
    # 2^100 elements, of a hundred lists.
    shared = [1, 2]
    for _ in range(100):
        shared = [shared, shared]
    limits = Limits(elements=2**12)
    assert fastpath.encode(shared, limits) is None
    with pytest.raises(EncodeError, match="more than"):
        wire.encode(shared, limits=limits)


class Watched:
    """An encoder that notices when it is used while in use, and lets others in at that time."""

    meanwhile = staticmethod(lambda: None)

    def __init__(self) -> None:
        self.real = erlpack.ErlangTermEncoder()
        self.busy = False

    def pack(self, given):
        assert not self.busy
        self.busy = True
        try:
            if given == ["first"]:
                Watched.meanwhile()
            return self.real.pack(given)
        finally:
            self.busy = False


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(fastpath, "_new_encoder", Watched)
    monkeypatch.setattr(fastpath, "_encoders", [Watched()])
    yield monkeypatch
    assert all(not encoder.busy for encoder in fastpath._encoders)


def pack(given):
    return fastpath.encode(given, wire.DEFAULT_LIMITS)


FIRST, SECOND = b"\x83l\0\0\0\1m\0\0\0\5firstj", b"\x83l\0\0\0\1m\0\0\0\6secondj"


def test_an_encoder_in_use_is_not_used_again_by_the_same_thread(watched):
    # By a destructor, for one.
    terms = []
    watched.setattr(Watched, "meanwhile", lambda: terms.append(pack(["second"])))
    terms.append(pack(["first"]))
    assert terms == [SECOND, FIRST]


def test_an_encoder_in_use_is_not_used_by_another_thread(watched):
    terms = []

    def meanwhile():
        other = threading.Thread(target=lambda: terms.append(pack(["second"])))
        other.start()
        other.join()

    watched.setattr(Watched, "meanwhile", meanwhile)
    terms.append(pack(["first"]))
    assert terms == [SECOND, FIRST]


def test_an_encoder_that_failed_is_clean(watched):
    before = pack(["second"])
    for bad in (["first", "\ud800"], {"a": [1, 2, "\udfff"]}):
        assert pack(bad) is None
        assert pack(["second"]) == before == SECOND
    assert len(fastpath._encoders) == 1


def test_erlpack_is_left_alone_where_there_is_no_gil(tmp_path):
    # To import it would bring the GIL back.
    (tmp_path / "erlpack.py").write_text("raise SystemExit('imported')")
    program = f"""
import sys
sys._is_gil_enabled = lambda: False
sys.path.append({str(ROOT)!r})
from snakepit_port import wire
from snakepit_port.wire import fastpath
print(fastpath.AVAILABLE, "erlpack" in sys.modules, wire.decode(wire.encode([1])))
"""
    assert run(program, tmp_path) == ("False False [1]\n", "", 0)
    assert run(program.replace("False", "True", 1), tmp_path) == ("", "imported\n", 1)


MISSING = "raise ImportError"
ANOTHER = """
class ErlangTermEncoder:
    def pack(self, value):
        return b"\\x83j"
"""


@pytest.mark.parametrize("module", [MISSING, ANOTHER])
def test_an_erlpack_that_is_missing_or_another_is_not_used(tmp_path, module):
    (tmp_path / "erlpack.py").write_text(module)
    program = f"""
import sys
sys.path.append({str(ROOT)!r})
from snakepit_port import wire
from snakepit_port.wire import fastpath
print(fastpath.AVAILABLE, wire.decode(wire.encode([1])))
"""
    assert run(program, tmp_path) == ("False [1]\n", "", 0)


def test_both_ways_write_one_term_for_the_vectors():
    compared = 0
    for case in cases("terms.json"):
        for given in (value(case["value"]), [value(case["value"])]):
            written = None
            if type(given) in (list, tuple, dict):
                written = fastpath.encode(given, wire.DEFAULT_LIMITS)
            if written is not None:
                assert same(wire.decode(written), wire.decode(etf_encode.encode(given)))
                compared += 1
    assert compared > 50
