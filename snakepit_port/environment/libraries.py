"""What is known of libraries and threads."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

TABLE = Path(__file__).with_name("libraries.toml")


@dataclass(frozen=True, slots=True)
class Library:
    """One entry of the table: ``name`` as it is installed, ``module`` as it is imported,
    ``threads`` as the table's head explains, ``source`` the address of the page that says so."""

    name: str
    module: str
    threads: Literal["safe", "care", "unsafe"]
    note: str
    source: str


@cache
def known_libraries() -> tuple[Library, ...]:
    """The whole table, by name."""
    entries = tomllib.loads(TABLE.read_text(encoding="utf-8"))["library"]
    return tuple(sorted((Library(**entry) for entry in entries), key=lambda entry: entry.name))


def installed(distributions: Mapping[str, str]) -> list[tuple[Library, str]]:
    """The libraries of the table that an environment has, each with its installed version."""
    return [
        (library, distributions[library.name])
        for library in known_libraries()
        if library.name in distributions
    ]
