"""The JSON Schema of source files, which gives editors completion and descriptions."""

from __future__ import annotations

import json
from typing import Any

from pipeline.registry.sections import WORDS
from pipeline.registry.source import SourceRegistry


def registry_schema() -> dict[str, Any]:
    """The schema as JSON-ready data; `registries/schema.json` holds `registry_schema_text()`."""
    schema = SourceRegistry.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "facefold source"
    schema["properties"]["benchmark"]["anyOf"].insert(0, {"type": "string", "minLength": 1})
    of_rules = schema["$defs"]["Rule"]["properties"]
    for field, word in WORDS.items():
        of_rules[field].pop("default")
        for properties in (schema["properties"], of_rules):
            choices = properties[field]["anyOf"]
            choices[choices.index({"type": "null"})] = {"const": word}
    return schema


def registry_schema_text() -> str:
    """The schema as it is checked in."""
    return json.dumps(registry_schema(), indent=2, ensure_ascii=False) + "\n"
