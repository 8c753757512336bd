"""What is told of an exception: its class, its text, its traceback; whatever it makes of them."""

from __future__ import annotations

import importlib
import os
import traceback

#: The longest text that is kept of an exception: nothing can interrupt the making of an error, and
#: `fitting.py` reads each text several times.
_MAX_CHARS = 1024 * 1024


def exception_name(exc: BaseException) -> str:
    """The class of an exception, with its module unless builtin, as text that can travel."""
    cls = type(exc)
    try:
        module = "" if cls.__module__ in ("builtins", None) else f"{cls.__module__}."
        return utf8(module + cls.__qualname__)
    except BaseException:
        # A metaclass may do anything; this is what the interpreter itself calls it.
        return utf8(type.__dict__["__name__"].__get__(cls))


def text_of(exc: BaseException) -> str:
    """`str(exc)`, of an exception whose `__str__` may itself be broken, as text that can travel; of
    one that is very long the beginning."""
    try:
        return utf8(str(exc))
    except BaseException as broken:
        return f"<its text could not be made: {exception_name(broken)}>"


def traceback_text(exc: BaseException) -> str:
    """Python's own text, without the frames of this package and of the import system; of one that
    is very long the beginning and the end."""
    try:
        # Whatever a class makes of the attribute.
        trace = BaseException.__dict__["__traceback__"].__get__(exc)
        while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
            trace = trace.tb_next
        text = "".join(traceback.format_exception(type(exc), exc, trace))
        half = _MAX_CHARS // 2 - 1
        return utf8(text if len(text) <= _MAX_CHARS else f"{text[:half]}…{text[-half:]}")
    except BaseException:
        return f"{summary(exc)}\n"


def summary(exc: BaseException) -> str:
    """Its class and its text, as at the end of a traceback."""
    name, text = exception_name(exc), text_of(exc)
    return f"{name}: {text}" if text else name


def utf8(text: str) -> str:
    """Lone surrogates, as undecodable file names have them, are written out."""
    # By its type: a class of strings may do anything.
    text = str.__str__(text)
    if len(text) > _MAX_CHARS:
        text = text[:_MAX_CHARS] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


_OURS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OURS, "<frozen importlib")) or filename == importlib.__file__
