"""The exact words of mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from snakepit_port.config import ConfigError, load_terms, load_toml_text, meant
from snakepit_port.config.settings import POOL

FIVE_MISTAKES = """\
# Five mistakes.
[supervisor]
max_frame_bytes = "64 parrots"

[profiles.gpu]
kind = "process"
env = { CUDA_VISIBLE_DEVICES = 0, DEBUG = true }

[[pools]]
name = "default"
adapter = "my_app/adapter.py"

[[pools]]
name = "gpu"
adapter = "my_app.gpu:Model"
worker_profile = "gpo"
python_path = [
  "lib",
]
pool_sise = 4
"""


REMOVE = (
    "remove it; what the adapter takes belongs into adapter_args, and environment variables into"
    " adapter_env"
)


def error_of(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_toml_text(text, "/base", "snakepit.toml")
    return caught.value


def test_five_mistakes_at_once() -> None:
    error = error_of(FIVE_MISTAKES)
    assert str(error) == (
        "snakepit.toml has 5 problems:\n"
        '  line 3, supervisor: max_frame_bytes: expected a size from "128KiB" to "4095MiB", as '
        'bytes or like "64MiB", found "64 parrots" (units: B, KiB, MiB, GiB, KB, MB, GB)\n'
        '  line 7, profiles "gpu": env.DEBUG: expected a string or an integer, found true\n'
        '  line 11, pools[0] "default": adapter: expected "module" or "module:Class", '
        'found "my_app/adapter.py"\n'
        '  line 16, pools[1] "gpu": worker_profile: no profile is named "gpo" '
        "(did you mean gpu?)\n"
        '  line 20, pools[1] "gpu": pool_sise: unknown setting (did you mean pool_size?)'
    )
    assert error.as_term()[-1] == {
        "place": 'pools[1] "gpu": pool_sise',
        "message": "unknown setting",
        "hint": "did you mean pool_size?",
        "file": "snakepit.toml",
        "line": 20,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "the configuration is empty "
            "(a configuration needs at least one pool with a name and an adapter)",
        ),
        (
            "[supervisor]\n",
            "pools: no pool is defined "
            "(a configuration needs at least one pool with a name and an adapter)",
        ),
        (
            "\n[pools]\nname = 'a'\n",
            "line 2, pools: expected a list of pools, found a table "
            "(one entry for each pool: [[pools]] in TOML, a list of maps or keyword lists in "
            "terms)",
        ),
        (
            "[qqq]\n",
            "line 1, qqq: unknown setting (remove it; known here: supervisor, profiles, pools)",
        ),
        (
            "[supervisor]\nqqq = 1\n[[pools]]\nname = 'a'\nadapter = 'b'\n",
            "line 2, supervisor: qqq: unknown setting (remove it; known here: pooling_enabled,"
            " max_frame_bytes, shutdown_grace_period, shm_threshold, shm_max_bytes)",
        ),
        (
            "a = 1\nb = ]\n",
            "line 2, not valid TOML at column 5: no value looks like this; text has to stand in"
            " quotes\n  b = ]\n      ^",
        ),
        (
            "[supervisor]\na = 1\na = 2\n\n[[pools]]\n",
            'line 3, not valid TOML at column 1: Key "a" already exists\n  a = 2\n  ^',
        ),
        (
            "[[pools]\nname = 'a'\n",
            "line 1, not valid TOML at column 8: Expected ']]' at the end of an array declaration\n"
            "  [[pools]\n         ^",
        ),
        (
            '[[pools]]\r\n\tname = "a\r\n',
            "line 2, not valid TOML at column 11: the string does not end on its line; close it"
            " with the quote that it began with, or begin and end it with three of them\n"
            '  \tname = "a\n  \t         ^',
        ),
        (
            "\r\n\r\na = 'b\r\nc = 1\r\n",
            "line 3, not valid TOML at column 7: the string does not end on its line; close it"
            " with the quote that it began with, or begin and end it with three of them\n"
            "  a = 'b\n        ^",
        ),
        (
            'a = "b\1c"\n',
            "line 1, not valid TOML at column 7: Illegal character '\\x01'\n"
            '  a = "b\ufffdc"\n        ^',
        ),
        ('a = """b\n', "not valid TOML: Unterminated string at the end of the file"),
        (
            "x" * 300 + "\n",
            "line 1, not valid TOML at column 301: Expected '=' after a key in a key/value pair\n"
            f"  {'x' * 60}\n  {' ' * 60}^",
        ),
        (
            "# Ours\nimport Config\nconfig :snakepit, pooling_enabled: true\n",
            "this is Elixir, not TOML (`mix snakepit_port.convert snakepit.toml -o pools.toml`"
            " makes TOML of it)",
        ),
        (
            "[[pools]]\nname = 'a'\n",
            'line 1, pools[0] "a": adapter: missing; expected "module" or "module:Class"',
        ),
    ],
)
def test_one_mistake(text: str, message: str) -> None:
    assert str(error_of(text)) == f"snakepit.toml: {message}"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"worker_profile": {}},
            'worker_profile: expected "process", "thread" or the name of a profile, found a table',
        ),
        (
            {"worker_profile": "threads"},
            'worker_profile: no profile is named "threads" (did you mean thread?)',
        ),
        (
            {"thread_safety_checks": 1},
            "thread_safety_checks: expected true or false, found 1",
        ),
        (
            {"threads_per_worker": 0},
            "threads_per_worker: expected an integer from 1 to 1024, found 0",
        ),
        (
            {"adapter_args": {"x": 1}},
            "adapter_args: the adapter is a module, which takes no "
            'arguments (name a class in adapter, as "module:Class")',
        ),
        (
            {"name": "x" * 256},
            f'name: expected a name of 1 to 255 bytes, found "{"x" * 57}..." (it has 256 bytes)',
        ),
        (
            {"name": "é" * 128},
            f'name: expected a name of 1 to 255 bytes, found "{"é" * 57}..." (it has 256 bytes)',
        ),
        ({"name": "\udc80"}, r'name: expected a name of 1 to 255 bytes, found "\udc80"'),
        ({"name": ""}, 'name: expected a name of 1 to 255 bytes, found ""'),
        ({"pool_size": 0}, "pool_size: expected an integer from 1 to 10000, found 0"),
        ({"pool_size": 10_001}, "pool_size: expected an integer from 1 to 10000, found 10001"),
        ({"max_surge": 10_001}, "max_surge: expected an integer from 1 to 10000, found 10001"),
        ({"pool_size": True}, "pool_size: expected an integer from 1 to 10000, found true"),
        (
            {"pool_size": 10**5000},
            "pool_size: expected an integer from 1 to 10000, found a huge integer",
        ),
        ({"prefetch": 1025}, 'prefetch: expected "auto" or an integer from 1 to 1024, found 1025'),
        (
            {"inherit_env": "yes"},
            "inherit_env: expected true, false or a list of names of "
            'environment variables, found "yes"',
        ),
        (
            {"inherit_env": ["A=B"]},
            'inherit_env[0]: expected the name of an environment variable, found "A=B"',
        ),
        (
            {"start_method": "fork_server"},
            'start_method: expected "forkserver" or "spawn", found "fork_server" '
            "(did you mean forkserver?)",
        ),
        # As Elixir has what is in single quotes.
        (
            {"adapter": [*b"my_app"]},
            'adapter: expected "module" or "module:Class", found a list of characters '
            '(a string has double quotes in Elixir, and is <<"...">> in Erlang)',
        ),
        (
            {"python_path": [*b"lib"]},
            "python_path: expected a list of folders, found a list of characters "
            '(a string has double quotes in Elixir, and is <<"...">> in Erlang)',
        ),
        # As Elixir sends what it calls MyApp.
        (
            {"adapter": "Elixir.MyApp"},
            'adapter: expected "module" or "module:Class", found "Elixir.MyApp" (that is a module '
            'of Elixir; one of Python is named by a string, like "my_app.commands")',
        ),
        ({"adapter": [0, 10]}, 'adapter: expected "module" or "module:Class", found a list'),
        ({"preload": "numpy"}, 'preload: expected a list of module names, found "numpy"'),
        (
            {"preload": ["numpy", "a b"]},
            'preload[1]: expected a module name such as "package.module", found "a b"',
        ),
        (
            {"direct_calls": ["math"]},
            'direct_calls[0]: expected "module:function" or "module:*", found "math"',
        ),
        (
            {"adapter_env": {"A=": "1"}},
            'adapter_env."A=": expected the name of an environment variable, found "A="',
        ),
        ({"adapter": "my_app:*"}, 'adapter: expected "module" or "module:Class", found "my_app:*"'),
        (
            {"adapter_env": {"A": "x\0"}},
            "adapter_env.A: expected UTF-8 text without NUL",
        ),
        (
            {"adapter_env": {"A": "\udc80"}},
            "adapter_env.A: expected UTF-8 text without NUL",
        ),
        (
            {"adapter_env": {"A": 2**63}},
            "adapter_env.A: expected a string or an integer, found 9223372036854775808",
        ),
        ({"adapter_env": {"A": 1.5}}, "adapter_env.A: expected a string or an integer, found 1.5"),
        (
            {"call_timeout": "0s"},
            'call_timeout: expected a duration above zero like "250ms" or '
            '"1.5h", or milliseconds, or "infinity", found "0s"',
        ),
        (
            {"idle_timeout": "0.0004 msec"},
            'idle_timeout: expected a duration above zero like "250ms" or '
            '"1.5h", or milliseconds, or "infinity", found "0.0004 msec" (units: ms, s, m, h, d)',
        ),
        (
            {"cancel_grace_period": "infinity"},
            "cancel_grace_period: expected a duration like "
            '"250ms" or "1.5h", or milliseconds, found "infinity" (units: ms, s, m, h, d)',
        ),
        (
            {"max_frame_bytes": 1},
            "max_frame_bytes: unknown setting (it is a setting of supervisor)",
        ),
        ({"timeout": 1}, "timeout: unknown setting (did you mean call_timeout?)"),
        ({"env": {}}, "env: unknown setting (did you mean adapter_env?)"),
        ({"max_surgr": 1}, "max_surgr: unknown setting (did you mean max_surge?)"),
        ({"qqq": 1}, f"qqq: unknown setting ({REMOVE})"),
        ({"\udc80": 1}, rf'"\udc80": unknown setting ({REMOVE})'),
    ],
)
def test_mistakes_in_a_pool(setting: dict[str, Any], message: str) -> None:
    pool = {"name": "a", "adapter": "my_app", **setting}
    name = pool["name"].replace("\udc80", r"\udc80")
    with pytest.raises(ConfigError) as caught:
        load_terms({"pools": [pool]}, "/base")
    shown = name if len(name) <= 60 else name[:57] + "..."
    assert str(caught.value) == f'the configuration: pools[0] "{shown}": {message}'


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"x": None}, ".x: nil cannot be written here (leave the argument out)"),
        (
            {"not an identifier": 1},
            '."not an identifier": this cannot be the name of a keyword argument',
        ),
        (
            [1, {"x": b""}],
            "[1].x: expected a string, a 64-bit integer, a finite float, a boolean, "
            "a list or a table, found bytes",
        ),
        ({"x": {"\udc80": 1}}, ".x: a key is not valid Unicode"),
        (
            [2**63],
            "[0]: expected a string, a 64-bit integer, a finite float, a boolean, "
            "a list or a table, found 9223372036854775808",
        ),
        (
            [float("inf")],
            "[0]: expected a string, a 64-bit integer, a finite float, a boolean, "
            "a list or a table, found inf",
        ),
        ("x", ': expected a table (keyword arguments) or a list (positional arguments), found "x"'),
    ],
)
def test_mistakes_in_arguments(value: Any, message: str) -> None:
    pool = {"name": "a", "adapter": "my_app:Model", "adapter_args": value}
    with pytest.raises(ConfigError) as caught:
        load_terms({"pools": [pool]}, "/base")
    assert str(caught.value) == f'the configuration: pools[0] "a": adapter_args{message}'


def test_mistakes_between_tables() -> None:
    tree = {
        "profiles": {"process": {}, "": {}, "threads": {"kind": 3}, "other": 3},
        "pools": [
            {"name": "a", "adapter": "b"},
            {"name": "a", "adapter": "b", "worker_profile": "threads"},
            "c",
        ],
    }
    with pytest.raises(ConfigError) as caught:
        load_terms(tree, "/base")
    assert [str(problem) for problem in caught.value.problems] == [
        'profiles "process": this is the name of a built-in profile (choose another name)',
        'profiles "": expected "process", "thread" or the name of a profile, found ""',
        'profiles "threads": kind: expected "process", "thread" or the name of another profile, '
        "found 3",
        'profiles "other": expected a table, found 3',
        'pools[1] "a": name: pools[0] has this name too',
        'pools[2]: expected a table, found "c"',
    ]


def test_profiles_that_end_at_no_kind() -> None:
    tree = {
        "profiles": {
            "base": {"kind": "proces"},
            "on_base": {"kind": "base"},
            "a": {"kind": "b"},
            "b": {"kind": "c"},
            "c": {"kind": "a"},
            "on_circle": {"kind": "a"},
            "self": {"kind": "self"},
            "fine": {"kind": "thread"},
        },
        "pools": [{"name": "a", "adapter": "b", "worker_profile": "fine"}],
    }
    with pytest.raises(ConfigError) as caught:
        load_terms(tree, "/base")
    hint = '(have one of them build on "process" or "thread")'
    assert [str(problem) for problem in caught.value.problems] == [
        'profiles "base": kind: no profile is named "proces" (did you mean process?)',
        'profiles "a": kind: the profile builds on itself ("a" -> "b" -> "c" -> "a") ' + hint,
        'profiles "b": kind: the profile builds on itself ("b" -> "c" -> "a" -> "b") ' + hint,
        'profiles "c": kind: the profile builds on itself ("c" -> "a" -> "b" -> "c") ' + hint,
        'profiles "self": kind: the profile builds on itself ("self" -> "self") ' + hint,
    ]


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("memory_limit_mb", "512MiB", "write 512"),
        ("memory_limit_mb", "0.5 gb", "write 477, which is 0.5 gb rounded up"),
        ("memory_limit_mb", "2G", "write 2048"),
        ("memory_limit_mb", "512", "write 512, without quotes"),
        ("memory_limit_mb", "unlimited", 'write "infinity"'),
        ("memory_limit_mb", "0MiB", ""),
        ("memory_limit_mb", "512 parrots", ""),
        ("memory_limit_mb", "30s", ""),
        ("pool_size", "4", "write 4, without quotes"),
        ("pool_size", "4MiB", ""),
        ("max_queue_size", "9" * 18, f"write {'9' * 18}, without quotes"),
        ("recycle_jitter", "10%", "write 10"),
        ("recycle_jitter", "110%", ""),
        ("startup_batch_delay_ms", "1.5s", "write 1500"),
        ("min_workers", "2", "write 2, without quotes"),
        ("call_timeout", "30 sec", 'write "30s"'),
        ("call_timeout", "90 Seconds", 'write "90s"'),
        ("call_timeout", "1h30m", 'write "90m"'),
        ("call_timeout", "1 hour, 30 minutes and 1s", 'write "5401s"'),
        ("call_timeout", "2.50 hrs", 'write "2.5h"'),
        ("call_timeout", "30", 'write "30s" for seconds, or 30 for milliseconds'),
        ("call_timeout", "0", "units: ms, s, m, h, d"),
        ("cancel_grace_period", "0", 'write "0s" for seconds, or 0 for milliseconds'),
        ("call_timeout", "never", 'write "infinity"'),
        ("call_timeout", "Infinity", 'write "infinity"'),
        ("worker_max_requests", "INFINITY", 'write "infinity"'),
        ("cancel_grace_period", "never", "units: ms, s, m, h, d"),
        ("call_timeout", "0 sec", "units: ms, s, m, h, d"),
        ("call_timeout", "1h30", "units: ms, s, m, h, d"),
        ("call_timeout", "x1h30m", "units: ms, s, m, h, d"),
        ("call_timeout", "9" * 15 + "d1d", "units: ms, s, m, h, d"),
    ],
)
def test_amounts_that_are_written_otherwise(name: str, value: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_terms({"pools": [{"name": "a", "adapter": "b", name: value}]}, "/base")
    (problem,) = caught.value.problems
    assert problem.hint == hint


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("64mb", 'write "64MB"'),
        ("64M", 'write "64MiB"'),
        ("64  MiB", 'write "64MiB"'),
        ("1.5GiB", 'write "1536MiB"'),
        ("0.7MB", "write 700000"),
        ("64 parrots", "units: B, KiB, MiB, GiB, KB, MB, GB"),
        ("64G", "units: B, KiB, MiB, GiB, KB, MB, GB"),
    ],
)
def test_sizes_that_are_written_otherwise(value: str, hint: str) -> None:
    tree = {
        "supervisor": {"max_frame_bytes": value},
        "pools": [{"name": "a", "adapter": "b"}],
    }
    with pytest.raises(ConfigError) as caught:
        load_terms(tree, "/base")
    (problem,) = caught.value.problems
    assert problem.hint == hint


def test_what_a_setting_is_called_elsewhere_names_one_that_there_is() -> None:
    assert set(meant.POOL_SETTINGS.values()) <= POOL.settings.keys()
    assert not meant.POOL_SETTINGS.keys() & POOL.settings.keys()
