"""As much of a JSON schema validator as the schema of configurations needs."""

from __future__ import annotations

import re
from typing import Any

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
}
KNOWN = {
    *("$schema", "title", "description", "type", "properties", "additionalProperties", "required"),
    *("items", "enum", "const", "anyOf", "pattern", "minLength", "minimum", "maximum"),
}


def misfits(value: Any, schema: dict[str, Any], place: str = "") -> list[str]:
    """The places in *value* that *schema* does not take. Asserts that it knows every keyword."""
    assert set(schema) <= KNOWN, schema
    wanted = schema.get("type", [])
    if wanted and not any(_is(value, word) for word in _listed(wanted)):
        return [f"{place}: {value!r} is not {wanted}"]
    if "enum" in schema and not any(value is word or value == word for word in schema["enum"]):
        return [f"{place}: {value!r} is none of {schema['enum']}"]
    if "const" in schema and value != schema["const"]:
        return [f"{place}: {value!r} is not {schema['const']!r}"]
    if "anyOf" in schema and all(misfits(value, inner) for inner in schema["anyOf"]):
        return [f"{place}: {value!r} fits none"]
    if isinstance(value, str):
        long = len(value) >= schema.get("minLength", 0)
        if not long or not re.search(schema.get("pattern", ""), value):
            return [f"{place}: {value!r} does not match"]
    if isinstance(value, int) and not isinstance(value, bool):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        return [] if low <= value <= high else [f"{place}: {value} is not {low} to {high}"]
    if isinstance(value, list):
        return [
            found
            for index, item in enumerate(value)
            for found in misfits(item, schema.get("items", {}), f"{place}[{index}]")
        ]
    if isinstance(value, dict):
        return _table(value, schema, place)
    return []


def _table(value: dict[str, Any], schema: dict[str, Any], place: str) -> list[str]:
    found = [f"{place}.{name}: missing" for name in schema.get("required", ()) if name not in value]
    others = schema.get("additionalProperties", {})
    for name, item in value.items():
        inner = schema.get("properties", {}).get(name, others)
        if inner is False:
            found.append(f"{place}.{name}: unknown")
        else:
            found += misfits(item, inner, f"{place}.{name}")
    return found


def _listed(wanted: str | list[str]) -> list[str]:
    return [wanted] if isinstance(wanted, str) else wanted


def _is(value: Any, word: str) -> bool:
    if word == "integer" and isinstance(value, bool):
        return False
    return isinstance(value, TYPES[word])
