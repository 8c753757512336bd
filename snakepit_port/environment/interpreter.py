"""Running the probe in a pool's interpreter."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from snakepit_port.environment.asking import ask, first_words, last_words
from snakepit_port.environment.finding import find_python, what_to_do, why_not_run
from snakepit_port.worker.boot import OLDEST

PROBE = Path(__file__).with_name("probe.py")

#: Seconds. Starting Python and listing what is installed takes a fraction of one, on a cold disk a
#: few; an interpreter that takes longer hangs.
PROBE_SECONDS = 30.0

#: Any Python runs it, where the probe takes one that is not all too old.
_ASK_VERSION = "import sys; sys.stdout.write('%d.%d.%d' % sys.version_info[:3])"


class ProbeError(Exception):
    """The interpreter could not be asked, or is too old to be.

    ``message`` is one line that says why; ``said`` what the interpreter itself said, or nothing;
    ``hint`` what to do where that is no fault of it.
    """

    def __init__(self, message: str, said: str = "", hint: str = "") -> None:
        super().__init__(f"{message}\n{said}" if said else message)
        self.message = message
        self.said = said
        self.hint = hint


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
    virtual_environment: str | None
    distributions: Mapping[str, str]

    @property
    def is_new_enough(self) -> bool:
        """Whether a worker runs on it."""
        return self.version_info >= OLDEST

    @property
    def too_old(self) -> str:
        """That no worker runs on it, in words."""
        return _too_old(self.executable, self.version)

    @property
    def gil(self) -> str:
        """The state of the GIL, in words."""
        if not self.free_threading_build:
            return "has a GIL"
        return "free-threaded, but its GIL is on" if self.gil_enabled else "free-threaded"


def look_at(python: str, env: Mapping[str, str] | None = None) -> Interpreter:
    """Ask an interpreter what it is, in the environment *env* (default: this process's own).

    *python* is a path or a name, as for a pool. Nothing of the user's is imported, except what the
    interpreter's own ``site`` does at every start.

    Raises ProbeError if it cannot be run, fails, takes longer than 30 s, says nonsense, or is a
    Python so old that it cannot say more than its version.
    """
    environment = dict(os.environ if env is None else env)
    path = python
    try:
        path = find_python(python, environment)
        command = [path, str(PROBE)]
        ran = ask(command, environment, PROBE_SECONDS)
    except OSError as exc:
        raise ProbeError(why_not_run(path, exc), hint=what_to_do(exc)) from None
    except subprocess.TimeoutExpired:
        message = f"{shlex.join(command)} gave no answer within {PROBE_SECONDS:g} s"
        raise ProbeError(f"{message}, and was killed") from None
    if ran.returncode == 0:
        try:
            # Something that `site` imports may print; the probe's line comes last.
            said = json.loads(ran.stdout.splitlines()[-1])
            said["version_info"] = tuple(said["version_info"])
            return Interpreter(**said)
        except (IndexError, ValueError, TypeError, KeyError):
            pass
    raise _failed(path, command, ran, environment)


def _too_old(path: str, version: str) -> str:
    return f"{path} is Python {version}; a worker needs {'.'.join(map(str, OLDEST))} or newer"


def _failed(
    path: str,
    command: list[str],
    ran: subprocess.CompletedProcess[str],
    env: Mapping[str, str],
) -> ProbeError:
    """What is wrong with a program that was run and did not answer the probe."""
    version = _version(path, env)
    if version and tuple(map(int, version.split("."))) < OLDEST:
        return ProbeError(_too_old(path, version))
    what = f"is Python {version}, but fails" if version else "is no Python that works"
    if ran.returncode != 0:
        said = last_words(ran)
        answer = f"ended with status {ran.returncode} and said {'this:' if said else 'nothing'}"
    else:
        said = first_words(ran)
        answer = "said something else:" if said else "said nothing"
    asked = f"asked what it is with `{shlex.join(command)}`, it {answer}"
    return ProbeError(f"{path} {what}: {asked}", said)


def _version(path: str, env: Mapping[str, str]) -> str:
    """The version of what may be a Python; empty if it does not say."""
    try:
        said = ask([path, "-c", _ASK_VERSION], env, PROBE_SECONDS).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said[-1] if said and re.fullmatch(r"\d+\.\d+\.\d+", said[-1]) else ""
