"""How much a fault test does, and the pool it does it to.

Quick unless SNAKEPIT_PORT_SOAK=1, which `scripts/soak faults` sets.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

#: Whether to do as much as a soak takes; else what is quick.
SOAK = os.environ.get("SNAKEPIT_PORT_SOAK") == "1"


def times(quick: int, soak: int) -> range:
    return range(soak if SOAK else quick)


def config(**pool: Any) -> dict[str, Any]:
    """A configuration of one pool, `default`, of two workers that serve `faults_adapter`."""
    settings = {
        "name": "default",
        "adapter": "faults_adapter",
        "pool_size": 2,
        "python": sys.executable,
        "python_path": [str(Path(__file__).parent)],
        **pool,
    }
    return {"pools": [settings]}
