"""Configurations in TOML files."""

from __future__ import annotations

import os
import re
import tomllib
from typing import Any

import tomlkit
from tomlkit.exceptions import InvalidControlChar, ParseError, TOMLKitError

from snakepit_port.config.check import check
from snakepit_port.config.lines import lines_of
from snakepit_port.config.model import Config, ConfigError, Problem
from snakepit_port.config.report import encodable

#: How Elixir's configuration files begin.
_ELIXIR = re.compile(r"^\s*(import Config|use Mix\.Config)\b", re.MULTILINE)

_STRING_CUT = (
    "the string does not end on its line; close it with the quote that it began with, or begin and"
    " end it with three of them"
)

#: In place of what the standard library says.
_WORDS = {
    "Illegal character '\\n'": _STRING_CUT,
    "Invalid value": "no value looks like this; text has to stand in quotes",
}

#: Characters that are shown of a long line, and how many of them before the mark.
_SHOWN, _SHOWN_BEFORE = 100, 60


def load_toml(path: str | os.PathLike[str]) -> Config:
    """The configuration in the file *path*; relative paths in it start from the file's folder.

    Raises ConfigError with everything that is wrong, also when the file cannot be read.
    """
    # First: where the working directory is gone, there is no such file, nor an absolute path of it.
    text = read_toml(path)
    folder = os.path.dirname(os.path.abspath(path))
    return load_toml_text(text, folder, encodable(os.fspath(path)))


def read_toml(path: str | os.PathLike[str], data: bytes | None = None) -> str:
    """The text of the file *path*, or of what was read from it, for some can be read only once.
    Raises ConfigError if it cannot be read."""
    name = encodable(os.fspath(path))
    try:
        if data is None:
            with open(path, "rb") as file:
                data = file.read()
        # Some editors put a byte order mark first.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _failure(name, "the file is not UTF-8 text", line) from error
    except FileNotFoundError:
        raise _failure(name, "there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        reason = error.strerror if isinstance(error, OSError) else error
        raise _failure(name, f"the file cannot be read: {reason}") from error


def load_toml_text(
    text: str, base_dir: str | os.PathLike[str], filename: str | None = None
) -> Config:
    """The configuration in *text*; *filename* is what messages call it.

    Raises ConfigError with everything that is wrong.
    """
    try:
        tree: dict[str, Any] = tomlkit.parse(text).unwrap()
    except (TOMLKitError, ValueError, RecursionError) as error:
        raise ConfigError([_problem(text, error, filename)]) from error
    return check(
        tree,
        base_dir,
        mistakes=[],
        file=filename,
        lines=lambda: lines_of(text),
    )


def _problem(text: str, error: Exception, filename: str | None) -> Problem:
    """What is wrong with a text that is not TOML, and where."""
    if _ELIXIR.search(text):
        convert = f"mix snakepit_port.convert {filename or 'FILE'} -o pools.toml"
        return Problem("", "this is Elixir, not TOML", f"`{convert}` makes TOML of it", filename)
    plain = text.replace("\r\n", "\n")
    message, line, column = _said_by_tomllib(plain) or (str(error), None, 1)
    if found := re.match(r"Key .* already exists", str(error)):
        message, column = found[0], 1
    elif line is None and isinstance(error, InvalidControlChar):
        # A string in single quotes, which the other parser looks for the end of to the end.
        message = _STRING_CUT
        line, column = _place_by_tomlkit(plain)
    lines = plain.split("\n")
    if line is None or line > len(lines):
        return Problem("", f"not valid TOML: {message}", "", filename)
    shown = _shown(lines[line - 1], column)
    return Problem("", f"not valid TOML at column {column}: {message}\n{shown}", "", filename, line)


def _said_by_tomllib(text: str) -> tuple[str, int | None, int] | None:
    """What the standard library's parser says: in better words than tomlkit's, mostly."""
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        match = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", str(error), re.DOTALL)
        if match is not None:
            return _WORDS.get(match[1], match[1]), int(match[2]), int(match[3])
        if match := re.fullmatch(r"(.*) \(at end of document\)", str(error), re.DOTALL):
            return f"{match[1]} at the end of the file", None, 1
    return None


def _place_by_tomlkit(text: str) -> tuple[int | None, int]:
    try:
        tomlkit.parse(text)
    except ParseError as error:
        return error.line, error.col + 1
    return None, 1


def _shown(line: str, column: int) -> str:
    """What stands in a line, and below it a mark where the column is."""
    start = max(0, column - 1 - _SHOWN_BEFORE)
    part = "".join(
        char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}"
        for char in line[start : start + _SHOWN]
    )
    before = re.sub(r"[^\t]", " ", part[: column - 1 - start])
    return f"  {part}\n  {before}^"


def _failure(file: str | None, message: str, line: int | None = None) -> ConfigError:
    return ConfigError([Problem("", message, "", file, line)])
