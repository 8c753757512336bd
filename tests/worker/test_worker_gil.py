"""A GIL that comes back: who brought it is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from worker_driver import HERE, Starter

ADAPTER = """
from snakepit_port.adapter import command

thread_safe = True

@command
def load():
    import needs_gil

@command
def nothing():
    pass
"""


@pytest.fixture(scope="module")
def folder(needs_gil: Path) -> Path:
    """Has the extension module, and adapters that import it late, at once, and never."""
    (needs_gil / "late.py").write_text(ADAPTER)
    (needs_gil / "at_once.py").write_text(f"import needs_gil\n{ADAPTER}")
    return needs_gil


def said(
    python: str, folder: Path, adapter: str, *calls: str, preload: tuple[str, ...] = (), **more: Any
) -> tuple[list[bool], list[tuple[str, Any]]]:
    """Whether a worker says that it has a GIL, and then its events about that."""
    with Starter(
        python=python, preload=preload, python_path=(str(folder), str(HERE)), **more
    ) as starter:
        starter.told("hello")
        with starter.start(adapter=adapter) as worker:
            assert worker.next()[0] == "hello"
            tag, info = worker.next()
            assert tag == "ready"
            for command in calls:
                worker.call(command)
            worker.call("nothing")
            assert all(name == "worker.gil_enabled" for name, _ in worker.events)
            return [info["gil"]], [about["module"] for _, about in worker.events]


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("threads", [None, 2])
def test_a_module_that_an_adapter_imports(
    free_threaded_python: str, folder: Path, method: str, threads: int | None
) -> None:
    python = free_threaded_python
    kind = {"start_method": method, "threads": threads}
    assert said(python, folder, "at_once", **kind) == ([True], ["needs_gil"])
    # A command that imports it: from then on.
    assert said(python, folder, "late", "load", "load", **kind) == ([False], ["needs_gil"])
    assert said(python, folder, "late", **kind) == ([False], [])


def test_a_module_that_is_preloaded(free_threaded_python: str, folder: Path) -> None:
    found = said(free_threaded_python, folder, "late", preload=("needs_gil",))
    assert found == ([True], ["needs_gil"])


def test_a_gil_that_was_switched_on_from_outside(free_threaded_python: str, folder: Path) -> None:
    found = said(free_threaded_python, folder, "late", threads=2, env={"PYTHON_GIL": "1"})
    assert found == ([True], [None])
