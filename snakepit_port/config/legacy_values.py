"""From the values that Snakepit's keys take to the values of settings. What has another shape than
expected stays as it is, for the check to judge."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any

from snakepit_port.config.amounts import TERM_UNITS
from snakepit_port.config.kinds import as_table

#: What Snakepit appends to an adapter's arguments, or needs for its own Python server.
_SERVER_OPTIONS = ("--port", "--elixir-address", "--snakepit-run-id", "--mode")


def same(value: Any) -> Any:
    return value


def truth(value: Any) -> bool:
    """Elixir's truth: everything but false and nil."""
    return value is not False and value is not None


def duration(value: Any) -> Any:
    """A tuple such as ``{3600, :seconds}``, which in TOML is a list, as text."""
    match value:
        case (int(amount), str(unit)) if unit in TERM_UNITS and not isinstance(amount, bool):
            return f"{amount}{TERM_UNITS[unit]}"
    return value


def seconds(value: Any) -> Any:
    """An integer of seconds, as text."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return f"{value}s"
    return duration(value)


def lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def environment(value: Any) -> Any:
    """A list of pairs as a table; the last of a name wins, as in a port. Snakepit made text of
    names and values as Elixir does."""
    table = as_table(value)
    pairs = list(table.items()) if table is not None else value
    if not isinstance(pairs, list) or not all(_is_pair(item) for item in pairs):
        return value
    converted = {_to_string(name): _to_string(item) for name, item in pairs}
    return value if converted == value else converted


def _is_pair(item: Any) -> bool:
    return (
        isinstance(item, list | tuple) and len(item) == 2 and isinstance(_to_string(item[0]), str)
    )


def _to_string(value: Any) -> Any:
    """As Elixir's `to_string/1`: of nil, which is what a variable holds that was not set, nothing;
    of a charlist its text."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case float() if isfinite(value):
            return _float_text(value)
        case list() if all(type(char) is int and 0 < char < 0x110000 for char in value):
            return "".join(map(chr, value))
    return value


def _float_text(value: float) -> str:
    """The shorter of the two ways to write it, both with a digit behind the point; and with an
    exponent what is so large that not every integer has a float."""
    number = Decimal(repr(value))
    plain = f"{number:f}"
    mantissa, _, exponent = f"{number.normalize():e}".partition("e")
    plain, mantissa = (text if "." in text else f"{text}.0" for text in (plain, mantissa))
    scientific = f"{mantissa}e{int(exponent)}"
    return scientific if len(scientific) < len(plain) or abs(value) >= 2**53 else plain


def adapter(value: Any) -> Any:
    """A dotted path to a class as "module:Class"."""
    if isinstance(value, str) and ":" not in value and "." in value.strip("."):
        module, _, name = value.rpartition(".")
        return f"{module}:{name}"
    return value


def elixir_module(value: Any) -> str | None:
    """The name of the Elixir module that *value* is, or None for anything else."""
    if not isinstance(value, str):
        return None
    if value.startswith("Elixir."):
        return value.removeprefix("Elixir.")
    return value if re.fullmatch(r"[A-Z]\w*(\.[A-Z]\w*)*", value) else None


def split_arguments(value: Any) -> tuple[Mapping[str, Any], str]:
    """The settings in ``adapter_args``, and a remark about what is left out.

    Snakepit has the command line of its Python server there; its documents also show a keyword
    list that names the adapter. Arguments for a class, as here, are neither.
    """
    match as_table(value):
        case {"python_module": str(named)} | {"adapter_module": str(named)}:
            return {"adapter": adapter(named)}, ""
    if value == []:
        return {}, "it is empty"
    if not _is_command_line(value):
        return {"adapter_args": value}, ""
    settings: dict[str, Any] = {}
    left_out = []
    for option, argument in _words(value):
        if option == "--adapter" and argument is not None:
            settings["adapter"] = adapter(argument)
        elif option == "--max-workers" and re.fullmatch("[1-9][0-9]{0,2}", argument or ""):
            assert argument is not None
            settings["threads_per_worker"] = int(argument)
        elif option == "--thread-safety-check":
            settings["thread_safety_checks"] = True
        elif option not in _SERVER_OPTIONS:
            left_out.append(option if argument is None else f"{option} {argument}")
    if left_out:
        return settings, f"an adapter has no command line, so {' '.join(left_out)} is left out"
    return settings, ""


def _is_command_line(value: Any) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(word, str) for word in value)
        and any(word.startswith("--") for word in value)
    )


def _words(line: list[str]) -> list[tuple[str, str | None]]:
    """Options with their arguments; an argument without an option stands alone."""
    words: list[tuple[str, str | None]] = []
    for word in line:
        if word.startswith("--"):
            option, equals, argument = word.partition("=")
            words.append((option, argument if equals else None))
        elif words and words[-1][1] is None and words[-1][0].startswith("--"):
            words[-1] = (words[-1][0], word)
        else:
            words.append((word, None))
    return words


def split_heartbeat(value: Any) -> tuple[Mapping[str, Any], str]:
    """Without a heartbeat nothing asks a worker whether it is well."""
    return ({} if truth(value) else {"health_check_interval": "infinity"}), ""


def split_python_path(value: Any) -> tuple[Mapping[str, Any], str]:
    """Snakepit's is an interpreter; a list of folders is the setting of that name here."""
    return ({"python" if isinstance(value, str) else "python_path": value}, "")
