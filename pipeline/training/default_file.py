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
    for name in type(section).model_fields:
        value = getattr(section, name)
        for line in textwrap.wrap(described(type(section), name), WIDTH - len(indent)):
            yield f"{indent}# {line}"
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, depth + 1)
        else:
            plain = section.model_dump(mode="json", include={name})
            yield from (f"{indent}{line}" for line in _yaml(plain).splitlines())


def described(section: type[BaseModel], name: str) -> str:
    """What a key means; where a system has a default of its own, what it means for all."""
    kinds = [kind for kind in section.__mro__ if issubclass(kind, BaseModel)]
    said = (kind.model_fields[name].description for kind in kinds if name in kind.model_fields)
    return next(filter(None, said), "")


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
