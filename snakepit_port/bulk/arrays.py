"""Tensors as arrays: NumPy's where it is installed, else memoryviews, which cannot hold all."""

from __future__ import annotations

import importlib
from typing import Any

from snakepit_port.wire import DecodeError
from snakepit_port.wire.bulk import TYPES

#: What NumPy calls a kind of number, where it is not the letter that Nx uses.
_NUMPY_KINDS = {"s": "int", "u": "uint", "f": "float", "c": "complex", "bf": "bfloat"}


def array(type: tuple[str, int], shape: tuple[int, ...], data: Any) -> Any:
    """An array over `data`, a buffer of the right size, which it may be written through to.

    NumPy is imported when the first tensor comes, not before. Raises `DecodeError` for what can
    only be held by a library that is not installed.
    """
    try:
        numpy = importlib.import_module("numpy")
    except ImportError:
        return _view(type, shape, data)
    return numpy.frombuffer(data, _dtype(numpy, type)).reshape(shape)


def _dtype(numpy: Any, type: tuple[str, int]) -> Any:
    name = f"{_NUMPY_KINDS[type[0]]}{type[1]}"
    if type[0] == "bf":
        try:
            return numpy.dtype(importlib.import_module("ml_dtypes").bfloat16)
        except ImportError:
            raise _cannot(type, "ml_dtypes") from None
    return numpy.dtype(name)


def _view(type: tuple[str, int], shape: tuple[int, ...], data: Any) -> memoryview:
    letter = TYPES[type]
    if letter is None or len(letter) > 1:
        raise _cannot(type, "NumPy and ml_dtypes" if type[0] == "bf" else "NumPy")
    if 0 in shape:
        raise _takes(f"an empty tensor of shape {shape}", "NumPy")
    try:
        return memoryview(data).cast("B").cast(letter, shape)  # type: ignore[call-overload,no-any-return]
    except (TypeError, ValueError):
        raise _cannot(type, "NumPy") from None


def _cannot(type: tuple[str, int], library: str) -> DecodeError:
    kind, width = type
    return _takes(f"a tensor of type {{:{kind}, {width}}}", library)


def _takes(what: str, library: str) -> DecodeError:
    return DecodeError(
        f"{what}, which takes {library}: install that for the `python` of the pool, or of the host"
        " where this is a result",
        "array",
    )
