"""The page of all settings, made from their definitions.

``python -m snakepit_port.config.reference`` writes it next to this module.
"""

from __future__ import annotations

from pathlib import Path

import tomlkit

from snakepit_port.config.settings import SECTIONS, Section, Setting

PAGE = Path(__file__).with_name("REFERENCE.md")

HEAD = """\
# Settings

A configuration is a TOML file, or the same keys as Erlang terms: maps or keyword lists, with atoms
or binaries as keys and strings. This page is made from the definitions of the settings by
`python -m snakepit_port.config.reference`.

Relative paths start from the folder of the file. A duration is a string with a unit (`ms`, `s`,
`m`, `h`, `d`) or an integer of milliseconds; in terms it may also be a tuple such as
`{3600, :seconds}`. In terms, `"infinity"` may be the atom.

Configurations of Snakepit v0.5 and v0.6 are taken, too: `snakepit-port convert --report` shows what
becomes of each key. Editors with Taplo check files that begin with the line `#:schema` and the path
of `schema.json`, which is beside this page.

A worker's environment has these layers, and later ones win: what is inherited (`inherit_env`), the
defaults of the profile's kind, the `env` of the profiles it builds on and of the named profile
itself, the pool's `adapter_env`.
"""


def reference() -> str:
    """The page, as Markdown."""
    return "\n".join([HEAD, *(line for section in SECTIONS.values() for line in _section(section))])


def _section(section: Section) -> list[str]:
    title = {"pools": "[[pools]]"}.get(section.title, f"[{section.title}]")
    lines = [f"## `{title}`", "", section.doc, ""]
    for setting in section.settings.values():
        lines += [
            f"### `{setting.name}`",
            "",
            setting.doc,
            "",
            f"- Takes: {setting.kind.expects}",
            f"- Default: {_default(section, setting)}",
            "",
        ]
    return lines


def _default(section: Section, setting: Setting) -> str:
    if section.is_required(setting):
        return "none; it has to be set"
    if setting.default:
        return setting.default
    value = setting.kind.dump(section.default_of(setting))
    return f"`{tomlkit.item(value).as_string() if value != {} else '{}'}`"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
