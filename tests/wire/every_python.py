"""Run by every Python there is, with nothing installed: `python -I -S every_python.py ROOT`."""

from __future__ import annotations

import sys
from pathlib import Path

# Neither the current folder nor site-packages is on the path.
sys.path[:0] = [sys.argv[1], str(Path(__file__).resolve().parent)]

from vector_files import cases, frame, same, value  # noqa: E402

from snakepit_port import adapter, wire  # noqa: E402
from snakepit_port.bulk.files import FileReader  # noqa: E402
from snakepit_port.wire import fastpath, messages  # noqa: E402
from snakepit_port.wire.framing import pack  # noqa: E402


@adapter.command
def add(a: int, b: int) -> int:
    return a + b


def main() -> None:
    assert not fastpath.AVAILABLE
    assert add(1, 2) == 3
    assert getattr(add, adapter.MARK) == "add"
    terms = cases("terms.json")
    for case in terms:
        expected = value(case["value"])
        decoded = wire.decode(case["bytes"])
        assert same(decoded, expected), case["name"]
        written = wire.encode(expected)
        assert not case["canonical"] or written == case["bytes"], case["name"]
        assert same(wire.decode(written), expected), case["name"]
    malformed = cases("malformed.json")
    for case in malformed:
        assert refusal(case["bytes"]) == case["error"], case["name"]
    matrix = wire.encode(wire.Tensor(("f", 32), (2, 3), bytes(24)))
    view = wire.decode(matrix, reader=FileReader(None, "w"))
    assert (type(view), view.format, view.shape) == (memoryview, "f", (2, 3))
    assert wire.encode(view) == matrix
    frames = [case for case in cases("frames.json") if "frame" in case]
    for case in frames:
        assert same(messages.parse(pack(case["bytes"])), frame(case["frame"])), case["name"]
    print(len(terms), len(malformed), len(frames))


def refusal(data: bytes) -> str | None:
    try:
        wire.decode(data)
    except wire.DecodeError as exc:
        return exc.kind
    return None


main()
