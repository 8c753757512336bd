"""The floor for one hop: a program on a port that sends every `{packet, 4}` frame back.

python echo.py            frames as they came, all that arrived in one write
python echo.py erlpack    each frame's term read and written by erlpack
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from struct import Struct

LENGTH = Struct(">I")
READ_BYTES = 1024 * 1024


def main(again: Callable[[bytes], bytes] | None) -> None:
    held = bytearray()
    while data := os.read(0, READ_BYTES):
        held += data
        out = []
        start = pos = 0
        while len(held) - pos >= 4:
            stop = pos + 4 + LENGTH.unpack_from(held, pos)[0]
            if stop > len(held):
                break
            if again is not None:
                payload = again(bytes(held[pos + 4 : stop]))
                out += [LENGTH.pack(len(payload)), payload]
            pos = stop
        if pos > start:
            write(b"".join(out) if out else held[:pos])
            del held[:pos]


def write(data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


if __name__ == "__main__":
    if sys.argv[1:] == ["erlpack"]:
        import erlpack

        main(lambda payload: erlpack.pack(erlpack.unpack(payload)))
    else:
        main(None)
