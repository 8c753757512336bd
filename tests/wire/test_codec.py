"""Terms there and back: whatever has a term returns, and whatever has none is refused."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import io
import itertools
import mmap
import subprocess
import sys
import threading
import tracemalloc
from decimal import Decimal
from ipaddress import ip_address
from math import prod
from pathlib import PurePosixPath
from typing import NamedTuple

import pytest
from bombs import fun
from hypothesis import example, given
from hypothesis import strategies as st
from term_strategies import plain_values, values
from vector_files import same

from snakepit_port import wire
from snakepit_port.wire import (
    Atom,
    BitString,
    DecodeError,
    EncodeError,
    FrozenList,
    FrozenMap,
    ImproperList,
    Limits,
    Tensor,
    etf_encode,
    fastpath,
)

NAN = float("nan")


def short(value):
    return repr(value)[:40]


@given(values)
def test_what_is_encoded_comes_back(value):
    assert same(wire.decode(wire.encode(value)), value)
    assert same(wire.decode(etf_encode.encode(value)), value)


@given(plain_values)
@example({"F\x7f": [1.0]})
@example([2.0**1023, "F\xff"])
@example([1, 2, 255])
@example([True, 1, 0, False])
def test_erlpack_writes_the_same_terms_or_nothing(value):
    try:
        expected = etf_encode.encode(value)
    except EncodeError:
        expected = None
    if type(value) in (list, tuple, dict):  # The rest does not take this way.
        written = fastpath.encode(value, wire.DEFAULT_LIMITS)
        if written is not None:
            assert expected is not None
            assert same(wire.decode(written), wire.decode(expected))
    if expected is None:
        with pytest.raises(EncodeError):
            wire.encode(value)
    else:
        assert same(wire.decode(wire.encode(value)), wire.decode(expected))


class Pair(NamedTuple):
    left: int
    right: str


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Inner:
    n: int


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    items: list


class Text(str):
    __slots__ = ()

    def encode(self, *_):
        raise AssertionError("no code of a subclass runs")


class OddFloat(float):
    def __float__(self):
        raise AssertionError("no code of a subclass runs")


class OddDict(dict):
    def items(self):
        raise AssertionError("no code of a subclass runs")


class OddBytes(bytes):
    def __getitem__(self, _):
        raise AssertionError("no code of a subclass runs")


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (NAN, Atom("nan")),
        (float("inf"), Atom("infinity")),
        ([1.0] * 20 + [float("-inf")], [1.0] * 20 + [Atom("neg_infinity")]),
        ([float("inf"), float("-inf")] * 20, [Atom("infinity"), Atom("neg_infinity")] * 20),
        ([1e308] * 20, [1e308] * 20),
        (bytearray(b"\xff"), b"\xff"),
        (memoryview(b"ab\xff"), b"ab\xff"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (memoryview(b"ab\xff").cast("c"), b"ab\xff"),
        (memoryview(bytes(6)).cast("c", (2, 3)), bytes(6)),
        (memoryview(bytes(6)).cast("B", (2, 3)), Tensor(("u", 8), (2, 3), bytes(6))),
        (memoryview(b"a").cast("B", ()), Tensor(("u", 8), (), b"a")),
        (memoryview(b"\xff\0").cast("b"), Tensor(("s", 8), (2,), b"\xff\0")),
        (memoryview(b"\1\0").cast("?"), Tensor(("u", 8), (2,), b"\1\0")),
        (memoryview(b"\1\0\2\0").cast("H"), Tensor(("u", 16), (2,), b"\1\0\2\0")),
        (memoryview(bytes(16)).cast("d")[::2], Tensor(("f", 64), (1,), bytes(8))),
        *[
            (Tensor(("u", 8), shape, b"a" * prod(shape)),) * 2
            for shape in ((2**31 - 1, 0), (1,) * 32, (255,), (256,))
        ],
        (Pair(1, "a"), (1, "a")),
        (Colour.RED, "red"),
        (Level.LOW, 1),
        (Inner(1), {"n": 1}),
        (Outer(Inner(1), [Inner(2)]), {"inner": {"n": 1}, "items": [{"n": 2}]}),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (Text("x"), "x"),
        (OddFloat(0.5), 0.5),
        (OddDict(a=1), {"a": 1}),
        (OddBytes(b"x"), b"x"),
        ([Text("a"), {Text("b"): Level.LOW}], ["a", {"b": 1}]),
        (FrozenList([1, 300]), [1, 300]),
        (FrozenMap({"a": FrozenList()}), {"a": []}),
        ({FrozenList([1]): {FrozenMap(): 2}}, {FrozenList([1]): {FrozenMap(): 2}}),
        (Atom("true"), True),
        (Atom("nil"), None),
        (list(range(256)) * 256, list(range(256)) * 256),  # too long for a STRING_EXT
        ([0] * 65_535, [0] * 65_535),
    ],
    ids=short,
)
def test_what_comes_back_as_something_else(value, back):
    for encode in (wire.encode, etf_encode.encode):
        assert same(wire.decode(encode(value)), back)
        assert same(wire.decode(encode([value, 1])), [back, 1])


class Nothing:
    pass


def contains_itself(kind):
    value = kind()
    if kind is dict:
        value["a"] = value
    else:
        value.append(value)
    return value


broken = Inner(1)
del broken.n

circle = Inner(0)
circle.n = [circle]

with memoryview(b"abc") as released, mmap.mmap(-1, 10) as closed:
    pass


@pytest.mark.parametrize(
    ("value", "message", "path"),
    [
        (Nothing(), "type test_codec.Nothing has no term", ""),
        ({1, 2}, "type set", ""),
        ([1, {"a": (0, 1j)}], "type complex", '[1]["a"][1]'),
        ({Atom("k"): [object()]}, "type object", "[:k][0]"),
        ({(1, frozenset()): 1}, "type frozenset", ".key[1]"),
        ([Outer(Inner(1), [print])], "builtin_function_or_method", '[0]["items"][0]'),
        (["\ud800"], "not valid Unicode", "[0]"),
        ({"\udfff": 1}, "not valid Unicode", ".key"),
        (Atom("\ud800"), "not valid Unicode", ""),
        ([Atom("é" * 256)], "256 characters", "[0]"),
        ([(Atom("$bytes"), b"a")], "stands for something else", "[0]"),
        ((Atom("$bytes"), 1), "stands for something else", ""),
        ({None: 1, Atom("nil"): 2}, "the same term", ""),
        ([{NAN: 1, float("nan"): 2}], "the same term", "[0]"),
        ({True: 1, Atom("true"): 2}, "the same term", ""),
        (contains_itself(list), "contain itself", "[0]" * 16 + "…"),
        (contains_itself(dict), "contain itself", '["a"]' * 16 + "…"),
        (circle, "contain itself", '["n"][0]' * 8 + "…"),
        ([broken], "field of a dataclass cannot be read", "[0]"),
        ([released], "type memoryview that was closed", "[0]"),
        ({"a": closed}, "type mmap that was closed", '["a"]'),
        ([2 ** (8 * 2**20)], "1048577 bytes", "[0]"),
    ],
)
def test_what_has_no_term_is_named_with_its_place(value, message, path):
    with pytest.raises(EncodeError, match=message) as caught:
        wire.encode(value)
    assert caught.value.path == path


class Meta(type):
    @property
    def __module__(cls):
        raise KeyError("m")


class OddError(Exception):
    def __str__(self):
        raise KeyError("s")


class OddArray:
    shape = ()

    @property
    def dtype(self):
        raise OddError


class OddClass:
    @property
    def __class__(self):
        raise RuntimeError


class MetaOfFields(type):
    @property
    def __dataclass_fields__(cls):
        raise RuntimeError


@pytest.mark.parametrize("make", [lambda: Meta("M", (), {})(), OddArray], ids=["type", "array"])
def test_what_raises_when_it_is_looked_at_has_no_term(make):
    with pytest.raises(EncodeError, match="that raises KeyError when it is") as caught:
        wire.encode([1, {"a": make()}])
    assert caught.value.path == '[1]["a"]'


@pytest.mark.parametrize("make", [OddClass, lambda: MetaOfFields("Odd", (), {})()])
def test_a_value_is_not_asked_what_it_is(make):
    with pytest.raises(EncodeError, match=r"of type .*Odd\w* has no term"):
        wire.encode(make())


class Point(NamedTuple):
    x: int
    y: int


class Coloured(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    "value",
    [
        wire.Pid(b"\x58\x77\x0dnonode@nohost" + bytes(12)),
        Point(1, 2),
        Coloured.RED,
        collections.OrderedDict(a=1),
        bytearray(b"abc"),
        memoryview(b"abc"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_signal_handler_raises_passes_at_every_step(value):
    """A command's own alarm may end an encode anywhere, and has to be known for what it is."""

    def late_at(step: int) -> bool:
        """Raises at that step, as a handler does; whether there is one."""
        steps = 0

        def trace(frame, event, _arg):
            nonlocal steps
            if frame.f_code.co_filename != etf_encode.__file__:
                return None
            if event == "line":
                steps += 1
                if steps == step:
                    raise TimeoutError("late")
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            wire.encode([value])
        except TimeoutError:
            return True
        finally:
            sys.settrace(before)
        return False

    steps = next(step for step in itertools.count(1) if not late_at(step))
    assert steps > 30


class Plain(enum.Enum):
    RED = 1


async def asynchronous():
    yield 1


def class_of(module, name, *bases, **more):
    """A class as a library has it that need not be installed."""
    return type(name, bases, {"__module__": module, **more})


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({1}, "set has no term; use list(...)"),
        ({"a": 1}.keys(), "dict_keys has no term; use list(...)"),
        ((n for n in ()), "generator has no term; use list(...)"),
        (collections.deque(), "collections.deque has no term; use list(...)"),
        (datetime.datetime.now(), "datetime.datetime has no term; use .isoformat()"),
        (datetime.timedelta(1), "datetime.timedelta has no term; use .total_seconds()"),
        (
            Decimal(1),
            "decimal.Decimal has no term; use str(...), or float(...) where that is exact enough",
        ),
        (PurePosixPath("/"), "PurePosixPath has no term; use str(...)"),
        (ValueError(), "ValueError has no term; use str(...)"),
        (Plain.RED, "test_codec.Plain has no term; use .value or .name"),
        (1j, "complex has no term; use [z.real, z.imag]"),
        (io.BytesIO(), "_io.BytesIO has no term; use .getvalue()"),
        (ip_address("::1"), "ipaddress.IPv6Address has no term; use str(...)"),
        (class_of("builtins", "coroutine")(), "coroutine has no term; use asyncio.run(...)"),
        (asynchronous(), "async_generator has no term; write a plain generator"),
        (
            class_of("pandas.core.frame", "DataFrame")(),
            'DataFrame has no term; use .to_dict("list"), or .to_numpy() for an array',
        ),
        (
            class_of("pandas.api.typing", "NaTType", datetime.datetime)(1, 1, 1),
            "pandas.api.typing.NaTType has no term; use None",
        ),
        (
            class_of("pyarrow.lib", "Int64Array", class_of("pyarrow.lib", "Array"))(),
            "pyarrow.lib.Int64Array has no term; use .to_pylist()",
        ),
        (class_of("PIL.Image", "Image")(), "Image has no term; use numpy.asarray(...)"),
        (
            class_of("test", "Point", __attrs_attrs__=())(),
            "test.Point has no term; use attrs.asdict(...)",
        ),
        (
            class_of("test", "set")(),
            "test.set has no term; what has one stands in section 2 of protocol/SPEC.md",
        ),
        (
            class_of(None, "Odd")(),
            "None.Odd has no term; what has one stands in section 2 of protocol/SPEC.md",
        ),
    ],
)
def test_what_has_no_term_is_told_what_to_use_instead(value, told):
    with pytest.raises(EncodeError) as caught:
        wire.encode(value)
    assert caught.value.message.endswith(told)


def test_encoding_needs_no_hints():
    """They are loaded with the first value that has no term, not with the codec."""
    program = "import sys; from snakepit_port import wire; wire.encode([1.5, {1: b'a'}])"
    check = "print([name for name in sys.modules if name.endswith('no_term')])"
    told = subprocess.check_output([sys.executable, "-c", f"{program}; {check}"], text=True)
    assert told == "[]\n"


@pytest.mark.parametrize(
    ("data", "kind", "path"),
    [
        (b"l\0\0\0\2a\1m\0\0\0\1\xffj", "utf8", "[1]"),
        (b"t\0\0\0\1m\0\0\0\1ah\2a\1m\0\0\0\1\xff", "utf8", '["a"][1]'),
        (b"t\0\0\0\1w\1km\0\0\0\1\xff", "utf8", "[:k]"),
        (b"t\0\0\0\1h\2a\1m\0\0\0\1\xffa\1", "utf8", ".key[1]"),
        (b"l\0\0\0\1l\0\0\0\1a\1m\0\0\0\1\xff", "utf8", "[0].tail"),
        (b"h\1t\0\0\0\2a\1a\1a\1a\2", "duplicate_key", "[0]"),
        (b"h\3a\1a\1" + b"h\1" * 40 + b"\1", "tag", "[2]" + "[0]" * 15 + "…"),
    ],
)
def test_what_is_refused_is_named_with_its_place(data, kind, path):
    with pytest.raises(DecodeError) as caught:
        wire.decode(b"\x83" + data)
    assert (caught.value.kind, caught.value.path) == (kind, path)


IMPROPER = b"l\0\0\0\1a\1a\2"


def tensor(type=b"h\2w\1ua\x08", shape=b"h\1a\1", data=b"x"):
    """A tensor of one byte, with other parts."""
    return b"h\4w\7$tensor" + type + shape + b"m" + len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"M\0\0\0\2\x08\xc3\xa9", "é"),
        (b"M\0\0\0\0\0", ""),
        (b"c+1.5e3\0xyz" + bytes(21), 1500.0),
        (b"Z\0\1w\1a" + bytes(8), wire.Reference(b"Z\0\1w\1a" + bytes(8))),
        # A list in two pieces as a key; many improper ones far behind the beginning.
        (b"t\0\0\0\1l\0\0\0\1a\1k\0\1\2a\3", {FrozenList([1, 2]): 3}),
        (b"t\0\0\0\1l\0\0\0\1a\1l\0\0\0\1a\2ja\3", {FrozenList([1, 2]): 3}),
        (
            b"h\x15m\0\0\4\0" + b"x" * 1024 + IMPROPER * 20,
            ("x" * 1024, *[ImproperList(IMPROPER)] * 20),
        ),
        # The tail is a number as those before it.
        (b"l\0\0\0\x08" + b"a\1" * 9, ImproperList(b"l\0\0\0\x08" + b"a\1" * 9)),
        (tensor(shape=b"h\x20" + b"a\1" * 32), Tensor(("u", 8), (1,) * 32, b"x")),
        (tensor(shape=b"h\2b\0\0\0\0a\1", data=b""), Tensor(("u", 8), (0, 1), b"")),
    ],
)
def test_forms_that_are_rare_and_legal_are_read(data, value):
    assert same(wire.decode(b"\x83" + data), value)


@pytest.mark.parametrize(
    "data",
    [
        b"M\0\0\0\1\x09a",
        tensor(type=b"a\2w\1ua\x08"),
        tensor(type=b"h\3w\1ua\x08"),
        tensor(type=b"h\2w\1ub\x08"),
        tensor(shape=b"a\1a\1"),
        tensor(shape=b"h\x21" + b"a\1" * 33),
        tensor(shape=b"h\1l\0\0\0\1"),
        # The product would fit.
        tensor(shape=b"h\2b\xff\xff\xff\xffb\xff\xff\xff\xff"),
        tensor(shape=b"h\2b\x80\0\0\0a\0", data=b""),
        # A port, a binary and an atom, each of the length of what belongs there.
        fun(b"", 0, b"w\1aa\1a\1Yw\1a" + bytes(8))[1:],
        fun(b"", 0, b"w\1am\0\0\0\0a\1Xw\1a" + bytes(12))[1:],
        fun(b"", 0, b"w\1aa\1w\3abcXw\1a" + bytes(12))[1:],
    ],
)
def test_parts_of_a_term_are_of_the_right_kind(data):
    with pytest.raises(DecodeError) as caught:
        wire.decode(b"\x83" + data)
    assert caught.value.kind == "malformed"


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        # Small numbers are one object wherever they are.
        (b"a\1 a\1 a\2", "1 and 1"),
        (b"a\1 a\2 F\x3f\xf0\0\0\0\0\0\0", "1 and 1.0"),
        (b"a\2 w\1k m\0\0\0\1k", ':k and "k"'),
    ],
)
def test_keys_that_are_the_same_are_named(keys, named):
    data = b"".join(key + b"a\0" for key in keys.split(b" "))
    with pytest.raises(DecodeError, match=f"^the keys {named} of a map are the same in Python$"):
        wire.decode(b"\x83t\0\0\0\3" + data)


def nested(levels, kind=list):
    value = kind()
    for _ in range(levels - 1):
        value = kind([value]) if kind is not dict else {"a": value}
    return value


@pytest.mark.parametrize("others", [0, 1, 100])
def test_64_keys_of_a_map_may_share_a_hash(others):
    # Python's hash of an integer is its remainder by this number.
    same_hash = {k * (2**61 - 1): 0 for k in range(1, 65)}
    value = {**same_hash, **dict.fromkeys(range(1, 1 + others), 0)}
    assert same(wire.decode(wire.encode(value)), value)
    with pytest.raises(DecodeError, match="65 keys of one hash") as caught:
        wire.decode(wire.encode({**value, 65 * (2**61 - 1): 0}))
    assert caught.value.kind == "limit"


def test_keys_in_keys_are_not_compared_again_at_each_level():
    # That would take 2^100 steps.
    value = FrozenMap({1: 2})
    for _ in range(100):
        value = FrozenMap({value: 1})
    assert same(wire.decode(wire.encode({value: 1})), {value: 1})


@pytest.mark.parametrize(
    ("value", "head"),
    [
        (Atom("é" * 127 + "a"), b"w\xff"),
        (Atom("é" * 128), b"v\1\0"),
        ([0] * 65_535, b"k\xff\xff"),
        ([0] * 65_536, b"l\0\1\0\0"),
    ],
    ids=short,
)
def test_a_long_form_is_written_where_the_beam_writes_it(value, head):
    assert etf_encode.encode(value).startswith(b"\x83" + head)


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_the_limit_of_depth(kind):
    # A container without elements is one byte and opens nothing, but for a map.
    for limits in (Limits(), Limits(depth=5)):
        deepest = nested(limits.depth, kind)
        for encode in (wire.encode, etf_encode.encode):
            assert same(wire.decode(encode(deepest, limits=limits), limits=limits), deepest)
            with pytest.raises(EncodeError, match="deeper"):
                encode([[deepest]], limits=limits)
        data = etf_encode.encode([[deepest]], limits=Limits(depth=1000))
        with pytest.raises(DecodeError, match="deeper") as caught:
            wire.decode(data, limits=limits)
        assert caught.value.kind == "limit"


@pytest.mark.parametrize("numbers", [[1] * 10, [300] * 10, [0.5] * 10, [-1, 2**40] * 5])
def test_the_limit_of_depth_where_numbers_are(numbers):
    # Small ones are a STRING_EXT, which opens nothing.
    for depth in range(1, 6):
        value = numbers
        for _ in range(3):
            value = [value]
        limits = Limits(depth=depth)
        for encode in (wire.encode, etf_encode.encode):
            try:
                data = encode(value, limits=limits)
            except EncodeError:
                assert depth < 3 + (numbers[0] != 1)
            else:
                assert depth >= 3 + (numbers[0] != 1)
                assert same(wire.decode(data, limits=limits), value)


@pytest.mark.parametrize(
    "value",
    [
        [1] * 10,
        [0.5] * 10,
        ["a"] * 10,
        (1,) * 10,
        {n: n for n in range(5)},
        [[1, 2], (3, 4), {5: 6}],
    ],
    ids=short,
)
def test_the_limit_of_elements(value):
    # The last one has three elements, and six in those.
    count = 9 if len(value) == 3 else 10
    enough, too_few = Limits(elements=count), Limits(elements=count - 1)
    for encode in (wire.encode, etf_encode.encode):
        data = encode(value, limits=enough)
        assert same(wire.decode(data, limits=enough), value)
        with pytest.raises(EncodeError, match="more than"):
            encode(value, limits=too_few)
        with pytest.raises(DecodeError, match="more than") as caught:
            wire.decode(data, limits=too_few)
        assert caught.value.kind == "limit"


@pytest.mark.parametrize("value", ["a" * 1000, b"a" * 1000, ["a" * 400] * 3, [1.5] * 200])
def test_the_limit_of_size(value):
    size = len(wire.encode(value))
    for encode in (wire.encode, etf_encode.encode):
        assert len(encode(value, limits=Limits(size=size))) == size
        with pytest.raises(EncodeError, match="exceeds the limit"):
            encode(value, limits=Limits(size=size - 1))
    wire.decode(wire.encode(value), limits=Limits(size=size))
    with pytest.raises(DecodeError) as caught:
        wire.decode(wire.encode(value), limits=Limits(size=size - 1))
    assert caught.value.kind == "limit"


@pytest.mark.parametrize("value", ["a" * 2**20, b"a" * 2**20, bytearray(2**20)], ids=short)
def test_what_exceeds_the_limit_of_size_is_not_built_first(value):
    tracemalloc.start()
    with pytest.raises(EncodeError, match="exceeds the limit"):
        etf_encode.encode([value] * 16, limits=Limits(size=2**21))
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2**20


@pytest.mark.parametrize("sign", [1, -1])
def test_the_limit_of_integers(sign):
    limits = Limits(integer_bytes=300)
    largest = sign * (256**300 - 1)
    assert wire.decode(wire.encode(largest, limits=limits), limits=limits) == largest
    with pytest.raises(EncodeError, match="301 bytes"):
        wire.encode(sign * 256**300, limits=limits)
    with pytest.raises(DecodeError, match="301 bytes") as caught:
        wire.decode(wire.encode(sign * 256**300), limits=limits)
    assert caught.value.kind == "limit"


def test_a_dict_that_grows_meanwhile_is_an_error():
    class Grows:
        """Adds to the dict when it is asked for its fields."""

        __dataclass_fields__ = Inner.__dataclass_fields__

        @property
        def n(self):
            shared["more"] = 1
            return 0

    shared = {"a": Grows(), "b": 1}
    with pytest.raises(EncodeError, match="changed size") as caught:
        wire.encode([0, shared])
    assert caught.value.path == "[1]"


def test_the_place_of_what_is_gone_meanwhile_is_not_known():
    class Goes:
        """Is taken out of the dict when it is asked for its fields, and has none."""

        __dataclass_fields__ = Inner.__dataclass_fields__

        @property
        def n(self):
            shared["a"] = 1
            raise AttributeError

    shared = {"a": Goes()}
    with pytest.raises(EncodeError, match="cannot be read") as caught:
        wire.encode([0, shared])
    assert caught.value.path == "[1][?]"


def test_a_list_that_grows_meanwhile_is_as_it_was():
    class Grows:
        """Adds to the list when it is asked for its fields."""

        __dataclass_fields__ = Inner.__dataclass_fields__

        @property
        def n(self):
            shared.append("more")
            return 0

    shared = ["a", Grows(), "b"]
    assert wire.decode(wire.encode(shared)) == ["a", {"n": 0}, "b"]
    assert shared[3:] == ["more"]


def test_threads_encode_at_the_same_time():
    # Long enough that the interpreter switches between them.
    inputs = [
        {"n": [n + 0.5, str(n)] * 300, "k": {str(i): n for i in range(300)}} for n in range(4)
    ]
    wrong = []

    def work(value):
        for _ in range(60):
            if wire.decode(wire.encode(value)) != value:
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_opaque_values_do_not_change():
    value = BitString(b"M\0\0\0\1\1\x80")
    with pytest.raises(AttributeError, match="does not change"):
        value.raw = b""
    assert {value: 1}[BitString(bytes(value.raw))] == 1
    assert value != wire.Pid(value.raw)


@given(st.lists(st.integers()), st.dictionaries(st.text(), st.integers()))
def test_frozen_values_are_what_they_hold(items, entries):
    assert list(FrozenList(items)) == items
    assert FrozenMap(entries) == FrozenMap(list(reversed(entries.items())))
    assert hash(FrozenMap(entries)) == hash(FrozenMap(list(reversed(entries.items()))))
    assert dict(FrozenMap(entries)) == entries
    assert FrozenList(items) != items
