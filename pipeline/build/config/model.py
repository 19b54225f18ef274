"""The build file: which sources are folded into which store, with which model and options."""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    TypeAdapter,
    ValidationError,
)

from pipeline.errors import RegistrationError, RegistryError, StoreError
from pipeline.flame.named import MODEL_VARIABLE, STAND_IN, model_path
from pipeline.registry import SourceRegistry, load_registry, read_yaml
from pipeline.registry.load import field_fault
from pipeline.registry.sections import Number, one_of
from pipeline.registry.strict_yaml import yaml_value
from pipeline.store.form import Form
from pipeline.store.remote.objects import Place, is_url
from pipeline.store.rows import MOST_POINTS
from pipeline.store.schema import ModelTag
from pipeline.text import redacted, shortened

POINTS = ("points_mm", "normals")
"""Fields of a store that keeps points of the scans themselves."""
GONE = {"shard": "none of that name any more: `batch` says how many scans a task has; remove it"}
"""Fields of earlier releases, and what to do about them."""


VARIABLE = re.compile(r"\$(?:\$|\{(\w+)\}|([A-Za-z_]\w*))")
MOST_WORKERS, MOST_SECONDS = 1024, 86400


def expanded(path: str) -> str:
    """`~` and `${VAR}` in a path as a shell expands them; `$$` is a dollar.

    ValueError where no such user or variable is known.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$"
        if not os.environ.get(name):
            raise ValueError(f"{name} to be set in the environment; $$ is a dollar")
        return os.environ[name]

    home = os.path.expanduser(path)  # noqa: PTH111 (a Path would lose the // of a URL)
    if home.startswith("~"):
        raise ValueError("the ~ of a user that there is; ./~ begins the name of a file")
    return VARIABLE.sub(value, home)


def _path(value: Any) -> Any:
    if not isinstance(value, (str, Path)) or not str(value):
        raise ValueError("a path")
    return expanded(str(value))


LocalPath = Annotated[Path, BeforeValidator(_path)]
Text = Annotated[str, Field(min_length=1), AfterValidator(expanded)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SourceEntry(Strict):
    """A source to fold in: its registry and the folder it was delivered in."""

    registry: Text = Field(description="Id of a registry, or the path of its YAML file.")
    root: LocalPath = Field(description="The source's folder. It is read and never written.")
    licence_note: str | None = Field(
        None,
        description="How the source may be used here: which agreement, signed when and by whom, "
        "who may read what is made from it. Needed where the source may not be passed on and "
        "`store` is a URL.",
    )


class BuildConfig(Strict):
    """`facefold build`'s YAML file. Relative paths are relative to the file; `~` and `${VAR}` in
    paths are expanded."""

    store: Text = Field(
        description="The dataset: a folder, or a URL such as s3://bucket/prefix. Published "
        "versions lie below it."
    )
    sources: tuple[SourceEntry, ...] = Field(min_length=1, description="What is folded in.")
    model: LocalPath | None = Field(
        None,
        description="FLAME's model file, or `stand-in`; without it FACEFOLD_FLAME_MODEL, and the "
        "stand-in where that is unset.",
    )
    embedding: LocalPath | None = Field(
        None, description="Landmark embedding of the model, where its file has none."
    )
    work: LocalPath = Field(
        Path(".facefold"),
        description="Folder of the ledger, results, kept scans and Prefect's state; and of the "
        "store, before it is sent, where `store` is a URL.",
    )
    splits: Mapping[str, Number] = Field(
        {"train": 0.8, "val": 0.1, "test": 0.1}, description="Share of identities in each split."
    )
    seed: StrictInt = Field(0, description="Seed of the split; the same seed gives the same split.")
    registration: Mapping[str, Any] = Field(
        {}, description="Registration options for all sources; a registry's own come on top."
    )
    quality: Mapping[str, Any] = Field({}, description="Thresholds of the quality gates.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where scans are registered; `auto` is the GPU of a worker with one."
    )
    workers: StrictInt = Field(
        2,
        ge=1,
        le=MOST_WORKERS,
        description="Local worker processes, where no cluster is named.",
    )
    batch: StrictInt = Field(
        8, ge=1, le=1024, description="Scans registered together by one worker."
    )
    keep_scans: StrictBool = Field(
        True,
        description="Keep each cleaned scan in `work`, so that a changed registration option does "
        "not read the files again.",
    )
    scan_seconds: Number = Field(
        300, gt=0, le=MOST_SECONDS, description="A scan that takes a worker longer is quarantined."
    )
    worker_memory_gb: Number | None = Field(
        None,
        gt=0,
        description="A scan that takes a worker more is quarantined; without it, the machine's "
        "memory shared by the workers.",
    )
    rows_per_shard: StrictInt = Field(
        4096, ge=16, le=1 << 20, multiple_of=16, description="Rows of one shard of the store."
    )
    points_per_scan: StrictInt = Field(
        16384,
        ge=0,
        le=MOST_POINTS,
        multiple_of=256,
        description="The most points of a scan itself that the store keeps; 0 keeps none.",
    )
    sort_rows: StrictBool = Field(
        False,
        description="Order all rows by identity, so that equal sources give equal bytes whatever "
        "was published before. Without it rows keep the places of the published version where that "
        "leaves half of its shards as they are, and those are not written again.",
    )

    def form(self, rows: int, model: ModelTag) -> Form:
        """How a version of so many rows lays out its arrays."""
        if not self.points_per_scan:
            return Form(rows, model, self.rows_per_shard)
        points = {"point": self.points_per_scan}
        return Form(rows, model, self.rows_per_shard, extras=POINTS, per_scan=points)

    @property
    def store_url(self) -> str | None:
        """Where the store is sent, if it does not stay in a folder."""
        return self.store if is_url(self.store) else None

    @property
    def store_folder(self) -> Path:
        """The folder that versions are published in first."""
        return self.work / "store" if is_url(self.store) else Path(self.store)


def load_build(path: Path | str, overrides: Sequence[str] = ()) -> BuildConfig:
    """The build file with absolute paths, checked as a whole before any work starts.

    `overrides` replace fields, as `workers=4` or `sources.0.root=/mnt/x`; values are YAML.
    Raises RegistryError with every fault: wrong or unknown fields and overrides, options out of
    range, shares that do not add up, folders, registries and model files that are not there or may
    not be used, sources that may not be sent where the store is.
    """
    path = Path(path)
    data, faults = _overridden(read_yaml(path), overrides)
    config, told = _validated(data)
    config = _absolute(config, _real(path).parent)
    faulty = {fault.partition(":")[0].partition(".")[0] for fault in told}
    told += [fault for fault in _faults(config) if fault.partition(":")[0] not in faulty]
    faults += [f"{_origin(fault, path, overrides)}: {fault}" for fault in told]
    if faults:
        raise RegistryError(faults)
    return config


class _Sound(BuildConfig):
    """What is sound of a file that is not: the rest can be checked all the same."""

    store: str = "unified.zarr"
    sources: tuple[SourceEntry, ...] = ()


def _validated(data: Mapping[str, Any]) -> tuple[BuildConfig, list[str]]:
    """The fields of a build file, and the faults of those that were left out for them."""
    try:
        return BuildConfig.model_validate(data), []
    except ValidationError as error:
        faulty = {item["loc"][0] for item in error.errors()}
        sound = {name: value for name, value in data.items() if name not in faulty}
        return _Sound.model_validate(sound), _field_faults(error)


def _overridden(data: dict[str, Any], overrides: Sequence[str]) -> tuple[Any, list[str]]:
    """The data with the overrides in their places, and what is wrong with those that have none."""
    faults = []
    for text in overrides:
        key, equals, value = text.partition("=")
        try:
            if not equals:
                raise RegistryError(["expected KEY=VALUE, such as workers=4"])
            data = _replaced(data, key.split("."), yaml_value(value, key), BuildConfig)
        except RegistryError as error:
            said = shortened(redacted(text))
            faults += [f"override {said}: {fault}" for fault in error.faults]
    return data, faults


def _replaced(old: Any, keys: Sequence[str], value: Any, model: Any = None) -> Any:
    """`old` with the value at the place that `keys` name. `model` says which fields `old` may have;
    without one it may have any."""
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(old, list):
        if not key.isdecimal() or int(key) >= len(old):
            raise RegistryError([f"no item {key} in a list of {len(old)}; the first is 0"])
        place, entry = int(key), SourceEntry if model is BuildConfig else None
        return [*old[:place], _replaced(old[place], rest, value, entry), *old[place + 1 :]]
    if not isinstance(old, dict):
        raise RegistryError([f"no field {key} in {old!r}, which holds no fields"])
    if model is not None and key not in model.model_fields:
        raise RegistryError([f"no field {key}, expected {one_of(key, list(model.model_fields))}"])
    default = model.model_fields[key].default if model else None
    before = old.get(key, dict(default) if isinstance(default, Mapping) else {})
    # the items of `sources` have fields of their own, those of other fields have any
    inner = BuildConfig if key == "sources" else None
    return {**old, key: _replaced(before, rest, value, inner)}


def _origin(fault: str, path: Path, overrides: Sequence[str]) -> str:
    """Who said what is at fault: the last override of the field, or the file."""
    field = fault.partition(":")[0]
    keys = {text.partition("=")[0]: text for text in overrides}
    by = [
        text
        for key, text in keys.items()
        if f"{field}.".startswith(f"{key}.") or f"{key}.".startswith(f"{field}.")
    ]
    return f"override {shortened(redacted(by[-1]))}" if by else str(path)


def _real(path: Path) -> Path:
    """The path without links, as far as they lead somewhere."""
    return Path(os.path.realpath(path))


def _absolute(config: BuildConfig, base: Path) -> BuildConfig:
    own = [entry.registry.endswith((".yaml", ".yml")) for entry in config.sources]
    return config.model_copy(
        update={
            "store": config.store if is_url(config.store) else str(base / config.store),
            "work": base / config.work,
            "model": base / config.model if config.model not in (None, STAND_IN) else config.model,
            "embedding": config.embedding and base / config.embedding,
            "sources": tuple(
                entry.model_copy(
                    update={
                        "registry": str(base / entry.registry) if is_file else entry.registry,
                        "root": base / entry.root,
                    }
                )
                for entry, is_file in zip(config.sources, own, strict=True)
            ),
        }
    )


def _faults(config: BuildConfig) -> Iterator[str]:
    """What is wrong with a build file whose fields are each sound."""
    registries: dict[int, SourceRegistry] = {}
    for i, entry in enumerate(config.sources):
        try:
            registries[i] = load_registry(entry.registry)
        except RegistryError as error:
            yield from (f"sources.{i}.registry: {fault}" for fault in error.faults)
    ids = [registry.id for registry in registries.values()]
    for repeated in sorted({name for name in ids if ids.count(name) > 1}):
        yield f"sources: got {repeated} {ids.count(repeated)} times, expected each source once"
    yield from _model_faults(config)
    yield from _place_faults(config)
    yield from _option_faults(config, registries)
    yield from _licence_faults(config, registries)
    if any(share < 0 for share in config.splits.values()) or not math.isclose(
        sum(config.splits.values()), 1.0, abs_tol=1e-6
    ):
        yield f"splits: got {dict(config.splits)}, expected shares ≥ 0 that add up to 1"


def _model_faults(config: BuildConfig) -> Iterator[str]:
    model = model_path(config.model)
    files = {"model" if config.model else MODEL_VARIABLE: model, "embedding": config.embedding}
    for field, file in files.items():
        if file is None or file == STAND_IN:
            continue
        try:
            file.open("rb").close()
        except OSError as error:
            yield (
                f"{field}: got {file} ({error.strerror}), expected a file that can be read; "
                "correct the path, or put the file there"
            )


def _place_faults(config: BuildConfig) -> Iterator[str]:
    """Of folders that are read, folders that are written, and those that would be both."""
    for i, entry in enumerate(config.sources):
        try:
            with os.scandir(entry.root) as listing:
                next(listing, None)
        except OSError as error:
            yield (
                f"sources.{i}.root: got {entry.root} ({error.strerror}), expected the folder of "
                "the source; mount the data or correct the root"
            )
    if config.store_url is not None:
        try:
            Place(config.store_url)
        except StoreError as error:
            yield f"store: {error}"
    written = {"store": config.store_folder, "work": config.work}
    if config.store_url is not None:
        del written["store"]
    elif _real(config.work).is_relative_to(_real(config.store_folder)):
        yield f"work: got {config.work}, expected a folder outside of the store"
    for field, folder in written.items():
        there = next(place for place in (folder, *folder.parents) if os.access(place, os.F_OK))
        if fault := _impossible(folder):
            yield f"{field}: got {folder} ({fault}), expected a folder that can be made"
        elif not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            what = "which may not be written" if there.is_dir() else "which is a file"
            yield f"{field}: got {folder} in {there}, {what}; expected a folder that may be written"
        for i, entry in enumerate(config.sources):
            own, root = _real(folder), _real(entry.root)
            if own.is_relative_to(root) or root.is_relative_to(own):
                yield (
                    f"{field}: got {folder}, expected a folder apart from sources.{i}.root "
                    f"{entry.root}: neither may lie in the other"
                )


def _impossible(folder: Path) -> str:
    """Why there can be no such folder; "" where there is one, or may be."""
    try:
        folder.stat()
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return str(error.strerror)
    return ""


def _option_faults(config: BuildConfig, registries: Mapping[int, SourceRegistry]) -> Iterator[str]:
    if config.quality:  # only then: what checks them takes seconds to import
        from pipeline.quality import gates_from

        try:
            gates_from(config.quality)
        except RegistryError as error:
            yield from error.faults
    yield from _registration_faults(config.registration)
    for i, registry in registries.items():
        for fault in _registration_faults(registry.registration):
            yield f"sources.{i}.registry: {registry.id}: {fault}"


def _registration_faults(options: Mapping[str, Any]) -> list[str]:
    if not options:
        return []
    from pipeline.registration import METHODS, RegistrationOptions

    names = [field.name for field in fields(RegistrationOptions)]
    unknown = [name for name in options if name not in names]
    faults = [f"{name}: no such option, expected {one_of(name, names)}" for name in unknown]
    known = {name: options[name] for name in names if name in options}
    text = json.dumps(known, default=str)  # strict JSON still takes lists for tuples
    try:
        method = TypeAdapter(RegistrationOptions).validate_json(text, strict=True).method
    except ValidationError as error:
        faults += _field_faults(error)
    except RegistrationError as error:
        faults.append(str(error).removeprefix("registration option "))
    else:
        if method not in METHODS:
            faults.append(f"method: got {method}, expected {one_of(method, METHODS)}")
    return [f"registration.{fault}" for fault in faults]


def _field_faults(error: ValidationError) -> list[str]:
    found = [field_fault(item, BuildConfig) for item in error.errors()]
    return [
        f"{fault.field}: got {fault.got}, expected {GONE.get(fault.field, fault.expected)}"
        for fault in found
    ]


def _licence_faults(config: BuildConfig, registries: Mapping[int, SourceRegistry]) -> Iterator[str]:
    """A store in an object store has readers whom a source's agreement may not know."""
    if config.store_url is None:
        return
    for i, registry in registries.items():
        note = config.sources[i].licence_note
        if not registry.licence.redistribution and not (note and note.strip()):
            yield (
                f"sources.{i}.licence_note: got nothing, expected who may read "
                f"{redacted(config.store)} and by which agreement: {registry.id} "
                f"({registry.licence.name}, {registry.licence.url}) may not be passed on. "
                "Write it, or leave the source out"
            )
