"""What the interpreters of pools are like, found out without importing an adapter.

finding.py      finds one, and says why it cannot be run
asking.py       runs a program that is asked what it is
probe.py        run by a pool's interpreter: prints what it is and what is installed
interpreter.py  runs the probe
libraries.py    what is known of libraries and threads; libraries.toml is the table
limits.py       what the machine allows, and what pools need of it
advice.py       which profile suits an interpreter, and why
"""

from snakepit_port.environment.advice import Advice, advise
from snakepit_port.environment.interpreter import Interpreter, ProbeError, look_at
from snakepit_port.environment.libraries import Library, installed, known_libraries

__all__ = [
    "Advice",
    "Interpreter",
    "Library",
    "ProbeError",
    "advise",
    "installed",
    "known_libraries",
    "look_at",
]
