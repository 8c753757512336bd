"""The files of a run's folder: writing, reading, removing.

**The bound is exact, and needs neither lock nor count.** A file's name holds its size, so making it
is a claim that everybody sees. Only then its writer adds up what is claimed, and writes if that is
within the limit; else it takes the claim back, and the bytes go into the frame. Of writers at the
same time, the one whose claim came last sees all the others'. What a writer that was killed has
claimed is given back when its files are removed.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from snakepit_port.bulk import arrays, pages
from snakepit_port.wire import DecodeError
from snakepit_port.wire.bulk import FILE_PATTERN

#: Names begin with their writer's: the host's, or one that the supervisor gave to a worker.
HOST = "h"


class Folder:
    """A run's folder, for one that reads and writes there.

    `writer` is what its own files' names begin with. Bytes from `threshold` on go into files as
    long as all files together hold no more than `max_bytes`.
    """

    def __init__(self, path: str, writer: str, threshold: int, max_bytes: int) -> None:
        self.path = path
        self.writer_name = writer
        self.threshold = threshold
        self.max_bytes = max_bytes

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Folder | None:
        """The folder that a supervisor's hello names, or None."""
        told = info.get("shm")
        if not isinstance(told, Mapping):
            return None
        writer = str(told.get("writer", HOST))
        return cls(str(told["folder"]), writer, int(told["threshold"]), int(told["max_bytes"]))

    def forget(self) -> None:
        """Write nothing there any more: in a child that this process has forked, whose files nobody
        reads or removes."""
        self.threshold = sys.maxsize

    def writer(self, call: int) -> FileWriter:
        """Writes the files of one call."""
        return FileWriter(self, call)

    def discard(self, names: Iterable[str]) -> None:
        """Remove files, as far as they are there."""
        for name in names:
            if FILE_PATTERN.fullmatch(name):
                with suppress(OSError):
                    os.unlink(f"{self.path}/{name}")

    def claimed(self) -> int:
        """Bytes that all files together hold or are about to."""
        return sum(int(name.rpartition("-")[2]) for name in files_in(self.path))


def files_in(path: str) -> list[str]:
    """The names of a folder's files; of others that somebody put there, none."""
    return [name for name in os.listdir(path) if FILE_PATTERN.fullmatch(name)]


def remove_folder(path: str) -> None:
    """Remove a folder and its files, as far as they are there."""
    with suppress(OSError):
        for name in os.listdir(path):
            with suppress(OSError):
                os.unlink(f"{path}/{name}")
    with suppress(OSError):
        os.rmdir(path)


class FileWriter:
    """Writes the files of one call; `names` are those that it wrote."""

    __slots__ = ("_call", "_folder", "names", "threshold")

    def __init__(self, folder: Folder, call: int) -> None:
        self._folder = folder
        self._call = call
        self.threshold = folder.threshold
        self.names: list[str] = []

    def write(self, data: bytes | memoryview) -> str | None:
        """A new file with these bytes (a memoryview's format is B); None if there is no room."""
        folder = self._folder
        name = f"{folder.writer_name}-{self._call}-{len(self.names)}-{len(data)}"
        path = f"{folder.path}/{name}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except OSError:
            return None
        self.names.append(name)
        try:
            if folder.claimed() <= folder.max_bytes:
                _write_all(fd, data)
                return name
        except OSError:  # The folder is gone, or the system has no memory for it.
            pass
        finally:
            os.close(fd)
        # A claim that somebody else removed, as at the end of a run, is taken back, too.
        with suppress(OSError):
            os.unlink(path)
        self.names.pop()
        return None

    def discard(self) -> None:
        """Remove what was written: nobody will."""
        self._folder.discard(self.names)
        self.names = []


def _write_all(fd: int, data: bytes | memoryview) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


class FileReader:
    """Reads the other side's files, whose names begin with `writers`; a `wire.Reader`.

    A file is removed as it is opened, unless `keep`. With `views`, bytes are a read-only memoryview
    of the file itself; else a copy.
    """

    def __init__(
        self, folder: Folder | None, writers: str, *, views: bool = False, keep: bool = False
    ) -> None:
        self._folder = folder
        self._writers = writers
        self._keep = keep
        self.views = views

    def read(self, name: str) -> Any:
        fd, size = self._open(name)
        try:
            if self.views:
                return memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_READ))
            return pages.read(fd, size)
        except OSError as exc:
            raise _unreadable(name, exc) from None
        finally:
            os.close(fd)

    def array(self, type: tuple[str, int], shape: tuple[int, ...], data: bytes | str) -> Any:
        """An array that can be written to; what is written stays in this process."""
        if not isinstance(data, str):
            return arrays.array(type, shape, bytearray(data))
        fd, size = self._open(data)
        try:
            memory = mmap.mmap(fd, size, access=mmap.ACCESS_COPY)
        except OSError as exc:
            raise _unreadable(data, exc) from None
        finally:
            os.close(fd)
        return arrays.array(type, shape, memory)

    def _open(self, name: str) -> tuple[int, int]:
        folder = self._folder
        if folder is None:
            raise DecodeError(f"a file, {name}, and there is no shared memory here", "file")
        if not name.startswith(self._writers):
            raise DecodeError(f"a file, {name}, that the other side did not write", "file")
        path = f"{folder.path}/{name}"
        try:
            # Who has made it may have made a pipe.
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as exc:
            raise _unreadable(name, exc) from None
        if not self._keep:
            with suppress(OSError):
                os.unlink(path)
        size = int(name.rpartition("-")[2])
        found = os.fstat(fd).st_size
        if found != size:
            os.close(fd)
            raise DecodeError(f"a file, {name}, that is {found} bytes long", "file")
        return fd, size


def _unreadable(name: str, exc: OSError) -> DecodeError:
    return DecodeError(f"a file, {name}, that cannot be read: {exc.strerror}", "file")
