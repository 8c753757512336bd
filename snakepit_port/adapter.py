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

While it runs, a command may ask the host for something, and tell it something:

    from snakepit_port.adapter import command, host

    @command
    def train(rows, watcher):
        rate = host.call("learning_rate", len(rows))    # a function that the host has registered
        for done, row in enumerate(rows):
            host.progress(done, len(rows))
            ...
        host.send(watcher, "trained")                   # a message to a process
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Callable, TypeVar, overload

if TYPE_CHECKING:
    from snakepit_port.wire import Pid
    from snakepit_port.worker.asking import Line

_F = TypeVar("_F", bound=Callable[..., Any])

#: The attribute that marks a function as a command; it holds the command's name.
MARK = "__snakepit_command__"

#: The attribute of a command whose `bytes` arrive as memoryviews.
VIEWS = "__snakepit_zero_copy__"

#: The attribute of a command that may be run again after a crash.
IDEMPOTENT = "__snakepit_idempotent__"

#: Which attempt at its call the running command is; the worker sets it.
ATTEMPT: ContextVar[int] = ContextVar("snakepit_attempt", default=1)


#: What `host` speaks through; the worker sets it. None where there is no worker, as in a test that
#: calls a command itself, and in a process that a command has forked.
LINE: Line | None = None


class ToolError(Exception):
    """A tool of the host has given no result.

    `type` says why: "unknown_tool" for one that the host has not, "tool_error" for one that failed,
    "bad_arguments" where it takes another number of them, "decode" where it cannot read them, or
    "encode" or "frame_too_large" where its result cannot travel. `message` says it for people,
    `tool` is its name, and `traceback` where in the host it failed, as text, or None.
    """

    def __init__(self, type: str, message: str, tool: str, traceback: str | None = None) -> None:
        super().__init__(f"tool {tool}: {message} ({type})")
        self.type = type
        self.message = message
        self.tool = tool
        self.traceback = traceback


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

    A method that overrides a command is that command, with its name and options, unless it is
    marked itself.

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


class _Host:
    """The program that this worker works for. There is one, `host`.

    Every method raises `RuntimeError` where no worker is: in a test that calls a command itself,
    while a starter loads `preload`, and in a process that a command has forked.
    """

    def call(self, tool: str, *args: Any) -> Any:
        """Have the host run one of its functions, which it has registered as `tool`, and wait for
        the result. Arguments and result travel like those of commands, but large bytes do not go
        through shared memory.

        Only for commands, on the thread that runs them; elsewhere it raises `RuntimeError`. The
        deadline of the command's own call is the only one. Raises `ToolError` where there is no
        result, `EncodeError` for an argument that has no term, `ValueError` for more than fits into
        a frame, and `CallCancelled` if nobody wants the command's answer any more. An exception of
        a signal's handler ends the waiting, too, and the result is dropped then.
        """
        return _line().call(tool, args)

    def send(self, pid: Pid, message: Any) -> None:
        """Send a message to a process whose pid the worker was given. As in Erlang it is not told
        whether it came, or whether there is such a process. For any thread, at any time.

        Raises `TypeError` for what is no pid, `EncodeError` for a message that has no term,
        `ValueError` for more than fits into a frame, and `RuntimeError` for a host that takes none.
        """
        _line().send(pid, message)

    def progress(self, done: float, total: float) -> None:
        """Tell how far the command is, in whatever counts: for who calls it, and not of streams. A
        host gets it up to ten times a second; what is told more often is left out, but for the
        first time that `done` is `total`.

        Only for commands, on the thread that runs them; elsewhere it raises `RuntimeError`. Raises
        `TypeError` or `ValueError` for what is no finite number.
        """
        _line().progress(done, total)

    def log(self, message: str, level: str = "info") -> None:
        """Write to the host's log, a line for each of the message's. `level` is "debug", "info",
        "warning" or "error". For any thread, at any time; and `print` and `logging` do as well.

        Raises `TypeError` for a message that is no text, `ValueError` for another level.
        """
        _line().log(message, level)


host = _Host()


def _line() -> Line:
    if LINE is None:
        raise RuntimeError(
            "there is no host here: it is there in a worker, and not in what a command forks. In a"
            " test have a worker run this, with `snakepit_adapter` and its `tools`, or replace it"
        )
    return LINE
