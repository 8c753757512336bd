"""Who gets a worker, in which order, and who does not: the queue and its limits."""

from __future__ import annotations

import pytest
from pool_driver import Driver, at, ids


def test_a_call_goes_to_an_idle_worker_at_once() -> None:
    pool = Driver()
    (worker,) = pool.up()
    call = pool.call()
    assert pool.sent == [(worker.id, call.id)]
    pool.answer(worker)
    assert pool.outcome(call) == "forwarded"


def test_calls_wait_while_the_pool_starts() -> None:
    pool = Driver(pool_size=2)
    pool.start()
    calls = pool.calls(3)
    assert pool.queued == ids(calls)
    pool.ready(pool.workers[0])
    pool.ready(pool.workers[1])
    assert pool.sent == [(pool.workers[0].id, 1), (pool.workers[1].id, 2)]


def test_queued_calls_are_sent_in_the_order_they_came() -> None:
    pool = Driver(pool_size=2)
    one, two = pool.up()
    pool.calls(6)
    for worker in (one, two, two, one):
        pool.answer(worker)
    assert [id for _, id in pool.sent] == [1, 2, 3, 4, 5, 6]


def test_a_call_does_not_overtake_the_queue() -> None:
    pool = Driver()
    (worker,) = pool.up()
    pool.learn("fast")
    pool.call("slow")
    waiting = pool.call("slow")
    pool.answer(worker)
    quick = pool.call("fast")
    assert at(worker) == [waiting.id]
    assert pool.queued == [quick.id]


def test_a_fast_call_does_not_overtake_one_that_waits_for_an_idle_worker() -> None:
    pool = Driver()
    (worker,) = pool.up()
    pool.learn("fast")
    running = pool.call("fast")
    waiting = pool.calls(1, "unknown") + pool.calls(1, "fast")
    assert at(worker) == [running.id]
    assert pool.queued == ids(waiting)


def test_of_idle_workers_the_last_used_comes_first() -> None:
    pool = Driver(pool_size=3)
    one, *_ = pool.up()
    first, second = pool.call(), pool.call()
    assert first.worker is not None
    assert second.worker is not None
    last_used = first.worker
    assert last_used is not one
    pool.answer(second.worker)
    pool.answer(last_used)
    assert pool.call().worker is last_used


def test_a_full_queue_refuses_at_once() -> None:
    pool = Driver(max_queue_size=2)
    (worker,) = pool.up()
    calls = pool.calls(5)
    assert pool.outcomes(calls) == [None] * 3 + ["pool_saturated"] * 2
    error = pool.error(calls[3])
    assert (error["pool"], error["command"]) == ("p", "c")
    assert "max_queue_size" in error["message"]
    pool.answer(worker)
    assert pool.outcome(pool.call()) is None


def test_a_pool_that_begins_to_refuse_says_so_once() -> None:
    pool = Driver(max_queue_size=2)
    (worker,) = pool.up()
    pool.calls(10)
    pool.answer(worker)
    pool.calls(10)
    assert [event.measurements for event in pool.heard("pool.saturated")] == [{"queued": 2}]
    assert pool.machine.stats()["pool_saturated"] == 7 + 9


@pytest.mark.parametrize("how", ["answers", "cancels", "timeouts"])
def test_a_pool_whose_queue_was_empty_meanwhile_says_it_again(how: str) -> None:
    pool = Driver(max_queue_size=2, prefetch=1)
    (worker,) = pool.up()
    first = pool.call(queue_timeout=1.0)
    calls = [pool.call(queue_timeout=1.0) for _ in range(3)]
    if how == "answers":
        for _ in range(3):
            pool.answer(worker)
        pool.call()
    elif how == "cancels":
        for call in calls:
            pool.cancel(call)
    else:
        pool.wait(1.0)
    assert pool.queued == []
    assert pool.outcome(first) == ("forwarded" if how == "answers" else None)
    pool.calls(3)
    assert len(pool.heard("pool.saturated")) == 2


def test_a_pool_that_refused_for_bytes_says_it_again_once_there_were_some_left() -> None:
    pool = Driver()
    (worker,) = pool.up()
    for _ in range(2):
        pool.call()
        for _ in range(2):
            pool.machine.queue.allow_bytes(False)
            assert pool.outcome(pool.call()) == "pool_saturated"
        pool.machine.queue.allow_bytes(True)
        pool.answer(worker)
    assert len(pool.heard("pool.saturated")) == 2


def test_bytes_that_wait_are_counted() -> None:
    pool = Driver()
    (worker,) = pool.up()
    _, second, _ = pool.calls(3)
    assert pool.machine.queue.bytes == 20
    pool.cancel(second)
    assert pool.machine.queue.bytes == 10
    pool.answer(worker)
    assert pool.machine.queue.bytes == 0


class TestQueueTimeout:
    def test_a_call_waits_no_longer_for_a_worker(self) -> None:
        pool = Driver()
        pool.up()
        pool.call()
        call = pool.call(queue_timeout=2.0)
        pool.wait(1.9)
        assert pool.outcome(call) is None
        pool.wait(0.2)
        assert pool.outcome(call) == "queue_timeout"
        assert pool.queued == []
        assert pool.machine.stats()["queue_timeouts"] == 1
        assert "2 s" in pool.error(call)["message"]

    def test_it_does_not_bind_a_call_that_has_a_worker(self) -> None:
        pool = Driver()
        (worker,) = pool.up()
        pool.call()
        call = pool.call(queue_timeout=2.0)
        pool.wait(1.0)
        pool.answer(worker)
        assert pool.machine.next_due is None
        pool.wait(100.0)
        assert pool.outcome(call) is None

    def test_zero_takes_an_idle_worker_or_gives_up(self) -> None:
        pool = Driver()
        pool.up()
        lucky = pool.call(queue_timeout=0.0)
        unlucky = pool.call(queue_timeout=0.0)
        pool.wait(0)
        assert pool.outcomes([lucky, unlucky]) == [None, "queue_timeout"]

    def test_a_call_that_waits_again_does_not_wait_for_ever(self) -> None:
        pool = Driver(prefetch=2)
        (worker,) = pool.up()
        _, second = pool.call(), pool.call(queue_timeout=2.0)
        pool.wait(10.0)
        pool.gone(worker, started=1)
        assert pool.queued == [second.id]
        pool.wait(1.9)
        assert pool.outcome(second) is None
        pool.wait(0.2)
        assert pool.outcome(second) == "queue_timeout"


def test_statistics() -> None:
    pool = Driver(pool_size=2, max_queue_size=1)
    one, _two = pool.up()
    pool.calls(4)
    pool.answer(one, ok=False)
    stats = pool.machine.stats()
    assert stats == {
        "state": "ready",
        "reload": None,
        "requests": 4,
        "errors": 2,
        "queued": 0,
        "sessions": 0,
        "queue_timeouts": 0,
        "pool_saturated": 1,
        "workers": 2,
        "available": 0,
        "busy": 2,
        "timeouts": 0,
        "cancelled": 0,
        "worker_crashes": 0,
        "started": 2,
        "start_failures": 0,
        "retries": 0,
    }
    pool.answer(one)
    stats = pool.machine.stats()
    assert (stats["available"], stats["busy"]) == (1, 1)
