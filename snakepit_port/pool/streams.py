"""The credit of streams: which of their chunks the host gets, and how many more it takes.

The rest of a pool knows of a call only whether it is a stream: then the roster lets no other call
wait behind it, say, and it is not tried again after a crash.
"""

from __future__ import annotations

from snakepit_port.pool.call import ANSWERED, SENT, Call
from snakepit_port.pool.effects import Effect, Grant
from snakepit_port.pool.worker import Fate, Worker


def chunk_came(worker: Worker, call_id: int) -> bool | None:
    """A chunk came from a worker: whether the host gets it.

    None: the worker was given no such call, or no credit; it breaks the protocol. What a condemned
    worker says counts no more.
    """
    if worker.fate is Fate.PROTOCOL_ERROR:
        return False
    call = worker.calls.get(call_id)
    if call is None or not call.credit:
        return None
    call.credit -= 1
    return call.state is SENT


def credited(call: Call, credit: int) -> list[Effect]:
    """The host takes `credit` more chunks of a stream call. Nothing happens if it was answered."""
    if call.state is ANSWERED:
        return []
    assert call.credit is not None, "credit is for stream calls"
    call.credit += credit
    call.granted += credit
    return [] if call.worker is None else [Grant(call.worker, call, credit)]
