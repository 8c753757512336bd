"""Stream calls: a worker of their own, chunks as far as there is credit."""

from __future__ import annotations

import pytest
from pool_driver import Driver, at, ids

from snakepit_port.pool import streams


@pytest.mark.parametrize("prefetch", ["auto", 5])
def test_a_stream_shares_its_worker_with_no_other_call(prefetch: str | int) -> None:
    driver = Driver(prefetch=prefetch)
    (worker,) = driver.up()
    driver.learn("c")
    stream = driver.call("c", credit=3)
    behind = driver.calls(2, "c")
    assert at(worker) == [stream.id]
    assert driver.queued == ids(behind)
    driver.answer(worker)
    # Fast calls go together; a stream behind them waits until its worker is idle.
    assert at(worker) == ids(behind)
    another = driver.call("c", credit=3)
    assert driver.queued == [another.id]
    for _ in behind:
        driver.answer(worker)
    assert at(worker) == [another.id]


def test_what_a_stream_takes_says_nothing_about_its_command() -> None:
    driver = Driver()
    (worker,) = driver.up()
    for _ in range(3):
        driver.call("c", credit=3)
        driver.answer(worker)
    calls = driver.calls(2, "c")
    assert driver.queued == ids(calls[1:])
    driver.answer(worker)
    driver.answer(worker)
    driver.learn("d")
    driver.call("d", credit=0)
    driver.wait(5.0)
    driver.answer(worker)
    together = driver.calls(2, "d")
    assert at(worker) == ids(together)


def test_chunks_are_wanted_as_far_as_there_is_credit() -> None:
    driver = Driver()
    (worker,) = driver.up()
    call = driver.call(credit=1)
    assert streams.chunk_came(worker, call.id) is True
    assert streams.chunk_came(worker, call.id) is None
    driver.perform(streams.credited(call, 2))
    assert driver.granted == [(worker.id, call.id, 2)]
    assert streams.chunk_came(worker, call.id) is True
    driver.cancel(call)
    # What was on its way is no offence.
    assert streams.chunk_came(worker, call.id) is False
    assert streams.chunk_came(worker, call.id) is None
    driver.perform(streams.credited(call, 2))
    assert len(driver.granted) == 1
    plain = driver.call()
    driver.answer(worker)
    assert at(worker) == [plain.id]
    for id in (plain.id, call.id, 777):
        assert streams.chunk_came(worker, id) is None


def test_chunks_of_a_worker_that_has_broken_the_protocol_count_no_more() -> None:
    driver = Driver()
    (worker,) = driver.up()
    call = driver.call(credit=1)
    error = {"type": "protocol_error", "message": "it sent nonsense"}
    driver.perform(driver.machine.condemn(worker, error, driver.now))
    assert streams.chunk_came(worker, call.id) is False
    assert streams.chunk_came(worker, 777) is False


def test_credit_that_comes_while_a_call_is_queued_goes_with_it() -> None:
    driver = Driver()
    (worker,) = driver.up()
    driver.call()
    stream = driver.call(credit=1)
    driver.perform(streams.credited(stream, 4))
    assert driver.granted == []
    driver.answer(worker)
    assert (at(worker), stream.granted) == ([stream.id], 4)
    for _ in range(5):
        assert streams.chunk_came(worker, stream.id) is True
    assert streams.chunk_came(worker, stream.id) is None


def test_a_stream_that_was_not_begun_takes_its_credit_to_another_worker() -> None:
    driver = Driver()
    (worker,) = driver.up()
    stream = driver.call(credit=1)
    driver.perform(streams.credited(stream, 4))
    driver.gone(worker, started=0)
    driver.wait(1.0)
    (successor,) = driver.up()
    assert (at(successor), stream.granted) == ([stream.id], 4)
    assert streams.chunk_came(successor, stream.id) is True
    driver.gone(successor, started=1)
    assert driver.outcome(stream) == "worker_crashed"
    assert [id for _, id in driver.sent] == [stream.id, stream.id]
