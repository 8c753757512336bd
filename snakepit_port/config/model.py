"""The configuration as the rest of the program sees it: checked, complete and unchanging.

Durations are float seconds (``math.inf`` where a setting may be "infinity"), sizes are bytes,
paths are absolute. Field defaults here are the defaults of the settings: the table in
``settings`` reads them, so a default is written once.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from snakepit_port.config.changes import Change

#: The least that each side has to accept in a frame. Nobody asks for a log line or for why a worker
#: did not start, so they always have to fit: a line whose bytes are all written as U+FFFD takes 48
#: KiB, and a cause 64 KiB.
MIN_FRAME_BYTES = 128 * 1024


def available_cpus() -> int:
    """How many CPUs this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_python() -> str:
    """The interpreter of a pool that names none: ``$SNAKEPIT_PYTHON``, else the one running this.

    As in the setting, a value with a slash is a path (here relative to the working directory) and
    a bare name is left to be looked up on ``PATH``.
    """
    named = os.environ.get("SNAKEPIT_PYTHON")
    if named:
        return os.path.join(os.getcwd(), named) if "/" in named else named
    return sys.executable


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorSettings:
    """The supervisor process itself."""

    pooling_enabled: bool = True
    max_frame_bytes: int = 64 * 1024 * 1024
    shutdown_grace_period: float = 5.0
    shm_threshold: int = 256 * 1024
    shm_max_bytes: int = 1024**3


ProfileKind = Literal["process", "thread"]
"""``process``: a call at a time in each process. ``thread``: several, on threads of one process."""

PROFILE_KINDS: tuple[ProfileKind, ...] = get_args(ProfileKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileSettings:
    """A named profile. ``kind`` is what it builds on: a built-in kind, or another named profile."""

    name: str
    kind: str = "process"
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Profile:
    """How the workers of a pool run, worked out: the built-in ``kind`` at the bottom, and the named
    profiles built on it, each on the one before."""

    kind: ProfileKind
    named: tuple[ProfileSettings, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """One pool of workers.

    ``adapter_args`` is a mapping of keyword arguments or a tuple of positional ones.
    ``python`` is an absolute path, or a bare name to look up on ``PATH``.
    """

    name: str
    adapter: str
    worker_profile: str = "process"
    threads_per_worker: int = 10
    thread_safety_checks: bool = False
    pool_size: int = field(default_factory=available_cpus)
    adapter_args: tuple[Any, ...] | Mapping[str, Any] = ()
    adapter_env: Mapping[str, str] = field(default_factory=dict)
    inherit_env: bool | tuple[str, ...] = True
    python: str = field(default_factory=default_python)
    python_path: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    start_method: Literal["forkserver", "spawn"] = "forkserver"
    startup_batch_size: int = 32
    startup_batch_delay_ms: int = 0
    pool_startup_timeout: float = 30.0
    max_queue_size: int = 1000
    queue_timeout: float = 5.0
    call_timeout: float = 60.0
    cancel_grace_period: float = 0.5
    worker_shutdown_grace_period: float = 2.0
    worker_ttl: float = math.inf
    worker_max_requests: float = math.inf
    recycle_jitter: int = 10
    memory_threshold_mb: float = math.inf
    memory_limit_mb: float = math.inf
    memory_check_interval: float = 1.0
    max_surge: int = 1
    min_workers: int | Literal["pool_size"] = "pool_size"
    idle_timeout: float = 300.0
    max_restarts: float = 1000
    max_seconds: float = 60.0
    max_retries: int = 2
    request_events: bool = False
    affinity: Literal["hint", "strict_queue", "strict_fail_fast"] = "hint"
    session_ttl: float = 3600.0
    max_sessions: int = 10_000
    health_check_interval: float = 30.0
    health_check_timeout: float = 5.0
    direct_calls: tuple[str, ...] = ()
    prefetch: int | Literal["auto"] = "auto"

    @property
    def watches_memory(self) -> bool:
        """Whether the memory of its workers has a limit, and is measured."""
        return min(self.memory_threshold_mb, self.memory_limit_mb) != math.inf


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration. ``profiles`` holds the named profiles only, by name.

    ``changes`` is what became of each key, where it was read from a configuration of Snakepit;
    ``warnings`` what is legal and hardly meant.
    """

    supervisor: SupervisorSettings
    profiles: dict[str, ProfileSettings]
    pools: tuple[PoolSettings, ...]
    changes: tuple[Change, ...] = field(default=(), compare=False)
    warnings: tuple[Problem, ...] = field(default=(), compare=False)

    @property
    def enabled_pools(self) -> tuple[PoolSettings, ...]:
        """The pools that are started: all, unless ``pooling_enabled`` is false."""
        return self.pools if self.supervisor.pooling_enabled else ()

    def profile_of(self, pool: PoolSettings) -> Profile:
        """The profile *pool* runs under. `check` has seen to it that every one ends at a kind."""
        name, named = pool.worker_profile, []
        while name not in PROFILE_KINDS:
            named.append(self.profiles[name])
            name = named[-1].kind
        return Profile(name, tuple(reversed(named)))


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration, or something in it to warn of.

    ``place`` is the path of the setting (empty when the whole configuration is meant), ``hint``
    what might have been meant (or empty), ``line`` counts from 1. ``file`` and ``line`` are None
    where there is none.
    """

    place: str
    message: str
    hint: str = ""
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}, " if self.line is not None else ""
        place = f"{self.place}: " if self.place else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{place}{self.message}{hint}"

    def as_term(self) -> dict[str, str | int | None]:
        """The problem as a map that can be sent to the host, or written as JSON."""
        return {
            "place": self.place,
            "message": self.message,
            "hint": self.hint,
            "file": self.file,
            "line": self.line,
        }


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` has everything that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        source = self.problems[0].file or "the configuration"
        if len(self.problems) == 1:
            return f"{source}: {self.problems[0]}"
        lines = [f"{source} has {len(self.problems)} problems:"]
        lines += [f"  {problem}" for problem in self.problems]
        return "\n".join(lines)

    def as_term(self) -> list[dict[str, str | int | None]]:
        """The problems as maps that can be sent to the host."""
        return [problem.as_term() for problem in self.problems]
