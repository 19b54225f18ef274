"""A system's default configuration as a file to begin with, what its keys mean beside them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from pipeline.training.config import TrainingConfig

WIDTH = 88


def default_file(kind: type[TrainingConfig], title: str) -> str:
    """YAML with comments: what `load_config` reads as the defaults."""
    return "\n".join([f"# {title}", *_lines(kind(), 0), ""])


def _lines(section: BaseModel, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, about in type(section).model_fields.items():
        value = getattr(section, name)
        for line in textwrap.wrap(about.description or "", WIDTH - len(indent)):
            yield f"{indent}# {line}"
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, depth + 1)
        else:
            plain = section.model_dump(mode="json", include={name})
            yield from (f"{indent}{line}" for line in _yaml(plain).splitlines())


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
