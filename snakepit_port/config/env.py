"""The environment of a pool's workers, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from snakepit_port.config.model import PoolSettings, Profile

# What limits the thread pools that numeric libraries make when they are loaded. A process profile
# has about as many workers as there are CPUs and each runs one call, so more than one thread only
# gets in others' way; a worker of a thread profile is the only one, and has its own threads' CPUs.
THREAD_LIMITS = (
    "OMP_NUM_THREADS",  # the OpenMP specification: libgomp, libomp, and what is built on them
    "OPENBLAS_NUM_THREADS",  # OpenBLAS, in the wheels of NumPy and SciPy
    "MKL_NUM_THREADS",  # Intel oneMKL
    "NUMEXPR_NUM_THREADS",  # NumExpr
    "VECLIB_MAXIMUM_THREADS",  # Apple's Accelerate (vecLib)
    "BLIS_NUM_THREADS",  # BLIS, also AMD's
    "POLARS_MAX_THREADS",  # Polars
    "RAYON_NUM_THREADS",  # Rayon, under libraries written in Rust such as tokenizers
    "NUMBA_NUM_THREADS",  # Numba's parallel loops
)


def effective_environment(
    pool: PoolSettings, profile: Profile, inherited: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """The whole environment of the workers of *pool*: the value of each variable and its source.

    *profile* is ``Config.profile_of(pool)`` and *inherited* the supervisor's own environment.
    Later layers win: what is inherited, the defaults of the profile's kind, the named profiles from
    the one built on the kind to the pool's, the pool's ``adapter_env``. So a thread limit that is
    only inherited does not reach workers; one in a named profile or in ``adapter_env`` does.
    """
    return {
        name: (value, source)
        for source, layer in _layers(pool, profile, inherited)
        for name, value in layer.items()
    }


def _layers(
    pool: PoolSettings, profile: Profile, inherited: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, str]]]:
    if pool.inherit_env is True:
        yield "inherited", inherited
    elif pool.inherit_env:
        yield "inherited", {name: inherited[name] for name in pool.inherit_env if name in inherited}
    threads = pool.threads_per_worker if profile.kind == "thread" else 1
    yield f"kind {profile.kind}", dict.fromkeys(THREAD_LIMITS, str(threads))
    for named in profile.named:
        yield f"profile {named.name}", named.env
    yield "adapter_env", pool.adapter_env
