"""`snakepit-port status`, with real runs.

Most have a mark of their own, so that no other run on the machine is found, and none that begins
removes what is left here.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from terminal import shown_on_a_terminal

from snakepit_port import cli, processes
from snakepit_port.cli.status import duration, size
from snakepit_port.harness import Host, open_host
from snakepit_port.processes import look_at
from snakepit_port.supervisor import run as runs
from snakepit_port.testing.processes import Run

ADAPTER = """
import subprocess
import sys

from snakepit_port.adapter import command

@command
def start_another(n):
    program = f"x = bytearray(b'x') * {n}; print(flush=True); input()"
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe)
    process.stdout.readline()
    return process.pid

@command
def abandon():
    return subprocess.Popen(["sleep", "600"], start_new_session=True).pid
"""

#: The supervisor's interpreter, as far as the harness knows.
SERVES = """\
#!{python}
import sys
from snakepit_port.supervisor import run
run.MARK, run.PREFIX = {mark!r}, {prefix!r}
from snakepit_port.cli import main
sys.exit(main(sys.argv[sys.argv.index("serve"):]))
"""

#: Seconds that what was left has to go in. It takes milliseconds; a machine may be busy.
GRACE = 20.0


@pytest.fixture
def env() -> Iterator[dict[str, str]]:
    """For everything that is started; none of it may outlive the test."""
    run = Run()
    yield run.mark(None)
    assert run.end(GRACE) == []


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The interpreter of supervisors whose runs only this process finds, which finds no others."""
    name = uuid.uuid4().hex
    monkeypatch.setattr(runs, "MARK", f"SNAKEPIT_PORT_TEST_{name}")
    monkeypatch.setattr(runs, "PREFIX", f"snakepit-port-test-{name}-")
    python = tmp_path / "python"
    python.write_text(SERVES.format(python=sys.executable, mark=runs.MARK, prefix=runs.PREFIX))
    python.chmod(0o755)
    return str(python)


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Makes a configuration: of pools with these names and settings."""
    (tmp_path / "status_adapter.py").write_text(ADAPTER)
    common = {
        "adapter": "status_adapter",
        "python": sys.executable,
        "python_path": [str(tmp_path)],
        "pool_size": 1,
    }
    return lambda **pools: {
        "pools": [{"name": name, **common, **settings} for name, settings in pools.items()]
    }


@pytest.fixture
def status(capsys: pytest.CaptureFixture[str]) -> Callable[[], tuple[int, Any]]:
    """Runs `status --json` in this process: the status, and what it prints."""

    def run() -> tuple[int, Any]:
        code = cli.main(["status", "--json"])
        out, err = capsys.readouterr()
        assert err == ""
        return code, json.loads(out)

    return run


def run_status(*args: str) -> str:
    """What it prints; a run is alive."""
    command = [sys.executable, "-m", "snakepit_port", "status", *args]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stderr == ""
    return done.stdout


async def pids(host: Host, pool: str) -> list[int]:
    return sorted(worker["os_pid"] for worker in await host.workers(pool))


def pids_of(processes: list[dict[str, Any]]) -> list[int]:
    return sorted(process["pid"] for process in processes)


def until_stopped(pid: int) -> None:
    while (seen := look_at(pid)) is not None and seen.state != "T":
        os.sched_yield()


@contextmanager
def watched(*watched_pids: int) -> Iterator[Callable[[], None]]:
    """Gives what returns when they all have ended, whether or not a parent has waited for them."""
    pidfds = [os.pidfd_open(pid) for pid in watched_pids]

    def ended() -> None:
        for pidfd in pidfds:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll()

    yield ended
    for pidfd in pidfds:
        os.close(pidfd)


@contextmanager
def stopped(*stopped_pids: int) -> Iterator[None]:
    for pid in stopped_pids:
        os.kill(pid, signal.SIGSTOP)
        until_stopped(pid)
    try:
        yield
    finally:
        for pid in reversed(stopped_pids):
            os.kill(pid, signal.SIGCONT)


# -- runs that are alive ---------------------------------------------------------------------------


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_a_run_as_it_is(
    config: Callable[..., Any], env: dict[str, str], start_method: str
) -> None:
    """With the mark that runs have: others may be alive."""
    settings = {"start_method": start_method}
    terms = config(default={"pool_size": 2, **settings}, žluť=settings)
    async with open_host(terms, env=env) as host:
        await host.await_ready()
        found = json.loads(run_status("--json"))["runs"]
        (run,) = [run for run in found if run["supervisor"]["pid"] == host.os_pid]
        assert run["run_id"].startswith(f"{host.os_pid}-")
        assert run["host"] == {"pid": os.getpid(), "name": processes.name_of(os.getpid())}
        assert run["supervisor"]["rss_bytes"] > 2**20
        assert run["supervisor"]["cpu_seconds"] > 0
        assert [pool["pool"] for pool in run["pools"]] == ["default", "žluť"]
        for pool in run["pools"]:
            (starter,) = pool["starters"]
            assert pids_of(pool["workers"]) == await pids(host, pool["pool"])
            for worker in pool["workers"]:
                seen = look_at(worker["pid"])
                assert seen is not None
                assert seen.parent == starter["pid"]
                assert worker["uptime_seconds"] >= 0
            assert all(process["memory_bytes"] > 0 for process in (starter, *pool["workers"]))
        text = run_status()
        assert f"\nsupervisor {host.os_pid}: " in f"\n{text}"
        for pid in await pids(host, "žluť"):
            (line,) = [line.split() for line in text.splitlines() if f" {pid} " in line]
            assert line[:3] == ["žluť", "worker", str(pid)]


async def test_runs_the_oldest_first(
    apart: str, config: Callable[..., Any], status: Callable[[], Any], env: dict[str, str]
) -> None:
    async with open_host(config(one={}), python=apart, env=env) as first:
        await first.await_ready()
        async with open_host(config(two={}), python=apart, env=env) as second:
            await second.await_ready()
            code, found = status()
            assert (code, found["dead_runs"]) == (0, [])
            shown = {run["supervisor"]["pid"]: run["pools"] for run in found["runs"]}
            assert list(shown) == [first.os_pid, second.os_pid]
            for host, pool in ((first, "one"), (second, "two")):
                (only,) = shown[host.os_pid]
                assert only["pool"] == pool
                assert pids_of(only["workers"]) == await pids(host, pool)
        assert [run["supervisor"]["pid"] for run in status()[1]["runs"]] == [first.os_pid]
    assert status() == (69, {"runs": [], "dead_runs": []})


async def test_memory_is_as_workers_tells_it(
    apart: str, config: Callable[..., Any], status: Callable[[], Any], env: dict[str, str]
) -> None:
    """With what a worker started, which is none of the pool's workers."""
    more = 64 * 2**20
    async with open_host(config(default={}), python=apart, env=env) as host:
        await host.await_ready()
        await host.call(None, "start_another", [more])
        ((worker,),) = [pool["workers"] for pool in status()[1]["runs"][0]["pools"]]
        (told,) = await host.workers()
        assert worker["pid"] == told["os_pid"]
        assert worker["memory_bytes"] > more
        assert abs(worker["memory_bytes"] - told["memory_bytes"]) < more / 2


async def test_a_run_without_processes_is_known_by_its_folder(
    apart: str,
    config: Callable[..., Any],
    status: Callable[[], Any],
    env: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    terms = {**config(default={}), "supervisor": {"pooling_enabled": False}}
    async with open_host(terms, python=apart, env=env) as host:
        code, found = status()
        assert code == 0
        assert [(run["supervisor"]["pid"], run["pools"]) for run in found["runs"]] == [
            (host.os_pid, [])
        ]
        assert cli.main(["status"]) == 0
        assert capsys.readouterr().out.endswith("\nno pool has a process\n")


async def test_a_run_that_is_stopped(
    apart: str,
    config: Callable[..., Any],
    status: Callable[[], Any],
    env: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_host(config(default={"pool_size": 2}), python=apart, env=env) as host:
        await host.await_ready()
        killed, other = await pids(host, "default")
        seen = look_at(killed)
        assert seen is not None
        with stopped(host.os_pid, seen.parent):
            with watched(killed) as ended:
                os.kill(killed, signal.SIGKILL)
                ended()
            code, found = status()
            assert (code, found["dead_runs"]) == (0, [])
            (run,) = found["runs"]
            ((pool,), (starter,)) = run["pools"], run["pools"][0]["starters"]
            assert (run["supervisor"]["state"], starter["state"]) == ("stopped", "stopped")
            workers = {worker["pid"]: worker for worker in pool["workers"]}
            assert set(workers) == {killed, other}
            assert workers[killed]["state"] == "zombie"
            assert workers[killed]["memory_bytes"] is None
            assert cli.main(["status"]) == 0
            assert f"supervisor {host.os_pid}: stopped, up " in capsys.readouterr().out
            assert f"{host.os_pid}: \033[33mstopped\033[0m, " in at_a_terminal(["status"])


def at_a_terminal(args: list[str]) -> str:
    """What the command prints there, with the marks of this process."""
    program = (
        "import sys\n"
        "from snakepit_port.supervisor import run\n"
        f"run.MARK, run.PREFIX = {runs.MARK!r}, {runs.PREFIX!r}\n"
        "from snakepit_port.cli import main\n"
        "main(sys.argv[1:])"
    )
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    env["TERM"] = "xterm"
    command = [sys.executable, "-c", program, *args]
    return shown_on_a_terminal(
        lambda terminal: subprocess.run(command, stdout=terminal, env=env, check=True)
    ).decode()


# -- none ------------------------------------------------------------------------------------------


def test_nothing_runs(apart: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status"]) == 69
    assert capsys.readouterr() == ("no run is alive\n", "")


async def test_what_a_dead_run_has_left(
    apart: str,
    config: Callable[..., Any],
    status: Callable[[], Any],
    env: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with open_host(config(default={}), python=apart, env=env) as host:
        await host.await_ready()
        run_id = host.info["run_id"]
        left_behind = await host.call(None, "abandon")
        (worker,) = await pids(host, "default")
        seen = look_at(worker)
        assert seen is not None
        # Stopped, the supervisor does not end what its starter leaves to it.
        os.kill(host.os_pid, signal.SIGSTOP)
        until_stopped(host.os_pid)
        with watched(host.os_pid, seen.parent, worker) as ended:
            os.kill(seen.parent, signal.SIGKILL)
            host.kill()
            ended()
        # This is its parent, and waits for it when the harness goes on.
        code, found = status()
        assert (code, found["runs"]) == (69, [])
        (left,) = found["dead_runs"]
        assert (left["run_id"], left["zombie"]) == (run_id, host.os_pid)
        assert left["folders"] == [f"/dev/shm/{runs.PREFIX}{run_id}"]
        assert left["processes"] == [{"pid": left_behind, "command": "sleep 600"}]
        assert cli.main(["status"]) == 69
        assert capsys.readouterr().out == (
            "no run is alive\n"
            "\n"
            f"dead run {run_id}\n"
            f"supervisor {host.os_pid}: zombie, its host has not waited for it\n"
            f"left process {left_behind}: sleep 600\n"
            f"left /dev/shm/{runs.PREFIX}{run_id}\n"
            "\n"
            "`snakepit-port cleanup` removes what dead runs have left; the next start does, too\n"
        )
    # The harness has waited for it, and removed the folder.
    (left,) = status()[1]["dead_runs"]
    assert (left["zombie"], left["folders"]) == (None, [])
    with watched(left_behind) as ended:
        assert cli.main(["cleanup"]) == 0
        assert capsys.readouterr().out == f"killed {left_behind} of run {run_id}: sleep 600\n"
        ended()
    assert status() == (69, {"runs": [], "dead_runs": []})


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("command", [["status"], ["cleanup"], ["cleanup", "--dry-run"]])
@pytest.mark.parametrize("link", [None, "1"])
def test_where_processes_cannot_be_seen(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    link: str | None,
    command: list[str],
    options: list[str],
) -> None:
    def readlink(_path: str) -> str:
        if link is None:
            raise FileNotFoundError
        return link

    with monkeypatch.context() as patch:
        patch.setattr(processes.os, "readlink", readlink)
        assert cli.main([*command, *options]) == 1
    message = "there is no /proc that shows the processes here, and nothing else tells of runs"
    out, err = capsys.readouterr()
    if options:
        assert err == ""
        assert json.loads(out) == {"ok": False, "error": {"message": message}}
    else:
        assert (out, err) == ("", f"error: {message}\n")


# -- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59.99, "59 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (86399, "23 h 59 min"),
        (86400, "1 d 0 h"),
        (400 * 86400 + 7200, "400 d 2 h"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"), [(None, "?"), (0, "0.0 MiB"), (2**20 * 3 // 2, "1.5 MiB")]
)
def test_sizes(count: int | None, said: str) -> None:
    assert size(count) == said
