"""How long to wait before trying again: exponential, with jitter, up to a ceiling."""

from __future__ import annotations

import random

#: Seconds before the second attempt, and at most. The first is short because a crash is often a
#: single accident; the ceiling keeps a pool that was mended from waiting long to notice.
FIRST_SECONDS = 0.1
MAX_SECONDS = 15.0


class Backoff:
    """Counts failures in a row. Jitter takes up to half off, so that pools that failed together do
    not retry together."""

    def __init__(self, random: random.Random) -> None:
        self._random = random
        self.failures = 0

    def failed(self) -> float:
        """Note one more failure; returns the seconds to wait."""
        self.failures += 1
        # 2.0 ** 1024 overflows; the ceiling is reached long before.
        seconds = min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(self.failures - 1, 16))
        return seconds * (1 - self._random.random() / 2)

    def succeeded(self) -> None:
        self.failures = 0
