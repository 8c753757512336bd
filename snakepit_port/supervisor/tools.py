"""What running commands ask of the host, and who waits for the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from snakepit_port.supervisor.link import Link
from snakepit_port.wire import messages
from snakepit_port.wire.grammar import FIRST_QUESTION


class _Question(NamedTuple):
    """`told` is its number on the host's link, `number` the one that it has at the worker's."""

    told: int
    link: Link
    number: int


class Tools:
    """The questions that the host has not answered: one at a time for each call.

    On the host's link each has a number of the supervisor's own: a call that is run again asks
    anew, and the answer to what it asked before must not be taken for the new one.
    """

    def __init__(self) -> None:
        #: By the call.
        self.open: dict[int, _Question] = {}
        self._last = FIRST_QUESTION - 1
        self._refusal: dict[str, Any] | None = None

    def ask(self, call_id: int, link: Link, number: int, name: str, args: bytes) -> bytes | None:
        """What to send to the host for the worker at `link`; None if that has its answer."""
        if self._refusal is not None:
            link.send(messages.tool_error(call_id, number, self._refusal))
            return None
        self._last += 1
        # In the place of one that the call does not wait for any more.
        self.open[call_id] = _Question(self._last, link, number)
        return messages.tool(call_id, self._last, name, args)

    def answer(self, call_id: int, told: int, answer: bytes | Mapping[str, Any]) -> None:
        """The host has answered: with a result, or with an error. Nothing happens if nobody waits
        for it."""
        question = self.open.get(call_id)
        if question is None or question.told != told:
            return
        del self.open[call_id]
        if isinstance(answer, bytes):
            frame = messages.tool_result(call_id, question.number, answer)
        else:
            frame = messages.tool_error(call_id, question.number, dict(answer))
        question.link.send(frame)

    def close(self, call_id: int) -> None:
        """The call is answered: nobody waits for what it asked."""
        self.open.pop(call_id, None)

    def refuse(self, message: str) -> None:
        """The host answers no more: neither what is open nor what comes."""
        self._refusal = {"type": "tool_error", "message": message}
        for call_id, question in list(self.open.items()):
            self.answer(call_id, question.told, self._refusal)
