"""Reading, checking and explaining configurations."""

from snakepit_port.config.model import (
    Config,
    ConfigError,
    PoolSettings,
    Problem,
    ProfileSettings,
    SupervisorSettings,
)

__all__ = [
    "Config",
    "ConfigError",
    "PoolSettings",
    "Problem",
    "ProfileSettings",
    "SupervisorSettings",
]
