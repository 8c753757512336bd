"""`snakepit-port doctor`: whether pools would start, said truly."""

from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snakepit_port import cli, processes
from snakepit_port.environment import limits

ADAPTER = """
from snakepit_port.adapter import command

@command
def add(a, b):
    return a + b
"""

POOL = """
[[pools]]
name = "default"
adapter = "fine"
python_path = ["."]
"""


#: Seconds that what is to end has for it. It takes milliseconds; a machine may be busy.
GRACE = 20.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fine.py").write_text(ADAPTER)
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    return tmp_path


def doctor(folder: Path, config: str, *options: str, **more: Any) -> tuple[int, str]:
    (folder / "pools.toml").write_text(config)
    ran = subprocess.run(
        [sys.executable, "-m", "snakepit_port", "doctor", *options, "pools.toml"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        **more,
    )
    assert ran.stderr == ""
    return ran.returncode, ran.stdout


def findings(folder: Path, config: str, *options: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The status, and what was found of each subject."""
    status, text = doctor(folder, config, "--json", *options)
    said = json.loads(text)
    assert said["ok"] is (status == 0)
    return status, {finding["subject"]: finding for finding in said["findings"]}


def test_a_pool_that_starts(folder: Path) -> None:
    status, found = findings(folder, POOL)
    assert status == 0
    assert "failure" not in {finding["level"] for finding in found.values()}
    assert found["start"]["message"] == "a worker loaded adapter fine"
    assert sys.prefix in found["interpreter"]["message"]
    assert {"supervisor", "host", "configuration", "file descriptors", "processes"} <= found.keys()


@pytest.mark.parametrize(
    "setting", ["pool_size = 4\nmin_workers = 2\n", "[supervisor]\npooling_enabled = false\n"]
)
def test_one_worker_of_it_is_started_whatever_its_size(folder: Path, setting: str) -> None:
    status, found = findings(folder, f"{POOL}{setting}")
    assert (status, found["start"]["message"]) == (0, "a worker loaded adapter fine")


def test_what_people_see(folder: Path) -> None:
    status, text = doctor(folder, POOL)
    assert status == 0
    assert "ok       configuration: 1 pool\n" in text
    assert "ok       pool default: start: a worker loaded adapter fine\n" in text
    assert text.endswith("\n1 pool: default would start\n")


FINE, ALSO = POOL.replace("default", "io"), POOL.replace("default", "other")
BROKEN = POOL.replace("default", "matrix").replace("fine", "broken")
NOWHERE = POOL.replace("default", "gpu") + 'python = "no/such/python"\n'


@pytest.mark.parametrize(
    ("config", "options", "verdict"),
    [
        (FINE + BROKEN, [], "2 pools: io would start; matrix would not, see above"),
        (BROKEN, [], "1 pool: matrix would not start, see above"),
        (
            FINE + ALSO + BROKEN + NOWHERE,
            ["--no-start"],
            "4 pools: io, other and matrix may start (no worker was started); gpu would not, see"
            " above",
        ),
        (
            FINE + "threads_per_worker = 4\n",
            ["--no-start"],
            "1 pool: io may start (no worker was started); 1 warning",
        ),
        (FINE + "pool_sise = 4\n", [], "the configuration is wrong, see above"),
        ("[supervisor]\npooling_enabled = false\n", [], "there is no pool to start"),
    ],
)
def test_the_last_line_is_the_verdict(
    folder: Path, config: str, options: list[str], verdict: str
) -> None:
    _, text = doctor(folder, config, *options)
    assert text.splitlines()[-1] == verdict


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("os.kill(os.getpid(), 11)", "killed by SIGSEGV, before it had loaded its adapter"),
        ("signal.pause()", "not ready within 3 s and was killed"),
    ],
)
def test_what_a_worker_wrote_that_did_not_load_its_adapter(
    folder: Path, what: str, told: str
) -> None:
    last_words = "import os, signal, sys\nprint('reading the model', file=sys.stderr, flush=True)\n"
    (folder / "slow.py").write_text(f"{last_words}{what}\n")
    pool = POOL.replace("fine", "slow") + "pool_startup_timeout = 3000\n"
    status, found = findings(folder, pool)
    assert (status, found["start"]["level"]) == (1, "failure")
    assert told in found["start"]["message"]
    assert "\nit wrote on stderr:\nreading the model" in found["start"]["message"]


def test_an_adapter_that_cannot_be_imported(folder: Path) -> None:
    config = POOL.replace("fine", "broken")
    status, found = findings(folder, config)
    assert (status, found["start"]["level"]) == (1, "failure")
    message, traceback = found["start"]["message"], found["start"]["traceback"]
    assert message.startswith("adapter broken failed to load: ModuleNotFoundError: No module named")
    assert "\n" not in message
    assert 'broken.py", line 1' in traceback
    assert [subject for subject in found if "traceback" in found[subject]] == ["start"]
    _, text = doctor(folder, config)
    assert "failure  pool default: start: adapter broken failed to load: " in text
    assert text.count("Traceback (most recent call last)") == 1
    # Not imported, so not found.
    status, found = findings(folder, config, "--no-start")
    assert status == 0
    assert "start" not in found


def test_a_module_that_turns_the_gil_on(
    folder: Path, free_threaded_python: str, needs_gil: Path
) -> None:
    (folder / "greedy.py").write_text(f"import needs_gil\n{ADAPTER}")
    paths = json.dumps([".", str(needs_gil)])
    config = f"""
[[pools]]
name = "default"
worker_profile = "thread"
python = "{free_threaded_python}"
adapter = "greedy"
python_path = {paths}
"""
    status, found = findings(folder, config)
    assert (status, found["worker.gil_enabled"]["level"]) == (0, "warning")
    assert "module needs_gil turned the GIL" in found["worker.gil_enabled"]["message"]
    _, text = doctor(folder, config)
    assert "warning  pool default: worker.gil_enabled: module needs_gil turned the GIL" in text
    _, found = findings(folder, config.replace("greedy", "fine"))
    assert "worker.gil_enabled" not in found


def test_what_thread_safety_checks_find(folder: Path) -> None:
    config = f'{POOL}worker_profile = "thread"\nthread_safety_checks = true\n'
    status, found = findings(folder, config)
    assert (status, found["worker.thread_safety"]["level"]) == (0, "warning")
    assert "thread_safe = True" in found["worker.thread_safety"]["message"]


@pytest.mark.parametrize(
    ("python", "says"),
    [
        ("no/such/python", "there is no /"),
        ("/bin/false", "`, it ended with status 1 and said nothing"),
        ("no-such-python", "there is no 'no-such-python' on PATH"),
        ("old", "is Python 3.8.18; a worker needs 3.9 or newer"),
    ],
)
def test_interpreters_that_run_no_worker(folder: Path, python: str, says: str) -> None:
    answer = json.dumps(
        {
            "executable": "/usr/bin/python3.8",
            "implementation": "CPython",
            "version": "3.8.18",
            "version_info": [3, 8, 18],
            "free_threading_build": False,
            "gil_enabled": True,
            "virtual_environment": None,
            "distributions": {},
        }
    )
    old = folder / "old_python"
    old.write_text(f"#!/bin/sh\necho '{answer}'\n")
    old.chmod(0o755)
    named = "./old_python" if python == "old" else python
    status, found = findings(folder, f'{POOL}python = "{named}"\n')
    assert (status, found["interpreter"]["level"]) == (1, "failure")
    what, *_, next = found["interpreter"]["message"].splitlines()
    assert says in what
    assert next.startswith(
        "Have the pool's `python`, or `$SNAKEPIT_PYTHON` where it has none, name a Python"
    )
    assert "start" not in found


def test_every_mistake_of_a_configuration(folder: Path) -> None:
    status, found = findings(folder, f"{POOL}pool_sise = 2\n")
    assert (status, found["configuration"]["level"]) == (78, "failure")
    assert "did you mean pool_size?" in found["configuration"]["message"]


@pytest.mark.parametrize("config", [f"{POOL}pool_sise = 2\n", "", POOL])
def test_mistakes_are_told_programs_as_check_tells_them(folder: Path, config: str) -> None:
    said = json.loads(doctor(folder, config, "--json", "--no-start")[1])
    command = [sys.executable, "-m", "snakepit_port", "check", "--json", "pools.toml"]
    checked = json.loads(subprocess.run(command, stdout=subprocess.PIPE, cwd=folder).stdout)
    assert said.get("problems") == checked.get("problems")
    assert ("problems" in said) is (config != POOL)


def test_what_is_hardly_meant_is_warned_of(folder: Path) -> None:
    config = POOL.replace('"."', '".", "none"') + "threads_per_worker = 4\n"
    status, text = doctor(folder, config, "--no-start")
    assert status == 0
    warnings = [line for line in text.splitlines() if line.startswith("warning")]
    assert len(warnings) == 2
    assert "configuration: pools.toml: line" in warnings[0]
    assert "there is no folder" in warnings[0]
    assert "threads_per_worker: it has no effect" in warnings[1]


def test_a_thread_pool_with_a_gil_is_warned_of(folder: Path) -> None:
    status, found = findings(folder, f'{POOL}worker_profile = "thread"\n', "--no-start")
    assert (status, found["profile"]["level"]) == (0, "warning")
    assert "recommended is process" in found["profile"]["message"]


def test_that_threads_meet_a_gil_is_told_people_once(folder: Path) -> None:
    config = f'{POOL}worker_profile = "thread"\n'
    _, text = doctor(folder, config)
    [warning] = [line for line in text.splitlines() if line.startswith("warning")]
    assert "has a GIL, so its threads run Python one at a time" in warning
    assert text.endswith("\n1 pool: default would start; 1 warning\n")
    # The worker says so, too, and programs get it.
    _, found = findings(folder, config)
    assert found["worker.gil_enabled"]["level"] == "warning"


@pytest.mark.parametrize("profile", ["process", "thread"])
def test_libraries_are_listed_with_their_version_for_threads(
    folder: Path, numpy_python: str, profile: str
) -> None:
    config = f'{POOL}python = "{numpy_python}"\nworker_profile = "{profile}"\n'
    _, found = findings(folder, config, "--no-start")
    [subject] = [subject for subject in found if subject.startswith("numpy ")]
    assert "threads: care." in found[subject]["message"]
    assert "https://numpy.org" in found[subject]["message"]
    _, text = doctor(folder, config, "--no-start")
    assert (f"note     pool default: {subject}: threads: care." in text) is (profile == "thread")


def test_the_working_directory_may_be_gone(folder: Path) -> None:
    (folder / "pools.toml").write_text(POOL)
    gone = folder / "gone"
    gone.mkdir()
    command = [sys.executable, "-P", "-m", "snakepit_port", "doctor", folder / "pools.toml"]
    ran = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *command],
        capture_output=True,
        text=True,
        cwd=gone,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "start: a worker loaded adapter fine" in ran.stdout


@pytest.fixture
def elixir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a script the first Elixir on PATH."""

    def make(text: str) -> Path:
        path = tmp_path / "bin" / "elixir"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
        return path

    return make


@pytest.mark.parametrize(
    ("text", "level", "message"),
    [
        ("echo; printf 'Elixir \\351'", "ok", "Elixir \N{REPLACEMENT CHARACTER}"),
        ("exit 3", "warning", "{} --version ended with status 3"),
        ("echo no room >&2; exit 1", "warning", "{} --version ended with status 1\nno room"),
        # A BEAM that ends so writes a file otherwise.
        ('echo "a dump of $ERL_CRASH_DUMP_SECONDS s"', "ok", "a dump of 0 s"),
    ],
)
def test_an_elixir_that_does_not_work_is_told(
    folder: Path, elixir: Callable[[str], Path], text: str, level: str, message: str
) -> None:
    path = elixir(text)
    status, found = findings(folder, POOL, "--no-start")
    assert (status, found["host"]["level"]) == (0, level)
    assert found["host"]["message"] == message.format(path)


def test_an_elixir_that_was_asked_ends_with_doctor(
    folder: Path, elixir: Callable[[str], Path]
) -> None:
    os.mkfifo(folder / "alive")
    elixir("exec 3>alive; echo $$ >&3; exec sleep 600")
    command = [sys.executable, "-m", "snakepit_port", "doctor", "pools.toml"]
    with (
        subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process,
        open(folder / "alive") as alive,
    ):
        asked = int(alive.readline())
        process.terminate()
        process.wait()
        # It has the other end open as long as it lives.
        ended, _, _ = select.select([alive], [], [], GRACE)
        if not ended:
            os.kill(asked, signal.SIGKILL)
    assert ended


@pytest.mark.parametrize(
    ("free", "writable", "level", "message"),
    [
        (None, True, "note", "none (no /dev/shm)"),
        (2**30, False, "note", "none (/dev/shm cannot be written to)"),
        (0, True, "note", "0 bytes free in /dev/shm, shm_threshold is 262144"),
        (2**18 - 1, True, "note", "262143 bytes free in /dev/shm, shm_threshold is 262144"),
        (2**20, True, "ok", "1 MiB free in /dev/shm"),
    ],
)
def test_shared_memory_in_which_nothing_fits(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    free: int | None,
    writable: bool,
    level: str,
    message: str,
) -> None:
    monkeypatch.setattr(limits, "shared_memory_bytes", lambda: free)
    monkeypatch.setattr(limits, "may_write_shared_memory", lambda: writable)
    (folder / "pools.toml").write_text(POOL)
    assert cli.main(["doctor", "--json", "--no-start", str(folder / "pools.toml")]) == 0
    said = json.loads(capsys.readouterr().out)["findings"]
    [found] = [finding for finding in said if finding["subject"] == "shared memory"]
    in_frames = ": large bytes travel in frames" * (level == "note")
    assert (found["level"], found["message"]) == (level, message + in_frames)


@pytest.mark.parametrize("shown", [True, False])
def test_what_goes_without_processes_that_can_be_seen(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shown: bool
) -> None:
    monkeypatch.setattr(processes, "shows_own_processes", lambda: shown)
    (folder / "pools.toml").write_text(f"{POOL}memory_limit_mb = 500\n")
    assert cli.main(["doctor", "--json", "--no-start", str(folder / "pools.toml")]) == 0
    said = json.loads(capsys.readouterr().out)["findings"]
    found = [
        (finding["pool"], finding["subject"], finding["level"])
        for finding in said
        if "there is no /proc" in finding["message"]
    ]
    missing = [("", "seen processes", "note"), ("default", "memory_limit_mb", "warning")]
    assert found == ([] if shown else missing)


def lower(which: int, limit: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(which, (limit, limit))


#: Of a hundred workers, 32 at a time.
NEEDED = "about 428 needed, and 556 while workers start or are replaced"


@pytest.mark.parametrize(
    ("limit", "status", "told"),
    [
        (427, 1, f"failure  file descriptors: 427, {NEEDED}; raise `ulimit -n`"),
        (428, 0, f"warning  file descriptors: 428, {NEEDED}; raise `ulimit -n`"),
        (555, 0, f"warning  file descriptors: 555, {NEEDED}; raise `ulimit -n`"),
        (556, 0, f"ok       file descriptors: 556, {NEEDED}\n"),
    ],
)
def test_a_limit_that_is_too_low(folder: Path, limit: int, status: int, told: str) -> None:
    config = f"{POOL}pool_size = 100\n"
    few = lower(resource.RLIMIT_NOFILE, limit)
    ran, text = doctor(folder, config, "--no-start", preexec_fn=few)
    assert ran == status
    assert told in text
    would_not = "\n1 pool: default would not start, see above\n"
    assert text.endswith(would_not) is (status == 1)


@pytest.mark.parametrize(("profile", "needs"), [("process", 6), ("thread", 38)])
def test_the_threads_of_a_pool_count(folder: Path, profile: str, needs: int) -> None:
    config = f'{POOL}pool_size = 4\nworker_profile = "{profile}"\nthreads_per_worker = 8\n'
    _, text = doctor(folder, config, "--no-start")
    assert re.search(rf" processes: .*, about {needs} needed", text)
