"""Errors that fit into a frame.

What an exception says can be as long as it likes: the rows that it could not read, say. A frame
that is too large would cost its worker all that it runs, so texts are cut, the longest first.
"""

from __future__ import annotations

from typing import Any

from snakepit_port import wire

#: The error of a worker or starter that failed: each call of its pool may be answered with it.
FAILURE_BYTES = 64 * 1024

#: More than the frame of an answer takes besides its term.
ENVELOPE_BYTES = 64

_CUT = "…"


def fit(error: dict[str, Any], room: int) -> dict[str, Any]:
    """The error, as a term of `room` bytes at most, if there is room for its type and for what is
    no text: these stay as they are.

    Of a text the beginning stays; of a traceback the end, too: where it happened is there, or else
    before a long message.
    """
    excess = len(wire.encode(error)) - room
    if excess <= 0:
        return error
    texts = {
        key: value.encode()
        for key, value in error.items()
        if isinstance(value, str) and key != "type"
    }
    left = sum(map(len, texts.values())) - excess
    fitting = dict(error)
    # Short ones leave more than their share to the others.
    for place, key in enumerate(sorted(texts, key=lambda key: len(texts[key]))):
        share = min(len(texts[key]), max(left, 0) // (len(texts) - place))
        fitting[key] = _cut(texts[key], share, key == "traceback")
        left -= share
    return fitting


def fit_failure(error: dict[str, Any], max_answer_bytes: int) -> dict[str, Any]:
    """The error of a worker or starter that failed. The supervisor adds to it: where, and what."""
    return fit(error, min(FAILURE_BYTES, max_answer_bytes // 2))


def _cut(text: bytes, size: int, keeps_end: bool) -> str:
    if len(text) <= size:
        return text.decode()
    room = size - len(_CUT.encode())
    if room < 0:
        return ""
    # A character that a cut goes through is left out.
    end = text[len(text) - room // 2 :].decode(errors="ignore") if keeps_end else ""
    return text[: room - room // 2 if keeps_end else room].decode(errors="ignore") + _CUT + end
