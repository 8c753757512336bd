"""What workers print, and how many calls they have started."""

from __future__ import annotations

import errno
import math
import mmap
import os
import select
from collections.abc import Iterator

import pytest

from snakepit_port.config.settings import POOL
from snakepit_port.processes import private_bytes
from snakepit_port.supervisor.ledger import SLOTS, Ledger
from snakepit_port.supervisor.output import MAX_LINE_BYTES, TAIL_LINES, Output
from snakepit_port.supervisor.pump import Pump
from snakepit_port.supervisor.worker_process import last_words_of


class Printer:
    """A worker's end of a pipe, and the lines that came out of the other."""

    def __init__(self) -> None:
        self.pump = Pump()
        self._read_fd, self.fd = os.pipe()
        self.lines: list[str] = []
        self.levels: list[str] = []
        self.output = Output(self.pump, self._read_fd, "info", self._said)

    def _said(self, level: str, line: str) -> None:
        self.levels.append(level)
        self.lines.append(line)

    async def print(self, data: bytes) -> None:
        """Have it read, in as many turns as that takes."""
        os.write(self.fd, data)
        while select.select([self._read_fd], [], [], 0)[0]:
            await self.pump.turn(math.inf)

    async def end(self) -> None:
        os.close(self.fd)
        self.fd = -1
        await self.pump.turn(math.inf)


@pytest.fixture
def printer() -> Iterator[Printer]:
    printer = Printer()
    yield printer
    if printer.fd >= 0:
        os.close(printer.fd)
    printer.output.close()
    printer.pump.close()


async def test_lines_come_as_they_end(printer: Printer) -> None:
    await printer.print(b"one\ntwo\r\nthr")
    assert printer.lines == ["one", "two"]
    await printer.print(b"ee\n\n")
    assert printer.lines == ["one", "two", "three", ""]


async def test_a_line_may_say_its_level(printer: Printer) -> None:
    texts = [*(f"<{digit}>text {digit}" for digit in range(8)), "<8>", "<x>y", "<", "<3", "a <3>"]
    await printer.print("\n".join([*texts, ""]).encode())
    assert printer.lines == [*(f"text {digit}" for digit in range(8)), *texts[8:]]
    named = ["error"] * 4 + ["warning", "info", "info", "debug"]
    assert printer.levels == named + ["info"] * 5
    # The last words of a worker have none. What informs of other calls is not among them.
    assert list(printer.output.tail) == [*(f"text {digit}" for digit in range(5)), *texts[8:]]


async def test_a_last_line_needs_no_end(printer: Printer) -> None:
    await printer.print(b"last words")
    assert printer.lines == []
    await printer.end()
    assert printer.lines == ["last words"]


async def test_what_is_not_utf8_is_marked(printer: Printer) -> None:
    await printer.print(b"caf\xe9 \xc5\xa1\n")
    assert printer.lines == ["caf� š"]


async def test_a_long_line_is_cut_once(printer: Printer) -> None:
    size = MAX_LINE_BYTES
    for data in (b"x" * size, b"y" * size, b"z\nnext\n"):
        await printer.print(data)
    assert printer.lines == ["x" * size + "…", "next"]


async def test_a_long_line_that_comes_at_once_is_cut_too(printer: Printer) -> None:
    await printer.print(b"x" * (MAX_LINE_BYTES + 1) + b"\n" + b"y" * MAX_LINE_BYTES + b"\n")
    assert printer.lines == ["x" * MAX_LINE_BYTES + "…", "y" * MAX_LINE_BYTES]


async def test_a_long_line_that_says_its_level_is_cut_as_any(printer: Printer) -> None:
    line = "y" * MAX_LINE_BYTES
    for data in (f"<3>{line}", "more\n", f"<3>{line}", "\r\n", f"{line}", "\r\n"):
        await printer.print(data.encode())
    assert printer.lines == [f"{line}…", line, line]


async def test_a_cut_goes_through_no_character(printer: Printer) -> None:
    for start in ("", "x", "xx"):
        await printer.print(f"{start}{'€' * MAX_LINE_BYTES}\n".encode())
    fit = [(MAX_LINE_BYTES - n) // 3 for n in range(3)]
    assert printer.lines == [f"{'x' * n}{'€' * fit[n]}…" for n in range(3)]
    # One that is incomplete where the line ends was so when it was printed.
    await printer.print("€\n".encode()[1:])
    assert printer.lines[3:] == ["\ufffd\ufffd"]


async def test_short_lines_do_not_hold_up_what_else_there_is(printer: Printer) -> None:
    os.write(printer.fd, b"\n" * 20_000)
    await printer.pump.turn(math.inf)
    assert 0 < len(printer.lines) <= 4096
    printer.output.close()
    assert printer.lines == [""] * 20_000


async def test_the_last_lines_are_kept(printer: Printer) -> None:
    await printer.print(b"".join(b"%d\n" % n for n in range(TAIL_LINES + 5)))
    assert list(printer.output.tail) == [str(n) for n in range(5, TAIL_LINES + 5)]


async def test_what_python_dies_of_comes_before_the_stacks_of_its_threads(printer: Printer) -> None:
    fatal = "Fatal Python error: Segmentation fault"
    await printer.print(fatal.encode() + b"\n  File 1\n")
    assert last_words_of(printer.output) == f"{fatal}\n  File 1"
    await printer.print(b"  File 2\n" * TAIL_LINES)
    assert last_words_of(printer.output) == "\n".join([fatal, "…", *["  File 2"] * TAIL_LINES])


async def test_a_paused_output_waits(printer: Printer) -> None:
    printer.output.pause(True)
    os.write(printer.fd, b"one\n")
    await printer.pump.turn(-math.inf)
    assert printer.lines == []
    printer.output.pause(False)
    await printer.pump.turn(math.inf)
    assert printer.lines == ["one"]


def test_closing_takes_what_is_there_though_another_process_has_the_pipe(printer: Printer) -> None:
    os.write(printer.fd, b"one\ntwo")
    printer.output.close()
    assert printer.lines == ["one", "two"]


# -- ledger ----------------------------------------------------------------------------------------


def test_slots_are_counted_apart_and_used_again() -> None:
    ledger = Ledger()
    try:
        first, second = ledger.take(), ledger.take()
        assert first != second
        os.pwrite(ledger.fd, (7).to_bytes(8, "little"), first * 8)
        assert (ledger.started(first), ledger.started(second)) == (7, 0)
        ledger.give_back(first)
        assert ledger.take() == first
        assert ledger.started(first) == 0
        assert ledger.take() not in (first, second)
        assert os.fstat(ledger.fd).st_size == SLOTS * 8
        assert not os.get_inheritable(ledger.fd)
    finally:
        ledger.close()


def test_a_ledger_that_is_closed_holds_no_descriptor() -> None:
    held = os.listdir("/proc/self/fd")
    ledger = Ledger()
    ledger.close()
    assert os.listdir("/proc/self/fd") == held


def test_there_are_slots_for_all_workers_and_those_that_do_not_go() -> None:
    most = [POOL.settings[name].kind.schema()["maximum"] for name in ("pool_size", "max_surge")]
    assert 3 * sum(most) < SLOTS


def test_a_ledger_that_cannot_be_mapped_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_descriptor(*_: int) -> mmap.mmap:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(mmap, "mmap", no_descriptor)
    with pytest.raises(OSError, match="Too many open files"):
        Ledger()
    assert os.listdir("/proc/self/fd") == before


# -- memory ----------------------------------------------------------------------------------------


def test_private_memory_grows_with_what_is_written() -> None:
    size = 32 * 2**20
    # Fresh pages: memory that Python has freed may still be this process's.
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        before = private_bytes(os.getpid())
        assert before is not None
        pages.write(b"x" * size)
        after = private_bytes(os.getpid())
        assert after is not None
        assert after - before >= size - 2**20


def test_a_process_that_is_not_there_has_none() -> None:
    assert private_bytes(0) is None
