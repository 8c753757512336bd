"""For the `logging` of adapters: records keep their level on the way to the host.

    import logging
    from snakepit_port.logs import Handler

    logging.basicConfig(level="INFO", handlers=[Handler()], format="%(name)s: %(message)s")

In a module that the worker loads, its adapter say.
"""

from __future__ import annotations

import logging

#: The numbers of syslog(3), by the lowest level that has them. Whoever reads them is told by
#: sd-daemon(3).
_NUMBERS = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7


class Handler(logging.StreamHandler):  # type: ignore[type-arg]  # No class to subscribe in 3.9.
    """Writes records to stderr, every line of them with its level in front: `<3>` for an error. In
    a worker the supervisor takes that off and gives it to the host, as Logger's level in a BEAM;
    elsewhere systemd's journal does the same."""

    def format(self, record: logging.LogRecord) -> str:
        number = next((number for least, number in _NUMBERS if record.levelno >= least), _DEBUG)
        return "\n".join(f"<{number}>{line}" for line in super().format(record).split("\n"))
