"""An adapter whose workers have little memory besides what they are."""

from __future__ import annotations

import resource
from pathlib import Path

from snakepit_port.adapter import command

#: Bytes.
ROOM = 32 * 1024 * 1024


@command
def length(text: str) -> int:
    return len(text)


(size, *_) = Path("/proc/self/statm").read_text().split()
LIMIT = int(size) * resource.getpagesize() + ROOM
resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
