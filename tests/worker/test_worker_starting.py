"""How a starter and a worker begin, or say why they cannot."""

from __future__ import annotations

import os
import platform
import resource
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kinds import one_at_a_time
from worker_driver import HERE, MAX_FRAME_BYTES, Start, Starter, Worker

from snakepit_port import __version__, wire
from snakepit_port.wire import messages
from snakepit_port.worker import starter_frames
from snakepit_port.worker.stacks import FROM_C as STACKS_FROM_C
from snakepit_port.worker.stacks import SIGNAL as STACKS_SIGNAL


def failed(worker: Worker) -> dict[str, Any]:
    """The error of a worker that cannot serve, which has ended."""
    assert worker.next()[0] == "hello"
    tag, error = worker.next()
    assert tag == "failed"
    assert list(worker.frames()) == []
    assert os.waitstatus_to_exitcode(worker.exited()) == 1
    assert worker.begun == 0
    return error


def module(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return str(folder)


# -- workers ---------------------------------------------------------------------------------------


@one_at_a_time
def test_a_worker_says_what_it_is_and_then_what_it_can(start: Start) -> None:
    worker = start()
    tag, version, info = worker.next()
    assert (tag, version) == ("hello", 1)
    assert info["software"] == f"snakepit_port {__version__}"
    assert info["python"] == platform.python_version()
    assert info["os_pid"] == worker.process.pid
    tag, info = worker.next()
    assert tag == "ready"
    assert {"add", "renamed", "raises"} <= set(info["commands"])
    assert {"unmarked", "another", "deeper", "describe"}.isdisjoint(info["commands"])


def test_a_client_may_send_all_it_has_behind_its_hello(start: Start) -> None:
    """However large, and wherever the worker stops reading to load its adapter."""
    worker = start()
    id, frame = worker.frame("echo", "x" * 200_000)
    worker.send(frame)
    worker.ready()
    assert worker.answer(id) == [["x" * 200_000], {}]


def test_what_comes_in_one_piece_with_hello_keeps_to_its_limit(start: Start) -> None:
    calls = [
        messages.call(id, None, "add", wire.encode([n, 1])) for id, n in ((1, 2**8000), (2, 2))
    ]
    worker = start(max_frame_bytes=1000, behind=b"".join(calls)).ready()
    assert worker.failure_of(1)["type"] == "frame_too_large"
    assert worker.answer(2) == 3


def test_what_an_adapter_is_made_with_may_be_larger_than_a_frame(start: Start) -> None:
    large = "x" * 3 * 2**20
    settings = {"adapter": "worker_adapter:Model", "adapter_args": {"size": large}}
    worker = start(**settings, max_answer_bytes=2**22).ready()
    assert worker.call("describe") == [large, "model"]


def test_another_version_is_refused(start: Start) -> None:
    worker = start(greeting=messages.hello({}, version=2))
    tag, id, error = worker.next()
    assert (tag, id, error["type"]) == ("error", None, "protocol_version")
    assert "version 2" in error["message"]
    assert "1" in error["message"]
    assert os.waitstatus_to_exitcode(worker.exited()) == 76


@pytest.mark.parametrize("greeting", [messages.ping(1), b"\0\0\0\4nope"])
def test_hello_comes_first(start: Start, greeting: bytes) -> None:
    worker = start(greeting=greeting)
    tag, id, error = worker.next()
    assert (tag, id, error["type"]) == ("error", None, "protocol_error")
    assert os.waitstatus_to_exitcode(worker.exited()) == 76


def test_nobody_needs_to_say_anything(start: Start) -> None:
    worker = start(greeting=b"\0\0")
    worker.hang_up()
    assert list(worker.frames()) == []
    assert os.waitstatus_to_exitcode(worker.exited()) == 0


@one_at_a_time
def test_an_adapter_that_is_not_there(start: Start) -> None:
    error = failed(start(adapter="no_such_adapter"))
    assert error["type"] == "pool_unavailable"
    assert error["exception"] == "ModuleNotFoundError"
    for part in ("no_such_adapter", sys.executable, str(HERE), "python_path"):
        assert part in error["message"]
    assert (error["pool"], error["worker"][:7]) == ("default", "worker-")


def test_an_adapter_that_raises_when_it_is_imported(start: Start) -> None:
    error = failed(start(adapter="worker_broken_module"))
    assert (error["type"], error["exception"]) == ("pool_unavailable", "RuntimeError")
    assert "worker_broken_module" in error["message"]
    assert "not on this machine" in error["message"]
    lines = [line for line in error["traceback"].splitlines() if ", in " in line]
    assert [line.split(", in ")[1] for line in lines] == ["<module>", "give_up"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import sys\nsys.exit('no')", "SystemExit: no"),
        ("def broken(:", "SyntaxError"),
        ("raise OSError('no file \\udcff')", "OSError: no file \\udcff"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("", "has no command"),
        ("def unmarked(): pass", "has no command: mark its functions with @command"),
        (
            "from snakepit_port.adapter import command\n@command\nasync def later(): pass",
            "command later of adapter bad is async",
        ),
        (
            "from snakepit_port.adapter import command\nclass Later:\n"
            "    async def __call__(self): pass\nlater = command(name='later')(Later())",
            "command later of adapter bad is async",
        ),
    ],
)
def test_adapters_that_cannot_serve(start: Start, tmp_path: Path, text: str, told: str) -> None:
    error = failed(start(adapter="bad", python_path=[module(tmp_path, "bad", text)]))
    assert error["type"] == "pool_unavailable"
    assert told in error["message"]


def test_a_class_that_is_not_there(start: Start) -> None:
    error = failed(start(adapter="worker_adapter:Modle"))
    assert "no class Modle" in error["message"]
    assert "did you mean worker_adapter:Model?" in error["message"]


def test_a_class_that_cannot_be_made(start: Start) -> None:
    error = failed(start(adapter="worker_adapter:Fails"))
    assert error["exception"] == "worker_adapter.NotOurs"
    assert "no model" in error["message"]
    error = failed(start(adapter="worker_adapter:Model", adapter_args={"colour": "red"}))
    assert error["exception"] == "TypeError"
    assert "colour" in error["message"]


@pytest.mark.parametrize("limit", [10_000, MAX_FRAME_BYTES])
def test_what_a_class_raises_at_length_is_cut(start: Start, limit: int) -> None:
    args = {"size": 3 * MAX_FRAME_BYTES}
    worker = start(
        adapter="worker_adapter:FailsAtLength", adapter_args=args, max_answer_bytes=limit
    )
    error = failed(worker)
    assert "failed to load: worker_adapter.NotOurs: xxx" in error["message"]
    assert error["message"].endswith("x…")
    begins, _, ends = error["traceback"].partition("…")
    assert "worker_adapter.py" in begins
    assert ends == "x" * (len(ends) - 1) + "\n"
    assert len(wire.encode(error)) <= min(64 * 1024, limit // 2)


def test_direct_calls_need_no_command(start: Start, tmp_path: Path) -> None:
    folder = module(tmp_path, "bare", "def twice(n): return 2 * n")
    worker = start(adapter="bare", python_path=[folder], direct_calls=["bare:twice"]).ready()
    assert worker.call("bare:twice", 4) == 8


# -- what a worker has -----------------------------------------------------------------------------


def test_a_worker_leads_a_process_group_and_is_the_starters_child(worker: Worker) -> None:
    assert worker.call("pid") == worker.call("group") == worker.process.pid
    assert worker.call("parent") == worker.starter.process.pid


def test_a_worker_holds_only_its_own_descriptors(start: Start) -> None:
    others = [start().ready() for _ in range(3)]
    worker = start().ready()
    for one in (worker, *others):
        held = one.call("descriptors")
        assert held.pop(0) == "/dev/null"
        # Some releases of libffi keep their own file open.
        ours = [name for name in held.values() if "libffi" not in name]
        kinds = sorted(name.partition(":")[0] for name in ours)
        # stdout, stderr, stacks (once to wait and once not), the channel, and what the ledger's
        # mapping keeps.
        assert kinds == ["/memfd", "pipe", "pipe", "pipe", "pipe", "socket"]
        assert held[1] != held[2]
    assert len({one.call("descriptors")[1] for one in (worker, *others)}) == 4


def test_children_of_commands_hold_nothing_of_ours(worker: Worker) -> None:
    # Three of its own, and the one that it lists them with.
    assert len(worker.call("descriptors_of_a_child")) == 4


def test_workers_know_nothing_of_each_other(start: Start) -> None:
    one, other = start().ready(), start().ready()
    one.call("remember", "mine")
    assert other.call("remembered") == []
    assert (one.begun, other.begun) == (1, 1)


def test_ends_of_children_are_for_commands_to_handle(worker: Worker) -> None:
    for signals in ("SigCgt", "SigIgn", "SigBlk"):
        assert not is_in(signals, signal.SIGCHLD, worker.process.pid)


def test_where_memory_runs_out_workers_go_before_others(worker: Worker) -> None:
    starter, process = (
        int(Path(f"/proc/{pid}/oom_score_adj").read_text())
        for pid in (worker.starter.process.pid, worker.process.pid)
    )
    assert process == min(starter + 300, 1000)


def test_a_worker_holds_nothing_of_one_that_is_asked_for_behind_it(
    starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of what asks for it is read with the beginning of what asks for the next one."""
    send_fds = socket.send_fds

    def send_in_two(control: socket.socket, frames: list[bytes], fds: list[int]) -> None:
        (frame,) = frames
        send_fds(control, [frame[:5]], fds)
        control.sendall(frame[5:])

    with Starter(starter.start_method) as own:
        own.told("hello")
        own.process.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(socket, "send_fds", send_in_two)
        workers = [own.start() for _ in range(3)]
        own.process.send_signal(signal.SIGCONT)
        for worker in workers:
            held = list(worker.ready().call("descriptors").values())
            assert len([name for name in held if name.startswith("socket:")]) == 1
        for worker in workers:
            worker.close()


# -- starters --------------------------------------------------------------------------------------


def test_a_starter_says_that_it_works(starter: Starter) -> None:
    with Starter(starter.start_method) as other:
        assert other.told("hello") == ({},)
        assert other.end() == 0
        assert other.output.rest() == ""


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_a_default_timeout_of_sockets_is_for_those_of_the_adapter(
    tmp_path: Path, start_method: str
) -> None:
    text = "import socket\nsocket.setdefaulttimeout(60)\n"
    (tmp_path / "sitecustomize.py").write_text(text)
    env = {"PYTHONPATH": str(tmp_path)}
    with Starter(start_method, env=env) as starter, starter.start() as worker:
        assert worker.ready().call("timeout_of_channel") is None


def test_a_starter_waits_for_one_that_does_not_read_whatever_sockets_do_otherwise(
    tmp_path: Path,
) -> None:
    text = "import socket\nsocket.setdefaulttimeout(0)\n"
    (tmp_path / "sitecustomize.py").write_text(text)
    with Starter(env={"PYTHONPATH": str(tmp_path)}) as starter:
        starter.told("hello")
        # More than the socket has room for, as long as none is read.
        pings = 2000
        starter.control.sendall(starter_frames.ping() * pings)
        for _ in range(pings):
            starter.told("pong")
        assert starter.end() == 0


def test_what_is_preloaded_is_there_before_the_first_worker(tmp_path: Path) -> None:
    text = "import os\nfrom snakepit_port.adapter import command\nme = os.getpid()\n"
    folder = module(tmp_path, "heavy", text + "@command\ndef made_by():\n    return me")
    with Starter(preload=("heavy",), python_path=(folder,)) as starter:
        starter.told("hello")
        with starter.start(adapter="heavy") as worker:
            assert worker.ready().call("made_by") == starter.process.pid
    with Starter("spawn", preload=("heavy",), python_path=(folder,)) as starter:
        starter.told("hello")
        with starter.start(adapter="heavy") as worker:
            assert worker.ready().call("made_by") == worker.process.pid


@pytest.mark.parametrize(
    ("name", "exception", "told"),
    [
        ("no_such_module", "ModuleNotFoundError", "python_path"),
        ("worker_broken_module", "RuntimeError", "not on this machine"),
        ("worker_unpreloadable", "SystemExit", "out of \\udcff"),
    ],
)
def test_what_cannot_be_preloaded_is_told(name: str, exception: str, told: str) -> None:
    with Starter(preload=("json", name)) as starter:
        (error,) = starter.told("failed")
        assert (error["type"], error["pool"]) == ("pool_unavailable", "default")
        assert error["exception"] == exception
        assert f"preload of {name!r} failed" in error["message"]
        assert told in error["message"]
        assert "starter.py" not in error["traceback"]
        starter.alive.wait()
        assert starter.process.wait() == 1


def test_what_a_preloaded_module_raises_at_length_is_cut(tmp_path: Path) -> None:
    folder = module(tmp_path, "verbose", "raise RuntimeError('x' * 3_000_000)")
    with Starter(preload=("verbose",), python_path=(folder,)) as starter:
        (error,) = starter.told("failed")
        assert "preload of 'verbose' failed: RuntimeError: xxx" in error["message"]
        assert error["message"].endswith("x…")


def test_a_print_of_a_preloaded_module_is_the_starters_output() -> None:
    with Starter(preload=("this",)) as starter:
        starter.told("hello")
        with starter.start() as worker:
            worker.ready().hang_up()
            assert worker.stdout.rest() == ""
        starter.end()
        assert starter.output.line() == "The Zen of Python, by Tim Peters"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_print_that_ends_no_line_is_the_starters_output_too(tmp_path: Path, stream: str) -> None:
    text = f"import sys\nprint('loading', end='', file=sys.{stream})"
    folder = module(tmp_path, "prompts", text)
    # Whatever these tests were started with.
    env = {"PYTHONUNBUFFERED": ""}
    with Starter(preload=("prompts",), python_path=(folder, str(HERE)), env=env) as starter:
        starter.told("hello")
        with starter.start() as worker:
            worker.ready().hang_up()
            assert (worker.stdout.rest(), worker.stderr.rest()) == ("", "")
        starter.end()
        assert starter.output.rest() == "loading"


def test_what_a_preloaded_module_starts_holds_nothing_of_ours(tmp_path: Path) -> None:
    folder = module(tmp_path, "starts", "import os\nos.system('ls -l /proc/self/fd')")
    with Starter(preload=("starts",), python_path=(folder,)) as starter:
        starter.told("hello")
        starter.end()
        held = starter.output.rest()
        assert held.count("pipe:") == 2
        assert "socket:" not in held
        assert "/memfd:" not in held


def test_what_it_starts_when_a_worker_starts_holds_nothing_of_that(tmp_path: Path) -> None:
    text = "import os\nos.register_at_fork(before=lambda: os.system('ls -l /proc/self/fd'))"
    folder = module(tmp_path, "hooked", text)
    with Starter(preload=("hooked",), python_path=(folder, str(HERE))) as starter:
        starter.told("hello")
        with starter.start() as worker:
            worker.ready()
        starter.end()
        held = starter.output.rest()
        assert held.count("pipe:") == 2
        assert "socket:" not in held


@pytest.mark.parametrize(
    "text",
    [
        "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "import signal\nsignal.set_wakeup_fd(-1)",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    ],
    ids=["ignored", "not written down", "blocked"],
)
def test_a_preloaded_module_that_handles_signals_hides_no_end_of_a_worker(
    tmp_path: Path, text: str
) -> None:
    folder = module(tmp_path, "handles", text)
    with Starter(preload=("handles",), python_path=(folder, str(HERE))) as starter:
        starter.told("hello")
        with starter.start() as worker:
            os.kill(worker.ready().process.pid, signal.SIGKILL)
            assert os.WTERMSIG(worker.exited()) == signal.SIGKILL
        with starter.start() as worker:
            id = worker.ready().begin("wait_for_event")
            assert worker.stdout.line() == "in"
            for number in (STACKS_SIGNAL, STACKS_FROM_C):
                ask = partial(worker.signal, number)
                assert "wait_for_event" in worker.stacks.until(bytes([STACKS_FROM_C]), ask)
            worker.interrupt(id)
            assert worker.failure_of(id)["type"] == "cancelled"
        assert starter.end() == 0


def is_in(signals: str, number: int, pid: int) -> bool:
    """Whether a signal is in a set that the status of a process shows."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return bool(int(status[signals], 16) & 1 << number - 1)


def ignores_sighup(pid: int) -> bool:
    return is_in("SigIgn", signal.SIGHUP, pid)


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_sighup_is_not_for_starters_and_as_it_was_for_workers(
    start_method: str, ignored: bool
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        starter = Starter(start_method)
    finally:
        signal.signal(signal.SIGHUP, before)
    with starter:
        starter.told("hello")
        assert ignores_sighup(starter.process.pid)
        with starter.start() as worker:
            assert ignores_sighup(worker.ready().process.pid) is ignored
        assert starter.end() == 0


@pytest.mark.parametrize("text", ["sys.stdout = None", "sys.stderr.close()"])
def test_a_preloaded_module_may_take_the_output_away(tmp_path: Path, text: str) -> None:
    folder = module(tmp_path, "quiet", f"import sys\n{text}")
    with Starter(preload=("quiet",), python_path=(folder, str(HERE))) as starter:
        starter.told("hello")
        with starter.start() as worker:
            assert worker.ready().call("add", 1, 2) == 3
        assert starter.end() == 0


@pytest.mark.parametrize("first", [0, 1, 2])
def test_what_a_preloaded_module_closes_is_not_taken_for_what_workers_get(
    tmp_path: Path, first: int
) -> None:
    folder = module(tmp_path, "daemon", f"import os\nos.closerange({first}, 3)")
    with Starter(preload=("daemon",), python_path=(folder, str(HERE))) as starter:
        starter.told("hello")
        with starter.start() as worker:
            worker.ready()
            links = Path(f"/proc/{worker.process.pid}/fd")
            targets = [os.readlink(links / str(fd)) for fd in range(3)]
            assert targets[0] == "/dev/null"
            assert all(target.startswith("pipe:") for target in targets[1:])
            assert worker.call("add", 1, 2) == 3
        assert starter.end() == 0


def test_a_starter_without_processes_says_so(starter: Starter, tmp_path: Path) -> None:
    text = "import os\ndef fork():\n    raise BlockingIOError(11, 'none left')\nos.fork = fork"
    env = {"PYTHONPATH": module(tmp_path, "sitecustomize", text)}
    with Starter(starter.start_method, env=env) as other:
        other.told("hello")
        for _ in range(2):
            worker = other.start()
            (message,) = other.told("start_failed", worker.name)
            assert "no process" in message
            assert worker.name in message
            assert message.endswith("; raise `ulimit -u`, or the container's pids limit")
            # Its descriptors are closed, so nobody waits for it.
            assert list(worker.frames()) == []
            worker.forget()
        assert other.end() == 0


def test_a_worker_that_cannot_begin_says_why_and_ends(tmp_path: Path) -> None:
    text = "import os\ndef dup2(*_):\n    raise OSError(9, 'no way')\nos.dup2 = dup2"
    env = {"PYTHONPATH": module(tmp_path, "sitecustomize", text)}
    with Starter(env=env) as starter:
        starter.told("hello")
        with starter.start() as worker:
            assert list(worker.frames()) == []
            assert os.waitstatus_to_exitcode(worker.exited()) == os.EX_SOFTWARE
        assert starter.end() == 0
        assert starter.output.rest().endswith("\nOSError: [Errno 9] no way\n")


def test_an_interpreter_that_has_gone_meanwhile_is_told_in_a_line(tmp_path: Path) -> None:
    text = (
        "import os\ndef gone(*_):\n    raise FileNotFoundError(2, 'it has gone')\nos.execve = gone"
    )
    env = {"PYTHONPATH": module(tmp_path, "sitecustomize", text)}
    with Starter("spawn", env=env) as starter:
        starter.told("hello")
        with starter.start() as worker:
            assert list(worker.frames()) == []
            assert worker.stderr.rest() == f"{sys.executable} cannot be executed: it has gone\n"
            assert os.waitstatus_to_exitcode(worker.exited()) == os.EX_SOFTWARE
        assert starter.end() == 0


def test_a_starter_without_descriptors_says_so_and_mixes_nothing_up(starter: Starter) -> None:
    """What does not fit is dropped by the kernel, and the next worker must not get the rest."""
    with Starter(starter.start_method) as other:
        other.told("hello")
        pid = other.process.pid
        held = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
        free = sorted(set(range(len(held) + 3)) - held)
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        for room in (0, 1, 2):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[room], hard))
            unlucky = other.start()
            (message,) = other.told("start_failed", unlucky.name)
            assert "ulimit -n" in message
            assert list(unlucky.frames()) == []
            unlucky.forget()
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
            with other.start() as lucky:
                assert lucky.ready().call("add", 1, 2) == 3
        assert {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")} == held


def test_a_starter_keeps_no_descriptor_of_a_worker(starter: Starter) -> None:
    folder = f"/proc/{starter.process.pid}/fd"
    held = os.listdir(folder)
    for _ in range(100 if starter.start_method == "forkserver" else 10):
        with starter.start() as worker:
            worker.ready()
            # It may be quicker than the starter, which tells of it once it has closed them.
            assert worker.process.alive
            assert len(os.listdir(folder)) == len(held)
    assert os.listdir(folder) == held


def test_workers_that_are_asked_for_at_once(starter: Starter) -> None:
    workers = [starter.start() for _ in range(12)]
    assert len({worker.ready().call("pid") for worker in workers}) == 12
    for worker in workers:
        worker.close()


def test_the_path_is_as_it_would_be_with_a_safe_path_too(starter: Starter) -> None:
    """PYTHONSAFEPATH keeps the folder of the script off the path; then nothing is taken off."""
    for value in ("", "1"):
        env = {"PYTHONSAFEPATH": value, "PYTHONPATH": "/first:/second"}
        with Starter(starter.start_method, env=env) as other, other.start() as worker:
            path = worker.ready().call("path")
            assert path[:3] == [str(HERE), "/first", "/second"]
            assert not any(folder.endswith("snakepit_port/worker") for folder in path)
            assert path[-1].endswith("snakepit_port/worker/on_path")
