"""Preloaded, it says something to the supervisor in the place of its starter."""

from __future__ import annotations

import os
import sys

_starter, control_fd, _ledger_fd = sys.argv[1:]
os.write(int(control_fd), bytes.fromhex(os.environ["IT"]))
