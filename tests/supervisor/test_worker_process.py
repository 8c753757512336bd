"""A worker's process before anything runs in it."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from snakepit_port.pool import Worker
from snakepit_port.supervisor.worker_process import WorkerProcess


@pytest.mark.parametrize("pipes", [0, 1, 2])
def test_nothing_is_left_where_there_are_no_descriptors(
    pipes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, int]] = []
    pipe = os.pipe

    def few() -> tuple[int, int]:
        if len(made) == pipes:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        made.append(pipe())
        return made[-1]

    nobody: Any = None
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "pipe", few)
    with pytest.raises(OSError, match="Too many open files"):
        WorkerProcess(nobody, nobody, Worker("default-1", 0.0), again=False)
    monkeypatch.undo()
    assert len(made) == pipes
    assert os.listdir("/proc/self/fd") == before
