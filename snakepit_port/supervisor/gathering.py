"""The answer of a control call that several have a part in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Gathering:
    """What several tell, by name. `answer` makes the answer of that; `patience` is the seconds that
    there are for it."""

    def __init__(self, patience: float, answer: Callable[[dict[str, Any]], Any] = dict) -> None:
        self.patience = patience
        self._answer = answer
        self._done: Callable[[Any], None] | None = None
        #: Those that have yet to tell, and what has each tell what it can.
        self._missing: dict[str, Callable[[], None]] = {}
        self._parts: dict[str, Any] = {}

    def expect(self, name: str, give_up: Callable[[], None] | None = None) -> Callable[[Any], None]:
        """What is to be called with the part of this one. When there is no more time, `give_up` is
        called, and has it called at once; without one, the part is None. A second part is dropped.
        """

        def tell(part: Any) -> None:
            if self._missing.pop(name, None) is not None:
                self._parts[name] = part
                self._see()

        self._missing[name] = give_up or (lambda: tell(None))
        return tell

    def begin(self, done: Callable[[Any], None]) -> None:
        """Everybody has been asked: `done` gets the answer, once."""
        self._done = done
        self._see()

    def _see(self) -> None:
        if not self._missing and self._done is not None:
            self._done(self._answer(self._parts))
            self._done = None

    def give_up(self) -> None:
        """Wait no longer for those that have told nothing."""
        for give_up in list(self._missing.values()):
            give_up()
