"""Which commands are fast enough to be sent ahead to a busy worker.

Sending a call ahead saves a fast worker the wait for its next call, and costs that call its chance
to go to another worker meanwhile. The trade is right only where the wait is short, so it is judged
per command from what it took so far.
"""

from __future__ import annotations

#: A command is fast below this. A round trip between supervisor and worker takes about 0.1 ms;
#: behind 31 calls of 1 ms one waits 31 ms at the very worst.
FAST_SECONDS = 0.001

#: A worker that answers nothing for longer is busy with something slow, whatever its commands took
#: so far: nothing more is sent ahead to it. A turn of the supervisor under load takes a few ms.
OVERDUE_SECONDS = 10 * FAST_SECONDS

#: Calls that must have been seen before a command counts as known.
KNOWN_AFTER = 3

#: How fast a slow run is forgotten: after one run of 10 ms, 22 fast ones; after one of 2 s, 73.
DECAY = 0.9

#: Distinct commands remembered. A host can make up names; past this, further ones stay unknown and
#: are never sent ahead.
MAX_COMMANDS = 4096


class Speeds:
    """A decaying maximum of the run time of each command: one slow run counts at once, many fast
    ones make up for it."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        #: Commands that are known, and fast.
        self.fast: set[str] = set()

    def record(self, command: str, seconds: float) -> bool:
        """Note a run; returns whether the command has just ceased to be fast."""
        longest = self._seconds.get(command)
        if longest is None:
            if len(self._seconds) < MAX_COMMANDS:
                self._seconds[command] = seconds
                self._seen[command] = 1
            return False
        longest *= DECAY
        if longest < seconds:
            longest = seconds
        self._seconds[command] = longest
        if command in self.fast:
            if longest < FAST_SECONDS:
                return False
            self.fast.remove(command)
            return True
        self._seen[command] += 1
        if longest < FAST_SECONDS and self._seen[command] >= KNOWN_AFTER:
            self.fast.add(command)
        return False

    def at_least(self, command: str, seconds: float) -> bool:
        """Note that a run, had it been whole, would have taken this long or longer. Returns as
        `record` does."""
        if seconds < FAST_SECONDS or command not in self._seconds:
            return False
        return self.record(command, seconds)

    def is_fast(self, command: str) -> bool:
        return command in self.fast
