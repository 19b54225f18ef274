"""The table of a build file's fields in `docs/reference/build.md`, made from the models."""

from __future__ import annotations

import ast
import inspect
import json
from dataclasses import MISSING, fields
from itertools import pairwise
from typing import Any

from pydantic_core import PydanticUndefined

from pipeline.build.config import BuildConfig, SourceEntry
from pipeline.quality import Gates
from pipeline.registration import RegistrationOptions

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
            _section("Fields", _fields_of(BuildConfig)),
            _section("`sources`: a list, of each source", _fields_of(SourceEntry)),
            _section("`registration`", _options_of(RegistrationOptions)),
            _section("`quality`: each as `[review, reject]`", _options_of(Gates)),
        ]
    )


def _section(title: str, rows: list[tuple[str, str, str]]) -> str:
    lines = [f"| `{name}` | {default} | {meaning} |\n" for name, default, meaning in rows]
    return f"\n## {title}\n\n| field | default | what |\n|---|---|---|\n" + "".join(lines)


def _fields_of(model: Any) -> list[tuple[str, str, str]]:
    return [
        (name, _shown(field.default), field.description or "")
        for name, field in model.model_fields.items()
    ]


def _options_of(options: Any) -> list[tuple[str, str, str]]:
    """Fields of a dataclass with the texts that stand below them in its source."""
    body = ast.parse(inspect.getsource(options)).body[0].body  # type: ignore[attr-defined]
    told = {}
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            told[ast.unparse(field.target)] = " ".join(str(ast.literal_eval(text.value)).split())
    return [(f.name, _shown(f.default), told.get(f.name, "")) for f in fields(options)]


def _shown(default: Any) -> str:
    if default is PydanticUndefined or default is MISSING:
        return "must be given"
    if default is None:
        return ""
    text = json.dumps(default, default=str).replace('"', "")
    return f"`{text}`"
