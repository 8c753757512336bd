"""Preloaded, it says something to the supervisor in the place of its starter, and no more.

A starter that went on could have a worker ready before the supervisor reads what was said.
"""

from __future__ import annotations

import os
import signal
import sys

_starter, control_fd, _ledger_fd = sys.argv[1:]
os.write(int(control_fd), bytes.fromhex(os.environ["IT"]))
signal.pause()
