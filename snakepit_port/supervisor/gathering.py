"""The answer of a control call that several have a part in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple


class _Missing(NamedTuple):
    """What has one that has not told tell what it can, and what it is reminded with."""

    give_up: Callable[[], None]
    remind: Callable[[], None] | None


class Gathering:
    """What several tell, by name. `answer` makes the answer of that; `patience` is the seconds that
    there are for it, and each time that `remind_after` has passed those that have told nothing are
    reminded."""

    def __init__(
        self,
        patience: float,
        answer: Callable[[dict[str, Any]], Any] = dict,
        remind_after: float = math.inf,
    ) -> None:
        self.patience = patience
        self.remind_after = remind_after
        self._answer = answer
        self._done: Callable[[Any], None] | None = None
        #: Those that have yet to tell.
        self._missing: dict[str, _Missing] = {}
        self._parts: dict[str, Any] = {}

    def expect(
        self,
        name: str,
        give_up: Callable[[], None] | None = None,
        remind: Callable[[], None] | None = None,
    ) -> Callable[[Any], None]:
        """What is to be called with the part of this one. When there is no more time, `give_up` is
        called, and has it called at once; without one, the part is None. A second part is dropped.
        """

        def tell(part: Any) -> None:
            if self._missing.pop(name, None) is not None:
                self._parts[name] = part
                self._see()

        self._missing[name] = _Missing(give_up or (lambda: tell(None)), remind)
        return tell

    def begin(self, done: Callable[[Any], None]) -> None:
        """Everybody has been asked: `done` gets the answer, once."""
        self._done = done
        self._see()

    def _see(self) -> None:
        if not self._missing and self._done is not None:
            self._done(self._answer(self._parts))
            self._done = None

    def remind(self) -> None:
        """Ask those again that have told nothing."""
        for missing in list(self._missing.values()):
            if missing.remind is not None:
                missing.remind()

    def give_up(self) -> None:
        """Wait no longer for those that have told nothing."""
        for missing in list(self._missing.values()):
            missing.give_up()
