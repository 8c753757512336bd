"""What running commands ask of the host, and who waits for the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from snakepit_port.supervisor.link import Link
from snakepit_port.wire import messages
from snakepit_port.wire.grammar import FIRST_QUESTION


class _Asker(NamedTuple):
    """Whose question it is: the call, the worker's link, and the number it has there."""

    call_id: int
    link: Link
    number: int


class Tools:
    """The questions that the host has not answered.

    On the host's link each has a number of the supervisor's own: a call that is run again asks
    anew, and the answer to what it asked before must not be taken for the new one.
    """

    def __init__(self) -> None:
        self.open: dict[int, _Asker] = {}
        self._last = FIRST_QUESTION - 1
        self._refusal: dict[str, Any] | None = None

    def ask(self, call_id: int, link: Link, number: int, name: str, args: bytes) -> bytes | None:
        """What to send to the host for the worker at `link`; None if that has its answer."""
        if self._refusal is not None:
            link.send(messages.tool_error(call_id, number, self._refusal))
            return None
        # It has one at a time: if it does not wait for the one before any more, nobody does.
        self.close(call_id)
        self._last += 1
        self.open[self._last] = _Asker(call_id, link, number)
        return messages.tool(call_id, self._last, name, args)

    def answer(self, call_id: int, number: int, answer: bytes | Mapping[str, Any]) -> None:
        """The host has answered: with a result, or with an error. Nothing happens if nobody waits
        for it."""
        asker = self.open.get(number)
        if asker is None or asker.call_id != call_id:
            return
        del self.open[number]
        if isinstance(answer, bytes):
            frame = messages.tool_result(call_id, asker.number, answer)
        else:
            frame = messages.tool_error(call_id, asker.number, dict(answer))
        asker.link.send(frame)

    def close(self, call_id: int) -> None:
        """The call is answered: nobody waits for what it asked."""
        for number in [number for number, asker in self.open.items() if asker.call_id == call_id]:
            del self.open[number]

    def refuse(self, message: str) -> None:
        """The host answers no more: neither what is open nor what comes."""
        self._refusal = {"type": "tool_error", "message": message}
        for number, asker in list(self.open.items()):
            self.answer(asker.call_id, number, self._refusal)
