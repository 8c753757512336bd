"""The environment of a pool's workers, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from snakepit_port.config.model import PoolSettings, ProfileSettings

# The thread pools that numeric libraries size when they are loaded. A worker runs one call at a
# time and a pool has about as many workers as there are CPUs, so more threads only get in each
# other's way.
PROCESS_THREADS = {
    "OMP_NUM_THREADS": "1",  # the OpenMP specification: libgomp, libomp, and what is built on them
    "OPENBLAS_NUM_THREADS": "1",  # OpenBLAS, in the wheels of NumPy and SciPy
    "MKL_NUM_THREADS": "1",  # Intel oneMKL
    "NUMEXPR_NUM_THREADS": "1",  # NumExpr
    "VECLIB_MAXIMUM_THREADS": "1",  # Apple's Accelerate (vecLib)
    "BLIS_NUM_THREADS": "1",  # BLIS, also AMD's
    "POLARS_MAX_THREADS": "1",  # Polars
    "RAYON_NUM_THREADS": "1",  # Rayon, under libraries written in Rust such as tokenizers
    "NUMBA_NUM_THREADS": "1",  # Numba's parallel loops
}
KIND_ENV = {"process": PROCESS_THREADS}


def effective_environment(
    pool: PoolSettings, profile: ProfileSettings, inherited: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """The whole environment of the workers of *pool*: the value of each variable and its source.

    *profile* is ``Config.profile_of(pool)`` and *inherited* the supervisor's own environment.
    Later layers win: what is inherited, the defaults of the profile's kind, the named profile,
    the pool's ``adapter_env``. So a thread limit that is only inherited does not reach workers;
    one in a named profile or in ``adapter_env`` does.
    """
    return {
        name: (value, source)
        for source, layer in _layers(pool, profile, inherited)
        for name, value in layer.items()
    }


def _layers(
    pool: PoolSettings, profile: ProfileSettings, inherited: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, str]]]:
    if pool.inherit_env is True:
        yield "inherited", inherited
    elif pool.inherit_env:
        yield "inherited", {name: inherited[name] for name in pool.inherit_env if name in inherited}
    yield f"kind {profile.kind}", KIND_ENV[profile.kind]
    yield f"profile {profile.name}", profile.env
    yield "adapter_env", pool.adapter_env
