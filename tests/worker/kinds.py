"""The kinds of workers that the contract is tested with."""

from __future__ import annotations

import pytest

PROCESSES = ["forkserver", "spawn"]
THREADS = ["threads", "free-threaded"]

#: Calls at a time, where a worker has threads.
LANES = 4

#: For what only workers keep that run one call at a time, on their main thread.
one_at_a_time = pytest.mark.parametrize("starter", PROCESSES, indirect=True, scope="session")

#: For what only workers keep that run several calls at a time.
several_at_a_time = pytest.mark.parametrize("starter", THREADS, indirect=True, scope="session")
