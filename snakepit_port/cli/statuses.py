"""Exit statuses: those of protocol/SPEC.md, section 15, and the command line's own."""

FAILED = 1
USAGE = 64
NOTHING_RUNS = 69
BAD_CONFIG = 78
INTERRUPTED = 130
