"""What a configuration may have and is hardly meant: it loads, and is warned of."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from snakepit_port.config import load_terms, load_toml_text
from snakepit_port.config.dump import resolved

IN_PROCESSES = (
    "it has no effect in a process pool, whose workers run one call at a time (remove it, or set"
    ' worker_profile = "thread")'
)
ALL_STAY = (
    "it has no effect while min_workers is as large as pool_size: no worker ends (remove it, or set"
    " min_workers)"
)


def warned(*pools: dict[str, Any], **more: Any) -> list[str]:
    named = [{"name": f"p{n}", "adapter": "a", **pool} for n, pool in enumerate(pools)]
    config = load_terms({"pools": named, **more}, "/base")
    return [str(warning) for warning in config.warnings]


@pytest.mark.parametrize(
    ("pool", "told"),
    [
        ({"threads_per_worker": 4}, f"threads_per_worker: {IN_PROCESSES}"),
        ({"thread_safety_checks": True}, f"thread_safety_checks: {IN_PROCESSES}"),
        ({"worker_profile": "own", "threads_per_worker": 4}, f"threads_per_worker: {IN_PROCESSES}"),
        ({"idle_timeout": "1m"}, f"idle_timeout: {ALL_STAY}"),
        ({"idle_timeout": "1m", "min_workers": 3, "pool_size": 3}, f"idle_timeout: {ALL_STAY}"),
    ],
)
def test_settings_without_effect(pool: dict[str, Any], told: str) -> None:
    profiles = {"own": {}}
    assert warned({}, pool, profiles=profiles) == [f'pools[1] "p1": {told}']


def test_settings_with_an_effect(tmp_path: Path) -> None:
    (tmp_path / "packed.zip").touch()
    pools = (
        {"worker_profile": "thread", "threads_per_worker": 4, "thread_safety_checks": True},
        {"worker_profile": "own", "threads_per_worker": 4},
        {"thread_safety_checks": False, "idle_timeout": "infinity"},
        {"idle_timeout": "1m", "min_workers": 1, "pool_size": 2},
        {"python_path": [str(tmp_path), str(tmp_path / "packed.zip")]},
    )
    assert warned(*pools, profiles={"own": {"kind": "thread"}}) == []


def test_a_configuration_that_is_written_out_whole_is_not_warned_of() -> None:
    text = resolved(load_terms({"pools": [{"name": "a", "adapter": "b"}]}, "/base"))
    assert load_toml_text(text, "/base").warnings == ()


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    text = """\
[[pools]]
name = "a"
adapter = "b"
idle_timeout = "1m"
python_path = [
  "lib",
  "lob",
]
"""
    config = load_toml_text(text, tmp_path, "x.toml")
    assert [str(warning) for warning in config.warnings] == [
        f'line 4, pools[0] "a": idle_timeout: {ALL_STAY}',
        f'line 7, pools[0] "a": python_path[1]: there is no folder "{tmp_path}/lob" (a relative'
        f" path starts from {tmp_path})",
    ]
    assert config.warnings[0].file == "x.toml"


def test_a_module_in_the_place_of_its_folder(tmp_path: Path) -> None:
    module = tmp_path / "hello.py"
    module.touch()
    pool = {"name": "a", "adapter": "hello", "python_path": ["hello.py"]}
    (warning,) = load_terms({"pools": [pool]}, tmp_path).warnings
    assert str(warning) == (
        f'pools[0] "a": python_path[0]: "{module}" is a module, where Python looks for nothing'
        " (name the folder that it is in)"
    )


def test_a_folder_that_this_user_cannot_see_is_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root sees everything, so this is what others are told.
    stat, hidden = os.stat, f"{tmp_path}/closed/lib"

    def keeps_out(path: Any, *args: Any, **options: Any) -> os.stat_result:
        if path == hidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "stat", keeps_out)
    pool = {"name": "a", "adapter": "b", "python_path": [hidden]}
    (warning,) = load_terms({"pools": [pool]}, tmp_path).warnings
    assert f'the folder "{hidden}" is not to be seen by user {os.geteuid()}' in str(warning)


def test_a_converted_configuration_is_warned_of_where_it_has_the_key() -> None:
    term = {
        "pool_config": {"adapter_args": ["--adapter", "a.B", "--max-workers", "4"]},
        "adapter_module": "Elixir.Snakepit.Adapters.GRPCPython",
    }
    (warning,) = load_terms(term, "/base").warnings
    assert str(warning) == f"pool_config.adapter_args: {IN_PROCESSES}"


@pytest.mark.parametrize(
    ("names", "warned"),
    [(["a", "b"], True), (["a"], False), (["a", "default"], False), (["default", "b"], False)],
)
def test_several_pools_of_snakepit_without_a_default(names: list[str], warned: bool) -> None:
    """Of ours, calls never went to the first one."""
    pools = [{"name": name, "pool_size": 1} for name in names]
    old = load_terms({"pools": [{**pool, "adapter_spec": "a.B"} for pool in pools]}, "/base")
    told = (
        'pools[0] "a": name: calls that name no pool ran here in Snakepit, and are unknown_pool'
        ' now, as none is named "default" (give them pool: "a", or name this one "default")'
    )
    assert [str(warning) for warning in old.warnings] == [told] * warned
    assert load_terms({"pools": [{**pool, "adapter": "a:B"} for pool in pools]}, "/").warnings == ()
