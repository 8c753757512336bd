"""The table of settings against what is made from it and beside it."""

from __future__ import annotations

from dataclasses import fields

from snakepit_port.config.reference import PAGE, reference
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


def test_the_reference_page_has_every_setting() -> None:
    page = reference()
    for section in SECTIONS.values():
        for setting in section.settings.values():
            assert f"### `{setting.name}`\n\n{setting.doc}\n" in page
