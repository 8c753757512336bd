"""Measuring memory: beside everything else, and never for ever."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from snakepit_port import processes
from snakepit_port.supervisor import memory
from snakepit_port.supervisor.gathering import Gathering
from snakepit_port.supervisor.memory import Sampler
from snakepit_port.supervisor.pump import Pump

#: Sizes that a process is found to have, and None where it has gone.
SIZES = {11: 1000, 12: None, 13: 3000}


class Kernel:
    """Takes its time to tell how much memory a process has: until it `may_tell`."""

    def __init__(self) -> None:
        self.may_tell = threading.Event()
        self.asked: list[int] = []

    def tell(self, pid: int) -> int | None:
        self.asked.append(pid)
        self.may_tell.wait()
        return SIZES[pid]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    kernel = Kernel()
    monkeypatch.setattr(memory, "private_bytes_of_all", kernel.tell)
    yield kernel
    kernel.may_tell.set()


@pytest.fixture
async def pump() -> Pump:
    return Pump()


async def _until(pump: Pump, is_true: Callable[[], bool]) -> None:
    while not is_true():
        await pump.turn(trio.current_time() + 60)


async def test_what_is_asked_for_twice_is_measured_once(pump: Pump, kernel: Kernel) -> None:
    sampler = Sampler(pump)
    told: list[Any] = []
    for pid in (11, 12, 13, 11, 12):
        sampler.measure(pid, lambda size, pid=pid: told.append((pid, size)))  # type: ignore[misc]
    assert told == []
    kernel.may_tell.set()
    await _until(pump, lambda: len(told) == 5)
    assert told == [(11, 1000), (11, 1000), (12, None), (12, None), (13, 3000)]
    assert kernel.asked == [11, 12, 13]
    sampler.measure(11, lambda size: told.append((0, size)))
    await _until(pump, lambda: len(told) == 6)
    assert kernel.asked == [11, 12, 13, 11]
    sampler.close()
    pump.close()


def test_those_of_a_process_are_all_that_descend_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = 5000
    # The last one's id was used again, for one further up.
    children = {pid: [pid + 1] for pid in range(1, deep)} | {deep: [2]}
    monkeypatch.setattr(processes, "private_bytes", lambda pid: None if pid == 7 else 10)
    monkeypatch.setattr(processes, "children_of", children.__getitem__)
    assert processes.private_bytes_of_all(1) == 10 * (deep - 1)
    assert processes.private_bytes_of_all(7) is None


async def test_whatever_happens_others_are_measured(
    pump: Pump, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "private_bytes_of_all", SIZES.__getitem__)
    sampler = Sampler(pump)
    told: list[Any] = []
    for pid in (99, 13):
        sampler.measure(pid, told.append)
    await _until(pump, lambda: len(told) == 2)
    assert told == [None, 3000]
    sampler.close()
    pump.close()


async def test_closing_waits_only_for_the_measurement_under_way(pump: Pump, kernel: Kernel) -> None:
    sampler = Sampler(pump)
    told: list[Any] = []
    for pid in (11, 12, 13):
        sampler.measure(pid, told.append)
    closing = threading.Thread(target=sampler.close)
    closing.start()
    while not sampler._closing:
        await trio.lowlevel.checkpoint()
    kernel.may_tell.set()
    await trio.to_thread.run_sync(closing.join)
    assert len(kernel.asked) <= 1
    assert told == []
    pump.close()


async def test_a_sampler_that_measured_nothing_holds_nothing(pump: Pump) -> None:
    before = len(os.listdir("/proc/self/fd"))
    Sampler(pump).close()
    assert len(os.listdir("/proc/self/fd")) == before
    pump.close()


@pytest.mark.parametrize("lacking", ["descriptors", "threads"])
async def test_without_means_for_a_thread_nothing_is_known(
    pump: Pump, kernel: Kernel, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    def no_pipe() -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    def no_thread(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = len(os.listdir("/proc/self/fd"))
    sampler = Sampler(pump)
    told: list[Any] = []
    with monkeypatch.context() as patch:
        if lacking == "descriptors":
            patch.setattr(os, "pipe", no_pipe)
        else:
            patch.setattr(threading.Thread, "start", no_thread)
        sampler.measure(11, told.append)
    assert told == [None]
    assert len(os.listdir("/proc/self/fd")) == before
    kernel.may_tell.set()
    sampler.measure(11, told.append)
    await _until(pump, lambda: len(told) == 2)
    assert told == [None, 1000]
    sampler.close()
    pump.close()


def test_a_gathering_is_done_once_with_what_each_has_told() -> None:
    done: list[dict[str, object]] = []
    gathering = Gathering(1.0)
    tell_a, tell_b = gathering.expect("a"), gathering.expect("b")
    tell_a(1)
    tell_a(9)
    gathering.begin(done.append)
    assert done == []
    tell_b(2)
    tell_b(3)
    gathering.give_up()
    assert done == [{"a": 1, "b": 2}]


def test_those_that_have_told_nothing_are_reminded() -> None:
    done: list[dict[str, object]] = []
    reminded: list[str] = []
    gathering = Gathering(1.0, remind_after=0.5)
    quick = gathering.expect("quick", remind=lambda: reminded.append("quick"))
    slow = gathering.expect("slow", remind=lambda: reminded.append("slow"))
    gathering.expect("other")
    gathering.begin(done.append)
    quick(1)
    gathering.remind()
    assert (reminded, done) == (["slow"], [])
    slow(2)
    gathering.give_up()
    assert done == [{"quick": 1, "slow": 2, "other": None}]


def test_a_gathering_of_nothing_is_done_at_once() -> None:
    done: list[int] = []
    Gathering(1.0, len).begin(done.append)
    assert done == [0]


def test_what_has_told_nothing_in_time_is_given_up() -> None:
    done: list[dict[str, object]] = []
    gathering = Gathering(1.0)
    gathering.expect("silent")
    tell = gathering.expect("slow", lambda: tell("a part"))
    gathering.begin(done.append)
    gathering.give_up()
    assert done == [{"silent": None, "slow": "a part"}]
    tell("the whole")
    assert len(done) == 1
