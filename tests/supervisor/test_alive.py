"""Who is who among the processes of runs, going by their marks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snakepit_port.processes import Seen, look_at
from snakepit_port.supervisor import alive
from snakepit_port.supervisor.alive import Part, parts_of
from snakepit_port.supervisor.run import MARK, POOL_MARK, Look, Marks, Run, marks_in
from snakepit_port.worker.orphans import MARK as WORKER_MARK
from snakepit_port.worker.orphans import NOBODY, mark

RUN, OTHER, DEAD = "10-100-00000a", "50-500-00000b", "90-900-00dead"

NAMES = st.sampled_from([name.encode() for name in (MARK, POOL_MARK, WORKER_MARK)])
VALUES = st.one_of(st.binary(), st.just(RUN.encode()), st.just(NOBODY[WORKER_MARK].encode()))
POOLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


def encoded(variables: dict[str, str]) -> list[bytes]:
    return [os.fsencode(f"{name}={value}") for name, value in variables.items()]


# -- marks -----------------------------------------------------------------------------------------


@given(POOLS)
def test_marks_are_read_as_they_were_made(pool: str) -> None:
    run = Run()
    made = encoded({"PATH": "/bin", **run.marks(pool)})
    assert marks_in([*made, b""]) == Marks(run.id, pool, NOBODY[WORKER_MARK])


@given(st.lists(st.one_of(st.binary(), st.builds(lambda *parts: b"=".join(parts), NAMES, VALUES))))
def test_any_environment_has_marks_of_a_run_or_none(environment: list[bytes]) -> None:
    marks = marks_in(environment)
    assert marks is None or marks.run_id == RUN


def test_the_mark_of_a_pool_is_utf_8_whatever_the_locale() -> None:
    script = (
        "import os\n"
        "from snakepit_port.supervisor.run import POOL_MARK, Run\n"
        "print(os.fsencode(Run().marks('\\u017elu\\u0165')[POOL_MARK]).hex())"
    )
    env = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{'žluť'.encode().hex()}\n", "")


# -- who is who ------------------------------------------------------------------------------------


def seen(parent: int, started: int) -> Seen:
    return Seen(parent, str(started), "S", 0.0, 0)


def marks(run_id: str, worker: int = 0, pool: str | None = "default") -> Marks:
    return Marks(run_id, pool, mark(worker)[WORKER_MARK])


def look(**processes: tuple[int, int, Marks | None]) -> Look:
    """Processes by their ids, with their parent, start time and marks; and the supervisors."""
    by_pid = {int(pid.removeprefix("p")): process for pid, process in processes.items()}
    return Look(
        {pid: seen(parent, started) for pid, (parent, started, _) in by_pid.items()},
        {pid: found for pid, (_, _, found) in by_pid.items() if found},
        {RUN: 10, OTHER: 50, DEAD: None},
    )


def test_starters_and_workers_are_told_apart_and_from_what_they_start() -> None:
    found = look(
        p10=(1, 100, None),
        p11=(10, 110, marks(RUN)),
        p12=(11, 120, marks(RUN, 12)),
        # What a worker started, and what was left of one.
        p13=(12, 130, marks(RUN, 12)),
        p14=(11, 140, marks(RUN, 9)),
        # What a module started that was preloaded, and a worker that has not marked itself yet.
        p15=(11, 150, marks(RUN)),
        p20=(10, 115, marks(RUN, pool="other")),
        p21=(20, 115, marks(RUN, 21, pool="other")),
        p91=(1, 910, marks(DEAD, 91)),
    )
    assert parts_of(found) == {
        RUN: [
            Part(11, "default", True),
            Part(20, "other", True),
            Part(21, "other", False),
            Part(12, "default", False),
        ],
        OTHER: [],
    }


def test_a_run_within_another_is_its_own() -> None:
    """A supervisor that a worker started has the marks of that worker."""
    found = look(
        p10=(1, 100, None),
        p11=(10, 110, marks(RUN)),
        p12=(11, 120, marks(RUN, 12)),
        p50=(12, 500, marks(RUN, 12)),
        p51=(50, 510, marks(OTHER)),
        p52=(51, 520, marks(OTHER, 52)),
    )
    assert parts_of(found) == {
        RUN: [Part(11, "default", True), Part(12, "default", False)],
        OTHER: [Part(51, "default", True), Part(52, "default", False)],
    }


@given(
    st.dictionaries(
        st.integers(1, 60),
        st.tuples(
            st.integers(0, 60),
            st.integers(0, 999),
            st.none()
            | st.builds(
                Marks,
                st.sampled_from([RUN, OTHER, DEAD]),
                st.none() | st.just("default"),
                st.none() | st.text() | st.integers(0, 60).map(lambda pid: mark(pid)[WORKER_MARK]),
            ),
        ),
    )
)
def test_whatever_is_marked_belongs_to_its_run_once(
    processes: dict[int, tuple[int, int, Marks | None]],
) -> None:
    found = look(**{f"p{pid}": process for pid, process in processes.items()})
    parts = parts_of(found)
    assert set(parts) == {RUN, OTHER}
    pids = [part.pid for of_run in parts.values() for part in of_run]
    assert len(pids) == len(set(pids))
    for run_id, of_run in parts.items():
        assert all(found.marks[part.pid].run_id == run_id for part in of_run)
        started = [int(found.seen[part.pid].started) for part in of_run]
        assert started == sorted(started)


@pytest.mark.parametrize(
    ("parent", "host"),
    [
        (7, alive.Host(7, "python3")),
        (8, alive.Host(9, "beam.smp")),
        (6, alive.Host(6, None)),
        (0, None),
    ],
    ids=["a program", "a BEAM starts ports through another process", "hidden", "elsewhere"],
)
def test_the_host_is_who_started_the_supervisor(
    monkeypatch: pytest.MonkeyPatch, parent: int, host: alive.Host | None
) -> None:
    names = {7: "python3", 8: "erl_child_setup", 9: "beam.smp"}
    processes = {10: seen(parent, 100), 8: seen(9, 80)}
    monkeypatch.setattr(alive, "name_of", lambda pid: names.get(pid, ""))
    monkeypatch.setattr(alive, "look_at", processes.get)
    monkeypatch.setattr(alive, "look_at_dead", processes.get)
    assert alive._host_of(10) == host


# -- what goes while it is looked at ---------------------------------------------------------------


@pytest.mark.parametrize("gone", ["supervisor", "starter", "worker"])
def test_a_process_that_has_gone_is_left_out(gone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has, if its process id has got to another one, too."""
    me = look_at(os.getpid())
    assert me is not None
    with subprocess.Popen(["true"]) as ended:
        pass
    pids = {
        name: os.getppid() if name == "supervisor" else os.getpid()
        for name in ("supervisor", "starter", "worker")
    }
    parts = [Part(pids["starter"], "a", True), Part(pids["worker"], "b", False)]

    def runs(seen: dict[int, Seen]) -> list[alive.AliveRun]:
        found = Look(seen, {}, {RUN: pids["supervisor"]})
        monkeypatch.setattr(alive, "look_around", lambda: found)
        monkeypatch.setattr(alive, "parts_of", lambda _: {RUN: parts})
        return alive.find_runs()[0]

    parent = look_at(os.getppid())
    assert parent is not None
    there = {os.getpid(): me, os.getppid(): parent, ended.pid: me}
    (whole,) = runs(there)
    assert [len(pool.starters + pool.workers) for pool in whole.pools] == [1, 1]
    assert runs({**there, os.getppid(): parent._replace(started="1")}) == []
    pids[gone] = ended.pid
    parts = [Part(pids["starter"], "a", True), Part(pids["worker"], "b", False)]
    found = [[pool.name for pool in run.pools] for run in runs(there)]
    assert found == {"supervisor": [], "starter": [["b"]], "worker": [["a"]]}[gone]
