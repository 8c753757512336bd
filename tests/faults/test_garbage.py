"""Frames with damage, from the host and from workers: answered or punished, and nothing else."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress

import pytest
from fault_settings import config, times
from mutations import mutated

from snakepit_port.harness import CallError, open_host
from snakepit_port.wire import encode, envelopes, messages
from snakepit_port.wire.grammar import ProtocolError

#: Far from those that the harness uses.
ID = 2**59 + 12345

HOST_FRAMES = [
    messages.call(ID, None, "add", encode([1, 2])),
    messages.call(ID + 1, "default", "echo", encode({"value": ["x", 1.5, None]}), {"timeout": 500}),
    messages.cancel(ID),
    messages.control(ID + 2, "stats", encode({})),
    messages.control(ID + 3, "workers", encode({"pool": "default"})),
    messages.ping(77),
    messages.hello({"software": "a host", "max_frame_bytes": 100}),
    messages.result(ID, encode(1)),
    messages.tool_result(ID, 1, encode(1)),
    messages.tool_error(ID, 1, {"type": "tool_error", "message": "no"}),
]


@pytest.mark.parametrize("seed", times(2, 10))
async def test_the_next_good_call_is_served_after_garbage_from_the_host(seed: int) -> None:
    rng = random.Random(seed)
    async with open_host(config()) as host:
        await host.await_ready()
        pids = {worker["os_pid"] for worker in await host.workers()}
        for _ in times(10, 100):
            for _ in range(10):
                await host.send_frame(b"".join(mutated(rng, HOST_FRAMES) for _ in range(10)))
            number = rng.randrange(2**30)
            assert await host.call(None, "add", [number, 1]) == number + 1
        assert {worker["os_pid"] for worker in await host.workers()} == pids
    assert host.exit_status == 0


#: What a worker must not send: it answers calls that it was not given.
WORKER_FRAMES = [
    messages.result(ID, encode(1)),
    messages.error(ID + 1, {"type": "exception", "message": "no"}),
    messages.call(ID + 2, None, "add", encode([1, 2])),
    messages.pong(123456),
    messages.tool(ID + 3, 1, "lookup", encode([1])),
    messages.progress(ID + 4, 1, 2),
]


@pytest.mark.parametrize("seed", times(1, 4))
async def test_a_worker_that_sends_garbage_is_replaced(seed: int) -> None:
    """Its call fails with `protocol_error`; others are served."""
    rng = random.Random(seed)
    async with open_host(config()) as host:
        for number in times(20, 500):
            garbage = b"".join(mutated(rng, WORKER_FRAMES) for _ in range(50))
            with pytest.raises(CallError) as caught:
                await host.call(None, "send_garbage", [garbage])
            assert caught.value.type == "protocol_error", caught.value
            assert caught.value.worker not in {worker["id"] for worker in await host.workers()}
            assert await host.call(None, "add", [number, 1]) == number + 1
        stats = (await host.stats())["pools"]["default"]
        assert stats["worker_crashes"] == 0


@pytest.mark.parametrize("frames", [HOST_FRAMES, WORKER_FRAMES], ids=["host", "worker"])
def test_any_damage_is_read_or_refused_with_the_one_error(frames: list[bytes]) -> None:
    rng = random.Random(1)
    outcomes: Counter[str] = Counter()
    for _ in times(10_000, 100_000):
        frame = mutated(rng, frames)
        for read in (envelopes.read_answer, envelopes.read_usual_call, messages.parse):
            outcome = "refused"
            with suppress(ProtocolError):
                read(frame)
                outcome = "read"
            outcomes[outcome] += 1
    assert min(outcomes.values()) > 1000
