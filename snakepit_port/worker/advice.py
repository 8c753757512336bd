"""What to say of a name that names nothing: an adapter's class or module, or a function."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Iterable
from types import ModuleType


def no_module(adapter: str, exc: ModuleNotFoundError) -> str:
    """What to write instead of an adapter whose module is not there; nothing where Python's own
    words and the places that it looked in are what helps."""
    name = adapter.partition(":")[0]
    missing = exc.name or ""
    if name != missing and not name.startswith(f"{missing}."):
        return ""  # It is another module, that this one imports.
    parent, _, last = name.rpartition(".")
    if parent and last == "py":
        right = adapter.replace(name, parent, 1)
        return f"there is no module {name}: a module is named without .py; write {right}"
    # To look for a module in another, Python has imported that.
    module = sys.modules.get(parent)
    if module is None or name != missing:
        return ""
    value = getattr(module, last, None)
    if isinstance(value, type):
        return f"there is no module {name}: {last} is a class in {parent}; write {parent}:{last}"
    if inspect.isroutine(value) or not hasattr(module, "__path__"):
        return no_class(module, parent, last)
    return ""


def no_class(module: ModuleType, module_name: str, name: str) -> str:
    """What to say of an adapter's class that its module has not."""
    message = f"module {module_name} has no class {name}"
    if inspect.isroutine(getattr(module, name, None)):
        return (
            f"{message}, it is a function; commands of a module need no name: write {module_name}"
        )
    classes = [key for key, value in list(vars(module).items()) if isinstance(value, type)]
    close = closest(name, classes)
    return f"{message}; did you mean {module_name}:{close}?" if close else message


def no_function(module: ModuleType, module_name: str, name: str) -> str:
    """What to say of a direct call of what its module has not, or of what cannot be called."""
    shown = name if name.isidentifier() else repr(name)
    if hasattr(module, name):
        return f"{shown} of module {module_name} is not a function"
    functions = [
        key
        for key, value in list(vars(module).items())
        if callable(value) and not key.startswith("_")
    ]
    close = closest(name, functions)
    hint = f"; did you mean {close}?" if close else ""
    return f"module {module_name} has no function {shown}{hint}"


def closest(word: str, known: Iterable[str]) -> str:
    """The known word closest to *word*, or nothing."""
    # Of a long word the beginning will do: the search takes the square of its length.
    close = difflib.get_close_matches(word[:64], known, 1)
    return close[0] if close else ""
