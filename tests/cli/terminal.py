"""A terminal that a test looks at."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable
from contextlib import suppress


def shown_on_a_terminal(run: Callable[[int], object]) -> bytes:
    """All that `run` has written to the terminal whose descriptor it gets. It is little: nobody
    reads before it returns."""
    master, terminal = pty.openpty()
    with os.fdopen(master, "rb", buffering=0) as screen:
        try:
            run(terminal)
        finally:
            os.close(terminal)
        shown = b""
        # A terminal that nobody has open any more is an error, once all is read.
        with suppress(OSError):
            while more := screen.read(4096):
                shown += more
    return shown
