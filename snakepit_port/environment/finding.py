"""Finding an interpreter, and why one cannot be run."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping

#: The kernel says the same of both.
MORE_PROCESSES = "raise `ulimit -u`, or the container's pids limit"

#: What to do where the system has no room for what is asked of it: no interpreter's fault.
_HINTS = {
    errno.EMFILE: "raise `ulimit -n`",
    errno.ENFILE: "raise `fs.file-max`",
    errno.EAGAIN: MORE_PROCESSES,
    errno.EFBIG: "raise `ulimit -f`",
    errno.E2BIG: "make `adapter_env`, or the environment that is inherited, smaller",
    errno.ENOMEM: "there is no memory for a process",
}


def what_to_do(exc: OSError) -> str:
    """About an error that comes from the system's limits; nothing for any other."""
    return _HINTS.get(exc.errno or 0, "")


def find_python(python: str, env: Mapping[str, str]) -> str:
    """The interpreter that a pool's setting means: a path, or a name to look up on the ``PATH`` of
    *env*. Raises FileNotFoundError for a name that is not there; a path is not looked at."""
    if "/" in python:
        return python
    found = shutil.which(python, path=env.get("PATH", os.defpath))
    if found is None:
        raise FileNotFoundError(python)
    return found


def where_to_look(python: str) -> str:
    """What to check where a pool's interpreter is none, in words: what named it."""
    named = os.environ.get("SNAKEPIT_PYTHON", "")
    if named and (python == named or ("/" in named and python.endswith(f"/{named}"))):
        return "check `$SNAKEPIT_PYTHON`, or give the pool a `python` setting"
    return "check the pool's `python` setting"


def why_not_run(python: str, exc: OSError) -> str:
    """Why the system did not run an interpreter. Its own words do not say which file they mean: for
    a script whose interpreter is missing they are the same as for one that is missing itself."""
    if what_to_do(exc):
        return f"{python} cannot be run: {exc.strerror}"
    if "/" not in python:
        return f"there is no {python!r} on PATH"
    if os.path.isdir(python):
        return f"{python} is a folder, not an interpreter"
    if not os.path.lexists(python):
        return f"there is no {python}"
    if not os.path.exists(python):
        return f"{python} is a link to {os.path.realpath(python)}, which is not there"
    if isinstance(exc, FileNotFoundError):
        return f"{python} is there, but not the program that its first line names, or its loader"
    return f"{python} cannot be run: {exc.strerror}"
