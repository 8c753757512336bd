"""What is said of names that name nothing: of an adapter, a class, a direct call."""

from __future__ import annotations

import errno
import keyword
import os
import re
import sys
import time
import tokenize
import zipfile
from pathlib import Path
from typing import Any

import pytest
from written import Write, refused

from snakepit_port.worker import boot
from snakepit_port.worker.loading import Adapter, LoadError

HELLO = """
@command
def add(a, b): return a + b
class Adder:
    @command
    def add(self, a, b): return a + b
"""


@pytest.mark.parametrize(
    ("adapter", "told"),
    [
        ("hello.py", "there is no module hello.py: a module is named without .py; write hello"),
        (
            "hello.py:Adder",
            "there is no module hello.py: a module is named without .py; write hello:Adder",
        ),
        # It is not on the path either, which is told once it is written right.
        ("other.py", "there is no module other.py: a module is named without .py; write other"),
        (
            "hello.Adder",
            "there is no module hello.Adder: Adder is a class in hello; write hello:Adder",
        ),
        (
            "package.Model",
            "there is no module package.Model: Model is a class in package; write package:Model",
        ),
        ("hello.Addr", "module hello has no class Addr; did you mean hello:Adder?"),
        ("hello:Addr", "module hello has no class Addr; did you mean hello:Adder?"),
        (
            "hello.add",
            "module hello has no class add, it is a function; commands of a module need no name:"
            " write hello",
        ),
        (
            "package.helper",
            "module package has no class helper, it is a function; commands of a module need no"
            " name: write package",
        ),
        (
            "hello:add",
            "module hello has no class add, it is a function; commands of a module need no name:"
            " write hello",
        ),
        ("hello:nothing", "module hello has no class nothing; it has Adder"),
        (
            "package.many:nothing",
            "module package.many has no class nothing; it has A, B, C, D, E, ...",
        ),
        ("importing:nothing", "module importing has no class nothing"),
        (
            "package",
            "adapter package has no command of its own, but class Model has: write adapter ="
            ' "package:Model"',
        ),
        (
            "package.many",
            "adapter package.many has no command of its own, but its classes have: write adapter ="
            ' "package.many:A" or "package.many:F"',
        ),
        (
            "package:Plain",
            "adapter package:Plain has no command: mark its functions with @command",
        ),
    ],
)
def test_an_adapter_that_is_named_wrongly_is_told_what_to_write(
    write: Write, adapter: str, told: str
) -> None:
    a_command = "\n    @command\n    def add(self): pass"
    write("hello.py", HELLO)
    write("importing.py", "from pathlib import Path")
    # What an object holds is no adapter that could be named.
    plain = "class Plain:\n    def __init__(self): self.model = Model\ndef helper(): pass\n"
    write("package/__init__.py", f"{plain}class Model:{a_command}")
    plain = "".join(f"class {name}: pass\n" for name in "BCDE")
    write("package/many.py", f"class A:{a_command}\n{plain}class F:{a_command}")
    assert refused(adapter) == told


@pytest.mark.parametrize("adapter", ["importing", "no_such_adapter"])
def test_a_module_that_is_nowhere_is_told_what_to_do_if_it_is_a_package_and_if_not(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: str
) -> None:
    # As in a worker, and where setuptools has installed something to be edited.
    hook = "__editable__.ours-0.1.0.finder.__path_hook__"
    monkeypatch.setattr(sys, "path", ["", *sys.path, boot.ON_PATH, hook])
    write(f"{adapter}.py", "import no_such.module")
    message = refused(adapter)
    start = f"adapter {adapter} failed to load: ModuleNotFoundError: No module named 'no_such'. "
    assert message.startswith(
        f"{start}If it is of a package: {sys.executable} -m pip install no_such, or whatever the"
        " package is called; if it is yours: add its folder to python_path ("
    )
    assert str(tmp_path) in message
    assert "python_path (, " not in message
    assert "site-packages" not in message
    assert boot.ON_PATH not in message
    assert "__path_hook__" not in message


def test_a_path_that_has_only_the_library_is_told_to_be_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [os.path.dirname(os.__file__)])
    assert "add its folder to python_path (now empty); if it is of" in refused("no_such")


@pytest.mark.parametrize(
    ("adapter", "told"),
    [
        ("tokenize", "adapter tokenize has no command: mark its functions with @command"),
        ("tokenize:TokenError", "adapter tokenize:TokenError has no command: mark its functions"),
        ("tokenize:Model", "module tokenize has no class Model; it has TokenInfo, "),
        ("time", "adapter time has no command: mark its functions with @command"),
    ],
)
def test_an_adapter_that_is_hidden_by_a_module_of_the_library_is_told_where_that_is(
    write: Write, adapter: str, told: str
) -> None:
    for hidden in (tokenize, time):
        write(f"{hidden.__name__}.py", "@command\ndef add(a, b): pass\nclass Model: pass")
    message = refused(adapter)
    assert message.startswith(told)
    where = tokenize.__file__ if "tokenize" in adapter else "builtin"
    assert message.endswith(f" is {where}; if another one is meant, it needs another name)")


def test_a_place_that_is_no_text_is_told_as_one(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As text that can travel: else the worker ended, and nobody was told why."""
    folder = tmp_path / "\udcff" / "lib" / "python3"
    folder.mkdir(parents=True)
    (folder / "bare.py").touch()
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    assert f"{tmp_path}/\\udcff/lib/python3/bare.py" in refused("bare")


def test_a_module_of_the_library_that_has_no_class_is_told_where_it_is(write: Write) -> None:
    assert refused("keyword:Model") == (
        f"module keyword has no class Model (keyword is {keyword.__file__}; if another one is"
        " meant, it needs another name)"
    )


def test_of_many_classes_the_first_are_listed(write: Write) -> None:
    plain = [f"class {name}: pass\n" for name in "ABCDEF"]
    write("five.py", "".join(plain[:5]))
    assert refused("five:nothing") == "module five has no class nothing; it has A, B, C, D, E"
    marked = [text.replace("pass", "add = command(name='add')(lambda self: 1)") for text in plain]
    write("sixth.py", "".join(marked))
    choices = " or ".join(f'"sixth:{name}"' for name in "ABCDE")
    assert refused("sixth").endswith(f"but its classes have: write adapter = {choices}")


@pytest.mark.parametrize(
    ("adapter", "meant"),
    [
        ("imporitng", "; did you mean importing?"),
        ("pakcage.Model", "; did you mean package.Model?"),
        ("pakcage:Model", "; did you mean package:Model?"),
        ("pakcage.pakcage", "; did you mean package.pakcage?"),
        ("other", "."),
    ],
)
def test_an_adapter_that_is_nowhere_is_thought_to_be_written_wrong_or_in_another_folder(
    write: Write, tmp_path: Path, adapter: str, meant: str
) -> None:
    write("importing.py", "")
    write("package/__init__.py", "")
    message = refused(adapter)
    root = re.split("[.:]", adapter)[0]
    start = f"adapter {adapter} failed to load: ModuleNotFoundError: No module named '{root}'"
    assert message.startswith(f"{start}{meant} If it is yours: add its folder to python_path (")
    assert str(tmp_path) in message
    assert message.endswith(
        f"; if it is of a package: {sys.executable} -m pip install {root}, or whatever the package"
        " is called"
    )


@pytest.mark.parametrize("by", ["reading", "searching", "parent"])
def test_a_folder_that_may_not_be_read_is_told_for_where_a_module_may_be(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    # Root may read everything, so this is what others are told.
    stat, access, folder = os.stat, os.access, str(tmp_path)

    def keeps_out(path: Any, *args: Any, **options: Any) -> os.stat_result:
        if path == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return stat(path, *args, **options)

    if by == "parent":
        monkeypatch.setattr(os, "stat", keeps_out)
    else:
        refuses = os.R_OK if by == "reading" else os.X_OK
        monkeypatch.setattr(
            os,
            "access",
            lambda path, mode: (path != folder or not mode & refuses) and access(path, mode),
        )
    # Close to what is meant, which may be there all the same.
    write("no_sucha.py", "")
    may_be = f"; it may be in {folder}, which user {os.geteuid()} may not read. If it is yours: "
    assert f"No module named 'no_such'{may_be}" in refused("no_such")


def test_a_zip_file_is_not_taken_for_a_folder_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as file:
        file.writestr("hello.py", "")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "lib.zip")])
    assert "may not read" not in refused("no_such")


def test_a_folder_that_is_not_there_is_not_taken_for_one_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "absent")])
    assert "may not read" not in refused("no_such")


@pytest.mark.parametrize("adapter", ["package.other", "package.importing"])
def test_a_module_that_its_package_has_not_is_told_with_where_that_is(
    write: Write, tmp_path: Path, adapter: str
) -> None:
    write("package/__init__.py", "")
    write("package/importing.py", "import package.absent")
    message = refused(adapter)
    assert message.startswith(f"adapter {adapter} failed to load: ModuleNotFoundError: No module")
    assert message.endswith(f"(package is {tmp_path}/package/__init__.py)")


@pytest.mark.parametrize("missing", ["sys.other", "spread.other"])
def test_a_module_that_is_in_no_file_is_told_with_what_it_is(
    write: Write, tmp_path: Path, missing: str
) -> None:
    # A package without an __init__.py may be in several folders.
    write("spread/some.py", "")
    write("asking.py", f"import {missing}")
    where = "sys is builtin" if missing == "sys.other" else f"spread is {tmp_path}/spread"
    assert refused("asking").endswith(f" ({where})")
    assert refused("spread:Model") == "module spread has no class Model"


def test_an_adapter_of_snakepit_is_told_for_one(write: Write) -> None:
    write("old.py", "from snakepit_bridge.base_adapter import BaseAdapter")
    message = refused("old")
    assert "this is an adapter of Snakepit, and has to be adjusted; see " in message
    assert Path(message.rpartition(" ")[2]).is_file()
    assert "python_path" not in message


def test_what_is_raised_without_a_text_is_told_by_its_name(write: Write) -> None:
    write("stopping.py", "raise KeyboardInterrupt")
    assert refused("stopping") == "adapter stopping failed to load: KeyboardInterrupt"
    health = "    def health(self): raise RuntimeError"
    write("ill.py", f"class Ill:\n    @command\n    def a(self): pass\n{health}")
    error = Adapter("ill:Ill", [], [], []).check_up()
    assert error is not None
    assert error["message"] == "health raised RuntimeError"


def test_a_module_that_is_named_py_is_no_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    # There may be one.
    monkeypatch.setitem(sys.modules, "py", None)
    assert refused("py").startswith("adapter py failed to load: ModuleNotFoundError: ")


def test_a_name_that_is_no_text_is_told_as_one(write: Write) -> None:
    write("asking.py", "import importlib\nimportlib.import_module('no_such\\udcff')")
    message = refused("asking")
    assert "pip install no_such\\udcff, or" in message
    assert message.isprintable()


def test_one_that_says_itself_what_is_missing_is_left_alone(write: Write) -> None:
    write("asking.py", "raise ModuleNotFoundError('get the wheel from us')")
    assert refused("asking").endswith("ModuleNotFoundError: get the wheel from us")


@pytest.mark.parametrize(
    ("init", "args", "hinted"),
    [
        ("def __init__(self, path): pass", [], True),
        ("def __init__(self, path): pass", {"pfad": "x"}, True),
        ("x = 1", [5], True),
        # Its own code, in which something else is wrong.
        ("def __init__(self): len(5)", [], False),
        # It fits, and what a base class asks for is missing.
        ("run = abstractmethod(lambda self: 1)", [], False),
    ],
)
def test_arguments_that_do_not_fit_a_class_are_told_where_they_come_from(
    write: Write, init: str, args: object, hinted: bool
) -> None:
    write("hello.py", f"from abc import ABC, abstractmethod\nclass Hello(ABC):\n    {init}\n")
    with pytest.raises(LoadError) as caught:
        Adapter("hello:Hello", args, [], [])
    assert str(caught.value).startswith("adapter hello:Hello failed to load: TypeError: ")
    assert str(caught.value).endswith("; adapter_args are its arguments") is hinted
    assert caught.value.error["exception"] == "TypeError"


def test_a_name_that_a_module_has_not_is_not_blamed_on_the_path(write: Write) -> None:
    write("hello.py", "from os.path import joyn")
    message = refused("hello")
    assert "cannot import name 'joyn'" in message
    assert "python_path" not in message


def test_a_direct_call_that_is_named_wrongly_is_told_why(write: Write) -> None:
    write("hello.py", HELLO)
    # Neither may be called.
    write("tools.py", "def _size(): pass\nsizes = 5")
    adapter = Adapter("hello", [], [], ["math:*", "os:getpid", "tools:*"])

    def told(command: str) -> str:
        with pytest.raises(LoadError) as caught:
            adapter.find(command)
        return str(caught.value)

    assert told("math:sqrtt") == "module math has no function sqrtt; did you mean sqrt?"
    assert told("tools:size") == "module tools has no function size"
    assert told("math:qqq") == "module math has no function qqq"
    assert told("math:") == "module math has no function ''"
    assert told("math:pi") == "pi of module math is not a function"
    assert told("math:__doc__") == (
        "math:__doc__: what begins with _ is private, and not called directly"
    )


def test_a_direct_call_that_is_not_allowed_is_told_so(write: Write) -> None:
    write("hello.py", HELLO)
    adapter = Adapter("hello", [], [], ["math:*", "os:getpid"])
    for command, hint in (("os:abort", ""), ("os:getpd", "; did you mean 'os:getpid'?")):
        assert adapter.find(command) is None
        assert adapter.unknown(command) == (
            f"there is no command {command!r}, and it is not among direct_calls{hint}"
            " (commands: add; direct_calls: math:*, os:getpid)"
        )
    assert adapter.unknown("sub") == "there is no command 'sub' (commands: add)"
    # Not a command, by whoever names a function.
    write("other.py", HELLO.replace("def add", "def getpgid"))
    assert "did you mean" not in Adapter("other", [], [], []).unknown("os:getpgid")
    # Close to "math:*", which is no command.
    assert "did you mean" not in adapter.unknown("mat:e")
    assert Adapter("hello", [], [], []).unknown("os:abort").endswith("; direct_calls: none)")


def test_commands_are_listed_by_name_and_without_direct_calls_that_were_made(write: Write) -> None:
    write("hello.py", '@command(name="z")\ndef a(): pass\n@command(name="b")\ndef c(): pass')
    write("empty.py", "")
    for name, listed in (("hello", "b, z"), ("empty", "none")):
        adapter = Adapter(name, [], [], ["math:*"])
        assert adapter.find("math:sqrt") is not None
        assert adapter.unknown("what") == f"there is no command 'what' (commands: {listed})"


def test_a_module_of_direct_calls_is_no_command_itself(write: Write) -> None:
    write("hello.py", HELLO)
    assert Adapter("hello", [], [], ["math:*"]).find("math") is None


def test_a_command_that_is_called_directly_has_its_options(write: Write) -> None:
    write("hello.py", HELLO)
    marked = "@command(zero_copy=True, idempotent=True)\ndef size(data): return len(data)"
    write("tools.py", f"{marked}\ndef plain(data): return len(data)")
    adapter = Adapter("hello", [], [], ["tools:*"])
    for name, has_options in (("tools:size", True), ("tools:plain", False)):
        assert adapter.find(name) is not None
        assert adapter.is_idempotent(name) is has_options
        assert adapter.takes_views(name) is has_options
