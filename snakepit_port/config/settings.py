"""Every setting, once: its name, kind of value and meaning.

Reading, the finding of mistakes, the reference page and the resolved dump are all made from these
tables. Defaults are the defaults of the model's fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from snakepit_port.config.amounts import Duration, Integer, Size
from snakepit_port.config.kinds import (
    ENV_NAME,
    Arguments,
    Choice,
    Either,
    EnvTable,
    FilePath,
    Flag,
    Kind,
    Listing,
    Reference,
    Text,
)
from snakepit_port.config.model import (
    MIN_FRAME_BYTES,
    PoolSettings,
    ProfileSettings,
    SupervisorSettings,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. ``default`` is only there where words say more than the value would."""

    name: str
    kind: Kind
    doc: str
    default: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """The settings of one table of the configuration, and the dataclass that holds them."""

    title: str
    doc: str
    model: type[Any]
    settings: Mapping[str, Setting]

    @property
    def unknown(self) -> str:
        """What to do with a key that is no setting, and like none."""
        if self.model is PoolSettings:
            # A pool has too many settings to name, and is where options of adapters end up.
            return (
                "remove it; what the adapter takes belongs into adapter_args, and environment"
                " variables into adapter_env"
            )
        return f"remove it; known here: {', '.join(self.settings)}"

    def is_required(self, setting: Setting) -> bool:
        field = next(field for field in fields(self.model) if field.name == setting.name)
        return field.default is MISSING and field.default_factory is MISSING

    def default_of(self, setting: Setting) -> Any:
        """The default of a setting that is not required."""
        field = next(field for field in fields(self.model) if field.name == setting.name)
        return field.default if field.default_factory is MISSING else field.default_factory()


def _section(title: str, doc: str, model: type[Any], settings: Iterable[Setting]) -> Section:
    return Section(title, doc, model, {setting.name: setting for setting in settings})


SUPERVISOR = _section(
    "supervisor",
    "The supervisor process itself.",
    SupervisorSettings,
    [
        Setting(
            "pooling_enabled",
            Flag(),
            "Whether pools are started. If not, pools may be left out, and calls are answered "
            "`unknown_pool`.",
        ),
        Setting(
            "max_frame_bytes",
            # A frame's length has four bytes.
            Size(f"{MIN_FRAME_BYTES // 1024}KiB", "4095MiB"),
            "The largest frame either side may send. A larger one is skipped, and its call fails. "
            "What waits for workers, in all pools, may have twice that; then the host is not read "
            "from, and after 10 s of it calls that would have to wait are answered "
            "`pool_saturated`.",
        ),
        Setting(
            "shutdown_grace_period",
            Duration(zero=True),
            "How long calls that run, or wait for a worker, may take to finish when the host "
            "closes stdin, or on SIGTERM. What is not done then is answered `shutting_down` and "
            "cancelled: it has its pool's `cancel_grace_period` to clean up, and workers their "
            "`worker_shutdown_grace_period`. The Elixir bridge waits for all three, and longer, "
            "unless its `stop_timeout:` is shorter.",
        ),
        Setting(
            "shm_threshold",
            Size("1KiB", "4095MiB"),
            "`bytes` and arrays of this size or more travel as files in shared memory, where the "
            "system has some (`/dev/shm`), instead of in frames.",
        ),
        Setting(
            "shm_max_bytes",
            # 13 digits of a file's name.
            Size("0B", "1024GiB"),
            "What all files in shared memory may hold together, and no more than `ulimit -f` lets "
            "one hold. What does not fit travels in frames; `0` has everything travel so.",
        ),
    ],
)

PROFILE = _section(
    "profiles.NAME",
    "A named profile: a way to run workers that several pools can share.",
    ProfileSettings,
    [
        Setting(
            "kind",
            Text('"process", "thread" or the name of another profile'),
            "What the profile builds on. `process` runs one call at a time in each process, with "
            "every numeric library limited to one thread; `thread` runs `threads_per_worker` calls "
            "at a time on threads of one process, with numeric libraries limited to that many. "
            "Another profile gives its kind and its `env`.",
        ),
        Setting(
            "env",
            EnvTable(),
            "Environment variables of the workers. They override those of what the profile builds "
            "on.",
        ),
    ],
)

POOL = _section(
    "pools",
    "One pool of workers; written once for each pool.",
    PoolSettings,
    [
        Setting(
            "name",
            Text("a name of 1 to 255 bytes", max_bytes=255),
            "What calls name the pool by. Unique.",
        ),
        Setting(
            "adapter",
            Reference('"module" or "module:Class"', attribute="optional"),
            "The Python code the pool serves: a module of commands, or a class in one, of which "
            "each worker makes one instance.",
        ),
        Setting(
            "adapter_args",
            Arguments(),
            "Arguments for the adapter's class: a table of keyword arguments, or a list of "
            "positional ones. A module takes none.",
            "none",
        ),
        Setting(
            "worker_profile",
            Text('"process", "thread" or the name of a profile'),
            "How the workers run: one of the built-in kinds `process` and `thread`, or a profile "
            "defined under `profiles`.",
        ),
        Setting(
            "threads_per_worker",
            # More than this many threads of Python in one process serve nobody.
            Integer(1, 1024),
            "How many calls each worker of a thread profile runs at a time. Workers of a process "
            "profile run one.",
        ),
        Setting(
            "thread_safety_checks",
            Flag(),
            "Whether workers of a thread profile report, as events, an adapter that does not say "
            "it is thread-safe, calls that enter such an adapter at the same time, and libraries "
            "that are known not to be thread-safe.",
        ),
        Setting(
            "pool_size",
            # More processes than this serve nobody on one machine. The ledger has a slot for each.
            Integer(1, 10_000),
            "How many workers the pool keeps.",
            "the number of CPUs the supervisor may use",
        ),
        Setting(
            "python",
            FilePath("a path to an interpreter or a program's name", bare_names=True),
            "The workers' interpreter, for example of a virtual environment. A value with a slash "
            "is a path, relative to the configuration file; a bare name is looked up on `PATH`.",
            "`$SNAKEPIT_PYTHON` if it is set, else the supervisor's own interpreter",
        ),
        Setting(
            "python_path",
            Listing(FilePath("a path to a folder"), "folders"),
            "Folders to put in front of the workers' module search path, relative to the "
            "configuration file.",
        ),
        Setting(
            "adapter_env",
            EnvTable(),
            "Environment variables of the workers. They override all others.",
        ),
        Setting(
            "inherit_env",
            Either(True, False, other=Listing(ENV_NAME, "names of environment variables")),
            "Whether workers start from the supervisor's environment: all of it, nothing, or the "
            "variables listed.",
        ),
        Setting(
            "start_method",
            Choice("forkserver", "spawn"),
            "How workers are started: forked from a process that has imported what they need, in "
            "milliseconds and sharing its memory, or each as a new interpreter.",
        ),
        Setting(
            "preload",
            Listing(Reference('a module name such as "package.module"'), "module names"),
            "Modules the fork server imports before it forks, once for all workers. They must "
            "not start threads or open connections when imported; what they register with "
            "`atexit` runs in each worker that ends, and `numpy.random` has the same numbers in "
            "all of them, unless the adapter seeds it. Workers that are recycled have them as "
            "they were then: what takes edited ones up is a reload with another value of a "
            "setting that workers see, such as a variable in `adapter_env`.",
        ),
        Setting(
            "startup_batch_size",
            Integer(1),
            "How many workers may be starting at once.",
        ),
        Setting(
            "startup_batch_delay_ms",
            Integer(0, what="a number of milliseconds", unit="ms"),
            "The pause between one batch of starting workers and the next, while a pool starts or "
            "is given another configuration. Later, workers that went are replaced at once.",
        ),
        Setting(
            "pool_startup_timeout",
            Duration(),
            "How long a worker may take to be ready. One that takes longer is killed.",
        ),
        Setting(
            "max_queue_size",
            Integer(1),
            "How many calls may wait for a worker. Further ones are answered `pool_saturated`. "
            "What they may take together is up to `max_frame_bytes`.",
        ),
        Setting(
            "queue_timeout",
            Duration(infinity=True),
            "How long a call may wait for a worker to begin it; where `prefetch` is a number, what "
            "was sent ahead waits longer.",
        ),
        Setting(
            "call_timeout",
            Duration(infinity=True),
            "The deadline of a call that brings none of its own, counted from its arrival.",
        ),
        Setting(
            "cancel_grace_period",
            Duration(zero=True),
            "How long an interrupted command may take to stop before its worker is killed.",
        ),
        Setting(
            "worker_shutdown_grace_period",
            Duration(zero=True),
            "How long a worker that was told to stop may take before it is killed.",
        ),
        Setting(
            "worker_ttl",
            Duration(infinity=True),
            "How long a worker serves before it is recycled: its successor is ready before it "
            "takes no more calls, so that no call fails and none waits for that.",
        ),
        Setting(
            "worker_max_requests",
            Integer(1, infinity=True),
            "How many calls a worker answers before it is recycled. It serves on until its "
            "successor is ready, and answers as many more as come meanwhile: it is no limit. With "
            "a strict `affinity` it then goes on with its sessions until they end, for "
            "`session_ttl` at most.",
        ),
        Setting(
            "recycle_jitter",
            Integer(0, 100, what="a percentage", unit="%"),
            "How much may be taken off `worker_ttl`, `worker_max_requests` and "
            "`memory_threshold_mb`; off the last only of what goes beyond the memory that the "
            "worker had when it was ready. Drawn once for each worker, so that those that started "
            "together are not recycled together.",
        ),
        Setting(
            "memory_threshold_mb",
            Integer(1, what="a number of MiB", infinity=True, unit="MiB"),
            "Private memory of a worker and its children at which it is recycled. What a worker "
            "shares with the process it was forked from does not count. Linux only.",
        ),
        Setting(
            "memory_limit_mb",
            Integer(1, what="a number of MiB", infinity=True, unit="MiB"),
            "Private memory of a worker and its children at which it is killed, and its call fails "
            "with `worker_crashed`. Linux only.",
        ),
        Setting(
            "memory_check_interval",
            Duration(),
            "How often the memory of workers is measured, where one of the two limits is set.",
        ),
        Setting(
            "max_surge",
            Integer(1, 10_000),
            "How many workers beyond `pool_size` there may be while workers are recycled.",
        ),
        Setting(
            "min_workers",
            Either("pool_size", other=Integer(1)),
            "How many workers are kept when there is little to do. The others end after "
            "`idle_timeout`, and are started again when calls wait.",
        ),
        Setting(
            "idle_timeout",
            Duration(infinity=True),
            "How long a worker beyond `min_workers` may have nothing to do before it ends.",
        ),
        Setting(
            "max_restarts",
            Integer(0, infinity=True),
            "How many workers may crash within `max_seconds`. Past that the pool answers "
            "`pool_unavailable` for that long, or 15 seconds if that is shorter, and then tries "
            "again. A crash by itself fails only the call that ran, so this is for crash loops. "
            "Besides, a worker that ends before its first answer has its successor wait, for 15 "
            "seconds at most.",
        ),
        Setting(
            "max_seconds",
            Duration(),
            "The time in which `max_restarts` workers may crash.",
        ),
        Setting(
            "max_retries",
            Integer(0),
            "How many more times a call may be started whose worker crashed, if its command is "
            "declared idempotent: `@command(idempotent=True)`. No other is ever started twice.",
        ),
        Setting(
            "request_events",
            Flag(),
            "Whether each call that a worker has worked on is told by an event `request.executed`, "
            "with the time it waited and the time it ran. That makes small calls slower.",
        ),
        Setting(
            "affinity",
            Choice("hint", "strict_queue", "strict_fail_fast"),
            "What the calls of a session do when its worker is busy: go to another (`hint`), wait "
            "for it (`strict_queue`), or fail with `worker_busy` (`strict_fail_fast`).",
        ),
        Setting(
            "session_ttl",
            Duration(infinity=True),
            "How long after its last call a session ends; and how long at most a worker that is to "
            "be recycled waits for its strict sessions to end.",
        ),
        Setting(
            "max_sessions",
            Integer(1),
            "How many sessions there may be. Beyond that a strict pool answers `session_limit`; "
            "with `hint`, the session that was not used for longest is forgotten.",
        ),
        Setting(
            "health_check_interval",
            Duration(infinity=True),
            "How often a worker is asked whether it is well: it has to answer, and the `health` of "
            "an adapter's class is run, between calls. `infinity` asks never.",
        ),
        Setting(
            "health_check_timeout",
            Duration(),
            "How long a worker may take to say that it is well, once it has no call to run. One "
            "that takes longer, or says that it is not, is replaced.",
        ),
        Setting(
            "direct_calls",
            Listing(
                Reference('"module:function" or "module:*"', attribute="required", star=True),
                "functions",
            ),
            "Functions that may be called by module and name, past the adapter: "
            "`module:function`, or `module:*` for all of a module.",
        ),
        Setting(
            "prefetch",
            Either("auto", other=Integer(1, 1024)),
            "How many calls may be with a worker at once, the running one included. `auto` sends "
            "ahead only commands that have proved to be fast: few of one that is new or was slow "
            "of late, up to 31 of one that has been fast some thousand times. What waits behind "
            "one that takes its time all the same (20 ms) is taken back where another worker takes "
            "it sooner, and when its `queue_timeout` is over; that takes a signal, which C code "
            "that does not repeat its system calls may notice (EINTR). A command that is in one "
            "call in C, as much of NumPy is, gives nothing back before that returns: for one that "
            "is mostly fast and at times takes seconds there, set 1.",
        ),
    ],
)

SECTIONS = {"supervisor": SUPERVISOR, "profiles": PROFILE, "pools": POOL}
