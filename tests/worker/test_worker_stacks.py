"""The handler that tells stacks, in this process."""

from __future__ import annotations

import sys

import pytest

from snakepit_port.worker import stacks
from snakepit_port.worker.spare_frames import with_spare_frames


def test_what_goes_wrong_here_is_not_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "_pipe", -1)
    stacks._asked(stacks.SIGNAL, sys._getframe())


def test_what_other_handlers_raise_meanwhile_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def rings(_frame: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(stacks, "_write", rings)
    with pytest.raises(TimeoutError):
        stacks._asked(stacks.SIGNAL, sys._getframe())


def test_a_limit_that_another_sets_meanwhile_stays() -> None:
    limit = sys.getrecursionlimit()
    try:
        with_spare_frames(lambda: sys.setrecursionlimit(limit + 12_345))
        assert sys.getrecursionlimit() == limit + 12_345
    finally:
        sys.setrecursionlimit(limit)
    with_spare_frames(lambda: None)
    assert sys.getrecursionlimit() == limit
