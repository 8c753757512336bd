"""A module that cannot be imported."""

from __future__ import annotations


def give_up() -> None:
    raise RuntimeError("not on this machine")


give_up()
