"""Exit statuses: those of protocol/SPEC.md, section 15, and the command line's own."""

import os

FAILED = 1
USAGE = os.EX_USAGE
NOTHING_RUNS = os.EX_UNAVAILABLE
BAD_CONFIG = os.EX_CONFIG
INTERRUPTED = 130
