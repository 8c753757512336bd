"""What all commands print alike: JSON, tables, complaints, and colours on terminals only."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from snakepit_port.cli.statuses import BAD_CONFIG
from snakepit_port.printable import shown

RED, GREEN, YELLOW, DIM = "31", "32", "33", "2"

#: Control characters that JSON allows as they are, and a terminal may do something at.
_LEFT_BY_JSON = re.compile("[\x7f-\x9f]")


def print_json(value: Any) -> None:
    """Prints *value* as JSON: indented for a terminal, on one line for a program."""
    print(_json(value, 2 if sys.stdout.isatty() else None))


def print_json_line(value: Any) -> None:
    """Prints *value* as JSON on a line of its own, at once: somebody may wait for it."""
    print(_json(value), flush=True)


def _json(value: Any, indent: int | None = None) -> str:
    # Where stdout has no place for all characters, JSON's own escapes stand for them.
    has_all = codecs.lookup(sys.stdout.encoding).name == "utf-8"
    text = json.dumps(value, ensure_ascii=not has_all, indent=indent)
    return _LEFT_BY_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_problems(
    problems: Sequence[Mapping[str, Any]], say: Callable[[str], None] | None = None
) -> None:
    """Complains of each of *problems*, as ``ConfigError.as_term`` has them, with its hint; or says
    it in another way."""
    from snakepit_port.config.report import problem_line

    say = say or complain
    for problem in problems:
        say(problem_line(problem))
        if problem.get("hint"):
            tell(f"  {shown(problem['hint'])}")


def refuse_config(problems: Sequence[Mapping[str, Any]], as_json: bool) -> int:
    """Says what is wrong with a configuration. Returns the exit status for that."""
    if as_json:
        print_json({"ok": False, "problems": problems})
    else:
        print_problems(problems)
    return BAD_CONFIG


def refuse(text: str, as_json: bool) -> None:
    """Says why something else cannot be done."""
    if as_json:
        print_json({"ok": False, "error": {"message": text}})
    else:
        complain(text)


def refuse_unless_processes_show(as_json: bool) -> bool:
    """Says that processes cannot be seen here, if it is so. Returns whether it is."""
    from snakepit_port.processes import shows_own_processes

    if shows_own_processes():
        return False
    refuse(
        "there is no /proc that shows the processes here, and nothing else tells of runs", as_json
    )
    return True


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints *rows*, at least one, in columns under the keys of the first."""
    lines = [list(rows[0]), *([shown(str(value)) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def tell(*words: str, end: str = "\n") -> None:
    """Says it on stderr. Where that cannot be written to, nobody can be told, and all else goes on:
    there is a result yet, or a status."""
    try:
        print(*words, file=sys.stderr, end=end)
    except OSError:
        # Nor is what it holds tried again when Python ends.
        sys.stderr = io.StringIO()


def complain(text: str) -> None:
    """Says on stderr what is wrong."""
    tell(paint(sys.stderr, RED, "error:"), shown(text, keep="\n\t"))


def warn(text: str) -> None:
    """Says on stderr what is hardly meant."""
    tell(paint(sys.stderr, YELLOW, "warning:"), shown(text, keep="\n\t"))


def note(text: str) -> None:
    """Says on stderr what is worth knowing and is not wrong."""
    tell(paint(sys.stderr, DIM, "note:"), text)


def is_screen(stream: TextIO) -> bool:
    """Whether this is a terminal that knows escape sequences."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def paint(stream: TextIO, code: str, text: str) -> str:
    """Text in a colour where it goes to a terminal, unless NO_COLOR (no-color.org) forbids it."""
    if is_screen(stream) and not os.environ.get("NO_COLOR"):
        return f"\033[{code}m{text}\033[0m"
    return text
