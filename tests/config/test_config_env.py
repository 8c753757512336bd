"""The environment of workers: which layer wins, and where each value came from."""

from __future__ import annotations

from typing import Any

import pytest
from config_trees import env_names, no_nul, quick
from hypothesis import given
from hypothesis import strategies as st

from snakepit_port.config import PoolSettings, Profile, ProfileSettings, load_terms
from snakepit_port.config.env import THREAD_LIMITS, effective_environment

BARE = Profile("process")


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


def named(env: dict[str, str]) -> Profile:
    return Profile("process", (ProfileSettings(name="named", env=env),))


def test_in_a_thread_profile_they_get_as_many_as_the_worker_has() -> None:
    environment = effective_environment(pool(threads_per_worker=4), Profile("thread"), {})
    assert environment == dict.fromkeys(THREAD_LIMITS, ("4", "kind thread"))


def test_a_profile_inherits_from_the_one_it_builds_on() -> None:
    tree = {
        "profiles": {
            "gpu": {"kind": "base", "env": {"CUDA_VISIBLE_DEVICES": "0", "B": "gpu"}},
            "base": {"kind": "thread", "env": {"A": "base", "B": "base"}},
        },
        "pools": [{"name": "a", "adapter": "b", "worker_profile": "gpu", "inherit_env": False}],
    }
    config = load_terms(tree, "/base")
    profile = config.profile_of(config.pools[0])
    assert profile.kind == "thread"
    environment = effective_environment(config.pools[0], profile, {})
    assert environment["A"] == ("base", "profile base")
    assert environment["B"] == ("gpu", "profile gpu")
    assert environment["CUDA_VISIBLE_DEVICES"] == ("0", "profile gpu")
    assert environment["OMP_NUM_THREADS"] == ("10", "kind thread")


def test_later_layers_win() -> None:
    inherited = {"OMP_NUM_THREADS": "8", "A": "inherited", "B": "inherited", "PATH": "/bin"}
    profile = named({"B": "profile", "C": "profile"})
    own = pool(adapter_env={"C": "pool", "MKL_NUM_THREADS": "4"})
    environment = effective_environment(own, profile, inherited)
    assert environment["OMP_NUM_THREADS"] == ("1", "kind process")
    assert environment["MKL_NUM_THREADS"] == ("4", "adapter_env")
    assert environment["A"] == ("inherited", "inherited")
    assert environment["B"] == ("profile", "profile named")
    assert environment["C"] == ("pool", "adapter_env")
    assert environment["PATH"] == ("/bin", "inherited")


@pytest.mark.parametrize(
    ("inherit_env", "expected"),
    [(True, {"PATH", "HOME"}), (False, set()), ((), set()), (("HOME", "LANG"), {"HOME"})],
)
def test_what_is_inherited(inherit_env: bool | tuple[str, ...], expected: set[str]) -> None:
    inherited = {"PATH": "/bin", "HOME": "/home/ada"}
    environment = effective_environment(pool(inherit_env=inherit_env), BARE, inherited)
    assert environment.keys() - set(THREAD_LIMITS) == expected


environments = st.dictionaries(env_names | st.sampled_from(THREAD_LIMITS), no_nul)


@quick
@given(environments, environments, environments)
def test_the_last_layer_that_has_a_name_decides(
    inherited: dict[str, str], env: dict[str, str], own: dict[str, str]
) -> None:
    environment = effective_environment(pool(adapter_env=own), named(env), inherited)
    merged = inherited | dict.fromkeys(THREAD_LIMITS, "1") | env | own
    assert {name: value for name, (value, _) in environment.items()} == merged
