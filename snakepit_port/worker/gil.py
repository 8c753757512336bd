"""Whether this process has a GIL, and what gave it one.

A free-threaded Python turns the GIL on, for good, when an extension module is imported that does
not declare itself safe without one; all that shows it is a warning, which may be filtered.
"""

from __future__ import annotations

import functools
import sys
import sysconfig
from importlib.machinery import ExtensionFileLoader
from typing import Any, Callable

#: The module whose import turned the GIL on, once one has.
enabled_by: str | None = None

_tell: Callable[[str], None] | None = None
_watching = False


def is_enabled() -> bool:
    """Whether threads of this process run Python one at a time."""
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def can_be_off() -> bool:
    """Whether this Python was built to run without a GIL."""
    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def watch() -> None:
    """Note from now on which module turns the GIL on. Forked children go on watching."""
    global _watching
    if _watching or is_enabled():
        return
    _watching = True
    for name in ("create_module", "exec_module"):
        setattr(ExtensionFileLoader, name, _watched(getattr(ExtensionFileLoader, name)))


def when_enabled(tell: Callable[[str], None]) -> None:
    """Have `tell(module)` called, on the thread that imports it, if a module turns the GIL on."""
    global _tell
    _tell = tell


def _watched(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def watched(loader: ExtensionFileLoader, *args: Any) -> Any:
        global enabled_by
        try:
            return load(loader, *args)
        finally:
            # Where a module that turns it on is imported by another one, both loads end with the
            # GIL on: that of the one which did it ends first.
            if enabled_by is None and is_enabled():
                enabled_by = loader.name
                if _tell is not None:
                    _tell(loader.name)

    return watched
