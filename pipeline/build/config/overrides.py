"""Fields of a build file replaced on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.errors import RegistryError
from pipeline.registry.load import model_in
from pipeline.registry.sections import one_of
from pipeline.registry.strict_yaml import yaml_value
from pipeline.text import redacted, shortened


def overridden(
    data: dict[str, Any], overrides: Sequence[str], model: type[BaseModel]
) -> tuple[Any, list[str]]:
    """The data with the overrides in their places, and what is wrong with those that have none."""
    faults = []
    for text in overrides:
        key, equals, value = text.partition("=")
        try:
            if not equals:
                raise RegistryError(["expected KEY=VALUE, such as workers=4"])
            data = _replaced(data, key.split("."), yaml_value(value, key), model)
        except RegistryError as error:
            said = shortened(redacted(text))
            faults += [f"override {said}: {fault}" for fault in error.faults]
    return data, faults


def _replaced(old: Any, keys: Sequence[str], value: Any, model: type[BaseModel] | None) -> Any:
    """`old` with the value at the place that `keys` name. `model` says which fields `old`, or each
    item of a list, may have; without one it may have any."""
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(old, list):
        if not key.isdecimal() or int(key) >= len(old):
            raise RegistryError([f"no item {key} in a list of {len(old)}; the first is 0"])
        place = int(key)
        return [*old[:place], _replaced(old[place], rest, value, model), *old[place + 1 :]]
    if not isinstance(old, dict):
        raise RegistryError([f"no field {key} in {old!r}, which holds no fields"])
    if model is None:
        return {**old, key: _replaced(old.get(key, {}), rest, value, None)}
    if key not in model.model_fields:
        raise RegistryError([f"no field {key}, expected {one_of(key, list(model.model_fields))}"])
    field = model.model_fields[key]
    before = old.get(key, dict(field.default) if isinstance(field.default, Mapping) else {})
    return {**old, key: _replaced(before, rest, value, model_in(field.annotation))}


def origin(fault: str, path: Path, overrides: Sequence[str]) -> str:
    """Who said what is at fault: the last override of the field, or the file."""
    field = fault.partition(":")[0]
    keys = {text.partition("=")[0]: text for text in overrides}
    by = [
        text
        for key, text in keys.items()
        if f"{field}.".startswith(f"{key}.") or f"{key}.".startswith(f"{field}.")
    ]
    return f"override {shortened(redacted(by[-1]))}" if by else str(path)
