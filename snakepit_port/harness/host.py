"""A host: calls commands, asks the supervisor, and sees what it reports."""

from __future__ import annotations

import math
import numbers
import os
import signal as signals
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from snakepit_port.harness.link import Link
from snakepit_port.harness.reports import (
    CallError,
    Event,
    Feed,
    LogLine,
    Message,
    RawFrame,
    Subscription,
)
from snakepit_port.harness.stream import WINDOW, Stream, Window
from snakepit_port.wire import encode, messages
from snakepit_port.wire.grammar import MAX_ID

#: The longest timeout that a call can have, in seconds: more than any use.
MAX_SECONDS = MAX_ID // 1000


class Host(Link):
    """A host: calls commands, and sees what the supervisor reports.

    Made by `open_host` and `host_over`. Its methods may be used by any number of tasks at once.
    """

    # -- calling ------------------------------------------------------------------------------

    async def call(
        self,
        pool: str | None,
        command: str,
        args: Sequence[Any] | Mapping[Any, Any] = (),
        *,
        timeout: float | None = None,  # noqa: ASYNC109 (the supervisor keeps this deadline)
        queue_timeout: float | None = None,
        session: str | None = None,
        progress: Callable[[float, float], object] | None = None,
    ) -> Any:
        """Calls a command and returns its result.

        `pool` None is the pool named "default", else the only one. `args` is a sequence of
        positions or a mapping of keywords. `timeout` and `queue_timeout` are in seconds; None
        leaves them to the pool, `math.inf` means none. `session` ties the call to the worker that
        took the session's first one, as the pool's `affinity` says (SPEC, section 7). `progress` is
        called with what the command tells of it, done and total; it must not raise.

        Cancelling sends a cancel and forgets the call: its late answer is dropped.

        Raises:
            CallError: the call ended without a result; `type` "supervisor_down" if the supervisor
                went first, "protocol_error" if it broke the protocol.
            EncodeError: `args` hold a value that has no term; nothing was sent.
            ValueError: a timeout is below zero or above `MAX_SECONDS`, or a name is no text that
                UTF-8 can hold; nothing was sent.
            TypeError: a name is no text; nothing was sent.
        """
        options = _options(timeout, queue_timeout, session)
        _check_names(pool=pool, command=command)
        writer = None if self._shm is None else self._shm.writer(self._take_id())
        try:
            payload = encode(list(args) if isinstance(args, tuple) else args, writer=writer)
            return await self._ask(
                lambda id: messages.call(id, pool, command, payload, options),
                progress,
                cancels=True,
            )
        finally:
            if writer is not None:
                writer.discard()

    @asynccontextmanager
    async def stream(
        self,
        pool: str | None,
        command: str,
        args: Sequence[Any] | Mapping[Any, Any] = (),
        *,
        window: int = WINDOW,
        timeout: float | None = None,  # noqa: ASYNC109 (the supervisor keeps this deadline)
        queue_timeout: float | None = None,
        session: str | None = None,
    ) -> AsyncIterator[Stream]:
        """An async context manager: calls a generator, and gives its chunks as an async iterator.

            async with host.stream("default", "count", [3]) as chunks:
                async for number in chunks:
                    print(number)

        The generator runs ahead of the iteration by `window` chunks at most, or by fewer if they
        are large. `timeout` counts for the whole stream, the time that its consumer takes included.
        The other arguments are those of `call`. What the generator returns is in `chunks.result`
        after the iteration.

        Leaving the block early, or by an exception, has the generator closed and forgets the call.

        Raises:
            CallError: as `call`. An error of the call itself is raised by the iteration, after the
                chunks before it.
            EncodeError: `args` hold a value that has no term; nothing was sent.
            ValueError: `window` is below one; or as `call`.
            TypeError: as `call`.
        """
        options = _options(timeout, queue_timeout, session)
        _check_names(pool=pool, command=command)
        share = Window(window)
        options["stream"] = share.under_way
        id = self._take_id()
        writer = None if self._shm is None else self._shm.writer(id)
        stream = Stream(share, lambda credit: self._post(messages.credit(id, credit)), self._decode)
        try:
            payload = encode(list(args) if isinstance(args, tuple) else args, writer=writer)
            await trio.lowlevel.checkpoint()
            await self._outbox.room()
            self._waiters[id] = stream
            self._post(messages.call(id, pool, command, payload, options))
            yield stream
        finally:
            self._forget(id, cancels=True)
            stream.leave()
            if writer is not None:
                writer.discard()

    async def control(self, name: str, args: Mapping[str, Any] | None = None) -> Any:
        """Asks the supervisor itself (SPEC, section 9) and returns its answer.

        Cancelling forgets the question; the supervisor still answers it.

        Raises: as `call`.
        """
        _check_names(control=name)
        payload = encode(args or {})
        return await self._ask(lambda id: messages.control(id, name, payload))

    async def stats(self, pool: str | None = None) -> dict[str, Any]:
        """Statistics of all pools, or of one (SPEC, section 9.1). Raises: as `call`."""
        stats: dict[str, Any] = await self.control("stats", _of_pool(pool))
        return stats

    async def workers(self, pool: str | None = None) -> list[dict[str, Any]]:
        """The workers of all pools, or of one (SPEC, section 9.3). Raises: as `call`."""
        workers: list[dict[str, Any]] = await self.control("workers", _of_pool(pool))
        return workers

    async def recycle(self, pool: str | None = None, *, worker: str | None = None) -> int:
        """Has a worker, the workers of a pool, or all replaced; returns how many that are. A worker
        that is named with a pool has to be of that pool.

        They serve on until their successors are ready; `worker.recycled` tells of each. Edited
        adapters are taken up by this, edited modules in `preload` are not. Raises: as `call`.
        """
        count: int = await self.control("recycle", _of_worker(pool, worker))
        return count

    async def reload(
        self,
        config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        base_dir: str | os.PathLike[str] | None = None,
    ) -> dict[str, str]:
        """Has the supervisor take another configuration, and returns at once what that means for
        each pool: "added", "removed", "replaced", "resized" or "unchanged" (SPEC, section 9.2).

        `config` is the path of a TOML file, or the same keys as a mapping, with `base_dir` as for
        `open_host`; None reads the file again that the supervisor was started with. `pool.reloaded`
        says when a pool is whole on its new settings. Cancelling forgets the answer, the
        supervisor reloads all the same.

        Raises:
            CallError: as `call`; `type` "config", with `problems`, for mistakes in the
                configuration or a setting that cannot change while the supervisor runs, and
                "bad_arguments" where there is no file to read again. Nothing has changed then.
            EncodeError: the mapping holds a value that has no term.
        """
        payload = encode(configuration(config, base_dir))

        def question(id: int) -> bytes:
            self._pools.reloading(id)
            return messages.control(id, "reload", payload)

        answer = await self._ask(question)
        changes: dict[str, str] = answer["pools"]
        return changes

    async def close_session(self, session: str, pool: str | None = None) -> bool:
        """Ends a session; returns whether there was one. Raises: as `call`."""
        closed: bool = await self.control("close_session", {"session": session, **_of_pool(pool)})
        return closed

    async def stacks(self, pool: str | None = None, *, worker: str | None = None) -> dict[str, str]:
        """What every thread of the workers is at, as text by worker: of all, of a pool's, or of
        one. A signal is sent for it, after which Python's own functions go on; in a library that
        does not repeat them, sleep(3), poll(2) and read(2) return early (EINTR). Raises: as `call`.
        """
        stacks: dict[str, str] = await self.control("stacks", _of_worker(pool, worker))
        return stacks

    async def ping(self) -> None:
        """Returns when the supervisor has handled everything sent before. Raises: as `call`."""
        await self._ping()

    async def await_ready(self) -> Mapping[str, str]:
        """Waits until every pool has started or failed to; returns their states by name.

        After `reload` it waits for pools that were added, too, and for those that could not start
        before. Cancelling only stops the waiting.

        Raises:
            CallError: `type` "pool_unavailable" if a pool could not start, with the cause;
                "supervisor_down" if the supervisor is gone, whatever its pools were before.
        """
        await self._pools.wait()
        if self._process is not None and self._process.exit_status is not None:
            # The end of its output may not have been read yet.
            await self._ended.wait()
        self._outbox.check()
        for name, state in self.pools.items():
            if state != "ready":
                cause = self._pools.causes.get(name, {})
                raise CallError(
                    {
                        "type": "pool_unavailable",
                        "message": cause.get("message") or f"pool {name} could not start",
                        "traceback": cause.get("traceback"),
                        "stderr": cause.get("stderr"),
                        "pool": name,
                    }
                )
        return self.pools

    @property
    def pools(self) -> Mapping[str, str]:
        """The state of each pool, "ready" or "unavailable" (SPEC, section 14, has others), as of
        the supervisor's `ready`, and of the events since."""
        return self._pools.states

    # -- watching -----------------------------------------------------------------------------

    def events(self, *, past: bool = False) -> Subscription[Event]:
        """Events from now on; with `past`, also those received before that are still kept."""
        return self._events.subscribe(past)

    def logs(self, *, past: bool = False) -> Subscription[LogLine]:
        """Log lines from now on; with `past`, also those received before that are still kept."""
        return self._logs.subscribe(past)

    def messages(self, *, past: bool = False) -> Subscription[Message]:
        """What commands send to processes from now on; with `past`, also what was received before
        that and is still kept."""
        return self._messages.subscribe(past)

    def complaints(self, *, past: bool = False) -> Subscription[CallError]:
        """Errors that answer no call: what the supervisor says about frames it cannot use."""
        return self._complaints.subscribe(past)

    def frames(self) -> Subscription[RawFrame]:
        """Every frame that goes either way from now on."""
        if self._frames is None:
            self._frames = Feed()
            if self._ended.is_set():
                self._frames.end()
        return self._frames.subscribe(past=False)

    async def send_frame(self, data: bytes) -> None:
        """Writes bytes to the link as they are: header and all, whole frames or not.

        An answer shows in `frames()`, and is counted in `stray_answers`. Cancelling before the
        bytes are queued sends nothing; after that it is too late.

        Raises:
            CallError: `type` "supervisor_down": the link is gone.
            TypeError: `data` is not bytes.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"a frame is bytes, not {type(data).__name__}")
        await trio.lowlevel.checkpoint()
        await self._outbox.room()
        self._post(data)

    # -- the process --------------------------------------------------------------------------

    @property
    def os_pid(self) -> int:
        """The supervisor's process id, as its hello says where this host did not start it."""
        return self._process.os_pid if self._process else int(self.info["os_pid"])

    @property
    def exit_status(self) -> int | None:
        """The supervisor's exit status, negative for a signal; None while it runs.

        Also None for a host made by `host_over`, which has no process.
        """
        return self._process.exit_status if self._process else None

    def kill(self, signal: int = signals.SIGKILL) -> None:
        """Sends the supervisor a signal; does nothing once it has exited.

        Raises:
            RuntimeError: the host is one of `host_over`, and has no process.
        """
        if self._process is None:
            raise RuntimeError("this host has a stream, not a process")
        self._process.kill(signal)

    async def close(self) -> int | None:
        """Ends the supervisor's input and waits until it has exited; returns `exit_status`.

        Calls that are waiting get their answers meanwhile; new ones raise `CallError`. One that is
        cancelled, or a stream that is left, goes on there within `shutdown_grace_period`: nothing
        more is sent. Cancelling `close` stops the waiting, not the closing.
        """
        self._outbox.close()
        await self._ended.wait()
        if self._process is not None:
            await self._process.wait()
        return self.exit_status


def configuration(
    config: str | os.PathLike[str] | Mapping[str, Any] | None,
    base_dir: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    """What tells a supervisor a configuration."""
    if config is None:
        told: dict[str, Any] = {}
    elif isinstance(config, Mapping):
        told = {"config": config}
    else:
        told = {"file": os.path.abspath(config)}
    return told if base_dir is None else {**told, "base_dir": os.fspath(base_dir)}


def _of_pool(pool: str | None) -> dict[str, Any]:
    return {} if pool is None else {"pool": pool}


def _of_worker(pool: str | None, worker: str | None) -> dict[str, Any]:
    return _of_pool(pool) if worker is None else {**_of_pool(pool), "worker": worker}


def _options(
    timeout: float | None, queue_timeout: float | None, session: str | None
) -> dict[str, Any]:
    given = {"timeout": timeout, "queue_timeout": queue_timeout}
    options: dict[str, Any] = {
        key: _milliseconds(key, value) for key, value in given.items() if value is not None
    }
    if session is not None:
        _check_names(session=session)
        options["session"] = session
    return options


def _check_names(**names: str | None) -> None:
    """Raises what `Host.call` says of names."""
    for what, name in names.items():
        if name is None and what in ("pool", "session"):
            continue
        if not isinstance(name, str):
            raise TypeError(f"{what} is a text, not {name!r}")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{what} is a text that UTF-8 can hold, not {name!r}") from None


def _milliseconds(name: str, seconds: float) -> int | None:
    if not isinstance(seconds, numbers.Real):
        raise TypeError(f"{name} is a number of seconds, not {seconds!r}")
    if not seconds >= 0:
        raise ValueError(f"{name} is seconds of zero or more, not {seconds}")
    if seconds == math.inf:
        return None
    if seconds > MAX_SECONDS:
        raise ValueError(f"{name} is {MAX_SECONDS} seconds at most, or math.inf, not {seconds}")
    return math.ceil(seconds * 1000)
