"""Reading, checking and explaining configurations.

model.py          a configuration as the rest of the program sees it
settings.py       every setting: its name, its kind of value, its meaning
kinds.py          the kinds of value
amounts.py        those of them that are numbers, sizes and spans of time
toml.py           reading a file
terms.py          reading what a host sends
check.py          from a tree of values to a configuration, or to every mistake in it
report.py         where in the tree a mistake is, and how messages speak of it
lines.py          on which line of a file a value is set
meant.py          what was meant by what is written wrong
warn.py           what is legal and hardly meant
env.py            the environment of a pool's workers
dump.py           a configuration with every default, as TOML
reference.py      makes REFERENCE.md
schema.py         makes schema.json

Of Snakepit v0.5 and v0.6:

legacy.py         recognises a configuration, and says what it is as one of ours
legacy_rules.py   what becomes of each key, as a table
legacy_keys.py    the keys in a configuration, each with its rule
legacy_values.py  their values as those of settings
legacy_python.py  the interpreter that was found where none was named
legacy_toml.py    writes what was converted, with the comments that were there
changes.py        what became of a key, for people and programs
convert.py        all of it at once, for `snakepit-port convert`
"""

from snakepit_port.config.model import (
    Config,
    ConfigError,
    PoolSettings,
    Problem,
    Profile,
    ProfileSettings,
    SupervisorSettings,
)
from snakepit_port.config.terms import load_terms
from snakepit_port.config.toml import load_toml, load_toml_text

__all__ = [
    "Config",
    "ConfigError",
    "PoolSettings",
    "Problem",
    "Profile",
    "ProfileSettings",
    "SupervisorSettings",
    "load_terms",
    "load_toml",
    "load_toml_text",
]
