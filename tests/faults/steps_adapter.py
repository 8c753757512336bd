"""Commands of a worker that is killed at one step of what it does."""

import os
import signal
from typing import Any

import steps

from snakepit_port.adapter import command


@command
def kill_at_step(step: int) -> None:
    """Has this worker killed at that step from its end on."""
    steps.call_at(step, lambda: os.kill(os.getpid(), signal.SIGKILL))


@command
def lift() -> bool:
    """Whether that has not come."""
    return not steps.have_passed()


@command
def echo(value: Any) -> Any:
    return value
