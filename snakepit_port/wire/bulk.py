"""Large values as they stand in a term: files in shared memory, and tensors.

What is here knows names, types and sizes, and touches neither files nor NumPy; `snakepit_port.bulk`
does that. SPEC section 17 has the words.
"""

from __future__ import annotations

import re
import sys
from math import prod
from typing import Any, NamedTuple, Protocol

#: A file's name: who wrote it (the host, or a worker by its number), for which call, which of that
#: call's files it is, and its size in bytes. It is a name in the run's folder, and nothing that
#: matches leads out of it.
FILE_PATTERN = re.compile(r"(?:h|w[0-9]{1,9})-[0-9]{1,19}-[0-9]{1,9}-[1-9][0-9]{0,12}", re.ASCII)

#: Types of a tensor's elements, as Nx names them, and what the buffer protocol calls those that it
#: knows (the `struct` module's letters; `Zf` and `Zd` are NumPy's).
TYPES: dict[tuple[str, int], str | None] = {
    ("s", 8): "b",
    ("s", 16): "h",
    ("s", 32): "i",
    ("s", 64): "q",
    ("u", 8): "B",
    ("u", 16): "H",
    ("u", 32): "I",
    ("u", 64): "Q",
    ("f", 16): "e",
    ("f", 32): "f",
    ("f", 64): "d",
    ("bf", 16): None,
    ("c", 64): "Zf",
    ("c", 128): "Zd",
}

#: Letters of the buffer protocol, and the kind of number they stand for.
_KINDS = {
    **dict.fromkeys("bhilqn", "s"),
    **dict.fromkeys("BHILQN?", "u"),
    **dict.fromkeys("efd", "f"),
    **dict.fromkeys(("Zf", "Zd"), "c"),
}

#: Dimensions that NumPy and memoryview both take at least.
MAX_DIMENSIONS = 32


class Tensor(NamedTuple):
    """Numbers of one type in a shape, in C order and the machine's own byte order.

    What `decode` makes of `{:"$tensor", type, shape, data}` where nobody makes an array of it.
    """

    type: tuple[str, int]
    shape: tuple[int, ...]
    data: Any


class Reader(Protocol):
    """What `decode` asks for whatever is not in the term itself. Errors are `DecodeError`s."""

    #: Whether `bytes` arrive as read-only memoryviews, wherever they were.
    views: bool

    def read(self, name: str) -> Any:
        """The bytes of a file whose name matches `FILE_PATTERN`."""

    def array(self, type: tuple[str, int], shape: tuple[int, ...], data: bytes | str) -> Any:
        """The value of a tensor that lies in the term, or in a file of that name. Type, shape and
        size are legal, and fit."""


class Writer(Protocol):
    """Where `encode` puts bytes that are large."""

    #: Bytes from which on they are large.
    threshold: int

    def write(self, data: bytes | memoryview) -> str | None:
        """The name of a new file with these bytes; None if there is no room for it."""


def tensor_bytes(type: tuple[str, int], shape: tuple[int, ...]) -> int:
    """Bytes of a tensor."""
    return prod(shape) * type[1] // 8


def is_number(value: Any) -> bool:
    """Whether this is one of NumPy's numbers, which are arrays in every other respect."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(type(value), numpy.generic)


def is_masked(value: Any) -> bool:
    """Whether this is one of NumPy's arrays with a mask, even if nothing is masked."""
    module = sys.modules.get("numpy.ma")
    return isinstance(value, getattr(module, "MaskedArray", ()))


def tensor_of(value: Any) -> Tensor | None:
    """What has a dtype, a shape and a buffer, as a tensor; None for anything else.

    Raises `ValueError` for elements that have no type in `TYPES`, and for a masked array.
    """
    dtype = getattr(value, "dtype", None)
    if dtype is None or not hasattr(value, "shape"):
        return None
    if is_masked(value):
        raise ValueError("it has a mask, and a tensor has none")
    if getattr(dtype, "name", "") == "bfloat16":  # Not known to the buffer protocol.
        return Tensor(("bf", 16), tuple(value.shape), flat(memoryview(value.view("uint16"))))
    try:
        view = memoryview(value)
    except TypeError:
        return None
    tensor = _tensor(view)
    if tensor is None:
        raise ValueError(f"elements of dtype {dtype} have no type in a tensor")
    return tensor


def tensor_of_view(view: memoryview) -> Tensor | None:
    """What a memoryview holds, as a tensor; None for what is bytes: unsigned ones in one dimension,
    as of a `bytes`, and elements that have no type in `TYPES`."""
    if view.ndim == 1 and _letters(view) == "B":
        return None
    return _tensor(view)


def _tensor(view: memoryview) -> Tensor | None:
    letters = _letters(view)
    type = (_KINDS.get(letters, ""), 8 * view.itemsize)
    shape = view.shape or ()
    if type not in TYPES:
        return None
    if _is_foreign(view.format) and view.itemsize > 1:
        half = 2 if letters[0] == "Z" else 1
        return Tensor(type, shape, _swapped(view.tobytes(), view.itemsize // half))
    return Tensor(type, shape, flat(view))


def _letters(view: memoryview) -> str:
    """Its format without the byte order."""
    return view.format.lstrip("@=<>!")


def _is_foreign(format: str) -> bool:
    foreign = "<" if sys.byteorder == "big" else ">!"
    return format[:1] in foreign and format[:1] != ""


def flat(view: memoryview) -> memoryview | bytes:
    """The same bytes in one dimension and C order; a copy only where they do not lie so."""
    if view.c_contiguous and view.nbytes:
        try:
            return view.cast("B")
        except (TypeError, ValueError):  # A format that memoryview does not know.
            pass
    return view.tobytes()


def _swapped(data: bytes, size: int) -> bytearray:
    """Numbers of `size` bytes in the other byte order."""
    swapped = bytearray(len(data))
    for place in range(size):
        swapped[place::size] = data[size - 1 - place :: size]
    return swapped
