"""Starters of both kinds, kept for the session, workers, new for each test, and modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from kinds import LANES, PROCESSES, THREADS
from worker_driver import Fifo, Start, Starter, Worker
from written import Write


@pytest.fixture(params=[*PROCESSES, *THREADS], scope="session")
def starter(request: pytest.FixtureRequest) -> Iterator[Starter]:
    """Of each start method, and of the thread profile with and without a GIL: all keep the same
    contract."""
    kind = request.param
    python = sys.executable
    if kind == "free-threaded":
        python = request.getfixturevalue("free_threaded_python")
    method = kind if kind in PROCESSES else "forkserver"
    threads = LANES if kind in THREADS else None
    with Starter(method, python=python, threads=threads) as starter:
        starter.told("hello")
        yield starter


@pytest.fixture
def start(starter: Starter) -> Iterator[Start]:
    """Starts workers, which are gone when the test is over."""
    with ExitStack() as stack:
        yield lambda **info: stack.enter_context(starter.start(**info))


@pytest.fixture
def worker(start: Start) -> Worker:
    """A worker that is ready."""
    return start().ready()


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    fifo = Fifo(tmp_path / "fifo")
    yield fifo
    fifo.close()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules, which are importable and forgotten when the test is over."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"from snakepit_port.adapter import command\n{text}", encoding="utf-8")

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]
