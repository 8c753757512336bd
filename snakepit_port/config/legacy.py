"""Configurations of Snakepit v0.5 and v0.6: recognising one, and what it is as one of ours.

Conversion is pure and total: any tree becomes a tree of settings, with a note of what became of
each key and where each setting came from. It judges nothing but keys that nobody knows and what
cannot be guessed; the values are checked afterwards, like those of any configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from snakepit_port.config import legacy_values as values
from snakepit_port.config.changes import Change, Outcome
from snakepit_port.config.kinds import as_table
from snakepit_port.config.legacy_rules import (
    DEFAULT_ADAPTER,
    GROUPS,
    PYTHON_MODULES,
    READ_BY_V05,
    RULES,
    Rule,
    rule_for,
)
from snakepit_port.config.report import Path, did_you_mean, place_of, quoted
from snakepit_port.config.settings import POOL, SECTIONS, SUPERVISOR

Mistake = tuple[Path, str, str]

WRAPPER = "snakepit"
"""A table of this name may hold everything: the application's name in ``config :snakepit, ...``."""

_POOL_CONFIG = "pool_config"
_PASSED_ON = ("supervisor", "profiles")
_TABLES = ("supervisor.", "limits.")
_ADAPTER_KEYS = ("adapter", "adapter_args", "adapter_spec", "python_adapter")
_IGNORED = "Snakepit v0.5.1 ignored it"


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of the source: what became of it, and the settings it became, by their paths."""

    path: Path
    value: Any
    change: Change
    settings: tuple[tuple[Path, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Conversion:
    """A converted configuration. ``added`` are settings without a key, with the reason for each;
    ``pools_at`` is where the source has its pools, if it names any;
    ``mistakes`` are keys that nobody knows, and what cannot be guessed, at paths of the source."""

    pools: int
    pools_at: Path | None
    entries: tuple[Entry, ...]
    added: tuple[tuple[Path, Any, str], ...]
    mistakes: tuple[Mistake, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        """What became of each key, in the order of the source."""
        return tuple(entry.change for entry in self.entries)

    def settings(self) -> Iterator[tuple[Path, Any]]:
        """Every setting: those added first, then in the order of the source."""
        for path, value, _ in self.added:
            yield path, value
        for entry in self.entries:
            yield from entry.settings

    def tree(self) -> dict[str, Any]:
        """The configuration as a tree for the check."""
        pools: list[dict[str, Any]] = [{} for _ in range(self.pools)]
        tree: dict[str, Any] = {"pools": pools}
        for path, value in self.settings():
            table: dict[Any, Any] = tree
            *keys, name = path
            if path[0] == "pools":
                table, keys = pools[int(path[1])], keys[2:]
            for key in keys:
                table = table.setdefault(key, {})
            table[name] = value
        return tree

    def with_values(self, value_of: Callable[[str | int, Any], Any]) -> Conversion:
        """The same with other values: *value_of* gives them, of a setting's name and value."""
        entries = (
            replace(
                entry,
                settings=tuple((path, value_of(path[-1], value)) for path, value in entry.settings),
            )
            for entry in self.entries
        )
        return replace(self, entries=tuple(entries))

    def source_of(self, path: Path) -> Path:
        """The path in the source of what is at *path* in the tree, or of what is around it."""
        for entry in self.entries:
            for target, _ in entry.settings:
                if path[: len(target)] == target:
                    return entry.path + path[len(target) :]
        if path[:1] == ("pools",) and self.pools_at is not None:
            return self.pools_at + path[1:]
        return ()


def recognised(tree: Mapping[str, Any]) -> bool:
    """Whether *tree* is a configuration of Snakepit: has a key that only Snakepit's have."""
    if isinstance(tree.get(WRAPPER), Mapping):
        return True
    if any(_is_old(key) or _is_of_the_top(key) for key in tree):
        return True
    pools = tree.get("pools")
    return isinstance(pools, list) and any(
        isinstance(pool, Mapping)
        and (any(_is_old(key) for key in pool) or "adapter" in _split_arguments(pool))
        for pool in pools
    )


def _is_old(key: str) -> bool:
    if key in SECTIONS or any(key in section.settings for section in SECTIONS.values()):
        return False
    return key == _POOL_CONFIG or key in GROUPS or rule_for(key) is not None


def _is_of_the_top(key: str) -> bool:
    return key in RULES and RULES[key].at_top


def _split_arguments(pool: Mapping[str, Any]) -> Mapping[str, Any]:
    return values.split_arguments(pool.get("adapter_args", []))[0]


def convert(tree: Mapping[str, Any]) -> Conversion:
    """What *tree*, a configuration of Snakepit as plain dicts, lists and scalars, is as ours."""
    return _Converter(tree).result()


@dataclass(eq=False, slots=True)
class _Leaf:
    """A key of the source. ``pool`` is the pool whose it is alone; ``rank`` is its precedence:
    a pool's own before the top level's before those of ``pool_config``."""

    path: Path
    name: str
    value: Any
    rule: Rule
    rank: int
    pool: int | None = None
    gives: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""
    became: list[tuple[Path, Any]] = field(default_factory=list)
    won: bool = False
    lost_to: _Leaf | None = None
    outcome: Outcome | None = None

    def serves(self, pool: int) -> bool:
        return self.pool is None or self.pool == pool


class _Converter:
    def __init__(self, tree: Mapping[str, Any]) -> None:
        self._tree = tree
        self._leaves: list[_Leaf] = []
        self._mistakes: list[Mistake] = []
        self._added: list[tuple[Path, Any, str]] = []
        wrapped = tree.get(WRAPPER)
        self._top: Path = (WRAPPER,) if isinstance(wrapped, Mapping) else ()
        self._source: Mapping[str, Any] = wrapped if isinstance(wrapped, Mapping) else tree
        pools = self._source.get("pools")
        self._pools = len(pools) if isinstance(pools, list) and pools else 1
        self._has_pools = isinstance(pools, list) and bool(pools)
        self._read()
        self._by_v05 = not self._has_pools and not any(leaf.rule.new for leaf in self._leaves)

    # -- reading ------------------------------------------------------------------------------

    def _read(self) -> None:
        if self._top:
            for key in self._tree:
                if key != WRAPPER:
                    message = f"everything belongs into {WRAPPER}, or nothing"
                    self._mistakes.append(((key,), "unknown setting", message))
        for key, value in self._source.items():
            path = (*self._top, key)
            if key == "pools":
                self._read_pools(path, value)
            elif key == _POOL_CONFIG and value is not None:
                self._read_table(path, value, rank=2)
            elif key in _PASSED_ON:
                self._pass_on(path, value)
            else:
                self._read_key(path, key, value, rank=1)

    def _read_pools(self, path: Path, value: Any) -> None:
        if not isinstance(value, list):
            self._mistakes.append((path, "expected a list of pools", "one map for each pool"))
            return
        if not value:
            self._leaves.append(_Leaf(path, "pools", value, Rule(note="it is empty"), 1))
        for index, pool in enumerate(value):
            self._read_table((*path, index), pool, rank=0, pool=index)

    def _read_table(self, path: Path, value: Any, rank: int, pool: int | None = None) -> None:
        table = as_table(value)
        if table is None:
            self._mistakes.append((path, "expected a map or a keyword list", ""))
            return
        for key, inner in table.items():
            self._read_key((*path, key), key, inner, rank, pool)

    def _read_key(
        self, path: Path, key: str, value: Any, rank: int, pool: int | None = None
    ) -> None:
        table = as_table(value) if key in GROUPS else None
        if table:
            for inner, item in table.items():
                self._read_leaf((*path, inner), f"{key}.{inner}", item, rank, pool)
        elif table is not None or (key in GROUPS and value is None):
            rule = Rule(note="it is empty")
            self._leaves.append(_Leaf(path, key, value, rule, rank, pool))
        elif key in GROUPS and rule_for(f"{key}.*") is None:
            self._mistakes.append((path, "expected a map or a keyword list", ""))
        else:
            self._read_leaf(path, key, value, rank, pool)

    def _read_leaf(self, path: Path, name: str, value: Any, rank: int, pool: int | None) -> None:
        rule = rule_for(name if name not in GROUPS else f"{name}.*")
        is_module = isinstance(value, str) and value.startswith(("Elixir.", "Snakepit."))
        if name == "adapter" and is_module:
            rule = RULES["adapter_module"]
        elif name in POOL.settings and rule is None:
            rule = Rule(name)
        elif name == _POOL_CONFIG and rank == 1:
            rule = Rule(note="it is empty")
        if rule is None or (rule.at_top and rank != 1):
            hint = "it belongs to the top level" if rule else _hint(name)
            self._mistakes.append((path, "unknown setting", hint))
            return
        leaf = _Leaf(path, name, value, rule, rank, pool)
        if value is None and name != "pooling_enabled":
            leaf.remark = "nil is as if it were not there"
        elif rule.split is not None:
            leaf.gives, leaf.remark = rule.split(value)
        elif rule.to:
            leaf.gives = {rule.to: rule.value(value)}
        self._leaves.append(leaf)

    def _pass_on(self, path: Path, value: Any) -> None:
        """A table of ours that is there already stays as it is."""
        depth = 2 if path[-1] == "profiles" else 1
        for keys, item in _settings_in(value, depth):
            leaf = _Leaf((*path, *keys), ".".join((str(path[-1]), *keys)), item, Rule(), 1)
            leaf.became.append((leaf.path[len(self._top) :], item))
            self._leaves.append(leaf)

    # -- deciding -----------------------------------------------------------------------------

    def result(self) -> Conversion:
        self._enable()
        disabled = any(
            value is False
            for leaf in self._leaves
            for path, value in leaf.became
            if path == ("supervisor", "pooling_enabled")
        )
        wanted = any(name in POOL.settings for leaf in self._leaves for name in leaf.gives) or any(
            leaf.name == "adapter_module" for leaf in self._leaves
        )
        if disabled and not wanted and not self._has_pools:
            self._pools = 0
        if not self._has_pools and self._pools:
            name = "Snakepit called its only pool so"
            self._added.append((("pools", 0, "name"), "default", name))
        for pool in range(self._pools):
            self._decide(pool)
        self._limit_threads()
        entries = tuple(self._entry(leaf) for leaf in self._leaves)
        pools_at = (*self._top, "pools") if self._has_pools else None
        return Conversion(self._pools, pools_at, entries, tuple(self._added), tuple(self._mistakes))

    def _enable(self) -> None:
        for leaf in self._leaves:
            for to, value in leaf.gives.items():
                if to.startswith("supervisor."):
                    leaf.became.append((tuple(to.split(".")), value))

    def _decide(self, pool: int) -> None:
        """Which leaf each setting of *pool* comes from."""
        leaves = [leaf for leaf in self._leaves if leaf.serves(pool)]
        names = dict.fromkeys(name for leaf in leaves for name in leaf.gives)
        for name in names:
            if name.startswith(_TABLES):
                continue
            winner, *losers = sorted(
                (leaf for leaf in leaves if name in leaf.gives), key=_precedence(name)
            )
            value = winner.gives[name]
            if name == "pool_size":
                winner, losers = self._cap(winner, losers, leaves, value)
                value = value if winner.name != "max_workers" else winner.value
            winner.won = True
            for loser in losers:
                loser.lost_to = winner
            if name in POOL.settings:
                winner.became.append((("pools", pool, name), value))
        if "adapter" not in names:
            self._default_adapter(pool, leaves)

    def _cap(
        self, winner: _Leaf, losers: list[_Leaf], leaves: list[_Leaf], size: Any
    ) -> tuple[_Leaf, list[_Leaf]]:
        caps = [leaf for leaf in leaves if leaf.name == "max_workers"]
        cap = min(caps, key=lambda leaf: leaf.rank, default=None)
        if cap is not None and _is_count(cap.value) and _is_count(size) and cap.value < size:
            return cap, [winner, *losers]
        return winner, losers

    def _default_adapter(self, pool: int, leaves: list[_Leaf]) -> None:
        modules = [leaf for leaf in leaves if leaf.rule is RULES["adapter_module"]]
        module = min(modules, key=lambda leaf: leaf.rank, default=None)
        name = values.elixir_module(module.value) if module is not None else None
        if module is None or module.value is None:
            why = "Snakepit started this adapter where none was named"
            self._added.append((("pools", pool, "adapter"), DEFAULT_ADAPTER, why))
        elif name in PYTHON_MODULES:
            module.became.append((("pools", pool, "adapter"), DEFAULT_ADAPTER))
            module.remark = "it started this adapter where none was named"
        else:
            message = "which Python adapter this module started cannot be told from it"
            hint = 'name the adapter: adapter_args: ["--adapter", "my.package.MyAdapter"]'
            self._mistakes.append((module.path, message, hint))
            # Any will do: what has mistakes is not used.
            self._added.append((("pools", pool, "adapter"), DEFAULT_ADAPTER, ""))

    def _limit_threads(self) -> None:
        """Thread limits become a profile for each kind of profile that the pools have."""
        limits = [leaf for leaf in self._leaves if leaf.rule.to.startswith("limits.")]
        limits = [leaf for leaf in limits if leaf.gives]
        if not limits:
            return
        if not self._pools:
            for leaf in limits:
                leaf.remark = "there is no pool"
        profiles: dict[str, str] = {}
        for pool in range(self._pools):
            target = ("pools", pool, "worker_profile")
            kind, owner = "process", None
            for leaf in self._leaves:
                for path, value in leaf.became:
                    if path == target:
                        kind, owner = value, leaf
            if kind not in ("process", "thread"):
                for leaf in limits:
                    leaf.outcome = "unsupported"
                    leaf.remark = f"write it into the env of the profile {quoted(str(kind))}"
                continue
            profile = profiles.setdefault(kind, self._profile(kind))
            if owner is None:
                self._added.append((target, profile, "it has python_thread_limits"))
            else:
                owner.became[owner.became.index((target, kind))] = (target, profile)
        for kind, profile in profiles.items():
            if kind != "process":
                self._added.append((("profiles", profile, "kind"), kind, ""))
            for leaf in limits:
                ((name, value),) = leaf.gives.items()
                variable = name.removeprefix("limits.")
                leaf.became.append((("profiles", profile, "env", variable), value))

    def _profile(self, kind: str) -> str:
        taken = as_table(self._source.get("profiles", {})) or {}
        name = f"{kind}_limits"
        while name in taken:
            name += "_"
        return name

    # -- reporting ----------------------------------------------------------------------------

    def _entry(self, leaf: _Leaf) -> Entry:
        outcome = self._outcome(leaf)
        notes = [self._reason(leaf, outcome)]
        full = ".".join(str(part) for part in leaf.path[len(self._top) :])
        known_to_v05 = leaf.name in RULES and not leaf.rule.new
        if self._by_v05 and known_to_v05 and full not in READ_BY_V05:
            notes.append(_IGNORED)
        texts = dict.fromkeys(_shown(path, value) for path, value in leaf.became)
        note = "; ".join(note for note in notes if note)
        change = Change(place_of(leaf.path, self._tree), outcome, tuple(texts), note)
        return Entry(leaf.path, leaf.value, change, tuple(leaf.became))

    def _outcome(self, leaf: _Leaf) -> Outcome:
        if leaf.became:
            if all(_is_kept(leaf, path, value) for path, value in leaf.became):
                return "kept"
            same = all(value is leaf.value for _, value in leaf.became)
            return "renamed" if same and leaf.rule.to else "converted"
        if leaf.lost_to is not None and not leaf.won:
            return "overridden"
        if leaf.outcome is not None:
            return leaf.outcome
        if leaf.rule.unsupported or _lacking(leaf):
            return "unsupported"
        return "not_needed"

    def _reason(self, leaf: _Leaf, outcome: Outcome) -> str:
        if outcome == "overridden" and leaf.lost_to is not None:
            return f"{place_of(leaf.lost_to.path, self._tree)} wins"
        if outcome == "unsupported" and (lacking := _lacking(leaf)):
            return f"it has no setting {' or '.join(lacking)}"
        if outcome == "not_needed" and leaf.remark:
            return leaf.remark
        rule = leaf.rule.note if leaf.rule.to or not leaf.became else ""
        return "; ".join(filter(None, (rule, leaf.remark)))


def _hint(name: str) -> str:
    table, dot, key = name.rpartition(".")
    if dot:
        known = [rule.partition(".")[2] for rule in RULES if rule.startswith(f"{table}.")]
        return did_you_mean(key, known) or f"known here: {', '.join(known)}"
    homes = [s.title for s in (SUPERVISOR,) if name in s.settings]
    if homes:
        return f"it is a setting of {homes[0]}"
    known = [key for key in RULES if "." not in key and "*" not in key]
    return did_you_mean(name, [*known, *GROUPS, *POOL.settings, _POOL_CONFIG])


def _settings_in(value: Any, depth: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The settings in tables *depth* deep, with their keys; what is no table is one itself."""
    table = as_table(value)
    if depth == 0 or not table:
        yield (), value
        return
    for key, inner in table.items():
        for keys, item in _settings_in(inner, depth - 1):
            yield (key, *keys), item


def _precedence(name: str) -> Any:
    """How leaves that become the same setting of a pool are ordered, the winner first."""
    order = list(RULES)

    def key(leaf: _Leaf) -> tuple[Any, ...]:
        if name == "adapter":
            # What Snakepit ran, before what only its documents show.
            return (leaf.pool is None, _ADAPTER_KEYS.index(leaf.name), leaf.rank)
        rule = order.index(leaf.name) if leaf.name in RULES else -1
        # What says the same in plain words wins over a command line.
        return (leaf.rank, leaf.name == "adapter_args", rule)

    return key


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_kept(leaf: _Leaf, path: Path, value: Any) -> bool:
    return path[-1] == leaf.name.rpartition(".")[2] and value is leaf.value


def _lacking(leaf: _Leaf) -> list[str]:
    return [
        name for name in leaf.gives if name not in POOL.settings and not name.startswith(_TABLES)
    ]


def _shown(path: Path, value: Any) -> str:
    """A setting as the report writes it; values are only shown where they say something."""
    inside = ".".join(str(key) for key in (path[2:] if path[0] == "pools" else path))
    if isinstance(value, str):
        return f"{inside} = {quoted(value)}"
    if isinstance(value, int | float):
        return f"{inside} = {str(value).lower() if isinstance(value, bool) else value}"
    return inside
