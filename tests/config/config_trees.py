"""Strategies for valid configurations, as plain trees that both TOML and terms can express."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# No deadline: how long an example takes depends on what else the machine does.
quick = settings(deadline=None)
# For tests that read or write whole configurations.
few = settings(quick, max_examples=50, suppress_health_check=[HealthCheck.too_slow])

identifiers = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
modules = st.lists(identifiers, min_size=1, max_size=3).map(".".join)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
no_nul = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
names = no_nul.filter(bool)
env_names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0="), min_size=1, max_size=12
)
env_tables = st.dictionaries(env_names, no_nul | st.integers(-(2**63), 2**63 - 1), max_size=4)
paths = st.sampled_from(["lib", "./lib", "../lib/x y", "/opt/lib", "ü"])

amounts = st.integers(1, 800_000).map(str) | st.decimals(1, 800_000, places=3).map(str)
durations = st.integers(1, 10**9) | st.builds(
    str.__add__, amounts, st.sampled_from(["ms", "s", "m", " h"])
)
zero_or_durations = st.just(0) | st.just("0s") | durations
durations_or_infinity = st.just("infinity") | durations
limits = st.integers(1, 10**6) | st.just("infinity")
sizes = st.integers(2**17, 2**32 - 2**20) | st.sampled_from(["128KiB", "64MB", "64 MiB", "3GiB"])

arguments = st.recursive(
    texts
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False).filter(lambda number: abs(number) != float("inf")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def tables(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(required, optional=optional)


supervisors = tables(
    {},
    {
        "pooling_enabled": st.booleans(),
        "max_frame_bytes": sizes,
        "shutdown_grace_period": zero_or_durations,
    },
)
profile_tables = tables({}, {"kind": st.just("process"), "env": env_tables})

POOL_SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "pool_size": st.integers(1, 500),
    "adapter_env": env_tables,
    "inherit_env": st.booleans() | st.lists(env_names, max_size=3),
    "python": st.sampled_from(["python3.12", ".venv/bin/python", "/usr/bin/python3"]),
    "python_path": st.lists(paths, max_size=3),
    "preload": st.lists(modules, max_size=3),
    "start_method": st.sampled_from(["forkserver", "spawn"]),
    "startup_batch_size": st.integers(1, 100),
    "startup_batch_delay_ms": st.integers(0, 5000),
    "pool_startup_timeout": durations,
    "max_queue_size": st.integers(1, 10**6),
    "queue_timeout": durations_or_infinity,
    "call_timeout": durations_or_infinity,
    "cancel_grace_period": zero_or_durations,
    "worker_shutdown_grace_period": zero_or_durations,
    "direct_calls": st.lists(
        st.builds("{}:{}".format, modules, identifiers | st.just("*")), max_size=3
    ),
    "worker_ttl": durations_or_infinity,
    "worker_max_requests": limits,
    "recycle_jitter": st.integers(0, 100),
    "memory_threshold_mb": st.integers(1, 1000) | st.just("infinity"),
    "memory_limit_mb": st.integers(1000, 10**6) | st.just("infinity"),
    "memory_check_interval": durations,
    "max_surge": st.integers(1, 100),
    "min_workers": st.just("pool_size") | st.just(1),
    "idle_timeout": durations_or_infinity,
    "max_restarts": st.integers(0, 10**6) | st.just("infinity"),
    "max_seconds": durations,
    "max_retries": st.integers(0, 100),
    "request_events": st.booleans(),
    "affinity": st.sampled_from(["hint", "strict_queue", "strict_fail_fast"]),
    "session_ttl": durations_or_infinity,
    "max_sessions": st.integers(1, 10**6),
    "prefetch": st.just("auto") | st.integers(1, 1024),
    "threads_per_worker": st.integers(1, 1024),
    "thread_safety_checks": st.booleans(),
}


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    """A whole valid configuration."""
    tree: dict[str, Any] = {}
    if draw(st.booleans()):
        tree["supervisor"] = draw(supervisors)
    profiles = draw(
        st.dictionaries(
            names.filter(lambda n: n not in ("process", "thread")), profile_tables, max_size=2
        )
        if draw(st.booleans())
        else st.just({})
    )
    if profiles:
        # Each on a kind, or on one before it.
        for index, profile in enumerate(profiles.values()):
            bases = ["process", "thread", *list(profiles)[:index]]
            if draw(st.booleans()):
                profile["kind"] = draw(st.sampled_from(bases))
        tree["profiles"] = profiles
    tree["pools"] = []
    for name in draw(st.lists(names, min_size=1, max_size=2, unique=True)):
        pool = draw(tables({"adapter": modules}, POOL_SETTINGS))
        if draw(st.booleans()):
            pool["adapter"] += ":" + draw(identifiers)
            pool["adapter_args"] = draw(
                st.lists(arguments, max_size=3)
                | st.dictionaries(identifiers, arguments, max_size=3)
            )
        if draw(st.booleans()):
            pool["worker_profile"] = draw(st.sampled_from(["process", "thread", *profiles]))
        tree["pools"].append({"name": name, **pool})
    return tree


class Atom(str):
    """What the host's atoms arrive as: equal to their text, but not plain strings."""

    __slots__ = ()

    def __str__(self) -> str:
        return f":{str.__str__(self)}"

    __repr__ = __str__


@st.composite
def as_term(draw: st.DrawFn, value: Any) -> Any:
    """*value* as a host might send it: atoms or binaries, maps or keyword lists."""
    if isinstance(value, str):
        return draw(st.sampled_from([value, Atom(value)]))
    if isinstance(value, list):
        return [draw(as_term(item)) for item in value]
    if isinstance(value, dict):
        items = [(draw(as_term(key)), draw(as_term(item))) for key, item in value.items()]
        # Among arguments an empty list is a list, so only a map says "empty table" everywhere.
        return draw(st.sampled_from([items, dict(items)])) if items else {}
    return value
