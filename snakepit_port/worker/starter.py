"""The process that forks a pool's workers.

It imports the worker's runtime and the pool's `preload` modules once; forking then makes a worker
in milliseconds, and the memory is shared. With `start_method` spawn it forks and executes a fresh
interpreter instead. `starter_frames.py` says what it is told and what it tells.

It has one thread, so that nothing is lost in a fork, and waits in one place: for frames, or for a
signal that a child has ended. When the supervisor is gone, by any signal, its end of the link
closes: then the starter kills whatever is left of the pool, removes the files in shared memory, and
ends.
"""

from __future__ import annotations

import errno
import gc
import importlib
import itertools
import os
import select
import signal
import socket
import sys
import traceback
from collections import deque
from contextlib import suppress
from typing import Any, NoReturn

from snakepit_port.bulk.files import remove_folder
from snakepit_port.wire.framing import Framer
from snakepit_port.worker import boot, gil, linux, process, starter_frames
from snakepit_port.worker.fitting import FAILURE_BYTES, fit
from snakepit_port.worker.leaving import leave
from snakepit_port.worker.loading import import_error
from snakepit_port.worker.orphans import Orphans, mark, mark_this_process
from snakepit_port.worker.stacks import FROM_C as STACKS_FROM_C
from snakepit_port.worker.stacks import SIGNAL as STACKS_SIGNAL

#: Descriptors that come with a `start`: channel, stdout, stderr, stacks.
_FDS = 4


def main(control_fd: int, ledger_fd: int) -> int:
    return Starter(control_fd, ledger_fd).run()


class Starter:
    def __init__(self, control_fd: int, ledger_fd: int) -> None:
        os.set_inheritable(control_fd, False)
        os.set_inheritable(ledger_fd, False)
        self._control = socket.socket(fileno=control_fd)
        # Whatever default a `sitecustomize` has set.
        self._control.settimeout(None)
        self._ledger_fd = ledger_fd
        self._framer = Framer(starter_frames.MAX_FRAME_BYTES)
        #: The descriptors that came with each `start` that is not read yet.
        self._fds: deque[list[int]] = deque()
        self._workers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._orphans = Orphans()
        self._spawn = False
        self._shm_folder: str | None = None
        #: Workers have what the supervisor was started with: nohup(1) has it ignored.
        self._hangup = signal.getsignal(signal.SIGHUP)
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)

    def run(self) -> int:
        process.prepare_output()
        linux.adopt_orphans()
        self._handle_signals()
        poll = select.poll()
        poll.register(self._control.fileno(), select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        status = 0
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if self._control.fileno() in ready:
                done = self._receive()
                if done is not None:
                    status = done
                    break
        self._kill_everything()
        # After a preload that failed the supervisor lives, and with it other pools.
        if self._shm_folder is not None and self._is_deserted():
            remove_folder(self._shm_folder)
        self._control.close()
        return status

    def _handle_signals(self) -> None:
        """Wake up when a child ends, and take no notice of a terminal's ^C, nor of SIGHUP: the
        kernel sends that to one that is stopped when the supervisor goes, as it lets it go on."""
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        # Workers inherit the mask, and are interrupted and asked with the others.
        handled = {signal.SIGCHLD, signal.SIGURG, STACKS_SIGNAL, STACKS_FROM_C}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)

    def _tell(self, frame: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            self._control.sendall(frame)

    def _receive(self) -> int | None:
        """Frames from the supervisor; an exit status when there will be no more."""
        try:
            data, fds, flags, _address = socket.recv_fds(self._control, 65536, 64 * _FDS)
        except ConnectionResetError:
            return 0
        for fd in fds:
            os.set_inheritable(fd, False)
        # One message's at a time, and none if there is no room for them: so that a worker never
        # gets another's.
        if fds or flags & socket.MSG_CTRUNC:
            self._fds.append(fds)
        if not data:
            return 0
        for frame in self._framer.feed(data):
            assert isinstance(frame, bytes)
            tag, *rest = starter_frames.parse(frame, starter_frames.TO_STARTER)
            if tag == "hello":
                error = self._prepare(rest[0])
                if error is not None:
                    self._tell(starter_frames.failed(error))
                    return 1
            elif tag == "start":
                self._start(rest[0], rest[1], self._fds.popleft())
            elif tag == "signal":
                self._signal(*rest)
            elif tag == "ping":
                self._tell(starter_frames.pong())
            elif tag == "finish":
                # The folder is the supervisor's, which lives.
                self._shm_folder = None
        return None

    def _prepare(self, info: dict[str, Any]) -> dict[str, Any] | None:
        """Preload, and say hello. Returns an error map where a module cannot be imported."""
        self._spawn = info["start_method"] == "spawn"
        self._shm_folder = info.get("shm_folder")
        if not self._spawn:
            sys.path[:0] = info["python_path"]
            # A module may take its time, or hang: then nobody here would see the supervisor go.
            linux.die_with_parent(os.getppid())
            gil.watch()
            if self._is_deserted():
                return {"type": "pool_unavailable", "message": "the supervisor is gone"}
            for name in info["preload"]:
                try:
                    importlib.import_module(name)
                except BaseException as exc:
                    error = import_error(f"preload of {name!r} failed", exc)
                    return fit({**error, "pool": info["pool"]}, FAILURE_BYTES)
            linux.outlive_parent()
            process.hold_standard_descriptors()
            # A module may have set them its own way, and nobody be told of workers that end.
            self._handle_signals()
            # What is here now lives as long as the pool: a collection in a worker that walked it
            # would write to its pages, and so copy them.
            gc.collect()
            gc.freeze()
        self._tell(starter_frames.hello({}))
        return None

    def _is_deserted(self) -> bool:
        """Whether the supervisor has gone, perhaps before this process knew its parent."""
        poll = select.poll()
        poll.register(self._control.fileno(), 0)
        return bool(poll.poll(0))

    def _start(self, worker: str, slot: int, fds: list[int]) -> None:
        told = self._fork(worker, slot, fds)
        for fd in fds:
            os.close(fd)
        self._tell(told)

    def _fork(self, worker: str, slot: int, fds: list[int]) -> bytes:
        """Start a worker's process. Returns the frame that tells how that went."""
        if len(fds) < _FDS:
            message = f"no descriptors for worker {worker}; raise `ulimit -n`"
            return starter_frames.start_failed(worker, message)
        parent = os.getpid()
        for stream in (sys.stdout, sys.stderr):
            # A preloaded module may have closed it, or put something else there.
            with suppress(Exception):
                stream.flush()
        try:
            pid = os.fork()
        except OSError as exc:
            message = f"no process for worker {worker}: {exc.strerror}"
            if exc.errno == errno.EAGAIN:
                message += "; raise `ulimit -u`, or the container's pids limit"
            return starter_frames.start_failed(worker, message)
        if pid == 0:
            self._be_worker(slot, fds, parent)
        # Here and in the child: whoever is first, the group is there for both.
        with suppress(OSError):
            os.setpgid(pid, pid)
        self._workers[worker] = pid
        self._names[pid] = worker
        return starter_frames.started(worker, pid)

    def _be_worker(self, slot: int, fds: list[int], parent: int) -> NoReturn:
        """In the child."""
        try:
            with suppress(OSError):
                os.setpgid(0, 0)
            linux.die_with_parent(parent)
            linux.yield_memory_first()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, self._hangup)
            channel, out, err, stacks = fds
            os.dup2(out, 1)
            os.dup2(err, 2)
            for fd in (out, err, self._woken, self._wake, *itertools.chain(*self._fds)):
                os.close(fd)
            self._control.close()
            if self._spawn:
                self._execute(channel, stacks, slot, parent)
            mark_this_process()
            process.live(channel, self._ledger_fd, stacks, slot)
        except BaseException:
            traceback.print_exc()
        finally:
            leave(os.EX_SOFTWARE)

    def _execute(self, channel: int, stacks: int, slot: int, parent: int) -> NoReturn:
        fds = (channel, self._ledger_fd, stacks)
        for fd in fds:
            os.set_inheritable(fd, True)
        numbers = [str(number) for number in (*fds, slot, parent)]
        script = os.path.abspath(boot.__file__)
        environment = {**os.environ, **mark(os.getpid())}
        try:
            os.execve(sys.executable, [sys.executable, script, "worker", *numbers], environment)
        except OSError as exc:
            # An environment that was moved or removed meanwhile, mostly: a stack explains nothing.
            print(f"{sys.executable} cannot be executed: {exc.strerror}", file=sys.stderr)
            leave(os.EX_SOFTWARE)

    def _signal(self, worker: str, number: int, group: bool) -> None:
        """Signals a worker that has not been reaped: its process id cannot have been used again."""
        pid = self._workers.get(worker)
        if pid is None:
            return
        if group:
            linux.send_signal(-pid, number)
        if not group or number == signal.SIGKILL:
            # It may have left its group.
            linux.send_signal(pid, number)

    def _reap(self) -> None:
        """Tell of workers that have ended, once what they left has been killed."""
        ended = []
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                worker = self._names.pop(pid, None)
                if worker is None:
                    continue
                del self._workers[worker]
                linux.send_signal(-pid, signal.SIGKILL)
                ended.append(starter_frames.exited(worker, status))
        self._orphans.end(self._names)
        if ended:
            self._tell(b"".join(ended))

    def _kill_everything(self) -> None:
        """Workers by their group, then whoever had left a group and was adopted here."""
        for pid in self._workers.values():
            linux.send_signal(-pid, signal.SIGKILL)
        linux.end_descendants()
