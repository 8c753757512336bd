"""The tags of the external term format, and how runs of numbers are packed.

Names and numbers are those of the "External Term Format" chapter of the ERTS user's guide.
"""

from __future__ import annotations

from struct import Struct

VERSION = 131

NEW_FLOAT, BIT_BINARY, COMPRESSED = 70, 77, 80
NEW_PID, NEW_PORT, NEWER_REFERENCE = 88, 89, 90
SMALL_INTEGER, INTEGER, FLOAT, ATOM = 97, 98, 99, 100
REFERENCE, PORT, PID, SMALL_TUPLE, LARGE_TUPLE = 101, 102, 103, 104, 105
NIL, STRING, LIST, BINARY, SMALL_BIG, LARGE_BIG = 106, 107, 108, 109, 110, 111
NEW_FUN, EXPORT, NEW_REFERENCE, SMALL_ATOM, MAP, FUN = 112, 113, 114, 115, 116, 117
ATOM_UTF8, SMALL_ATOM_UTF8, V4_PORT = 118, 119, 120

#: The atom in front of a binary that is `bytes` in Python: `SnakepitPort.bytes(binary)` is
#: `{:"$bytes", binary}`.
BYTES_NAME = "$bytes"

#: The atom in front of the name of a file that holds such bytes.
FILE_NAME = "$shm"

#: The atom in front of a tensor's type, shape and data.
TENSOR_NAME = "$tensor"

#: Numbers of a list that are read or written by one call.
RUN = 64

#: n floats, or 32-bit integers, each behind the byte of its tag.
FLOATS = [Struct(">" + "xd" * n) for n in range(RUN + 1)]
INTEGERS = [Struct(">" + "xi" * n) for n in range(RUN + 1)]
