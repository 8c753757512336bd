"""Where the supervisor gets its configuration: from what a host sends, or from a file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from snakepit_port.config import (
    Config,
    ConfigError,
    PoolSettings,
    Problem,
    load_terms,
    load_toml,
)
from snakepit_port.config.report import encodable
from snakepit_port.wire.terms import show


def load(told: Mapping[str, Any], file: object) -> Config | None:
    """The one that is told as terms, in a hello or for a reload; else that of a file. None where
    there is no file, either. Raises `ConfigError`.

    The file has to be a regular one: whoever writes to a pipe may take any time, and meanwhile
    nobody would see the host go, or answer a call.
    """
    if "config" not in told and isinstance(file, str):
        _check_that_it_is_regular(file)
    try:
        if "config" in told:
            return load_terms(told["config"], _folder(told.get("base_dir")))
        return load_toml(file) if isinstance(file, str) else None
    except FileNotFoundError:
        # That a configuration is not there, it says itself; the working directory may be gone.
        message = (
            "the supervisor's working directory is gone, and relative paths start there; start the"
            " supervisor in a folder that stays"
        )
        raise ConfigError([Problem("", message)]) from None


def _folder(base_dir: object) -> str:
    if base_dir is None or base_dir == "":
        return os.getcwd()
    if not isinstance(base_dir, str):
        message = f"expected the path of a folder, found {show(base_dir)}"
        raise ConfigError([Problem("base_dir", message)])
    return str(base_dir)


def _check_that_it_is_regular(file: str) -> None:
    # One that is not there, or that cannot be read, is told of by whoever reads it.
    if os.path.exists(file) and not os.path.isfile(file):
        message = "this is no regular file, and the supervisor waits for nobody who writes one"
        raise ConfigError([Problem("", message, "", encodable(file))])


def stop_time(config: Config, leaving: Iterable[PoolSettings] = ()) -> int:
    """What a host is told of how long an orderly stop may take, in milliseconds: calls finish, or
    are interrupted, and then workers end, those of pools that a reload has removed as well."""
    pools = (*config.enabled_pools, *leaving)
    workers = [pool.cancel_grace_period + pool.worker_shutdown_grace_period for pool in pools]
    return round((config.supervisor.shutdown_grace_period + max(workers, default=0.0)) * 1000)


def call_timeouts(config: Config) -> dict[str, int | None]:
    """What a host is told of the deadlines of calls that bring none: by pool, in milliseconds; None
    where there is none."""
    return {
        pool.name: None if pool.call_timeout == math.inf else round(pool.call_timeout * 1000)
        for pool in config.enabled_pools
    }
