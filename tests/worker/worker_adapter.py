"""Commands that do what commands do, and what they should not do."""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from typing import Any

import steps

from snakepit_port.adapter import CallCancelled, command
from snakepit_port.worker import stacks

#: What commands leave for a later call to see.
seen: list[str] = []

#: What is not to go with the call that made it.
kept: list[Any] = []


@command
def add(a: Any, b: Any = 1) -> Any:
    return a + b


@command
def echo(*args: Any, **keywords: Any) -> Any:
    return [list(args), keywords]


@command(name="renamed")
def another() -> str:
    return "another"


def unmarked() -> None:
    """Not a command."""


@command
def count(n: int) -> Any:
    yield from range(n)


class NotOurs(Exception):
    pass


@command
def raises(text: str) -> None:
    deeper(text)


def deeper(text: str) -> None:
    raise NotOurs(text)


@command
def type_error_inside() -> None:
    add(1, 2, 3)


@command
def raise_builtin(name: str) -> None:
    if name == "RecursionError":
        raise_builtin(name)
    raise {
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "MemoryError": MemoryError(),
        "GeneratorExit": GeneratorExit(),
        "BaseException": BaseException("base"),
    }[name]


@command
def raise_surrogate() -> None:
    raise ValueError("no such file: \udcff")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@command
def raise_unprintable() -> None:
    raise Unprintable


class Surrogates(Exception):
    __module__ = "m\udcff"
    __qualname__ = "q\udcff"


class Meta(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no module")


class Nameless(Exception, metaclass=Meta):
    pass


class Traceless(TypeError):
    @property
    def __traceback__(self) -> Any:
        raise RuntimeError("no traceback")


class Causeless(Exception):
    @property
    def __cause__(self) -> Any:
        raise SystemExit


class Classless(Exception):
    @property
    def __class__(self) -> Any:
        raise SystemExit


class Moduleless(Exception):
    __module__ = None  # type: ignore[assignment]


class Text(str):
    def encode(self, *_: Any) -> Any:
        return self

    def decode(self) -> Any:
        return object()

    def __len__(self) -> int:
        raise SystemExit


class Texted(Exception):
    def __str__(self) -> str:
        return Text("why")


BROKEN = {
    "surrogates": Surrogates,
    "metaclass": Nameless,
    "traceback": Traceless,
    "cause": Causeless,
    "class": Classless,
    "module": Moduleless,
    "text": Texted,
}


@command
def raise_broken(what: str) -> None:
    raise BROKEN[what]("why")


@command
def result_without_term() -> Any:
    return {"rows": [1, {2, 3}]}


@dataclasses.dataclass
class Troublesome:
    size: int = 0


class Broken(Troublesome):
    def __getattribute__(self, name: str) -> Any:
        if name == "size":
            raise RuntimeError("it cannot be measured")
        return super().__getattribute__(name)


@command
def result_that_raises() -> Any:
    return Broken()


@command
def blob(size: int) -> bytes:
    return bytes(size)


# -- where it runs ---------------------------------------------------------------------------------


@command
def pid() -> int:
    return os.getpid()


@command
def group() -> int:
    return os.getpgrp()


@command
def path() -> list[str]:
    return sys.path


@command
def imported(name: str) -> str:
    return str(__import__(name).__name__)


@command
def version() -> list[Any]:
    return [list(sys.version_info[:2]), sys.prefix]


@command
def descriptors() -> dict[int, str]:
    """What each descriptor of this process is."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        # The one that lists them is closed by now.
        with contextlib.suppress(FileNotFoundError):
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
    return found


@command
def parent() -> int:
    return os.getppid()


@command
def descriptors_of_a_child() -> list[str]:
    """What a child finds that was started with everything that can be inherited."""
    listed = subprocess.run(["ls", "/proc/self/fd"], close_fds=False, stdout=subprocess.PIPE)
    return listed.stdout.decode().split()


# -- output ----------------------------------------------------------------------------------------


@command
def say(out: str, err: str) -> None:
    print(out)
    print(err, file=sys.stderr)


@command
def say_from_below() -> None:
    os.write(1, b"written\n")
    subprocess.run(["echo", "echoed"], check=True)
    print("printed", file=sys.__stdout__)


@command
def say_surrogate() -> None:
    print("\udcff é")


@command
def say_partly(text: str) -> None:
    print(text, end="")


@command
def read_stdin() -> str:
    return sys.stdin.read()


# -- interrupts ------------------------------------------------------------------------------------


@command
def spin(n: int) -> int:
    total = 0
    for i in range(n):
        total += i
    return total


@command
def busy() -> None:
    """Computes for ever, and says when it has begun."""
    try:
        print("in")
        while True:
            pass
    finally:
        seen.append("busy cleaned up")


@command
def wait_for_pipe() -> None:
    reader, writer = os.pipe()
    try:
        print("in")
        os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)
        seen.append("pipe cleaned up")


@command
def wait_for_event() -> None:
    try:
        print("in")
        threading.Event().wait()
    finally:
        seen.append("event cleaned up")


@command
def wait_for_child() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        try:
            print("in")
            child.wait()
        finally:
            child.kill()
            seen.append("child cleaned up")


@command
def wait_for(fifo: str) -> str:
    """Waits until somebody writes a line to the named pipe; it is the result."""
    with open(fifo, "rb", buffering=0) as file:
        # Only then, with nothing but the call itself between: of a signal that comes just before a
        # wait in C it does not learn.
        print("in")
        return file.read(100).decode().strip()


@command
def wait_without_limit(fifo: str) -> str:
    """As `wait_for`, with as many frames as Python lets anybody have."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(2**31 - 1)
    try:
        return wait_for(fifo)
    finally:
        sys.setrecursionlimit(before)


@command
def wait_deep_down(fifo: str, left: int) -> str:
    """As `wait_for`, with so few frames left of those that there may be."""
    depth = 0
    frame: Any = sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    with open(fifo, "rb", buffering=0) as file:

        def down(frames: int) -> bytes:
            if frames:
                return down(frames - 1)
            os.write(1, b"in\n")
            return file.read(100)

        return down(sys.getrecursionlimit() - depth - left).decode().strip()


@command
def wait_perhaps(fifo: str = "") -> str:
    """Quick, unless there is a named pipe to wait at."""
    if not fifo:
        return "quick"
    with open(fifo) as file:
        return file.readline().strip()


@command
def swallow(fifo: str) -> str:
    """Goes on after it was cancelled."""
    try:
        print("in")
        while True:
            pass
    except CallCancelled:
        print("cancelled")
        with open(fifo) as file:
            return file.readline().strip()


class Slow(Exception):
    """Its text takes until somebody writes to the named pipe."""

    text = ""

    def __str__(self) -> str:
        if not self.text:
            print("in")
            with open(self.args[0]) as file:
                self.text = file.readline().strip()
        return self.text


@command
def raise_slow(fifo: str) -> None:
    raise Slow(fifo)


@command
def remember(what: str) -> None:
    seen.append(what)


@command
def remembered() -> list[str]:
    return seen


def ring(*_: Any) -> None:
    raise TimeoutError("too slow")


@command
def alarm(seconds: float, late: bool) -> None:
    """A time limit of the adapter's own, as people write it; `late` forgets to lift it."""
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    if not late:
        signal.pause()


@command
def signal_at_step(number: int, step: int, fifo: str | None = None) -> None:
    """Has a signal come at that step from its end on."""
    if fifo is not None:
        wait_for(fifo)
    steps.call_at(step, lambda: signal.raise_signal(number))


@command
def lift() -> bool:
    """Whether the signal has not come."""
    return not steps.have_passed()


@command
def raise_in_handlers() -> None:
    """Once a handler of the worker's own runs, an alarm rings in it."""

    def look(number: int, frame: Any) -> None:
        sys.settrace(ring_inside)
        try:
            ours(number, frame)
        finally:
            sys.settrace(None)

    def ring_inside(frame: Any, event: str, _argument: Any) -> Any:
        if event == "call" and frame.f_code.co_name == "feed":
            ring()

    ours: Any = signal.signal(signal.SIGURG, look)


# -- endings ---------------------------------------------------------------------------------------


@command
def kill_myself(number: int) -> None:
    os.kill(os.getpid(), number)


@command
def leave(status: int) -> None:
    os._exit(status)


@command
def at_exit(text: str) -> None:
    atexit.register(print, text)


@command
def close_descriptors() -> None:
    os.closerange(3, 256)


@command
def leave_shared_memory() -> str:
    """The name of some that nobody removes but Python's own tracker."""
    from multiprocessing.shared_memory import SharedMemory

    memory = SharedMemory(create=True, size=1000)
    memory.close()
    return memory.name


@command
def have_child(new_session: bool) -> int:
    """A process that lives on, and that holds nothing of ours."""
    return subprocess.Popen(
        ["cat", "/dev/zero"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=new_session,
    ).pid


@command
def have_daemon(inherits: bool = True) -> int:
    """A process in a session of its own whose parent is gone, with this one's environment or one of
    its own."""
    # It says who it is from that session, and closes its output then, which is waited for: before
    # that it would go with the worker's group.
    shell = "setsid sh -c 'echo $$; exec cat /dev/zero >/dev/null 2>&1' &"
    env = None if inherits else {"PATH": os.defpath}
    return int(subprocess.run(["sh", "-c", shell], check=True, capture_output=True, env=env).stdout)


@command
def have_children_and_go(n: int) -> None:
    """Says who they are, and is killed before they have begun."""
    for _ in range(n):
        print(have_child(True))
    kill_myself(signal.SIGKILL)


@command
def have_descendants(n: int) -> list[int]:
    """A chain of processes, each the child of the one before and in a session of its own."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        for _ in range(n):
            os.setsid()
            os.write(writer, os.getpid().to_bytes(4, "big"))
            if os.fork() > 0:
                break
        else:
            os._exit(0)
        while True:
            signal.pause()
    return [int.from_bytes(os.read(reader, 4), "big") for _ in range(n)]


@command
def timeout_of_channel() -> float | None:
    frame = sys._getframe()
    while "channel" not in frame.f_locals:
        assert frame.f_back is not None
        frame = frame.f_back
    timeout: float | None = frame.f_locals["channel"].gettimeout()
    return timeout


@command
def end_of_child(how: str) -> int:
    """Forks, and returns the exit status of the child, which returns from here or raises."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if how == "returns":
        atexit.register(print, "at exit", file=sys.stderr)
        return 0
    if how == "cannot say":
        sys.stderr.close()
    if how in ("fails", "cannot say"):
        raise ValueError("odd")
    sys.exit(3 if how == "exits" else "no more")


@command
def signals_in_child() -> int:
    """Forks, and returns the exit status of the child. That gets signals: those that ask a worker
    for its stacks, and one of its own."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.signal(signal.SIGALRM, lambda *_: None)
    for number in (stacks.SIGNAL, stacks.FROM_C, signal.SIGALRM):
        signal.raise_signal(number)
    os._exit(0)


@command
def call_in_child(method: str, a: int, b: int) -> int:
    """Runs a command in a process of `multiprocessing`."""
    with multiprocessing.get_context(method).Pool(1) as pool:
        return int(pool.apply(add, (a, b)))


@command
def call_in_executor(a: int, b: int) -> int:
    """Runs a command in an executor's process, and has it wait for more."""
    executor = concurrent.futures.ProcessPoolExecutor(1)
    kept.append(executor)
    return int(executor.submit(add, a, b).result())


@command
def call_by_path(a: int, b: int) -> int:
    """Runs a command as joblib does: in a new interpreter, which gets nothing but the path."""
    lines = (
        "import pickle, sys",
        "sys.path = pickle.load(sys.stdin.buffer)",
        "function, *args = pickle.load(sys.stdin.buffer)",
        "sys.exit(function(*args))",
    )
    # Not where the tests have the package from.
    path = [folder for folder in sys.path if not os.path.isdir(f"{folder}/snakepit_port")]
    given = pickle.dumps(path) + pickle.dumps((add, a, b))
    return subprocess.run([sys.executable, "-IS", "-c", "\n".join(lines)], input=given).returncode


@command
def leave_group() -> None:
    os.setpgid(0, os.getpgid(os.getppid()))


# -- a class ---------------------------------------------------------------------------------------


class Model:
    def __init__(self, size: int = 1, name: str = "model") -> None:
        self.size = size
        self.name = name

    @command
    def describe(self) -> list[Any]:
        return [self.size, self.name]

    @staticmethod
    @command
    def double(n: int) -> int:
        return 2 * n

    @classmethod
    @command
    def whose(cls) -> str:
        return cls.__name__

    @property
    def trouble(self) -> Any:
        raise AssertionError("looked at")

    def close(self) -> None:
        print(f"{self.name} closed")


class Fails(Model):
    def __init__(self) -> None:
        raise NotOurs("no model")


class FailsAtLength(Model):
    def __init__(self, size: int) -> None:
        raise NotOurs("x" * size)


class IllAtLength(Model):
    def health(self) -> None:
        raise NotOurs("x" * 3_000_000)


class SlowToExamine(Model):
    def __init__(self, fifo: str) -> None:
        super().__init__()
        self._fifo = fifo

    def health(self) -> None:
        wait_for(self._fifo)


class BadClose(Model):
    def close(self) -> None:
        raise NotOurs("cannot close")
