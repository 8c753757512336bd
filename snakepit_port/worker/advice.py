"""What to say of a name that names nothing: an adapter's class or module, or a function."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
from collections.abc import Iterable
from types import ModuleType

from snakepit_port.worker.boot import ON_PATH

#: Snakepit's own Python package, which its adapters import.
_SNAKEPIT = "snakepit_bridge"

_GUIDE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "ADAPTERS.md")

#: What an interpreter has on its path by itself: its library, and what is installed in it.
_LIBRARY = re.compile(r"/lib(64)?/(python|pypy)")

#: How what setuptools puts there for an editable install ends: it is no folder.
_HOOK = ".__path_hook__"

#: As many classes are listed where none is close to what was written.
_MAX_LISTED = 5


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


def not_found(name: str | None, adapter: str = "") -> str:
    """What to do about a module that is nowhere, or nothing where that cannot be told. What the
    adapter itself names is hardly of a package: it is written wrong, or its folder is missing."""
    root, _, inside = (name or "").partition(".")
    if not root:
        return ""
    if root == _SNAKEPIT:
        return f": this is an adapter of Snakepit, and has to be adjusted; see {_GUIDE}"
    found = sys.modules.get(root)
    if inside and found is not None:
        # Another of the same name, perhaps, that comes first.
        # One without an __init__.py is its folders.
        folders = ", ".join(getattr(found, "__path__", []))
        return f" ({root} is {getattr(found, '__file__', None) or folders or 'builtin'})"
    own = [
        folder
        for folder in sys.path
        if folder
        and folder != ON_PATH
        and not folder.endswith(_HOOK)
        and not _LIBRARY.search(folder)
    ]
    # Python passes over these, and says nothing.
    closed = [folder for folder in own if _is_closed(folder)]
    choices = [
        f"if it is of a package: {sys.executable} -m pip install {root}, or whatever the package is"
        " called",
        f"if it is yours: add its folder to python_path ({', '.join(own) or 'now empty'})",
    ]
    close = ""
    if re.split("[.:]", adapter)[0] == root:
        import pkgutil  # Few need it, and every starter would hold it.

        choices.reverse()
        close = closest(root, [module.name for module in pkgutil.iter_modules(own)])
    meant = f"; did you mean {adapter.replace(root, close, 1)}? " if close else ". "
    if closed:
        meant = f"; it may be in {', '.join(closed)}, which user {os.geteuid()} may not read. "
    advice = "; ".join(choices)
    return f"{meant}{advice[0].upper()}{advice[1:]}"


def _is_closed(folder: str) -> bool:
    """Whether there may be modules in a folder which this user is kept from."""
    try:
        os.stat(folder)
    except OSError as exc:
        return isinstance(exc, PermissionError)
    # What is no folder may be a zip file.
    return not os.access(folder, os.R_OK | os.X_OK if os.path.isdir(folder) else os.R_OK)


def no_command(adapter: str, classes: list[str]) -> str:
    """What to say of an adapter without commands, some classes of which may have some."""
    message = f"adapter {adapter} has no command"
    if not classes:
        where = _library_of(adapter.partition(":")[0])
        return f"{message}: mark its functions with @command{where}"
    has = f"class {classes[0]} has" if len(classes) == 1 else "its classes have"
    choices = " or ".join(f'"{adapter}:{name}"' for name in classes[:_MAX_LISTED])
    return f"{message} of its own, but {has}: write adapter = {choices}"


def no_class(module: ModuleType, module_name: str, name: str) -> str:
    """What to say of an adapter's class that its module has not."""
    message = f"module {module_name} has no class {name}"
    if inspect.isroutine(getattr(module, name, None)):
        return (
            f"{message}, it is a function; commands of a module need no name: write {module_name}"
        )
    # By the type of each: `isinstance` asks the object itself, which may be a lazy one.
    classes = [key for key, value in list(vars(module).items()) if issubclass(type(value), type)]
    if close := closest(name, classes):
        return f"{message}; did you mean {module_name}:{close}?"
    where = _library_of(module_name)
    own = [key for key in classes if vars(module)[key].__module__ == module.__name__]
    if not own:
        return f"{message}{where}"
    more = ", ..." if len(own) > _MAX_LISTED else ""
    return f"{message}; it has {', '.join(own[:_MAX_LISTED])}{more}{where}"


def _library_of(name: str) -> str:
    """Where a module is that comes with the interpreter, or is installed there; nothing of one that
    is the user's own. One of the library that is loaded already hides another of its name."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if name in sys.builtin_module_names:
        file = "builtin"
    elif not isinstance(file, str) or not _LIBRARY.search(file):
        return ""
    return f" ({name} is {file}; if another one is meant, it needs another name)"


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
