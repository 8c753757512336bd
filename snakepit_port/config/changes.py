"""What became of one key of an older configuration, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal[
    "kept", "renamed", "converted", "overridden", "not_needed", "unsupported", "not_set"
]

_WORDS: dict[Outcome, str] = {
    "kept": "kept",
    "renamed": "renamed to",
    "converted": "turned into",
    "overridden": "overridden",
    "not_needed": "no longer needed",
    "unsupported": "not supported by this version",
    "not_set": "not set",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One key that was found and what became of it, or one that was not, where that makes a
    difference.

    ``key`` is its place, ``to`` the settings it became (texts such as ``queue_timeout = 300``;
    none for what is left out) and ``note`` the reason, or what to know (or empty). It ``warns`` if
    somebody has to do something.
    """

    key: str
    outcome: Outcome
    to: tuple[str, ...] = ()
    note: str = ""
    warns: bool = False

    @property
    def meaning(self) -> str:
        """What became of the key, in words that follow its name."""
        text = _WORDS[self.outcome]
        if self.outcome in ("renamed", "converted"):
            text += f" {', '.join(self.to)}"
        return f"{text}: {self.note}" if self.note else text

    def __str__(self) -> str:
        return f"{self.key}: {self.meaning}"

    def as_term(self) -> dict[str, str | list[str]]:
        """The change as a map that can be sent to the host, or written as JSON."""
        return {
            "key": self.key,
            "outcome": self.outcome,
            "to": list(self.to),
            "note": self.note,
            "text": str(self),
        }
