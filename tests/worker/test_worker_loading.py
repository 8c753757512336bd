"""What an adapter's commands are, and what is said of one that has a mistake in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written import Write, refused

from snakepit_port import wire
from snakepit_port.worker.calls import Answers
from snakepit_port.worker.loading import Adapter

# -- what is marked --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["staticmethod", "classmethod"])
@pytest.mark.parametrize("first", ["command", "other"])
def test_static_and_class_methods_are_marked_in_either_order(
    write: Write, kind: str, first: str
) -> None:
    marks = ("@command(idempotent=True)", f"@{kind}")
    above, below = marks if first == "command" else reversed(marks)
    write(
        "hello.py",
        f"class Hello:\n    {above}\n    {below}\n    def greet(*args): return args[-1]\n",
    )
    adapter = Adapter("hello:Hello", [], [], [])
    greet = adapter.find("greet")
    assert greet is not None
    assert greet("Ada") == "Ada"
    assert adapter.idempotent == ["greet"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('@command("add")\ndef plus(a, b): pass', "a name is given to @command as in"),
        ("@command\n@property\ndef plus(self): pass", "marks a function, not a property"),
        ("@command(name=5)\ndef plus(): pass", "name=...) takes a string, not 5"),
        ('@command(idempotent="yes")\ndef plus(): pass', "takes True or False, not 'yes'"),
        ("@command(zero_copy=1)\ndef plus(): pass", "takes True or False, not 1"),
        (
            "import functools\ncommand(functools.partial(len))",
            "partial has no name: write @command(",
        ),
        ("command(len)", "cannot mark a builtin_function_or_method; have a function call it"),
    ],
)
def test_what_cannot_be_marked_is_told(write: Write, text: str, said: str) -> None:
    write("hello.py", text)
    message = refused("hello")
    assert message.startswith("adapter hello failed to load: TypeError: ")
    assert said in message


@pytest.mark.parametrize("does", ["pass", "yield 1"])
def test_an_async_command_is_refused(write: Write, does: str) -> None:
    write("later.py", f"@command\nasync def later(): {does}")
    assert refused("later").startswith("command later of adapter later is async, which is not")


LAZY = """
class Lazy:
    def __getattr__(self, name): raise RuntimeError("outside of a request")
    def __call__(self): raise RuntimeError("outside of a request")
"""


def test_a_lazy_object_that_is_not_there_yet_is_no_command(write: Write) -> None:
    hello = "@command\ndef hello(): pass"
    write("lazily.py", f"{LAZY}\nrequest = Lazy()\n{hello}")
    assert list(Adapter("lazily", [], [], []).commands) == ["hello"]
    write("lazier.py", f"{LAZY}\nclass Hello:\n    request = Lazy()\n    {methods(hello)}")
    assert list(Adapter("lazier:Hello", [], [], []).commands) == ["hello"]


def test_an_object_that_has_whatever_it_is_asked_for_is_no_command(write: Write) -> None:
    proxy = "ServerProxy('http://localhost')"
    write(
        "remote.py", f"from xmlrpc.client import *\nserver = {proxy}\n@command\ndef hello(): pass"
    )
    assert list(Adapter("remote", [], [], []).commands) == ["hello"]


def test_a_lazy_object_does_not_hide_what_is_wrong(write: Write) -> None:
    write("hello.py", f"{LAZY}\nrequest = Lazy()\nclass Model: pass")
    assert refused("hello") == "adapter hello has no command: mark its functions with @command"
    assert refused("hello:Missing") == "module hello has no class Missing; it has Lazy, Model"


@pytest.mark.parametrize(
    "kind", ["partialmethod", "singledispatchmethod", "property", "cached_property"]
)
def test_a_command_that_is_wrapped_in_what_cannot_be_called_is_told(
    write: Write, kind: str
) -> None:
    text = (
        "from functools import *\n"
        "class Adder:\n    @command\n    def one(self): pass\n"
        f"    @{kind}\n    @command\n    def add(self, a): return a"
    )
    write("adder.py", text)
    assert refused("adder:Adder") == (
        f"add of adapter adder:Adder is a {kind}, which cannot be a command; have a plain method"
        " with @command call it"
    )


def test_a_partial_method_beside_its_command_is_the_adapters_own_business(write: Write) -> None:
    text = "@command\ndef add(self, a): return a\nfrom functools import partialmethod\n"
    write("adder.py", f"class Adder:\n    {methods(text + 'one = partialmethod(add, 1)')}")
    assert list(Adapter("adder:Adder", [], [], []).commands) == ["add"]


BASE = """
class Base:
    @command(name="guess", zero_copy=True, idempotent=True)
    def predict(self): return "base"
"""


@pytest.mark.parametrize(
    "text",
    [
        "class Model(Base):\n    def predict(self): return 'model'\n",
        "class Model(Base):\n    @staticmethod\n    def predict(): return 'model'\n",
        "class Model(Base):\n    @classmethod\n    def predict(cls): return 'model'\n",
        "class Model(Base):\n    def __init__(self): self.predict = lambda: 'model'\n",
        "class Middle(Base):\n    def predict(self): return 'middle'\n"
        "class Model(Middle):\n    def predict(self): return 'model'\n",
        "class Other:\n    def predict(self): return 'model'\nclass Model(Other, Base): pass\n",
    ],
    ids=["method", "static", "class", "instance", "twice", "mixin"],
)
def test_what_overrides_a_command_is_that_command_with_its_options(write: Write, text: str) -> None:
    write("models.py", BASE + text)
    adapter = Adapter("models:Model", [], [], [])
    assert list(adapter.commands) == ["guess"]
    guess = adapter.find("guess")
    assert guess is not None
    assert guess() == "model"
    assert adapter.idempotent == ["guess"]
    _, (given,), _ = Answers(adapter, "p", "p-1", 2**20).read("guess", wire.encode([b"a"]), False)
    assert type(given) is memoryview


def test_what_overrides_a_command_and_is_marked_has_its_own_options(write: Write) -> None:
    text = "class Model(Base):\n    @command\n    def predict(self): return 'model'\n"
    write("models.py", BASE + text)
    adapter = Adapter("models:Model", [], [], [])
    assert list(adapter.commands) == ["predict"]
    assert adapter.idempotent == []
    assert not adapter.takes_views("predict")


@pytest.mark.parametrize("what", ["None", "property(lambda self: 1 / 0)", "Lazy()"])
def test_what_is_no_function_takes_a_command_away(write: Write, what: str) -> None:
    text = f"class Model(Base):\n    predict = {what}\n    @command\n    def other(self): pass\n"
    write("models.py", BASE + LAZY + text)
    assert list(Adapter("models:Model", [], [], []).commands) == ["other"]


def test_a_class_that_overrides_a_command_is_listed_as_one_that_has_some(write: Write) -> None:
    write(
        "models.py",
        f"{BASE}class Model(Base):\n    def predict(self): pass\nclass _Own(Base): pass\n",
    )
    assert refused("models").endswith('write adapter = "models:Base" or "models:Model"')


def test_an_override_that_is_wrapped_in_what_cannot_be_called_is_told(write: Write) -> None:
    text = (
        "from functools import partialmethod\n"
        "class Model(Base):\n"
        "    def other(self, what): return what\n"
        "    predict = partialmethod(other, 1)\n"
    )
    write("models.py", BASE + text)
    assert "predict of adapter models:Model is a partialmethod" in refused("models:Model")


@pytest.mark.parametrize(
    ("said", "is_well"),
    [
        (False, False),
        (np.False_, False),
        (True, True),
        (np.True_, True),
        (None, True),
        (0, True),
        (np.int64(0), True),
        (np.array([0, 0]), True),
    ],
    ids=repr,
)
def test_health_says_no_with_false_also_with_that_of_numpy(
    write: Write, said: Any, is_well: bool
) -> None:
    write(
        "patient.py",
        "class Patient:\n"
        "    def __init__(self, said): self.said = said\n"
        "    @command\n"
        "    def nothing(self): pass\n"
        "    def health(self): return self.said\n",
    )
    error = Adapter("patient:Patient", [said], [], []).check_up()
    if is_well:
        assert error is None
    else:
        assert error == {"type": "exception", "message": "health returned False"}


@pytest.mark.parametrize("hook", ["health", "close"])
def test_an_async_health_or_close_is_refused(write: Write, hook: str) -> None:
    text = f"@command\ndef add(self): pass\nasync def {hook}(self): pass"
    write("later.py", f"class Later:\n    {methods(text)}")
    assert refused("later:Later") == (
        f"{hook} of adapter later:Later is async, which is not supported; make it a plain function,"
        " which may run what is async with asyncio.run(...)"
    )
    write("module.py", f"@command\ndef add(): pass\nasync def {hook}(): pass")
    assert list(Adapter("module", [], [], []).commands) == ["add"]


@pytest.mark.parametrize("kind", ["staticmethod", "classmethod"])
def test_an_async_health_is_refused_whatever_kind_of_method_it_is(write: Write, kind: str) -> None:
    text = f"@command\ndef add(self): pass\n@{kind}\nasync def health(*_): pass"
    write("later.py", f"class Later:\n    {methods(text)}")
    assert refused("later:Later").startswith("health of adapter later:Later is async")


def test_what_a_module_calls_health_and_close_is_its_own_business(write: Write) -> None:
    hooks = "def health(): raise RuntimeError\ndef close(): raise RuntimeError"
    write("module.py", f"@command\ndef add(): pass\n{hooks}")
    adapter = Adapter("module", [], [], [])
    assert adapter.check_up() is None
    adapter.close()


def test_a_health_or_close_that_is_no_method_is_none(write: Write) -> None:
    write(
        "player.py", "class Player:\n    health = close = 5\n    @command\n    def hit(self): pass"
    )
    adapter = Adapter("player:Player", [], [], [])
    assert adapter.check_up() is None
    adapter.close()


@pytest.mark.parametrize(
    ("said", "is_thread_safe"), [("True", True), ("False", False), ("'no'", None), ("None", None)]
)
def test_thread_safe_is_true_or_false_or_says_nothing(
    write: Write, said: str, is_thread_safe: bool | None
) -> None:
    write("hello.py", f"thread_safe = {said}\n@command\ndef add(): pass")
    assert Adapter("hello", [], [], []).is_thread_safe is is_thread_safe


def test_folders_of_python_path_come_first_and_none_comes_twice(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("hello.py", "@command\ndef add(): pass")
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", [*before])
    folders = [str(tmp_path / name) for name in ("first", "second")]
    for _ in range(2):
        Adapter("hello", [], folders, [])
        assert sys.path == [*folders, *before]


# -- commands of one name --------------------------------------------------------------------------

ADD_AND_PLUS = """
@command
def add(a, b): return a + b
@command(name="add")
def plus(a, b): return a - b
"""


def test_two_commands_of_one_name_are_refused(write: Write) -> None:
    write("hello.py", ADD_AND_PLUS)
    assert refused("hello") == (
        "adapter hello has two commands named add: the functions add and plus; give one of them"
        ' another name, as in @command(name="other")'
    )


def methods(text: str) -> str:
    return text.replace("(a, b)", "(self, a, b)").strip().replace("\n", "\n    ")


@pytest.mark.parametrize(
    "text",
    [
        f"class Adder:\n    {methods(ADD_AND_PLUS)}",
        # Both can be called, so this does not override.
        f"class Base:\n    {methods(ADD_AND_PLUS.partition('@command(')[0])}\n"
        'class Adder(Base):\n    @command(name="add")\n    def plus(self, a, b): pass',
        # One function, of two objects.
        "class Part:\n    @command\n    def add(self, a, b): pass\n"
        "class Adder:\n    def __init__(self): self.one, self.other = Part().add, Part().add",
    ],
)
def test_two_methods_of_one_name_are_refused(write: Write, text: str) -> None:
    write("hello.py", text)
    assert "has two commands named add: the functions" in refused("hello:Adder")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hello", "@command\ndef add(a, b): return a + b\nplus = add"),
        ("hello", '@command(name="add")\ndef plus(a, b): return a + b\nalso = plus'),
        (
            "hello:Adder",
            "class Base:\n    @command\n    def add(self, a, b): pass\n"
            "class Adder(Base):\n    @command\n    def add(self, a, b): return a + b",
        ),
        (
            "hello:Adder",
            "class Adder:\n    @command\n    def add(self, a, b): return a + b\n    x = add",
        ),
        (
            "hello:Adder",
            "class Adder:\n    def __init__(self): self.first = self.add\n"
            "    @command\n    def add(self, a, b): return a + b",
        ),
        (
            "hello:Adder",
            "class Adder:\n    @classmethod\n    @command\n    def add(cls, a, b): return a + b\n"
            "    x = add",
        ),
        (
            "hello:Adder",
            'class Adder:\n    x = y = command(name="add")(lambda self, a, b: a + b)',
        ),
        # What functools.wraps has made of a command has its mark, too.
        (
            "hello",
            "import functools\n@command\ndef add(a, b): return a + b\n"
            "@functools.wraps(add)\ndef timed(a, b): raise AssertionError",
        ),
        (
            "hello",
            "import functools\n@command\ndef add(a, b): return a + b\nplain = add\n"
            "@functools.wraps(plain)\ndef add(a, b): return plain(a, b)",
        ),
    ],
)
def test_one_function_that_is_found_twice_is_one_command(
    write: Write, name: str, text: str
) -> None:
    write("hello.py", text)
    adapter = Adapter(name, [], [], [])
    assert list(adapter.commands) == ["add"]
    assert adapter.commands["add"](1, 2) == 3


def test_wrappers_of_which_none_has_the_functions_name_are_refused(write: Write) -> None:
    text = "import functools\n@command\ndef add(a, b): pass\none = functools.lru_cache(add)\n"
    write("hello.py", f"{text}other = functools.lru_cache(add)\ndel add")
    assert "the functions one and other; give" in refused("hello")


@pytest.mark.parametrize("first", ["_add", "zero"])
def test_a_wrapper_that_has_the_mark_of_what_it_wraps_is_told_so(write: Write, first: str) -> None:
    text = f"import functools\n@command\ndef add(a, b): pass\n{first} = add\n"
    write("hello.py", f"{text}@functools.wraps(add)\ndef timed(a, b): pass\ndel add")
    functions = " and ".join(sorted((first, "timed")))
    assert refused("hello") == (
        f"adapter hello has two commands named add: the functions {functions}; one wraps the other,"
        " and has its mark from functools.wraps; give one of them another name, as in"
        ' @command(name="other")'
    )
    of_a_class = text + "@functools.wraps(add)\ndef timed(a, b): pass\ndel add"
    write("adder.py", f"class Adder:\n    {methods(of_a_class)}")
    assert f"functions {functions}; one wraps the other, and has" in refused("adder:Adder")
