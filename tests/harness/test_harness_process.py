"""The harness and the process it starts, with programs that stand in for a supervisor.

`open_host` runs the file it is given as `python`; here that is a script with a supervisor's faults.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from snakepit_port.harness import CallError, link, open_host, opening
from snakepit_port.wire import messages

HELLO = f"os.write(1, {messages.hello({'software': 'fake'})!r})"
Fake = Callable[[str], str]


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """A program that stands in for the supervisor's interpreter, and runs some lines of Python."""

    def write(lines: str) -> str:
        path = tmp_path / "supervisor"
        path.write_text(f"#!{sys.executable}\nimport os, signal, subprocess, sys\n{lines}\n")
        path.chmod(0o755)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("end", "status", "named"),
    [
        ("os._exit(70)", 70, "status 70"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9, "SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGRTMIN)", -signal.SIGRTMIN, "SIGRTMIN"),
        ("os.kill(os.getpid(), signal.SIGRTMIN + 1)", -signal.SIGRTMIN - 1, "signal 35"),
    ],
)
async def test_calls_learn_how_the_supervisor_ended(
    fake: Fake, end: str, status: int, named: str
) -> None:
    program = fake(f"{HELLO}\nos.read(0, 1)\nos.read(0, 1)\n{end}")
    async with open_host({}, python=program) as host:
        with pytest.raises(CallError) as caught:
            await host.call("p", "c")
        assert host.exit_status == status
    assert caught.value.type == "supervisor_down"
    assert named in caught.value.message


async def test_pools_of_a_supervisor_that_was_just_killed_are_not_ready(fake: Fake) -> None:
    ready = messages.ready({"pools": {"default": "ready"}})
    program = fake(f"{HELLO}\nos.write(1, {ready!r})\nsignal.pause()")
    async with open_host({}, python=program) as host:
        assert await host.await_ready() == {"default": "ready"}
        host.kill()
        # Blocking: it is dead, and this host has had no moment to notice.
        os.waitid(os.P_PID, host.os_pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
        with pytest.raises(CallError, match="SIGKILL") as caught:
            await host.await_ready()
    assert caught.value.type == "supervisor_down"


async def test_a_supervisor_that_ends_before_its_hello(fake: Fake) -> None:
    with pytest.raises(CallError, match="status 3") as caught:
        async with open_host({}, python=fake("sys.exit(3)")):
            pytest.fail("there was no hello")
    assert (caught.value.type, caught.value.status) == ("supervisor_down", 3)


async def test_an_interpreter_that_has_no_supervisor_is_named_with_what_to_run(fake: Fake) -> None:
    program = fake("sys.exit(1)")
    with pytest.raises(CallError, match="status 1, before its hello") as caught:
        async with open_host({}, python=program):
            pytest.fail("there was no hello")
    assert caught.value.message.endswith(f"run {program} -m pip install PATH-OF-THE-CHECKOUT")


async def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        async with open_host({}, python=str(tmp_path / "none")):
            pytest.fail("nothing was started")
    assert os.listdir("/proc/self/fd") == before


async def test_where_there_is_no_second_pipe_there_is_not_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe, made = os.pipe, []

    def one() -> tuple[int, int]:
        if made:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        made.append(pipe())
        return made[0]

    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pipe", one)
        with pytest.raises(OSError, match="Too many open files"):
            async with open_host({}):
                pytest.fail("nothing was started")
    assert os.listdir("/proc/self/fd") == before


async def test_command_line_environment_folder_and_stderr(fake: Fake, tmp_path: Path) -> None:
    program = fake(
        f"{HELLO}\nprint(sys.argv[1:], os.environ['COLOUR'], os.getcwd(), file=sys.stderr)"
    )
    with (tmp_path / "stderr").open("w+") as stderr:
        async with open_host(
            "pools.toml", python=program, env={"COLOUR": "red"}, cwd=tmp_path, stderr=stderr
        ) as host:
            pid = host.os_pid
            assert await host.close() == 0
        stderr.seek(0)
        command = ["-P", "-m", "snakepit_port", "serve", "--config", "pools.toml"]
        assert stderr.read() == f"{command} red {tmp_path}\n"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_process_that_holds_stdout_does_not_hide_the_exit(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "LAST_WORDS", 0)
    program = fake(f"{HELLO}\nprint(subprocess.Popen(['sleep', '600']).pid, file=sys.stderr)")
    read, write = os.pipe()
    try:
        async with open_host({}, python=program, stderr=write) as host:
            with pytest.raises(CallError, match="status 0"):
                await host.call("p", "c")
    finally:
        os.kill(int(os.read(read, 100)), signal.SIGKILL)
        os.close(read)
        os.close(write)


async def test_a_supervisor_that_closes_its_output_is_said_to_run_still(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "LAST_WORDS", 0)
    async with open_host(
        {}, python=fake(f"{HELLO}\nos.close(1)\nos.read(0, 2**20)\nsignal.pause()")
    ) as host:
        with pytest.raises(CallError, match="still runs"):
            await host.call("p", "c")
        assert host.exit_status is None
        host.kill(signal.SIGTERM)
        assert await host.close() == -signal.SIGTERM


STUBBORN = f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{HELLO}\nsignal.pause()"


async def test_a_supervisor_that_does_not_stop_is_killed_after_an_error(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "KILL_GRACE", 0)
    with pytest.raises(KeyError):
        async with open_host({}, python=fake(STUBBORN)) as host:
            raise KeyError
    assert host.exit_status == -signal.SIGKILL


async def test_a_supervisor_that_does_not_stop_is_killed_after_a_cancellation(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "KILL_GRACE", 0)
    with trio.CancelScope() as scope:
        async with open_host({}, python=fake(STUBBORN)) as host:
            scope.cancel()
            await trio.sleep_forever()
    assert host.exit_status == -signal.SIGKILL


async def test_descriptors_are_closed(fake: Fake) -> None:
    async with open_host({}, python=fake(HELLO)):
        pass
    before = os.listdir("/proc/self/fd")
    async with open_host({}, python=fake(HELLO)):
        assert len(os.listdir("/proc/self/fd")) > len(before)
    assert os.listdir("/proc/self/fd") == before
