"""Workers come and go by the thousand, and the supervisor stays as it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fault_settings import SOAK, config

from snakepit_port.harness import CallError, Host, open_host

#: Growth that malloc may show; a leak of 100 bytes for each worker of a soak is more.
ALLOWED_BYTES = 1024 * 1024


def private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def holdings(pid: int) -> tuple[int, int, int]:
    """Descriptors, threads and children of a process."""
    tasks, descriptors = os.listdir(f"/proc/{pid}/task"), os.listdir(f"/proc/{pid}/fd")
    return len(descriptors), len(tasks), len(children_of(pid))


async def settle(host: Host) -> None:
    """The starter has closed what it holds of the last worker, which may be quicker: it is told to
    signal that, and does what it is told in order."""
    assert "runtime.py" in str(await host.stacks())


async def replace_worker(host: Host) -> None:
    # One that has answered is replaced at once, and not after a backoff.
    assert await host.call(None, "add", [1, 2]) == 3
    with pytest.raises(CallError) as caught:
        await host.call(None, "leave")
    assert caught.value.type == "worker_crashed"


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_what_the_supervisor_holds_does_not_grow(start_method: str) -> None:
    quick, soak = (50, 10_000) if start_method == "forkserver" else (10, 500)
    starts = soak if SOAK else quick
    terms = config(pool_size=1, start_method=start_method, max_restarts="infinity")
    async with open_host(terms) as host:
        for _ in range(starts // 5):
            await replace_worker(host)
        await host.call(None, "add", [1, 2])
        await settle(host)
        before, memory = holdings(host.os_pid), private_bytes(host.os_pid)
        (starter,) = children_of(host.os_pid)
        starter_before = holdings(starter)
        for _ in range(starts):
            await replace_worker(host)
        await host.call(None, "add", [1, 2])
        await settle(host)
        assert holdings(host.os_pid) == before
        assert holdings(starter) == starter_before
        assert private_bytes(host.os_pid) - memory < ALLOWED_BYTES
        stats = (await host.stats())["pools"]["default"]
        assert stats["worker_crashes"] == starts + starts // 5
