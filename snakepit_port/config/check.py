"""From a plain tree to a ``Config``, or to everything that is wrong with the tree."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from snakepit_port.config import legacy, legacy_python, meant
from snakepit_port.config.kinds import as_table
from snakepit_port.config.model import (
    PROFILE_KINDS,
    Config,
    ConfigError,
    PoolSettings,
    Problem,
    ProfileSettings,
    SupervisorSettings,
)
from snakepit_port.config.report import (
    INVALID,
    At,
    Mistake,
    Path,
    did_you_mean,
    found,
    place_of,
    quoted,
)
from snakepit_port.config.settings import (
    POOL,
    PROFILE,
    SECTIONS,
    SUPERVISOR,
    Section,
)
from snakepit_port.config.warn import warnings

NO_POOLS_HINT = "a configuration needs at least one pool with a name and an adapter"


def check(
    tree: Mapping[str, Any],
    base_dir: str | os.PathLike[str],
    *,
    mistakes: list[Mistake],
    file: str | None = None,
    lines: Callable[[], Mapping[Path, int]] = dict,
) -> Config:
    """The configuration in *tree*, a tree of plain dicts, lists and scalars; relative paths in it
    start from *base_dir*.

    *mistakes* are those found while the tree was made. *lines* is asked only when there are
    mistakes or warnings, for the lines on which paths are set.

    A configuration of Snakepit is converted first; mistakes name the keys that were written.

    Raises ConfigError with every mistake, those of a file in the order of its lines.
    """
    folder = _real(base_dir)
    old = None
    if legacy.recognised(tree):
        old = legacy.convert(tree, legacy_python.find(folder))

    def source_of(path: Path) -> Path:
        return path if old is None else old.source_of(path)

    def report(path: Path, message: str, hint: str) -> None:
        mistakes.append((source_of(path), message, hint))

    def problems(mistakes: list[Mistake]) -> list[Problem]:
        line_of = lines()
        problems = [
            Problem(place_of(path, tree), message, hint, file, _line(path, line_of))
            for path, message, hint in mistakes
        ]
        return sorted(problems, key=lambda problem: problem.line or 0)

    if old is not None:
        mistakes += old.mistakes
    config = _config(tree if old is None else old.tree(), At(report, folder))
    if not mistakes and config is not None:
        doubts = [
            (source_of(path), message, hint)
            for path, message, hint in (*(old.doubts if old else ()), *warnings(config, folder))
        ]
        return replace(
            config,
            changes=() if old is None else old.changes,
            warnings=tuple(problems(doubts)) if doubts else (),
        )
    raise ConfigError(problems(mistakes))


def _real(folder: str | os.PathLike[str]) -> str:
    """*folder* without links: Mix makes one of an application's `priv`, say. Python looks for its
    virtual environment in the path that it is started by, and takes the folder before `..` away
    from that as text, where the system goes to the parent of what a link leads to.
    """
    try:
        return os.path.realpath(folder)
    except ValueError:
        # No folder has such a name, and paths that start from it are refused.
        return os.path.abspath(folder)


def _line(path: Path, line_of: Mapping[Path, int]) -> int | None:
    """The line of *path*, or of the nearest thing around it that is in the file."""
    for length in range(len(path), 0, -1):
        if path[:length] in line_of:
            return line_of[path[:length]]
    return None


def _config(tree: Mapping[str, Any], at: At) -> Config | None:
    if not tree:
        at.wrong("the configuration is empty", NO_POOLS_HINT)
        return None
    unknown = [key for key in tree if key not in SECTIONS]
    for key in unknown:
        hint = did_you_mean(key, SECTIONS) or f"remove it; known here: {', '.join(SECTIONS)}"
        at.child(key).wrong("unknown setting", _elsewhere(key) or hint)
    supervisor = _read(SUPERVISOR, tree.get("supervisor", {}), at.child("supervisor"))
    profiles = _profiles(tree.get("profiles", {}), at.child("profiles"))
    disabled = supervisor is not INVALID and supervisor.get("pooling_enabled") is False
    if disabled and tree.get("pools", []) == []:
        pools = []
    elif "pools" in tree or not unknown:
        pools = _pools(tree.get("pools", []), tree.get("profiles", {}), at.child("pools"))
    else:
        pools = INVALID
    if INVALID in (supervisor, profiles, pools):
        return None
    return Config(
        SupervisorSettings(**supervisor),
        {name: ProfileSettings(name=name, **values) for name, values in profiles.items()},
        tuple(PoolSettings(**values) for values in pools),
    )


def _read(section: Section, value: object, at: At) -> Any:
    """The checked values of one table, by name, or ``INVALID``."""
    table = as_table(value)
    if table is None:
        return at.unexpected("a table", value)
    values = {}
    for key in table:
        if key not in section.settings:
            hint = _hint(key, section)
            values[key] = at.child(key).wrong("unknown setting", hint)
    for name, setting in section.settings.items():
        if name in table:
            values[name] = setting.kind.parse(table[name], at.child(name))
        elif section.is_required(setting):
            values[name] = at.child(name).wrong(f"missing; expected {setting.kind.expects}")
    return INVALID if any(value is INVALID for value in values.values()) else values


def _hint(key: str, section: Section) -> str:
    """What to do with a key that is no setting of a section."""
    if section is POOL and key in meant.POOL_SETTINGS:
        return f"did you mean {meant.POOL_SETTINGS[key]}?"
    return _elsewhere(key) or did_you_mean(key, section.settings) or section.unknown


def _elsewhere(key: str) -> str:
    """A hint for a setting that exists, but in another table."""
    homes = [section.title for section in SECTIONS.values() if key in section.settings]
    return f"it is a setting of {' and '.join(homes)}" if homes else ""


def _profiles(value: object, at: At) -> Any:
    table = as_table(value)
    if table is None:
        return at.unexpected("a table of named profiles", value)
    profiles = {}
    for name, settings in table.items():
        profiles[name] = _read(PROFILE, settings, at.child(name))
        if name in PROFILE_KINDS:
            profiles[name] = at.child(name).wrong(
                "this is the name of a built-in profile", "choose another name"
            )
        elif POOL.settings["worker_profile"].kind.parse(name, at.child(name)) is INVALID:
            profiles[name] = INVALID
    ending: set[str] = set()
    for name in table:
        _check_what_it_builds_on(name, table, ending, at)
    return INVALID if any(profile is INVALID for profile in profiles.values()) else profiles


def _check_what_it_builds_on(name: str, table: Mapping[str, Any], ending: set[str], at: At) -> None:
    """Whether a profile ends at a built-in kind. What is wrong with profiles on its way is reported
    there. `ending` are those that were seen to end somewhere; whatever is on the way of one that
    does is added, so that no way is gone twice."""
    way = {name: None}
    last = name
    while True:
        kind = (as_table(table[last]) or {}).get("kind", "process")
        if not isinstance(kind, str) or kind in PROFILE_KINDS or kind in ending:
            ending.update(way)
            return
        if kind not in table:
            ending.update(way)
            if last == name:
                known = [*PROFILE_KINDS, *(other for other in table if other != name)]
                hint = did_you_mean(kind, known) or f"known here: {', '.join(known)}"
                at.child(name).child("kind").wrong(f"no profile is named {found(kind)}", hint)
            return
        if kind in way:
            if kind == name:
                circle = " -> ".join(map(quoted, [*way, kind]))
                at.child(name).child("kind").wrong(
                    f"the profile builds on itself ({circle})",
                    f"have one of them build on {' or '.join(map(quoted, PROFILE_KINDS))}",
                )
            return
        way[kind] = None
        last = kind


def _pools(value: object, profiles: object, at: At) -> Any:
    if not isinstance(value, list):
        hint = (
            "one entry for each pool: [[pools]] in TOML, a list of maps or keyword lists in terms"
        )
        return at.unexpected("a list of pools", value, hint)
    if not value:
        return at.wrong("no pool is defined", NO_POOLS_HINT)
    known_profiles = [*PROFILE_KINDS, *(as_table(profiles) or {})]
    first_with: dict[str, int] = {}
    pools = []
    for index, table in enumerate(value):
        pool = _read(POOL, table, at.child(index))
        if isinstance(table, Mapping):
            valid = _check_together(table, known_profiles, at.child(index))
            name = table.get("name")
            if isinstance(name, str) and first_with.setdefault(name, index) != index:
                first = first_with[name]
                valid = at.child(index).child("name").wrong(f"pools[{first}] has this name too")
            pool = INVALID if valid is INVALID else pool
        pools.append(pool)
    return INVALID if any(pool is INVALID for pool in pools) else pools


def _check_together(pool: Mapping[str, Any], known_profiles: list[str], at: At) -> Any:
    """What no setting shows alone. Settings that are wrong by themselves are passed over."""
    valid: Any = None
    profile = pool.get("worker_profile", "process")
    if isinstance(profile, str) and profile and profile not in known_profiles:
        hint = did_you_mean(profile, known_profiles) or "profiles are defined under profiles.NAME"
        message = f"no profile is named {found(profile)}"
        valid = at.child("worker_profile").wrong(message, hint)
    pool_size, min_workers = pool.get("pool_size"), pool.get("min_workers")
    if type(pool_size) is int and type(min_workers) is int and min_workers > pool_size > 0:
        valid = at.child("min_workers").wrong(
            f"{min_workers} is more than pool_size, {pool_size}", "lower it, or raise pool_size"
        )
    threshold, limit = pool.get("memory_threshold_mb"), pool.get("memory_limit_mb")
    if type(threshold) is int and type(limit) is int and threshold > limit > 0:
        valid = at.child("memory_threshold_mb").wrong(
            f"{threshold} is more than memory_limit_mb, {limit}: a worker would be killed before"
            " it is recycled",
            "set it lower than memory_limit_mb",
        )
    adapter = pool.get("adapter")
    if pool.get("adapter_args") and isinstance(adapter, str) and ":" not in adapter:
        valid = at.child("adapter_args").wrong(
            "the adapter is a module, which takes no arguments",
            'name a class in adapter, as "module:Class"',
        )
    return valid
