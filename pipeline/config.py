"""The build file: which sources are folded into which store, with which model and options."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import RegistryError
from pipeline.flame.assets import STAND_IN
from pipeline.registry import load_registry, read_yaml
from pipeline.store.rows import MOST_POINTS


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceEntry(Strict):
    """A source to fold in: its registry and the folder it was delivered in."""

    registry: str = Field(description="Id of a registry, or the path of its YAML file.")
    root: Path = Field(description="The source's folder, relative to the build file.")


class BuildConfig(Strict):
    """`facefold build`'s YAML file. Relative paths are relative to the file."""

    store: Path = Field(description="Folder of the dataset; published versions lie below it.")
    sources: tuple[SourceEntry, ...] = Field(min_length=1)
    model: Path | None = Field(
        None,
        description="FLAME's model file, or `stand-in`; without it FACEFOLD_FLAME_MODEL, and the "
        "stand-in where that is unset.",
    )
    embedding: Path | None = Field(
        None, description="Landmark embedding of the model, where its file has none."
    )
    work: Path = Field(
        Path(".facefold"), description="Folder of the ledger, results and Prefect's state."
    )
    splits: Mapping[str, float] = Field(
        {"train": 0.8, "val": 0.1, "test": 0.1}, description="Share of identities in each split."
    )
    seed: int = Field(0, description="Seed of the split; the same seed gives the same split.")
    registration: Mapping[str, Any] = Field(
        {}, description="Registration options for all sources; a registry's own come on top."
    )
    quality: Mapping[str, Any] = Field({}, description="Thresholds of the quality gates.")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = Field(2, ge=1, description="Local worker processes, where no cluster is named.")
    batch: int = Field(8, ge=1, description="Scans registered together by one worker.")
    shard: int = Field(256, ge=1, description="Scans of one task of the flow.")
    rows_per_shard: int = Field(
        4096, ge=16, multiple_of=16, description="Rows of one shard of the store."
    )
    points_per_scan: int = Field(
        16384,
        ge=0,
        le=MOST_POINTS,
        multiple_of=256,
        description="The most points of a scan itself that the store keeps; 0 keeps none.",
    )


def load_build(path: Path) -> BuildConfig:
    """The build file with absolute paths, checked as a whole before any work starts.

    Raises RegistryError with every fault: wrong or unknown fields, shares that do not add up,
    registries that do not load, folders and model files that are not there.
    """
    try:
        config = BuildConfig.model_validate(read_yaml(path))
    except ValidationError as error:
        raise RegistryError(
            [
                f"{path}: {'.'.join(map(str, e['loc']))}: got {e['input']!r}, expected: {e['msg']}"
                for e in error.errors()
            ]
        ) from error
    config = _absolute(config, path.resolve().parent)
    faults = [f"{path}: {fault}" for fault in _faults(config)]
    if faults:
        raise RegistryError(faults)
    return config


def _absolute(config: BuildConfig, base: Path) -> BuildConfig:
    return config.model_copy(
        update={
            "store": base / config.store,
            "work": base / config.work,
            "model": base / config.model if config.model not in (None, STAND_IN) else config.model,
            "embedding": config.embedding and base / config.embedding,
            "sources": tuple(
                SourceEntry(
                    registry=str(base / entry.registry)
                    if entry.registry.endswith((".yaml", ".yml"))
                    else entry.registry,
                    root=base / entry.root,
                )
                for entry in config.sources
            ),
        }
    )


def _faults(config: BuildConfig) -> Iterator[str]:
    if any(share < 0 for share in config.splits.values()) or not math.isclose(
        sum(config.splits.values()), 1.0, abs_tol=1e-6
    ):
        yield f"splits: got {dict(config.splits)}, expected shares ≥ 0 that add up to 1"
    for name in ("model", "embedding"):
        file = getattr(config, name)
        if file not in (None, STAND_IN) and not file.is_file():
            yield f"{name}: got {file}, expected a file"
    ids: list[str] = []
    for i, entry in enumerate(config.sources):
        if not entry.root.is_dir():
            yield f"sources.{i}.root: got {entry.root}, expected the folder of the source"
        try:
            ids.append(load_registry(entry.registry).id)
        except RegistryError as error:
            yield from (f"sources.{i}.registry: {fault}" for fault in error.faults)
    for repeated in sorted({name for name in ids if ids.count(name) > 1}):
        yield f"sources: got {repeated} {ids.count(repeated)} times, expected each source once"
