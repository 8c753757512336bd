"""What the supervisor and a starter say to each other; it never leaves the installation.

| frame | direction | meaning |
|---|---|---|
| `{hello, Info}` | both | settings; from the starter nothing but that all is preloaded |
| `{failed, Error}` | from the starter | preloading failed; it exits |
| `{start, Worker, Slot}` | to the starter | with descriptors: channel, stdout, stderr, stacks |
| `{started, Worker, Pid}` | from the starter | |
| `{start_failed, Worker, Message}` | from the starter | no process could be made |
| `{exited, Worker, Status}` | from the starter | `Status` as waitpid(2) has it |
| `{signal, Worker, Number, Group}` | to the starter | to the worker, or to its process group |
| `{ping}` | to the starter | whether it is there, and has done what it was told before |
| `{pong}` | from the starter | it is, and has |
| `{finish}` | to the starter | end-of-file follows, and is not the supervisor's death |
"""

from __future__ import annotations

import os
from collections.abc import Container
from typing import Any

from snakepit_port import wire
from snakepit_port.wire import Atom
from snakepit_port.wire.framing import HEADER_BYTES, pack

#: They are small: names, numbers, and a preload's traceback.
MAX_FRAME_BYTES = 1024 * 1024

#: tag -> the kinds of the elements after it.
_FRAMES: dict[str, tuple[type, ...]] = {
    "hello": (dict,),
    "failed": (dict,),
    "start": (str, int),
    "started": (str, int),
    "start_failed": (str, str),
    "exited": (str, int),
    "signal": (str, int, bool),
    "ping": (),
    "pong": (),
    "finish": (),
}

FROM_STARTER = frozenset(("hello", "failed", "started", "start_failed", "exited", "pong"))
TO_STARTER = frozenset(("hello", "start", "signal", "ping", "finish"))

#: pid_t is a C int.
_MAX_PID = 2**31 - 1


def is_process_id(value: object) -> bool:
    """Of a process that was started here: to kill(2), 0, 1 and less mean others."""
    return type(value) is int and 1 < value <= _MAX_PID


def _frame(tag: str, *elements: Any) -> bytes:
    return pack(wire.encode((Atom(tag), *elements)))


def hello(info: dict[str, Any]) -> bytes:
    return _frame("hello", info)


def failed(error: dict[str, Any]) -> bytes:
    return _frame("failed", error)


def start(worker: str, slot: int) -> bytes:
    return _frame("start", worker, slot)


def started(worker: str, pid: int) -> bytes:
    return _frame("started", worker, pid)


def start_failed(worker: str, message: str) -> bytes:
    return _frame("start_failed", worker, message)


def exited(worker: str, status: int) -> bytes:
    return _frame("exited", worker, status)


def signal(worker: str, number: int, group: bool) -> bytes:
    return _frame("signal", worker, int(number), group)


def ping() -> bytes:
    return _frame("ping")


def pong() -> bytes:
    return _frame("pong")


def finish() -> bytes:
    return _frame("finish")


def parse(frame: bytes, tags: Container[str]) -> tuple[Any, ...]:
    """A frame as a tuple, its tag as `str`. Raises `ValueError` if it is none of those above that
    has one of these tags."""
    try:
        term = wire.decode(frame[HEADER_BYTES:])
    except wire.DecodeError as exc:
        raise ValueError(f"a frame that is no term: {exc}") from None
    if isinstance(term, tuple) and term and isinstance(term[0], str):
        tag, elements = str(term[0]), term[1:]
        kinds = _FRAMES.get(tag) if tag in tags else None
        if kinds is not None and list(map(type, elements)) == list(kinds) and _holds(tag, elements):
            return (tag, *elements)
    raise ValueError("a frame that does not exist")


def _holds(tag: str, elements: tuple[Any, ...]) -> bool:
    """Whether numbers are such as the system has."""
    if tag == "exited":
        status = elements[1]
        return 0 <= status < 2**16 and (os.WIFEXITED(status) or os.WIFSIGNALED(status))
    return tag != "started" or is_process_id(elements[1])
