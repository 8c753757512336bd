"""The adapter of the bridge's tests."""

import os
import threading

from snakepit_port.adapter import CallCancelled, ToolError, command, host


@command
def echo(value):
    return value


@command
def add(a, b):
    return a + b


@command
def kind(value):
    """The Python type a value arrives as, and its repr."""
    return type(value).__name__, repr(value)


@command
def array(value):
    """Of a NumPy array: its type, its numbers, and twice as much."""
    return str(value.dtype), value.tolist(), value * 2


@command
def make_bytes(size):
    return bytes(size)


@command
def fail(message):
    raise ValueError(message)


@command
def unencodable():
    return {"deep": [object()]}


@command
def unknown_atom():
    from snakepit_port.wire import Atom

    return [Atom("not_an_atom_of_the_beam")]


@command
def pid():
    return os.getpid()


@command
def die():
    print("famous last words", flush=True)
    os.kill(os.getpid(), 9)


@command
def block():
    """Says so on its stdout when it has begun and when it was interrupted."""
    try:
        # Whoever reads this may have the command interrupted before the next line.
        print("begun", flush=True)
        threading.Event().wait()
    finally:
        print("interrupted", flush=True)


@command
def finish_with(fifo):
    """Finishes when somebody has written to the named pipe."""
    print("begun", flush=True)
    with open(fifo) as file:
        return file.read()


# -- streams -----------------------------------------------------------------------------------


@command
def count(n):
    yield from range(n)
    return "counted"


@command
def endless():
    """Says on its stdout how far it got, when it is closed."""
    n = 0
    try:
        while True:
            yield n
            n += 1
    finally:
        print(f"closed at {n}", flush=True)


@command
def give_back(value):
    yield value
    return value


@command
def blobs(n, size):
    for _ in range(n):
        yield bytes(size)


@command
def fail_after(n):
    yield from range(n)
    raise ValueError("no more")


@command
def strange_after(n):
    yield from range(n)
    yield from unknown_atom()


@command
def die_after(n):
    yield from range(n)
    die()


@command
def wait_between(fifo):
    """Yields the lines that are written to the named pipe."""
    with open(fifo) as file:
        for line in file:
            yield line.strip()


_barrier = threading.Barrier(4)


@command
def meet(n):
    """Waits until n calls, four, are inside at the same time."""
    assert n == _barrier.parties
    _barrier.wait()
    return "met"


@command
def ask(tool, *args):
    return host.call(tool, *args)


@command
def ask_each(*tools):
    for tool in tools:
        yield host.call(tool)


@command
def why_not(tool, *args):
    """Why a tool has no result: what the exception says."""
    try:
        return host.call(tool, *args)
    except ToolError as exc:
        return exc.type, exc.message


@command
def ask_and_say(tool):
    """Says on its stdout when it is stopped."""
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
def work_until(fifo):
    """Half done until somebody has written to the named pipe."""
    host.progress(1, 2)
    try:
        with open(fifo) as file:
            file.read()
    except CallCancelled:
        print("cancelled", flush=True)
        raise
    host.progress(2, 2)


@command(idempotent=True)
def work_with(data):
    """Leaves the files of its arguments, for it may be run again."""
    host.progress(1, 1)
    return len(data)


@command
def host_log(message, level):
    host.log(message, level)


@command
def ask_after(tool, fifo):
    """Asks when somebody has written to the named pipe."""
    print("begun", flush=True)
    with open(fifo) as file:
        file.read()
    return host.call(tool)


@command
def tell_atom(pid):
    """One message that the BEAM cannot read, and one that it can."""
    from snakepit_port.wire import Atom

    host.send(pid, Atom("another_atom_that_the_beam_has_not"))
    host.send(pid, Atom("after_it"))
