"""Run by a pool's interpreter: prints what it is and what is installed, as JSON on one line.

It may be any Python 3, so this is plain and old; only the standard library is imported.
"""

import json
import os
import platform
import sys
import sysconfig
from typing import Dict, Optional


def main() -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    found = {
        "executable": sys.executable,
        "version": version,
        "version_info": list(sys.version_info[:3]),
        "implementation": platform.python_implementation(),
        "free_threading_build": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "gil_enabled": bool(getattr(sys, "_is_gil_enabled", lambda: True)()),
        "virtual_environment": virtual_environment(),
        "distributions": distributions(),
    }
    sys.stdout.write(json.dumps(found) + "\n")


def virtual_environment() -> Optional[str]:
    """Its folder, or None. To Python conda's are no virtual environments; to people they are."""
    if sys.prefix != sys.base_prefix:
        return sys.prefix
    if os.path.isdir(os.path.join(sys.prefix, "conda-meta")):
        return sys.prefix
    return None


def distributions() -> Dict[str, str]:
    """Version of each installed distribution, by its name in lower case, with dashes."""
    try:
        from importlib import metadata
    except ImportError:
        # Before Python 3.8, which no worker runs on.
        return {}
    found: Dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            # The first one on the path is the one that is imported.
            found.setdefault(name.lower().replace("_", "-").replace(".", "-"), distribution.version)
    return found


if __name__ == "__main__":
    main()
