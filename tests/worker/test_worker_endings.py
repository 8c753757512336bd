"""How workers, starters and what commands left behind come to an end."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from kinds import THREADS, one_at_a_time
from worker_driver import BOOT, Fifo, Pipe, Process, Start, Starter, Worker, readable

from snakepit_port.wire import messages
from snakepit_port.worker import linux, starter_frames
from snakepit_port.worker.orphans import Orphans, mark


@pytest.fixture
def own(starter: Starter) -> Iterator[Starter]:
    """A starter of the test's own, to be ended by it."""
    with Starter(starter.start_method) as own:
        own.told("hello")
        yield own


def still_alive(pid: int) -> Process:
    """A process that is to be seen dying, and so has to be alive."""
    process = Process(pid)
    assert process.alive
    return process


# -- in good order ---------------------------------------------------------------------------------


@one_at_a_time
def test_end_of_file_lets_a_worker_finish_what_it_has(worker: Worker, fifo: Fifo) -> None:
    assert worker.call("at_exit", "bye") is None
    first = worker.begin("wait_for", fifo.path)
    rest = [worker.begin("add", n) for n in range(50)]
    assert worker.stdout.line() == "in"
    worker.hang_up()
    fifo.release()
    assert worker.answer(first) == "released"
    assert [worker.answer(id) for id in rest] == list(range(1, 51))
    assert list(worker.frames()) == []
    assert worker.stdout.rest() == "bye\n"
    assert os.waitstatus_to_exitcode(worker.exited()) == 0
    assert worker.begun == 52


def test_end_of_file_in_the_middle_of_a_frame_is_an_end_like_any(worker: Worker) -> None:
    id, frame = worker.frame("add", 1)
    _, half = worker.frame("add", 2)
    worker.send(frame, half[:10])
    worker.hang_up()
    assert worker.answer(id) == 2
    assert list(worker.frames()) == []
    assert os.waitstatus_to_exitcode(worker.exited()) == 0


def test_a_client_that_has_gone_is_nothing_to_complain_about(worker: Worker, fifo: Fifo) -> None:
    worker.begin("wait_for", fifo.path)
    assert worker.stdout.line() == "in"
    worker.channel.close()
    fifo.release()
    assert os.waitstatus_to_exitcode(worker.exited()) == 0
    assert worker.stderr.rest() == ""


def test_sigint_is_not_for_workers(worker: Worker) -> None:
    id = worker.begin("busy")
    assert worker.stdout.line() == "in"
    worker.signal(signal.SIGINT)
    worker.send(messages.cancel(id))
    worker.signal(signal.SIGURG)
    assert worker.failure_of(id)["type"] == "cancelled"
    assert worker.call("add", 1, 2) == 3


def test_sigterm_ends_a_worker(worker: Worker) -> None:
    worker.begin("busy")
    assert worker.stdout.line() == "in"
    worker.signal(signal.SIGTERM)
    assert os.WTERMSIG(worker.exited()) == signal.SIGTERM


# -- crashes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("starter", ["forkserver", *THREADS], indirect=True, scope="session")
def test_what_a_killed_worker_has_begun_is_known_at_any_step(
    starter: Starter, start: Start
) -> None:
    """What is answered has begun, and what has run has; the others may be run elsewhere."""
    one_thread = {"threads": 1} if starter.threads else {}
    begun = set()
    for step in itertools.count(1):
        worker = start(**one_thread).ready()
        calls = [
            worker.frame("signal_at_step", signal.SIGKILL, step),
            *(worker.frame("say", text, "") for text in ("2", "3")),
            worker.frame("lift"),
        ]
        worker.send(b"".join(frame for _, frame in calls))
        worker.hang_up()
        answers = list(worker.frames())
        status = worker.exited()
        first_ids = [id for id, _ in calls[: worker.begun]]
        assert [(tag, id) for tag, id, _ in answers] == [
            ("result", id) for id in first_ids[: len(answers)]
        ]
        ran = worker.stdout.rest()
        assert ran in ("", "2\n", "2\n3\n")
        # Each is counted before it runs, and just before.
        assert worker.begun - 1 - len(ran.split()) in (0, 1)
        begun.add(worker.begun)
        if os.waitstatus_to_exitcode(status) == 0:
            break
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert len(answers) == worker.begun == 4
    assert begun == {1, 2, 3, 4}


@one_at_a_time
def test_the_ledger_tells_which_calls_had_begun(worker: Worker) -> None:
    before = [worker.frame("add", n) for n in range(5)]
    _, killing = worker.frame("kill_myself", signal.SIGKILL)
    _, after = worker.frame("add", 6)
    worker.send(*(frame for _, frame in before), killing, after, after)
    assert [worker.answer(id) for id, _ in before] == [1, 2, 3, 4, 5]
    assert list(worker.frames()) == []
    assert os.WTERMSIG(worker.exited()) == signal.SIGKILL
    assert worker.begun == 6


@one_at_a_time
@pytest.mark.parametrize("quick", [0, 1, 7, 40])
def test_the_ledger_is_exact_where_answers_were_held_back(worker: Worker, quick: int) -> None:
    """Once a command is known to be quick, its answers are written several at a time: what the
    worker did is then known from the ledger only."""
    for n in range(100):
        worker.call("add", n)
        worker.call("kill_myself", 0)
    frames = [worker.frame("add", n)[1] for n in range(quick)]
    _, killing = worker.frame("kill_myself", signal.SIGKILL)
    _, after = worker.frame("remember", "never")
    worker.send(*frames, killing, after)
    assert len(list(worker.frames())) <= quick
    assert os.WTERMSIG(worker.exited()) == signal.SIGKILL
    assert worker.begun == 200 + quick + 1


def test_a_command_may_leave(worker: Worker) -> None:
    worker.begin("leave", 3)
    assert os.waitstatus_to_exitcode(worker.exited()) == 3
    assert worker.begun == 1


def test_a_killed_worker_is_told_of_once_and_its_group_goes_with_it(worker: Worker) -> None:
    child = still_alive(worker.call("have_child", False))
    process = worker.process
    assert process.alive
    os.kill(process.pid, signal.SIGKILL)
    assert os.WTERMSIG(worker.exited()) == signal.SIGKILL
    child.wait()
    child.close()
    # Signals for it are for nobody now; and there is no second report.
    worker.signal(signal.SIGKILL, group=True)
    with worker.starter.start() as other:
        assert other.ready().call("add", 1, 2) == 3
    assert not [said for said in worker.starter.heard if said[1] == worker.name]


def test_children_in_the_group_go_with_a_worker_that_ends_in_order(worker: Worker) -> None:
    child = still_alive(worker.call("have_child", False))
    worker.hang_up()
    assert os.waitstatus_to_exitcode(worker.exited()) == 0
    child.wait()
    child.close()


def test_what_multiprocessing_removes_after_a_process_it_removes_after_a_worker(
    worker: Worker,
) -> None:
    left = Path("/dev/shm", worker.call("leave_shared_memory"))
    assert left.exists()
    worker.hang_up()
    assert os.waitstatus_to_exitcode(worker.exited()) == 0
    assert not left.exists()


def test_but_a_child_that_would_keep_it_from_that_keeps_no_worker(worker: Worker) -> None:
    left = Path("/dev/shm", worker.call("leave_shared_memory"))
    (pid,) = worker.call("have_descendants", 1)
    child = still_alive(pid)
    worker.hang_up()
    assert os.waitstatus_to_exitcode(worker.exited()) == 0
    child.wait()
    child.close()
    left.unlink()


def test_a_group_is_killed_as_one(worker: Worker) -> None:
    child = still_alive(worker.call("have_child", False))
    worker.begin("busy")
    assert worker.stdout.line() == "in"
    worker.signal(signal.SIGKILL, group=True)
    assert os.WTERMSIG(worker.exited()) == signal.SIGKILL
    child.wait()
    child.close()


def test_a_worker_that_has_left_its_group_is_killed_all_the_same(worker: Worker) -> None:
    child = still_alive(worker.call("have_child", False))
    worker.call("leave_group")
    worker.signal(signal.SIGKILL, group=True)
    assert os.WTERMSIG(worker.exited()) == signal.SIGKILL
    child.wait()
    child.close()


def test_a_worker_that_is_stopped_can_be_killed(worker: Worker) -> None:
    worker.signal(signal.SIGSTOP)
    worker.signal(signal.SIGKILL, group=True)
    assert os.WTERMSIG(worker.exited()) == signal.SIGKILL


# -- what is in sessions of its own ----------------------------------------------------------------


@pytest.mark.parametrize("killed", [True, False])
def test_what_a_worker_has_left_goes_with_it(worker: Worker, start: Start, killed: bool) -> None:
    """Whoever its parent is now, and whether it executed a program or was only forked."""
    left = [
        still_alive(worker.call("have_child", True)),
        still_alive(worker.call("have_daemon")),
        *(still_alive(pid) for pid in worker.call("have_descendants", 10)),
    ]
    other = start().ready()
    kept = still_alive(other.call("have_daemon"))
    if killed:
        os.kill(worker.process.pid, signal.SIGKILL)
        assert os.WTERMSIG(worker.exited()) == signal.SIGKILL
    else:
        worker.hang_up()
        assert os.waitstatus_to_exitcode(worker.exited()) == 0
    for process in left:
        process.wait()
        process.close()
    assert kept.alive
    other.hang_up()
    kept.wait()
    kept.close()


def test_what_a_worker_started_just_before_it_went_goes_too(start: Start) -> None:
    for _ in range(5):
        worker = start().ready()
        worker.begin("have_children_and_go", 10)
        assert os.WTERMSIG(worker.exited()) == signal.SIGKILL
        pids = worker.stdout.rest().split()
        assert len(pids) == 10
        for pid in pids:
            with suppress(ProcessLookupError):
                process = Process(int(pid))
                process.wait()
                process.close()


def test_what_was_given_another_environment_goes_with_the_starter(own: Starter) -> None:
    with own.start() as worker:
        left = still_alive(worker.ready().call("have_daemon", False))
    with own.start() as worker:
        worker.ready()
    # By now the starter has looked.
    assert left.alive
    assert own.end() == 0
    left.wait()
    left.close()


def test_one_that_is_executing_a_program_is_looked_at_when_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner = 7
    with subprocess.Popen(
        ["cat", "/dev/zero"], stdout=subprocess.DEVNULL, env=mark(owner)
    ) as child:
        monkeypatch.setattr(linux, "children", lambda: [child.pid])
        monkeypatch.setattr(linux, "environment_of", lambda pid: None)
        orphans = Orphans()
        orphans.end({owner})
        assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
        orphans.end({owner})
        monkeypatch.undo()
        monkeypatch.setattr(linux, "children", lambda: [child.pid])
        orphans.end({owner})
        assert os.WIFCONTINUED(os.waitpid(child.pid, os.WCONTINUED)[1])
        orphans.end({owner + 1})
        assert child.wait() == -signal.SIGKILL


# -- starters --------------------------------------------------------------------------------------


def test_nothing_is_left_when_a_starters_link_closes(own: Starter) -> None:
    workers = [own.start().ready() for _ in range(3)]
    left = [still_alive(worker.process.pid) for worker in workers]
    for worker in workers:
        left += [still_alive(worker.call("have_child", new)) for new in (False, True)]
    # One that went before, and left a child to the starter.
    with own.start() as gone:
        left.append(still_alive(gone.ready().call("have_daemon", False)))
    assert left[-1].alive
    for worker in workers[1:]:
        worker.begin("busy")
        assert worker.stdout.line() == "in"
    workers[2].signal(signal.SIGSTOP)
    assert own.end() == 0
    for process in left:
        process.wait()
        process.close()
    for worker in workers:
        worker.close()


def test_orphans_of_orphans_are_found(own: Starter) -> None:
    """Each in a session of its own, so that only who adopts them can know."""
    with own.start() as worker:
        pids = worker.ready().call("have_descendants", 150)
        left = [still_alive(pid) for pid in pids]
        assert len(left) == 150
        assert own.end() == 0
    for process in left:
        process.wait()
        process.close()


def test_workers_die_with_a_killed_starter(own: Starter) -> None:
    workers = [own.start().ready() for _ in range(3)]
    left = [still_alive(worker.process.pid) for worker in workers]
    workers[0].begin("busy")
    assert workers[0].stdout.line() == "in"
    own.process.kill()
    for process in left:
        process.wait()
        process.close()
    assert own.process.wait() == -signal.SIGKILL
    for worker in workers:
        worker.close()


def test_a_starter_says_that_it_is_there(worker: Worker) -> None:
    worker.signal(signal.SIGKILL)
    worker.starter.control.sendall(starter_frames.ping())
    assert worker.starter.told("pong") == ()
    assert os.WTERMSIG(worker.exited()) == signal.SIGKILL


def test_a_starter_takes_no_notice_of_sigint(own: Starter) -> None:
    own.process.send_signal(signal.SIGINT)
    with own.start() as worker:
        assert worker.ready().call("add", 1, 2) == 3
    assert own.end() == 0
    assert own.output.rest() == ""


@pytest.mark.parametrize("pings", [1, 2000], ids=["one", "more than there is room for"])
def test_what_nobody_is_there_to_be_told_is_nothing_to_complain_about(
    own: Starter, pings: int
) -> None:
    worker = own.start().ready()
    own.process.send_signal(signal.SIGSTOP)
    own.control.sendall(starter_frames.ping() * pings)
    if pings > 1:
        own.process.send_signal(signal.SIGCONT)
        readable(own.control.fileno())
    own.control.close()
    own.process.send_signal(signal.SIGCONT)
    assert own.end() == 0
    assert own.output.rest() == ""
    worker.close()


def test_a_starter_that_hangs_in_a_preload_goes_with_its_supervisor(tmp_path: Path) -> None:
    """It would not see its link close."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    text = f"import sys\nprint('preloading', flush=True)\nopen({str(fifo)!r}).read()\n"
    (tmp_path / "hangs.py").write_text(text, encoding="utf-8")
    ours, theirs = socket.socketpair()
    info = {"pool": "p", "start_method": "forkserver", "preload": ["hangs"]}
    ours.sendall(starter_frames.hello({**info, "python_path": [str(tmp_path)]}))
    # The supervisor's part; it holds the link's other end, too.
    supervisor = (
        "import subprocess, sys\n"
        f"subprocess.Popen({[sys.executable, str(BOOT), 'starter', str(theirs.fileno()), '0']},"
        f" pass_fds=({theirs.fileno()},))\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", supervisor],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(theirs.fileno(),),
    )
    theirs.close()
    assert process.stdin is not None
    assert process.stdout is not None
    printed = Pipe(process.stdout.fileno())
    assert printed.line() == "preloading"
    process.kill()
    # Nobody holds its output any more.
    assert printed.rest() == ""
    assert process.wait() == -signal.SIGKILL
    process.stdin.close()
    process.stdout.close()
    ours.close()


def test_a_worker_that_loads_its_adapter_goes_with_the_starter(
    own: Starter, tmp_path: Path, start: Start
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    text = f"print('loading')\nopen({str(fifo)!r}).read()\n"
    (tmp_path / "hangs.py").write_text(text, encoding="utf-8")
    with own.start(adapter="hangs", python_path=[str(tmp_path)]) as worker:
        assert worker.stdout.line() == "loading"
        process = still_alive(worker.process.pid)
        own.end()
        process.wait()
        process.close()
