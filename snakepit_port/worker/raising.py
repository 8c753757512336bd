"""Raising in what a signal has interrupted.

What a handler raises is raised where the signal was noticed. A loop notices one as it jumps back,
and from CPython 3.13 on that jump may stand outside the `try` around the loop: what is raised there
passes its `finally`, its `except` and its `with` by (python/cpython#130279). One step later it does
not.
"""

from __future__ import annotations

import sys
from opcode import opmap
from types import FrameType
from typing import Any

_JUMP = opmap.get("JUMP_BACKWARD") if sys.version_info >= (3, 13) else None


def raise_in(frame: FrameType | None, exc: BaseException) -> None:
    """From a signal's handler: raise this in the frame that it has interrupted; or, where that is
    about to jump back, prepare for that to happen at its next step. Then the handler has to return
    to it, and to call `sys.settrace(pass_by)` before; and when that is over, `sys.settrace(None)`.

    Not where something traces the thread, such as a debugger: that would not go on.
    """
    if frame is None or sys.gettrace() is not None or frame.f_code.co_code[frame.f_lasti] != _JUMP:
        raise exc

    def step(_frame: FrameType, event: str, _arg: Any) -> Any:
        if event != "opcode":
            return step
        sys.settrace(None)
        raise exc

    frame.f_trace = step
    frame.f_trace_opcodes = True


def pass_by(*_: Any) -> None:
    """Traces no frame that is entered, such as that of another handler."""
