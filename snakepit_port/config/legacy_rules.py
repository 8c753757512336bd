"""What becomes of each key of a Snakepit v0.5 or v0.6 configuration: one rule for each, as data.

The names are those of Snakepit's code and documents at v0.5.1 and v0.6. A rule names the setting
its key becomes; whether there is such a setting, and what it takes, only the table of settings
says. A rule without one gives the reason why the key is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from snakepit_port.config import legacy_values as values

#: Tables whose keys have rules of their own, written `table.key`; `table.*` is for all others.
GROUPS = frozenset(
    {
        *("session_config", "grpc_config", "grpc_listener", "python_thread_limits", "heartbeat"),
        *("crash_barrier", "circuit_breaker", "zero_copy", "log_categories", "rogue_cleanup"),
        *("python_runtime", "opentelemetry", "telemetry_metrics"),
    }
)

#: The environment variables that v0.5.1 set from `python_thread_limits`.
LIMITS = {
    "openblas": "OPENBLAS_NUM_THREADS",
    "omp": "OMP_NUM_THREADS",
    "mkl": "MKL_NUM_THREADS",
    "numexpr": "NUMEXPR_NUM_THREADS",
}

#: Everything that the code of v0.5.1 read. Whatever else its documents show, it ignored.
READ_BY_V05 = frozenset(
    {
        *("pooling_enabled", "adapter_module", "python_executable", "grpc_port", "grpc_host"),
        *("pool_startup_timeout", "pool_queue_timeout", "pool_max_queue_size"),
        *("cleanup_retry_interval", "cleanup_max_retries", "pool_config"),
        *("pool_config.pool_size", "pool_config.max_workers", "pool_config.adapter_args"),
        *("pool_config.startup_batch_size", "pool_config.startup_batch_delay_ms"),
        *("python_thread_limits", *(f"python_thread_limits.{name}" for name in LIMITS)),
    }
)

#: What v0.6 read of each pool, and of the top level only where there are no `pools`.
READ_OF_POOLS = frozenset(
    {
        *("pool_size", "worker_profile", "adapter_env", "memory_threshold_mb"),
        *("worker_ttl", "worker_max_requests", "threads_per_worker", "thread_safety_checks"),
    }
)

#: The adapter that v0.5 and v0.6 started where none was named; it comes with Snakepit.
DEFAULT_ADAPTER = "snakepit_bridge.adapters.showcase:ShowcaseAdapter"

#: The Elixir modules beside that adapter, which start Snakepit's own Python server.
PYTHON_MODULES = ("Snakepit.Adapters.GRPCPython", "Snakepit.Adapters.GenericPython")


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of a key.

    ``to`` is the setting of a pool it becomes, or of another table as ``table.setting``; ``value``
    makes the setting's value. ``split`` is for a key that becomes several settings, or none: it
    gives them by name, and a remark. ``note`` is the reason for a key without either, and
    otherwise what to know. ``at_top`` keys mean nothing in a pool, and ``new`` ones came with v0.6.
    """

    to: str = ""
    value: Callable[[Any], Any] = values.same
    split: Callable[[Any], tuple[Mapping[str, Any], str]] | None = None
    note: str = ""
    unsupported: bool = False
    at_top: bool = False
    new: bool = False


def _becomes(to: str, value: Callable[[Any], Any] = values.same, **more: Any) -> Rule:
    return Rule(to, value, **more)


def _needless(note: str, **more: Any) -> Rule:
    return Rule(note=note, **more)


def _missing(note: str, **more: Any) -> Rule:
    return Rule(note=note, unsupported=True, **more)


_GRPC = _needless("there is no gRPC, and no network port is opened")
_RESTARTS = _needless("workers that crash are started again with a growing pause")
_ORPHANS = _needless("no process outlives the supervisor, so there is nothing to clean up")
_ONE_RUN = _needless("runs share nothing, so there is nothing to keep apart", new=True)
_FIFO = _needless("calls wait in the order in which they arrive")
_LOGS = _needless("what workers print goes to Logger, whose level says what is shown", new=True)
_BREAKER = _missing("a pool whose workers cannot start answers at once, with the reason", new=True)
_EXPORTERS = _missing(
    "nothing is exported; attach to the :telemetry events, section 10 of protocol/SPEC.md", new=True
)
_CRASHES = _needless(
    "a worker that crashes is replaced; only what is idempotent is run again", new=True
)
_HEARTBEAT = _needless("a worker that ends is seen at once, without a heartbeat", new=True)

#: In the order in which they win where several become the same setting in the same place.
RULES: Mapping[str, Rule] = {
    # Read by v0.5.1.
    "pooling_enabled": _becomes("supervisor.pooling_enabled", values.truth, at_top=True),
    "adapter_module": _needless("Elixir code has no part in starting Python"),
    "adapter_args": Rule(
        split=values.split_arguments, note="they were for Snakepit's own Python server"
    ),
    "max_workers": _needless(
        "a pool has no more workers than pool_size, but while some are recycled (max_surge)"
    ),
    "startup_batch_size": _becomes("startup_batch_size"),
    "startup_batch_delay_ms": _becomes("startup_batch_delay_ms"),
    "python_executable": _becomes("python"),
    "pool_startup_timeout": _becomes(
        "pool_startup_timeout",
        values.duration,
        note="it now covers the imports of the adapter, for which Snakepit allowed another 30 s",
    ),
    "pool_queue_timeout": _becomes("queue_timeout", values.duration),
    "pool_max_queue_size": _becomes("max_queue_size"),
    **{
        f"python_thread_limits.{name}": _becomes(f"limits.{variable}", at_top=True)
        for name, variable in LIMITS.items()
    },
    "python_thread_limits.grpc_poll_threads": _needless(_GRPC.note, at_top=True),
    "cleanup_retry_interval": _RESTARTS,
    "cleanup_max_retries": _RESTARTS,
    # Read by later versions; here, because they win over what documents show.
    "pool_request_timeout": _becomes("call_timeout", values.duration, new=True),
    "default_command_timeout": _becomes("call_timeout", values.duration, new=True),
    # In the documents of v0.5.1 only.
    "pool_size": _becomes("pool_size"),
    "adapter": _becomes("adapter"),
    "adapter_spec": _becomes("adapter", values.adapter, new=True),
    "python_adapter": _becomes("adapter", values.adapter),
    "python_path": Rule(split=values.split_python_path),
    "startup_timeout": _becomes("pool_startup_timeout", values.duration),
    "worker_init_timeout": _becomes(
        "pool_startup_timeout",
        values.duration,
        note="it covers the imports of the adapter, for which Snakepit allowed 30 s",
    ),
    "max_queue_size": _becomes("max_queue_size"),
    "max_overflow": _needless(
        "a pool has no more workers than pool_size, but while some are recycled (max_surge); calls"
        " wait instead"
    ),
    "strategy": _FIFO,
    "pool_strategy": _FIFO,
    "worker_restart_delay": _RESTARTS,
    "worker_health_check_interval": _becomes("health_check_interval", values.duration),
    "health_check_interval": _becomes("health_check_interval", values.duration),
    "grpc_config.health_check_interval": _becomes("health_check_interval", values.duration),
    "heartbeat.enabled": Rule(
        split=values.split_heartbeat, note="workers are asked whether they are well", new=True
    ),
    "worker_shutdown_grace_period": _becomes("worker_shutdown_grace_period", values.duration),
    "session_config.ttl": _becomes("session_ttl", values.seconds),
    "session_config.cleanup_interval": _needless("sessions end when their time is over"),
    "python_timeout": _becomes("call_timeout", values.duration),
    "grpc_timeout": _becomes("call_timeout", values.duration),
    "grpc_config.request_timeout": _becomes("call_timeout", values.duration),
    "protocol_negotiation": _needless("both sides say in their first frame what they speak"),
    "enable_process_registry": _ORPHANS,
    "enable_application_cleanup": _ORPHANS,
    "wire_protocol": _needless("there is one protocol: external terms over a port"),
    "test_mode": _needless("nothing behaves differently in tests"),
    "adapters": _needless("each pool names its own adapter"),
    "worker_ttl": _becomes("worker_ttl", values.duration),
    "worker_max_requests": _becomes("worker_max_requests"),
    # Of v0.6.
    "worker_profile": _becomes("worker_profile", new=True),
    "threads_per_worker": _becomes("threads_per_worker", new=True),
    "thread_safety_checks": _becomes("thread_safety_checks", new=True),
    "memory_threshold_mb": _becomes("memory_threshold_mb", new=True),
    "affinity": _becomes("affinity", values.lower, new=True),
    "adapter_env": _becomes("adapter_env", values.environment, new=True),
    "graceful_shutdown_timeout_ms": _becomes(
        "worker_shutdown_grace_period", values.duration, new=True
    ),
    "heartbeat.ping_interval_ms": _becomes("health_check_interval", values.duration, new=True),
    "heartbeat.timeout_ms": _becomes("health_check_timeout", values.duration, new=True),
    "heartbeat.max_missed_heartbeats": _HEARTBEAT,
    "heartbeat.initial_delay_ms": _HEARTBEAT,
    "heartbeat.dependent": _HEARTBEAT,
    "crash_barrier.max_restarts": _becomes(
        "max_restarts", note="of all workers of the pool together", new=True
    ),
    "crash_barrier.window_seconds": _becomes("max_seconds", values.seconds, new=True),
    "crash_barrier.enabled": _needless("a pool always limits restarts", new=True),
    "crash_barrier.max_retries": _becomes("max_retries", new=True),
    **{
        f"crash_barrier.{name}": _CRASHES
        for name in (
            *("retry", "retry_idempotent", "backoff_ms", "mark_on", "taint_ms"),
            *("taint_duration_ms", "taint_on_exit_codes", "taint_on_error_types"),
            "taint_device_on_cuda_fatal",
        )
    },
    "worker_supervisor_max_restarts": _becomes("max_restarts", new=True),
    "worker_supervisor_max_seconds": _becomes("max_seconds", values.seconds, new=True),
    "worker_starter_max_restarts": _becomes("max_restarts", new=True),
    "worker_starter_max_seconds": _becomes("max_seconds", values.seconds, new=True),
    "cleanup_retry_interval_ms": _needless(_RESTARTS.note, new=True),
    "pool_reconcile_interval_ms": _needless("a worker that goes is replaced at once", new=True),
    "pool_reconcile_batch_size": _needless("startup_batch_size limits all starts", new=True),
    "lifecycle_check_max_concurrency": _needless("lifetimes are kept without polling", new=True),
    "lifecycle_worker_action_timeout_ms": _needless("lifetimes are kept without polling", new=True),
    "capacity_strategy": _needless("every pool has its own capacity", new=True),
    "pool_identifier": _needless("calls name a pool by its name", new=True),
    "circuit_breaker.*": _BREAKER,
    "zero_copy.*": _needless("how large data travel is decided by their size", new=True),
    "opentelemetry.*": _EXPORTERS,
    "telemetry_metrics.*": _EXPORTERS,
    "enable_otlp?": _EXPORTERS,
    "log_level": _LOGS,
    "log_categories.*": _LOGS,
    "rogue_cleanup.*": _needless(_ORPHANS.note, new=True),
    "process_group_kill": _needless("workers are always stopped with their children", new=True),
    "process_registry_dets_flush_interval_ms": _needless(_ORPHANS.note, new=True),
    "instance_name": _ONE_RUN,
    "instance_token": _ONE_RUN,
    "environment": _needless("nothing behaves differently in development or tests", new=True),
    "bootstrap_project_root": _needless("there is nothing to bootstrap", new=True),
    "data_dir": _needless("nothing is kept on disk", new=True),
    "python_runtime.*": _missing("name the interpreter with python_executable", new=True),
    # All of gRPC, whatever the version.
    "grpc_port": _GRPC,
    "grpc_host": _GRPC,
    "grpc_config.*": _GRPC,
    "grpc_listener.*": _GRPC,
    "grpc_*": _GRPC,
}


def rule_for(name: str) -> Rule | None:
    """The rule for a key, named by its path inside the top or a pool; None for an unknown one."""
    table = name.partition(".")[0]
    if name in RULES:
        return RULES[name]
    if f"{table}.*" in RULES:
        return RULES[f"{table}.*"]
    return RULES["grpc_*"] if name.startswith("grpc_") else None
