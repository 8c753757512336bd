"""`snakepit_port` for a process that has nothing of its parent but the path, as joblib's have.

This folder stands at the end of that path (see `boot.py`), and holds nothing else.
"""

import os
import runpy

_WORKER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# It puts the package in the place of this module.
runpy.run_path(os.path.join(_WORKER, "boot.py"), run_name="__mp_main__")
