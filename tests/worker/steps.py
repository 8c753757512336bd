"""Something happens at one step of what the package does on a thread, for tests that take one step
after the other."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType

import snakepit_port

_OURS = os.path.join(os.path.dirname(snakepit_port.__file__), "")


def call_at(
    step: int, act: Callable[[], object], counts: Callable[[FrameType], bool] = lambda _: True
) -> None:
    """Have `act` called at that step from here on, of those that count. A step is where Python runs
    the handlers of signals: a function is entered, or one in C has returned."""
    taken = 0

    def look(frame: FrameType, event: str, _arg: object) -> None:
        nonlocal taken
        if event not in ("call", "c_return") or not frame.f_code.co_filename.startswith(_OURS):
            return
        if counts(frame):
            taken += 1
            if taken == step:
                sys.setprofile(None)
                act()

    sys.setprofile(look)


def have_passed() -> bool:
    """Take no more; whether that step has come."""
    passed = sys.getprofile() is None
    sys.setprofile(None)
    return passed
