"""The environment of workers: which layer wins, and where each value came from."""

from __future__ import annotations

from typing import Any

import pytest
from config_trees import env_names, no_nul, quick
from hypothesis import given
from hypothesis import strategies as st

from snakepit_port.config import PoolSettings, ProfileSettings
from snakepit_port.config.env import PROCESS_THREADS, effective_environment

BARE = ProfileSettings(name="process")


def pool(**settings: Any) -> PoolSettings:
    return PoolSettings(name="default", adapter="my_app", **settings)


def test_numeric_libraries_get_one_thread() -> None:
    assert effective_environment(pool(), BARE, {}) == dict.fromkeys(
        [
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "MKL_NUM_THREADS",
            "NUMEXPR_NUM_THREADS",
            "VECLIB_MAXIMUM_THREADS",
            "BLIS_NUM_THREADS",
            "POLARS_MAX_THREADS",
            "RAYON_NUM_THREADS",
            "NUMBA_NUM_THREADS",
        ],
        ("1", "kind process"),
    )


def test_later_layers_win() -> None:
    inherited = {"OMP_NUM_THREADS": "8", "A": "inherited", "B": "inherited", "PATH": "/bin"}
    profile = ProfileSettings(name="gpu", env={"B": "profile", "C": "profile"})
    own = pool(adapter_env={"C": "pool", "MKL_NUM_THREADS": "4"})
    environment = effective_environment(own, profile, inherited)
    assert environment["OMP_NUM_THREADS"] == ("1", "kind process")
    assert environment["MKL_NUM_THREADS"] == ("4", "adapter_env")
    assert environment["A"] == ("inherited", "inherited")
    assert environment["B"] == ("profile", "profile gpu")
    assert environment["C"] == ("pool", "adapter_env")
    assert environment["PATH"] == ("/bin", "inherited")


@pytest.mark.parametrize(
    ("inherit_env", "expected"),
    [(True, {"PATH", "HOME"}), (False, set()), ((), set()), (("HOME", "LANG"), {"HOME"})],
)
def test_what_is_inherited(inherit_env: bool | tuple[str, ...], expected: set[str]) -> None:
    inherited = {"PATH": "/bin", "HOME": "/home/ada"}
    environment = effective_environment(pool(inherit_env=inherit_env), BARE, inherited)
    assert environment.keys() - PROCESS_THREADS.keys() == expected


environments = st.dictionaries(env_names | st.sampled_from(sorted(PROCESS_THREADS)), no_nul)


@quick
@given(environments, environments, environments)
def test_the_last_layer_that_has_a_name_decides(
    inherited: dict[str, str], named: dict[str, str], own: dict[str, str]
) -> None:
    profile = ProfileSettings(name="p", env=named)
    environment = effective_environment(pool(adapter_env=own), profile, inherited)
    merged = inherited | PROCESS_THREADS | named | own
    assert {name: value for name, (value, _) in environment.items()} == merged
