"""Records of an adapter's `logging`, and the level they arrive with."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

import pytest

from snakepit_port.harness import open_host
from snakepit_port.logs import Handler


@pytest.mark.parametrize(
    ("level", "number"),
    [
        *((logging.CRITICAL, 3), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)),
        *((logging.DEBUG, 7), (logging.INFO + 5, 6), (1, 7)),
    ],
)
def test_every_line_of_a_record_has_its_level(level: int, number: int) -> None:
    stream = io.StringIO()
    record = logging.LogRecord("n", level, "f.py", 1, "one\n%s", ("two",), None)
    Handler(stream).handle(record)
    assert stream.getvalue() == f"<{number}>one\n<{number}>two\n"


async def test_levels_arrive(tmp_path: Path) -> None:
    (tmp_path / "says.py").write_text(
        "import logging\n"
        "from snakepit_port.adapter import command\n"
        "from snakepit_port.logs import Handler\n"
        "logging.basicConfig(level=10, handlers=[Handler()], format='%(message)s')\n"
        "@command\n"
        "def say():\n"
        "    for level in (10, 20, 30, 40):\n"
        "        logging.log(level, 'at %d', level)\n"
    )
    pool = {"name": "p", "adapter": "says", "pool_size": 1, "python_path": [str(tmp_path)]}
    async with open_host({"pools": [{**pool, "python": sys.executable}]}) as host:
        await host.call(None, "say")
        heard: dict[str, str] = {}
        async for entry in host.logs(past=True):
            if entry.source == "stderr":
                heard[entry.line] = entry.level
            if len(heard) == 4:
                break
    assert heard == {"at 10": "debug", "at 20": "info", "at 30": "warning", "at 40": "error"}
