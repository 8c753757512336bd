"""How large a term may be, and why."""

from __future__ import annotations

from typing import NamedTuple

#: Characters of an atom. The BEAM's own limit (`erlang:binary_to_atom/2`).
MAX_ATOM_CHARS = 255


class Limits(NamedTuple):
    """What `encode` and `decode` refuse to exceed. Each number is the largest that is allowed."""

    #: Containers within containers. Real data is a dozen deep; a value that contains itself, or an
    #: attack on a recursive reader further on (`json`, `repr`, `copy.deepcopy`), is deeper. Python
    #: recurses to 1000 by default, and erlpack stops at 256.
    depth: int = 256

    #: Elements of lists and tuples, and twice the entries of maps, in one term. An element takes a
    #: byte or two of a term and up to 140 of memory (a list of one integer, as a map's key), so the
    #: size of a frame alone would allow a hundred times as much memory: this keeps it near 2.3 GB
    #: at the worst, and at 1.2 GB for what is not a map's key.
    elements: int = 2**24

    #: Bytes of an encoded term: what one `{packet, 4}` frame can carry. The link's
    #: `max_frame_bytes` is what bounds terms that arrive.
    size: int = 2**32 - 1

    #: Bytes of an integer. Reading and writing takes linear time at any size, but what Python does
    #: with integers afterwards does not: printing one of this size takes a minute.
    integer_bytes: int = 2**20


DEFAULT_LIMITS = Limits()
