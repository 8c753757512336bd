"""The JSON schema of configurations, for editors, made from the definitions of the settings.

``python -m snakepit_port.config.schema`` writes it next to this module. Editors that use Taplo
find it by a first line ``#:schema PATH/schema.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from snakepit_port.config.settings import POOL, PROFILE, SUPERVISOR, Section

FILE = Path(__file__).with_name("schema.json")


def schema() -> dict[str, Any]:
    """The schema, as draft-07 has it: what Taplo and most editors read."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of snakepit-port",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "supervisor": _table(SUPERVISOR),
            "profiles": {
                "type": "object",
                "description": PROFILE.doc,
                "additionalProperties": _table(PROFILE),
            },
            "pools": {"type": "array", "items": _table(POOL)},
        },
    }


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _table(section: Section) -> dict[str, Any]:
    settings = section.settings.values()
    return {
        "type": "object",
        "description": section.doc,
        "additionalProperties": False,
        "required": [setting.name for setting in settings if section.is_required(setting)],
        "properties": {
            setting.name: {"description": setting.doc, **setting.kind.schema()}
            for setting in settings
        },
    }


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
