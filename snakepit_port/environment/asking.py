"""Running a program that is asked what it is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from snakepit_port.worker import linux

#: Characters kept of what a program said that failed: the last ones, which have the reason.
_MAX_SAID_CHARS = 2000

#: Of what one said that did not fail, the first ones, and the first lines.
_MAX_ANSWER_CHARS = 300
_MAX_ANSWER_LINES = 3


def ask(
    command: Sequence[str], env: Mapping[str, str] | None, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Runs it, with nothing to read, for so many seconds at most. It ends with whoever asks.

    Raises what `subprocess.run` does.
    """
    parent = os.getpid()
    return subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        preexec_fn=lambda: linux.die_with_parent(parent),
    )


def last_words(ran: subprocess.CompletedProcess[str]) -> str:
    """What it said of its failure, or else what it said."""
    return (ran.stderr.strip() or ran.stdout.strip())[-_MAX_SAID_CHARS:]


def first_words(ran: subprocess.CompletedProcess[str]) -> str:
    """The beginning of what it said that has no failure to tell of."""
    said = ran.stderr.strip() or ran.stdout.strip()
    lines = said[:_MAX_ANSWER_CHARS].splitlines()[:_MAX_ANSWER_LINES]
    begun = "\n".join(lines)
    return begun if len(begun) == len(said) else f"{begun}\N{HORIZONTAL ELLIPSIS}"
