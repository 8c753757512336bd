"""What authors of adapters import. The guide is ADAPTERS.md, beside this file.

An adapter is a module of commands:

    from snakepit_port.adapter import command

    @command
    def add(a, b):
        return a + b

or a class, made once for each worker, named `my_app.adapter:Model` in the configuration:

    class Model:
        def __init__(self, path="model.bin"):   # adapter_args = { path = "..." }
            self.weights = load(path)

        @command
        def predict(self, rows):
            return self.weights.apply(rows)

        def health(self):                       # now and then, between calls; False or an
            return self.weights.are_intact()    # exception has the worker replaced

        def close(self):                        # when the worker goes in good order
            self.weights.release()

In a pool with the thread profile several commands run at the same time, on threads of one process
and with one instance of the class. Code that is made for that says `thread_safe = True` in the
module or class: `thread_safety_checks` reports what does not.

A map of arguments becomes keywords, a list positions. What a command returns has to have a term
(see `snakepit_port.wire`); what it raises reaches the caller with its class and traceback.

A command that is a generator, or returns an iterator, is a stream: its caller gets the values one
by one, and it runs ahead of its caller no further than that allows.

    @command
    def lines(path):
        with open(path) as file:                # closed however the stream ends
            yield from file

Clean up in `finally` or `with`: when the caller stops early, the generator is closed where it is.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Callable, TypeVar, overload

_F = TypeVar("_F", bound=Callable[..., Any])

#: The attribute that marks a function as a command; it holds the command's name.
MARK = "__snakepit_command__"

#: The attribute of a command whose `bytes` arrive as memoryviews.
VIEWS = "__snakepit_zero_copy__"

#: The attribute of a command that may be run again after a crash.
IDEMPOTENT = "__snakepit_idempotent__"

#: Which attempt at its call the running command is; the worker sets it.
ATTEMPT: ContextVar[int] = ContextVar("snakepit_attempt", default=1)


class CallCancelled(BaseException):
    """Raised in a command whose caller no longer wants its answer, or whose deadline has passed.

    Not an `Exception`, so that `except Exception` does not swallow it. Clean up and let it pass: a
    command that goes on after it has `cancel_grace_period` before its worker is killed.

    With the thread profile it is raised when the thread next runs Python code: not while it waits
    in C, for a lock or a socket without a timeout.
    """


@overload
def command(function: _F) -> _F: ...


@overload
def command(
    *, name: str | None = None, zero_copy: bool = False, idempotent: bool = False
) -> Callable[[_F], _F]: ...


def command(
    function: Any = None,
    *,
    name: str | None = None,
    zero_copy: bool = False,
    idempotent: bool = False,
) -> Any:
    """Let the host call this function, under its own name or another. An adapter with two commands
    of one name is refused. Raises `TypeError` for what is no function, or no such option.

    With `zero_copy` every `bytes` in its arguments arrives as a read-only memoryview, large ones of
    the shared memory that the host wrote them to (`numpy.frombuffer` takes it). The memory is free
    again when the last view of it has gone.

    An `idempotent` command does no harm when it is begun twice. If its worker crashes while it
    runs, it is run again by another, `max_retries` times at most; `attempt()` tells it. Every
    other command is started at most once. Streams and calls of strict sessions are not run again.

    The function itself is unchanged: it can be called and tested as ever.
    """

    if name is not None and not isinstance(name, str):
        raise TypeError(f"@command(name=...) takes a string, not {name!r}")
    for option, value in (("zero_copy", zero_copy), ("idempotent", idempotent)):
        if not isinstance(value, bool):
            raise TypeError(f"@command({option}=...) takes True or False, not {value!r}")

    def mark(function: Any) -> Any:
        # A static or class method, where the decorators are written the other way round.
        marked = getattr(function, "__func__", function)
        if isinstance(marked, str):
            raise TypeError(f"a name is given to @command as in @command(name={marked!r})")
        kind = type(marked).__name__
        if not callable(marked):
            raise TypeError(f"@command marks a function, not a {kind}")
        named = name or getattr(marked, "__name__", None)
        if named is None:
            raise TypeError(f"this {kind} has no name: write @command(name=...)")
        try:
            setattr(marked, MARK, named)
        except AttributeError:
            raise TypeError(f"@command cannot mark a {kind}; have a function call it") from None
        if zero_copy:
            setattr(marked, VIEWS, True)
        if idempotent:
            setattr(marked, IDEMPOTENT, True)
        return function

    return mark if function is None else mark(function)


def attempt() -> int:
    """Which attempt at its call the running command is: 1, or more if it is `idempotent` and its
    worker crashed before. In a thread of the command's own it is 1."""
    return ATTEMPT.get()
