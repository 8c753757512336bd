"""Configurations in TOML files."""

from __future__ import annotations

import os
import re
import tomllib
from typing import Any

import tomlkit
from tomlkit.exceptions import ParseError, TOMLKitError

from snakepit_port.config.check import check
from snakepit_port.config.lines import lines_of
from snakepit_port.config.model import Config, ConfigError, Problem


def load_toml(path: str | os.PathLike[str]) -> Config:
    """The configuration in the file *path*; relative paths in it start from the file's folder.

    Raises ConfigError with everything that is wrong, also when the file cannot be read.
    """
    return load_toml_text(read_toml(path), os.path.dirname(os.path.abspath(path)), os.fspath(path))


def read_toml(path: str | os.PathLike[str]) -> str:
    """The text of the file *path*. Raises ConfigError if it cannot be read."""
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            # Some editors put a byte order mark first.
            return file.read().decode("utf-8-sig")
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
    except ParseError as error:
        message = str(error).removesuffix(f" at line {error.line} col {error.col}")
        raise _failure(filename, f"not valid TOML: {message}", error.line) from error
    except (TOMLKitError, ValueError, RecursionError) as error:
        raise _failure(filename, f"not valid TOML: {error}", _error_line(text)) from error
    return check(
        tree,
        os.path.abspath(base_dir),
        mistakes=[],
        file=filename,
        lines=lambda: lines_of(text),
    )


def _error_line(text: str) -> int | None:
    """Where the standard library's parser stops: tomlkit does not say it of keys set twice."""
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        match = re.search(r"at line (\d+)", str(error))
        return int(match[1]) if match else None
    return None


def _failure(file: str | None, message: str, line: int | None = None) -> ConfigError:
    return ConfigError([Problem("", message, "", file, line)])
