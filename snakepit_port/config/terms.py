"""Configurations that the host sends: maps or keyword lists with atom or binary keys."""

from __future__ import annotations

import os
from typing import Any

from snakepit_port.config.check import check
from snakepit_port.config.model import Config, ConfigError, Problem
from snakepit_port.config.report import Mistake, Path, found, place_of

# Far beyond any real configuration, and within what Python and TOML readers can recurse into.
MAX_DEPTH = 64


def load_terms(term: object, base_dir: str | os.PathLike[str]) -> Config:
    """The configuration in *term*; relative paths in it start from *base_dir*.

    A list of two-tuples that begin with a string is a keyword list. Atoms may be any subclass of
    str and end up as plain strings.

    Raises ConfigError with everything that is wrong.
    """
    mistakes: list[Mistake] = []
    tree = plain_tree(term, mistakes)
    return check(tree, base_dir, mistakes=mistakes)


def plain_tree(term: object, mistakes: list[Mistake]) -> dict[str, Any]:
    """*term* as plain dicts, lists and strings. What cannot be one is added to *mistakes*.

    Raises ConfigError for a term that is no table, or nested too deeply.
    """
    tree = _plain(term, (), mistakes)
    if tree == [] and isinstance(tree, list):
        tree = {}
    if not isinstance(tree, dict):
        message = f"expected a map or a keyword list, found {found(tree)}"
        raise ConfigError([Problem("", message)])
    return tree


def _plain(term: object, path: Path, mistakes: list[Mistake]) -> Any:
    """*term* as plain dicts, lists and strings; anything else is left for the check to judge."""
    if len(path) > MAX_DEPTH:
        place = place_of(path[:3], None)
        hint = f"the limit is {MAX_DEPTH} levels"
        raise ConfigError([Problem(place, "nested too deeply", hint)])
    if isinstance(term, str):
        return str.__str__(term)
    if isinstance(term, dict):
        return _table(list(term.items()), path, mistakes)
    if isinstance(term, list):
        if term and all(_is_pair(item) for item in term):
            return _table(term, path, mistakes)
        return [_plain(item, (*path, index), mistakes) for index, item in enumerate(term)]
    return term


def _is_pair(item: object) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)


def _table(items: list[tuple[Any, Any]], path: Path, mistakes: list[Mistake]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in items:
        if not isinstance(key, str):
            mistakes.append(
                (path, f"expected keys to be atoms or binaries, found {found(key)}", "")
            )
            continue
        name = str.__str__(key)
        if name in table:
            mistakes.append(((*path, name), "set twice", ""))
            continue
        table[name] = _plain(value, (*path, name), mistakes)
    return table
