"""Reading of a frame just what is needed, so that it can be forwarded byte for byte.

The readers of calls know the encoding that SPEC recommends, and leave others to `messages.parse`;
that of answers accepts every legal one.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from struct import error as StructError
from typing import Any

from .etf_decode import decode_prefix as _decode_prefix
from .grammar import ProtocolError, credit, identifier, identifier_or_nil
from .messages import (
    CALL,
    CALL_WITH_OPTIONS,
    CHUNK,
    ERROR,
    NIL,
    RESULT,
    RESULT_WITH_FILES,
    call,
    parse,
    read_element,
    read_tag,
)
from .tags import BINARY, INTEGER
from .terms import DecodeError, show

#: In the recommended encoding a call begins: envelope, INTEGER_EXT and id, the first byte of the
#: pool's term, and four more: the length of its name (BINARY_EXT), or the rest of `nil`.
_CALL_HEAD = Struct(f">4x{len(CALL)}sBiBI")
_POOL_AT = _CALL_HEAD.size
_NIL_TAG = NIL[0]
_NIL_REST = int.from_bytes(NIL[1:], "big")
_CALL_STARTS = (CALL, CALL_WITH_OPTIONS)
_ANSWERS = {
    prefix + bytes((INTEGER,)): tag
    for prefix, tag in (
        (RESULT, "result"),
        (RESULT_WITH_FILES, "result"),
        (ERROR, "error"),
        (CHUNK, "chunk"),
    )
}
_RESULT_HEAD = Struct(f">4x{len(RESULT) + 1}si")
_SHORT_HEAD = Struct(f">4x{len(ERROR) + 1}si")
_ENDS = (RESULT, ERROR, RESULT_WITH_FILES)
_u32_at = Struct(">I").unpack_from


def read_usual_call(
    frame: bytes,
) -> tuple[int, str | None, str, dict[str, Any] | None] | None:
    """(id, pool, command, options) of a call in the encoding that SPEC recommends. None for any
    other frame."""
    try:
        id, pool_end, command_end, args_end = _seams(frame)
        pool = None if pool_end == _POOL_AT else frame[_POOL_AT:pool_end].decode()
        command = frame[pool_end + 5 : command_end].decode()
        return id, pool, command, _options(frame, args_end)
    except _UNUSUAL:
        return None


def open_usual_call(frame: bytes) -> tuple[int, str, bytes, int | None, int] | None:
    """As `opened`, of a call in the encoding that SPEC recommends. None for any other frame."""
    try:
        id, pool_end, command_end, args_end = _seams(frame)
        command = frame[pool_end + 5 : command_end].decode()
        args = frame[command_end + 5 : args_end]
        options = _options(frame, args_end)
    except _UNUSUAL:
        return None
    if options is None:
        return id, command, args, None, 1
    return opened(id, command, args, options)


def opened(
    id: int, command: str, args: bytes, options: Mapping[str, Any] | None
) -> tuple[int, str, bytes, int | None, int]:
    """(id, command, arguments, credit, attempt): what a worker needs of a call. The credit is None
    unless the call asks for a stream. Raises `ProtocolError` for options that are none."""
    return id, command, args, stream_credit(options, id), _attempt(options, id)


#: More than `call_again` adds to a frame: a map of options, an entry in it, and a larger tuple.
ATTEMPT_BYTES = 64


def call_again(frame: bytes, attempt: int) -> bytes:
    """The call of a frame once more, with an option that says which attempt it is."""
    _tag, id, pool, command, args, options = parse(frame)
    return call(id, pool, command, args, {**(options or {}), "attempt": attempt})


def _attempt(options: Mapping[str, Any] | None, id: int) -> int:
    attempt = (options or {}).get("attempt", 1)
    if type(attempt) is int and attempt > 0:
        return attempt
    raise ProtocolError(f"option attempt is a positive integer, not {show(attempt)}", id)


def stream_credit(options: Mapping[str, Any] | None, id: int) -> int | None:
    """The initial credit that a call's options grant, or None where it does not ask for a stream.

    Raises `ProtocolError`, with the call's `id`, for an option `stream` that is no credit.
    """
    if not options or "stream" not in options:
        return None
    try:
        return credit(options["stream"])
    except ValueError as exc:
        raise ProtocolError(f"option stream: {exc}", id) from None


#: What `_seams`, `_options` and the decoding of names raise for a frame that has to be read the
#: slow way.
_UNUSUAL = (StructError, IndexError, ValueError, DecodeError)


def _seams(frame: bytes) -> tuple[int, int, int, int]:
    """Of a call in the recommended encoding: its id, and where the terms of the pool, the command
    and the arguments end."""
    prefix, id_tag, id, pool_tag, length = _CALL_HEAD.unpack_from(frame)
    if id_tag == INTEGER and id >= 0 and prefix in _CALL_STARTS:
        if pool_tag == BINARY and length:
            pool_end = _POOL_AT + length
        elif pool_tag == _NIL_TAG and length == _NIL_REST:
            pool_end = _POOL_AT
        else:
            raise ValueError
        (length,) = _u32_at(frame, pool_end + 1)
        command_end = pool_end + 5 + length
        (length,) = _u32_at(frame, command_end + 1)
        args_end = command_end + 5 + length
        size = len(frame)
        if (
            frame[pool_end] == BINARY
            and frame[command_end] == BINARY
            and (args_end == size if prefix == CALL else args_end < size)
        ):
            return id, pool_end, command_end, args_end
    raise ValueError


def _options(frame: bytes, pos: int) -> dict[str, Any] | None:
    """A call's options, from where its arguments end; None where it has none."""
    if pos == len(frame):
        return None
    options, end = _decode_prefix(frame, pos)
    if end == len(frame) and type(options) is dict:
        return options
    raise ValueError


def read_answer(frame: bytes) -> tuple[str, int | None]:
    """Tag and id of a frame a server sent; id is None unless it is a `result`, `error` or `chunk`
    of a call.

    Reads no further than that: an answer is forwarded, and whoever asked reads the rest. Raises
    `ProtocolError` where not even that much can be read.
    """
    if len(frame) >= _RESULT_HEAD.size:
        for head in (_RESULT_HEAD, _SHORT_HEAD):
            prefix, id = head.unpack_from(frame)
            tag = _ANSWERS.get(prefix)
            if tag is not None and id >= 0:
                return tag, id
    tag, pos, _arity = read_tag(frame)
    if tag in ("result", "error", "chunk"):
        value, _ = read_element(frame, pos)
        try:
            return tag, identifier_or_nil(value)
        except ValueError as exc:
            raise ProtocolError(f"{tag}: {exc}") from None
    return tag, None


def ends_a_call(frame: bytes) -> bool:
    """Whether it is an answer, and no chunk, in the encoding that SPEC recommends."""
    return frame.startswith(_ENDS, 4)


def files_of(frame: bytes) -> list[str]:
    """The files that an answer names, if it is a result that names some.

    Raises `ProtocolError` where the frame is not a well-formed result.
    """
    tag, _pos, arity = read_tag(frame)
    return parse(frame)[3] if tag == "result" and arity > 3 else []


def read_head(head: bytes) -> int | None:
    """The id of the call, control call or answer that a frame's first payload bytes belong to, or
    None."""
    frame = b"\0\0\0\0" + head
    try:
        tag, pos, _arity = read_tag(frame)
        if tag in ("call", "control", "result", "chunk", "error"):
            return identifier(read_element(frame, pos)[0])
    except (ProtocolError, ValueError):
        pass
    return None
