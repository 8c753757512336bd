"""The table of settings against what is made from it and beside it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from config_trees import few, trees
from hypothesis import given
from json_schema import misfits

from snakepit_port.config.reference import PAGE, reference
from snakepit_port.config.schema import FILE, schema, text
from snakepit_port.config.settings import POOL, PROFILE, SECTIONS, SUPERVISOR


def test_the_model_and_the_table_have_the_same_settings() -> None:
    for section in (SUPERVISOR, PROFILE, POOL):
        from_file = {field.name for field in fields(section.model)}
        if section is PROFILE:
            from_file.remove("name")  # the key of its table
        assert set(section.settings) == from_file


def test_every_default_is_a_valid_value() -> None:
    from test_config_kinds import parse

    for section in SECTIONS.values():
        for setting in section.settings.values():
            if not section.is_required(setting):
                default = section.default_of(setting)
                assert parse(setting.kind, setting.kind.dump(default)) == default


def test_the_reference_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "run python -m snakepit_port.config.reference"
    )


def test_the_schema_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == text(), "run python -m snakepit_port.config.schema"


def test_the_schema_has_every_setting_and_no_other() -> None:
    tables = schema()["properties"]
    for section, table in (
        (SUPERVISOR, tables["supervisor"]),
        (PROFILE, tables["profiles"]["additionalProperties"]),
        (POOL, tables["pools"]["items"]),
    ):
        assert list(table["properties"]) == list(section.settings)
        assert table["additionalProperties"] is False
        for name, setting in section.settings.items():
            assert table["properties"][name]["description"] == setting.doc
            assert (name in table["required"]) is section.is_required(setting)


@given(trees())
@few
def test_the_schema_takes_every_valid_configuration(tree: dict[str, Any]) -> None:
    assert misfits(tree, schema()) == []


@pytest.mark.parametrize(
    "tree",
    [
        {"pool": []},
        {"pools": [{"name": "a"}]},
        {"pools": [{"name": "a", "adapter": "b", "pool_size": 0}]},
        {"pools": [{"name": "a", "adapter": "b", "queue_timeout": "5 weeks"}]},
        {"pools": [{"name": "a", "adapter": "b", "start_method": "fork"}]},
        {"supervisor": {"max_frame_bytes": "100KB"}, "profiles": {"x": {"kinds": "process"}}},
    ],
)
def test_the_schema_takes_nothing_else(tree: dict[str, Any]) -> None:
    assert misfits(tree, schema()) != []


def test_the_reference_page_has_every_setting() -> None:
    page = reference()
    for section in SECTIONS.values():
        for setting in section.settings.values():
            assert f"### `{setting.name}`\n\n{setting.doc}\n" in page
