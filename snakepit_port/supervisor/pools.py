"""The pools there are, from one configuration to the next."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator

from snakepit_port.config import Config, ConfigError, PoolSettings, Problem, SupervisorSettings
from snakepit_port.environment.finding import what_to_do
from snakepit_port.supervisor.runner import Runner

#: Settings of the supervisor that hello has told, or according to which something was made.
_FIXED = ("max_frame_bytes", "shm_threshold", "shm_max_bytes")


class Pools:
    """`running` has the pools that take calls, by name, in the order of the configuration;
    `default` is the one of calls that name none. `leaving` are those that a reload has removed,
    until nothing is left of them. They are started one at a time, by `tick`, at first and when a
    reload has added some: to have a process executed takes a moment, and a host that has something
    to say, and calls of others, are not to wait for many.

    `make` makes a pool; its workers are numbered from its last argument on, which goes on from a
    pool of that name that was there before. Raises `ConfigError`, and holds nothing then, where
    there are no descriptors for them.
    """

    def __init__(self, config: Config, make: Callable[[Config, PoolSettings, int], Runner]) -> None:
        self._make = make
        self.supervisor = config.supervisor
        self.running: dict[str, Runner] = {}
        self.leaving: list[Runner] = []
        #: The numbers of the next workers of pools that were removed, by name.
        self._next_numbers: dict[str, int] = {}
        self._unstarted: deque[Runner] = deque()
        self.running = self._make_missing(config)
        self.default = self._find_default()

    def __iter__(self) -> Iterator[Runner]:
        yield from self.running.values()
        yield from self.leaving

    def _find_default(self) -> Runner | None:
        if "default" in self.running:
            return self.running["default"]
        return next(iter(self.running.values())) if len(self.running) == 1 else None

    def no_such(self, name: str | None) -> str:
        """Why no pool can be found by this name, in words."""
        names = ", ".join(repr(name) for name in self.running)
        if not names:
            return "there is no pool: the configuration sets pooling_enabled to false"
        if name is None:
            return f"there are several pools and none is named 'default'; name one of {names}"
        return f"there is no pool {name!r}; there is {names}"

    @property
    def starter_pids(self) -> set[int]:
        """The process ids of their starters."""
        return {pid for runner in self for pid in runner.starter_pids}

    @property
    def stopped(self) -> bool:
        """Whether nothing is left of any."""
        return all(runner.stopped for runner in self)

    def start(self) -> None:
        """Have all of them start."""
        self._unstarted.extend(self.running.values())

    def stop(self, grace: float) -> None:
        """Have all of them stop. Those that calls wait for are started for these: they came before
        that, and are owed the grace."""
        for runner in self._unstarted:
            if runner.machine.queue:
                runner.start()
        self._unstarted.clear()
        for runner in self:
            runner.stop(grace)

    # -- reload ------------------------------------------------------------------------------------

    def reconfigure(self, config: Config) -> dict[str, str]:
        """Become the pools of a configuration; returns, by name, what that means for each.

        Raises `ConfigError`, and changes nothing then, where a setting of the supervisor differs
        that cannot change while it runs, or there are no descriptors for another pool.
        """
        self._check(config.supervisor)
        added = self._make_missing(config)
        while self._unstarted:
            self.tick()
        self.supervisor = config.supervisor
        before, self.running = self.running, {}
        done = {}
        for pool in config.enabled_pools:
            runner = before.pop(pool.name, None)
            if runner is None:
                runner = added[pool.name]
                runner.added()
                self._unstarted.append(runner)
                done[pool.name] = "added"
            else:
                done[pool.name] = runner.reconfigure(config, pool)
            self.running[pool.name] = runner
        self.default = self._find_default()
        for name, runner in before.items():
            self.leaving.append(runner)
            why = f"pool {name!r} was removed from the configuration"
            runner.stop(config.supervisor.shutdown_grace_period, why)
            done[name] = "removed"
        return done

    @property
    def next_due(self) -> float:
        """When `tick` has something to do next."""
        return -math.inf if self._unstarted else math.inf

    def tick(self) -> None:
        """Start the next of the pools, if one is left."""
        if self._unstarted:
            self._unstarted.popleft().start()

    def _check(self, settings: SupervisorSettings) -> None:
        problems = [
            Problem(
                f"supervisor.{name}",
                "cannot change while the supervisor runs: start it anew for that",
            )
            for name in _FIXED
            if getattr(settings, name) != getattr(self.supervisor, name)
        ]
        if problems:
            raise ConfigError(problems)

    def _make_missing(self, config: Config) -> dict[str, Runner]:
        """The pools that are not there yet; they are not started."""
        made: dict[str, Runner] = {}
        try:
            for pool in config.enabled_pools:
                if pool.name not in self.running:
                    made[pool.name] = self._make(config, pool, self._first_number(pool.name))
        except OSError as exc:
            for runner in made.values():
                runner.release()
            hint = what_to_do(exc)
            message = f"the pools cannot be made: {exc.strerror}{f'; {hint}' if hint else ''}"
            raise ConfigError([Problem("pools", message)]) from None
        return made

    def _first_number(self, name: str) -> int:
        """No id is used by two workers, of a pool that was removed and of its namesake."""
        leaving = (left.machine.next_number for left in self.leaving if left.name == name)
        return max((self._next_numbers.get(name, 1), *leaving))

    def take_gone(self) -> list[Runner]:
        """Those that were leaving, and of which nothing is left, once."""
        gone = [runner for runner in self.leaving if runner.stopped]
        for runner in gone:
            self.leaving.remove(runner)
            known = self._next_numbers.get(runner.name, 1)
            self._next_numbers[runner.name] = max(known, runner.machine.next_number)
        return gone
