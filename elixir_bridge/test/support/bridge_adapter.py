"""The adapter of the bridge's tests."""

import os
import threading

from snakepit_port.adapter import command


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
    print("begun", flush=True)
    try:
        threading.Event().wait()
    finally:
        print("interrupted", flush=True)


@command
def finish_with(fifo):
    """Finishes when somebody has written to the named pipe."""
    print("begun", flush=True)
    with open(fifo) as file:
        return file.read()
