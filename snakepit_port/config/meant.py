"""What was meant by names and amounts that are not written as they have to be. For hints only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal


def _names(table: Mapping[str, str]) -> dict[str, str]:
    return {name: meant for meant, names in table.items() for name in names.split()}


#: Settings of a pool by what they are called elsewhere: by gunicorn or Celery, or by whoever
#: leaves half of the name out. Not those that look like what is meant anyhow.
POOL_SETTINGS = _names(
    {
        "adapter": "app class handler module",
        "adapter_args": "args arguments init_args kwargs opts options",
        "adapter_env": "env environ environment env_vars",
        "call_timeout": "request_timeout timeout",
        "health_check_interval": "heartbeat_interval",
        "max_queue_size": "backlog queue queue_size",
        "memory_limit_mb": "max_memory max_memory_mb max_memory_per_child memory memory_limit",
        "pool_size": "concurrency num_workers processes size worker_count workers",
        "python": "executable interpreter",
        "python_path": "path",
        "threads_per_worker": "capacity num_threads threads",
        "worker_max_requests": "max_calls max_requests max_tasks max_tasks_per_child requests",
        "worker_profile": "kind",
        "worker_ttl": "lifetime max_age max_lifetime ttl",
    }
)

_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"
_PART = re.compile(rf"\s*({_NUMBER})\s*([A-Za-z]+|%)(?:\s*,|\s+and\b)?")


_TIMES = _names(
    {
        "ms": "ms msec msecs millisecond milliseconds",
        "s": "s sec secs second seconds",
        "m": "m min mins minute minutes",
        "h": "h hr hrs hour hours",
        "d": "d day days",
    }
)

_SIZES = _names(
    {
        "B": "b byte bytes",
        "KiB": "k ki kib",
        "MiB": "m mi mib",
        "GiB": "g gi gib",
        "KB": "kb",
        "MB": "mb",
        "GB": "gb",
    }
)

#: In lower case; the hint for "Infinity" is "infinity" too.
FOR_EVER = frozenset(("inf", "infinity", "infinite", ":infinity", "never", "none", "unlimited"))


def time(text: str) -> list[tuple[Decimal, str]]:
    """The parts of a time span such as "1h30m" or "30 sec"; empty if *text* is none."""
    return _parts(text, _TIMES)


def size(text: str) -> tuple[Decimal, str] | None:
    """The amount and unit of a size such as "512 mb"."""
    parts = _parts(text, _SIZES)
    return parts[0] if len(parts) == 1 else None


def percentage(text: str) -> Decimal | None:
    """The number in a text such as "10%"."""
    parts = _parts(text, {"%": "%"})
    return parts[0][0] if len(parts) == 1 else None


def _parts(text: str, units: Mapping[str, str]) -> list[tuple[Decimal, str]]:
    if len(text) > 100:
        return []
    parts = []
    end = 0
    for found in _PART.finditer(text):
        unit = units.get(found[2].lower())
        if found.start() != end or unit is None:
            return []
        parts.append((Decimal(found[1]), unit))
        end = found.end()
    return parts if not text[end:].strip() else []


def written(amount: Decimal) -> str:
    """A number without the zeros that say nothing."""
    return f"{amount.normalize():f}"


def total(parts: Iterable[tuple[Decimal, str]], units: Mapping[str, Decimal | int]) -> Decimal:
    """The sum of *parts*, by what their units are worth."""
    return sum((amount * units[unit] for amount, unit in parts), Decimal(0))
