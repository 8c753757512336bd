"""Workers that are not well are found and replaced, before a call finds out."""

from __future__ import annotations

import os
import signal

import pytest
from fault_settings import config

from snakepit_port.harness import CallError, Event, Host, open_host

ALWAYS = {"pool_size": 1, "health_check_interval": "20ms"}


async def reported(host: Host) -> dict[str, Event]:
    """The events from a failed check to the successor's start."""
    seen: dict[str, Event] = {}
    async for event in host.events(past=True):
        if seen or event.name == "worker.health_check_failed":
            seen[event.name] = event
        if {"worker.stopped", "worker.started"} <= set(seen):
            return seen
    pytest.fail("the link ended")


@pytest.mark.parametrize(
    ("ailment", "message"),
    [
        ("raise", "RuntimeError: the model is gone"),
        ("false", "returned False"),
        ("hang", "did not answer a ping within 1 s"),
    ],
)
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
async def test_an_adapter_that_is_not_well_is_replaced(
    ailment: str, message: str, start_method: str
) -> None:
    timeout = "1s" if ailment == "hang" else "60s"
    terms = config(
        **ALWAYS,
        adapter="health_adapter:Patient",
        health_check_timeout=timeout,
        start_method=start_method,
    )
    async with open_host(terms) as host:
        pid = await host.call(None, "fall_ill", [ailment])
        seen = await reported(host)
        failed = seen["worker.health_check_failed"]
        assert failed.metadata["worker"] == "default-1"
        assert message in failed.metadata["message"]
        assert seen["worker.stopped"].metadata["reason"] == "health_check_failed"
        assert await host.call(None, "pid") != pid
        assert (await host.stats())["errors"] == 0


@pytest.mark.parametrize("profile", ["process", "thread"])
async def test_a_stream_of_one_that_is_not_well_ends_as_if_it_had_crashed(profile: str) -> None:
    terms = config(**ALWAYS, adapter="health_adapter:Patient", worker_profile=profile)
    async with (
        open_host(terms) as host,
        host.stream(None, "fall_ill_and_count", ["false"], window=1) as stream,
    ):
        assert await anext(stream) == 0
        seen = await reported(host)
        with pytest.raises(CallError) as caught:
            async for _ in stream:
                pass
        assert caught.value.type == "worker_crashed"
        assert "returned False" in seen["worker.health_check_failed"].metadata["message"]
        assert seen["worker.stopped"].metadata["reason"] == "health_check_failed"


async def test_health_is_run_between_calls_again_and_again() -> None:
    async with open_host(config(**ALWAYS, adapter="health_adapter:Patient")) as host:
        pid = await host.call(None, "pid")
        while await host.call(None, "checks") < 3:
            pass
        assert await host.call(None, "pid") == pid


async def test_a_worker_that_is_stopped_is_found_and_replaced() -> None:
    """Nothing tells the kernel's parent of that, nor closes a descriptor."""
    terms = config(**ALWAYS, health_check_timeout="1s")
    async with open_host(terms) as host:
        pid = await host.call(None, "pid")
        os.kill(pid, signal.SIGSTOP)
        assert "did not answer" in str((await reported(host))["worker.health_check_failed"])
        assert await host.call(None, "pid") != pid


async def test_a_long_call_is_no_illness() -> None:
    terms = config(**ALWAYS, health_check_timeout="1s")
    async with open_host(terms) as host:
        pid = await host.call(None, "pid")
        await host.call(None, "run_for", [2.0])
        assert await host.call(None, "pid") == pid
        assert (await host.stats())["pools"]["default"]["started"] == 1
