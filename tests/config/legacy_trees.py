"""Strategies for configurations of Snakepit: any mixture of the keys it and its documents know."""

from __future__ import annotations

from typing import Any

from config_trees import identifiers, modules, names, no_nul, tables
from hypothesis import strategies as st

GRPC = "Elixir.Snakepit.Adapters.GRPCPython"

milliseconds = st.integers(1, 10**7)
counts = st.integers(1, 200)
classes = st.builds("{}.{}".format, modules, st.just("Adapter"))
anything = st.none() | st.booleans() | st.integers() | no_nul | st.lists(st.integers(), max_size=2)
ttls = st.just("infinity") | st.tuples(counts, st.sampled_from(["seconds", "minutes", "hours"]))
command_lines = st.builds(
    lambda adapter, more: ["--adapter", adapter, *more],
    classes,
    st.lists(st.sampled_from(["--port", "0", "--verbose", "--max-workers"]), max_size=3),
)

# In a pool, in pool_config, and at the top.
POOL_KEYS: dict[str, st.SearchStrategy[Any]] = {
    "pool_size": counts,
    "max_workers": counts,
    "startup_batch_size": counts,
    "startup_batch_delay_ms": st.integers(0, 5000),
    "adapter_args": command_lines | st.just([]) | st.just({"python_module": "a.B"}),
    "startup_timeout": milliseconds,
    "worker_init_timeout": milliseconds,
    "max_queue_size": counts,
    "max_overflow": counts,
    "strategy": st.sampled_from(["fifo", "lifo"]),
    "worker_restart_delay": milliseconds,
    "worker_shutdown_grace_period": milliseconds,
    "adapter_module": st.sampled_from([GRPC, None]),
    "adapter_env": st.dictionaries(identifiers, no_nul, max_size=2)
    | st.dictionaries(identifiers, no_nul, max_size=2).map(
        lambda env: list(map(list, env.items()))
    ),
    "worker_ttl": ttls,
    "worker_max_requests": st.just("infinity") | counts,
    "affinity": st.sampled_from(["hint", "strict_queue", "strict_fail_fast", "HINT"]),
    "capacity_strategy": st.sampled_from(["pool", "profile", "hybrid"]),
    "heartbeat": tables({}, {"ping_interval_ms": milliseconds, "enabled": st.booleans()}),
}
TOP_KEYS: dict[str, st.SearchStrategy[Any]] = {
    **POOL_KEYS,
    "pooling_enabled": st.booleans() | st.none(),
    "python_executable": st.sampled_from(["/opt/bin/python", ".venv/bin/python", "python3", None]),
    "python_path": st.sampled_from(["python3", ["lib"]]),
    "python_adapter": classes,
    "grpc_port": st.integers(0, 65535),
    "grpc_host": no_nul,
    "grpc_timeout": milliseconds,
    "grpc_config": tables({}, {"base_port": anything, "request_timeout": milliseconds}),
    "session_config": tables({}, {"ttl": counts, "cleanup_interval": milliseconds}),
    "python_thread_limits": tables(
        {}, dict.fromkeys(("openblas", "omp", "mkl", "numexpr", "grpc_poll_threads"), counts)
    ),
    "pool_startup_timeout": milliseconds,
    "pool_queue_timeout": milliseconds,
    "pool_max_queue_size": counts,
    "cleanup_max_retries": counts,
    "worker_health_check_interval": milliseconds,
    "wire_protocol": st.just("msgpack"),
    "adapters": st.just([GRPC]),
    "log_level": st.just("info"),
    "circuit_breaker": tables({}, {"enabled": st.booleans()}),
    "pool_config": tables({}, POOL_KEYS),
}


@st.composite
def legacy_trees(draw: st.DrawFn) -> dict[str, Any]:
    """A configuration of Snakepit, as plain dicts and lists."""
    optional = {key: TOP_KEYS[key] for key in TOP_KEYS if key != "adapter_module"}
    tree = draw(tables({"adapter_module": st.just(GRPC)}, optional))
    if draw(st.booleans()):
        pool_names = draw(st.lists(names, min_size=1, max_size=3, unique=True))
        tree["pools"] = [{"name": name, **draw(tables({}, POOL_KEYS))} for name in pool_names]
    order = draw(st.permutations(list(tree)))
    return {key: tree[key] for key in order}
