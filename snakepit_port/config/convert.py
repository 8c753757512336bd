"""Converting a configuration of Snakepit once and for all: to TOML that needs it no more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import tomlkit

from snakepit_port.config import legacy, legacy_python
from snakepit_port.config.changes import Change
from snakepit_port.config.legacy_toml import write
from snakepit_port.config.model import ConfigError, Problem
from snakepit_port.config.terms import load_terms, plain_tree
from snakepit_port.config.toml import load_toml_text, read_toml

Converted = tuple[str, tuple[Change, ...]]
"""TOML text, and what became of each key; nothing, if the text was no configuration of Snakepit."""


def convert_toml(
    path: str | os.PathLike[str], folder: Path | None = None, data: bytes | None = None
) -> Converted:
    """The file *path* converted, with its comments; *folder* is where the result will be, *data*
    what was read from the file already.

    A file that is not Snakepit's stays as it is.

    Raises ConfigError with everything that is wrong.
    """
    text = read_toml(path, data)
    home = Path(os.path.abspath(path)).parent
    load_toml_text(text, home, os.fspath(path))
    tree = tomlkit.parse(text).unwrap()
    if not legacy.recognised(tree):
        return text, ()
    conversion = legacy.convert(tree, legacy_python.find(home))
    return write(_moved(conversion, home, folder), text), conversion.changes


def convert_terms(term: Any, home: str | os.PathLike[str], folder: Path | None = None) -> Converted:
    """The *term* of a host converted; relative paths in it start from *home*.

    Raises ConfigError with everything that is wrong.
    """
    load_terms(term, home)
    tree = plain_tree(term, [])
    if not legacy.recognised(tree):
        message = "this is not a configuration of Snakepit: there is nothing to convert"
        raise ConfigError([Problem("", message)])
    conversion = legacy.convert(_names_first(tree), legacy_python.find(home))
    return write(_moved(conversion, Path(os.path.abspath(home)), folder)), conversion.changes


def _names_first(tree: dict[str, Any]) -> dict[str, Any]:
    """A map has its keys in no order of its author's: that of a pool's name is the first."""
    pools = tree.get("pools")
    if not isinstance(pools, list):
        return tree
    ordered = [
        {"name": pool["name"], **pool} if isinstance(pool, dict) and "name" in pool else pool
        for pool in pools
    ]
    return {**tree, "pools": ordered}


def _moved(conversion: legacy.Conversion, home: Path, folder: Path | None) -> legacy.Conversion:
    """*conversion* with relative paths that start from *folder*, where they start from *home*."""
    if folder is None or folder == home:
        return conversion

    def moved(path: str) -> str:
        return path if os.path.isabs(path) else os.path.relpath(home / path, folder)

    def value_of(name: str | int, value: Any) -> Any:
        if name == "python" and "/" in value:
            return moved(value)
        return [moved(item) for item in value] if name == "python_path" else value

    return conversion.with_values(value_of)
