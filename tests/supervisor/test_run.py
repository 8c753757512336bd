"""What marks a run, and what is removed of a dead one. With a mark of its own, so that no other
supervisor on the machine takes part."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from snakepit_port import cli, processes
from snakepit_port.processes import look_at
from snakepit_port.supervisor import run as runs
from snakepit_port.supervisor.run import Run, find_leavings, remove

#: A process that has been dead for long.
DEAD_RUN = "1-9999999999999999-00dead"


@pytest.fixture(autouse=True)
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"SNAKEPIT_PORT_TEST_{uuid.uuid4().hex}"
    monkeypatch.setattr(runs, "MARK", name)
    return name


class Sleeper:
    """A process that lives until it is killed; perhaps with a child of another environment."""

    def __init__(self, env: dict[str, str], script: str = "print(0, flush=True)") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{script}\nimport signal\nsignal.pause()"],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.child = int(self.process.stdout.readline())

    @property
    def pid(self) -> int:
        return self.process.pid


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def sleeper(stack: ExitStack, env: dict[str, str], script: str = "print(0, flush=True)") -> Sleeper:
    started = Sleeper(env, script)
    stack.enter_context(started.process)
    stack.callback(started.process.kill)
    return started


def test_processes_of_a_run_live_with_its_supervisor(stack: ExitStack) -> None:
    alive = sleeper(stack, {runs.MARK: Run().id})
    dead = sleeper(stack, {runs.MARK: DEAD_RUN})
    leavings = find_leavings()
    assert [(left.pid, left.run_id) for left in leavings.processes] == [(dead.pid, DEAD_RUN)]
    assert "signal.pause" in leavings.processes[0].command
    remove(leavings)
    assert dead.process.wait() == -signal.SIGKILL
    assert alive.process.poll() is None
    assert find_leavings().processes == []


def test_what_another_has_called_its_process_is_one_line(stack: ExitStack) -> None:
    sleeper(stack, {runs.MARK: DEAD_RUN}, "print(0, flush=True)  # \x1b[2J\n# forged")
    (left,) = find_leavings().processes
    assert "# \\x1b[2J\\n# forged" in left.command


def test_a_supervisor_that_has_got_the_process_id_of_another_is_another(stack: ExitStack) -> None:
    pid, started, random = Run().id.split("-")
    other = sleeper(stack, {runs.MARK: f"{pid}-{int(started) - 1}-{random}"})
    assert [left.pid for left in find_leavings().processes] == [other.pid]


def test_a_process_to_which_numbers_mean_something_else_is_spared(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container, say: the supervisor that it has there cannot be found from here."""
    other = sleeper(stack, {runs.MARK: DEAD_RUN})
    monkeypatch.setattr(runs, "_namespaces", lambda pid: [str(pid == other.pid)])
    assert find_leavings().processes == []


@pytest.mark.parametrize("link", [None, "1"])
def test_one_that_cannot_tell_when_it_began_is_found_by_its_process_id(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, link: str | None
) -> None:
    def readlink(_path: str) -> str:
        if link is None:
            raise FileNotFoundError
        return link

    with monkeypatch.context() as patch:
        patch.setattr(processes.os, "readlink", readlink)
        run = Run()
    assert run.id.startswith(f"{os.getpid()}-0-")
    sleeper(stack, {runs.MARK: run.id})
    assert find_leavings().processes == []


def test_descendants_are_leavings_whatever_their_environment(stack: ExitStack) -> None:
    script = (
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '600'], env={}, start_new_session=True)\n"
        "print(child.pid, flush=True)"
    )
    dead = sleeper(stack, {runs.MARK: DEAD_RUN}, script)
    pidfd = os.pidfd_open(dead.child)
    leavings = find_leavings()
    assert {left.pid for left in leavings.processes} == {dead.pid, dead.child}
    remove(leavings)
    assert dead.process.wait() == -signal.SIGKILL
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(20_000)
    os.close(pidfd)


def test_a_run_within_a_dead_one_is_spared(stack: ExitStack) -> None:
    """A supervisor that was started by a command of another: its own run is alive."""
    supervisor = sleeper(stack, {runs.MARK: DEAD_RUN})
    seen = look_at(supervisor.pid)
    assert seen is not None
    sleeper(stack, {runs.MARK: f"{supervisor.pid}-{seen.started}-000001"})
    assert find_leavings().processes == []


def test_who_asks_is_spared(mark: str) -> None:
    script = (
        "from snakepit_port.supervisor import run\n"
        f"run.MARK = {mark!r}\n"
        "print([left.pid for left in run.find_leavings().processes])\n"
    )
    env = {**os.environ, mark: DEAD_RUN}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    "value",
    [
        *("", "1", "x-y-z", "--", "1-2-3-4", "²-1-abcdef", "0-0-x", "0-1-abcdef", "1-x-abcdef"),
        *("1-2-ABCDEF", "1-2-abcdef\n", "2147483648-1-abcdef", f"{'9' * 5000}-1-abcdef"),
        f"1-{'9' * 5000}-abcdef",
    ],
)
def test_a_mark_that_is_none_is_ignored(stack: ExitStack, value: str) -> None:
    sleeper(stack, {runs.MARK: value})
    assert find_leavings().processes == []


def test_a_process_that_got_the_id_of_a_leaving_is_spared(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper(stack, {runs.MARK: DEAD_RUN})
    (found,) = find_leavings().processes
    sent: list[int] = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda _fd, signum: sent.append(signum))
    remove(runs.Leavings([found._replace(started="1")], []))
    assert sent == []
    remove(runs.Leavings([found], []))
    assert sent == [signal.SIGKILL]


# -- folders ---------------------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runs, "MEMORY", str(tmp_path))
    return tmp_path


def abandoned(base: Path, name: str = "snakepit-port-1-2-abcde3") -> Path:
    """A folder that has long not been changed, with something in it."""
    folder = base / name
    folder.mkdir()
    (folder / "file").write_text("large")
    os.utime(folder, (0, 0))
    return folder


def test_a_folder_lives_with_who_holds_it(base: Path) -> None:
    folder = abandoned(base)
    held = runs.hold(folder)
    assert find_leavings().folders == []
    remove(runs.Leavings([], [folder]))
    assert (folder / "file").exists()
    os.close(held)
    assert find_leavings().folders == [folder]


def test_a_folder_of_somebody_else_is_left(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = abandoned(base)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    assert find_leavings().folders == []


def test_a_link_to_a_folder_is_not_held(base: Path) -> None:
    (base / "link").symlink_to(abandoned(base))
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        runs.hold(base / "link")


def test_a_folder_is_left_to_its_host_for_a_while(base: Path) -> None:
    folder = abandoned(base)
    os.utime(folder)
    assert find_leavings().folders == []


def test_a_folder_that_is_left_to_a_host_is_told(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alive = base / f"snakepit-port-{Run().id}"
    alive.mkdir()
    held = runs.hold(abandoned(base, "snakepit-port-4-5-abcde6"))
    os.utime(base / "snakepit-port-4-5-abcde6")
    folder = abandoned(base)
    assert runs.find_waiting() == []
    os.utime(folder)
    ((waiting, seconds),) = runs.find_waiting()
    assert (waiting, 0 <= seconds <= 60) == (folder, True)
    assert cli.main(["cleanup"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"left alone {folder}: a host may still read results there")
    assert "nothing" not in shown
    assert cli.main(["cleanup", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [left["folder"] for left in shown["left_alone"]] == [str(folder)]
    assert (shown["folders"], folder.exists()) == ([], True)
    os.close(held)


def test_a_run_that_begins_meanwhile_has_its_folder_to_itself(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = runs._look_at_all

    def look_and_begin() -> dict[int, Any]:
        seen = look()
        os.utime(abandoned(base, "snakepit-port-7-8-abcde9"))
        return seen

    monkeypatch.setattr(runs, "_look_at_all", look_and_begin)
    assert runs.find_waiting() == []


def test_a_folder_that_nobody_holds_is_removed(base: Path) -> None:
    folder = abandoned(base)
    others = {"snakepit-port-4-5-abcdef", "snakepit-port-my-own-data", "other-1-2-abcdef"}
    (base / "snakepit-port-4-5-abcdef").symlink_to(folder)
    abandoned(base, "snakepit-port-my-own-data")
    abandoned(base, "other-1-2-abcdef")
    leavings = find_leavings()
    assert leavings.folders == [folder]
    remove(leavings)
    remove(leavings)
    assert {path.name for path in base.iterdir()} == others


def test_a_folder_with_folders_in_it_is_nobodys_and_keeps_none_from_starting(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anybody can make one, as deep as they like."""
    strange, folder = abandoned(base, "snakepit-port-1-1-abcdef"), abandoned(base)
    (strange / "deep" / "deeper").mkdir(parents=True)
    os.utime(strange, (0, 0))
    leavings = find_leavings()
    assert leavings.folders == [strange, folder]
    assert remove(leavings) == [strange]
    assert [path.name for path in base.iterdir()] == [strange.name]
    assert [path.name for path in strange.iterdir()] == ["deep"]
    os.utime(strange, (0, 0))
    assert cli.main(["cleanup"]) == 0
    assert capsys.readouterr().out.startswith(
        f"could not remove {strange}: it is held, or has more in"
    )


# -- snakepit-port cleanup -------------------------------------------------------------------------


def test_cleanup(stack: ExitStack, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead = sleeper(stack, {runs.MARK: DEAD_RUN})
    folder = abandoned(base)
    assert cli.main(["cleanup", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert f"would kill {dead.pid} of run {DEAD_RUN}: " in shown
    assert f"would remove {folder}\n" in shown
    assert cli.main(["cleanup", "--dry-run", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [process["pid"] for process in shown["processes"]] == [dead.pid]
    assert (shown["folders"], shown["dry_run"]) == ([str(folder)], True)
    assert dead.process.poll() is None
    assert folder.exists()
    assert cli.main(["cleanup"]) == 0
    assert f"killed {dead.pid} of run {DEAD_RUN}: " in capsys.readouterr().out
    assert dead.process.wait() == -signal.SIGKILL
    assert not folder.exists()
    assert cli.main(["cleanup"]) == 0
    assert capsys.readouterr().out == "dead runs have left nothing\n"
