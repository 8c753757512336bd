"""Preloaded, it keeps its starter waiting until somebody opens a named pipe for writing."""

from __future__ import annotations

import os

with open(os.environ["FIFO"], "rb"):
    pass
