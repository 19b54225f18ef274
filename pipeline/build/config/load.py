"""YAML file -> BuildConfig, or every fault of the file and of the overrides at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.build.config.checks import faults_of
from pipeline.build.config.model import BuildConfig, SourceEntry
from pipeline.build.config.overrides import origin, overridden
from pipeline.errors import RegistryError
from pipeline.flame.named import STAND_IN
from pipeline.registry import read_yaml
from pipeline.registry.load import field_fault
from pipeline.store.remote.objects import is_url

GONE = {"shard": "none of that name any more: `batch` says how many scans a task has; remove it"}
"""Fields of earlier releases, and what to do about them."""


def load_build(path: Path | str, overrides: Sequence[str] = ()) -> BuildConfig:
    """The build file with absolute paths, checked as a whole before any work starts.

    `overrides` replace fields, as `workers=4` or `sources.0.root=/mnt/x`; values are YAML.
    Raises RegistryError with every fault: wrong or unknown fields and overrides, options out of
    range, shares that do not add up, folders, registries and model files that are not there or may
    not be used, sources that may not be sent where the store is.
    """
    path = Path(path)
    data, faults = overridden(read_yaml(path), overrides, BuildConfig)
    config, told = _validated(data)
    config = _absolute(config, Path(os.path.realpath(path)).parent)
    config._folder = Path(os.path.realpath(path)).parent
    faulty = {fault.partition(":")[0].partition(".")[0] for fault in told}
    told += [fault for fault in faults_of(config) if fault.partition(":")[0] not in faulty]
    faults += [f"{origin(fault, path, overrides)}: {fault}" for fault in told]
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


def _field_faults(error: ValidationError) -> list[str]:
    found = [field_fault(item, BuildConfig) for item in error.errors()]
    return [
        f"{fault.field}: got {fault.got}, expected {GONE.get(fault.field, fault.expected)}"
        for fault in found
    ]


def _absolute(config: BuildConfig, base: Path) -> BuildConfig:
    own = [entry.registry.endswith((".yaml", ".yml")) for entry in config.sources]
    return config.model_copy(
        update={
            "store": config.store if is_url(config.store) else str(base / config.store),
            "work": base / config.work,
            "identities": base / config.identities,
            "model": base / config.model if config.model not in (None, STAND_IN) else config.model,
            "profile": str(base / config.profile)
            if config.profile.endswith((".yaml", ".yml"))
            else config.profile,
            "embedding": config.embedding and base / config.embedding,
            "embedding_model": config.embedding_model and base / config.embedding_model,
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
