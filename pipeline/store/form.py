"""How a version lays out its arrays: which fields, how many rows, in what shards and chunks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from pipeline import __version__
from pipeline.errors import StoreError
from pipeline.store.schema import (
    READABLE_FROM,
    ROWS_PER_CHUNK,
    ROWS_PER_SHARD,
    SCHEMA_VERSION,
    Field,
    ModelTag,
    extra_fields,
    fields,
)
from pipeline.types import Array

CHUNK_ROWS: Mapping[str, Mapping[str, int]] = {
    "training": {"": ROWS_PER_CHUNK, "point": 4096, "view": 16},
    "archive": {"": 64, "point": 65536, "view": 16},
}
"""Profile and group of a field -> rows of a chunk, where the shard is a multiple of it.
`training` is not compressed, and mapped; `archive` is zstd with a CRC-32C a chunk."""

STEP_MM = 0.005
"""Of lengths stored as int16: the largest error is half of it, the largest length 163.8 mm."""
IN_STEPS: Mapping[str, str | None] = {
    "vertices_mm": "vertices_middle_mm",
    "neutral_mm": "neutral_middle_mm",
    "offset_mm": None,
}
"""Fields that may be stored so -> the field they are then relative to: heads lie anywhere."""
MIDDLES = tuple(middle for middle in IN_STEPS.values() if middle)


@dataclass(frozen=True)
class Form:
    """Raises StoreError, when it is made, for numbers and names that make no store."""

    rows: int
    model: ModelTag
    rows_per_shard: int = ROWS_PER_SHARD
    profile: str = "training"
    extras: tuple[str, ...] = ()
    """Names of the `schema.extra_fields` it has, the fields that say where rows are included."""
    per_scan: Mapping[str, int] = field(default_factory=dict)
    """Group of those fields -> the most rows a scan may have: each shard has room for them."""
    int16: bool = False
    """IN_STEPS are stored in steps of 5 µm."""

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise StoreError(f"{self.rows} rows, expected at least one; nothing to publish")
        if self.rows_per_shard < 1 or self.rows_per_shard % ROWS_PER_CHUNK:
            raise StoreError(
                f"rows_per_shard: got {self.rows_per_shard}, expected a multiple of "
                f"{ROWS_PER_CHUNK}"
            )
        if self.profile not in CHUNK_ROWS:
            raise StoreError(f"profile: got {self.profile!r}, expected {' or '.join(CHUNK_ROWS)}")
        known = extra_fields()
        if unknown := [name for name in self.extras if name not in known]:
            raise StoreError(f"extras: got {unknown[0]!r}, expected some of {', '.join(known)}")
        groups = {known[name].group for name in self.extras} - {""}
        if bad := [g for g in groups if self.per_scan.get(g, 0) < 1]:
            raise StoreError(f"per_scan: says nothing of {bad[0]!r}; name the most a scan may have")
        wanted = {*self.extras, *(at(group) for group in groups)} - {*MIDDLES}
        wanted |= {*MIDDLES} if self.int16 else set()
        object.__setattr__(self, "extras", tuple(name for name in known if name in wanted))
        object.__setattr__(self, "per_scan", {g: self.per_scan[g] for g in sorted(groups)})

    @cached_property
    def fields(self) -> dict[str, Field]:
        """All it has by name, as they are read."""
        extras = extra_fields()
        return fields(self.model.n_vertices) | {name: extras[name] for name in self.extras}

    @property
    def n_shards(self) -> int:
        return -(-self.rows // self.rows_per_shard)

    def scans(self, shard: int) -> int:
        """Scans of a shard: the last one may have fewer than the others."""
        return min(self.rows_per_shard, self.rows - shard * self.rows_per_shard)

    def stored(self, name: str) -> Field:
        """The field as it lies in the files: lengths may be int16."""
        found = self.fields[name]
        return replace(found, dtype="<i2") if self.in_steps(name) else found

    def in_steps(self, name: str) -> bool:
        return self.int16 and name in IN_STEPS

    def shard_rows(self, name: str) -> int:
        """Rows of the field that a shard has room for."""
        return self.rows_per_shard * self.per_scan.get(self.fields[name].group, 1)

    def length(self, name: str) -> int:
        """Of the field's array."""
        return self.n_shards * self.shard_rows(name) if self.fields[name].group else self.rows

    def chunk_rows(self, name: str) -> int:
        whole = CHUNK_ROWS[self.profile][self.fields[name].group]
        return math.gcd(whole, self.shard_rows(name))

    def index_bytes(self, name: str) -> int:
        """Of the index at the end of each of the field's shards."""
        return 16 * (self.shard_rows(name) // self.chunk_rows(name)) + 4

    def attributes(self) -> dict[str, Any]:
        """Of the version's Zarr group."""
        return {
            "facefold_schema": SCHEMA_VERSION,
            "written_by": f"facefold {__version__}",
            "readable_from": READABLE_FROM,
            "profile": self.profile,
            "rows": self.rows,
            "rows_per_shard": self.rows_per_shard,
            "extras": list(self.extras),
            "per_scan": dict(self.per_scan),
            "int16": self.int16,
            "model": asdict(self.model),
            "units": {"length": "mm", "angle": "rad"},
            "frame": "right-handed, +y up, +z out of the face, +x to the subject's left",
        }

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Form:
        """What `attributes` says. Raises StoreError where a newer facefold is needed to read it."""
        schema = attributes.get("facefold_schema")
        if not isinstance(schema, int):
            raise StoreError("a Zarr group, but not one facefold wrote")
        if schema > SCHEMA_VERSION:
            raise StoreError(
                f"schema version {schema}, read by facefold "
                f"{attributes.get('readable_from', 'of a later version')} and later; this is "
                f"{__version__}, which reads up to {SCHEMA_VERSION}: install that one"
            )
        return cls(
            rows=attributes["rows"],
            model=ModelTag(**attributes["model"]),
            rows_per_shard=attributes["rows_per_shard"],
            profile=attributes["profile"],
            extras=tuple(attributes.get("extras", ())),  # schema 1 had none
            per_scan=attributes.get("per_scan", {}),
            int16=attributes.get("int16", False),
        )


def at(group: str) -> str:
    """The field that says where a scan's rows of a group are."""
    return f"{group}s_at"


def middles_mm(vertices_mm: Array) -> Array:
    """(n,V,3) -> (n,3) float32: the middle of each bounding box, in whole millimetres, so that
    lengths which are on the grid of steps stay on it."""
    middle = (vertices_mm.min(axis=1) + vertices_mm.max(axis=1)) / 2
    return np.rint(middle).astype("<f4")


def in_steps(lengths_mm: Array, owner: str) -> Array:
    """float32 millimetres -> int16 steps. Raises StoreError for lengths that do not fit."""
    limit_mm = STEP_MM * np.iinfo(np.int16).max
    largest = float(np.abs(lengths_mm).max(initial=0))
    if largest > limit_mm:
        raise StoreError(
            f"{owner}: {largest:.1f} mm from the middle of the head, int16 holds up to "
            f"{limit_mm:.1f}; write this store without int16"
        )
    return np.rint(lengths_mm / np.float32(STEP_MM)).astype("<i2")
