"""The interpreter that Snakepit found by itself where its configuration named none."""

from __future__ import annotations

import os

from snakepit_port.config.model import default_python


def find(base_dir: str | os.PathLike[str]) -> str | None:
    """What `Snakepit.Adapters.GRPCPython` took before it took the `python3` of the PATH: the
    interpreter that `$SNAKEPIT_PYTHON` names, or of a virtual environment in *base_dir* or above
    it, or of the one that is active. A path in *base_dir* is given as one that starts there."""
    if os.environ.get("SNAKEPIT_PYTHON"):
        return default_python()
    active = os.environ.get("VIRTUAL_ENV")
    places = [".venv", "../.venv", *([active] if active else [])]
    found = (f"{place}/bin/python3" for place in places)
    # Not a `Path`, which raises where it may not look.
    return next((path for path in found if os.path.exists(os.path.join(base_dir, path))), None)
