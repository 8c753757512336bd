"""Running the probe in a pool's interpreter."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROBE = Path(__file__).with_name("probe.py")

#: The oldest Python that a worker runs on.
OLDEST = (3, 9)

#: Seconds. Starting Python and listing what is installed takes a fraction of one, on a cold disk a
#: few; an interpreter that takes longer hangs.
PROBE_SECONDS = 30.0


class ProbeError(Exception):
    """The interpreter could not be asked; the text has the exact command, and what it said."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What an interpreter says of itself.

    ``gil_enabled`` is the GIL as the interpreter starts: an extension module may turn it on later.
    ``virtual_environment`` is its folder, or None. ``distributions`` are the versions of what is
    installed, by name in lower case with dashes.
    """

    executable: str
    version: str
    version_info: tuple[int, ...]
    implementation: str
    free_threading_build: bool
    gil_enabled: bool
    prefix: str
    base_prefix: str
    virtual_environment: str | None
    distributions: Mapping[str, str]

    @property
    def is_new_enough(self) -> bool:
        """Whether a worker runs on it."""
        return self.version_info >= OLDEST

    @property
    def gil(self) -> str:
        """The state of the GIL, in words."""
        if not self.free_threading_build:
            return "has a GIL"
        return "free-threaded, but its GIL is on" if self.gil_enabled else "free-threaded"


def look_at(python: str, env: Mapping[str, str] | None = None) -> Interpreter:
    """Ask an interpreter what it is, in the environment *env* (default: this process's own).

    *python* is a path or a name to look up on the ``PATH`` of *env*. Nothing of the user's is
    imported, except what the interpreter's own ``site`` does at every start.

    Raises ProbeError if it cannot be run, fails, takes longer than 30 s, or says nonsense.
    """
    environment = dict(os.environ if env is None else env)
    path = python
    if "/" not in python:
        found = shutil.which(python, path=environment.get("PATH", os.defpath))
        if found is None:
            raise ProbeError(f"there is no {python!r} on PATH; check the pool's `python` setting")
        path = found
    command = [path, str(PROBE)]
    shown = shlex.join(command)
    try:
        ran = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_SECONDS,
        )
    except OSError as exc:
        hint = "; check the pool's `python` setting" if not os.path.exists(path) else ""
        raise ProbeError(f"{shown}: {exc.strerror}{hint}") from None
    except subprocess.TimeoutExpired:
        raise ProbeError(f"{shown}: no answer within {PROBE_SECONDS:g} s") from None
    if ran.returncode != 0:
        raise ProbeError(f"{shown}: status {ran.returncode}: {ran.stderr.strip()[-2000:]}")
    try:
        # Something that `site` imports may print; the probe's line comes last.
        said = json.loads(ran.stdout.splitlines()[-1])
        said["version_info"] = tuple(said["version_info"])
        return Interpreter(**said)
    except (IndexError, ValueError, TypeError, KeyError):
        raise ProbeError(f"{shown}: printed {ran.stdout[-200:]!r}, which is no answer") from None
