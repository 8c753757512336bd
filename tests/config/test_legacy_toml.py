"""What a TOML file with Snakepit's keys is written as: its comments, order and spacing, and why
each key changed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from snakepit_port.config import ConfigError, load_terms, load_toml
from snakepit_port.config.convert import convert_terms, convert_toml

OLD = """\
# The workers of my application.
# Ask Ada before you change them.

# Off in tests.
pooling_enabled = true # always
adapter_module = "Snakepit.Adapters.GRPCPython"
python_executable = ".venv/bin/python"   # with NumPy
grpc_port = 50051 # free on all machines

pool_queue_timeout = 300

# How many.
[pool_config] # the only one
pool_size = 4
startup_batch_size = 0x02
adapter_args = [
  "--adapter",
  "my.pkg.MyAdapter",
]

[python_thread_limits]
openblas = 1
# OpenMP gets two.
omp = 2
# The end.
"""

NEW = """\
# The workers of my application.
# Ask Ada before you change them.

[supervisor]
# Off in tests.
pooling_enabled = true  # always

[profiles.process_limits.env]
OPENBLAS_NUM_THREADS = 1  # was python_thread_limits.openblas
# OpenMP gets two.
OMP_NUM_THREADS = 2  # was python_thread_limits.omp

[[pools]]
name = "default"  # Snakepit called its only pool so
worker_profile = "process_limits"  # it has python_thread_limits
# adapter_module = "Snakepit.Adapters.GRPCPython"
#   no longer needed: Elixir code has no part in starting Python
python = ".venv/bin/python"  # was python_executable; with NumPy
# grpc_port = 50051  # free on all machines
#   no longer needed: there is no gRPC, and no network port is opened

queue_timeout = 300  # was pool_queue_timeout

# How many.
# the only one
pool_size = 4
startup_batch_size = 0x02
adapter = "my.pkg:MyAdapter"  # was pool_config.adapter_args

# The end.
"""

POOLS = """\
[snakepit]
adapter_module = "Snakepit.Adapters.GRPCPython"
pool_queue_timeout = "2s"  # for all

[[snakepit.pools]]
name = "a"  # the first
adapter_spec = "my.A"
adapter_env = { X = "1" }

# Larger.
[[snakepit.pools]]
name = "b"
adapter_spec = "my.B"
pool_queue_timeout = "5s"
[snakepit.pools.adapter_env]
Y = "2"  # two
"""

NEW_POOLS = """\
[[pools]]
# snakepit.adapter_module = "Snakepit.Adapters.GRPCPython"
#   no longer needed: Elixir code has no part in starting Python
queue_timeout = "2s"  # was snakepit.pool_queue_timeout; for all

name = "a"  # {no_default}; the first
adapter = "my:A"  # was snakepit.pools[0].adapter_spec
adapter_env = { X = "1" }
# pool_size is not set: Snakepit started two workers for each CPU, where this starts one
# python is not set: Snakepit took the python3 of the PATH, where this takes the supervisor's own

[[pools]]
# Larger.
name = "b"
adapter = "my:B"  # was snakepit.pools[1].adapter_spec
queue_timeout = "5s"  # was snakepit.pools[1].pool_queue_timeout
# two
adapter_env = {Y = "2"}
# pool_size is not set: Snakepit started two workers for each CPU, where this starts one
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.toml"
    path.write_text(OLD)
    return path


def test_comments_order_and_spacing_stay(old: Path) -> None:
    assert convert_toml(old)[0] == NEW


def test_the_result_is_the_same_and_says_nothing_more(old: Path) -> None:
    config = load_toml(old)
    old.write_text(NEW)
    assert load_toml(old) == config
    assert len(config.changes) == 10
    assert load_toml(old).changes == ()
    assert convert_toml(old) == (NEW, ())


def test_pools_keep_their_comments(old: Path) -> None:
    old.write_text(POOLS)
    no_default = (
        "calls that name no pool ran here in Snakepit, and are unknown_pool now, as none is named"
        ' "default"; give them pool: "a", or name this one "default"'
    )
    assert convert_toml(old)[0] == NEW_POOLS.replace("{no_default}", no_default)


def test_the_comment_of_a_nested_header_stays_once(old: Path) -> None:
    old.write_text(
        'pool_size = 1\n[pool_config.adapter_args]  # of the header\npython_module = "a.B"\n'
    )
    assert convert_toml(old)[0].count("of the header") == 1


ODD = """\
# The head.

adapter_module = "Snakepit.Adapters.GRPCPython" # one
pool_config = { pool_size = 4, adapter_args = ["--adapter", "a.B"] } # two
python_thread_limits.omp = 2 # three
adapters = [
  "x", # four
]
python_thread_limits.mkl = 3 # five
[heartbeat] # six
"""

NEW_ODD = """\
# The head.

[profiles.process_limits.env]
OMP_NUM_THREADS = 2  # was python_thread_limits.omp; three
MKL_NUM_THREADS = 3  # was python_thread_limits.mkl; five

[[pools]]
name = "default"  # Snakepit called its only pool so
worker_profile = "process_limits"  # it has python_thread_limits
# adapter_module = "Snakepit.Adapters.GRPCPython"  # one
#   no longer needed: Elixir code has no part in starting Python
# two
pool_size = 4
adapter = "a:B"  # was pool_config.adapter_args
# adapters = [
#   "x", # four
# ]
#   no longer needed: each pool names its own adapter; Snakepit v0.5.1 ignored it
# heartbeat  # six
#   no longer needed: it is empty
# python is not set: Snakepit took the python3 of the PATH, where this takes the supervisor's own
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_tables_in_all_their_forms(old: Path, newline: str) -> None:
    old.write_text(ODD, newline=newline)
    assert convert_toml(old)[0] == NEW_ODD


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ([".venv", "../.venv", "active"], ".venv/bin/python3"),
        (["../.venv", "active"], "../.venv/bin/python3"),
        (["active"], "{home}/active/bin/python3"),
        ([], None),
    ],
)
def test_the_interpreter_that_snakepit_found_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: list[str], found: str | None
) -> None:
    home = tmp_path / "home"
    for place in [".", *there]:
        (home / place / "bin").mkdir(parents=True)
        (home / place / "bin/python3").touch()
    monkeypatch.setenv("VIRTUAL_ENV", str(home / "active"))
    source = {"pools": [{"name": name, "adapter_spec": "a.B", "pool_size": 1} for name in "ab"]}
    expected = found and found.format(home=home)
    for pool in load_terms(source, home).pools:
        assert pool.python == (str(home / expected) if expected else sys.executable)
    text, _ = convert_terms(source, home)
    line = f'python = "{expected}"  # Snakepit found it by itself'
    assert text.count(line) == (2 if found else 0)
    assert text.count("# python is not set: ") == (0 if found else 1)
    moved, _ = convert_terms(source, home, tmp_path)
    if expected and not os.path.isabs(expected):
        expected = os.path.normpath(f"home/{expected}")
    assert moved.count(f'python = "{expected}"') == (2 if found else 0)


def test_the_interpreter_that_the_environment_names_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNAKEPIT_PYTHON", "/opt/bin/python3.12")
    source = {"adapter_spec": "a.B"}
    assert load_terms(source, tmp_path).pools[0].python == "/opt/bin/python3.12"
    source["python_executable"] = "/opt/bin/python3.13"
    assert load_terms(source, tmp_path).pools[0].python == "/opt/bin/python3.13"


def test_relative_paths_follow_the_file(old: Path, tmp_path: Path) -> None:
    moved, _ = convert_toml(old, tmp_path / "config")
    assert 'python = "../.venv/bin/python"  # was python_executable' in moved
    source = {
        "adapter_module": "Elixir.Snakepit.Adapters.GRPCPython",
        "python_path": ["lib", "/x"],
    }
    moved, _ = convert_terms({**source, "python_executable": "python3"}, tmp_path, tmp_path / "a/b")
    assert 'python_path = ["../../lib", "/x"]' in moved
    assert 'python = "python3"' in moved


def test_mistakes_have_the_lines_of_the_keys_that_were_written(old: Path) -> None:
    old.write_text(OLD.replace("300", '"soon"').replace("pool_size = 4", "pool_sise = 4"))
    with pytest.raises(ConfigError) as caught:
        convert_toml(old)
    assert [(problem.line, problem.place) for problem in caught.value.problems] == [
        (10, "pool_queue_timeout"),
        (14, "pool_config.pool_sise"),
    ]
    assert caught.value.problems[1].hint == "did you mean pool_size?"


def test_comments_in_an_array_that_does_not_stay_one(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text(
        """
[snakepit]
adapter_args = [
  "--adapter", # which
  # the model
  "my_app.Adapter",  # "ours" # twice
]
pool_size = 4
"""
    )
    lines = convert_toml(path)[0].splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("adapter = "))
    assert lines[at - 3 : at] == ["# which", "# the model", '# "ours" # twice']


def test_pools_in_an_array_keep_their_comments(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text(
        """
[snakepit]
pools = [
  # first
  { name = "a#", adapter_spec = "a.B" }, # behind a
  # second
  { name = "b", adapter_spec = "a.B" } , { name = "default", adapter_spec = "a.B" },
  # after all
] # end
"""
    )
    lines = convert_toml(path)[0].splitlines()
    at = lines.index('name = "a#"')
    assert lines[at - 3 : at] == ["[[pools]]", "# first", "# behind a"]
    at = lines.index('name = "b"')
    assert lines[at - 2 : at] == ["[[pools]]", "# second"]
    assert lines[lines.index('name = "default"') - 1] == "[[pools]]"
    assert lines[-2:] == ["# after all", "# end"]


def test_names_cannot_break_out_of_a_comment(tmp_path: Path) -> None:
    source = {
        "grpc_host": "a\nb",
        "pools": [{"name": "x\ny\x7f", "adapter_spec": "a.B", "log_level": "\x7f"}],
    }
    text, _ = convert_terms(source, tmp_path)
    path = tmp_path / "new.toml"
    path.write_text(text)
    assert load_toml(path).pools[0].name == "x\ny\x7f"


def test_what_is_not_snakepits_has_nothing_to_convert(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to convert"):
        convert_terms({"pools": [{"name": "a", "adapter": "b"}]}, tmp_path)


def test_a_pool_of_a_map_begins_with_its_name(tmp_path: Path) -> None:
    pool = {"adapter_spec": "a:A", "name": "one", "pool_size": 1}
    text, _ = convert_terms({"pools": [pool]}, tmp_path)
    assert text.index("name =") < text.index("adapter =") < text.index("pool_size =")
