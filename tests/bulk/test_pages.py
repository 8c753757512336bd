"""Reading into large pages, and where there is no such thing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from snakepit_port.bulk import pages

SIZES = [1, pages.LEAST - 1, pages.LEAST, pages.LEAST + 1, 5 * pages.LEAST + 12345]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("large", [True, False])
def test_what_is_read_is_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, large: bool
) -> None:
    if not large:
        monkeypatch.setattr(pages, "_read_large", None)
    else:
        assert pages._read_large is not None
    path = tmp_path / "file"
    content = os.urandom(size)
    path.write_bytes(content)
    with path.open("rb") as file:
        data = pages.read(file.fileno(), size)
    assert type(data) is bytes
    assert data == content
    assert hash(data) == hash(content)
    assert {data: 1}[content] == 1
    with path.open("rb") as file, pytest.raises(OSError, match="ends early"):
        pages.read(file.fileno(), size + 1)
