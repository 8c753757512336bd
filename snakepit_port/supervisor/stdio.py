"""The descriptors on which the host is: taken from what prints, and watched for its end."""

from __future__ import annotations

import fcntl
import os
import select
from contextlib import suppress

from snakepit_port.environment.limits import PIPE_BYTES
from snakepit_port.supervisor.pump import READ, new_poller

#: The peer of a socket writes no more, which a pipe tells unasked.
HALF_CLOSED = getattr(select, "EPOLLRDHUP", 0)


def take() -> tuple[int, int]:
    """Move the protocol to descriptors of its own: what is printed by mistake goes to stderr."""
    host_in, host_out = os.dup(0), os.dup(1)
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0, inheritable=True)
    os.close(devnull)
    os.dup2(2, 1, inheritable=True)
    widen = getattr(fcntl, "F_SETPIPE_SZ", None)
    if widen is not None:
        for fd in (host_in, host_out):
            # Not a pipe, or over the user's share (fs.pipe-user-pages-soft): as it was.
            with suppress(OSError):
                fcntl.fcntl(fd, widen, PIPE_BYTES)
    return host_in, host_out


def can_be_waited_for(fd: int) -> bool:
    """Not a file, a folder, or /dev/null."""
    poller = new_poller()
    try:
        poller.register(fd, READ)
    except PermissionError:
        return False
    else:
        return True
    finally:
        poller.close()


def watch_peer(fd: int, events: int = 0) -> select.epoll | None:
    """Becomes readable when nobody has the other end of a descriptor any more, whatever is still to
    be read. None where the system cannot tell: then end-of-file on stdin has to do."""
    if not hasattr(select, "epoll"):
        return None
    watch = select.epoll()
    # Asked for nothing, it is told of that and of errors.
    watch.register(fd, events)
    return watch


def is_broken(fd: int) -> bool:
    """Whether nobody reads from a pipe any more."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))
