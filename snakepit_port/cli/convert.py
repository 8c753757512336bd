"""`snakepit-port convert`: configurations of Snakepit v0.5 and v0.6 as configurations of ours."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from snakepit_port.cli.printing import note, print_json, refuse, refuse_config, warn
from snakepit_port.cli.statuses import FAILED

ABOUT = "write a configuration of Snakepit v0.5 or v0.6 as one of snakepit-port"
EXAMPLES = """\
OLD is TOML with Snakepit's keys, at the top or in [snakepit], or a file that holds them as one
external term. `mix snakepit_port.convert config/config.exs` reads Elixir's files.

examples:
  snakepit-port convert old.toml                  print it, a comment on every key that changed
  snakepit-port convert old.toml -o pools.toml    write it; a file that is there needs --force
  snakepit-port convert --report old.toml         what became of each key
  snakepit-port convert --report --json old.toml

With --json errors are JSON on stdout, too: {"ok": false, "problems": [...]} for a configuration,
{"ok": false, "error": {"message": ...}} for others; but for wrong usage of the command, which is
text on stderr.

The exit status is 0, also where there is nothing to convert, 78 if OLD is wrong, 64 for wrong usage
and 1 if NEW cannot be written, or is in another folder and there is nothing to convert: relative
paths would start there.
"""

_OURS = "is a configuration of snakepit-port already"

_TERM = b"\x83"
"""The first byte of an external term; no TOML file begins with it, because it is not UTF-8."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the command takes."""
    parser.add_argument("file", metavar="OLD", help="the configuration of Snakepit")
    parser.add_argument("-o", "--output", metavar="NEW", help="write TOML to this file")
    parser.add_argument("--force", action="store_true", help="write over a NEW that is there")
    parser.add_argument("--report", action="store_true", help="print what became of each key")
    parser.add_argument("--json", action="store_true", help="print JSON, errors too")


def run(args: argparse.Namespace) -> int:
    """Prints or writes the converted configuration. Returns the exit status."""
    from snakepit_port.config import ConfigError

    try:
        folder = _folder_of(args.output) if args.output else None
        text, changes = _converted(args.file, folder)
    except ConfigError as exc:
        return refuse_config(exc.as_term(), args.json)
    except FileNotFoundError:
        # That a file is not there, its loading says; only relative paths need this folder.
        refuse("the working directory is gone, and relative paths start there", args.json)
        return FAILED
    if not changes and folder not in (None, _folder_of(args.file)):
        where = "its relative paths start from its own folder"
        refuse(f"{args.file} {_OURS}, and {where}", args.json)
        return FAILED
    if args.output:
        try:
            _write(Path(args.output), text, args.force)
        except FileExistsError:
            refuse(f"{args.output} is there already; --force writes over it", args.json)
            return FAILED
        except OSError as exc:
            refuse(f"{args.output} cannot be written: {exc.strerror}", args.json)
            return FAILED
        note(f"wrote {args.output}")
    if not args.json:
        for change in changes:
            if change.warns:
                warn(str(change))
    terms = [change.as_term() for change in changes]
    if args.json:
        print_json(terms if args.report else {"ok": True, "toml": text, "changes": terms})
    elif args.report:
        print(*changes, sep="\n", end="\n" if changes else "")
    elif not args.output:
        print(text, end="")
    if not changes and not args.json:
        note(f"this {_OURS}; there is nothing to convert")
    return 0


def _folder_of(file: str) -> Path:
    """Where relative paths in a file start from: the folder of its name, link or not."""
    return Path(os.path.abspath(file)).parent


def _converted(file: str, folder: Path | None) -> tuple[str, Any]:
    from snakepit_port.config.convert import convert_terms, convert_toml
    from snakepit_port.wire import DecodeError, decode

    try:
        # Once: it may be a pipe.
        data = Path(file).read_bytes()
    except (OSError, ValueError):
        data = None  # the loading of the file says why
    if data is None or not data.startswith(_TERM):
        return convert_toml(file, folder, data)
    try:
        term = decode(data)
    except DecodeError as exc:
        from snakepit_port.config import ConfigError, Problem

        problem = Problem("", f"not a term: {exc}", "", file)
        raise ConfigError([problem]) from None
    return convert_terms(term, os.getcwd(), folder)


def _write(path: Path, text: str, force: bool) -> None:
    """All or nothing: a reader never sees half of it. Raises `FileExistsError` unless *force*, and
    another `OSError` where something else than a file would be replaced."""
    if os.path.lexists(path):
        if not force:
            raise FileExistsError
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "it is there, and not a file")
    # What a link points to is written, and the link stays.
    path = Path(os.path.realpath(path))
    # Of a name that nobody else can have taken, and not to be read before it has its mode.
    fd, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    scratch = Path(name)
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
        if path.exists():
            shutil.copymode(path, scratch)
        else:
            scratch.chmod(0o666 & ~_umask())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _umask() -> int:
    """It can only be read by setting it; there is one thread here."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
