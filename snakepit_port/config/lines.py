"""Finding the lines on which the values of a TOML text are set.

The parser keeps no positions, so the text is walked once more. The walk expects text that the
parser has accepted and looks only at what decides where keys and values begin: headers, keys,
strings, brackets and comments.
"""

from __future__ import annotations

import re
from bisect import bisect_left

import tomlkit

from snakepit_port.config.report import Path

_BLANK = re.compile(r"[ \t]*")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]*")


def lines_of(text: str) -> dict[Path, int]:
    """The line, from 1, on which each path of *text* first appears. *text* is valid TOML."""
    return _Walk(text).lines


class _Walk:
    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._text = text
        self._position = 0
        self._line_ends = [match.start() for match in re.finditer("\n", text)]
        # How many tables each array of tables has so far.
        self._counts: dict[Path, int] = {}
        table: Path = ()
        self._skip(_SPACE)
        while self._position < len(text):
            if self._peek("[["):
                table = self._header("[[", "]]", is_array=True)
            elif self._peek("["):
                table = self._header("[", "]", is_array=False)
            else:
                self._pair(table)
            self._skip(_SPACE)

    def _peek(self, token: str) -> bool:
        return self._text.startswith(token, self._position)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._position)
        assert match is not None, "the text is not valid TOML"
        self._position = match.end()
        return match[0]

    def _mark(self, path: Path) -> None:
        self.lines.setdefault(path, bisect_left(self._line_ends, self._position) + 1)

    def _header(self, opening: str, closing: str, is_array: bool) -> Path:
        start = self._position
        self._position += len(opening)
        keys = self._keys()
        end = self._position + len(closing)
        self._position = start
        path: Path = ()
        for number, key in enumerate(keys, start=1):
            path = (*path, key)
            if is_array and number == len(keys):
                self._counts[path] = self._counts.get(path, 0) + 1
            self._mark(path)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
                self._mark(path)
        self._position = end
        return path

    def _keys(self) -> list[str]:
        """The parts of a dotted key, which the position is then past."""
        keys = []
        while True:
            self._skip(_BLANK)
            if self._text[self._position] in "\"'":
                keys.append(_unquoted(self._skip(_STRING)))
            else:
                keys.append(self._skip(_BARE_KEY))
            self._skip(_BLANK)
            if not self._peek("."):
                return keys
            self._position += 1

    def _pair(self, table: Path) -> None:
        start = self._position
        keys = self._keys()
        after, self._position = self._position, start
        for length in range(1, len(keys) + 1):
            self._mark((*table, *keys[:length]))
        self._position = after + 1  # the equals sign
        self._skip(_BLANK)
        self._value((*table, *keys))

    def _value(self, path: Path) -> None:
        if self._peek("["):
            self._position += 1
            index = 0
            while not self._closed("]"):
                self._mark((*path, index))
                self._value((*path, index))
                index += 1
        elif self._peek("{"):
            self._position += 1
            while not self._closed("}"):
                self._pair(path)
        elif self._text[self._position] in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _closed(self, bracket: str) -> bool:
        """Skip to the next item, or past *bracket* if there is none."""
        self._skip(_SPACE)
        if self._peek(","):
            self._position += 1
            self._skip(_SPACE)
        if self._peek(bracket):
            self._position += 1
            return True
        return False


def _unquoted(key: str) -> str:
    return next(iter(tomlkit.parse(f"{key} = 0")))
