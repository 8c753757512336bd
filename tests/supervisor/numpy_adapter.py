"""An adapter as people write them: NumPy, and a model made once for all calls."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from snakepit_port.adapter import command


class Model:
    thread_safe = True

    def __init__(self, size: int) -> None:
        self._weights = np.arange(size * size, dtype=np.float64).reshape(size, size)
        self._weights.flags.writeable = False

    @command
    def predict(self, rows: list[list[float]]) -> list[list[float]]:
        return (np.asarray(rows) @ self._weights).tolist()

    @command
    def threads(self) -> str | None:
        return os.environ.get("OPENBLAS_NUM_THREADS")

    @command
    def about(self) -> dict[str, Any]:
        import sys

        return {
            "numpy": np.__version__,
            "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
            "pid": os.getpid(),
        }
