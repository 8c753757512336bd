"""NumPy's arrays as tensors and back: the real NumPy."""

from __future__ import annotations

import subprocess
import sys
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakepit_port import wire
from snakepit_port.bulk import arrays
from snakepit_port.bulk.files import FileReader, Folder
from snakepit_port.wire.bulk import TYPES as TENSOR_TYPES

READER = FileReader(None, "w")

TYPES = {
    "int8": ("s", 8),
    "int16": ("s", 16),
    "int32": ("s", 32),
    "int64": ("s", 64),
    "uint8": ("u", 8),
    "uint16": ("u", 16),
    "uint32": ("u", 32),
    "uint64": ("u", 64),
    "float16": ("f", 16),
    "float32": ("f", 32),
    "float64": ("f", 64),
    "complex64": ("c", 64),
    "complex128": ("c", 128),
}


def sent(value: Any) -> Any:
    """A value that went there and arrived."""
    return wire.decode(wire.encode(value), reader=READER)


ASTYPE = "use .astype(...) with a dtype that has one"
LIST = f"{ASTYPE}, or .tolist()"
DAYS = np.array(["2020-01-01"], "datetime64[D]")


def failure(value: Any) -> str:
    with pytest.raises(wire.EncodeError) as caught:
        wire.encode(value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_arrays_of_every_type_and_byte_order(dtype: str, order: str) -> None:
    numbers = np.arange(24).reshape(2, 3, 4) * (1 + 2j if dtype.startswith("complex") else 1)
    array = numbers.astype(np.dtype(dtype).newbyteorder(order))
    assert wire.decode(wire.encode(array)) == wire.Tensor(
        TYPES[dtype], (2, 3, 4), array.astype(dtype).tobytes()
    )
    for view in (array, array.T, array[::-1, :, ::2], np.asfortranarray(array)):
        arrived = sent(view)
        assert arrived.dtype == np.dtype(dtype)
        assert np.array_equal(arrived, view)


@given(
    st.sampled_from(sorted(TYPES)),
    st.lists(st.integers(0, 5), max_size=5),
    st.randoms(use_true_random=False),
)
def test_any_shape(dtype: str, shape: list[int], random: Any) -> None:
    array = np.zeros(shape, dtype)
    for index in np.ndindex(*shape):
        array[index] = random.randrange(100)
    axes = random.sample(range(len(shape)), len(shape))
    for view in (array, array.transpose(axes)):
        arrived = sent({"a": [view]})["a"][0]
        assert (arrived.dtype, arrived.shape) == (view.dtype, view.shape)
        assert np.array_equal(arrived, view)


def test_an_array_that_arrived_can_be_written_to(tmp_path: Path) -> None:
    array = np.arange(1000.0)
    folder = Folder(str(tmp_path), "w1", 1000, 2**20)
    writer = folder.writer(1)
    term = wire.encode(array, writer=writer)
    assert len(writer.names) == 1
    arrived = wire.decode(term, reader=FileReader(folder, "w", keep=True))
    again = wire.decode(term, reader=FileReader(folder, "w"))
    assert list(tmp_path.iterdir()) == []
    for one in (arrived, sent(array[:3])):
        one += 1
        assert one[2] == 3.0
    assert np.array_equal(again, array)  # What one writes, no other sees.


def test_booleans_are_bytes_and_numbers_are_numbers() -> None:
    flags = sent(np.array([True, False]))
    assert (flags.dtype, flags.tolist()) == (np.dtype("uint8"), [1, 0])
    numbers = [np.int64(-3), np.uint8(200), np.float32(0.5), np.float64(2.5), np.bool_(True)]
    arrived = sent([*numbers, np.float32("nan")])
    assert arrived == [-3, 200, 0.5, 2.5, True, wire.Atom("nan")]
    assert list(map(type, arrived[:5])) == [int, int, float, float, bool]


def test_a_subclass_counts_as_an_array() -> None:
    assert sent(np.arange(4).view(np.recarray)).tolist() == [0, 1, 2, 3]


def test_a_masked_array_is_refused_whatever_is_masked() -> None:
    for mask in ([False, True], False):
        array = np.ma.masked_array([1, 2], mask)
        told = "an array that has no term: it has a mask, and a tensor has none; use .filled(...)"
        assert failure(array) == told
        assert sent(array.filled(0)).tolist() == [1, 2 * (mask is False)]
    assert "use .filled(...)" in failure([np.ma.masked])


@pytest.mark.parametrize(
    ("array", "told", "followed"),
    [
        (np.array(["a"]), LIST, ["a"]),
        (np.array([b"a"]), LIST, [b"a"]),
        (np.array([1], [("a", "i4")]), LIST, [(1,)]),
        (np.array(["a"], object), f"{LIST} if each of its objects has a term", ["a"]),
        (np.array([1], "g"), ASTYPE, np.array([1.0])),
        (np.array([1j], "G"), ASTYPE, np.array([1j])),
        (DAYS, "use .astype(str).tolist()", DAYS.astype(str).tolist()),
        (DAYS - DAYS, "use .astype(int)", (DAYS - DAYS).astype(int)),
    ],
    ids=["text", "bytes", "record", "object", "long double", "long complex", "time", "span"],
)
def test_an_array_of_no_numbers_is_refused_and_told_what_to_use_instead(
    array: Any, told: str, followed: Any
) -> None:
    message = failure({"a": [1, array]})
    assert message.startswith("an array that has no term: ")
    assert message.endswith(f'; {told} (at ["a"][1])')
    assert sent(followed) == followed


def test_numbers_without_a_term_are_refused() -> None:
    for number, hint in (
        (np.complex64(1), "use [z.real, z.imag]"),
        (np.datetime64("2020-01-01"), "use str(...)"),
        (np.longdouble(1), "use float(...)"),
        (np.zeros(1, [("a", "i4")])[0], "use .item()"),
    ):
        name = type(number).__name__
        assert failure(number) == f"a value of type numpy.{name} has no term; {hint}"


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (wire.Tensor(("f", 8), (1,), b"a"), "there is no type {:f, 8}"),
        (wire.Tensor(("f", 32), (2,), b"abc"), "data are 3 bytes, of 8"),
        (wire.Tensor(("u", 8), (1,) * 33, b"a"), "at most 32 dimensions"),
        (wire.Tensor(("u", 8), (-1, -1), b"a"), "each from 0 to 2^31-1"),
        (wire.Tensor(("u", 8), (2**31, 0), b""), "each from 0 to 2^31-1"),
    ],
)
def test_a_tensor_that_is_none_is_refused(tensor: wire.Tensor, message: str) -> None:
    assert message in failure([tensor])


@pytest.mark.parametrize(("name", "count"), [("$bytes", 2), ("$shm", 2), ("$tensor", 4)])
def test_tuples_that_stand_for_something_else_are_refused(name: str, count: int) -> None:
    value = (wire.Atom(name), *[1] * (count - 1))
    assert failure([value]) == (
        f"a tuple of {count} that begins with :{name} stands for something else (at [0])"
    )
    assert sent((*value, 1)) == (*value, 1)


def test_a_tensor_as_a_key_stays_a_tensor() -> None:
    tensor = wire.Tensor(("u", 8), (2,), b"ab")
    assert sent({tensor: 1}) == {tensor: 1}
    assert sent({(tensor,): 1}) == {(tensor,): 1}


def test_bfloat16_takes_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    term = wire.encode(wire.Tensor(("bf", 16), (2,), b"\x80\x3f\0\x40"))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(wire.DecodeError, match="which takes ml_dtypes: install that for") as caught:
        wire.decode(term, reader=READER)
    assert caught.value.kind == "array"
    # The library's part: a type by this name, of this size.
    monkeypatch.setitem(sys.modules, "ml_dtypes", SimpleNamespace(bfloat16=np.uint16))
    assert wire.decode(term, reader=READER).tolist() == [0x3F80, 0x4000]


def test_bfloat16_is_known_by_its_name() -> None:
    array = SimpleNamespace(
        dtype=SimpleNamespace(name="bfloat16"),
        shape=(1,),
        view={"uint16": np.array([0x3F80], "uint16")}.get,
    )
    assert wire.decode(wire.encode([array])) == [wire.Tensor(("bf", 16), (1,), b"\x80\x3f")]


def test_without_numpy_a_tensor_is_a_memoryview(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    view = sent(wire.Tensor(("s", 16), (2, 3), b"\1\0\2\0\3\0\4\0\5\0\xff\xff"))
    assert (view.format, view.shape) == ("h", (2, 3))
    assert view.tolist() == [[1, 2, 3], [4, 5, -1]]
    assert sent(wire.Tensor(("f", 64), (), b"\0" * 8)).shape == ()
    for type, letter in TENSOR_TYPES.items():
        # Those that a memoryview may have on every Python.
        if letter is None or letter not in "bhiqBHIQfd":
            continue
        for shape in ((2, 3), (6,), ()):
            if (letter, shape) != ("B", (6,)):
                tensor = wire.Tensor(type, shape, bytes(range(prod(shape) * type[1] // 8)))
                assert wire.decode(wire.encode(sent(tensor))) == tensor
    half = wire.Tensor(("f", 16), (1,), b"\0\x3c")
    if sys.version_info >= (3, 12):
        assert sent(half).tolist() == [1.0]
    else:
        with pytest.raises(wire.DecodeError, match="which takes NumPy"):
            sent(half)
    for tensor in (
        wire.Tensor(("c", 64), (1,), b"\0" * 8),
        wire.Tensor(("bf", 16), (1,), b"\0" * 2),
        wire.Tensor(("u", 8), (0, 2), b""),
    ):
        takes = f"which takes NumPy{' and ml_dtypes' * (tensor.type[0] == 'bf')}: install that for"
        with pytest.raises(wire.DecodeError, match=takes) as caught:
            sent([tensor])
        assert (caught.value.kind, caught.value.path) == ("array", "[0]")


def test_a_memoryview_of_numbers_in_any_byte_order_is_a_tensor() -> None:
    for array in (np.arange(6, dtype=">i4").reshape(2, 3), np.arange(6.0)[::2], np.eye(2) * 1j):
        assert wire.encode(memoryview(array)) == wire.encode(array)
    # One of something else is bytes, whatever its shape.
    pairs = np.array([(1, 2)], [("a", "u1"), ("b", "u1")])
    assert sent(memoryview(pairs)) == b"\1\2"


def test_numpy_is_not_imported_before_a_tensor_comes() -> None:
    script = (
        "import sys; from snakepit_port import wire; from snakepit_port.bulk.files import *\n"
        "reader = FileReader(None, 'w')\n"
        "wire.decode(wire.encode([b'a', {'b': 1.5}]), reader=reader)\n"
        "assert 'numpy' not in sys.modules\n"
        "wire.decode(wire.encode(wire.Tensor(('u', 8), (1,), b'a')), reader=reader)\n"
        "assert 'numpy' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert arrays.array(("u", 8), (1,), bytearray(b"a")).tolist() == [97]
