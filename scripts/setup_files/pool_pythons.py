"""What `scripts/setup_python` asks of a configuration: `pool_pythons.py WHAT FILE [MADE...]`.

`named` prints the interpreters whose environments could be made; `report` a line for each pool,
with MADE the folders of environments that were.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from snakepit_port.config import Config, ConfigError, PoolSettings, load_toml
from snakepit_port.config.env import effective_environment
from snakepit_port.config.model import default_python

#: What to write, where nothing that was written says so better.
_AN_ENVIRONMENT = ".venv/bin/python"


def main(what: str, file: str, made: list[str]) -> None:
    try:
        config = load_toml(file)
    except ConfigError as exc:
        sys.exit(str(exc))
    if what == "named":
        for python in dict.fromkeys(pool.python for pool in config.pools):
            if _is_of_environment(python):
                print(python)
        return
    for pool in config.pools:
        line, missing = _state(config, pool, made)
        print(f"setup_python: pool {pool.name}: {line}", file=sys.stderr if missing else sys.stdout)


def _is_of_environment(python: str) -> bool:
    return "/" in python and Path(python).parent.name == "bin"


def _state(config: Config, pool: PoolSettings, made: list[str]) -> tuple[str, bool]:
    """What has become of a pool's interpreter, and whether it is missing."""
    python = pool.python
    if _is_of_environment(python) and str(Path(python).parent.parent) in made:
        return f"made {python}", False
    if python == default_python():
        named = os.environ.get("SNAKEPIT_PYTHON")
        return f"$SNAKEPIT_PYTHON, {named}" if named else "the supervisor's own interpreter", False
    if "/" not in python:
        return _on_path(config, pool)
    path = Path(python)
    if path.is_dir():
        return f"{python} is a folder: write python = {_quoted(path / 'bin/python')}", True
    if path.exists():
        return f"{python} is there", False
    # An environment's folder, or an interpreter that has lost its bin.
    folder = path.parent if path.name.startswith("python") else path
    return (
        f"there is no {python}, and none is made, for an environment's interpreter is in its bin:"
        f" write python = {_quoted(folder / 'bin/python')}"
    ), True


def _on_path(config: Config, pool: PoolSettings) -> tuple[str, bool]:
    layers = effective_environment(pool, config.profile_of(pool), os.environ)
    path = layers["PATH"][0] if "PATH" in layers else os.defpath
    found = shutil.which(pool.python, path=path)
    if found is not None:
        return f"{pool.python} is there, {found}", False
    return (
        f"there is no {pool.python} on PATH, and none is made, for it has no folder: write"
        f' python = "{_AN_ENVIRONMENT}"'
    ), True


def _quoted(path: Path) -> str:
    return f'"{path}"'


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
