"""Reading a configuration of Snakepit: every key in it with its rule, and which are unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from snakepit_port.config.kinds import as_table
from snakepit_port.config.legacy_rules import GROUPS, RULES, Rule, rule_for
from snakepit_port.config.report import Mistake, Path, did_you_mean
from snakepit_port.config.settings import POOL, SUPERVISOR

WRAPPER = "snakepit"
"""A table of this name may hold everything: the application's name in ``config :snakepit, ...``."""

POOL_CONFIG = "pool_config"

# Where a key stands, by precedence: what a pool has itself wins over the top level, and that over
# pool_config.
IN_POOL, AT_TOP, IN_POOL_CONFIG = range(3)


@dataclass(eq=False, slots=True)
class Key:
    """A key of the source.

    ``name`` is its path inside the top or a pool, ``pool`` the pool whose alone it is, ``gives``
    the settings it would become, by name, and ``remark`` what its rule has to say of the value.
    """

    path: Path
    name: str
    value: Any
    rule: Rule
    rank: int = AT_TOP
    pool: int | None = None
    gives: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""


@dataclass(slots=True)
class Keys:
    """What is in a source: keys in its order, and mistakes. ``top`` is the path of everything,
    ``pools`` how many pools it names, and ``ours`` has, of the keys in tables of the present form,
    the paths of the settings that they are."""

    top: Path
    pools: int
    all: list[Key]
    ours: dict[Key, Path]
    mistakes: list[Mistake]


def read_keys(tree: Mapping[str, Any]) -> Keys:
    """Everything in *tree*, in its order."""
    source, reader = tree, _Reader(())
    wrapped = tree.get(WRAPPER)
    if isinstance(wrapped, Mapping):
        source, reader = wrapped, _Reader((WRAPPER,))
        for key in tree:
            if key != WRAPPER:
                hint = f"everything belongs into {WRAPPER}, or nothing"
                reader.mistakes.append(((key,), "unknown setting", hint))
    reader.read(source)
    pools = source.get("pools")
    count = len(pools) if isinstance(pools, list) else 0
    return Keys(reader.top, count, reader.keys, reader.ours, reader.mistakes)


class _Reader:
    def __init__(self, top: Path) -> None:
        self.top = top
        self.keys: list[Key] = []
        self.ours: dict[Key, Path] = {}
        self.mistakes: list[Mistake] = []

    def read(self, source: Mapping[str, Any]) -> None:
        for key, value in source.items():
            path = (*self.top, key)
            if key == "pools" and value is not None:
                self._pools(path, value)
            elif key == POOL_CONFIG and value is not None:
                self._table(path, value, IN_POOL_CONFIG)
            elif key in ("supervisor", "profiles"):
                self._ours(path, value)
            else:
                self._key(path, key, source, AT_TOP)

    def _pools(self, path: Path, value: Any) -> None:
        if not isinstance(value, list):
            self.mistakes.append((path, "expected a list of pools", "one map for each pool"))
            return
        if not value:
            self.keys.append(Key(path, "pools", value, Rule(note="it is empty")))
        for index, pool in enumerate(value):
            self._table((*path, index), pool, IN_POOL, index)

    def _table(self, path: Path, value: Any, rank: int, pool: int | None = None) -> None:
        table = as_table(value)
        if table is None:
            self.mistakes.append((path, "expected a map or a keyword list", ""))
            return
        for key in table:
            self._key((*path, key), key, table, rank, pool)

    def _key(
        self, path: Path, key: str, table: Mapping[str, Any], rank: int, pool: int | None = None
    ) -> None:
        value = table[key]
        group = as_table(value) if key in GROUPS else None
        if group:
            for inner, item in group.items():
                self._leaf((*path, inner), f"{key}.{inner}", item, rank, pool)
        elif group is not None or (key in GROUPS and value is None):
            self.keys.append(Key(path, key, value, Rule(note="it is empty"), rank, pool))
        elif key in GROUPS and rule_for(f"{key}.*") is None:
            self.mistakes.append((path, "expected a map or a keyword list", ""))
        elif key == "adapter_args" and has_adapter(table):
            self._leaf(path, key, value, rank, pool, Rule(key))
        else:
            self._leaf(path, key, value, rank, pool)

    def _leaf(
        self,
        path: Path,
        name: str,
        value: Any,
        rank: int,
        pool: int | None,
        rule: Rule | None = None,
    ) -> None:
        rule = rule or rule_for(f"{name}.*" if name in GROUPS else name)
        if name == "adapter" and _is_module(value):
            rule = RULES["adapter_module"]
        elif name in POOL.settings and rule is None:
            rule = Rule(name)
        elif name in (POOL_CONFIG, "pools") and rank == AT_TOP:
            rule = Rule(note="it is empty")
        if rule is None or (rule.at_top and rank != AT_TOP):
            hint = "it belongs to the top level" if rule else _hint(name)
            self.mistakes.append((path, "unknown setting", hint))
            return
        key = Key(path, name, value, rule, rank, pool)
        if value is None and name != "pooling_enabled":
            key.remark = "nil is as if it were not there"
        elif rule.split is not None:
            key.gives, key.remark = rule.split(value)
        elif rule.to:
            key.gives = {rule.to: rule.value(value)}
        self.keys.append(key)

    def _ours(self, path: Path, value: Any) -> None:
        for keys, item in _settings_in(value, depth=2 if path[-1] == "profiles" else 1):
            key = Key((*path, *keys), ".".join((str(path[-1]), *keys)), item, Rule())
            self.keys.append(key)
            self.ours[key] = key.path[len(self.top) :]


def has_adapter(pool: Mapping[str, Any]) -> bool:
    """Whether *pool* names its Python adapter as ours do: its adapter_args are for that then."""
    adapter = pool.get("adapter")
    return adapter is not None and not _is_module(adapter)


def _is_module(value: object) -> bool:
    """Whether *value* is an Elixir module, which is what one of Snakepit's examples has there."""
    return isinstance(value, str) and value.startswith(("Elixir.", "Snakepit."))


def _settings_in(value: Any, depth: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The settings in tables *depth* deep, with their keys; what is no table is one itself."""
    table = as_table(value)
    if depth == 0 or not table:
        yield (), value
        return
    for key, inner in table.items():
        for keys, item in _settings_in(inner, depth - 1):
            yield (key, *keys), item


def _hint(name: str) -> str:
    table, dot, key = name.rpartition(".")
    if dot:
        known = [rule.partition(".")[2] for rule in RULES if rule.startswith(f"{table}.")]
        return did_you_mean(key, known) or f"remove it; known here: {', '.join(known)}"
    if name in SUPERVISOR.settings:
        return f"it is a setting of {SUPERVISOR.title}"
    known = [rule for rule in RULES if "." not in rule and "*" not in rule]
    return did_you_mean(name, [*known, *GROUPS, *POOL.settings, POOL_CONFIG]) or POOL.unknown
