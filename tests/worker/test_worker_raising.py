"""A cancel is raised inside of what cleans up, also where Python notices it outside."""

from __future__ import annotations

import sys

import pytest
from worker_driver import Starter


@pytest.fixture(params=["this Python", "3.13"])
def python(request: pytest.FixtureRequest) -> str:
    if request.param == "3.13":
        return str(request.getfixturevalue("free_threaded_python"))
    return sys.executable


@pytest.mark.parametrize("command", ["finally_", "except_", "with_", "with_choices"])
def test_what_a_loop_jumps_back_out_of_cleans_up(python: str, command: str) -> None:
    with Starter(python=python) as starter, starter.start(adapter="looping_adapter") as worker:
        worker.ready()
        for _ in range(5):
            id = worker.begin(command)
            assert worker.stdout.line() == "in"
            worker.interrupt(id)
            assert worker.stdout.line() == "cleaned"
            assert worker.failure_of(id)["type"] == "cancelled"
            assert worker.call("nothing_traces") is True
