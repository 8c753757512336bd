"""Drives a pool's machine by hand: a clock that tests move, a record of what it asked for."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from snakepit_port.config import PoolSettings
from snakepit_port.pool import Call, Machine, Worker, WorkerState, effects
from snakepit_port.pool.speed import FIRST_AHEAD, MOST_AHEAD

CRASH = {"type": "worker_crashed", "message": "it died"}


class NoJitter(random.Random):
    """A backoff asks it how much to take off: nothing."""

    def random(self) -> float:
        return 0.0


class Driver:
    """One machine and its surroundings. Nothing happens by itself: not even `now` moves."""

    def __init__(
        self, *, rng: random.Random | None = None, capacity: int = 1, **settings: Any
    ) -> None:
        never = {"health_check_interval": math.inf}
        always = {"name": "p", "adapter": "a", "pool_size": 1, **never}
        self.settings = PoolSettings(**{**always, **settings})
        self.now = 1000.0
        #: How many calls workers have begun that have not begun all that they were sent.
        self.begun: dict[Worker, int] = {}
        self.machine = Machine(
            self.settings,
            self.now,
            rng or NoJitter(),
            lambda worker: self.begun.get(worker, worker.sent),
            capacity,
        )
        #: What workers say of their commands when they are ready.
        self.idempotent: set[str] = set()
        #: What every call was answered with: "forwarded", or an error.
        self.answers: dict[Call, list[Any]] = {}
        self.sent: list[tuple[str, int]] = []
        self.granted: list[tuple[str, int, int]] = []
        self.interrupted: list[tuple[str, int]] = []
        self.recalled: list[tuple[str, list[int]]] = []
        self.started: list[str] = []
        self.killed: list[str] = []
        self.finished: list[str] = []
        self.measuring: list[str] = []
        self.pinged: list[tuple[str, int]] = []
        self.events: list[effects.Emit] = []
        self.settled = 0
        self.stopped = 0
        self._next_id = 1

    # -- what the machine asks for -----------------------------------------------------------------

    def perform(self, todo: list[effects.Effect] | None) -> None:
        assert todo is not None, "the machine says that a worker broke the protocol"
        for effect in todo:
            match effect:
                case effects.Send(worker, call):
                    self.sent.append((worker.id, call.id))
                case effects.Grant(worker, call, credit):
                    self.granted.append((worker.id, call.id, credit))
                case effects.Forward(call):
                    self.answers[call].append("forwarded")
                case effects.Reply(call, error):
                    self.answers[call].append(error)
                case effects.Start(worker):
                    self.started.append(worker.id)
                case effects.Interrupt(worker, call):
                    self.interrupted.append((worker.id, call.id))
                case effects.Recall(worker, calls):
                    self.recalled.append((worker.id, ids(calls)))
                case effects.Kill(worker):
                    self.killed.append(worker.id)
                case effects.Ping(worker, number):
                    self.pinged.append((worker.id, number))
                case effects.Finish(worker):
                    self.finished.append(worker.id)
                case effects.Measure(worker):
                    self.measuring.append(worker.id)
                case effects.Emit():
                    self.events.append(effect)
                case effects.Settled():
                    self.settled += 1
                case effects.Stopped():
                    self.stopped += 1

    # -- what happens to it ------------------------------------------------------------------------

    def start(self) -> None:
        self.perform(self.machine.start(self.now))

    def call(
        self,
        command: str = "c",
        *,
        id: int | None = None,
        timeout: float = math.inf,
        queue_timeout: float = math.inf,
        credit: int | None = None,
        session: str | None = None,
    ) -> Call:
        if id is None:
            id, self._next_id = self._next_id, self._next_id + 1
        frame = b"x" * 10
        call = Call(
            id,
            command,
            frame,
            timeout=timeout,
            queue_timeout=queue_timeout,
            session=session,
            credit=credit,
        )
        self.answers[call] = []
        self.perform(self.machine.call_arrived(call, self.now))
        return call

    def calls(self, count: int, command: str = "c") -> list[Call]:
        return [self.call(command) for _ in range(count)]

    def answer(
        self, worker: Worker, call: Call | None = None, *, ok: bool = True, together: int = 1
    ) -> None:
        """The worker answers this call, or its first one."""
        call = call or worker.running
        assert call is not None
        self.perform(self.machine.answered(worker, call.id, ok, self.now, together))

    def give_back(self, worker: Worker, calls: list[Call]) -> None:
        self.perform(self.machine.gave_back(worker, ids(calls), self.now))

    def cancel(self, call: Call) -> None:
        self.perform(self.machine.cancelled(call, self.now))

    def ready(self, worker: Worker) -> None:
        todo = self.machine.worker_ready(
            worker, {"os_pid": 7}, self.now, idempotent=self.idempotent
        )
        self.perform(todo)

    def gone(self, worker: Worker, *, started: int = 0, error: Mapping[str, Any] = CRASH) -> None:
        """Its process is gone; `started` of its calls had been begun since it became ready."""
        todo = self.machine.worker_gone(
            worker, self.now, started=started, error=error, status="SIGSEGV"
        )
        self.perform(todo)

    def stop(self, grace: float = 5.0) -> None:
        self.perform(self.machine.stop(self.now, grace))

    def wait(self, seconds: float) -> None:
        """Time passes; what falls due is done when it is due."""
        until = self.now + seconds
        while (due := self.machine.next_due) is not None and due <= until:
            self.now = max(self.now, due)
            self.perform(self.machine.tick(self.now))
        self.now = until

    # -- in short ----------------------------------------------------------------------------------

    def up(self) -> list[Worker]:
        """Start the pool, and have every worker that it starts be ready at once."""
        self.start()
        while starting := [w for w in self.workers if w.state is WorkerState.STARTING]:
            for worker in starting:
                self.ready(worker)
            assert len(self.workers) <= self.settings.pool_size
        return self.workers

    def learn(self, command: str, seconds: float = 20e-6) -> None:
        """Run a command until its speed is known, and trusted if it is fast."""
        for _ in range(3):
            call = self.call(command)
            assert call.worker is not None
            self.now += seconds
            self.answer(call.worker)
        speeds = self.machine._roster.speeds
        while FIRST_AHEAD <= speeds.fast.get(command, 0) < MOST_AHEAD:
            speeds.record(command, seconds)

    @property
    def workers(self) -> list[Worker]:
        return list(self.machine.workers.values())

    @property
    def queued(self) -> list[int]:
        return ids(self.machine.queue.calls())

    @property
    def state(self) -> str:
        return self.machine.state.value

    def outcome(self, call: Call) -> str | None:
        """ "forwarded", the type of an error, or None so far."""
        answers = self.answers[call]
        assert len(answers) <= 1, f"{call} was answered more than once"
        if not answers:
            return None
        answer = answers[0]
        return answer if isinstance(answer, str) else str(answer["type"])

    def outcomes(self, calls: list[Call]) -> list[str | None]:
        return [self.outcome(call) for call in calls]

    def error(self, call: Call) -> dict[str, Any]:
        (answer,) = self.answers[call]
        assert isinstance(answer, dict)
        return answer

    def heard(self, name: str) -> list[effects.Emit]:
        return [event for event in self.events if event.name == name]


def at(worker: Worker) -> list[int]:
    """The calls with a worker."""
    return list(worker.calls)


def ids(calls: list[Call]) -> list[int]:
    return [call.id for call in calls]
