"""A class whose health can be spoilt."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

from snakepit_port.adapter import command


class Patient:
    def __init__(self) -> None:
        self._ailment: str | None = None
        self._checks = 0

    @command
    def pid(self) -> int:
        return os.getpid()

    @command
    def checks(self) -> int:
        """How often `health` was run."""
        return self._checks

    @command
    def fall_ill(self, ailment: str) -> int:
        self._ailment = ailment
        return os.getpid()

    @command
    def fall_ill_and_count(self, ailment: str) -> Iterator[int]:
        self._ailment = ailment
        yield from range(10)

    def health(self) -> bool:
        self._checks += 1
        if self._ailment == "raise":
            raise RuntimeError("the model is gone")
        if self._ailment == "hang":
            signal.pause()
        return self._ailment != "false"
