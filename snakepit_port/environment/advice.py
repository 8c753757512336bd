"""Which profile suits an interpreter, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from snakepit_port.environment.interpreter import Interpreter
from snakepit_port.environment.libraries import installed


@dataclass(frozen=True, slots=True)
class Advice:
    """A profile's kind, and a sentence that says why."""

    profile: Literal["process", "thread"]
    reason: str


def advise(interpreter: Interpreter) -> Advice:
    """The kind of profile for CPU-bound work on an interpreter.

    Threads only where they run in parallel and nothing installed is known to break under them.
    Whether the adapter itself is thread-safe, nobody can see from outside.
    """
    if not interpreter.free_threading_build:
        return Advice(
            "process",
            f"Python {interpreter.version} has a GIL, so its threads run Python one at a time;"
            " the thread profile pays there only for calls that wait",
        )
    if interpreter.gil_enabled:
        return Advice(
            "process",
            "this Python could run without its GIL, but it is on: see PYTHON_GIL and -X gil",
        )
    unsafe = [
        library.name
        for library, _ in installed(interpreter.distributions)
        if library.threads == "unsafe"
    ]
    if unsafe:
        return Advice(
            "process",
            f"the GIL is off, but {', '.join(unsafe)} must not be used from two threads at once",
        )
    return Advice(
        "thread",
        "the GIL is off: threads run in parallel and share one copy of what they load."
        " The adapter has to be thread-safe",
    )
