"""Room for the handler of a signal, wherever it comes.

It is called on top of whatever runs, and a command may have used up nearly all the frames that
Python lets it have.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Callable

#: More frames than a handler takes.
_FRAMES = 100

#: The highest limit that Python takes, a C int.
_MOST = 2**31 - 1


def with_spare_frames(run: Callable[[], None]) -> None:
    """Call this with room for some more frames. Raises what it does."""
    limit = sys.getrecursionlimit()
    more = min(limit + _FRAMES, _MOST)
    try:
        sys.setrecursionlimit(more)
        run()
    finally:
        # It is that of all threads: another may have set its own. Refused where it is that deep;
        # then it stays.
        if sys.getrecursionlimit() == more:
            with suppress(RecursionError):
                sys.setrecursionlimit(limit)
