"""The supervisor as a child process of the harness."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import IO, Any

import trio


class SupervisorProcess:
    """The supervisor as a child of this process."""

    def __init__(self, popen: subprocess.Popen[bytes], program: str) -> None:
        self._popen = popen
        self.program = program
        self.os_pid = popen.pid

    @property
    def exit_status(self) -> int | None:
        return self._popen.poll()

    def kill(self, signal: int) -> None:
        self._popen.send_signal(signal)

    async def wait(self) -> None:
        """Returns when the process has exited and was reaped. Cancelling only stops the waiting."""
        if self._popen.poll() is None:
            if hasattr(os, "pidfd_open"):
                pidfd = os.pidfd_open(self.os_pid)
                try:
                    await trio.lowlevel.wait_readable(pidfd)
                finally:
                    os.close(pidfd)
            else:
                await trio.to_thread.run_sync(self._popen.wait, abandon_on_cancel=True)
            self._popen.wait()


def start_supervisor(
    command: Sequence[str],
    env: Mapping[str, str] | None,
    cwd: str | os.PathLike[str] | None,
    stderr: int | IO[Any] | None,
) -> tuple[SupervisorProcess, trio.StapledStream[trio.lowlevel.FdStream, trio.lowlevel.FdStream]]:
    """Starts it with a pipe on its stdin and one on its stdout: the two directions of the stream.

    Raises `OSError`, and leaves nothing open, where it cannot be executed.
    """
    # Not trio.lowlevel.open_process: it forks in a thread that soon ends, and a child that asked to
    # die with its parent (PR_SET_PDEATHSIG) would die with that thread.
    with ExitStack() as undo, ExitStack() as theirs:
        their_stdin, our_output = os.pipe()
        theirs.callback(os.close, their_stdin)
        undo.callback(os.close, our_output)
        our_input, their_stdout = os.pipe()
        undo.callback(os.close, our_input)
        theirs.callback(os.close, their_stdout)
        popen = subprocess.Popen(
            command, stdin=their_stdin, stdout=their_stdout, stderr=stderr, env=env, cwd=cwd
        )
        undo.pop_all()
    send, receive = trio.lowlevel.FdStream(our_output), trio.lowlevel.FdStream(our_input)
    return SupervisorProcess(popen, command[0]), trio.StapledStream(send, receive)
