"""One call: its arguments, its command, its answer."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any

from snakepit_port import wire
from snakepit_port.adapter import CallCancelled
from snakepit_port.bulk.files import HOST, FileReader, Folder
from snakepit_port.wire import messages
from snakepit_port.wire.framing import HEADER_BYTES
from snakepit_port.worker.exceptions import exception_name, text_of, traceback_text
from snakepit_port.worker.fitting import ENVELOPE_BYTES, fit
from snakepit_port.worker.loading import Adapter, Command, LoadError


class Refusal(Exception):
    """The call is answered with an error of this type, and its command is not run."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(message)
        self.type = type


class Answers:
    """Makes the answers of one worker."""

    def __init__(
        self,
        adapter: Adapter,
        pool: str,
        worker: str,
        max_frame_bytes: int,
        folder: Folder | None = None,
    ) -> None:
        self._adapter = adapter
        self._where = {"pool": pool, "worker": worker}
        self._max_frame_bytes = max_frame_bytes
        #: A term of fewer bytes fits into a frame, whatever its id.
        self._surely_fits = max_frame_bytes - ENVELOPE_BYTES
        self._folder = folder
        #: What reads arguments, by whether as views and whether the call may be begun again: then
        #: its files are left for the next attempt. The host removes them with the answer.
        self._readers = {
            (views, keep): FileReader(folder, HOST, views=views, keep=keep)
            for views in (False, True)
            for keep in (False, True)
        }
        #: Commands that were called before, by calls and by stream calls, and what reads their
        #: arguments: that does not change.
        self._known: dict[str, tuple[Command, FileReader]] = {}
        self._known_to_stream: dict[str, tuple[Command, FileReader]] = {}

    def read(
        self, name: str, raw: bytes, streams: bool
    ) -> tuple[Command, list[Any], dict[str, Any]]:
        """What is called: the command, its positions and its keywords.

        Raises `Refusal` for a command that does not exist, or that is a generator and called for a
        result, and for arguments that are none; and whatever the import of a direct call's module
        raises.
        """
        commands = self._known_to_stream if streams else self._known
        known = commands.get(name)
        if known is None:
            known = commands[name] = self._find(name, streams)
        function, reader = known
        try:
            value = wire.decode(raw, reader=reader)
        except wire.DecodeError as exc:
            raise Refusal("decode", f"the arguments cannot be read: {exc}") from None
        if type(value) is list:
            return function, value, {}
        if type(value) is dict and all(isinstance(key, str) for key in value):
            return function, [], {str(key): item for key, item in value.items()}
        raise Refusal(
            "bad_arguments",
            "arguments are a list (positions) or a map with names as keys, not"
            f" {'a map with other keys' if type(value) is dict else type(value).__name__}",
        )

    def _find(self, name: str, streams: bool) -> tuple[Command, FileReader]:
        try:
            function = self._adapter.find(name)
        except LoadError as exc:
            raise Refusal("unknown_command", exc.error["message"]) from None
        except ImportError as exc:
            raise Refusal("unknown_command", f"{name}: {text_of(exc)}") from None
        if function is None:
            raise Refusal("unknown_command", self._adapter.unknown(name))
        if not streams and inspect.isgeneratorfunction(function):
            raise Refusal("not_a_stream_call", _not_a_stream_call(name))
        keep = not streams and self._adapter.is_idempotent(name)
        return function, self._readers[self._adapter.takes_views(name), keep]

    def result(self, id: int, command: str, value: Any) -> bytes:
        term = wire.encode_plain(value)
        if term is not None and len(term) < self._surely_fits:
            return messages.result(id, term)
        writer = None if self._folder is None else self._folder.writer(id)
        try:
            frame = messages.result(
                id,
                wire.encode(value, writer=writer),
                None if writer is None else writer.names,
            )
            if len(frame) - HEADER_BYTES <= self._max_frame_bytes:
                return frame
            message = f"the result of {command!r} {self._too_large(frame)}; return less"
            message = f"{message}, or raise it{self._left_out()}"
            answer = self.refusal(id, command, "frame_too_large", message)
        except wire.EncodeError as exc:
            if isinstance(value, Iterator):
                answer = self.refusal(id, command, "not_a_stream_call", _not_a_stream_call(command))
            else:
                message = f"the result of {command!r} has no term: {exc}"
                answer = self.refusal(id, command, "encode", message)
        except BaseException as exc:
            answer = self.failed(id, command, exc)
        if writer is not None:
            writer.discard()
        return answer

    def chunk(self, id: int, command: str, value: Any) -> bytes:
        """Raises `Refusal`."""
        try:
            frame = messages.chunk(id, wire.encode(value))
        except wire.EncodeError as exc:
            raise Refusal("encode", f"a chunk of {command!r} has no term: {exc}") from None
        if len(frame) - HEADER_BYTES > self._max_frame_bytes:
            message = f"a chunk of {command!r} {self._too_large(frame)}; yield less at once"
            raise Refusal("frame_too_large", f"{message}, or raise it")
        return frame

    def _too_large(self, frame: bytes) -> str:
        size = len(frame) - HEADER_BYTES
        return f"takes a frame of {size} bytes, over max_frame_bytes ({self._max_frame_bytes})"

    def _left_out(self) -> str:
        folder = self._folder
        if folder is None:
            return ""
        return (
            f". Bytes and arrays of {folder.threshold} bytes or more are in it only where shared"
            f" memory has no room for them (shm_max_bytes: {folder.max_bytes}); text always is"
        )

    def refusal(self, id: int, command: str, type: str, message: str) -> bytes:
        return self._error(
            id, {"type": type, "message": message, "command": command, **self._where}
        )

    def no_stream(self, id: int, command: str, value: Any) -> bytes:
        if isinstance(value, (AsyncIterator, Awaitable)):
            advice = "write a plain generator, which may use asyncio.run(...)"
        else:
            advice = "have it yield values, or call it for its result"
        message = (
            f"command {command!r} was called as a stream, and its result, of type"
            f" {type(value).__name__}, is none: {advice}"
        )
        return self.refusal(id, command, "not_a_stream", message)

    def cancelled(self, id: int, command: str) -> bytes:
        return self.refusal(id, command, "cancelled", "the call was cancelled")

    def raised(
        self, id: int, command: str, function: Command, args: Any, exc: BaseException
    ) -> bytes:
        """The answer to a call whose command raised, or could not be called like that."""
        # By its type: `isinstance` asks the exception itself, which may be broken.
        if issubclass(type(exc), CallCancelled):
            return self.cancelled(id, command)
        if issubclass(type(exc), TypeError) and _never_entered(exc, function, args):
            reason = f"{command!r} cannot be called like this: "
            return self.failed(id, command, exc, "bad_arguments", reason)
        return self.failed(id, command, exc)

    def failed(
        self,
        id: int,
        command: str,
        exc: BaseException,
        type: str = "exception",
        reason: str = "",
    ) -> bytes:
        error = {
            "type": type,
            "message": reason + text_of(exc),
            "exception": exception_name(exc),
            "traceback": traceback_text(exc),
            "command": command,
            **self._where,
        }
        return self._error(id, error)

    def _error(self, id: int, error: dict[str, Any]) -> bytes:
        frame = messages.error(id, error)
        if len(frame) - HEADER_BYTES <= self._max_frame_bytes:
            return frame
        return messages.error(id, fit(error, self._surely_fits))


def _not_a_stream_call(command: str) -> str:
    return (
        f"command {command!r} gives its results one by one: call it as a stream"
        " (SnakepitPort.stream/3 in Elixir, Host.stream in Python)"
    )


def _never_entered(exc: BaseException, function: Command, args: Any) -> bool:
    """Whether Python refused the arguments: then the traceback ends where the call was made."""
    # Whatever a class makes of the attribute.
    trace = BaseException.__dict__["__traceback__"].__get__(exc)
    if trace is not None and trace.tb_next is not None:
        return False
    positions, keywords = args
    try:
        signature = inspect.signature(function)
    except Exception:
        # Builtins may have none, and some objects a broken one.
        return False
    try:
        signature.bind(*positions, **keywords)
    except TypeError:
        return True
    return False
