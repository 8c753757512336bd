"""Where a pool's workers come from, and what there has to be for that."""

from __future__ import annotations

import errno
import math
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_worker_process import FullPump

from snakepit_port.config import load_terms
from snakepit_port.environment import libraries
from snakepit_port.supervisor.ledger import Ledger
from snakepit_port.supervisor.pump import Pump
from snakepit_port.supervisor.source import Source
from snakepit_port.supervisor.starter import Starter, StarterError

NOBODY: Any = None


def source(**settings: Any) -> Source:
    config = load_terms({"pools": [{"name": "default", "adapter": "a:A", **settings}]}, Path("/"))
    (pool,) = config.enabled_pools
    return Source(NOBODY, config, pool)


@pytest.mark.parametrize(
    "change",
    [
        {"adapter": "b:A"},
        {"adapter_args": {"x": True}},
        {"adapter_args": {"x": 1.0}},
        {"adapter_args": {"x": 1, "y": 1}},
        {"python": "/other/python"},
        {"python_path": ["/other"]},
        {"preload": ["json"]},
        {"start_method": "spawn"},
        {"direct_calls": ["math:*"]},
        {"worker_profile": "thread"},
    ],
    ids=str,
)
def test_workers_are_told_apart_by_what_they_see(change: dict[str, Any]) -> None:
    before = {"adapter_args": {"x": 1}}
    assert source(**before).makes_the_same_as(source(**before))
    assert not source(**{**before, **change}).makes_the_same_as(source(**before))


def test_what_workers_do_not_see_makes_no_other() -> None:
    assert source(pool_size=3, max_queue_size=7).makes_the_same_as(source())


def test_what_is_known_of_libraries_is_there_when_the_table_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "TABLE", tmp_path / "gone")
    libraries.known_libraries.cache_clear()
    made = source(worker_profile="thread", thread_safety_checks=True)
    assert made.worker_hello()["unsafe_modules"]


class Stopping:
    """The runner of a pool that is to stop, and its starter, which is stuck."""

    name = "default"

    def __init__(self) -> None:
        self.time = 0.0
        self.stops_at = 0.0
        self.alive = {"default-1", "default-2"}
        self.did: list[str] = []
        self.outside = SimpleNamespace(log=lambda *_: None)

    def now(self) -> float:
        return self.time

    def touch(self) -> None: ...

    def held(self, worker: str) -> None: ...

    def is_over_but_for(self, _: Source, late: list[str | None]) -> bool:
        return self.time >= self.stops_at and self.alive <= set(late)

    def ping(self) -> None:
        self.did.append(f"asked at {self.time}")

    def kill(self) -> None:
        self.did.append(f"killed at {self.time}")


@pytest.mark.parametrize("apart", [0.0, 0.5, 1.5])
def test_a_stop_waits_for_a_stuck_starter_no_longer_than_for_the_last_of_its_workers(
    apart: float,
) -> None:
    made, stopping = source(), Stopping()
    made.runner = made.starter = stopping  # type: ignore[assignment]
    for n, worker in enumerate(sorted(stopping.alive)):
        stopping.time = n * apart
        made.expect(worker)
    while not any(what.startswith("killed") for what in stopping.did):
        assert made.next_due > stopping.time
        stopping.time = made.next_due
        made.tick(stopping.time)
    asked = ["asked at 2.0"] if apart else []
    assert stopping.did == [*asked, f"killed at {2.0 + apart}"]
    assert made.next_due == float("inf")


def test_a_stop_that_comes_while_a_stuck_starter_is_asked_does_not_wait_for_its_answer() -> None:
    made, stopping = source(), Stopping()
    made.runner = made.starter = stopping  # type: ignore[assignment]
    stopping.stops_at = 3.0
    for worker in stopping.alive:
        made.expect(worker)
    stopping.time = 2.0
    made.tick(2.0)
    assert made.next_due > 3.0
    stopping.time = 3.0
    made.look_again()
    assert made.next_due <= 3.0
    made.tick(3.0)
    assert stopping.did == ["asked at 2.0", "killed at 3.0"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOENT, "no such file"),
            "is there, but not the program that its first line names, or its loader; check the",
        ),
        (
            OSError(errno.E2BIG, "too long"),
            "cannot be run: too long; make `adapter_env`, or the environment that is inherited",
        ),
        (ValueError("embedded null byte"), "cannot be started: embedded null byte; check the pool"),
    ],
    ids=["none", "too much", "no name"],
)
def test_an_interpreter_that_cannot_be_started_is_told_why_and_what_to_do(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr("subprocess.Popen", fails)
    settings: Any = source(python=sys.executable).settings
    run: Any = SimpleNamespace(marks=lambda pool: {})
    with pytest.raises(StarterError, match=f"{re.escape(sys.executable)}'? {said}"):
        Starter(NOBODY, settings, run, os.environ, 0, None, NOBODY, NOBODY, NOBODY)
    monkeypatch.undo()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("named", ["/no/such/python", "such/python"])
def test_an_interpreter_that_a_variable_names_is_told_with_that(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: Any = source(python="/no/such/python").settings
    run: Any = SimpleNamespace(marks=lambda pool: {})

    def said() -> str:
        with pytest.raises(StarterError) as caught:
            Starter(NOBODY, settings, run, os.environ, 0, None, NOBODY, NOBODY, NOBODY)
        return str(caught.value)

    assert said() == "there is no /no/such/python; check the pool's `python` setting"
    monkeypatch.setenv("SNAKEPIT_PYTHON", named)
    assert said().startswith("there is no /no/such/python; check `$SNAKEPIT_PYTHON`, or give")


def test_too_few_descriptors_are_no_interpreters_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr("subprocess.Popen", fails)
    settings: Any = source(python="/no/such/bin/python").settings
    run: Any = SimpleNamespace(marks=lambda pool: {})
    with pytest.raises(StarterError) as caught:
        Starter(NOBODY, settings, run, os.environ, 0, None, NOBODY, NOBODY, NOBODY)
    assert str(caught.value) == "/no/such/bin/python cannot be run: too many; raise `ulimit -n`"


@pytest.mark.parametrize("what", ["socketpair", "pipe", "Popen"])
def test_a_starter_without_descriptors_says_so_and_leaves_none(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    module = {"socketpair": "socket", "pipe": "os", "Popen": "subprocess"}[what]
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(f"snakepit_port.supervisor.starter.{module}.{what}", none)
    settings: Any = source().settings
    run: Any = SimpleNamespace(marks=lambda pool: {})
    with pytest.raises(StarterError, match="raise `ulimit -n`"):
        Starter(NOBODY, settings, run, os.environ, 0, None, NOBODY, NOBODY, NOBODY)
    monkeypatch.undo()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("room", [0, 1])
async def test_a_starter_that_cannot_be_waited_for_is_not_left(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    pump, ledger = FullPump(), Ledger()
    pump.room = room
    before = os.listdir("/proc/self/fd")
    settings: Any = source().settings
    run: Any = SimpleNamespace(marks=lambda pool: {})
    with pytest.raises(StarterError, match=r"raise `fs\.epoll\.max_user_watches`"):
        Starter(pump, settings, run, os.environ, ledger.fd, None, NOBODY, NOBODY, NOBODY)
    assert os.listdir("/proc/self/fd") == before
    assert pump._watched == {}
    (process,) = started
    assert process.returncode == -signal.SIGKILL
    ledger.close()
    pump.close()


async def test_a_worker_whose_descriptors_cannot_be_passed_was_not_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that a user has under way are counted in all its processes: others may go soon."""

    def refuse(*_: Any) -> int:
        raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))

    pump, ledger = Pump(), Ledger()
    before = os.listdir("/proc/self/fd")
    settings: Any = source().settings
    run: Any = SimpleNamespace(marks=lambda pool: {})
    told: list[tuple[Any, ...]] = []
    gone: list[bool] = []

    def log(level: str, line: str) -> None:
        raise AssertionError(line)

    starter = Starter(
        pump,
        settings,
        run,
        os.environ,
        ledger.fd,
        None,
        told.append,
        lambda: gone.append(True),
        log,
    )
    monkeypatch.setattr(socket, "send_fds", refuse)
    out, their_out = os.pipe()
    err, their_err = os.pipe()
    starter.start("w-1", 0, (out, their_out, err, their_err))
    starter.ping()
    while len(told) < 3:
        await pump.turn(math.inf)
    (tag, worker, message), *rest = told
    assert (tag, worker) == ("start_failed", "w-1")
    assert "raise `ulimit -n`" in message
    # It hears what comes after that.
    assert [said[0] for said in rest] == ["hello", "pong"]
    starter.finish()
    while not gone:
        await pump.turn(math.inf)
    assert os.listdir("/proc/self/fd") == before
    ledger.close()
    pump.close()
