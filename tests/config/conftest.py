"""No interpreter that happens to be named or active here is found for a configuration."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def _none_is_active() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SNAKEPIT_PYTHON", raising=False)
        patch.delenv("VIRTUAL_ENV", raising=False)
        yield
