"""Adapters that tests write themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from snakepit_port.worker.loading import Adapter, LoadError

#: Writes a module: by the name of its file, and its text.
Write = Callable[[str, str], None]


def refused(name: str) -> str:
    """What is said of an adapter that cannot serve."""
    with pytest.raises(LoadError) as caught:
        Adapter(name, [], [], [])
    assert caught.value.error["type"] == "pool_unavailable"
    return str(caught.value)
