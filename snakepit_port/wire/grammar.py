"""What the frames of the protocol look like: their tags, and the kinds of the elements after them.

`protocol/SPEC.md` says what each means.
"""

from __future__ import annotations

from typing import Any, Callable

from .terms import Pid, show

PROTOCOL_VERSION = 1

#: Identifiers stay below what a BEAM keeps in one machine word.
MAX_ID = 2**60 - 1

#: How a line of a log may be meant, and its longest (SPEC, section 10).
LOG_LEVELS = frozenset(("debug", "info", "warning", "error"))
MAX_LINE_CHARS = 16 * 1024

#: Numbers from here to 2^31 take as many bytes as each other on the wire. Questions have such, for
#: the supervisor gives them other ones: no frame that fits grows by that.
FIRST_QUESTION = 256

#: The most chunks that a stream can be granted at once.
MAX_CREDIT = 2**60 - 1


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


def identifier(value: Any) -> int:
    if type(value) is int and 0 <= value <= MAX_ID:
        return value
    raise ValueError(f"an identifier is an integer from 0 to 2^60-1, not {show(value)}")


def identifier_or_nil(value: Any) -> int | None:
    return None if value is None else identifier(value)


def _count(value: Any) -> int:
    if type(value) is int and value >= 0:
        return value
    raise ValueError(f"a non-negative integer belongs here, not {show(value)}")


def credit(value: Any) -> int:
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
        return [identifier(item) for item in value]
    raise ValueError(f"a list of identifiers belongs here, not {show(value)}")


def _pid(value: Any) -> Pid:
    if isinstance(value, Pid):
        return value
    raise ValueError(f"a pid belongs here, not {show(value)}")


_Kind = Callable[[Any], Any]

#: tag -> the kinds of the elements after it.
FRAMES: dict[str, tuple[_Kind, ...]] = {
    "hello": (_count, _map),
    "ready": (_map,),
    "failed": (_map,),
    "call": (identifier, _name_or_nil, _name, _opaque, _map),
    "result": (identifier, _opaque, _names),
    "error": (identifier_or_nil, _map),
    "chunk": (identifier, _opaque),
    "credit": (identifier, credit),
    "cancel": (identifier,),
    "recall": (_ids,),
    "recalled": (_ids,),
    "tool": (identifier, _count, _name, _opaque),
    "tool_result": (identifier, _count, _opaque),
    "tool_error": (identifier, _count, _map),
    "send": (_pid, _opaque),
    "progress": (identifier, _number, _number),
    "control": (identifier, _name, _opaque),
    "event": (_name, _map, _map),
    "log": (_map,),
    "ping": (_count,),
    "pong": (_count,),
}

#: A `call` may leave its options out, a `result` its files.
OPTIONAL = {"call": 1, "result": 1}
