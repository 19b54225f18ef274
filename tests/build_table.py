"""The table of a build file's fields in `docs/reference/build.md`, made from the models."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pipeline.build.config import BuildConfig, SourceEntry
from pipeline.quality.thresholds import Gates
from pipeline.registry.options import StatedOptions

HEAD = """\
# The build file

Every field of `facefold build`'s YAML file, made from the code by `make schema`;
[Rebuild the unified dataset](../how_to/rebuild.md) shows one at work. Relative paths are relative
to the file. Any field can be replaced on the command line: `facefold build build.yaml workers=4`.

`~`, `${VAR}` and `$VAR` in `store`, `registry`, `root`, `model`, `embedding` and `work` are
expanded as a shell does it; a variable that is not set is a fault, and `$$` is a dollar.

A value means one thing or is refused: no text or truth value stands for a number, and what YAML 1.1
and 1.2 read differently (`010`, `5:00`, `1_000`, `1e3`, `yes`, `2024-01-01`), `.inf`, `.nan`, tags
and aliases are faults that say what to write. The same holds for registries and for values on the
command line.
"""


def build_markdown() -> str:
    """The whole page."""
    return HEAD + "".join(
        [
            section("Fields", _fields_of(BuildConfig)),
            section("`sources`: a list, of each source", _fields_of(SourceEntry)),
            section("`registration`", _fields_of(StatedOptions)),
            section("`quality`: each as `[review, reject]`", _fields_of(Gates)),
        ]
    )


def section(title: str, rows: list[tuple[str, ...]]) -> str:
    lines = [f"| `{row[0]}` | {' | '.join(row[1:])} |\n" for row in rows]
    return f"\n## {title}\n\n| field | type | default | what |\n|---|---|---|---|\n" + "".join(
        lines
    )


def _fields_of(model: type[BaseModel]) -> list[tuple[str, ...]]:
    types = model.model_json_schema()["properties"]
    return [
        (
            name,
            type_in_words(types[name]),
            _shown(field.default),
            " ".join((field.description or "").split()),
        )
        for name, field in model.model_fields.items()
    ]


TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "array": "list",
}


def type_in_words(schema: dict[str, Any]) -> str:
    """A JSON Schema in words."""
    if "anyOf" in schema:
        return next(type_in_words(one) for one in schema["anyOf"] if one != {"type": "null"})
    if "enum" in schema:
        return ", ".join(schema["enum"])
    if "prefixItems" in schema:
        return "two numbers"
    if schema.get("format") == "path":
        return "path"
    return TYPES.get(schema.get("type", ""), "fields")


def _shown(default: Any) -> str:
    if default is PydanticUndefined:
        return "must be given"
    if default is None or isinstance(default, BaseModel):
        return ""
    text = json.dumps(default, default=str).replace('"', "")
    return f"`{text}`"
