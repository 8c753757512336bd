"""Which commands are fast enough to be sent ahead to a busy worker.

Sending a call ahead saves a fast worker the wait for its next call, and costs that call its chance
to go to another worker meanwhile. The trade is right only where the wait is short, so it is judged
per command from what it took so far.
"""

from __future__ import annotations

import math

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

#: Calls that may wait at a worker when a command has only become fast, and at most. They wait for
#: as long as a run that is slow all of a sudden takes, where its worker waits in C and does not
#: give them back (`recall.py`). Before there was that: with 31, of 64 callers on four workers of a
#: command of which one run in a thousand takes 100 ms, one call in a hundred took as long (p99 101,
#: 102 and 102 ms); the way it is here 13, 20 and 51 ms, at the same rate. The rate of a command
#: that is always fast grows up to 31, and no further. A worker writes answers in halves of as many
#: calls as it then has (`worker/serving.py`).
FIRST_AHEAD, MOST_AHEAD = 3, 31

#: Runs without a stall after which more may wait: 7, then 15, then 31.
TRUSTED_AFTER = 1000

#: Seconds that an answer lets wait when a run was slow, and the machine not only busy with others.
STALL_SECONDS = 2 * OVERDUE_SECONDS

#: Distinct commands remembered. A host can make up names; past this, further ones stay unknown and
#: are never sent ahead.
MAX_COMMANDS = 4096


class _Known:
    """What is known of one command: the decaying maximum of its run time, its runs since the last
    stall or step, and how many of its calls may wait at a worker when it is fast."""

    __slots__ = ("ahead", "longest", "runs")

    def __init__(self, seconds: float) -> None:
        self.longest = seconds
        self.runs = 1
        self.ahead = FIRST_AHEAD


class Speeds:
    """A decaying maximum of the run time of each command: one slow run counts at once, many fast
    ones make up for it. And how far it is trusted: that takes many more."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        #: Commands that are known, and fast: how many calls may wait at a worker, the last of them
        #: one of this command.
        self.fast: dict[str, int] = {}

    def record(self, command: str, seconds: float, stall: float = 0.0) -> bool:
        """Note a run; returns whether the command has just ceased to be fast. `stall` are the
        seconds of all runs together that were answered along with it: one may have taken most."""
        known = self._known.get(command)
        if known is None:
            if len(self._known) < MAX_COMMANDS:
                self._known[command] = _Known(seconds)
            return False
        longest = known.longest * DECAY
        if longest < seconds:
            longest = seconds
        known.longest = longest
        known.runs += 1
        if stall >= STALL_SECONDS or seconds >= STALL_SECONDS:
            known.runs, known.ahead = 0, FIRST_AHEAD
            if command in self.fast:
                self.fast[command] = FIRST_AHEAD
        if command in self.fast:
            if longest >= FAST_SECONDS:
                del self.fast[command]
                return True
            if known.runs >= TRUSTED_AFTER:
                known.runs = 0
                known.ahead = min(2 * known.ahead + 1, MOST_AHEAD)
                self.fast[command] = known.ahead
        elif longest < FAST_SECONDS and known.runs >= KNOWN_AFTER:
            self.fast[command] = known.ahead
        return False

    def longest(self, command: str) -> float:
        """The decaying maximum, in seconds; infinite if nothing is known."""
        known = self._known.get(command)
        return math.inf if known is None else known.longest

    def at_least(self, command: str, seconds: float) -> bool:
        """Note that a run, had it been whole, would have taken this long or longer. Returns as
        `record` does."""
        if seconds < FAST_SECONDS or command not in self._known:
            return False
        return self.record(command, seconds)
