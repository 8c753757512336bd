"""The first file a pool's interpreter runs; it may be any interpreter, so it is plain and old:
Python 2 reads it, and says that it is too old.

    python boot.py starter CONTROL_FD LEDGER_FD
    python boot.py worker CHANNEL_FD LEDGER_FD STACKS_FD SLOT PARENT_PID

It makes `snakepit_port` importable from the folder it stands in, and nothing else that is installed
beside it: what a worker imports is the pool's business. So it is for what a command starts and that
takes over its path.
"""

import os
import sys

#: The oldest Python that a worker runs on.
OLDEST = (3, 9)

#: Where processes that a command starts find the package, if they get nothing but the path.
ON_PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "on_path")


def find_package():
    # type: () -> None
    """Make `snakepit_port` importable without putting its parent folder on the path."""
    import importlib.util

    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = importlib.util.spec_from_file_location(
        "snakepit_port",
        os.path.join(folder, "__init__.py"),
        submodule_search_locations=[folder],
    )
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["snakepit_port"] = package
    spec.loader.exec_module(package)
    if ON_PATH not in sys.path:
        sys.path.append(ON_PATH)


def main(args):
    # type: (list[str]) -> int
    # The folder of this script, which Python puts first, unless PYTHONSAFEPATH is set.
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
    find_package()
    if args[0] == "starter":
        from snakepit_port.worker.starter import main as starter

        return starter(*[int(arg) for arg in args[1:]])
    from snakepit_port.worker.process import main as worker

    return worker(*[int(arg) for arg in args[1:]])


if __name__ == "__main__":
    if sys.version_info < OLDEST:
        needed, found = (".".join(map(str, version[:2])) for version in (OLDEST, sys.version_info))
        said = "a worker needs Python " + needed + " or newer; " + sys.executable + " is " + found
        sys.stderr.write(said + ": set the pool's `python`\n")
        sys.exit(64)
    sys.exit(main(sys.argv[1:]))
elif __name__ == "__mp_main__":
    # A process that a command has started, by `multiprocessing` say, finds what its parent found.
    find_package()
