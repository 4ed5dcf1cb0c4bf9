"""The JSON Schema of configurations, made from the table that they are checked by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pycomnet.ext.workflow.stepkinds import COMMON, KINDS, LONGEST, TABLES, Field

_STEPS = {"type": "array", "items": {"$ref": "#/$defs/step"}}
_EXPRESSION = {"type": "string", "pattern": r"^\$\{"}
_TEXTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}

#: The type of a field -> its schema, for types that are neither tables nor have limits.
_TYPES: Mapping[str, Any] = {
    "text": {"type": "string", "minLength": 1},
    "name": {"type": "string", "minLength": 1, "pattern": r"^[^/\[\]!~]+$"},
    "template": {"type": "string"},
    "bool": {"type": "boolean"},
    "any": {},
    "plain": {},
    "texts": _TEXTS,
    "expression": _EXPRESSION,
    "duration": {"anyOf": [{"type": "number", "minimum": 0}, _EXPRESSION]},
    "moment": {"type": ["string", "number"]},
    "cron": {"type": "string"},
    "zone": {"type": "string"},
    "missed": {"enum": ["skip", "last", "all"]},
    "steps": _STEPS,
    "branches": {
        "anyOf": [
            {"type": "array", "items": _STEPS},
            {"type": "object", "additionalProperties": _STEPS},
        ]
    },
    "choices": {"type": "array", "items": {"$ref": "#/$defs/choice"}},
    "catches": {"type": "array", "items": {"$ref": "#/$defs/catch"}},
    "schedules": {"type": "array", "items": {"$ref": "#/$defs/schedule"}},
    "tasks": {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"anyOf": [_STEPS, {"$ref": "#/$defs/task"}]},
    },
}


def schema() -> dict[str, Any]:
    """The schema of a configuration file."""
    tables = {name: _table(fields) for name, fields in TABLES.items() if name != "settings"}
    step = {"anyOf": [_table({**fields, **COMMON}) for fields in KINDS.values()]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tasks of pycomnet-workflow",
        **_table(TABLES["settings"]),
        "$defs": {**tables, "step": step},
    }


def _table(fields: Mapping[str, Field]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _field(field) for name, field in fields.items()},
        "required": [name for name, field in fields.items() if field.required],
    }


def _field(field: Field) -> dict[str, Any]:
    if field.type in TABLES:
        found: dict[str, Any] = {"$ref": f"#/$defs/{field.type}"}
    elif field.type in ("int", "number", "seconds"):
        kind = "integer" if field.type == "int" else "number"
        found = {"type": kind, "minimum": field.least}
        if field.type == "seconds":
            found = {"type": kind, "exclusiveMinimum": 0}
        if field.most != LONGEST:
            found["maximum"] = field.most
    else:
        found = dict(_TYPES[field.type])
    return {**found, "description": field.words}
