"""One end of the pipe that a worker writes its stacks to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from snakepit_port.supervisor.stacks import ENDED, SILENT, Stacks
from snakepit_port.worker.stacks import FROM_C, SIGNAL

END = bytes([FROM_C])


class Scene:
    def __init__(self) -> None:
        read, self.write = os.pipe()
        pump: Any = self
        self.stacks = Stacks(pump, read)
        self.told: list[str] = []

    def watch(self, *_: Any) -> None: ...

    def ask(self) -> bool:
        return self.stacks.ask(self.told.append)

    def says(self, data: bytes) -> None:
        os.write(self.write, data)
        self.stacks._ready(0)


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.stacks.close()
    os.close(scene.write)


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


def test_one_that_does_not_end_takes_no_more_than_stacks_do(scene: Scene) -> None:
    scene.ask()
    for _ in range(40):
        scene.says(b"x" * 2**16)
    scene.says(END)
    assert scene.told == ["x" * 2**21]


def test_of_one_that_ends_it_is_told_that(scene: Scene) -> None:
    scene.ask()
    scene.stacks.close()
    assert scene.told == [ENDED]
