"""A worker of the thread profile: it runs several calls at a time, each on a thread of its own.

The main thread reads the channel and runs no call. Calls wait in one queue, and each of some other
threads, the *lanes*, takes the next one when it is free. Taking a call and counting it in the
ledger is one step, so calls start in the order in which they were sent, and the count alone tells
which have started. The adapter's `health` has a thread, too.

**Interrupts.** A thread cannot be sent a signal of its own, but an exception can be left for it
(`PyThreadState_SetAsyncExc`): it is raised when that thread next runs Python code. It must never
hit anything but the command it is meant for, and that hangs on a lock that each lane has. A lane is
*armed* while its command runs; an exception is left for it only under that lock and only while it
is armed, and that disarms it. So at most one is ever under way, and none is left once a lane has
disarmed itself under the same lock. One that was left before and not raised yet is raised then, and
caught. If it is raised on the way there, it ends in the handler around the command, and has been
used up.

A command that waits in C, in a lock or a socket without a timeout, is not reached until that
returns: it cannot be killed alone (SPEC section 13).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Union

from snakepit_port.adapter import CallCancelled
from snakepit_port.wire import messages
from snakepit_port.worker import gil
from snakepit_port.worker.asking import Question
from snakepit_port.worker.leaving import leave
from snakepit_port.worker.loading import LoadError
from snakepit_port.worker.runtime import Runtime, Unwell
from snakepit_port.worker.serving import Arguments, Serving
from snakepit_port.worker.stacks import tell_from_c
from snakepit_port.worker.streams import Stream

#: A call as it waits: id, command, arguments, credit of a stream, which attempt it is.
_Waiting = tuple[int, str, Arguments, Union[int, None], int]


def _find_async_exc() -> Callable[[int, Any], Any] | None:
    """Leaves an exception for a thread. CPython has it; without it, a call that is cancelled runs
    to its end."""
    try:
        import ctypes

        function = ctypes.pythonapi.PyThreadState_SetAsyncExc
    except (ImportError, AttributeError):
        return None
    function.argtypes = ctypes.c_ulong, ctypes.py_object
    function.restype = ctypes.c_int
    return function


_set_async_exc = _find_async_exc()


def _have_raised() -> None:
    """Have an exception that was left for this thread raised, if it is not yet: between two rounds
    of a loop, at the latest."""
    for _ in range(2):
        pass


class _Lane(Serving):
    """One thread that serves calls. Which call it holds, and its stream's credit, is guarded by the
    worker's lock; whether it may be interrupted, by its own, which nobody waits for in between."""

    def __init__(self, worker: ThreadedRuntime, number: int) -> None:
        super().__init__(worker.out, worker.late)
        self._worker = worker
        self.answers = worker.answers
        self.recent = worker.recent
        self._lock = worker.lock
        self._arming = threading.Lock()
        #: The call it took up last, whether that was cancelled, and credit that came before its
        #: stream.
        self.id: int | None = None
        self.command = ""
        self._cancelled = False
        self._early_credit = 0
        self._armed = False
        self._interrupted = False
        self._woken = threading.Lock()
        self._woken.acquire()
        self._thread = threading.Thread(target=self._live, name=f"lane-{number}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def wake(self) -> None:
        """Have it look again for what it waits for. Under the lock."""
        if self._woken.locked():
            self._woken.release()

    def _live(self) -> None:
        self._worker.by_thread[threading.get_ident()] = self
        try:
            while True:
                # Asked before it looks for a call: what came last came before the closing.
                closing = self._worker.closing
                call = self._worker.take(self)
                if call is not None:
                    self._answer(*call)
                    continue
                self._flush()
                if self.is_child:
                    leave(0)
                if closing:
                    return
                self._woken.acquire()
        except (BrokenPipeError, ConnectionResetError):
            # The supervisor is gone: nobody wants to know.
            return
        except BaseException:
            self._worker.give_up()

    @property
    def is_inside(self) -> bool:
        """Whether its command runs, or is a generator that has yet to end."""
        return self._serves is not None or self._stream is not None

    def forget(self) -> None:
        # Others may have held what it had.
        self._lock, self._arming = self._worker.lock, threading.Lock()
        super().forget()

    def take(self, id: int, command: str) -> None:
        """The call is its own from now on. Under the lock."""
        self.id = id
        self.command = command
        self._cancelled = False
        self._early_credit = 0

    # -- one command -------------------------------------------------------------------------------

    def _begin(self, id: int) -> None:
        # Said before it looks at the others: of two that begin at once, one sees the other.
        self._serves = id
        self._worker.entering(self)
        self._arm()

    def _arm(self) -> None:
        with self._arming:
            if self._cancelled:
                raise CallCancelled
            self._interrupted = False
            self._armed = True

    def _end(self) -> None:
        self._disarm()
        self._serves = None

    def _disarm(self) -> None:
        with self._arming:
            self._armed = False
        if self._interrupted:
            # Not taken back: CPython would go on looking for it, which makes calls slower by two
            # fifths (3.12), and does not end where there is a profiler (3.11).
            try:  # noqa: SIM105 (suppress is Python, and it would be raised there)
                _have_raised()
            except CallCancelled:
                pass

    def ask(self, question: Question, frame: bytes) -> None:
        if not self._armed:
            # It was cancelled, and goes on.
            raise CallCancelled
        # It waits in C, where no exception would reach it.
        self._disarm()
        try:
            with self._lock:
                self._question = question
            self._send(frame)
            self._flush()
            while not self._is_settled(question):
                self._woken.acquire()
        except ConnectionError:
            question.is_cancelled = True
        finally:
            with self._lock:
                self._question = None
            self._arm()
        if question.is_cancelled:
            raise CallCancelled

    def tell(self, frame: bytes) -> None:
        with self._arming:
            is_armed, self._armed = self._armed, False
        if not is_armed:
            # It was cancelled. What was left for it and is not raised yet is raised here, and not
            # in the middle of a frame; where it was, it cleans up.
            _have_raised()
        try:
            self._send(frame)
            self.late.ask()
        finally:
            if is_armed:
                self._arm()

    def _is_settled(self, question: Question) -> bool:
        with self._lock:
            if self._cancelled or self._worker.closing:
                question.is_cancelled = not question.is_over
            return question.is_over or question.is_cancelled

    def told(self, number: int, payload: bytes, error: dict[str, Any] | None) -> None:
        """The host has answered a question of its call. Under the lock."""
        if self._question is not None and self._question.number == number:
            self._question.answer(payload, error)
            self.wake()

    def cancel(self) -> None:
        """Its call is not wanted any more. Under the lock."""
        # Looked at once: its own thread is done with it without the lock.
        stream = self._stream
        if stream is not None:
            stream.cancel()
            self.wake()
        if self._question is not None:
            self.wake()
        with self._arming:
            self._cancelled = True
            if self._armed and _set_async_exc is not None:
                self._armed = False
                self._interrupted = True
                _set_async_exc(self._thread.ident or 0, CallCancelled)

    def grant(self, credit: int) -> None:
        """More chunks are wanted of the stream it serves, or is about to. Under the lock."""
        stream = self._stream
        if stream is None:
            self._early_credit += credit
        else:
            stream.grant(credit)
            self.wake()

    def _take_credit(self, stream: Stream) -> bool:
        while True:
            with self._lock:
                stream.grant(self._early_credit)
                self._early_credit = 0
                if stream.credit:
                    stream.credit -= 1
                    return True
                if stream.cancelled or self._worker.closing:
                    return False
            self._flush()
            self._woken.acquire()


class ThreadedRuntime(Runtime):
    """One worker of the thread profile. `lock` guards the queue and what lanes hold."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.lock = threading.Lock()
        self.closing = False
        self._lanes: list[_Lane] = []
        self._idle: list[_Lane] = []
        #: The lane that took up a call of this id last.
        self._holders: dict[int, _Lane] = {}
        #: The lanes by the thread that each is.
        self.by_thread: dict[int, _Lane] = {}
        #: The numbers of pings; None at the end.
        self._pings: SimpleQueue[int | None] = SimpleQueue()
        self._examiner: threading.Thread | None = None
        self._checks = self._info["thread_safety_checks"]

    def _take_up_work(self) -> None:
        tell_from_c(all_threads=True)
        count = self._info["threads"]
        self._lanes = [_Lane(self, number) for number in range(1, count + 1)]
        try:
            for lane in self._lanes:
                lane.start()
        except RuntimeError as exc:
            message = (
                f"a worker cannot start {count} threads: {exc}; lower threads_per_worker, or raise"
                " `ulimit -u`, or the container's pids limit"
            )
            raise LoadError({"type": "pool_unavailable", "message": message}) from None

    def _answer_all(self) -> None:
        if self._checks:
            self._check_libraries()
        while not self._ended:
            self._flush()
            self._hand_over()
            self._arrived(self._receive())
        # Only here: whatever else ends this loop ends the process, whatever its calls are about.
        with self.lock:
            self.closing = True
            for lane in self._lanes:
                lane.wake()
        for lane in self._lanes:
            lane.join()
        if self._examiner is not None:
            self._pings.put(None)
            self._examiner.join()

    def _hand_over(self) -> None:
        """See to it that a lane is awake for what waits; it wakes the next one."""
        with self.lock:
            if self._queue and self._idle:
                self._idle.pop().wake()

    def take(self, lane: _Lane) -> _Waiting | None:
        """The next call, which counts as started from now on; None if there is none yet."""
        with self.lock:
            if lane.id is not None and self._holders.get(lane.id) is lane:
                del self._holders[lane.id]
            lane.id = None
            if not self._queue:
                if lane not in self._idle:
                    self._idle.append(lane)
                return None
            # It may have looked without having been chosen, for a stream that it served woke it: it
            # would be chosen for the next call while it runs this one, and nobody be woken.
            if lane in self._idle:
                self._idle.remove(lane)
            self._ledger[self._slot] += 1
            waiting = self._queue.popleft()
            lane.take(waiting[0], waiting[1])
            self._holders[waiting[0]] = lane
            if self._queue and self._idle:
                self._idle.pop().wake()
            return waiting

    # -- health ------------------------------------------------------------------------------------

    def _pinged(self, number: int) -> None:
        """Beside the calls, which may never end all at once, and beside the channel: that may take
        its time, and whoever is called or cancelled meanwhile should not have to wait."""
        self._pings.put(number)
        if self._examiner is None:
            self._examiner = threading.Thread(target=self._examine, name="health", daemon=True)
            self._examiner.start()

    def _examine(self) -> None:
        try:
            while True:
                number = self._pings.get()
                if number is None:
                    return
                self._check_up(number)
                self._flush()
        except Unwell as exc:
            # From here: the main thread waits for what comes, and the supervisor would not.
            os._exit(self._fail(exc.error))
        except (BrokenPipeError, ConnectionResetError):
            return
        except BaseException:
            self.give_up()

    # -- safety ------------------------------------------------------------------------------------

    def _report_gil(self) -> None:
        super()._report_gil()
        if gil.is_enabled() and gil.enabled_by is None:
            why = "was switched on from outside" if gil.can_be_off() else "cannot be switched off"
            message = (
                f"this Python has a GIL, which {why}: a worker's threads wait at the same time, but"
                " run Python one at a time"
            )
            self._report("worker.gil_enabled", message, module=None)

    def _check_libraries(self) -> None:
        if self._thread_safe is None:
            self._report(
                "worker.thread_safety",
                f"adapter {self._info['adapter']} does not say whether its commands may run at the"
                " same time: set thread_safe = True (or False) in the module or class",
                kind="undeclared",
            )
        for module, note in self._info["unsafe_modules"].items():
            if module in sys.modules:
                message = f"{module} is loaded, which is not thread-safe: {note}"
                self._report("worker.thread_safety", message, kind="library", module=module)

    def entering(self, lane: _Lane) -> None:
        """A command is about to run on a lane."""
        if not self._checks or self._thread_safe:
            return
        with self.lock:
            others = [other for other in self._lanes if other.is_inside and other is not lane]
            if not self._checks or not others:
                return
            # Once: more of the same says nothing more.
            self._checks = False
        self._report(
            "worker.thread_safety",
            f"{others[0].command} and {lane.command} run at the same time in adapter"
            f" {self._info['adapter']}, which does not say it is thread-safe",
            kind="concurrent_entry",
            commands=[others[0].command, lane.command],
        )

    def _report(self, event: str, message: str, **more: Any) -> None:
        self._send(messages.event(event, {}, {"message": message, **more}))

    # -- credit and cancelling ---------------------------------------------------------------------

    def _lane_of(self, id: int) -> _Lane | None:
        """The lane that works on a call; None where it waits yet. Under the lock.

        A lane is done with its call a moment after the answer is out, when the host may have used
        the id again: then the call that waits is meant, or the one that was taken up last."""
        if any(waiting[0] == id for waiting in self._queue):
            return None
        return self._holders.get(id)

    def _grant(self, id: int, credit: int) -> None:
        with self.lock:
            lane = self._lane_of(id)
            if lane is not None:
                lane.grant(credit)
            else:
                super()._grant(id, credit)

    def _cancel(self, id: int) -> None:
        with self.lock:
            lane = self._lane_of(id)
            if lane is not None:
                lane.cancel()
            else:
                super()._cancel(id)

    def _give_back(self, ids: list[int]) -> None:
        with self.lock:
            super()._give_back(ids)

    # -- asking the host ---------------------------------------------------------------------------

    def _serving_here(self) -> Serving | None:
        lane = self.by_thread.get(threading.get_ident())
        return lane if lane is not None and lane.may_ask else None

    def _told(
        self, id: int, number: int, payload: bytes = b"", error: dict[str, Any] | None = None
    ) -> None:
        with self.lock:
            lane = self._lane_of(id)
            if lane is not None:
                lane.told(number, payload, error)

    def _forked(self) -> None:
        """The child has the one thread that forked it, and no use for locks that others held."""
        self.lock = threading.Lock()
        self.closing = True
        super()._forked()
        for lane in self._lanes:
            lane.forget()
