"""The tables of training configurations in `docs/reference/training.md`, made from the models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.training.config import Optimiser, TrainingConfig
from pipeline.training.system import System
from pipeline.training.systems import SYSTEMS, system_named
from tests.build_table import section, type_in_words

HEAD = """\
# Training configurations

Every key of `facefold train`'s YAML file, made from the code by `make schema`;
[Train a system](../how_to/train.md) shows them at work. A file says what is not as by default, and
`facefold train SYSTEM --defaults` prints a whole one. Nothing unknown is taken, and what is no
number is none: learning rates are written `1.0e-4`, as YAML 1.1 and 1.2 both read them. Paths are
relative to where the command is run.

Of a training that goes on from a checkpoint `steps`, `validate_every`, `save_every`,
`report_every` and `threads` may change, and no other key.
"""


def training_markdown() -> str:
    """The whole page."""
    return HEAD + "".join(
        [
            section("Keys of all systems", rows_of(TrainingConfig)),
            section("`optimiser`", rows_of(Optimiser)),
            *(_system(name, system_named(name)) for name in SYSTEMS),
        ]
    )


def _system(name: str, system: System) -> str:
    """Its own keys, and those whose default or meaning is its own; then what these hold."""
    shared = TrainingConfig.model_fields
    own = {
        key: field
        for key, field in system.config.model_fields.items()
        if key not in shared or _says(field) != _says(shared[key])
    }
    head, table = section(f"`{name}`: {system.title}", rows_of(system.config, own)).split("\n\n", 1)
    parts = [head, system.citation, table]
    inner = [
        section(f"`{key}` of `{name}`", rows_of(type(field.default))).replace("\n## ", "\n### ")
        for key, field in own.items()
        if isinstance(field.default, BaseModel) and key not in shared
    ]
    return "\n\n".join(parts) + "".join(inner)


def _says(field: FieldInfo) -> tuple[Any, str | None]:
    return field.default, field.description


def rows_of(
    model: type[BaseModel], fields: dict[str, FieldInfo] | None = None
) -> list[tuple[str, ...]]:
    """Name, type, default and meaning of each field."""
    schema = model.model_json_schema()
    return [
        (
            name,
            _type(schema["properties"][name]),
            _shown(field.default),
            _meaning(name, field),
        )
        for name, field in (fields or model.model_fields).items()
    ]


def _meaning(name: str, field: FieldInfo) -> str:
    """What it says of itself, or what the key of all systems does."""
    shared = TrainingConfig.model_fields.get(name)
    said = field.description or (shared.description if shared else None) or ""
    return " ".join(said.split()).replace("|", "\\|")


def _type(schema: dict[str, Any]) -> str:
    return "names: numbers" if "additionalProperties" in schema else type_in_words(schema)


def _shown(default: Any) -> str:
    """As YAML has it; of a section what differs from its own defaults."""
    if isinstance(default, BaseModel) and not (default := dict(_differences(default))):
        return "below"
    text = yaml.safe_dump(default, default_flow_style=True, sort_keys=False, width=10_000)
    return f"`{text.splitlines()[0]}`"


def _differences(section: BaseModel) -> Iterator[tuple[str, Any]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if value != field.default:
            yield name, value
