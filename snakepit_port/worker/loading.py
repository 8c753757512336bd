"""An adapter's commands."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from functools import cached_property, partialmethod, singledispatchmethod
from types import ModuleType
from typing import Any, Callable, NamedTuple

from snakepit_port.adapter import IDEMPOTENT, MARK, VIEWS
from snakepit_port.wire.bulk import is_number
from snakepit_port.worker.advice import (
    closest,
    no_class,
    no_command,
    no_function,
    no_module,
    not_found,
)
from snakepit_port.worker.exceptions import exception_name, summary, traceback_text, utf8

Command = Callable[..., Any]


class Marked(NamedTuple):
    """A function that is a command, and the name of the attribute that it was found in. `mark` is
    what has the command's options: itself, or a command of a base class that it overrides."""

    name: str
    key: str
    function: Command
    mark: Any


class LoadError(Exception):
    """The adapter cannot serve. `error` is a map as in SPEC section 11."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.error = error


class Adapter:
    """The commands of `module` or `module:Class`, and what `direct_calls` lets through.

    Raises `LoadError` if it cannot be imported or made, has no command, or two of one name.
    """

    def __init__(
        self,
        name: str,
        args: Any,
        python_path: list[str],
        direct_calls: list[str],
    ) -> None:
        for folder in reversed(python_path):
            if folder not in sys.path:
                sys.path.insert(0, folder)
        try:
            self._holder = _make(name, args)
            self._marked = _commands(self._holder, name)
            self.commands = {name: one.function for name, one in self._marked.items()}
            self._check_hooks(name)
        except LoadError:
            raise
        except BaseException as exc:
            raise LoadError(import_error(f"adapter {name} failed to load", exc, name)) from None
        self._direct = frozenset(direct_calls)
        if not self.commands and not direct_calls:
            raise _refused(no_command(name, _classes_with_commands(self._holder, name)))
        for command, function in self.commands.items():
            _check(function, f"command {command} of adapter {name}")

    def _check_hooks(self, name: str) -> None:
        """Raises `LoadError` if the class has an async `health` or `close`: nobody awaits it."""
        if not inspect.ismodule(self._holder):
            for hook in ("health", "close"):
                method = inspect.getattr_static(self._holder, hook, None)
                _check(_bare(method), f"{hook} of adapter {name}")

    @property
    def idempotent(self) -> list[str]:
        """The commands that may be run again after a crash."""
        return sorted(name for name in self.commands if self.is_idempotent(name))

    def is_idempotent(self, command: str) -> bool:
        """Whether a command that was found may be run again after a crash."""
        return bool(getattr(self._mark_of(command), IDEMPOTENT, False))

    def takes_views(self, command: str) -> bool:
        """Whether the `bytes` that a command gets, which was found, are memoryviews."""
        return hasattr(self._mark_of(command), VIEWS)

    def _mark_of(self, command: str) -> Any:
        """What has the options of a command that was found."""
        marked = self._marked.get(command)
        return self.commands[command] if marked is None else marked.mark

    def find(self, command: str) -> Command | None:
        """The function behind a command, or None.

        Raises whatever the module of a direct call does when it is imported, and `LoadError` for a
        function that it has not, or that cannot be a command.
        """
        found = self.commands.get(command)
        if found is None and ":" in command:
            found = self._find_direct(command)
        return found

    def _find_direct(self, command: str) -> Command | None:
        module, _, function = command.partition(":")
        if command not in self._direct and f"{module}:*" not in self._direct:
            return None
        if function.startswith("_"):
            raise _refused(f"{command}: what begins with _ is private, and not called directly")
        holder = importlib.import_module(module)
        found = getattr(holder, function, None)
        if not callable(found):
            raise _refused(no_function(holder, module, function))
        _check(found, command)
        self.commands[command] = found
        return found  # type: ignore[no-any-return]

    def unknown(self, command: str) -> str:
        """What to say about a command that does not exist."""
        direct = [name for name in self._direct if not name.endswith(":*")]
        # Who names a function means a function.
        near = direct if ":" in command else [*self.commands, *direct]
        close = closest(command, sorted(set(near)))
        hint = f"; did you mean {close!r}?" if close else ""
        # Direct calls that were made are kept with the commands.
        named = sorted(name for name in self.commands if ":" not in name)
        known = f"commands: {', '.join(named) or 'none'}"
        if ":" not in command:
            return f"there is no command {command!r}{hint} ({known})"
        known += f"; direct_calls: {', '.join(sorted(self._direct)) or 'none'}"
        return f"there is no command {command!r}, and it is not among direct_calls{hint} ({known})"

    @property
    def is_thread_safe(self) -> bool | None:
        """What the module or class says of itself with `thread_safe`; None if it says nothing."""
        said = getattr(self._holder, "thread_safe", None)
        return said if isinstance(said, bool) else None

    def check_up(self) -> dict[str, Any] | None:
        """Run the class's `health`, if it has one. Returns an error map if it raises, or returns
        False, Python's or NumPy's."""
        health = self._method("health")
        try:
            said: Any = None if health is None else health()
            if is_number(said):
                said = said.item()
            if said is not False:
                return None
        except BaseException as exc:
            return {
                "type": "exception",
                "message": utf8(f"health raised {summary(exc)}"),
                "exception": exception_name(exc),
                "traceback": traceback_text(exc),
            }
        return {"type": "exception", "message": "health returned False"}

    def close(self) -> None:
        """Run the class's `close`, if it has one."""
        close = self._method("close")
        if close is not None:
            close()

    def _method(self, name: str) -> Callable[[], Any] | None:
        method = None if inspect.ismodule(self._holder) else getattr(self._holder, name, None)
        return method if callable(method) else None


def _make(name: str, args: Any) -> Any:
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if advice := no_module(name, exc):
            raise _refused(advice) from None
        raise
    if not class_name:
        return module
    cls = getattr(module, class_name, None)
    if not isinstance(cls, type):
        raise _refused(no_class(module, module_name, class_name))
    try:
        return cls(**args) if isinstance(args, Mapping) else cls(*args)
    except TypeError as exc:
        trace = exc.__traceback__
        # No frame but this one: nothing of the class has run, the arguments do not fit it.
        if trace is not None and trace.tb_next is None and not inspect.isabstract(cls):
            error = import_error(f"adapter {name} failed to load", exc)
            error["message"] += "; adapter_args are its arguments"
            raise LoadError(error) from None
        raise


def _classes_with_commands(holder: Any, adapter: str) -> list[str]:
    """The names of the classes in a module that could be adapters."""
    if not inspect.ismodule(holder):
        return []
    return [
        key
        for key, value in list(vars(holder).items())
        # By its type: `isinstance` asks the object itself, which may be a lazy one.
        if issubclass(type(value), type) and not key.startswith("_") and _marked(value, adapter)
    ]


def _commands(holder: Any, adapter: str) -> dict[str, Marked]:
    """The commands by name. Raises `LoadError` where two functions are commands of one name: which
    of them runs would be chance."""
    named: dict[str, dict[str, Marked]] = {}
    for marked in _marked(holder, adapter):
        named.setdefault(marked.name, {})[marked.key] = marked
    return {name: found[_only(name, found, adapter)] for name, found in named.items()}


def _only(name: str, found: dict[str, Marked], adapter: str) -> str:
    """Where the one function is found that is meant, among those that are marked with a name."""
    functions = {key: marked.function for key, marked in found.items()}
    (first, chosen), *others = functions.items()
    rivals = ((key, other) for key, other in others if not _is_same(chosen, other))
    second, rival = next(rivals, ("", chosen))
    if rival is chosen:
        return first
    # functools.wraps copies the mark: a wrapper that is kept beside what it wraps is no second
    # command. The one that has the function's own name is meant.
    roots = {id(inspect.unwrap(_bare(function))) for function in functions.values()}
    own: str = getattr(chosen, "__name__", "")
    if len(roots) == 1 and own in functions:
        return own
    wrapped = _wraps(chosen, rival) or _wraps(rival, chosen)
    why = "; one wraps the other, and has its mark from functools.wraps" if wrapped else ""
    raise _refused(
        f"adapter {adapter} has two commands named {name}: the functions {first} and {second}{why};"
        ' give one of them another name, as in @command(name="other")'
    )


def _wraps(outer: Command, inner: Command) -> bool:
    """Whether one function wraps another, as functools.wraps notes it."""
    wrapped = _bare(inner)
    return inspect.unwrap(_bare(outer), stop=lambda function: function is wrapped) is wrapped


def _is_same(one: Command, other: Command) -> bool:
    """Whether two functions are one, bound to the same object if to any: each look at a method
    makes another object of it."""
    return _bare(one) is _bare(other) and (
        getattr(one, "__self__", None) is getattr(other, "__self__", None)
    )


def _bare(function: Command) -> Command:
    """The function of a method."""
    bare: Command = getattr(function, "__func__", function)
    return bare


def _marked(holder: Any, adapter: str) -> list[Marked]:
    """Every function that is marked, or overrides one that is. Raises `LoadError` for one that is
    wrapped in what cannot be called."""
    found = []
    hidden = []
    # What is in a module is found at once: each worker looks, and what it runs for that is memory
    # that it has to itself.
    names = vars(holder) if type(holder) is ModuleType else None
    for key in dir(holder):
        if key.startswith("__"):
            continue
        # Looked up on the class first: a property of the instance should not run just for this.
        static: Any = inspect.getattr_static(holder, key, None) if names is None else names.get(key)
        mark = static
        name = _command_name(static)
        if name is None and names is None:
            mark = _overridden(holder, key)
            name = _command_name(mark)
        if type(static) in (singledispatchmethod, partialmethod):
            hidden.append((_command_name(static.func) or name, key, static))
        elif type(static) in (property, cached_property):
            # In the place of a command of a base class it takes that away, as None does.
            function = static.fget if type(static) is property else static.func
            hidden.append((_command_name(function), key, static))
        elif name is not None and _is_function(static):
            found.append(Marked(name, key, getattr(holder, key), _bare(mark)))
    commands = {marked.name for marked in found}
    for name, key, method in hidden:
        # One that is beside the command that it wraps is the adapter's own business.
        if name is not None and name not in commands:
            raise _refused(
                f"{key} of adapter {adapter} is a {type(method).__name__}, which cannot be a"
                " command; have a plain method with @command call it"
            )
    return found


def _overridden(holder: Any, key: str) -> Any:
    """The command that an attribute of a class or instance overrides; None if it does not."""
    for cls in (holder if isinstance(holder, type) else type(holder)).__mro__:
        overridden = vars(cls).get(key)
        if _command_name(overridden) is not None:
            return overridden
    return None


def _is_function(value: Any) -> bool:
    try:
        return callable(_bare(value))
    except Exception:
        # A lazy object, as in `_command_name`.
        return False


def _command_name(value: Any) -> str | None:
    """The name under which a function is a command; None for whatever is none."""
    try:
        function = _bare(value)
        name = getattr(function, MARK, None) if callable(function) else None
        return name if isinstance(name, str) else None
    except Exception:
        # A lazy object, like a proxy for the request of a web framework, that is not there yet.
        return None


def _check(function: Command, what: str) -> None:
    called = [function]
    if callable(function) and not inspect.isroutine(function):
        # An object is called by its class's method.
        called.append(type(function).__call__)
    if any(inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in called):
        raise _refused(
            f"{what} is async, which is not supported; make it a plain function, which may run what"
            " is async with asyncio.run(...)"
        )


def _refused(message: str) -> LoadError:
    return LoadError({"type": "pool_unavailable", "message": utf8(message)})


def import_error(what: str, exc: BaseException, adapter: str = "") -> dict[str, Any]:
    """An error map about something of the user's that could not be imported or made; of an adapter
    with its name."""
    message = f"{what}: {summary(exc)}"
    # By its type: `isinstance` asks the exception itself, which may be broken.
    if issubclass(type(exc), ModuleNotFoundError):
        message += not_found(getattr(exc, "name", None), adapter)
    return {
        "type": "pool_unavailable",
        "message": utf8(message),
        "exception": exception_name(exc),
        "traceback": traceback_text(exc),
    }
