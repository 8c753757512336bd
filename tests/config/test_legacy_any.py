"""What holds of any configuration of Snakepit, however its keys are mixed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tomlkit
from config_trees import as_term, quick
from config_trees import few as some
from hypothesis import given, settings
from hypothesis import strategies as st
from legacy_trees import anything, legacy_trees

from snakepit_port.config import load_terms, load_toml_text
from snakepit_port.config.legacy import convert, recognised
from snakepit_port.config.legacy_rules import GROUPS
from snakepit_port.config.legacy_toml import write
from snakepit_port.config.terms import plain_tree

Path = tuple[str | int, ...]

# They are large: drawing one takes most of the time.
few = settings(some, max_examples=25)


def keys_of(tree: dict[str, Any]) -> Iterator[Path]:
    """The path of every key that is no table of keys."""
    for key, value in tree.items():
        if key == "pools" and value:
            for index, pool in enumerate(value):
                for path in keys_of(pool):
                    yield (key, index, *path)
        elif key in {"pool_config", *GROUPS} and value:
            for path in keys_of(value):
                yield (key, *path)
        elif key != "pool_config":
            yield (key,)


@given(legacy_trees())
@few
def test_it_is_a_valid_configuration(tree: dict[str, Any]) -> None:
    conversion = convert(tree)
    assert conversion.mistakes == ()
    assert recognised(tree)
    config = load_terms(tree, "/base")
    assert config.changes == conversion.changes
    assert load_terms(conversion.tree(), "/base") == config


@given(legacy_trees())
@few
def test_every_key_is_told_of_exactly_once(tree: dict[str, Any]) -> None:
    conversion = convert(tree)
    assert sorted(map(str, keys_of(tree))) == sorted(
        str(entry.path) for entry in conversion.entries
    )
    assert len({change.key for change in conversion.changes}) == len(conversion.changes)


@given(st.data())
@few
def test_atoms_and_keyword_lists_are_the_same(data: st.DataObject) -> None:
    tree = data.draw(legacy_trees())
    term = data.draw(as_term(tree))
    again = plain_tree(term, [])
    assert load_terms(term, "/base") == load_terms(tree, "/base")
    assert {change.key for change in convert(again).changes} == {
        change.key for change in convert(tree).changes
    }


@given(legacy_trees())
@few
def test_the_text_is_the_same_configuration_and_is_not_converted_again(
    tree: dict[str, Any],
) -> None:
    conversion = convert(tree)
    text = write(conversion)
    config = load_toml_text(text, "/base")
    assert config == load_terms(tree, "/base")
    assert config.changes == ()
    assert not recognised(tomlkit.parse(text).unwrap())


@given(legacy_trees())
@few
def test_a_text_keeps_its_comments(tree: dict[str, Any]) -> None:
    lines = tomlkit.dumps(_writable(tree)).split("\n")
    source = "\n".join(
        f"{line} # comment {number}" if line and line[-1] not in "[{," else line
        for number, line in enumerate(lines)
    )
    text = write(convert(tomlkit.parse(source).unwrap()), source)
    assert load_toml_text(text, "/base") == load_toml_text(source, "/base")
    for number, line in enumerate(lines):
        if line and line[-1] not in "[{,":
            assert text.count(f"comment {number}\n") == 1


def _writable(value: Any) -> Any:
    """*value* without what TOML has no word for."""
    if isinstance(value, dict):
        return {key: _writable(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_writable(item) for item in value]
    return min(value, 2**63 - 1) if isinstance(value, int) and value > 0 else value


trees = st.recursive(
    anything | st.floats() | st.binary(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.sampled_from(["pools", "pool_config", "pool_size", "adapter_args", "heartbeat"])
            | st.sampled_from(["snakepit", "supervisor", "profiles", "python_thread_limits"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["pools", "pool_config", "snakepit", "x"]), trees), trees)
@quick
def test_any_tree_at_all_is_converted(tree: dict[str, Any], port: Any) -> None:
    tree["grpc_port"] = port
    assert recognised(tree)
    convert(tree).tree()
