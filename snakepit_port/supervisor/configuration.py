"""Where the supervisor gets its configuration: from what a host sends, or from a file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snakepit_port.config import Config, ConfigError, Problem, load_terms, load_toml


def load_sent(said: Mapping[str, Any]) -> Config:
    """The `config` of hello, or of a reload. Raises `ConfigError`."""
    with _relative_paths():
        base_dir = said.get("base_dir") or os.getcwd()
        return load_terms(said["config"], Path(str(base_dir)))


def load_file(path: str) -> Config:
    """Raises `ConfigError`."""
    with _relative_paths():
        return load_toml(path)


@contextmanager
def _relative_paths() -> Iterator[None]:
    """They start from the working directory, which may have been removed."""
    try:
        yield
    except FileNotFoundError:
        message = (
            "the supervisor's working directory is gone, and relative paths start there; start the"
            " supervisor in a folder that stays"
        )
        raise ConfigError([Problem("", message)]) from None
