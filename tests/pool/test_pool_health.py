"""When workers are asked whether they are well, and what becomes of those that do not say so."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pool_driver import Driver

from snakepit_port.pool.record import CATCHING_UP
from snakepit_port.pool.speed import STALL_SECONDS


def pool(**settings: Any) -> Driver:
    driver = Driver(
        **{"health_check_interval": 10.0, "health_check_timeout": 2.0, "prefetch": 4, **settings}
    )
    driver.start()
    for worker in list(driver.machine.workers.values()):
        driver.ready(worker)
    return driver


def pong(driver: Driver, number: int) -> None:
    (worker,) = driver.machine.workers.values()
    driver.perform(driver.machine.ponged(worker, number, driver.now))


def test_an_idle_worker_is_pinged_again_and_again() -> None:
    driver = pool()
    driver.wait(9.9)
    assert driver.pinged == []
    for number in (1, 2, 3):
        driver.wait(0.1)
        assert driver.pinged[-1] == ("p-1", number)
        driver.wait(1.5)
        pong(driver, number)
        driver.wait(9.9)
    assert len(driver.pinged) == 3
    assert driver.killed == []


def test_a_worker_that_is_silent_is_replaced_and_reported() -> None:
    driver = pool()
    driver.wait(11.9)
    assert driver.killed == []
    driver.wait(0.1)
    assert driver.killed == ["p-1"]
    driver.wait(0.1)
    assert driver.started == ["p-1", "p-2"]
    (event,) = driver.heard("worker.health_check_failed")
    assert event.metadata["worker"] == "p-1"
    assert "2 s" in event.metadata["message"]
    driver.gone(driver.machine.workers["p-1"])
    (event,) = driver.heard("worker.stopped")
    assert event.metadata["reason"] == "health_check_failed"
    assert driver.machine.stats()["worker_crashes"] == 0


def test_the_turn_of_a_ping_comes_though_calls_before_it_were_given_back() -> None:
    driver = pool(pool_size=2, prefetch="auto")
    driver.learn("moody")
    one, two = driver.workers
    driver.calls(8, "moody")
    driver.wait(10.0)
    assert sorted(driver.pinged) == [("p-1", 1), ("p-2", 2)]
    while two.calls:
        driver.answer(two, together=100)
    driver.perform(driver.machine.ponged(two, 2, driver.now))
    driver.wait(STALL_SECONDS)
    ((_, recalled),) = driver.recalled
    driver.give_back(one, [call for call in one.calls.values() if call.id in recalled])
    driver.answer(one)
    driver.wait(4.1)
    assert driver.killed == [one.id]


def test_nothing_is_held_against_a_worker_that_is_not_read_from() -> None:
    driver = pool()
    (worker,) = driver.machine.workers.values()
    driver.wait(11.0)
    driver.machine.hear(False, driver.now)
    driver.wait(100.0)
    driver.machine.hear(True, driver.now)
    driver.wait(CATCHING_UP / 2)
    assert driver.killed == []
    # Its answer is read.
    driver.perform(driver.machine.ponged(worker, 1, driver.now))
    driver.wait(11.9)
    assert driver.killed == []
    driver.wait(0.1)
    assert driver.killed == ["p-1"]


def test_a_worker_that_still_says_nothing_once_it_is_read_from_is_replaced() -> None:
    driver = pool()
    driver.wait(11.0)
    driver.machine.hear(False, driver.now)
    driver.wait(100.0)
    driver.machine.hear(True, driver.now)
    driver.wait(2 * CATCHING_UP)
    assert driver.killed == ["p-1"]


def test_a_worker_that_says_it_is_not_well_is_replaced() -> None:
    driver = pool()
    (worker,) = driver.machine.workers.values()
    driver.perform(driver.machine.unwell(worker, "the model is gone", driver.now))
    # It died young and has answered nothing: its successor may be no better, and waits a little.
    assert (driver.killed, driver.started) == (["p-1"], ["p-1"])
    driver.wait(0.1)
    assert driver.started == ["p-1", "p-2"]
    driver.perform(driver.machine.unwell(worker, "the model is gone", driver.now))
    assert len(driver.heard("worker.health_check_failed")) == 1


def test_the_calls_of_a_worker_that_is_not_well_are_told_why_it_went() -> None:
    driver = pool()
    (worker,) = driver.machine.workers.values()
    call = driver.call()
    driver.perform(driver.machine.unwell(worker, "it says: no connection", driver.now))
    driver.gone(worker, started=1)
    error = driver.error(call)
    assert (error["type"], error["worker"]) == ("worker_crashed", "p-1")
    assert "health check" in error["message"]
    assert "no connection" in error["message"]


def test_calls_before_the_ping_may_take_their_time() -> None:
    driver = pool()
    first, second = driver.calls(2)
    driver.wait(10)
    assert driver.pinged == [("p-1", 1)]
    driver.wait(100)
    (worker,) = driver.machine.workers.values()
    driver.answer(worker)
    driver.wait(100)
    assert driver.killed == []
    driver.answer(worker)
    driver.wait(1.9)
    pong(driver, 1)
    driver.wait(9)
    assert driver.killed == []
    assert driver.answers[first] == driver.answers[second] == ["forwarded"]


def test_its_time_counts_from_the_answer_to_the_last_call_before_the_ping() -> None:
    driver = pool()
    driver.wait(9.9)
    driver.calls(2)
    driver.wait(0.1)
    assert driver.pinged == [("p-1", 1)]
    (worker,) = driver.machine.workers.values()
    driver.answer(worker)
    driver.wait(1.9)
    driver.answer(worker)
    driver.wait(1.9)
    assert driver.killed == []
    driver.wait(0.1)
    assert driver.killed == ["p-1"]


def test_calls_after_the_ping_are_no_excuse() -> None:
    driver = pool()
    before = driver.call()
    driver.wait(10)
    (worker,) = driver.machine.workers.values()
    driver.answer(worker)
    after = driver.call()
    driver.wait(4)
    assert driver.killed == ["p-1"]
    # It had not begun that one, which another worker runs.
    driver.gone(worker, started=1)
    driver.ready(driver.machine.workers["p-2"])
    driver.answer(driver.machine.workers["p-2"])
    assert driver.answers[before] == driver.answers[after] == ["forwarded"]


def test_answers_to_calls_after_the_ping_do_not_renew_its_time() -> None:
    driver = pool()
    driver.wait(10)
    driver.call()
    driver.wait(1.9)
    (worker,) = driver.machine.workers.values()
    driver.answer(worker)
    driver.wait(0.1)
    assert driver.killed == ["p-1"]


def test_a_pong_that_nobody_asked_for_breaks_the_protocol() -> None:
    driver = pool()
    (worker,) = driver.machine.workers.values()
    assert driver.machine.ponged(worker, 1, driver.now) is None
    driver.wait(10)
    assert driver.machine.ponged(worker, 2, driver.now) is None
    pong(driver, 1)
    assert driver.machine.ponged(worker, 1, driver.now) is None


@pytest.mark.parametrize("how", ["stop", "gone", "never"])
def test_nothing_is_asked_of_a_worker_that_goes_or_need_not_say(how: str) -> None:
    driver = pool(health_check_interval=math.inf if how == "never" else 10.0, pool_size=1)
    (worker,) = driver.machine.workers.values()
    if how == "stop":
        driver.stop()
    elif how == "gone":
        driver.gone(worker)
    driver.wait(1000)
    assert driver.pinged == []
