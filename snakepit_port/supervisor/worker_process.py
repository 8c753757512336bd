"""A worker's process, seen from the supervisor: its descriptors, and why it went."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from snakepit_port.pool import Worker
from snakepit_port.processes import signal_name
from snakepit_port.supervisor.link import Link
from snakepit_port.supervisor.output import Output
from snakepit_port.supervisor.stacks import Stacks
from snakepit_port.wire import messages

if TYPE_CHECKING:
    from snakepit_port.supervisor.runner import Runner
    from snakepit_port.supervisor.source import Source
    from snakepit_port.supervisor.starter import Starter

#: Characters of stderr's tail that go into an error.
_STDERR_CHARS = 4096

#: What a worker or starter did that lives, and to which nobody can speak any more.
LOST_CHANNEL = "closed its channel, as by closing descriptors that are not its own"


class WorkerProcess:
    """A worker's process: its channel, its output, its place in the ledger.

    Raises `OSError`, and holds nothing then, where there are no descriptors for it, or they cannot
    be waited for.
    """

    def __init__(self, runner: Runner, source: Source, worker: Worker, again: bool) -> None:
        #: Whether it is the second attempt, because the starter went during the first.
        self.again = again
        #: Who tells when it has exited. None before it is asked for, and once that one is gone: the
        #: end of what the worker says tells it then.
        self.starter: Starter | None = None
        self.source = source
        self.runner = runner
        self.worker = worker
        self.os_pid: int | None = None
        self.is_ready = False
        #: Whether that was passed on, once its process id was known, too.
        self.is_announced = False
        #: Whether it broke the protocol, and is killed for it.
        self.condemned = False
        #: Whether it lived when it closed its channel, and is killed for that.
        self.left = False
        self.gil: Any = None
        self.idempotent: frozenset[str] = frozenset()
        self.python = ""
        self.failure: dict[str, Any] | None = None
        pump = runner.pump
        with ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            undo.callback(theirs.close)
            (out, their_out), (err, their_err), (stacks, their_stacks) = (
                _pipe(undo) for _ in range(3)
            )
            fd, limit = ours.fileno(), runner.max_frame_bytes
            for watched in (fd, out, err, stacks):
                undo.callback(pump.forget, watched)
            self.slot = runner.ledger.take()
            undo.callback(runner.ledger.give_back, self.slot)
            self.stdout = Output(pump, out, "info", self._log("stdout"))
            self.stderr = Output(pump, err, "warning", self._log("stderr"))
            self.stacks = Stacks(pump, stacks)
            received = partial(runner.listener.said, self)
            self.link = Link(pump, fd, fd, limit, received, self._closed)
            undo.pop_all()
        self._socket = ours
        self.inherited = (theirs.detach(), their_out, their_err, their_stacks)
        shm = runner.outside.shm
        self.shm_writer = "" if shm is None else shm.new_writer()
        self.link.send(messages.hello(runner.worker_hello(source, worker.id, self.shm_writer)))

    def _log(self, source: str) -> Callable[[str, str], None]:
        runner, worker = self.runner, self.worker
        return lambda level, line: runner.outside.log(runner.name, worker.id, source, level, line)

    def _closed(self) -> None:
        self.runner.worker_hung_up(self)

    def pause(self, paused: bool) -> None:
        """Stop reading what it says and prints, or go on: but not with what it says if it is
        condemned. Once its starter is gone, nothing but the end of what it says tells that it is
        gone, too: that is read in any case. It was killed, so what it says is bounded."""
        self.link.pause(self.starter is not None and (paused or self.condemned))
        self.stdout.pause(paused)
        self.stderr.pause(paused)

    def finish(self) -> None:
        """Let it read what was sent, and then end-of-file."""
        self.link.flush()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.link.close()
        self._socket.close()
        self.stdout.close()
        self.stderr.close()
        self.stacks.close()
        self.runner.ledger.give_back(self.slot)

    def obituary(self, wait_status: int | None) -> tuple[dict[str, Any], str]:
        """Why it went, as an error for its calls, and in one word. `wait_status` is as waitpid(2)
        has it, or None where nobody could wait for it."""
        error: dict[str, Any] = {
            "type": "worker_crashed",
            "pool": self.runner.name,
            "worker": self.worker.id,
        }
        if wait_status is None:
            status, how = "unknown", "went when the process that started it was killed"
        elif os.WIFSIGNALED(wait_status):
            status = signal_name(os.WTERMSIG(wait_status))
            error["signal"] = status
            how = f"was killed by {status}"
            if status == "SIGKILL" and self.left:
                how = f"{LOST_CHANNEL} or by executing another program, and was killed"
            elif status == "SIGKILL":
                how += " (perhaps out of memory?)"
        else:
            error["status"] = os.waitstatus_to_exitcode(wait_status)
            status = str(error["status"])
            how = f"exited with status {status}"
        if self.worker.ready_at is None:
            how += ", before it had loaded its adapter"
        error["message"] = f"worker {self.worker.id} {how}"
        last_words = last_words_of(self.stderr)
        if last_words:
            error["stderr"] = last_words
        return self.failure or error, status


def _pipe(undo: ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        undo.callback(os.close, end)
    return ends


def tail_of(output: Output) -> str:
    """The last lines of an output, as an error shows them."""
    return "\n".join(output.tail)[-_STDERR_CHARS:]


def last_words_of(output: Output) -> str:
    """The same of a worker: first of all what ended Python, where it has told that before the
    stacks of many threads."""
    lines = tail_of(output)
    if output.fatal is None or output.fatal in lines:
        return lines
    return f"{output.fatal}\n…\n{lines}"
