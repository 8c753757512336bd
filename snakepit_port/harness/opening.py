"""How a host comes by its supervisor, and lets go of it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import IO, Any

import trio

from snakepit_port import __version__
from snakepit_port.bulk.files import FileReader
from snakepit_port.harness.host import Host, configuration
from snakepit_port.harness.process import start_supervisor
from snakepit_port.harness.reports import LogLine
from snakepit_port.harness.tools import Tool, check_tools
from snakepit_port.wire import Tensor, messages

#: The largest frame the harness accepts, in bytes: the supervisor's own default.
MAX_FRAME_BYTES = 64 * 2**20

#: Seconds a supervisor gets to stop after end-of-file before SIGKILL, when its host is in a hurry:
#: the body of `open_host` raised or was cancelled. Twice the default `shutdown_grace_period`.
KILL_GRACE = 10.0


class _TensorReader(FileReader):
    """Makes nothing of arrays that this process would need a library for."""

    def array(self, type: tuple[str, int], shape: tuple[int, ...], data: bytes | str) -> Any:
        """The array as it came: a `Tensor`."""
        return Tensor(type, shape, self.read(data) if isinstance(data, str) else data)


@asynccontextmanager
async def open_host(
    config: str | os.PathLike[str] | Mapping[str, Any],
    *,
    python: str = sys.executable,
    base_dir: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stderr: int | IO[Any] | None = None,
    max_frame_bytes: int = MAX_FRAME_BYTES,
    on_log: Callable[[LogLine], object] | None = None,
    tensors: bool = False,
    tools: Mapping[str, Tool] | None = None,
) -> AsyncIterator[Host]:
    """An async context manager: starts a supervisor, and gives the `Host` that talks to it.

    `config` is the path of a TOML file, or the same keys as a mapping, which travels in the hello;
    relative paths in a mapping start from `base_dir` (default: `cwd`). `python` is the supervisor's
    interpreter, which has snakepit_port installed. `stderr` is what `subprocess.Popen` takes; None
    shares this process's. `max_frame_bytes` is the largest frame that this side accepts, 128 KiB at
    least. `on_log` is called with every log line as it arrives; it must not raise.
    Arrays arrive as NumPy's where it is installed, else most as memoryviews; with `tensors`, as
    `snakepit_port.wire.Tensor`, whatever is installed. `tools` are functions that commands may have
    run, by their names. Those that are not async run on a thread each, and may use
    `trio.from_thread`. One whose call is answered is cancelled, or left where it is.

    On the way in it waits for the supervisor's hello, not for its pools. On the way out it closes
    the supervisor's input and waits for it to drain and exit. If the body raised, or body or way
    out are cancelled, it waits `KILL_GRACE` seconds at most before SIGKILL. The supervisor has
    exited in any case.

    The supervisor is started from the calling thread, which must live as long as the host.

    Raises:
        CallError: `type` "config" for mistakes in the configuration, "protocol_version" where the
            two sides do not fit, "supervisor_down" if the supervisor exits before its hello.
        EncodeError: the mapping holds a value that has no term.
        TypeError: `tools` are none.
        OSError: `python` cannot be executed.
    """
    check_tools(tools)
    command = [python, "-P", "-m", "snakepit_port", "serve"]
    terms = None
    if isinstance(config, Mapping):
        terms = config
    else:
        command += ["--config", os.fspath(config)]
    hello = _hello(terms, base_dir, max_frame_bytes)
    process, stream = start_supervisor(command, env, cwd, stderr)
    reader = _TensorReader if tensors else FileReader
    host = Host(stream, hello, max_frame_bytes, on_log, process, reader, tools)
    async with _running(host):
        yield host


@asynccontextmanager
async def host_over(
    stream: trio.abc.HalfCloseableStream,
    *,
    config: Mapping[str, Any] | None = None,
    base_dir: str | os.PathLike[str] | None = None,
    max_frame_bytes: int = MAX_FRAME_BYTES,
    on_log: Callable[[LogLine], object] | None = None,
    tools: Mapping[str, Tool] | None = None,
) -> AsyncIterator[Host]:
    """An async context manager: the `Host` of a supervisor at the other end of a stream.

    Options, errors and the way out are those of `open_host`; the stream is closed in any case.
    """
    try:
        check_tools(tools)
        hello = _hello(config, base_dir, max_frame_bytes)
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    host = Host(stream, hello, max_frame_bytes, on_log, tools=tools)
    async with _running(host):
        yield host


@asynccontextmanager
async def _running(host: Host) -> AsyncIterator[Host]:
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host._run)
        try:
            await host._greeted.wait()
            host._outbox.check()
            yield host
            await host.close()
        except BaseException as exc:
            # Raised again below, so that the nursery does not wrap it in a group.
            failure = exc
            with trio.CancelScope(shield=True):
                with trio.move_on_after(KILL_GRACE):
                    await host.close()
                if host._process is not None:
                    host.kill()
                    await host._process.wait()
                host._life.cancel()
    if failure is not None:
        raise failure


def _hello(
    config: Mapping[str, Any] | None,
    base_dir: str | os.PathLike[str] | None,
    max_frame_bytes: int,
) -> bytes:
    info: dict[str, Any] = {
        "software": f"snakepit-port harness {__version__}",
        "max_frame_bytes": max_frame_bytes,
        "capabilities": ["shm", "tools"],
    }
    return messages.hello({**info, **configuration(config, base_dir)})
