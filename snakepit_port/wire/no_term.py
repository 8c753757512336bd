"""What to use instead of a value that has no term. Imported when there is one, and not before."""

from __future__ import annotations

from .bulk import is_masked

_LIST = "use list(...)"
_DICT = "use dict(...)"
_TEXT = "use str(...)"
_COMPLEX = "use [z.real, z.imag]"

#: By the package and the name of the class, or of one that it is built on.
_HINTS = {
    **dict.fromkeys(
        [
            *(("builtins", name) for name in ("set", "frozenset", "range", "generator")),
            *(("builtins", f"dict_{name}") for name in ("keys", "values", "items")),
            *(("builtins", name) for name in ("map", "filter", "zip", "enumerate", "reversed")),
            *(("collections", name) for name in ("deque", "UserList")),
        ],
        _LIST,
    ),
    **dict.fromkeys(
        [
            *(("collections", name) for name in ("UserDict", "ChainMap")),
            ("builtins", "mappingproxy"),
            ("sqlite3", "Row"),
        ],
        _DICT,
    ),
    **dict.fromkeys(
        [
            *(("pathlib", "PurePath"), ("uuid", "UUID"), ("collections", "UserString")),
            *(("builtins", "BaseException"), ("numpy", "datetime64")),
            *(("ipaddress", "_IPAddressBase"), ("pandas", "Period"), ("pandas", "Interval")),
        ],
        _TEXT,
    ),
    ("datetime", "date"): "use .isoformat()",
    ("datetime", "time"): "use .isoformat()",
    ("datetime", "timedelta"): "use .total_seconds()",
    ("decimal", "Decimal"): "use str(...), or float(...) where that is exact enough",
    ("fractions", "Fraction"): "use str(...), or float(...) where that is exact enough",
    ("builtins", "complex"): _COMPLEX,
    ("numpy", "complexfloating"): _COMPLEX,
    ("numpy", "timedelta64"): "use .astype(int)",
    ("numpy", "longdouble"): "use float(...)",
    ("numpy", "void"): "use .item()",
    ("enum", "Enum"): "use .value or .name",
    ("types", "SimpleNamespace"): "use vars(...)",
    ("argparse", "Namespace"): "use vars(...)",
    ("array", "array"): "use .tolist()",
    ("_io", "BytesIO"): "use .getvalue()",
    ("_io", "StringIO"): "use .getvalue()",
    ("builtins", "coroutine"): "use asyncio.run(...)",
    ("builtins", "async_generator"): "write a plain generator",
    ("pandas", "DataFrame"): 'use .to_dict("list"), or .to_numpy() for an array',
    ("pandas", "Series"): "use .to_list(), or .to_numpy() for an array",
    ("pandas", "Index"): "use .to_list(), or .to_numpy() for an array",
    ("pandas", "ExtensionArray"): "use .tolist(), or .to_numpy() for an array",
    # A `datetime`, which says of itself "NaT".
    ("pandas", "NaTType"): "use None",
    ("pandas", "NAType"): "use None",
    ("polars", "DataFrame"): "use .to_dict(as_series=False), or .to_numpy() for an array",
    ("polars", "Series"): "use .to_list(), or .to_numpy() for an array",
    ("pyarrow", "_Tabular"): "use .to_pylist()",
    ("pyarrow", "Array"): "use .to_pylist()",
    ("pyarrow", "ChunkedArray"): "use .to_pylist()",
    ("pyarrow", "Scalar"): "use .as_py()",
    ("pyarrow", "Buffer"): "use .to_pybytes()",
    ("scipy", "spmatrix"): "use .toarray()",
    ("scipy", "sparray"): "use .toarray()",
    ("PIL", "Image"): "use numpy.asarray(...)",
    ("torch", "Tensor"): "use .detach().cpu().numpy()",
    ("pydantic", "BaseModel"): 'use .model_dump(mode="json")',
}

#: Where it says what has a term.
_TABLE = "what has one stands in section 2 of protocol/SPEC.md"

_ARRAY = "use .astype(...) with a dtype that has one"

#: By the kind of dtype. What `.tolist()` makes of these has no term, or only some of it has.
_ARRAYS = {
    "M": "use .astype(str).tolist()",
    "m": "use .astype(int)",
    "f": _ARRAY,
    "c": _ARRAY,
    "O": f"{_ARRAY}, or .tolist() if each of its objects has a term",
}


def array_hint(array: object) -> str:
    """What to use instead of an array that is masked, or whose dtype has no type in a tensor."""
    if is_masked(array):
        return "use .filled(...)"
    try:
        found = _ARRAYS.get(array.dtype.kind)  # type: ignore[attr-defined]
    except Exception:  # It need not be one of NumPy's.
        found = None
    return found or f"{_ARRAY}, or .tolist()"


def hint(kind: type) -> str:
    """What to use instead of a value of this type. Of its code only a metaclass may run, if it has
    these attributes itself, and raise anything."""
    for cls in kind.__mro__:
        # A module that is private to its package, as pandas.core.frame, is of no interest; and
        # there are classes whose module is no text.
        package = str(cls.__module__).partition(".")[0]
        found = _HINTS.get((package, cls.__qualname__))
        if found is not None:
            return found
        if "__attrs_attrs__" in vars(cls):
            return "use attrs.asdict(...)"
    return _TABLE
