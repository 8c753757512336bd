"""What a configuration may have and is hardly meant: settings without effect, folders that are not
there. Converted configurations of Snakepit often have some, so none of it is refused."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

from snakepit_port.config.model import Config, PoolSettings
from snakepit_port.config.report import Mistake, quoted
from snakepit_port.config.settings import POOL

#: The longest path that Linux takes: what is wrong with one is mostly at its end, so none is cut.
_LONGEST_PATH = 4096


def warnings(config: Config, base_dir: str) -> Iterator[Mistake]:
    """Everything to warn of in *config*, whose relative paths started from *base_dir*.

    A setting that has its default is as if it were not there: a configuration that is written out
    whole has them all.
    """
    for index, pool in enumerate(config.pools):
        for name, message, hint in _without_effect(config, pool):
            yield ("pools", index, name), message, hint
        for number, folder in enumerate(pool.python_path):
            shown = quoted(folder, _LONGEST_PATH)
            # What is no folder may be a zip file.
            if not os.path.exists(folder):
                message = f"there is no folder {shown}"
                if _is_hidden(folder):
                    message = f"the folder {shown} is not to be seen by user {os.geteuid()}"
                hint = f"a relative path starts from {base_dir}"
            elif folder.endswith(".py") and os.path.isfile(folder):
                message = f"{shown} is a module, where Python looks for nothing"
                hint = "name the folder that it is in"
            else:
                continue
            yield ("pools", index, "python_path", number), message, hint


def _is_hidden(path: str) -> bool:
    """Whether a folder above keeps this user from telling that it is there."""
    try:
        os.stat(path)
    except (OSError, ValueError) as exc:
        return isinstance(exc, PermissionError)
    return False


def _without_effect(config: Config, pool: PoolSettings) -> Iterator[tuple[str, str, str]]:
    """The settings of a pool that change nothing, with the reason and what to do."""
    if config.profile_of(pool).kind == "process":
        for name in ("threads_per_worker", "thread_safety_checks"):
            if getattr(pool, name) != _default(name):
                message = "it has no effect in a process pool, whose workers run one call at a time"
                yield name, message, 'remove it, or set worker_profile = "thread"'
    keeps_all = pool.min_workers in ("pool_size", pool.pool_size)
    if keeps_all and pool.idle_timeout not in (_default("idle_timeout"), math.inf):
        message = "it has no effect while min_workers is as large as pool_size: no worker ends"
        yield "idle_timeout", message, "remove it, or set min_workers"


def _default(name: str) -> Any:
    return POOL.default_of(POOL.settings[name])
