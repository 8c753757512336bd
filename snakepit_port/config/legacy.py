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
from snakepit_port.config.kinds import is_integer
from snakepit_port.config.legacy_keys import (
    POOL_CONFIG,
    WRAPPER,
    Key,
    Keys,
    has_adapter,
    read_keys,
)
from snakepit_port.config.legacy_rules import (
    DEFAULT_ADAPTER,
    GROUPS,
    PYTHON_MODULES,
    READ_BY_V05,
    READ_OF_POOLS,
    RULES,
    rule_for,
)
from snakepit_port.config.report import Mistake, Path, place_of, quoted
from snakepit_port.config.settings import POOL, SECTIONS

_ENABLED = ("supervisor", "pooling_enabled")
_LIMIT = "limits."
_OTHER_TABLES = ("supervisor.", _LIMIT)
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
class Unset:
    """A key that is not there, where Snakepit did then what this does not: ``path`` is the setting
    that it would become."""

    path: Path
    change: Change


@dataclass(frozen=True, slots=True)
class Conversion:
    """A converted configuration. ``added`` are settings without a key, with the reason for each;
    ``pools_at`` is where the source has its pools, if it names any;
    ``mistakes`` are keys that nobody knows, and what cannot be guessed, at paths of the source;
    ``doubts`` is what to warn of, at paths of settings."""

    pools: int
    pools_at: Path | None
    entries: tuple[Entry, ...]
    added: tuple[tuple[Path, Any, str], ...]
    unset: tuple[Unset, ...]
    mistakes: tuple[Mistake, ...]
    doubts: tuple[Mistake, ...]

    @property
    def changes(self) -> tuple[Change, ...]:
        """What became of each key, in the order of the source, and of those that are not there."""
        entries = (entry.change for entry in self.entries)
        return (*entries, *(one.change for one in self.unset))

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
        added = ((path, value_of(path[-1], value), why) for path, value, why in self.added)
        return replace(self, entries=tuple(entries), added=tuple(added))

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
    if any(_is_old(key) or (key in RULES and RULES[key].at_top) for key in tree):
        return True
    pools = tree.get("pools")
    return isinstance(pools, list) and any(
        isinstance(pool, Mapping) and (any(map(_is_old, pool)) or _has_command_line(pool))
        for pool in pools
    )


def _is_old(key: str) -> bool:
    if key in SECTIONS or any(key in section.settings for section in SECTIONS.values()):
        return False
    return key == POOL_CONFIG or key in GROUPS or rule_for(key) is not None


def _has_command_line(pool: Mapping[str, Any]) -> bool:
    settings, _ = values.split_arguments(pool.get("adapter_args", []))
    return "adapter" in settings and not has_adapter(pool)


def convert(tree: Mapping[str, Any], python: str | None = None) -> Conversion:
    """What *tree*, a configuration of Snakepit as plain dicts, lists and scalars, is as ours.

    *python* is the interpreter that Snakepit would find by itself, see ``legacy_python``.
    """
    return _Converter(tree, read_keys(tree), python).result()


@dataclass(slots=True)
class _Fate:
    """What happens to a key: the settings it becomes, or the keys that win over it."""

    became: list[tuple[Path, Any]] = field(default_factory=list)
    won: bool = False
    lost_to: list[Key] = field(default_factory=list)
    unsupported: bool = False
    remark: str = ""
    warns: bool = False


class _Converter:
    def __init__(self, tree: Mapping[str, Any], keys: Keys, python: str | None) -> None:
        self._tree = tree
        self._keys = keys
        self._python = python
        self._fates = {key: _Fate(remark=key.remark) for key in keys.all}
        self._added: list[tuple[Path, Any, str]] = []
        self._unset: dict[str, Unset] = {}
        self._mistakes = list(keys.mistakes)
        self._doubts: list[Mistake] = []
        # Other versions ignored other keys, so of those it is not told.
        self._is_v05 = not keys.pools and not any(key.rule.new for key in keys.all)

    def result(self) -> Conversion:
        for key, path in self._keys.ours.items():
            self._fates[key].became.append((path, key.value))
        for key in self._keys.all:
            if "supervisor.pooling_enabled" in key.gives:
                enabled = key.gives["supervisor.pooling_enabled"]
                self._fates[key].became.append((_ENABLED, enabled))
        pools = self._keys.pools
        if not pools and self._needs_a_pool():
            pools = 1
            if not any("name" in key.gives for key in self._keys.all):
                why = "Snakepit called its only pool so"
                self._added.append((("pools", 0, "name"), "default", why))
        for pool in range(pools):
            self._decide(pool)
        self._limit_threads(pools)
        self._look_for_default()
        entries = tuple(self._entry(key, fate) for key, fate in self._fates.items())
        pools_at = (*self._keys.top, "pools") if self._keys.pools else None
        return Conversion(
            pools=pools,
            pools_at=pools_at,
            entries=entries,
            added=tuple(self._added),
            unset=tuple(self._unset.values()),
            mistakes=tuple(self._mistakes),
            doubts=tuple(self._doubts),
        )

    # -- deciding -----------------------------------------------------------------------------

    def _needs_a_pool(self) -> bool:
        """Whether there are workers to start, or settings for them to keep."""
        disabled = any((_ENABLED, False) in fate.became for fate in self._fates.values())
        return not disabled or any(
            key.name == "adapter_module" or any(name in POOL.settings for name in key.gives)
            for key in self._keys.all
        )

    def _decide(self, pool: int) -> None:
        """Which key each setting of *pool* comes from."""
        keys = self._keys_of(pool)
        names = dict.fromkeys(name for key in keys for name in key.gives)
        for name in names:
            if name.startswith(_OTHER_TABLES):
                continue
            givers = [key for key in keys if name in key.gives]
            winner, *losers = sorted(givers, key=_precedence(name))
            value = winner.gives[name]
            cap = _cap(keys, value) if name == "pool_size" else None
            if cap is not None:
                winner, losers, value = cap, [winner, *losers], cap.value
            self._fates[winner].won = True
            for loser in losers:
                self._fates[loser].lost_to.append(winner)
            if name in POOL.settings:
                self._fates[winner].became.append((("pools", pool, name), value))
        if "adapter" not in names:
            self._default_adapter(pool, keys)
        if "pool_size" not in names:
            place = ("pools", pool, "pool_size") if self._keys.pools else ("pool_size",)
            why = "Snakepit started two workers for each CPU, where this starts one"
            self._not_set(("pools", pool, "pool_size"), place, why)
        if "python" not in names:
            self._default_python(("pools", pool, "python"))

    def _keys_of(self, pool: int) -> list[Key]:
        """The keys that *pool* goes by: the heartbeat is on or off, as the nearest of them says."""
        keys = [key for key in self._keys.all if key.pool in (None, pool)]
        rule = RULES["heartbeat.enabled"]
        switches = [key for key in keys if key.rule is rule and key.value is not None]
        switches.sort(key=lambda key: key.rank)
        overruled = [key for key in switches[1:] if key.gives]
        for key in overruled:
            self._fates[key].lost_to.append(switches[0])
        return [key for key in keys if key not in overruled]

    def _default_adapter(self, pool: int, keys: list[Key]) -> None:
        target = ("pools", pool, "adapter")
        modules = [key for key in keys if key.rule is RULES["adapter_module"]]
        module = min(modules, key=lambda key: key.rank, default=None)
        if module is None or module.value is None:
            why = "Snakepit started this adapter where none was named"
            self._added.append((target, DEFAULT_ADAPTER, why))
        elif values.elixir_module(module.value) in PYTHON_MODULES:
            self._fates[module].became.append((target, DEFAULT_ADAPTER))
            self._fates[module].remark = "it started this adapter where none was named"
        else:
            message = "which Python adapter this module started cannot be told from it"
            hint = 'name the adapter: adapter_args: ["--adapter", "my.package.MyAdapter"]'
            self._mistakes.append((module.path, message, hint))
            # Any will do: what has mistakes is not used.
            self._added.append((target, DEFAULT_ADAPTER, ""))

    def _default_python(self, target: Path) -> None:
        if self._python is None:
            why = "Snakepit took the python3 of the PATH, where this takes the supervisor's own"
        else:
            why = f"Snakepit took {self._python} then, and so does this"
            self._added.append((target, self._python, "Snakepit found it by itself"))
        self._not_set(target, ("python_executable",), why)

    def _not_set(self, target: Path, place: Path, why: str) -> None:
        """Tell of a key that is not there, unless it is and is nil, which is told."""
        path = (*self._keys.top, *place)
        key = place_of(path, self._tree)
        if not any(there.path == path for there in self._keys.all):
            self._unset.setdefault(key, Unset(target, Change(key, "not_set", note=why)))

    def _limit_threads(self, pools: int) -> None:
        """Thread limits become a profile for each kind of profile that the pools have."""
        limits = {
            name.removeprefix(_LIMIT): key
            for key in self._keys.all
            for name in key.gives
            if name.startswith(_LIMIT)
        }
        if not limits:
            return
        profiles: dict[str, str] = {}
        for pool in range(pools):
            target = ("pools", pool, "worker_profile")
            owner, kind = self._owner_of(target)
            if kind not in ("process", "thread"):
                for key in limits.values():
                    self._fates[key].unsupported = True
                    remark = f"write it into the env of the profile {quoted(str(kind))}"
                    self._fates[key].remark = remark
                continue
            profile = profiles.setdefault(kind, self._profile(kind))
            if owner is None:
                self._added.append((target, profile, "it has python_thread_limits"))
            else:
                owner.became[owner.became.index((target, kind))] = (target, profile)
        for kind, profile in profiles.items():
            if kind != "process":
                self._added.append((("profiles", profile, "kind"), kind, ""))
            for variable, key in limits.items():
                ((_, value),) = key.gives.items()
                self._fates[key].became.append((("profiles", profile, "env", variable), value))
        if not pools:
            for key in limits.values():
                self._fates[key].remark = "there is no pool"

    def _look_for_default(self) -> None:
        """Of several pools, Snakepit had the first one run what names none."""
        names = [
            (path, name, fate)
            for fate in self._fates.values()
            for path, name in fate.became
            if path[0] == "pools" and path[2:] == ("name",)
        ]
        if len(names) < 2 or any(name == "default" for _, name, _ in names):
            return
        first, name, fate = names[0]
        message = (
            "calls that name no pool ran here in Snakepit, and are unknown_pool now, as none is"
            ' named "default"'
        )
        hint = f'give them pool: {quoted(str(name))}, or name this one "default"'
        fate.remark = f"{message}; {hint}"
        fate.warns = True
        self._doubts.append((first, message, hint))

    def _owner_of(self, target: Path) -> tuple[_Fate | None, Any]:
        """Who set the profile of a pool, and to what."""
        for fate in self._fates.values():
            for path, value in fate.became:
                if path == target:
                    return fate, value
        return None, "process"

    def _profile(self, kind: str) -> str:
        """A name for the profile that the source has not used."""
        taken = {path[1] for path in self._keys.ours.values() if len(path) > 1}
        name = f"{kind}_limits"
        while name in taken:
            name += "_"
        return name

    # -- reporting ----------------------------------------------------------------------------

    def _entry(self, key: Key, fate: _Fate) -> Entry:
        outcome = _outcome(key, fate)
        notes = [self._reason(key, fate, outcome)]
        place = ".".join(str(part) for part in key.path[len(self._keys.top) :])
        documented = key.name in RULES and not key.rule.new
        if self._is_v05 and documented and place not in READ_BY_V05:
            notes.append(_IGNORED)
        if self._keys.pools and key.pool is None and fate.became and key.name in READ_OF_POOLS:
            notes.append("Snakepit ignored it beside pools")
        change = Change(
            place_of(key.path, self._tree),
            outcome,
            tuple(dict.fromkeys(_shown(path, value) for path, value in fate.became)),
            "; ".join(filter(None, notes)),
            fate.warns,
        )
        return Entry(key.path, key.value, change, tuple(fate.became))

    def _reason(self, key: Key, fate: _Fate, outcome: Outcome) -> str:
        if outcome == "overridden":
            # In one pool this, in another that.
            winners = dict.fromkeys(place_of(key.path, self._tree) for key in fate.lost_to)
            return f"{' and '.join(winners)} win{'s' if len(winners) == 1 else ''}"
        if outcome == "unsupported" and (lacking := _lacking(key)):
            return f"it has no setting {' or '.join(lacking)}"
        if outcome == "not_needed" and fate.remark:
            return fate.remark
        note = key.rule.note if key.rule.to or not fate.became else ""
        return "; ".join(filter(None, (note, fate.remark)))


def _outcome(key: Key, fate: _Fate) -> Outcome:
    if fate.became:
        last = key.name.rpartition(".")[2]
        same = all(value is key.value for _, value in fate.became)
        if same and all(path[-1] == last for path, _ in fate.became):
            return "kept"
        return "renamed" if same and key.rule.to else "converted"
    if fate.lost_to and not fate.won:
        return "overridden"
    if fate.unsupported or key.rule.unsupported or _lacking(key):
        return "unsupported"
    return "not_needed"


def _lacking(key: Key) -> list[str]:
    """The settings that the key would become and that this version has not."""
    return [
        name
        for name in key.gives
        if name not in POOL.settings and not name.startswith(_OTHER_TABLES)
    ]


def _precedence(name: str) -> Callable[[Key], tuple[Any, ...]]:
    """How keys that become the same setting of a pool are ordered, the winner first."""
    order = list(RULES)

    def of(key: Key) -> tuple[Any, ...]:
        if name == "adapter":
            # What Snakepit ran, before what only its documents show.
            return (key.pool is None, _ADAPTER_KEYS.index(key.name), key.rank)
        rule = order.index(key.name) if key.name in RULES else -1
        # What says the same in plain words wins over a command line.
        return (key.rank, key.name == "adapter_args", rule)

    return of


def _cap(keys: list[Key], size: Any) -> Key | None:
    """The key that allows a pool fewer workers than *size*, if there is one."""
    caps = [key for key in keys if key.name == "max_workers"]
    cap = min(caps, key=lambda key: key.rank, default=None)
    if cap is not None and is_integer(cap.value) and is_integer(size) and cap.value < size:
        return cap
    return None


def _shown(path: Path, value: Any) -> str:
    """A setting as the report writes it; values are only shown where they say something."""
    inside = ".".join(str(key) for key in (path[2:] if path[0] == "pools" else path))
    if isinstance(value, str):
        return f"{inside} = {quoted(value)}"
    if isinstance(value, int | float):
        return f"{inside} = {str(value).lower() if isinstance(value, bool) else value}"
    return inside
