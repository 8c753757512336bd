"""Whole configurations in and out: what is valid loads, what is not says where."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from config_trees import POOL_SETTINGS, Atom, as_term, few, no_nul, quick, trees
from hypothesis import given
from hypothesis import strategies as st

from snakepit_port.config import (
    Config,
    ConfigError,
    PoolSettings,
    Profile,
    ProfileSettings,
    check,
    kinds,
    load_terms,
    load_toml,
    load_toml_text,
)
from snakepit_port.config.dump import resolved
from snakepit_port.config.model import available_cpus
from snakepit_port.config.settings import POOL, SUPERVISOR

MINIMAL = {"pools": [{"name": "default", "adapter": "my_app.adapter"}]}


def pool_of(**settings: Any) -> PoolSettings:
    tree = {"pools": [{"name": "default", "adapter": "my_app.adapter", **settings}]}
    return load_terms(tree, "/base").pools[0]


def mistakes_of(term: object) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        load_terms(term, "/base")
    return [(problem.place, problem.message) for problem in caught.value.problems]


# -- what is valid -----------------------------------------------------------------------------


@few
@given(st.data(), trees())
def test_toml_and_terms_say_the_same(data: st.DataObject, tree: dict[str, Any]) -> None:
    from_toml = load_toml_text(tomlkit.dumps(tree), "/base", "x.toml")
    assert isinstance(from_toml, Config)
    assert len(from_toml.pools) == len(tree["pools"])
    assert load_terms(data.draw(as_term(tree)), "/base") == from_toml


@few
@given(trees())
def test_the_resolved_configuration_loads_as_the_same(tree: dict[str, Any]) -> None:
    config = load_terms(tree, "/base")
    text = resolved(config)
    assert load_toml_text(text, "/elsewhere") == config
    for pool in tomlkit.parse(text).unwrap()["pools"]:
        assert list(pool) == list(POOL.settings)


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNAKEPIT_PYTHON", raising=False)
    config = load_terms(MINIMAL, "/base")
    assert config.supervisor.max_frame_bytes == 64 * 1024 * 1024
    assert config.supervisor.shutdown_grace_period == 5.0
    pool = config.pools[0]
    assert pool.pool_size == available_cpus() >= 1
    assert pool.python == sys.executable
    assert (pool.queue_timeout, pool.call_timeout, pool.max_queue_size) == (5.0, 60.0, 1000)
    assert config.profile_of(pool) == Profile("process")


def test_the_default_interpreter_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SNAKEPIT_PYTHON", "python3.12")
    assert pool_of().python == "python3.12"
    monkeypatch.setenv("SNAKEPIT_PYTHON", "venv/bin/python")
    assert pool_of().python == os.path.join(os.getcwd(), "venv/bin/python")
    assert pool_of(python="/usr/bin/python3").python == "/usr/bin/python3"


def test_terms_become_plain_values() -> None:
    pool = pool_of(
        adapter="my_app:Model",
        adapter_args=[(Atom("mode"), Atom("fast")), (Atom("opts"), [(Atom("depth"), 2)])],
        adapter_env=[(Atom("A"), Atom("b")), ("N", 3)],
        call_timeout=(1.5, Atom("hours")),
        queue_timeout=Atom("infinity"),
    )
    assert pool.adapter_args == {"mode": "fast", "opts": {"depth": 2}}
    assert isinstance(pool.adapter_args, dict)
    assert type(pool.adapter_args["mode"]) is str
    assert type(next(iter(pool.adapter_args))) is str
    assert pool.adapter_env == {"A": "b", "N": "3"}
    assert type(pool.adapter_env["A"]) is str
    assert (pool.call_timeout, pool.queue_timeout) == (5400.0, math.inf)


def test_an_empty_keyword_list_is_an_empty_table() -> None:
    config = load_terms({**MINIMAL, "supervisor": [], "profiles": []}, "/base")
    assert config == load_terms(MINIMAL, "/base")
    assert pool_of(adapter_env=[]).adapter_env == {}
    assert pool_of(adapter_args=[]).adapter_args == ()


def test_paths_start_from_the_folder_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "snakepit.toml"
    file.write_bytes(
        b"\xef\xbb\xbf[[pools]]\r\nname = 'a'\r\nadapter = 'a.b'\r\npython = '.venv/bin/python'\r\n"
        b"python_path = ['lib', '/opt/lib', '../shared']\r\n"
    )
    pool = load_toml(file).pools[0]
    assert pool.python == f"{tmp_path}/.venv/bin/python"
    assert pool.python_path == (f"{tmp_path}/lib", "/opt/lib", f"{tmp_path}/../shared")
    assert pool_of(python="python3.12").python == "python3.12"


def test_paths_start_from_the_folder_itself_where_a_link_leads_to_it(tmp_path: Path) -> None:
    """As of an application's `priv` in `_build`; Python takes `priv/..` for `_build`."""
    (tmp_path / "app/priv").mkdir(parents=True)
    (tmp_path / "build").mkdir()
    (tmp_path / "build/priv").symlink_to("../app/priv")
    (tmp_path / "app/priv/pools.toml").write_text(
        "[[pools]]\nname = 'a'\nadapter = 'a.b'\npython = '../.venv/bin/python'\n"
    )
    pool = load_toml(tmp_path / "build/priv/pools.toml").pools[0]
    assert pool.python == f"{tmp_path}/app/priv/../.venv/bin/python"
    venv.create(tmp_path / "app/.venv", symlinks=True)
    prefix = "import sys; print(sys.prefix)"
    found = subprocess.run([pool.python, "-c", prefix], capture_output=True, text=True).stdout
    assert os.path.normpath(found.strip()) == f"{tmp_path}/app/.venv"


@pytest.mark.parametrize("folder", ["/caf\udce9", "/a\0b"])
def test_a_path_that_starts_from_a_folder_with_an_impossible_name_is_a_mistake(
    folder: str,
) -> None:
    settings = {"python": "bin/python", "python_path": ["lib", "/whole"]}
    tree = {"pools": [{**MINIMAL["pools"][0], **settings}]}
    with pytest.raises(ConfigError) as caught:
        load_terms(tree, folder)
    assert [problem.place for problem in caught.value.problems] == [
        'pools[0] "default": python',
        'pools[0] "default": python_path[0]',
    ]
    assert "the path starts from" in str(caught.value)
    assert "give the whole path" in str(caught.value)
    str(caught.value).encode()
    assert load_terms(MINIMAL, folder) == load_terms(MINIMAL, "/base")


def test_a_file_with_an_impossible_name_is_told_of_in_utf_8(tmp_path: Path) -> None:
    for text in (None, "[[pools]"):
        path = tmp_path / "caf\udce9.toml"
        if text is not None:
            path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_toml(path)
        assert caught.value.problems[0].file == f"{tmp_path}/caf\\udce9.toml"


def test_a_named_profile_is_found() -> None:
    profiles = {"gpu": {"env": {"CUDA_VISIBLE_DEVICES": 0}}}
    pools = [{"name": "a", "adapter": "b", "worker_profile": "gpu"}]
    config = load_terms({"profiles": profiles, "pools": pools}, "/base")
    gpu = ProfileSettings(name="gpu", env={"CUDA_VISIBLE_DEVICES": "0"})
    assert config.profile_of(config.pools[0]) == Profile("process", (gpu,))


def test_no_way_from_profile_to_profile_is_gone_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def as_table(value: object) -> Any:
        asked.append(value)
        return kinds.as_table(value)

    monkeypatch.setattr(check, "as_table", as_table)
    count = 200
    profiles = {f"p{n}": {"kind": f"p{n + 1}"} for n in range(count)} | {f"p{count}": {}}
    pools = [{"name": "a", "adapter": "b", "worker_profile": "p0"}]
    config = load_terms({"profiles": profiles, "pools": pools}, "/base")
    profile = config.profile_of(config.pools[0])
    assert [named.name for named in profile.named] == [f"p{n}" for n in range(count, -1, -1)]
    assert len(asked) < 4 * count


# -- what is not -------------------------------------------------------------------------------

# Nothing takes these: a float that no setting is, bytes, a tuple with no unit, a set, nil.
WRONG: st.SearchStrategy[Any] = st.sampled_from(
    [2.5, b"bytes", (1, "fortnights"), {1}, None, (), -1, 10**30, "\udc80", "\0", {"=": {1}}]
)


@few
@given(st.data(), trees())
def test_a_corrupted_setting_is_named(data: st.DataObject, tree: dict[str, Any]) -> None:
    index = data.draw(st.integers(0, len(tree["pools"]) - 1))
    key = data.draw(st.sampled_from(sorted(POOL.settings)))
    tree["pools"][index][key] = data.draw(WRONG)
    assert any(
        place.startswith(f"pools[{index}]") and f": {key}" in place
        for place, _ in mistakes_of(tree)
    )


@few
@given(st.data(), trees())
def test_a_misspelt_setting_is_recognised(data: st.DataObject, tree: dict[str, Any]) -> None:
    key = data.draw(st.sampled_from(sorted(POOL_SETTINGS)))
    position = data.draw(st.integers(1, len(key) - 1))
    misspelt = key[:position] + key[position + 1 :]
    tree["pools"][-1][misspelt] = data.draw(POOL_SETTINGS[key])
    with pytest.raises(ConfigError) as caught:
        load_toml_text(tomlkit.dumps(tree), "/base", "x.toml")
    (problem,) = caught.value.problems
    assert problem.place.endswith(f": {misspelt}")
    assert (problem.message, problem.hint) == ("unknown setting", f"did you mean {key}?")
    assert problem.line is not None


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | no_nul.map(Atom)
    | st.binary()
    | st.just(10**30)
    | st.just("\udc80")
    | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.sampled_from(sorted(POOL.settings)), inner)
    ),
    max_leaves=10,
)


@few
@given(st.data(), trees(), anything)
def test_no_term_raises_anything_else(
    data: st.DataObject, tree: dict[str, Any], term: object
) -> None:
    place: Any = tree
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        keys = [*keys, *([] if isinstance(place, list) else sorted(SUPERVISOR.settings))]
        key = data.draw(st.sampled_from(keys))
        inside = place[key] if isinstance(place, list) or key in place else None
        if not (isinstance(inside, dict | list) and inside and data.draw(st.booleans())):
            place[key] = term
            break
        place = inside
    try:
        config = load_terms(tree, "/base")
    except ConfigError as error:
        str(error).encode()
        str(error.as_term()).encode()
    else:
        assert load_toml_text(resolved(config), "/base") == config


toml_lines = st.builds(
    str.format,
    st.sampled_from(["[{0}]\n", "[[{0}]]\n", "{0} = {1}\n"]),
    st.sampled_from(["supervisor", "pools", "a", "a.b", "pools.a", '"a"', "''"]),
    st.sampled_from(["1", "[]", "{}", "{a=1,a=2}", "[{a=1}]", "25:61:61", "1e999", "nan"]),
)


@quick
@given(
    st.lists(toml_lines, max_size=5).map("".join)
    | st.text()
    | st.text("[]{}=.,#'\"\\\n ab1", max_size=30)
)
def test_no_text_raises_anything_else(text: str) -> None:
    with pytest.raises(ConfigError):
        load_toml_text(text, "/base")


def test_terms_that_are_no_tree() -> None:
    nested: Any = []
    for _ in range(5000):
        nested = [nested]
    too_deep = {"pools": [{"name": "a", "adapter": "a:B", "adapter_args": nested}]}
    assert mistakes_of(too_deep) == [("pools[0]: adapter_args", "nested too deeply")]
    assert mistakes_of(3) == [("", "expected a map or a keyword list, found 3")]
    assert mistakes_of([]) == [("", "the configuration is empty")]
    twice = [("name", "a"), ("name", "b"), ("adapter", "c")]
    assert mistakes_of({"pools": [twice]}) == [('pools[0] "a": name', "set twice")]
    odd_key: dict[Any, Any] = {**MINIMAL, 1: 2}
    assert mistakes_of(odd_key) == [("", "expected keys to be atoms or binaries, found 1")]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"# one\n# caf\xe9\n")
    expected: dict[Path, str] = {
        tmp_path / "missing.toml": "there is no such file",
        tmp_path: "the file cannot be read: Is a directory",
        tmp_path / "a\0b": "the file cannot be read: embedded null byte",
        latin: "line 2, the file is not UTF-8 text",
    }
    for path, message in expected.items():
        with pytest.raises(ConfigError) as caught:
            load_toml(path)
        assert str(caught.value) == f"{path}: {message}"
