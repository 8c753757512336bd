"""Commands that ask the host for something, and tell it."""

import atexit
import os
import signal
import sys
import threading

import steps

from snakepit_port.adapter import CallCancelled, ToolError, command, host

thread_safe = True


@command
def ask(tool, *args):
    return host.call(tool, *args)


@command
def ask_in_turn(tool, numbers):
    return [host.call(tool, number) for number in numbers]


@command
def failure(tool, *args):
    """What is raised for it: the class, the text, and what else a ToolError says."""
    try:
        return host.call(tool, *args)
    except ToolError as exc:
        return type(exc).__name__, str(exc), exc.type, exc.message, exc.tool, exc.traceback
    except Exception as exc:
        return type(exc).__name__, str(exc)


@command
def ask_without_a_term(tool):
    host.call(tool, [1, object()])


@command
def ask_for_each(numbers):
    for number in numbers:
        yield host.call("double", number)


@command
def count_and_tell(pid):
    """Tells when it is closed, and that it was."""
    try:
        yield 1
        yield 2
    finally:
        host.progress(1, 1)
        host.send(pid, "closed")


@command
def tell_at_exit():
    atexit.register(host.log, "the end")


@command
def ask_again_when_cancelled():
    """Returns how often it was cancelled."""
    times = 0
    for _ in range(3):
        try:
            host.call("never")
        except CallCancelled:
            times += 1
    return times


@command
def say_what_is_raised(fifo, tool):
    print("in", flush=True)
    with open(fifo) as file:
        file.readline()
    try:
        host.call(tool)
    except BaseException as exc:
        print(type(exc).__name__, flush=True)


@command
def ask_from_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(failure("any")))
    thread.start()
    thread.join()
    return found[0]


@command
def ask_from_a_fork():
    """What a child of this process finds."""
    out, theirs = os.pipe()
    if os.fork() == 0:
        os.write(theirs, failure("any")[0].encode())
        os._exit(0)
    os.close(theirs)
    os.wait()
    with open(out) as file:
        return file.read()


def _late(*_):
    raise TimeoutError("the adapter's own")


@command
def ask_until_alarm(tool):
    """Gives up when the signal comes; then asks once more."""
    signal.signal(signal.SIGALRM, _late)
    try:
        host.call("never")
    except TimeoutError as exc:
        return str(exc), host.call(tool)


@command
def ask_deep_down(tool):
    """With hardly a frame left."""

    def down(frames):
        return host.call(tool) if frames == 0 else down(frames - 1)

    here, frame = 0, sys._getframe()
    while frame is not None:
        here, frame = here + 1, frame.f_back
    return down(sys.getrecursionlimit() - here - 20)


@command
def send(pid, *messages):
    for message in messages:
        host.send(pid, message)


@command
def send_from_threads(pid, count):
    threads = [threading.Thread(target=host.send, args=(pid, n)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@command
def send_without_end(pid, size):
    while True:
        host.send(pid, "x" * size)


@command
def tell_when_cancelled(pid):
    try:
        print("in", flush=True)
        while True:
            pass
    finally:
        host.send(pid, "cleaning up")
        host.progress(1, 1)
        host.send(pid, "cleaned up")


@command
def send_until_alarm(pid, size):
    """Sends until its own alarm ends that."""
    signal.signal(signal.SIGALRM, _late)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        while True:
            host.send(pid, "x" * size)
    except TimeoutError:
        return "late"


@command
def send_in_a_handler_too(pid, size, times):
    """Both the command and the handler of a signal that keeps coming send."""
    handled = []

    def handle(*_):
        handled.append(1)
        host.send(pid, "y" * size)

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        while len(handled) < times:
            host.send(pid, "x" * size)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _signal(number):
    return lambda: signal.raise_signal(number)


def _at_step(step, act, do):
    """What `do` returns, with `act` called at that step of it."""
    steps.call_at(step, act)
    try:
        return do()
    finally:
        steps.have_passed()


@command
def late_at_step(step, is_held, what, *args):
    """What a method of the host returns, or that it was late at that step; and then asks. What is
    held here does not matter where another thread takes the signal: then not `is_held`."""
    signal.signal(signal.SIGALRM, _late)
    act = _signal(signal.SIGALRM) if is_held else _late
    try:
        first = _at_step(step, act, lambda: getattr(host, what)(*args))
    except TimeoutError:
        first = "late"
    return first, host.call("double", 4)


@command
def interrupted_at_step(step, fifo, what, *args):
    """Waits until the call was cancelled, and takes notice only at that step."""
    print("in", flush=True)
    with open(fifo) as file:
        file.readline()
    _at_step(step, _signal(signal.SIGURG), lambda: getattr(host, what)(*args))
    return "not interrupted"


def _is_answered(frame):
    """Whether a question that waits there has its answer."""
    while frame is not None:
        question = frame.f_locals.get("question")
        if question is not None and question.is_over:
            return True
        frame = frame.f_back
    return False


@command
def ask_and_pause_at_step(step, fifo, tool, *args):
    """Waits at that step from the answer on until there is something in the named pipe, and takes a
    look then."""

    def pause():
        print("at it", flush=True)
        with open(fifo) as file:
            file.readline()
        signal.raise_signal(signal.SIGURG)

    steps.call_at(step, pause, counts=_is_answered)
    try:
        return host.call(tool, *args)
    finally:
        if not steps.have_passed():
            print("passed", flush=True)


@command
def held_signals():
    return [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]


@command
def tell_progress(*steps):
    for done, total in steps:
        host.progress(done, total)


@command
def count_to(total):
    for done in range(total + 1):
        host.progress(done, total)


@command
def log(*args, **keywords):
    host.log(*args, **keywords)


class Early:
    """Tries everything before there is a call, and between two."""

    thread_safe = True

    def __init__(self):
        host.log("making one")
        self.found = [failure("any")]
        try:
            host.progress(1, 2)
        except RuntimeError as exc:
            self.found.append(str(exc))

    @command
    def early(self):
        return self.found

    @command
    def count(self, total):
        yield from range(total)

    def health(self):
        self.found.append(failure("any"))

    def close(self):
        host.log("closing one")
