"""Reading, checking and explaining configurations."""

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
