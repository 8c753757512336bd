"""What no handler of a signal may interrupt.

Python runs handlers between any two steps of the main thread, and what they raise is raised there:
in the middle of a frame that is being written, say, of which the rest would be lost.
"""

from __future__ import annotations

import signal
from types import TracebackType

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


class HeldSignals:
    """A context in which signals to the calling thread wait for its end. What their handlers raise
    is raised there, or before it begins."""

    def __enter__(self) -> None:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
        except BaseException:
            # Raised by the handler of one that came just before.
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
            raise

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
