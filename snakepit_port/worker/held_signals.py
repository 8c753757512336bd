"""What no handler of a signal may interrupt.

Python runs handlers between any two steps of the main thread, and what they raise is raised there:
in the middle of a frame that is being written, say, of which the rest would be lost.
"""

from __future__ import annotations

import signal
from typing import Callable

from snakepit_port.worker.stacks import FROM_C

#: Not the one that C code handles, which raises nothing, and not those of a fault, which come all
#: the same.
_HELD = frozenset(signal.valid_signals()) - {
    FROM_C,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGABRT,
}


def with_signals_held(run: Callable[[], None]) -> None:
    """Call this, and have signals to the calling thread wait for its end. What their handlers raise
    is raised there, or before it begins.

    One to the whole process may be taken by another thread, which does not hold it, and then its
    handler runs here all the same: `run` has to be ready for that.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    # No context manager: its end is a function of Python, and could be interrupted as it begins.
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
        run()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
