"""Text that somebody else wrote, made fit to be printed."""

from __future__ import annotations

import re

#: What a terminal, or whoever reads lines, does something at.
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")


def shown(text: str, keep: str = "") -> str:
    """*text* with its control characters written out, but for those to *keep*."""
    return _CONTROL.sub(
        lambda found: found[0] if found[0] in keep else found[0].encode("unicode_escape").decode(),
        text,
    )
