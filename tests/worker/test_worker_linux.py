"""What only Linux has, what a worker leaves to its starter, and how it ends: each by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from snakepit_port.worker import leaving, linux
from snakepit_port.worker.orphans import MARK, Orphans, mark

# -- processes -------------------------------------------------------------------------------------


@contextmanager
def child(*command: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command or ("sleep", "600"), env={**os.environ, **env}) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[bytes]) -> None:
    """Waits for the end of a child, which is not reaped."""
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def script(text: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text],
        # What is not flushed is lost, whatever these tests were started with.
        env={**os.environ, "PYTHONUNBUFFERED": "", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_environment_that_is_empty_is_no_missing_one(tmp_path: Path) -> None:
    # What stands behind such a name is not to be found by what is in it.
    program = tmp_path / ") 1 2 3 4 5 6 7"
    program.symlink_to("/bin/cat")
    pipe = subprocess.PIPE
    with subprocess.Popen([program], env={}, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # What it was started as is there once it does something.
        process.stdin.write(b"!\n")
        process.stdin.flush()
        process.stdout.readline()
        environment = linux.environment_of(process.pid)
    assert environment == [b""]


def test_one_that_is_gone_has_said_nothing() -> None:
    with child("true") as process:
        process.wait()
        assert linux.environment_of(process.pid) == []


def test_orphans_end_but_those_that_are_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    with child() as other, child() as spared, child("true") as dead, child("true") as ours:
        children = [other.pid, spared.pid, dead.pid, ours.pid]
        monkeypatch.setattr(linux, "children", lambda: children)
        for process in (dead, ours):
            ended(process)
        killed = []
        monkeypatch.setattr(linux, "send_signal", lambda *sent: killed.append(sent))
        linux.end_orphans({spared.pid, ours.pid})
        assert (other.pid, signal.SIGKILL) in killed
        assert not {pid for pid, _ in killed} & {spared.pid, ours.pid}
        # Its end is for who started it.
        assert os.waitpid(ours.pid, 0)[0] == ours.pid
        with pytest.raises(ChildProcessError):
            os.waitpid(dead.pid, 0)


def test_a_signal_for_one_that_is_gone_is_for_nobody() -> None:
    with child("true") as process:
        process.wait()
        linux.send_signal(process.pid, signal.SIGKILL)
        linux.send_signal(-process.pid, signal.SIGKILL)


def test_one_whose_parent_has_gone_already_ends() -> None:
    text = "import os\nfrom snakepit_port.worker import linux\nlinux.die_with_parent(os.getpid())"
    assert script(text).returncode == -signal.SIGKILL


def test_only_a_value_that_has_room_is_written_over() -> None:
    text = (
        "from pathlib import Path\n"
        "from snakepit_port.worker.linux import overwrite_variable\n"
        "for name, value in (('SHORT', 'longer'), ('LONG', 'new'), ('SAME', 'after')):\n"
        "    overwrite_variable(name, value)\n"
        "print(Path('/proc/self/environ').read_text().replace('\\0', '\\n'))\n"
    )
    told = script(text, SHORT="short", LONG="longest", SAME="other")
    lines = set(told.stdout.splitlines())
    assert {"SHORT=short", "LONG=longest", "SAME=after"} <= lines


def test_one_yields_memory_as_far_as_the_kernel_knows() -> None:
    text = (
        "from pathlib import Path\n"
        "from snakepit_port.worker.linux import yield_memory_first\n"
        "score = Path('/proc/self/oom_score_adj')\n"
        "for before in (600, 800, 1000):\n"
        "    score.write_text(str(before))\n"
        "    yield_memory_first()\n"
        "    print(score.read_text().strip())\n"
    )
    assert script(text).stdout.split() == ["900", "1000", "1000"]


def test_one_stands_back_and_stops_doing_so(monkeypatch: pytest.MonkeyPatch) -> None:
    policies = []

    def note(pid: int, policy: int, _parameters: Any) -> None:
        policies.append((pid, policy))
        # As some sandboxes have it.
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", note)
    linux.stand_back(True)
    linux.stand_back(False)
    assert policies == [(0, os.SCHED_BATCH), (0, os.SCHED_OTHER)]


# -- orphans ---------------------------------------------------------------------------------------


class Children:
    """A starter's, and what it sends them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.environments: dict[int, list[bytes] | None] = {}
        self.sent: list[tuple[int, int]] = []
        monkeypatch.setattr(linux, "children", lambda: list(self.environments))
        monkeypatch.setattr(linux, "environment_of", lambda pid: self.environments[pid])
        monkeypatch.setattr(linux, "send_signal", lambda *sent: self.sent.append(sent))


def test_one_is_held_once_and_one_that_got_its_process_id_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    children, orphans = Children(monkeypatch), Orphans()
    for environments in ({7: None}, {7: None}, {}, {7: None}):
        children.environments = dict(environments)
        orphans.end({1})
    assert children.sent == [(7, signal.SIGSTOP)] * 2
    children.environments = {7: [b"A=1"]}
    for _ in range(2):
        orphans.end({1})
    assert children.sent[2:] == [(7, signal.SIGCONT)]


def test_whose_mark_is_of_no_worker_that_went_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    (alive, gone, nobody) = (f"{MARK}={mark(pid)[MARK]}".encode() for pid in (1, 2, 0))
    name = MARK.encode()
    children = Children(monkeypatch)
    children.environments = {
        11: [b"A=1", alive],
        12: [b"A=1", gone],
        13: [nobody],
        # What others have written there.
        14: [name + b"=2"],
        15: [name + b"=00000000-2"],
        16: [name + b"X=0000000002"],
        17: [b""],
        # A worker itself, which has been told to be one of another starter's.
        1: [gone],
    }
    Orphans().end({1})
    assert children.sent == [(12, signal.SIGKILL)]


# -- leaving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "exit", ["None", "0", "3", "259", "-1", "True", "2**40", "'a text'", "2.5"]
)
def test_a_child_that_a_command_has_forked_exits_as_python_does(exit: str) -> None:
    begin = "import sys\nfrom snakepit_port.worker.leaving import leave_as_python\n"
    leaves = script(f"{begin}leave_as_python(SystemExit({exit}))")
    python = script(f"{begin}raise SystemExit({exit})")
    assert (leaves.returncode, leaves.stderr) == (python.returncode, python.stderr)


@pytest.mark.parametrize("closed", ["sys.stderr = None", "sys.stderr.close()", ""])
def test_one_that_raised_ends_with_1_though_nobody_is_told(closed: str) -> None:
    text = (
        f"import sys\nfrom snakepit_port.worker.leaving import leave_as_python\n{closed}\n"
        "leave_as_python(ZeroDivisionError('raised'))"
    )
    told = script(text)
    assert (told.returncode, told.stderr) == (1, "" if closed else "ZeroDivisionError: raised\n")


def test_a_text_to_exit_with_is_not_printed_where_there_is_no_stderr() -> None:
    text = (
        "import sys\nfrom snakepit_port.worker.leaving import leave_as_python\n"
        "sys.stderr = None\nleave_as_python(SystemExit('a text'))"
    )
    told = script(text)
    assert (told.returncode, told.stdout) == (1, "")


def test_whatever_fails_on_the_way_the_status_is_the_same() -> None:
    text = (
        "import atexit, sys\n"
        "from snakepit_port.worker.leaving import leave\n"
        "atexit.register(print, 'at exit', end='')\n"
        "class Broken:\n"
        "    def flush(self): raise SystemExit(5)\n"
        "out, sys.stderr = sys.stdout, Broken()\n"
        "@atexit.register\n"
        "def fails(): raise SystemExit(4)\n"
        "leave(3)"
    )
    told = script(text)
    assert (told.returncode, told.stdout) == (3, "at exit")


def test_executors_end_last_first_and_each_whatever_another_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = []

    def end(name: str) -> None:
        ended.append(name)
        raise SystemExit

    ends = [lambda: end("first"), lambda: end("second")]
    monkeypatch.setattr(threading, "_threading_atexits", ends, raising=False)
    leaving.end_executors()
    assert ended == ["second", "first"]
