"""Commands that ask the host for something, and tell it."""

import os
import signal

from snakepit_port.adapter import attempt, command, host


@command
def ask(tool, *args):
    return host.call(tool, *args)


@command(idempotent=True)
def ask_whatever_happens(tool):
    """Says which attempt it is, and which process."""
    return host.call(tool, attempt(), os.getpid())


@command
def remember(tool):
    """Leaves a line when it is stopped."""
    try:
        return host.call(tool)
    finally:
        print("stopped", flush=True)


@command
def tell(pid, *messages):
    for message in messages:
        host.send(pid, message)


@command
def work(total):
    for done in range(total + 1):
        host.progress(done, total)
    return "done"


@command
def log(message, level):
    host.log(message, level)


def _late(*_):
    raise TimeoutError


@command
def ask_twice(first, *second):
    """Waits for the answer to the first only until a signal comes."""
    signal.signal(signal.SIGALRM, _late)
    try:
        host.call(first)
    except TimeoutError:
        return host.call(*second)


@command
def pid():
    return os.getpid()
