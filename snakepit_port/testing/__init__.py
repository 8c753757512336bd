"""The pytest plugin: fixtures for authors of adapters. They start real processes.

    def test_add(snakepit_adapter):
        assert snakepit_adapter("my_app.adapter").call("add", [1, 2]) == 3

    async def test_add(snakepit_host):          # with pytest-trio
        pools = [{"name": "default", "adapter": "my_app.adapter"}]
        async with snakepit_host({"pools": pools}) as host:
            assert await host.call("default", "add", [1, 2]) == 3

What workers print is printed in the test, with the worker's id in front. A test that leaves a
process of its own running fails.
pytest-trio's `autojump_clock` does not go with processes: it takes waiting for one for idleness.

pytest imports this module in every project that has snakepit_port installed, so Trio and the
harness are imported only when a fixture is used.

processes.py  which processes a test started, and whether they are gone
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import concurrent.futures

    import trio

    from snakepit_port.harness import Host, LogLine
    from snakepit_port.testing.processes import Run

    HostFactory = Callable[..., AbstractAsyncContextManager[Host]]

#: Seconds that what is left of a supervisor killed by its test has to end. It takes milliseconds;
#: the time is for machines that are busy.
SURVIVOR_GRACE = 5.0


@pytest.fixture
def snakepit_host(request: pytest.FixtureRequest, _snakepit_run: Run) -> HostFactory:
    """A factory of hosts: `async with snakepit_host(config, **options) as host`.

    Takes what `snakepit_port.harness.open_host` takes. Relative paths of a mapping start from
    pytest's root directory unless `base_dir` says otherwise.
    """
    return _host_factory(request.config.rootpath, _snakepit_run)


@pytest.fixture
def snakepit_adapter(
    request: pytest.FixtureRequest, _snakepit_run: Run
) -> Iterator[Callable[..., AdapterRun]]:
    """A factory for tests that are not async: `snakepit_adapter(adapter, **settings)`.

    Starts a pool of one worker that serves `adapter`, a name such as "my_app.adapter" or
    "my_app.adapter:Class", and returns an `AdapterRun`. `settings` are further settings of the
    pool, such as `python_path`, of which relative paths start from pytest's root directory; those
    in `adapter_args` are the adapter's business.
    Workers run in the interpreter of the test, and import from where the test does, unless `python`
    and `python_path` say otherwise. `tools` are functions that commands may call, by their names.
    """
    factory = _host_factory(request.config.rootpath, _snakepit_run)
    runs: list[AdapterRun] = []

    def start(
        adapter: str, *, tools: Mapping[str, Callable[..., Any]] | None = None, **settings: Any
    ) -> AdapterRun:
        __tracebackhide__ = True
        import trio

        if trio.lowlevel.in_trio_run():
            raise RuntimeError(
                "snakepit_adapter is for tests that are not async: it would block the others'"
                " loop. In this one use snakepit_host"
            )
        pool = {
            "name": "default",
            "adapter": adapter,
            "pool_size": 1,
            "python": sys.executable,
            "python_path": _own_import_path(),
            **settings,
        }
        runs.append(AdapterRun(factory({"pools": [pool]}, tools=tools)))
        return runs[-1]

    yield start
    for run in runs:
        run.close()


class AdapterRun:
    """An adapter in a worker process, for tests that are not async. Made by `snakepit_adapter`."""

    def __init__(self, opened: AbstractAsyncContextManager[Host]) -> None:
        import concurrent.futures

        from snakepit_port.harness import CallError

        __tracebackhide__ = True
        self._opened = opened
        self._ready: concurrent.futures.Future[Host] = concurrent.futures.Future()
        self._failure: BaseException | None = None
        self._began = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop: trio.Event
        self._scope: trio.CancelScope
        # The thread lives as long as the supervisor it starts.
        self._thread = threading.Thread(target=self._run, name="snakepit_adapter", daemon=True)
        self._thread.start()
        try:
            failure = self._ready.exception()
        except BaseException:
            # The test was interrupted, by its time limit or ^C.
            self._end(lambda: self._scope.cancel())
            raise
        if isinstance(failure, CallError):
            raise failure.with_traceback(None)
        self._host = self._ready.result()

    def call(
        self,
        command: str,
        args: Sequence[Any] | Mapping[Any, Any] = (),
        *,
        timeout: float | None = None,
        session: str | None = None,
        progress: Callable[[float, float], object] | None = None,
    ) -> Any:
        """Calls a command and returns its result; see `snakepit_port.harness.Host.call`.

        Raises:
            CallError: the call ended without a result.
            EncodeError: `args` hold a value that has no term.
            ValueError: `timeout` is below zero.
        """
        __tracebackhide__ = True

        async def call() -> Any:
            return await self._host.call(
                None, command, args, timeout=timeout, session=session, progress=progress
            )

        return self._in_trio(call)

    def stream(
        self,
        command: str,
        args: Sequence[Any] | Mapping[Any, Any] = (),
        *,
        timeout: float | None = None,
    ) -> list[Any]:
        """Calls a generator and returns all that it yields; see `Host.stream`.

        Raises: as `call`; also when the error came after some chunks.
        """
        __tracebackhide__ = True

        async def stream() -> list[Any]:
            async with self._host.stream(None, command, args, timeout=timeout) as chunks:
                return [chunk async for chunk in chunks]

        chunks: list[Any] = self._in_trio(stream)
        return chunks

    @property
    def worker_pids(self) -> list[int]:
        """The process ids of the workers."""
        __tracebackhide__ = True
        return [worker["os_pid"] for worker in self._in_trio(self._host.workers)]

    def close(self) -> None:
        """Stops the worker and its supervisor. The fixture does it at the end of the test."""
        self._end(lambda: self._stop.set())
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _end(self, end: Callable[[], object]) -> None:
        """Has what ends the run done where it is, and waits for that."""
        import trio

        self._began.wait()
        if self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(end)
        self._thread.join()

    def _in_trio(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Runs an async function where the host is. What it raises for the caller comes without
        the frames of Trio and of this package: they say nothing of the test, or of the adapter."""
        import trio

        from snakepit_port.harness import CallError
        from snakepit_port.wire import EncodeError

        __tracebackhide__ = True
        try:
            return trio.from_thread.run(function, trio_token=self._token)
        except (CallError, EncodeError, ValueError) as exc:
            raise exc.with_traceback(None) from None
        except trio.RunFinishedError:
            message = "the adapter's worker was stopped (close)"
            raise CallError({"type": "supervisor_down", "message": message}) from None

    def _run(self) -> None:
        import trio

        try:
            trio.run(self._hold_open)
        except BaseException as exc:
            if self._ready.done():
                self._failure = exc
            else:
                self._ready.set_exception(exc)
        finally:
            self._began.set()

    async def _hold_open(self) -> None:
        import trio

        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        self._scope = trio.CancelScope()
        self._began.set()
        with self._scope:
            async with self._opened as host:
                await host.await_ready()
                self._ready.set_result(host)
                await self._stop.wait()


@pytest.fixture
def _snakepit_run() -> Iterator[Run]:
    """Fails the test if a process that a supervisor of its own started outlives it."""
    from snakepit_port.testing.processes import Run

    run = Run()
    yield run
    survivors = run.end(SURVIVOR_GRACE)
    if survivors:
        lines = "\n".join(f"  {process}" for process in survivors)
        pytest.fail(
            f"processes outlived their supervisor, and were killed now:\n{lines}", pytrace=False
        )


def _host_factory(root: os.PathLike[str], run: Run) -> HostFactory:
    @asynccontextmanager
    async def opened(
        config: str | os.PathLike[str] | Mapping[str, Any], **options: Any
    ) -> AsyncIterator[Host]:
        from snakepit_port.harness import open_host

        if isinstance(config, Mapping):
            options.setdefault("base_dir", root)
        options.setdefault("on_log", _print)
        options["env"] = run.mark(options.get("env"))
        async with open_host(config, **options) as host:
            try:
                yield host
            finally:
                run.note_descendants_of(host.os_pid)

    return opened


def _own_import_path() -> list[str]:
    """The folders that this process imports from and a fresh interpreter would not."""
    installed = (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)
    return [
        os.path.abspath(folder)
        for folder in sys.path
        if os.path.isdir(folder or ".")
        and not any(os.path.abspath(folder).startswith(prefix + os.sep) for prefix in installed)
    ]


def _print(line: LogLine) -> None:
    if line.source in ("stdout", "stderr"):
        file = sys.stdout if line.source == "stdout" else sys.stderr
        print(f"[{line.who}] {line.line}", file=file)
    else:
        print(f"[{line.who}] {line.level}: {line.line}", file=sys.stderr)
