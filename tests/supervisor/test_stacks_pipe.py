"""One end of the pipe that a worker writes its stacks to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from snakepit_port.supervisor.pump import READ
from snakepit_port.supervisor.stacks import ENDED, SILENT, Stacks
from snakepit_port.worker.stacks import FROM_C, SIGNAL

END = bytes([FROM_C])


class Scene:
    def __init__(self) -> None:
        read, self._write = os.pipe()
        pump: Any = self
        #: What is waited for at the pipe, and who is called then.
        self.watched: tuple[Any, ...] = ()
        self.stacks = Stacks(pump, read)
        self.told: list[str] = []

    def watch(self, *watched: Any) -> None:
        self.watched = watched

    def ask(self) -> bool:
        return self.stacks.ask(self.told.append)

    def says(self, data: bytes) -> None:
        os.write(self._write, data)
        self.is_ready()

    def is_ready(self) -> None:
        _, events, ready = self.watched
        assert events == READ
        ready(READ)

    def hang_up(self) -> None:
        os.close(self._write)
        self._write = -1

    def close(self) -> None:
        self.stacks.close()
        if self._write >= 0:
            self.hang_up()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.close()


def test_all_who_ask_are_told_what_comes_before_the_end(scene: Scene) -> None:
    assert [scene.ask(), scene.ask()] == [True, False]
    scene.says(bytes([SIGNAL]) + b"in a\n")
    assert scene.told == []
    scene.says(b"in b\n" + END)
    assert scene.told == ["in a\nin b\n"] * 2


def test_one_that_is_silent_is_asked_twice_before_c_code_is(scene: Scene) -> None:
    for _ in range(2):
        scene.ask()
        assert [scene.stacks.next_signal() for _ in range(3)] == [SIGNAL, FROM_C, FROM_C]
        scene.says(b"in a\n" + END)


def test_other_signals_are_no_answer(scene: Scene) -> None:
    scene.ask()
    scene.says(b"\n\x0c" + bytes([SIGNAL]))
    assert scene.stacks.is_silent
    scene.stacks.give_up()
    assert scene.told == [SILENT]


def test_what_is_late_answers_nobody(scene: Scene) -> None:
    scene.ask()
    scene.says(b"the beginning,\n")
    assert not scene.stacks.is_silent
    scene.stacks.give_up()
    scene.ask()
    scene.says(b"the end\n" + END + b"another\n" + END)
    assert scene.told == ["the beginning,\n", "another\n"]
    scene.says(b"from C\n" + END + b"once more")
    scene.ask()
    scene.says(b" from C\n" + END)
    scene.says(b"asked\n" + END)
    assert scene.told[2:] == ["asked\n"]


@pytest.mark.parametrize("asked_again", ["before", "after"])
def test_what_is_late_may_come_in_pieces(scene: Scene, asked_again: str) -> None:
    scene.ask()
    scene.says(b"the beginning,")
    scene.stacks.give_up()
    if asked_again == "before":
        scene.ask()
    scene.says(b"\n")
    if asked_again == "after":
        scene.ask()
    scene.says(b"the end\n" + END + b"another\n" + END)
    assert scene.told == ["the beginning,", "another\n"]


def test_what_is_late_is_so_for_all_who_ask_before_its_end(scene: Scene) -> None:
    scene.ask()
    scene.says(b"the beginning,\n")
    scene.stacks.give_up()
    scene.ask()
    scene.stacks.give_up()
    scene.ask()
    scene.says(b"the end\n" + END + b"another\n" + END)
    assert scene.told == ["the beginning,\n", SILENT, "another\n"]


def test_what_begins_when_nobody_has_asked_is_late(scene: Scene) -> None:
    scene.says(b"the beginning,\n")
    scene.ask()
    scene.says(b"the end\n" + END + b"another\n" + END)
    scene.says(b"late\n" + END)
    scene.ask()
    scene.says(b"a third\n" + END)
    assert scene.told == ["another\n", "a third\n"]


def test_one_that_was_silent_is_not_late(scene: Scene) -> None:
    scene.ask()
    scene.stacks.give_up()
    assert not scene.stacks.is_silent
    scene.ask()
    scene.says(b"in a\n" + END)
    assert scene.told == [SILENT, "in a\n"]


def test_what_is_no_text_is_told_as_far_as_it_is(scene: Scene) -> None:
    scene.ask()
    scene.says(b"in \xff\n" + END)
    assert scene.told == ["in \ufffd\n"]


def test_nobody_is_waited_for(scene: Scene) -> None:
    """Who has the number of a descriptor now may not be who was ready."""
    scene.ask()
    scene.is_ready()
    assert scene.told == []


def test_one_that_does_not_end_takes_no_more_than_stacks_do(scene: Scene) -> None:
    scene.ask()
    for _ in range(40):
        scene.says(b"x" * 2**16)
    scene.says(END)
    assert scene.told == ["x" * 2**21]


@pytest.mark.parametrize("is_seen", ["here", "elsewhere"])
def test_of_one_that_ends_it_is_told_that(scene: Scene, is_seen: str) -> None:
    fd = scene.watched[0]
    scene.ask()
    if is_seen == "here":
        scene.hang_up()
        scene.is_ready()
    else:
        scene.stacks.close()
    assert scene.told == [ENDED]
    # Whoever gets the number next is somebody else.
    assert scene.watched[:2] == (fd, 0)
    assert not os.path.exists(f"/proc/self/fd/{fd}")
