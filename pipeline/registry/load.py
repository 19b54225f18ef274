"""YAML file -> SourceRegistry, or every fault of the file at once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError, create_model

from pipeline.errors import RegistryError
from pipeline.registry.checks import CHECKS, Fault
from pipeline.registry.sections import WORDS, one_of
from pipeline.registry.skeleton import FILL
from pipeline.registry.source import SourceRegistry
from pipeline.registry.strict_yaml import read_yaml
from pipeline.text import redacted


def registries_dir() -> Path:
    """The folder of the registries that ship with facefold: a checkout's, or the wheel's."""
    package = Path(__file__).parents[1]
    wheel, checkout = package / "_registries", package.parent / "registries"
    return wheel if wheel.is_dir() else checkout


def registry_files() -> dict[str, Path]:
    """Id -> file. Files in the folder that FACEFOLD_REGISTRIES names go before shipped ones."""
    folders = [registries_dir()]
    if own := os.environ.get("FACEFOLD_REGISTRIES"):
        if not Path(own).is_dir():
            raise RegistryError(
                [f"FACEFOLD_REGISTRIES: got {own}, expected a folder of <source>.yaml files"]
            )
        folders.append(Path(own))
    files = {file.stem: file for folder in folders for file in folder.glob("*.yaml")}
    return dict(sorted(files.items()))


def list_registries() -> list[SourceRegistry]:
    """Every registry, by id. Raises RegistryError with the faults of all of them."""
    files = registry_files().values()
    faults = [fault for file in files for fault in registry_faults(file)]
    if faults:
        raise RegistryError(faults)
    return [load_registry(file) for file in files]


def load_registry(path_or_id: Path | str) -> SourceRegistry:
    """The registry in a YAML file, or the one with this id.

    Raises RegistryError with every fault as `file: field: got X, expected Y`.
    """
    file = _file_of(path_or_id)
    faults = registry_faults(file)
    if faults:
        raise RegistryError(faults)
    return SourceRegistry.model_validate(read_yaml(file))


def public_name(name: str, known: Mapping[str, SourceRegistry]) -> str:
    """`source:subject` as outputs name the person: with a pseudonym where the source uses them.

    `known` are registries by id; others are looked up among those that can be named by an id.
    """
    source, _, subject = name.partition(":")
    registry = known.get(source)
    if registry is None and source in registry_files():
        registry = load_registry(source)
    if registry is None or "{subject}" in subject or "\\" in subject:  # still to be filled in
        return name
    return f"{source}:{registry.person(subject)}"


def registry_faults(file: Path) -> list[str]:
    """Every fault of a registry file, as `file: field: got X, expected Y`."""
    try:
        data = read_yaml(file)
    except RegistryError as error:
        return list(error.faults)
    faults = list(_faults(data))
    if all(fault.field != "id" for fault in faults) and data["id"] != file.stem:
        faults.append(Fault("id", data["id"], f"{file.stem}, as the file is called"))
    return [
        f"{file}: {fault.field}: got {fault.got}, expected {fault.expected}" for fault in faults
    ]


def _file_of(path_or_id: Path | str) -> Path:
    if "://" in str(path_or_id):
        raise RegistryError([f"{redacted(str(path_or_id))}: got a URL, expected an id or a file"])
    path = Path(path_or_id)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return path
    files = registry_files()
    if str(path_or_id) not in files:
        known = one_of(str(path_or_id), list(files))
        raise RegistryError([f"{path_or_id}: id: got no such source, expected a file or {known}"])
    return files[str(path_or_id)]


def _faults(data: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults of single fields, then those between the fields that are sound."""
    unsound: set[Any] = set()
    try:
        SourceRegistry.model_validate(data)
    except ValidationError as error:
        items = error.errors()
        inside = {item["loc"][:-1] for item in items}
        for item in items:
            # a list counts as too short when its only items are at fault
            if item["type"] == "too_short" and item["loc"] in inside:
                continue
            unsound.add(item["loc"][0])
            yield field_fault(item, SourceRegistry)
    for needed, check in CHECKS:
        if not unsound.intersection(needed):
            yield from check(_partial_model(needed).model_validate(data))


@cache
def _partial_model(names: tuple[str, ...]) -> type[BaseModel]:
    """SourceRegistry reduced to some of its fields, blind to the others."""
    fields = SourceRegistry.model_fields
    chosen: Any = {name: (fields[name].annotation, fields[name]) for name in names}
    part: type[BaseModel] = create_model("Part", **chosen)
    return part


_EXPECTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "float_type": "a number",
    "int_type": "a whole number",
    "model_type": "a mapping of fields",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "too_short": "at least one",
}


def field_fault(item: Any, of: type[BaseModel]) -> Fault:
    """An error that pydantic found in the data of `of`, in this project's words."""
    loc, kind, got = item["loc"], item["type"], item["input"]
    model = _model_at(loc[:-1], of)
    where = ".".join(str(part) for part in loc)
    if kind == "missing":
        field = model.model_fields.get(str(loc[-1]))
        if field is None:
            return Fault(where, "nothing", "one more value")
        return Fault(where, "nothing", f"this field: {field.description or 'a section'}")
    if kind == "extra_forbidden":
        return Fault(where, "an unknown field", one_of(str(loc[-1]), list(model.model_fields)))
    context = item.get("ctx", {})
    if kind == "value_error":
        expected = str(context["error"])
    elif kind == "literal_error":
        expected = context["expected"].replace("'", "").replace("True, False", "true, false")
    elif kind == "string_pattern_mismatch":
        expected = f"text like {context['pattern']}"
    else:
        expected = _EXPECTED.get(kind, item["msg"].removeprefix("Input should be "))
    if kind == "string_type" and isinstance(got, (int, float, bool)):
        expected += f': quote it, "{got}"'
    word = WORDS.get(str(loc[0])) if of is SourceRegistry and got == FILL else None
    if word is not None:
        expected += f", or {loc[0]}: {word}"
    return Fault(where, _short(got), expected)


def _short(value: Any) -> str:
    text = redacted(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= 80 else text[:77] + "…"


def _model_at(loc: tuple[Any, ...], model: type[BaseModel]) -> type[BaseModel]:
    """The model that holds the field at `loc` of a `model`."""
    for part in loc:
        if part in model.model_fields:
            model = model_in(model.model_fields[part].annotation) or model
    return model


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field of this type holds, alone or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for arg in get_args(annotation) if (m := model_in(arg))), None)
