"""A program in the supervisor's place that does what a supervisor does not: peer.py MODE.

It speaks {packet, 4} frames of its own making, standard library only. In the modes that go on, each
call it gets is one with 32-bit id, as this bridge writes them.
"""

import os
import signal
import struct
import sys


def term(value):
    if isinstance(value, Raw):
        return value
    if value is None:
        return b"w\x03nil"
    if isinstance(value, int):
        return struct.pack(">Bi", 98, value)
    if isinstance(value, str):
        return term(value.encode())
    if isinstance(value, bytes):
        return struct.pack(">BI", 109, len(value)) + value
    if isinstance(value, dict):
        body = b"".join(term(key) + term(item) for key, item in value.items())
        return struct.pack(">BI", 116, len(value)) + body
    tag, *elements = value
    head = struct.pack(">BBBB", 104, len(value), 119, len(tag)) + tag.encode()
    return head + b"".join(map(term, elements))


class Raw(bytes):
    """Bytes that are a term already."""


def put(payload):
    frame = struct.pack(">I", len(payload)) + payload
    while frame:
        frame = frame[os.write(1, frame) :]


def say(*elements):
    put(b"\x83" + term(elements))


def frames():
    stream = os.fdopen(0, "rb", closefd=False)
    while len(head := stream.read(4)) == 4:
        yield stream.read(struct.unpack(">I", head)[0])


def binary_at(frame, at):
    (size,) = struct.unpack_from(">I", frame, at + 1)
    return frame[at + 5 : at + 5 + size], at + 5 + size


def read_call(frame):
    """The id (still a term), the command and the first argument, a binary, of a call."""
    id, at = Raw(frame[9:14]), 14
    at = at + 5 if frame[at] == 119 else binary_at(frame, at)[1]
    command, at = binary_at(frame, at)
    args, _ = binary_at(frame, at)
    is_list = args[1] == 108
    return id, command.decode(), binary_at(args, 6)[0] if is_list else b""


def wait_for_ever():
    while True:
        signal.pause()


mode = sys.argv[1]

if mode == "silent":
    wait_for_ever()
if mode == "exits":
    sys.exit(3)
if mode == "junk_first":
    put(b"junk")
    wait_for_ever()
stubborn = mode.startswith("stubborn")
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

say(
    "hello",
    2 if mode == "version" else 1,
    {
        "max_frame_bytes": 2**20,
        "os_pid": os.getpid(),
        "stop_time": 0 if mode == "stubborn_at_once" else 60_000,
    },
)
if stubborn:
    wait_for_ever()
if mode != "starting":
    say("ready", {"pools": {}})
if mode == "deaf":
    wait_for_ever()

for frame in frames():
    tag = frame[5 : 5 + frame[4]]
    if tag == b"cancel":
        # What the call is answered with is late; then the tests are told.
        id = Raw(frame[11:16])
        say("error", id, {"type": "cancelled", "message": "cancelled"})
        say("event", "peer.cancelled", {"id": id}, {})
    if tag not in (b"call", b"control"):
        continue
    id, command, argument = read_call(frame) if tag == b"call" else (Raw(frame[12:17]), "", b"")
    if command == "never":
        say("event", "peer.called", {"id": id}, {})
    elif command == "start":
        say("ready", {"pools": {}})
        say("result", id, b"\x83a\x00")
    elif command == "parrot":
        say("result", id, argument)
    elif command == "junk":
        put(b"junk")
    elif command == "close_input":
        os.close(0)
        say("event", "peer.closed", {}, {})
        wait_for_ever()
    elif command == "exit":
        os._exit(9)
    elif command == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif command == "error":
        say("error", id, {"type": "of_tomorrow", "message": "it is early", "colour": "red"})
    elif command == "twice":
        say("result", 2**31 - 1, b"\x83a\x00")
        say("pong", 7)
        say("hello", 1, {})
        say("error", None, {"type": "protocol_error", "message": "nobody's error"})
        say("result", id, b"\x83a\x01")
        say("result", id, b"\x83a\x02")
    elif command == "chunk":
        say("chunk", 2**31 - 1, b"\x83a\x00")
        say("chunk", id, b"\x83a\x01")
        say("result", id, b"\x83a\x02")
    elif command == "wide":
        # Legal, if not what SPEC recommends: a large tuple, the old atom tag.
        put(b"\x83i\0\0\0\x03d\0\x06result" + id + term(b"\x83a\x07"))
    elif command == "bad_log":
        say("event", 1, {}, {})
        say("log", {"line": 1})
        say("result", id, b"\x83a\x00")
    elif command == "log":
        entry = {"pool": "p", "worker": "p-1", "source": "stdout", "level": "warning"}
        say("log", {**entry, "line": argument})
        say("event", "worker.started", {"startup_ms": 3}, {"pool": "p", "colour": "red"})
        say("result", id, b"\x83a\x00")
