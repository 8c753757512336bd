"""Frames of the protocol: building them, and reading them whole.

`parse` reads a frame into a plain tuple, `("result", 7, b"...")`. On the hot path `envelopes` reads
no more of a frame than is needed there.

A frame here is `bytes` with its 4-byte length in front, as `Framer.feed` returns it and as the
builders make it.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from .etf_decode import decode_prefix as _decode_prefix
from .etf_encode import encode as _encode_term
from .grammar import FRAMES, OPTIONAL, PROTOCOL_VERSION, ProtocolError, identifier
from .tags import (
    BINARY,
    INTEGER,
    LARGE_TUPLE,
    SMALL_ATOM_UTF8,
    SMALL_INTEGER,
    SMALL_TUPLE,
    VERSION,
)
from .terms import Atom, DecodeError, Pid, show

# -- building --------------------------------------------------------------------------------------

_U32 = Struct(">I")
_tag_u32, _tag_i32 = Struct(">BI").pack, Struct(">Bi").pack


def _atom_bytes(text: str) -> bytes:
    raw = text.encode()
    return bytes((SMALL_ATOM_UTF8, len(raw))) + raw


def _envelope(tag: str, arity: int) -> bytes:
    return bytes((VERSION, SMALL_TUPLE, arity)) + _atom_bytes(tag)


def _int_bytes(value: int) -> bytes:
    if 0 <= value < 256:
        return bytes((SMALL_INTEGER, value))
    if -(2**31) <= value < 2**31:
        return _tag_i32(INTEGER, value)
    return _term_bytes(value)


def _binary_bytes(raw: bytes) -> bytes:
    return _tag_u32(BINARY, len(raw)) + raw


def _text_bytes(text: str) -> bytes:
    return _binary_bytes(text.encode())


def _term_bytes(value: Any) -> bytes:
    return _encode_term(value)[1:]


def _frame(*parts: bytes) -> bytes:
    payload = b"".join(parts)
    return _U32.pack(len(payload)) + payload


NIL = _atom_bytes("nil")
CALL = _envelope("call", 5)
CALL_WITH_OPTIONS = _envelope("call", 6)
RESULT = _envelope("result", 3)
RESULT_WITH_FILES = _envelope("result", 4)
ERROR = _envelope("error", 3)
CHUNK = _envelope("chunk", 3)
_OTHER = {
    tag: _envelope(tag, len(FRAMES[tag]) + 1)
    for tag in (
        *("hello", "ready", "failed", "credit", "cancel", "recall", "recalled"),
        *("tool", "tool_result", "tool_error", "send", "progress"),
        *("control", "event", "log", "ping", "pong"),
    )
}


def hello(info: dict[str, Any], version: int = PROTOCOL_VERSION) -> bytes:
    return _frame(_OTHER["hello"], _int_bytes(version), _term_bytes(info))


def ready(info: dict[str, Any]) -> bytes:
    return _frame(_OTHER["ready"], _term_bytes(info))


def failed(error: dict[str, Any]) -> bytes:
    return _frame(_OTHER["failed"], _term_bytes(error))


def call(
    id: int,
    pool: str | None,
    command: str,
    args: bytes,
    options: dict[str, Any] | None = None,
) -> bytes:
    """A call. `args` is an encoded list or map; `options` is left out of the frame when empty."""
    names = NIL if pool is None else _text_bytes(pool)
    parts = (_int_bytes(id), names, _text_bytes(command), _binary_bytes(args))
    if options:
        return _frame(CALL_WITH_OPTIONS, *parts, _term_bytes(options))
    return _frame(CALL, *parts)


#: Length, envelope, INTEGER_EXT and id, BINARY_EXT and its length: for ids that are written so.
_RESULT_START = Struct(f">I{len(RESULT)}sBiBI")


def result(id: int, payload: bytes, files: list[str] | None = None) -> bytes:
    """A result. `files` are the names of the files that `payload` names; left out when empty."""
    if files:
        parts = (_int_bytes(id), _binary_bytes(payload), _term_bytes(files))
        return _frame(RESULT_WITH_FILES, *parts)
    size = len(payload)
    if 256 <= id < 2**31:
        length = _RESULT_START.size - 4 + size
        return _RESULT_START.pack(length, RESULT, INTEGER, id, BINARY, size) + payload
    return _frame(RESULT, _int_bytes(id), _binary_bytes(payload))


def error(id: int | None, error: dict[str, Any]) -> bytes:
    return _frame(ERROR, NIL if id is None else _int_bytes(id), _term_bytes(error))


#: As for a result.
_CHUNK_START = Struct(f">I{len(CHUNK)}sBiBI")


def chunk(id: int, payload: bytes) -> bytes:
    size = len(payload)
    if 256 <= id < 2**31:
        length = _CHUNK_START.size - 4 + size
        return _CHUNK_START.pack(length, CHUNK, INTEGER, id, BINARY, size) + payload
    return _frame(CHUNK, _int_bytes(id), _binary_bytes(payload))


def credit(id: int, n: int) -> bytes:
    return _frame(_OTHER["credit"], _int_bytes(id), _int_bytes(n))


def cancel(id: int) -> bytes:
    return _frame(_OTHER["cancel"], _int_bytes(id))


def recall(ids: list[int]) -> bytes:
    return _frame(_OTHER["recall"], _term_bytes(ids))


def recalled(ids: list[int]) -> bytes:
    return _frame(_OTHER["recalled"], _term_bytes(ids))


def tool(id: int, number: int, name: str, args: bytes) -> bytes:
    return _frame(
        _OTHER["tool"], _int_bytes(id), _int_bytes(number), _text_bytes(name), _binary_bytes(args)
    )


def tool_result(id: int, number: int, payload: bytes) -> bytes:
    return _frame(_OTHER["tool_result"], _int_bytes(id), _int_bytes(number), _binary_bytes(payload))


def tool_error(id: int, number: int, error: dict[str, Any]) -> bytes:
    return _frame(_OTHER["tool_error"], _int_bytes(id), _int_bytes(number), _term_bytes(error))


def send(pid: Pid, message: bytes) -> bytes:
    return _frame(_OTHER["send"], _term_bytes(pid), _binary_bytes(message))


def progress(id: int, done: float, total: float) -> bytes:
    return _frame(_OTHER["progress"], _int_bytes(id), _term_bytes(done), _term_bytes(total))


def control(id: int, name: str, args: bytes) -> bytes:
    return _frame(_OTHER["control"], _int_bytes(id), _text_bytes(name), _binary_bytes(args))


def event(name: str, measurements: dict[str, Any], metadata: dict[str, Any]) -> bytes:
    return _frame(
        _OTHER["event"], _text_bytes(name), _term_bytes(measurements), _term_bytes(metadata)
    )


def log(entry: dict[str, Any]) -> bytes:
    return _frame(_OTHER["log"], _term_bytes(entry))


def ping(n: int) -> bytes:
    return _frame(_OTHER["ping"], _int_bytes(n))


def pong(n: int) -> bytes:
    return _frame(_OTHER["pong"], _int_bytes(n))


# -- reading whole frames --------------------------------------------------------------------------


def parse(frame: bytes) -> tuple[Any, ...]:
    """A whole frame as a tuple: its tag as `str`, then its elements.

    Names are `str`, opaque binaries `bytes`; a `call` always has its options as last element, None
    where absent; a `result` has its files as last element if it has some. Raises `ProtocolError`
    for anything that is not a frame of the protocol.
    """
    tag, pos, arity = read_tag(frame)
    kinds = FRAMES.get(tag)
    if kinds is None:
        raise ProtocolError(f"there is no frame {tag!r}", _id_after(frame, tag, pos))
    count = arity - 1
    missing = len(kinds) - count
    if missing < 0 or missing > OPTIONAL.get(tag, 0):
        raise ProtocolError(
            f"{tag} has {len(kinds)} elements after its tag, not {count}",
            _id_after(frame, tag, pos),
        )
    values: list[Any] = [tag]
    id: int | None = None
    try:
        for kind in kinds[:count]:
            value, pos = read_element(frame, pos)
            value = kind(value)
            if kind is identifier and tag in ("call", "control"):
                id = value
            values.append(value)
    except (ProtocolError, ValueError) as exc:
        raise ProtocolError(f"{tag}: {exc}", id) from None
    if pos != len(frame):
        raise ProtocolError(f"{tag}: {len(frame) - pos} bytes follow the frame's term", id)
    if tag == "call":
        values.extend([None] * missing)
    return tuple(values)


def _id_after(frame: bytes, tag: str, pos: int) -> int | None:
    if tag not in ("call", "control"):
        return None
    try:
        return identifier(read_element(frame, pos)[0])
    except (ProtocolError, ValueError):
        return None


def read_tag(frame: bytes) -> tuple[str, int, int]:
    """(tag, position behind it, arity of the tuple)."""
    if len(frame) == 4:
        raise ProtocolError("a frame without content")
    if frame[4] != VERSION:
        raise ProtocolError(f"a frame begins with the version byte 131, not {frame[4]}")
    if len(frame) < 7 or frame[5] not in (SMALL_TUPLE, LARGE_TUPLE):
        raise ProtocolError("a frame is a tuple that begins with its tag")
    if frame[5] == SMALL_TUPLE:
        arity, pos = frame[6], 7
    else:
        arity, pos = int.from_bytes(frame[6:10], "big"), 10
    if arity == 0:
        raise ProtocolError("a frame is a tuple that begins with its tag")
    value, pos = read_element(frame, pos)
    if type(value) is not Atom:
        raise ProtocolError(f"a frame's tag is an atom, not {show(value)}")
    return str(value), pos, arity


def read_element(frame: bytes, pos: int) -> tuple[Any, int]:
    """One element of the envelope: binaries as bytes, whatever they hold; other terms as
    `wire.decode` gives them."""
    if pos < len(frame) and frame[pos] == BINARY:
        end = pos + 5 + int.from_bytes(frame[pos + 1 : pos + 5], "big")
        if end <= len(frame):
            return frame[pos + 5 : end], end
        raise ProtocolError("a binary is cut short")
    try:
        value, pos = _decode_prefix(frame, pos)
    except DecodeError as exc:
        raise ProtocolError(str(exc)) from None
    if type(value) is bytes:  # What a pair that wraps a binary becomes in Python.
        raise ProtocolError("a tuple is no element of a frame")
    return value, pos
