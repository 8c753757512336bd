"""Writing a configuration out with every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.items import Item

from snakepit_port.config.model import Config
from snakepit_port.config.settings import POOL, PROFILE, SUPERVISOR, Section


def resolved(config: Config) -> str:
    """*config*, as it was loaded, as TOML text. Loading the text gives an equal configuration."""
    document = tomlkit.document()
    document.add("supervisor", _table(SUPERVISOR, config.supervisor))
    profiles = tomlkit.table(is_super_table=True)
    for name, profile in config.profiles.items():
        profiles.add(name, _table(PROFILE, profile))
    document.add("profiles", profiles)
    pools = tomlkit.aot()
    for pool in config.pools:
        pools.append(_table(POOL, pool))
    document.add("pools", pools)
    return tomlkit.dumps(document)


def _table(section: Section, values: object) -> tomlkit.items.Table:
    table = tomlkit.table()
    for name, setting in section.settings.items():
        table.add(name, toml_item(setting.kind.dump(getattr(values, name))))
    return table


def toml_item(value: Any) -> Item:
    """*value* on one line: tables inside settings are written inline."""
    if isinstance(value, Mapping):
        inline = tomlkit.inline_table()
        for key, inner in value.items():
            inline.add(key, toml_item(inner))
        return inline
    if isinstance(value, list):
        array = tomlkit.array()
        for inner in value:
            array.append(toml_item(inner))
        return array
    item: Item = tomlkit.item(value)
    return item
