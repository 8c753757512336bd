"""Files of a run: what is written is read once, what lies is refused, the bound is exact."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from snakepit_port import wire
from snakepit_port.bulk.files import FileReader, Folder, files_in, remove_folder
from snakepit_port.wire import DecodeError

KIB = 1024
LARGE = bytes(range(256)) * 4 * 64


def folder(path: Path, writer: str = "w1", *, max_bytes: int = KIB * KIB) -> Folder:
    return Folder(str(path), writer, 64 * KIB, max_bytes)


def refusal(reader: FileReader, term: bytes) -> str:
    with pytest.raises(DecodeError) as caught:
        wire.decode(term, reader=reader)
    assert caught.value.kind == "file"
    return caught.value.message


def test_large_bytes_travel_in_files_that_are_read_once(tmp_path: Path) -> None:
    writer = folder(tmp_path).writer(7)
    value = {"a": [LARGE, b"small"], "b": bytearray(LARGE), "c": memoryview(LARGE * 2)[::2]}
    term = wire.encode({**value, LARGE: 1}, writer=writer)
    assert len(term) < 1000
    names = [f"w1-7-{number}-{len(LARGE)}" for number in range(4)]
    assert sorted(writer.names) == sorted(files_in(str(tmp_path))) == names
    assert os.stat(tmp_path / names[0]).st_mode & 0o777 == 0o600
    reader = FileReader(folder(tmp_path, "h"), "w")
    assert wire.decode(term, reader=reader) == {**value, "c": LARGE[::2] * 2, LARGE: 1}
    assert os.listdir(tmp_path) == []
    assert "No such file" in refusal(reader, term)


def test_views_are_of_the_file_itself_and_cannot_be_written_to(tmp_path: Path) -> None:
    writer = folder(tmp_path).writer(7)
    term = wire.encode([LARGE, b"small"], writer=writer)
    path = tmp_path / writer.names[0]
    reader = FileReader(folder(tmp_path, "h"), "w", views=True, keep=True)
    large, small = wire.decode(term, reader=reader)
    assert (large, small) == (LARGE, b"small")
    for view in (large, small):
        assert type(view) is memoryview
        assert (view.readonly, view.format, view.ndim) == (True, "B", 1)
    with path.open("r+b") as file:
        file.write(b"changed")
    assert bytes(large[:7]) == b"changed"


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    def held() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = held()
    writer = folder(tmp_path).writer(1)
    terms = [wire.encode(value, writer=writer) for value in (np.zeros(len(LARGE), "uint8"), LARGE)]
    for term in terms:
        for views in (False, True):
            wire.decode(term, reader=FileReader(folder(tmp_path, "h"), "w", views=views, keep=True))
    (tmp_path / writer.names[1]).write_bytes(b"")
    refusal(FileReader(folder(tmp_path, "h"), "w"), terms[1])
    # Fewer, where what other tests have left was collected meanwhile.
    assert held() <= before


def test_a_file_is_whole_though_the_system_takes_it_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of more than 2 GiB."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:10_000]))
    term = wire.encode(LARGE, writer=folder(tmp_path).writer(1))
    monkeypatch.undo()
    assert wire.decode(term, reader=FileReader(folder(tmp_path, "h"), "w")) == LARGE


def test_only_bytes_from_the_threshold_on_are_written(tmp_path: Path) -> None:
    writer = folder(tmp_path).writer(1)
    reader = FileReader(folder(tmp_path, "h"), "w")
    for size, names in ((64 * KIB - 1, 0), (64 * KIB, 1)):
        assert wire.decode(wire.encode(bytes(size), writer=writer), reader=reader) == bytes(size)
        assert len(writer.names) == names


def test_what_is_discarded_is_gone(tmp_path: Path) -> None:
    writer = folder(tmp_path).writer(1)
    wire.encode([LARGE, LARGE], writer=writer)
    assert len(os.listdir(tmp_path)) == 2
    writer.discard()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [LARGE[:-1], LARGE + b"m"], ids=["short", "long"])
def test_a_file_whose_size_is_another_is_refused(tmp_path: Path, content: bytes) -> None:
    writer = folder(tmp_path).writer(1)
    term = wire.encode(LARGE, writer=writer)
    (tmp_path / writer.names[0]).write_bytes(content)
    assert "bytes long" in refusal(FileReader(folder(tmp_path, "h"), "w"), term)


def test_neither_own_files_nor_links_are_read(tmp_path: Path) -> None:
    term = wire.encode(LARGE, writer=folder(tmp_path).writer(1))
    assert "did not write" in refusal(FileReader(folder(tmp_path), "h"), term)
    (path,) = tmp_path.iterdir()
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert "cannot be read" in refusal(FileReader(folder(tmp_path), "w"), term)
    assert elsewhere.exists()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    term = wire.encode(LARGE, writer=folder(tmp_path).writer(1))
    (path,) = tmp_path.iterdir()
    path.unlink()
    os.mkfifo(path)
    assert "0 bytes long" in refusal(FileReader(folder(tmp_path), "w"), term)


def test_a_name_that_is_taken_is_not_written_to(tmp_path: Path) -> None:
    taken = tmp_path / f"w1-1-0-{len(LARGE)}"
    taken.write_bytes(b"of somebody else")
    term = wire.encode(LARGE, writer=folder(tmp_path).writer(1))
    assert wire.decode(term) == LARGE
    assert taken.read_bytes() == b"of somebody else"


@pytest.mark.parametrize("left", [0, len(LARGE) - 1])
def test_what_has_no_room_stays_in_the_term(tmp_path: Path, left: int) -> None:
    writer = folder(tmp_path, max_bytes=len(LARGE) + left).writer(1)
    term = wire.encode([LARGE, LARGE], writer=writer)
    assert len(writer.names) == len(os.listdir(tmp_path)) == 1
    assert len(term) > len(LARGE)
    assert wire.decode(term, reader=FileReader(folder(tmp_path, "h"), "w")) == [LARGE, LARGE]
    remove_folder(str(tmp_path))
    writer = folder(tmp_path).writer(2)
    assert wire.decode(wire.encode(LARGE, writer=writer)) == LARGE
    assert writer.names == []


def _fill(path: str, number: int, max_bytes: int) -> None:
    writer = folder(Path(path), f"w{number}", max_bytes=max_bytes).writer(1)
    for size in [64 * KIB, 65 * KIB, 100 * KIB] * 40:
        writer.write(bytes(size))


def test_a_claim_that_was_removed_meanwhile_stays_in_the_term(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def claimed(folder: Folder) -> int:
        remove_folder(folder.path)
        return len(os.listdir(folder.path))

    monkeypatch.setattr(Folder, "claimed", claimed)
    writer = folder(tmp_path).writer(1)
    assert wire.decode(wire.encode(LARGE, writer=writer)) == LARGE
    assert writer.names == []


def test_writers_at_the_same_time_never_take_more_than_there_is(tmp_path: Path) -> None:
    max_bytes = 4 * KIB * KIB
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_fill, args=(str(tmp_path), number, max_bytes))
        for number in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    total = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert total == folder(tmp_path).claimed()
    # Each gave up when one more file of its own was too many beside what all had written, and what
    # the three others were about to write, and perhaps did not.
    assert max_bytes - len(processes) * 64 * KIB < total <= max_bytes
