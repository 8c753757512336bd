"""What the host says, decided without processes: routing, refusals, back-pressure."""

from __future__ import annotations

import errno
import gc
import math
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from snakepit_port.config import load_terms
from snakepit_port.pool import effects
from snakepit_port.supervisor import controls, replies
from snakepit_port.supervisor import runner as runners
from snakepit_port.supervisor.balance import HOST_BEHIND_BYTES, MAX_FRAMES_HELD, MAX_HOLD
from snakepit_port.supervisor.controls import MEMORY_PATIENCE
from snakepit_port.supervisor.host import Host
from snakepit_port.supervisor.ledger import Ledger
from snakepit_port.supervisor.run import Run
from snakepit_port.supervisor.source import Source
from snakepit_port.wire import Atom, decode, encode, messages
from snakepit_port.wire.framing import Oversized, pack
from snakepit_port.wire.grammar import MAX_LINE_CHARS
from snakepit_port.wire.terms import show

MAX_FRAME_BYTES = 2**17


class FakePump:
    """Nothing is ready, and nothing is written until it is told that it was."""

    out_bytes = 0

    def watch(self, fd: int, events: int, ready: Callable[[int], None]) -> None: ...

    def flush_soon(self, link: Any) -> None: ...


class FakeLink:
    """Where frames go: to the host or to a worker."""

    def __init__(self, pump: FakePump) -> None:
        self._pump = pump
        self.sent: list[bytes] = []
        self.out_bytes = 0
        self.paused = False

    def send(self, frame: bytes) -> None:
        self.sent.append(frame)
        self.out_bytes += len(frame)
        self._pump.out_bytes += len(frame)

    def flush(self) -> None: ...

    def written(self) -> None:
        self._pump.out_bytes -= self.out_bytes
        self.out_bytes = 0

    def pause(self, paused: bool) -> None:
        self.paused = paused


class FakeProcess:
    inherited = ()

    def __init__(self, worker: Any, pump: FakePump, source: Any) -> None:
        self.worker = worker
        self.source = source
        self.runner = source.runner
        self.starter = source
        self.condemned = self.is_ready = self.is_announced = False
        self.os_pid = None
        self.python = ""
        self.link = FakeLink(pump)
        self.paused = False

    def pause(self, paused: bool) -> None:
        self.paused = paused

    def finish(self) -> None: ...


def configured(*pools: str) -> dict[str, Any]:
    return {
        "supervisor": {"max_frame_bytes": MAX_FRAME_BYTES},
        "pools": [
            {
                "name": name,
                "adapter": "a",
                "pool_size": 1,
                "call_timeout": "7s",
                "health_check_interval": "infinity",
            }
            for name in pools
        ],
    }


class Scene:
    """A host with two pools, whose workers are ready at once (unless it `starts`) and answer when
    they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, starts: bool = False) -> None:
        config = load_terms(configured("one", "two"), Path("/"))
        monkeypatch.setitem(runners._PERFORM, effects.Start, self._started)
        self.now = 0.0
        self.pump = FakePump()
        self.link = FakeLink(self.pump)
        self.host = Host(self.pump, self.link, config, lambda: self.now, Run(), {})  # type: ignore[arg-type]
        self.host.start()
        while self.host.next_due == -math.inf:
            self.host.tick(self.now)
        if not starts:
            self.up("one", "two")
        self.link.sent.clear()
        self.link.written()

    def up(self, *pools: str) -> None:
        """Have the workers of these pools be ready."""
        for name in pools:
            runner = self.host.pools.running[name]
            for worker in list(runner.machine.workers.values()):
                runner.perform(runner.machine.worker_ready(worker, {}, self.now))

    def _started(self, runner: Any, effect: effects.Start) -> None:
        runner._processes[effect.worker.id] = FakeProcess(effect.worker, self.pump, runner._source)

    def process(self, pool: str) -> Any:
        (process,) = self.host.pools.running[pool]._processes.values()
        return process

    def say(self, *frames: Any) -> list[tuple[Any, ...]]:
        """What the host gets for frames that it sends together."""
        before = len(self.link.sent)
        self.host.received(list(frames))
        self.host.take_stock()
        return [messages.parse(frame) for frame in self.link.sent[before:]]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    scene = Scene(monkeypatch)
    yield scene
    scene.host.release()


def test_a_host_is_heard_before_all_pools_have_begun_to_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began: list[str] = []
    monkeypatch.setitem(
        runners._PERFORM, effects.Start, lambda runner, _: began.append(runner.name)
    )
    config = load_terms(configured("one", "two", "three"), Path("/"))
    pump = FakePump()
    host = Host(pump, FakeLink(pump), config, lambda: 0.0, Run(), {})  # type: ignore[arg-type]
    host.start()
    assert not began
    for names in (["one"], ["one", "two"], ["one", "two", "three"]):
        assert host.next_due == -math.inf
        host.tick(0.0)
        assert began == names
    assert host.next_due > 0
    host.release()


def call(id: int, pool: str | None = "one", args: Any = (), **options: Any) -> bytes:
    return messages.call(id, pool, "add", encode(list(args)), options)


def test_a_call_goes_to_its_worker_byte_for_byte(scene: Scene) -> None:
    frame = call(1, "two", [1, 2])
    assert scene.say(frame) == []
    assert scene.process("two").link.sent == [frame]
    assert scene.process("one").link.sent == []


def test_an_answer_goes_to_the_host_byte_for_byte(scene: Scene) -> None:
    scene.say(call(1))
    answer = messages.result(1, encode("any"))
    scene.host.pools.running["one"].listener.said(scene.process("one"), [answer])
    assert scene.link.sent[-1] is answer


def test_a_call_in_an_unusual_encoding_is_a_call_too(scene: Scene) -> None:
    frame = pack(b"\x83h\5d\0\4calln\1\0\7w\3one" + b"m\0\0\0\3add" + b"m\0\0\0\2\x83j")
    assert scene.say(frame) == []
    assert scene.process("one").link.sent == [frame]


def test_an_id_in_use_is_refused_without_an_id(scene: Scene) -> None:
    scene.say(call(1))
    malformed = pack(b"\x83h\4w\4calla\1w\3nila\7")
    for frame in (call(1), messages.control(1, "stats", encode({})), malformed):
        ((tag, id, error),) = scene.say(frame)
        assert (tag, id, error["type"]) == ("error", None, "protocol_error")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": -1}, "timeout"),
        ({"timeout": 1.5}, "timeout"),
        ({"timeout": Atom("infinity")}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"queue_timeout": "1s"}, "queue_timeout"),
        ({"stream": -1}, "stream"),
        ({"stream": None}, "stream"),
        ({"stream": 2**60}, "stream"),
        ({"session": ""}, "session"),
        ({"session": 7}, "session"),
        ({"session": "s" * 256}, "session"),
    ],
)
def test_options_that_make_no_sense(scene: Scene, options: dict[str, Any], said: str) -> None:
    ((tag, id, error),) = scene.say(call(5, **options))
    assert (tag, id, error["type"]) == ("error", 5, "protocol_error")
    assert said in error["message"]
    assert scene.process("one").link.sent == []
    # The id is free, and options that nobody knows are let pass.
    assert scene.say(call(5, colour="red")) == []


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 2**60 - 1},
        {"queue_timeout": 0},
        {"stream": 2**60 - 1},
        {"session": "s" * 255},
        {"session": None},
    ],
    ids=str,
)
def test_options_that_just_make_sense(scene: Scene, options: dict[str, Any]) -> None:
    assert scene.say(call(5, **options)) == []
    assert scene.process("one").link.sent == [call(5, **options)]


def test_a_call_of_no_pool_is_told_with_its_command(scene: Scene) -> None:
    ((tag, id, error),) = scene.say(call(5, "three"))
    assert (tag, id, error["type"], error["command"]) == ("error", 5, "unknown_pool", "add")


@pytest.mark.parametrize("told", ["tools", 7, {"tools": True}, None])
def test_capabilities_that_are_no_list_are_none(told: Any) -> None:
    config = load_terms(configured("one"), Path("/"))
    pump = FakePump()
    info = {"capabilities": told}
    host = Host(pump, FakeLink(pump), config, lambda: 0.0, Run(), info)  # type: ignore[arg-type]
    assert not host.host_runs_tools
    host.release()


@pytest.mark.parametrize(
    ("options", "due"),
    [({}, 7.0), ({"timeout": 250}, 0.25), ({"timeout": None}, math.inf), ({"timeout": 1}, 0.001)],
)
def test_deadlines_are_the_calls_own_or_the_pools(
    scene: Scene, options: dict[str, Any], due: float
) -> None:
    scene.say(call(5, **options))
    assert scene.host.next_due == due


def test_a_deadline_that_has_passed_is_answered(scene: Scene) -> None:
    scene.say(call(5, timeout=250))
    scene.now = 0.25
    scene.host.tick(scene.now)
    tag, id, error = messages.parse(scene.link.sent[-1])
    assert (tag, id, error["type"]) == ("error", 5, "timeout")


def test_controls(scene: Scene) -> None:
    def control(name: str, args: Any) -> tuple[Any, ...]:
        ((tag, id, value),) = scene.say(messages.control(9, name, encode(args)))
        assert id == 9
        return tag, decode(value) if tag == "result" else value["type"]

    assert control("nonsense", {}) == ("error", "unknown_control")
    assert control("stats", []) == ("error", "bad_arguments")
    assert control("stats", {"pool": "three"}) == ("error", "unknown_pool")
    assert control("workers", {"pool": 3}) == ("error", "unknown_pool")
    assert control("workers", {"pool": ["one"]}) == ("error", "unknown_pool")
    for worker in ("nobody", ["one-1"], {}):
        for name in ("recycle", "stacks"):
            assert control(name, {"worker": worker}) == ("error", "bad_arguments")
    tag, workers = control("workers", {"pool": "two"})
    assert [worker["id"] for worker in workers] == ["two-1"]
    ((tag, id, error),) = scene.say(messages.control(9, "stats", b"\xff"))
    assert (tag, id, error["type"]) == ("error", 9, "decode")


def test_workers_that_are_not_ready_are_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, starts=True)
    scene.up("one")
    ((tag, id, replaced), *_) = scene.say(messages.control(9, "recycle", encode({})))
    assert (tag, id, decode(replaced)) == ("result", 9, 1)
    scene.host.release()


def test_what_would_change_workers_is_refused_while_they_stop(scene: Scene) -> None:
    scene.say(call(1, "one"), call(2, "two"))
    scene.host.stop(grace=1.0)
    for name in ("recycle", "reload"):
        ((tag, id, error),) = scene.say(messages.control(9, name, encode({})))
        assert (tag, id, error["type"]) == ("error", 9, "shutting_down")


def test_what_a_control_call_causes_is_told_after_its_answer(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        scene.host.event("pool.unavailable", {}, {})
        raise controls.CallRefused("config", "no")

    def done(*_: Any) -> None:
        scene.host.event("pool.unavailable", {}, {})
        scene.host.event("pool.ready", {}, {})

    monkeypatch.setitem(controls._HANDLERS, "refused", refused)
    monkeypatch.setitem(controls._HANDLERS, "done", done)
    frames = scene.say(messages.control(9, "refused", encode({})))
    assert [frame[:2] for frame in frames] == [("error", 9), ("event", "pool.unavailable")]
    frames = scene.say(messages.control(9, "done", encode({})))
    assert [frame[0] for frame in frames] == ["result", "event", "event"]
    assert [frame[1] for frame in frames[1:]] == ["pool.unavailable", "pool.ready"]


def test_nobody_waits_for_the_memory_of_workers(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[int, Callable[[int | None], None]] = {}
    monkeypatch.setattr(scene.host.sampler, "measure", asked.__setitem__)
    for pid, pool in ((101, "one"), (102, "two")):
        scene.process(pool).os_pid = pid
    assert scene.say(messages.control(9, "workers", encode({}))) == []
    ((tag, _, _),) = scene.say(messages.control(10, "stats", encode({})))
    assert tag == "result"
    ((tag, _, error),) = scene.say(messages.control(9, "stats", encode({})))
    assert (tag, error["type"]) == ("error", "protocol_error")
    asked[101](5000)
    assert scene.host.next_due == MEMORY_PATIENCE
    scene.now = MEMORY_PATIENCE
    scene.host.tick(scene.now)
    asked[102](7000)
    tag, id, workers = messages.parse(scene.link.sent[-1])
    assert (tag, id) == ("result", 9)
    assert [(worker["id"], worker["memory_bytes"]) for worker in decode(workers)] == [
        ("one-1", 5000),
        ("two-1", None),
    ]
    assert scene.host.next_due > MEMORY_PATIENCE


def test_those_that_are_silent_are_reminded_until_there_is_no_more_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    reminded: list[float] = []

    def ask(runner: Any, gathering: Any, _only: str | None) -> None:
        gathering.expect(runner.name, remind=lambda: reminded.append(round(scene.now, 1)))

    monkeypatch.setattr(runners.Runner, "ask_stacks", ask)
    assert scene.say(messages.control(9, "stacks", encode({"pool": "one"}))) == []
    while not scene.link.sent:
        scene.now = scene.host.next_due
        scene.host.tick(scene.now)
    assert (reminded, scene.now) == ([0.3, 0.6, 0.9], 1.0)


def test_a_stop_waits_for_nobodys_memory(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene.host.sampler, "measure", lambda pid, told: None)
    monkeypatch.setattr(FakeProcess, "finish", lambda self: None, raising=False)
    scene.process("one").os_pid = 101
    assert scene.say(messages.control(9, "workers", encode({}))) == []
    scene.host.stop(1.0)
    answers = [messages.parse(frame) for frame in scene.link.sent]
    assert [answer[:2] for answer in answers if answer[0] == "result"] == [("result", 9)]


#: More digits than Python makes a text of, and more than a float or a small term can hold.
HUGE = 10**5000


@pytest.mark.parametrize(
    ("frame", "id", "type"),
    [
        (call(3, timeout=10**400), 3, "protocol_error"),
        (call(3, timeout=-HUGE), 3, "protocol_error"),
        (call(3, queue_timeout=HUGE), 3, "protocol_error"),
        (call(3, session=HUGE), 3, "protocol_error"),
        (call(3, stream=HUGE), 3, "protocol_error"),
        (messages.control(3, "stats", encode(HUGE)), 3, "bad_arguments"),
        (messages.control(3, "stats", encode({"pool": HUGE})), 3, "unknown_pool"),
        (messages.control(3, "stacks", encode({"pool": HUGE})), 3, "unknown_pool"),
        (messages.control(3, "recycle", encode({"worker": HUGE})), 3, "bad_arguments"),
        (messages.control(3, "close_session", encode({"session": HUGE})), 3, "unknown_pool"),
        (
            messages.control(3, "close_session", encode({"pool": HUGE, "session": "s"})),
            3,
            "unknown_pool",
        ),
        (
            messages.control(3, "close_session", encode({"pool": "one", "session": HUGE})),
            3,
            "bad_arguments",
        ),
    ],
)
def test_integers_out_of_all_bounds(scene: Scene, frame: bytes, id: int | None, type: str) -> None:
    ((tag, answered, error),) = scene.say(frame)
    assert (tag, answered, error["type"]) == ("error", id, type)
    assert len(error["message"]) < 200


def test_a_ping_may_have_any_number(scene: Scene) -> None:
    for number in (0, 255, 2**31, 2**60, 2**3000):
        assert scene.say(messages.ping(number)) == [("pong", number)]


@pytest.mark.parametrize(
    "frame",
    [
        messages.result(3, encode(None)),
        messages.hello({}),
        messages.pong(1),
        pack(b"\x83h\4w\x0btool_resulta\3a\1m\0\0\0\6\x83w\3nil"),
        pack(b"\x83"),
    ],
)
def test_frames_that_are_not_for_the_host_to_send(scene: Scene, frame: bytes) -> None:
    ((tag, id, error),) = scene.say(frame)
    assert (tag, id, error["type"]) == ("error", None, "protocol_error")


def test_a_frame_too_large_is_answered_by_its_id(scene: Scene) -> None:
    large = Oversized(10**9, call(77)[4:])
    ((tag, id, error),) = scene.say(large)
    assert (tag, id, error["type"]) == ("error", 77, "frame_too_large")
    scene.say(call(77))
    # An answer with that id now would end the call that goes on.
    ((tag, id, error),) = scene.say(large)
    assert (tag, id, error["type"]) == ("error", None, "frame_too_large")


def test_a_result_that_the_host_does_not_accept_is_an_error_that_says_so() -> None:
    many = {f"worker-{n}": "x" * 1000 for n in range(200)}
    whole = messages.parse(replies.result(7, "stacks", many, 2**20))
    assert (whole[0], decode(whole[2])) == ("result", many)
    tag, id, error = messages.parse(replies.result(7, "stacks", many, MAX_FRAME_BYTES))
    assert (tag, id, error["type"], error["command"]) == ("error", 7, "frame_too_large", "stacks")
    assert "the result of stacks takes a frame of 2" in error["message"]


def test_what_is_just_as_large_as_the_host_accepts_is_said_whole() -> None:
    content = {"type": "pool_unavailable", "message": "x" * 1000}
    whole = messages.error(7, content)
    size = len(whole) - len(pack(b""))
    assert replies.error(7, content, size) == whole
    assert len(replies.error(7, content, size - 1)) < len(whole)
    whole = messages.result(7, encode("x" * 1000))
    size = len(whole) - len(pack(b""))
    assert replies.result(7, "stats", "x" * 1000, size) == whole
    assert messages.parse(replies.result(7, "stats", "x" * 1000, size - 1))[0] == "error"


def test_what_became_of_an_older_configuration_is_left_out_where_it_is_too_much() -> None:
    told = {"pools": {"default": "unchanged"}}
    whole = {**told, "converted": [{"key": "pool_size"}] * 100}
    for size, said in ((2**20, whole), (1000, told)):
        assert messages.parse(replies.hello(whole, size))[2] == said
        assert decode(messages.parse(replies.result(7, "reload", whole, size))[2]) == said


def test_ping(scene: Scene) -> None:
    assert scene.say(messages.ping(4)) == [("pong", 4)]


def test_a_pool_that_was_added_before_the_others_settled_is_not_said_to_be_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch, starts=True)
    terms = {"config": configured("one", "two", "three"), "base_dir": "/"}
    scene.say(messages.control(1, "reload", encode(terms)))
    scene.up("one", "two", "three")
    said = [messages.parse(frame) for frame in scene.link.sent]
    assert [info for tag, info, *_ in said if tag == "ready"] == [
        {"pools": {"one": "ready", "two": "ready"}}
    ]
    scene.host.release()


def test_nobody_waits_for_a_pool_that_was_removed_before_it_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch, starts=True)
    scene.up("one")
    said = scene.say(reload(1, "one"))
    assert [info for tag, info, *_ in said if tag == "ready"] == [{"pools": {"one": "ready"}}]
    scene.host.release()


# -- streams ---------------------------------------------------------------------------------------


def test_chunks_go_to_the_host_byte_for_byte_and_credit_to_the_worker(scene: Scene) -> None:
    assert scene.say(call(1, stream=1), messages.credit(1, 2)) == []
    process = scene.process("one")
    assert process.link.sent == [call(1, stream=1), messages.credit(1, 2)]
    chunks = [messages.chunk(1, encode(n)) for n in range(3)]
    scene.host.pools.running["one"].listener.said(process, chunks)
    assert all(sent is chunk for sent, chunk in zip(scene.link.sent[-3:], chunks, strict=True))


@pytest.mark.parametrize("credits", [[1], [5, 1]])
def test_credit_of_a_call_that_is_queued_follows_it_to_its_worker(
    scene: Scene, credits: list[int]
) -> None:
    process = scene.process("one")
    granted = [messages.credit(2, credit) for credit in credits]
    assert scene.say(call(1), call(2, stream=0), *granted) == []
    assert process.link.sent == [call(1)]
    scene.host.pools.running["one"].listener.said(process, [messages.result(1, encode(None))])
    assert process.link.sent == [call(1), call(2, stream=0), messages.credit(2, sum(credits))]


def test_credit_of_no_call_does_nothing_and_of_a_call_that_is_no_stream_is_wrong(
    scene: Scene,
) -> None:
    assert scene.say(messages.credit(3, 1)) == []
    scene.say(call(1))
    ((tag, id, error),) = scene.say(messages.credit(1, 1))
    assert (tag, id, error["type"]) == ("error", None, "protocol_error")
    assert scene.process("one").link.sent == [call(1)]


def test_chunks_of_a_call_that_was_answered_are_dropped(scene: Scene) -> None:
    scene.say(call(1, stream=9))
    ((tag, id, error),) = scene.say(messages.cancel(1))
    assert (tag, id, error["type"]) == ("error", 1, "cancelled")
    process = scene.process("one")
    before = len(scene.link.sent)
    late = [messages.chunk(1, encode(1)), messages.error(1, {"type": "cancelled", "message": "x"})]
    scene.host.pools.running["one"].listener.said(process, late)
    assert len(scene.link.sent) == before
    assert not process.link.paused


@pytest.mark.parametrize("id", [1, 2, 777])
def test_a_worker_that_sends_chunks_nobody_asked_for_is_killed(scene: Scene, id: int) -> None:
    """Beyond its credit, of a call that is no stream, of no call."""
    scene.say(call(1, stream=1), call(2, "two"))
    pool = "two" if id == 2 else "one"
    process = scene.process(pool)
    frames = [messages.chunk(id, encode(n)) for n in range(2)]
    scene.host.pools.running[pool].listener.said(process, frames)
    log = messages.parse(scene.link.sent[-1])
    assert log[0] == "log"
    assert f"a chunk of call {id}" in log[1]["line"]
    assert process.worker.fate is not None


def test_what_a_worker_complains_of_is_one_line(scene: Scene) -> None:
    runner, process = scene.host.pools.running["one"], scene.process("one")
    runner.listener.said(process, [messages.error(None, {"message": "no\n\x1b[2Jforged"})])
    (entry,) = [said[1] for frame in scene.link.sent if (said := messages.parse(frame))[0] == "log"]
    assert entry["line"] == "no\\n\\x1b[2Jforged"


def test_a_stop_looks_again_at_who_is_late(scene: Scene) -> None:
    source = scene.host.pools.running["one"]._source
    source._looked_at = 5.0
    scene.host.stop(1.0)
    assert source._looked_at < 0


@pytest.mark.parametrize(
    "value",
    [None, 1.5, True, 2**20_000, b"\xff", ["a", ["b"]], {"a": {}}, Atom("a"), "a"],
    ids=lambda value: show(value),
)
def test_what_a_worker_says_may_have_anything_in_its_maps(scene: Scene, value: Any) -> None:
    runner, process = scene.host.pools.running["one"], scene.process("one")
    for frame in (
        messages.hello({"os_pid": value, "python": value}),
        messages.error(None, {"message": value}),
        messages.event("worker.gil_enabled", {"n": value}, {"message": value}),
        messages.log({"level": value, "line": "a"}),
        messages.log({"level": "info", "line": value}),
        messages.ready({"gil": value, "idempotent": [value]}),
        messages.failed({"type": value, "message": value}),
    ):
        process.condemned = False
        runner.listener.said(process, [frame])
    # It is told of as far as it could be read.
    tags = [messages.parse(frame)[0] for frame in scene.link.sent]
    assert tags.count("log") >= 2
    assert "event" in tags


def test_no_worker_says_that_it_is_another(scene: Scene) -> None:
    runner, process = scene.host.pools.running["one"], scene.process("one")
    said = {"message": "m", "pool": "two", "worker": "two-1"}
    runner.listener.said(process, [messages.event("worker.gil_enabled", {}, said)])
    (event,) = [messages.parse(frame) for frame in scene.link.sent]
    told = {"message": "m", "pool": "one", "worker": "one-1"}
    assert event == ("event", "worker.gil_enabled", {}, told)


# -- back-pressure ---------------------------------------------------------------------------------


def test_workers_are_read_no_further_than_the_host_reads(scene: Scene) -> None:
    scene.host.event("e", {}, {"text": "x" * HOST_BEHIND_BYTES})
    scene.say()
    assert scene.process("one").paused
    assert scene.process("two").paused
    # Nor is the host, which would be answered: with refusals, say.
    assert scene.link.paused
    # It goes on only when there is some room: not at every frame that the host takes.
    scene.link.out_bytes = scene.pump.out_bytes = HOST_BEHIND_BYTES // 2 + 1
    scene.say()
    assert scene.process("one").paused
    scene.link.out_bytes = scene.pump.out_bytes = HOST_BEHIND_BYTES // 2
    scene.say()
    assert not scene.process("one").paused
    assert not scene.link.paused


def test_nor_are_workers_that_are_started_meanwhile(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(runner: Any, source: Any, worker: Any, again: bool) -> FakeProcess:
        return FakeProcess(worker, scene.pump, source)

    monkeypatch.setitem(runners._PERFORM, effects.Start, runners.Runner._start)
    monkeypatch.setattr(runners, "WorkerProcess", started)
    monkeypatch.setattr(Source, "start", lambda source, process: None)
    scene.host.event("e", {}, {"text": "x" * HOST_BEHIND_BYTES})
    scene.say()
    terms = {"config": configured("one", "two", "three"), "base_dir": "/"}
    scene.say(messages.control(1, "reload", encode(terms)))
    scene.host.tick(scene.now)
    assert scene.process("three").paused
    scene.link.written()
    scene.say()
    assert not scene.process("three").paused


def test_a_long_line_of_its_own_is_cut_and_one_that_was_cut_is_left(scene: Scene) -> None:
    cut = "é" * MAX_LINE_CHARS + "…"
    for line in (cut, "é" * 10 * MAX_LINE_CHARS):
        scene.host.log(None, None, "supervisor", "warning", line)
        _, entry = messages.parse(scene.link.sent[-1])
        assert entry["line"] == cut


def test_a_reload_without_descriptors_for_its_pools_changes_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledgers: list[Any] = []

    def few() -> Any:
        if ledgers:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        ledgers.append(Ledger())
        return ledgers[-1]

    monkeypatch.setattr(runners, "Ledger", few)
    terms = {"config": configured("two", "three", "four"), "base_dir": "/"}
    ((_, id, error),) = scene.say(messages.control(1, "reload", encode(terms)))
    assert (id, error["type"]) == (1, "config")
    assert "raise `ulimit -n`" in error["message"]
    assert list(scene.host.pools.running) == ["one", "two"]
    assert scene.say(call(2, "one")) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(ledgers[0].fd)


def reload(id: int, *pools: str) -> bytes:
    return messages.control(id, "reload", encode({"config": configured(*pools), "base_dir": "/"}))


def test_pools_that_a_reload_adds_are_started_one_at_a_time(scene: Scene) -> None:
    def started() -> list[str]:
        running = scene.host.pools.running.values()
        return [runner.name for runner in running if runner.machine.workers]

    scene.say(reload(1, "one", "two", "three", "four", "five", "six"))
    for number in range(2, 5):
        assert len(started()) == number
        # Nobody takes one for whole that has not begun.
        assert scene.host.pools.running["six"].machine.stats()["reload"] == "begun"
        assert scene.host.next_due <= scene.now
        scene.host.tick(scene.now)
        scene.say()
    # What was not begun before is begun now, and what is gone is not.
    scene.say(reload(2, "one", "two", "three", "four", "five", "six", "seven", "eight"))
    assert started() == ["one", "two", "three", "four", "five", "six"]
    scene.say(reload(3, "one", "seven"))
    assert started() == ["one", "seven"]
    scene.say(reload(4, "one", "seven", "nine"))
    scene.host.stop(60.0)
    scene.host.tick(scene.now)
    assert scene.host.pools.next_due == math.inf
    assert started() == ["one", "seven"]


def test_a_pool_that_leaves_is_none_of_those_there_are_but_a_stop_waits_for_it(
    scene: Scene,
) -> None:
    terms = configured("one", "two")
    terms["pools"][1]["cancel_grace_period"] = "99s"
    scene.say(messages.control(1, "reload", encode({"config": terms, "base_dir": "/"})))
    scene.say(call(2, "two"))
    ((_, _, value), *_) = scene.say(reload(3, "one"))
    (leaving,) = scene.host.pools.leaving
    seconds = scene.host.pools.supervisor.shutdown_grace_period
    seconds += 99 + leaving.settings.worker_shutdown_grace_period
    assert decode(value)["stop_time"] == 1000 * seconds
    ((_, _, stats),) = scene.say(messages.control(4, "stats", encode({})))
    assert list(decode(stats)["pools"]) == ["one"]


def test_how_long_a_stop_may_take_is_what_was_read_last(scene: Scene) -> None:
    terms = configured("one")
    terms["supervisor"]["shutdown_grace_period"] = "77s"
    scene.say(messages.control(1, "reload", encode({"config": terms, "base_dir": "/"})))
    assert scene.host.pools.supervisor.shutdown_grace_period == 77.0


def test_nothing_is_kept_of_a_pool_that_is_gone(scene: Scene) -> None:
    scene.say(*(call(id, "two", timeout=250) for id in range(3)))
    scene.say(reload(3, "one"))
    (runner,) = scene.host.pools.leaving
    assert scene.host.next_due == 0.25
    scene.say(*map(messages.cancel, range(3)))
    (worker,) = runner.machine.workers.values()
    runner.perform(runner.machine.worker_gone(worker, scene.now, started=1, error={}))
    scene.say()
    kept = weakref.ref(runner)
    del runner, worker
    gc.collect()
    assert kept() is None


def test_no_id_is_used_twice_though_the_later_of_two_namesakes_goes_first(scene: Scene) -> None:
    def remove_and_add() -> Any:
        scene.say(reload(1, "one"))
        scene.say(reload(2, "one", "two"))
        scene.host.tick(scene.now)
        return scene.host.pools.running["two"]

    before = scene.host.pools.running["two"]
    namesake = remove_and_add()
    scene.up("two")
    scene.say(reload(3, "one"))
    for runner in (namesake, before):
        (worker,) = runner.machine.workers.values()
        runner.perform(runner.machine.worker_gone(worker, scene.now, started=0, error={}))
        scene.host.take_stock()
    assert list(remove_and_add().machine.workers) == ["two-3"]


@pytest.mark.parametrize("base_dir", [5, ["x"], b"\xff", False])
def test_a_base_dir_that_is_no_path_is_a_mistake(scene: Scene, base_dir: Any) -> None:
    terms = {"config": configured("one"), "base_dir": base_dir}
    ((_, id, error),) = scene.say(messages.control(1, "reload", encode(terms)))
    assert (id, error["type"]) == (1, "config")
    assert [problem["place"] for problem in error["problems"]] == ["base_dir"]
    assert f"expected the path of a folder, found {show(base_dir)}" in error["message"]


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_reload_waits_for_nobody_who_writes_the_file(
    scene: Scene, tmp_path: Path, kind: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    file = {"pipe": str(tmp_path / "pipe"), "device": "/dev/zero", "folder": str(tmp_path)}[kind]
    ((_, id, error),) = scene.say(messages.control(1, "reload", encode({"file": file})))
    assert (id, error["type"]) == (1, "config")
    assert error["message"].startswith(f"{file}: this is no regular file")
    assert scene.say(call(2, "one")) == []


def test_the_host_is_read_no_further_than_calls_can_be_held(scene: Scene) -> None:
    size = MAX_FRAME_BYTES - 1000
    frames = [call(number, "one", ["x" * size]) for number in range(3)]
    for frame in frames[:MAX_FRAMES_HELD]:
        scene.say(frame)
    assert not scene.link.paused
    scene.say(frames[MAX_FRAMES_HELD])
    assert scene.link.paused
    # One is on its way to the worker, two wait in the queue: when both have got there, go on.
    worker = scene.process("one")
    worker.link.written()
    scene.say()
    assert scene.link.paused
    for id in range(2):
        scene.host.pools.running["one"].listener.said(worker, [messages.result(id, encode(None))])
        worker.link.written()
    scene.say()
    assert not scene.link.paused


def test_a_host_is_read_again_though_nothing_is_left_in_the_same_turn(scene: Scene) -> None:
    large = ["x" * (MAX_FRAME_BYTES - 1000)]
    scene.say(*(call(number, "one", large) for number in range(4)))
    assert scene.link.paused
    scene.host.received([messages.cancel(number) for number in range(4)])
    # All that waited is written meanwhile.
    for link in (scene.link, scene.process("one").link):
        link.written()
    scene.host.take_stock()
    assert not scene.link.paused


def test_a_host_that_was_held_for_long_is_read_and_calls_that_would_wait_are_refused(
    scene: Scene,
) -> None:
    size = MAX_FRAME_BYTES - 1000
    for number in range(4):
        scene.say(call(number, "one", ["x" * size], timeout=None, queue_timeout=None))
    worker = scene.process("one")
    worker.link.written()
    scene.say()
    assert scene.link.paused
    assert scene.host.next_due == MAX_HOLD
    scene.now = MAX_HOLD
    scene.host.tick(scene.now)
    assert not scene.link.paused
    # What need not wait is done; what a caller does not want any more is let go.
    assert scene.say(call(4, "two", [1])) == []
    assert len(scene.process("two").link.sent) == 1
    event, (tag, id, error) = scene.say(call(5, "one", [1]))
    assert event[:2] == ("event", "pool.saturated")
    assert (tag, id, error["type"]) == ("error", 5, "pool_saturated")
    assert "max_frame_bytes" in error["message"]
    # So it is in pools that begin meanwhile.
    scene.say(reload(7, "one", "two", "three"))
    scene.host.tick(scene.now)
    *_, (tag, id, error) = scene.say(call(8, "three"))
    assert (tag, id, error["type"]) == ("error", 8, "pool_saturated")
    frames = scene.say(*map(messages.cancel, range(1, 4)))
    assert [frame[:2] for frame in frames] == [("error", id) for id in range(1, 4)]
    assert scene.say(call(6, "one", [1])) == []
    assert not scene.link.paused
    assert scene.host.next_due > MAX_HOLD


# -- tools -----------------------------------------------------------------------------------------


@pytest.fixture
def asking(scene: Scene) -> Scene:
    """A host that runs tools, and whose call 300 has asked for one."""
    scene.host.host_runs_tools = True
    scene.say(call(300))
    ask(scene, 7)
    return scene


def ask(scene: Scene, number: int, pool: str = "one") -> None:
    """A worker asks for a tool on behalf of call 300."""
    scene.host.tool(300, scene.process(pool).link, number, "lookup", b"")


def test_a_question_gets_a_number_of_its_own_and_its_answer_the_old_one(asking: Scene) -> None:
    """Also where the call is run again, by a worker that counts from the beginning."""
    ask(asking, 7, "two")
    first, second = (messages.parse(frame) for frame in asking.link.sent[-2:])
    assert first[:2] == second[:2] == ("tool", 300)
    assert first[2] != second[2]
    before = list(asking.process("one").link.sent)
    asking.say(messages.tool_result(300, first[2], b"to one"))
    assert asking.process("one").link.sent == before
    asking.say(messages.tool_error(300, second[2], {"type": "tool_error", "message": "no"}))
    asking.say(messages.tool_result(300, second[2], b"again"))
    answered = messages.parse(asking.process("two").link.sent[-1])
    assert answered == ("tool_error", 300, 7, {"type": "tool_error", "message": "no"})


@pytest.mark.parametrize("wrong", [(300, 1000), (301, 0), (2**59, 0)])
def test_an_answer_that_nobody_waits_for_does_nothing(
    asking: Scene, wrong: tuple[int, int]
) -> None:
    number = messages.parse(asking.link.sent[-1])[2]
    before = list(asking.link.sent), list(asking.process("one").link.sent)
    asking.say(messages.tool_result(wrong[0], wrong[1] or number, b"late"))
    assert before == (asking.link.sent, asking.process("one").link.sent)


def test_the_questions_of_a_call_that_is_answered_are_over(asking: Scene) -> None:
    number = messages.parse(asking.link.sent[-1])[2]
    asking.say(messages.cancel(300))
    sent = list(asking.process("one").link.sent)
    asking.say(messages.tool_result(300, number, b"late"))
    assert asking.process("one").link.sent == sent
    assert not asking.host._tools.open


def test_a_host_that_hung_up_answers_none(asking: Scene) -> None:
    asking.host.hears_no_more()
    answered = messages.parse(asking.process("one").link.sent[-1])
    assert answered[:3] == ("tool_error", 300, 7)
    assert answered[3]["type"] == "tool_error"
    asked = len(asking.link.sent)
    ask(asking, 8)
    assert messages.parse(asking.process("one").link.sent[-1])[:3] == ("tool_error", 300, 8)
    assert len(asking.link.sent) == asked


def test_a_host_that_runs_none_may_not_answer(scene: Scene) -> None:
    scene.say(messages.tool_result(300, 1, b""))
    said = messages.parse(scene.link.sent[-1])
    assert (said[0], said[1], said[2]["type"]) == ("error", None, "protocol_error")


def test_a_host_that_was_asked_is_read_from_though_much_waits(asking: Scene) -> None:
    """Its answer may be what frees a worker. What would have to wait is refused meanwhile."""
    large = "x" * (MAX_FRAME_BYTES - 1000)
    asking.say(*(call(n, args=[large, 1]) for n in range(301, 301 + MAX_FRAMES_HELD + 1)))
    assert not asking.link.paused
    refused = [said for said in asking.say(call(400, args=[large, 1])) if said[0] == "error"]
    assert [(id, error["type"]) for _tag, id, error in refused] == [(400, "pool_saturated")]
    asking.say(messages.cancel(300))
    assert asking.link.paused
