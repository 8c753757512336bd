"""Errors that are cut so that they fit into a frame."""

from __future__ import annotations

import pytest

from snakepit_port import wire
from snakepit_port.worker.fitting import fit

ERROR = {
    "type": "exception",
    "message": "a" * 500 + "é" * 500,
    "traceback": "é" * 500 + "z" * 500,
    "status": 7,
}


def test_one_that_fits_is_left_as_it_is() -> None:
    assert fit(ERROR, len(wire.encode(ERROR))) == ERROR


@pytest.mark.parametrize("room", range(100, len(wire.encode(ERROR)), 31))
def test_the_longest_texts_are_cut_and_fill_the_room(room: int) -> None:
    fitting = fit(ERROR, room)
    # Characters that do not fit, and a byte that is not shared.
    assert room - 6 <= len(wire.encode(fitting)) <= room
    assert (fitting["type"], fitting["status"]) == ("exception", 7)
    message, traceback = fitting["message"], fitting["traceback"]
    assert message.endswith("…") or message == ERROR["message"]
    assert ERROR["message"].startswith(message.rstrip("…"))  # type: ignore[attr-defined]
    begins, cut, ends = traceback.partition("…")
    assert ERROR["traceback"].startswith(begins)  # type: ignore[attr-defined]
    assert ERROR["traceback"].endswith(ends)  # type: ignore[attr-defined]
    assert abs(len(begins.encode()) - len(ends.encode())) <= 3 or not cut


def test_where_there_is_no_room_at_all_there_is_still_a_type() -> None:
    assert fit(ERROR, 0) == {"type": "exception", "message": "", "traceback": "", "status": 7}
