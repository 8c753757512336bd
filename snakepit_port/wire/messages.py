"""The frames of the protocol: building them, reading them whole, and reading only what routing
needs.

`protocol/SPEC.md` says what each frame means; the table `_FRAMES` below says what it looks like.
Three kinds of reader:

- `parse` reads a whole frame into a plain tuple, `("result", 7, b"...")`;
- `read_call` and `read_answer` read just the envelope of the frames of the hot path, so that a
  supervisor can forward
  the frame byte for byte. They accept every legal encoding, and are quick for the one that SPEC
  recommends;
- `read_head` finds the call that a frame too large to keep belongs to.

A frame here is `bytes` with its 4-byte length in front, as `Framer.feed` returns it and as the
builders make it.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from struct import error as StructError
from typing import Any, Callable

from .etf_decode import decode_prefix as _decode_prefix
from .etf_encode import encode as _encode_term
from .tags import (
    BINARY,
    INTEGER,
    LARGE_BIG,
    LARGE_TUPLE,
    SMALL_ATOM_UTF8,
    SMALL_BIG,
    SMALL_INTEGER,
    SMALL_TUPLE,
    VERSION,
)
from .terms import Atom, DecodeError, show

PROTOCOL_VERSION = 1

#: Identifiers stay below what a BEAM keeps in one machine word.
MAX_ID = 2**60 - 1

#: The most chunks that a stream can be granted at once.
MAX_CREDIT = 2**60 - 1

Frame = bytes


class ProtocolError(Exception):
    """A frame that is malformed, unknown, or has elements of the wrong kind.

    `id` is the identifier of the call or control call that the frame tried to make, where it could
    be read.
    """

    def __init__(self, message: str, id: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.id = id


# -- what the elements of a frame are --------------------------------------------------------------


def _id(value: Any) -> int:
    if type(value) is int and 0 <= value <= MAX_ID:
        return value
    raise ValueError(f"an identifier is an integer from 0 to 2^60-1, not {show(value)}")


def _id_or_nil(value: Any) -> int | None:
    return None if value is None else _id(value)


def _count(value: Any) -> int:
    if type(value) is int and value >= 0:
        return value
    raise ValueError(f"a non-negative integer belongs here, not {show(value)}")


def _credit(value: Any) -> int:
    if type(value) is int and 0 <= value <= MAX_CREDIT:
        return value
    raise ValueError(f"credit is an integer from 0 to 2^60-1, not {show(value)}")


def _number(value: Any) -> float:
    if type(value) in (int, float):
        return value  # type: ignore[no-any-return]
    raise ValueError(f"a number belongs here, not {show(value)}")


def _name(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ValueError("a name is UTF-8 text") from None
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, bool):  # Atoms, too, that mean their text.
        return "nil" if value is None else str(value).lower()
    raise ValueError(f"a name is a binary or an atom, not {show(value)}")


def _name_or_nil(value: Any) -> str | None:
    return None if value is None else _name(value)


def _opaque(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    raise ValueError(f"a binary that holds a term belongs here, not {show(value)}")


def _map(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError(f"a map belongs here, not {show(value)}")


def _names(value: Any) -> list[str]:
    if isinstance(value, list):
        return [_name(item) for item in value]
    raise ValueError(f"a list of names belongs here, not {show(value)}")


def _ids(value: Any) -> list[int]:
    if isinstance(value, list):
        return [_id(item) for item in value]
    raise ValueError(f"a list of identifiers belongs here, not {show(value)}")


def _any(value: Any) -> Any:
    return value


_Kind = Callable[[Any], Any]

#: tag -> the kinds of the elements after it. Nobody here makes the frames that SPEC, section 8,
#: reserves: they are known, so that one is refused for what it is.
_FRAMES: dict[str, tuple[_Kind, ...]] = {
    "hello": (_count, _map),
    "ready": (_map,),
    "failed": (_map,),
    "call": (_id, _name_or_nil, _name, _opaque, _map),
    "result": (_id, _opaque, _names),
    "error": (_id_or_nil, _map),
    "chunk": (_id, _opaque),
    "credit": (_id, _credit),
    "cancel": (_id,),
    "recall": (_ids,),
    "recalled": (_ids,),
    "tool": (_id, _count, _name, _opaque),
    "tool_result": (_id, _count, _opaque),
    "tool_error": (_id, _count, _map),
    "send": (_any, _opaque),
    "progress": (_id, _number, _number),
    "control": (_id, _name, _opaque),
    "event": (_name, _map, _map),
    "log": (_map,),
    "ping": (_count,),
    "pong": (_count,),
}

#: A `call` may leave its options out, a `result` its files.
_OPTIONAL = {"call": 1, "result": 1}

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
    raw = abs(value).to_bytes((abs(value).bit_length() + 7) // 8, "little")
    if len(raw) > 255:
        return _tag_u32(LARGE_BIG, len(raw)) + bytes((value < 0,)) + raw
    return bytes((SMALL_BIG, len(raw), value < 0)) + raw


def _binary_bytes(raw: bytes) -> bytes:
    return _tag_u32(BINARY, len(raw)) + raw


def _text_bytes(text: str) -> bytes:
    return _binary_bytes(text.encode())


def _term_bytes(value: Any) -> bytes:
    return _encode_term(value)[1:]


def _frame(*parts: bytes) -> Frame:
    payload = b"".join(parts)
    return _U32.pack(len(payload)) + payload


_NIL = _atom_bytes("nil")
_CALL = _envelope("call", 5)
_CALL_WITH_OPTIONS = _envelope("call", 6)
_RESULT = _envelope("result", 3)
_RESULT_WITH_FILES = _envelope("result", 4)
_ERROR = _envelope("error", 3)
_CHUNK = _envelope("chunk", 3)
_OTHER = {
    tag: _envelope(tag, len(_FRAMES[tag]) + 1)
    for tag in (
        *("hello", "ready", "failed", "credit", "cancel", "recall", "recalled"),
        *("control", "event", "log", "ping", "pong"),
    )
}


def hello(info: dict[str, Any], version: int = PROTOCOL_VERSION) -> Frame:
    return _frame(_OTHER["hello"], _int_bytes(version), _term_bytes(info))


def ready(info: dict[str, Any]) -> Frame:
    return _frame(_OTHER["ready"], _term_bytes(info))


def failed(error: dict[str, Any]) -> Frame:
    return _frame(_OTHER["failed"], _term_bytes(error))


def call(
    id: int,
    pool: str | None,
    command: str,
    args: bytes,
    options: dict[str, Any] | None = None,
) -> Frame:
    """A call. `args` is an encoded list or map; `options` is left out of the frame when empty."""
    names = _NIL if pool is None else _text_bytes(pool)
    parts = (_int_bytes(id), names, _text_bytes(command), _binary_bytes(args))
    if options:
        return _frame(_CALL_WITH_OPTIONS, *parts, _term_bytes(options))
    return _frame(_CALL, *parts)


#: Length, envelope, INTEGER_EXT and id, BINARY_EXT and its length: for ids that are written so.
_RESULT_START = Struct(f">I{len(_RESULT)}sBiBI")


def result(id: int, payload: bytes, files: list[str] | None = None) -> Frame:
    """A result. `files` are the names of the files that `payload` names; left out when empty."""
    if files:
        parts = (_int_bytes(id), _binary_bytes(payload), _term_bytes(files))
        return _frame(_RESULT_WITH_FILES, *parts)
    size = len(payload)
    if 256 <= id < 2**31:
        length = _RESULT_START.size - 4 + size
        return _RESULT_START.pack(length, _RESULT, INTEGER, id, BINARY, size) + payload
    return _frame(_RESULT, _int_bytes(id), _binary_bytes(payload))


def error(id: int | None, error: dict[str, Any]) -> Frame:
    return _frame(_ERROR, _NIL if id is None else _int_bytes(id), _term_bytes(error))


#: As for a result.
_CHUNK_START = Struct(f">I{len(_CHUNK)}sBiBI")


def chunk(id: int, payload: bytes) -> Frame:
    size = len(payload)
    if 256 <= id < 2**31:
        length = _CHUNK_START.size - 4 + size
        return _CHUNK_START.pack(length, _CHUNK, INTEGER, id, BINARY, size) + payload
    return _frame(_CHUNK, _int_bytes(id), _binary_bytes(payload))


def credit(id: int, n: int) -> Frame:
    return _frame(_OTHER["credit"], _int_bytes(id), _int_bytes(n))


def cancel(id: int) -> Frame:
    return _frame(_OTHER["cancel"], _int_bytes(id))


def recall(ids: list[int]) -> Frame:
    return _frame(_OTHER["recall"], _term_bytes(ids))


def recalled(ids: list[int]) -> Frame:
    return _frame(_OTHER["recalled"], _term_bytes(ids))


def control(id: int, name: str, args: bytes) -> Frame:
    return _frame(_OTHER["control"], _int_bytes(id), _text_bytes(name), _binary_bytes(args))


def event(name: str, measurements: dict[str, Any], metadata: dict[str, Any]) -> Frame:
    return _frame(
        _OTHER["event"], _text_bytes(name), _term_bytes(measurements), _term_bytes(metadata)
    )


def log(entry: dict[str, Any]) -> Frame:
    return _frame(_OTHER["log"], _term_bytes(entry))


def ping(n: int) -> Frame:
    return _frame(_OTHER["ping"], _int_bytes(n))


def pong(n: int) -> Frame:
    return _frame(_OTHER["pong"], _int_bytes(n))


# -- reading the hot path --------------------------------------------------------------------------

#: In the recommended encoding a call begins: envelope, INTEGER_EXT and id, the first byte of the
#: pool's term, and four more: the length of its name (BINARY_EXT), or the rest of `nil`.
_CALL_HEAD = Struct(f">4x{len(_CALL)}sBiBI")
_POOL_AT = _CALL_HEAD.size
_NIL_TAG = _NIL[0]
_NIL_REST = int.from_bytes(_NIL[1:], "big")
_CALL_STARTS = (_CALL, _CALL_WITH_OPTIONS)
_ANSWERS = {
    prefix + bytes((INTEGER,)): tag
    for prefix, tag in (
        (_RESULT, "result"),
        (_RESULT_WITH_FILES, "result"),
        (_ERROR, "error"),
        (_CHUNK, "chunk"),
    )
}
_RESULT_HEAD = Struct(f">4x{len(_RESULT) + 1}si")
_SHORT_HEAD = Struct(f">4x{len(_ERROR) + 1}si")
_u32_at = _U32.unpack_from


def read_usual_call(
    frame: Frame,
) -> tuple[int, str | None, str, dict[str, Any] | None] | None:
    """As `read_call`, of a call in the encoding that SPEC recommends. None for any other frame."""
    try:
        id, pool_end, command_end, args_end = _seams(frame)
        pool = None if pool_end == _POOL_AT else frame[_POOL_AT:pool_end].decode()
        command = frame[pool_end + 5 : command_end].decode()
        return id, pool, command, _options(frame, args_end)
    except _UNUSUAL:
        return None


def read_call(frame: Frame) -> tuple[int, str | None, str, dict[str, Any] | None]:
    """The envelope of a `call` frame: (id, pool, command, options), without touching its arguments.

    Raises `ProtocolError` where the frame is not a well-formed call.
    """
    usual = read_usual_call(frame)
    if usual is not None:
        return usual
    _tag, id, pool, command, _args, options = _expect("call", frame)
    return id, pool, command, options


def open_usual_call(frame: Frame) -> tuple[int, str, bytes, int | None, int] | None:
    """As `open_call`, of a call in the encoding that SPEC recommends. None for any other frame."""
    try:
        id, pool_end, command_end, args_end = _seams(frame)
        command = frame[pool_end + 5 : command_end].decode()
        args = frame[command_end + 5 : args_end]
        options = _options(frame, args_end)
    except _UNUSUAL:
        return None
    if options is None:
        return id, command, args, None, 1
    return id, command, args, stream_credit(options, id), _attempt(options, id)


def open_call(frame: Frame) -> tuple[int, str, bytes, int | None, int]:
    """(id, command, arguments, credit, attempt) of a `call` frame: what a worker needs of it. The
    credit is None unless the call asks for a stream.

    Raises `ProtocolError` where the frame is not a well-formed call.
    """
    usual = open_usual_call(frame)
    if usual is not None:
        return usual
    _tag, id, _pool, command, args, options = _expect("call", frame)
    return id, command, args, stream_credit(options, id), _attempt(options, id)


def call_again(frame: Frame, attempt: int) -> Frame:
    """The call of a frame once more, with an option that says which attempt it is."""
    _tag, id, pool, command, args, options = _expect("call", frame)
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
        return _credit(options["stream"])
    except ValueError as exc:
        raise ProtocolError(f"option stream: {exc}", id) from None


#: What `_seams`, `_options` and the decoding of names raise for a frame that has to be read the
#: slow way.
_UNUSUAL = (StructError, IndexError, ValueError, DecodeError)


def _seams(frame: Frame) -> tuple[int, int, int, int]:
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
            and (args_end == size if prefix == _CALL else args_end < size)
        ):
            return id, pool_end, command_end, args_end
    raise ValueError


def _options(frame: Frame, pos: int) -> dict[str, Any] | None:
    """A call's options, from where its arguments end; None where it has none."""
    if pos == len(frame):
        return None
    options, end = _decode_prefix(frame, pos)
    if end == len(frame) and type(options) is dict:
        return options
    raise ValueError


def read_answer(frame: Frame) -> tuple[str, int | None]:
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
    tag, pos, _arity = _read_tag(frame)
    if tag in ("result", "error", "chunk"):
        value, _ = _element(frame, pos)
        try:
            return tag, _id_or_nil(value)
        except ValueError as exc:
            raise ProtocolError(f"{tag}: {exc}") from None
    return tag, None


def files_of(frame: Frame) -> list[str]:
    """The files that an answer names, if it is a result that names some.

    Raises `ProtocolError` where the frame is not a well-formed result.
    """
    tag, _pos, arity = _read_tag(frame)
    return parse(frame)[3] if tag == "result" and arity > 3 else []


def read_head(head: bytes) -> int | None:
    """The id of the call, control call or answer that a frame's first payload bytes belong to, or
    None."""
    frame = b"\0\0\0\0" + head
    try:
        tag, pos, _arity = _read_tag(frame)
        if tag in ("call", "control", "result", "chunk", "error"):
            return _id(_element(frame, pos)[0])
    except (ProtocolError, ValueError):
        pass
    return None


# -- reading whole frames --------------------------------------------------------------------------


def parse(frame: Frame) -> tuple[Any, ...]:
    """A whole frame as a tuple: its tag as `str`, then its elements.

    Names are `str`, opaque binaries `bytes`; a `call` always has its options as last element, None
    where absent; a `result` has its files as last element if it has some. Raises `ProtocolError`
    for anything that is not a frame of the protocol.
    """
    tag, pos, arity = _read_tag(frame)
    kinds = _FRAMES.get(tag)
    if kinds is None:
        raise ProtocolError(f"there is no frame {tag!r}", _id_after(frame, tag, pos))
    count = arity - 1
    missing = len(kinds) - count
    if missing < 0 or missing > _OPTIONAL.get(tag, 0):
        raise ProtocolError(
            f"{tag} has {len(kinds)} elements after its tag, not {count}",
            _id_after(frame, tag, pos),
        )
    values: list[Any] = [tag]
    id: int | None = None
    try:
        for kind in kinds[:count]:
            value, pos = _element(frame, pos)
            value = kind(value)
            if kind is _id and tag in ("call", "control"):
                id = value
            values.append(value)
    except (ProtocolError, ValueError) as exc:
        raise ProtocolError(f"{tag}: {exc}", id) from None
    if pos != len(frame):
        raise ProtocolError(f"{tag}: {len(frame) - pos} bytes follow the frame's term", id)
    if tag == "call":
        values.extend([None] * missing)
    return tuple(values)


def _expect(tag: str, frame: Frame) -> tuple[Any, ...]:
    values = parse(frame)
    if values[0] != tag:
        raise ProtocolError(f"a {tag} was expected here, not {values[0]}")
    return values


def _id_after(frame: Frame, tag: str, pos: int) -> int | None:
    if tag not in ("call", "control"):
        return None
    try:
        return _id(_element(frame, pos)[0])
    except (ProtocolError, ValueError):
        return None


def _read_tag(frame: Frame) -> tuple[str, int, int]:
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
    value, pos = _element(frame, pos)
    if type(value) is not Atom:
        raise ProtocolError(f"a frame's tag is an atom, not {show(value)}")
    return str(value), pos, arity


def _element(frame: Frame, pos: int) -> tuple[Any, int]:
    """One element of the envelope: binaries as bytes, whatever they hold; other terms as
    `wire.decode` gives them."""
    if pos < len(frame) and frame[pos] == BINARY:
        end = pos + 5 + int.from_bytes(frame[pos + 1 : pos + 5], "big")
        if pos + 5 <= len(frame) and end <= len(frame):
            return frame[pos + 5 : end], end
        raise ProtocolError("a binary is cut short")
    try:
        value, pos = _decode_prefix(frame, pos)
    except DecodeError as exc:
        raise ProtocolError(str(exc)) from None
    if type(value) is bytes:  # What a pair that wraps a binary becomes in Python.
        raise ProtocolError("a tuple is no element of a frame")
    return value, pos
