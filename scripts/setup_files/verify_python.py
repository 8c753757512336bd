"""What `scripts/verify_python` runs: `verify_python.py off|"" PYTHON...`."""

from __future__ import annotations

import subprocess
import sys

from snakepit_port.environment import Interpreter, ProbeError, look_at

#: Run by the interpreter itself. A second thread doubles the work; without a GIL, and with a CPU to
#: spare, hardly the time.
_RACE = """
import threading, time

def work():
    total = 0
    for number in range(1_000_000):
        total += number * number

def seconds(count):
    threads = [threading.Thread(target=work) for _ in range(count)]
    began = time.perf_counter()
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return time.perf_counter() - began

seconds(1)
print(2 * min(seconds(1) for _ in range(3)) / min(seconds(2) for _ in range(3)))
"""

NAME_ANOTHER = "give it the path of a Python 3.9 or newer, or a name that is on PATH"


def main(want: str, pythons: list[str]) -> int:
    status = 0
    for python in pythons:
        try:
            found = look_at(python)
        except ProbeError as exc:
            complain(exc.message, *exc.said.splitlines(), NAME_ANOTHER)
            status = 1
            continue
        print("\n".join(describe(found)), flush=True)
        if not found.is_new_enough:
            complain(found.too_old, NAME_ANOTHER)
            status = 1
        if want == "off" and found.gil_enabled:
            complain(f"the GIL of {python} is on")
            status = 1
    return status


def complain(*lines: str) -> None:
    """Says on stderr what is wrong, and what to do about it."""
    for line in lines:
        print(f"verify_python: {line}", file=sys.stderr)


def describe(found: Interpreter) -> list[str]:
    race = subprocess.run([found.executable, "-c", _RACE], capture_output=True, text=True)
    ratio = f"{float(race.stdout):.2f} times" if race.returncode == 0 else "(could not be measured)"
    return [
        found.executable,
        f"  {found.implementation} {found.version}, {found.gil}",
        f"  virtual environment: {found.virtual_environment or 'none'}",
        f"  two threads do {ratio} the work of one",
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
