"""The folder in shared memory through which a run's large values travel (SPEC section 17)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any

from snakepit_port.bulk.files import HOST, Folder, files_in, remove_folder
from snakepit_port.config.model import SupervisorSettings
from snakepit_port.environment.limits import file_bytes
from snakepit_port.supervisor.run import MEMORY, PREFIX, hold


class SharedMemory:
    """A run's folder, seen from the supervisor, which makes it and removes what others leave."""

    def __init__(self, folder: str, settings: SupervisorSettings) -> None:
        self.folder = folder
        max_bytes = settings.shm_max_bytes
        longest = file_bytes()
        if longest is not None:
            # The host's limit too, as a rule: the BEAM is ended by SIGXFSZ where it writes more.
            max_bytes = min(max_bytes, longest)
        self._files = Folder(folder, HOST, settings.shm_threshold, max_bytes)
        self._numbers = itertools.count(1)
        #: What the hellos say of it.
        self.info: dict[str, Any] = {
            "folder": folder,
            "threshold": settings.shm_threshold,
            "max_bytes": max_bytes,
        }

    @classmethod
    def make(cls, run_id: str, settings: SupervisorSettings) -> SharedMemory | None:
        """Make the folder, and hold it until this process ends; None where there is no such memory
        (it is Linux's; elsewhere large values travel in frames), or the settings want none of it.
        """
        if settings.shm_max_bytes == 0:
            return None
        folder = f"{MEMORY}/{PREFIX}{run_id}"
        try:
            os.mkdir(folder, 0o700)
        except OSError:
            return None
        try:
            hold(folder)
        except OSError:
            with suppress(OSError):
                os.rmdir(folder)
            return None
        return cls(folder, settings)

    def new_writer(self) -> str:
        """What the names of a new worker's files begin with: no other's do in this run."""
        return f"w{next(self._numbers)}"

    def discard(self, names: Iterable[str]) -> None:
        """Remove the files of a result that nobody takes."""
        self._files.discard(names)

    def sweep(self, writer: str, calls: Collection[int]) -> None:
        """Remove what a worker that is gone wrote for calls that it has not answered."""
        if calls:
            with suppress(OSError):
                self.discard(
                    name
                    for name in files_in(self.folder)
                    if name.startswith(f"{writer}-") and int(name.split("-")[1]) in calls
                )

    def leave(self, *, to_host: bool) -> None:
        """Remove the folder, at the end of the run.

        Results that the host has not read yet are left to it, if it is there: it removes the
        folder when the supervisor is gone.
        """
        if to_host:
            with suppress(OSError):
                os.rmdir(self.folder)
        else:
            remove_folder(self.folder)
