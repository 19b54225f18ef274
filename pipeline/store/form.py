"""How a version lays out its arrays: which fields, how many rows, in what shards and chunks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.errors import StoreError
from pipeline.store.arrays.int16 import IN_STEPS, MIDDLES, STEPS
from pipeline.store.attached import Attached, attached_in, check_attached, model_in
from pipeline.store.documents import content_of, parsed, shown, text, whole
from pipeline.store.paths import GROUP
from pipeline.store.schema import (
    EXTRA_FIELDS,
    IDENTITY,
    READABLE_FROM,
    ROWS_PER_CHUNK,
    ROWS_PER_SHARD,
    SCAN,
    SCHEMA_VERSION,
    VIEW,
    Field,
    ModelTag,
    fields,
)


@dataclass(frozen=True)
class Profile:
    """How the chunks of a version are stored."""

    chunk_rows: Mapping[str, int]
    """Group of a field, or "view" -> rows of a chunk, where the shard is a multiple of it."""
    compressed: bool
    """zstd with a CRC-32C a chunk; else the rows' own bytes, which are mapped."""


TRAINING, ARCHIVE = "training", "archive"
PROFILES: Mapping[str, Profile] = {
    TRAINING: Profile({"": ROWS_PER_CHUNK, "point": 4096, VIEW: 16}, compressed=False),
    ARCHIVE: Profile({"": 64, "point": 65536, VIEW: 16}, compressed=True),
}
MOST = 1 << 40
"""Rows of a version, of a shard, and of a scan: larger numbers are no numbers of rows."""


@dataclass(frozen=True)
class Form:
    """Raises StoreError, when it is made, for numbers and names that make no store."""

    rows: int
    model: ModelTag
    rows_per_shard: int = ROWS_PER_SHARD
    profile: str = TRAINING
    extras: tuple[str, ...] = ()
    """Names of the `schema.EXTRA_FIELDS` it has, the fields that say where rows are included."""
    per_scan: Mapping[str, int] = field(default_factory=dict)
    """Group of those fields -> the most rows a scan may have: each shard has room for them."""
    int16: bool = False
    """IN_STEPS are stored in steps of 5 µm."""
    identities: int = 0
    """People with a row each in arrays of their own; 0 = there are none."""
    views: int = 0
    """Pictures of scans with a row each in arrays of their own; 0 = there are none."""
    attached: tuple[Attached, ...] = ()
    """Fields that somebody added, or whose values they replaced."""
    row_of: str = SCAN
    """What its rows are: scans; of one of its other `parts` identities or views."""
    schema: int = field(default=SCHEMA_VERSION, compare=False)
    """Of the version, which says how arrays are named."""

    def __post_init__(self) -> None:
        if self.rows == 0:
            raise StoreError("0 rows, expected at least one; nothing to publish")
        whole("rows", self.rows, 1, MOST)
        whole("identities", self.identities, 0, self.rows)
        whole("views", self.views, 0, MOST)
        whole("rows_per_shard", self.rows_per_shard, 0, MOST)
        for group, most in self.per_scan.items():
            whole(f"per_scan: {group}", most, 0, MOST)
        if self.rows_per_shard < 1 or self.rows_per_shard % ROWS_PER_CHUNK:
            raise StoreError(
                f"rows_per_shard: got {self.rows_per_shard}, expected a multiple of "
                f"{ROWS_PER_CHUNK}"
            )
        if self.profile not in PROFILES:
            raise StoreError(f"profile: got {self.profile!r}, expected {' or '.join(PROFILES)}")
        if unknown := [name for name in self.extras if name not in EXTRA_FIELDS]:
            expected = ", ".join(EXTRA_FIELDS)
            raise StoreError(f"extras: got {shown(unknown[0])}, expected some of {expected}")
        others = [IDENTITY] * bool(self.identities) + [VIEW] * bool(self.views)
        own = {self.row_of, *others}
        extras = {name for name in self.extras if EXTRA_FIELDS[name].row_of in own}
        groups = {EXTRA_FIELDS[name].group for name in extras} - {""}
        if bad := [g for g in groups if self.per_scan.get(g, 0) < 1]:
            raise StoreError(f"per_scan: says nothing of {bad[0]!r}; name the most a scan may have")
        extras = extras.union(map(at, groups)).difference(MIDDLES)
        if self.int16:
            extras |= {name for name in MIDDLES if EXTRA_FIELDS[name].row_of == self.row_of}
        object.__setattr__(self, "extras", tuple(name for name in EXTRA_FIELDS if name in extras))
        object.__setattr__(self, "per_scan", {g: self.per_scan[g] for g in sorted(groups)})
        attached = tuple(field for field in self.attached if field.row_of in own)
        object.__setattr__(self, "attached", attached)
        self._check_attached()

    def _check_attached(self) -> None:
        names = [field.name for field in self.attached]
        if len(set(names)) < len(names):
            raise StoreError("attached: two fields of one name")
        for one in self.attached:
            if one.row_of == self.row_of:
                check_attached(one, self._standard)

    @cached_property
    def parts(self) -> Mapping[str, Form]:
        """How its arrays lie, by what their rows are: of scans as it says; of identities, where it
        has any, in shards of as many rows; of views in shards of a quarter, for their rows are
        large."""
        quarter = self.rows_per_shard // 4 // ROWS_PER_CHUNK * ROWS_PER_CHUNK
        several = {
            IDENTITY: (self.identities, self.rows_per_shard),
            VIEW: (self.views, max(quarter, ROWS_PER_CHUNK)),
        }
        none: dict[str, Any] = {"identities": 0, "views": 0}
        return {self.row_of: self} | {
            row_of: replace(self, rows=rows, rows_per_shard=size, row_of=row_of, **none)
            for row_of, (rows, size) in several.items()
            if rows
        }

    def part(self, row_of: str) -> Form:
        """Raises StoreError where it has no such part."""
        if row_of not in self.parts:
            raise StoreError(f"rows of {row_of!r}, expected of {' or '.join(self.parts)}")
        return self.parts[row_of]

    def holding(self, name: str) -> Form:
        """The part that has the field. Raises KeyError where none has it."""
        return self.parts[self.all_fields[name].row_of]

    @cached_property
    def all_fields(self) -> dict[str, Field]:
        """Of all parts."""
        return {name: field for part in self.parts.values() for name, field in part.fields.items()}

    @cached_property
    def fields(self) -> dict[str, Field]:
        """All of this part by name, as they are read."""
        attached = {f.name: f for f in self.attached if f.row_of == self.row_of}
        return self._standard | attached

    @cached_property
    def _standard(self) -> dict[str, Field]:
        """Those of this part that are not attached."""
        extras = {name: EXTRA_FIELDS[name] for name in self.extras}
        own = {name: field for name, field in extras.items() if field.row_of == self.row_of}
        return fields(self.model.n_vertices, self.row_of) | own

    @property
    def compressed(self) -> bool:
        return PROFILES[self.profile].compressed

    @property
    def n_shards(self) -> int:
        return -(-self.rows // self.rows_per_shard)

    def scans(self, shard: int) -> int:
        """Scans, identities or views of a shard: the last one may have fewer than the others."""
        return min(self.rows_per_shard, self.rows - shard * self.rows_per_shard)

    def stored(self, name: str) -> Field:
        """The field as it lies in the files: lengths may be int16."""
        found = self.fields[name]
        return replace(found, dtype=STEPS) if self.in_steps(name) else found

    def in_steps(self, name: str) -> bool:
        return self.int16 and name in IN_STEPS

    def array(self, name: str) -> str:
        """The array that holds the field. Lengths from a middle are not what the field's name says,
        and lie under another one since schema 3."""
        from_middle = self.in_steps(name) and IN_STEPS[name] and self.schema >= 3
        return f"{name.removesuffix('_mm')}_from_middle_mm" if from_middle else name

    def shard_rows(self, name: str) -> int:
        """Rows of the field that a shard has room for."""
        return self.rows_per_shard * self.per_scan.get(self.fields[name].group, 1)

    def chunk_rows(self, name: str) -> int:
        group = VIEW if self.row_of == VIEW else self.fields[name].group
        whole = PROFILES[self.profile].chunk_rows[group]
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
            "identities": self.identities,
            "views": self.views,
            "rows_per_shard": self.rows_per_shard,
            "extras": list(self.extras),
            "per_scan": dict(self.per_scan),
            "int16": self.int16,
            "attached": [field.declared() for field in self.attached],
            "model": asdict(self.model),
        }

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Form:
        """What `attributes` say. Raises StoreError where a newer facefold is needed to read it, and
        for what no version says."""
        schema = attributes.get("facefold_schema")
        if isinstance(schema, bool) or not isinstance(schema, int):
            raise StoreError("a Zarr group, but not one facefold wrote")
        if schema > SCHEMA_VERSION:
            readable_from = attributes.get("readable_from", "of a later version")
            raise StoreError(
                f"schema version {schema}, read by facefold "
                f"{text('readable_from', readable_from)} and later; this is "
                f"{__version__}, which reads up to {SCHEMA_VERSION}: install that one"
            )
        whole("facefold_schema", schema, 1, SCHEMA_VERSION)
        extras, per_scan = attributes.get("extras", []), attributes.get("per_scan", {})
        int16, profile = attributes.get("int16", False), attributes.get("profile")
        if not isinstance(extras, list) or not all(isinstance(name, str) for name in extras):
            raise StoreError(f"extras: got {shown(extras)}, expected a list of names")
        if not isinstance(per_scan, dict) or per_scan.keys() - GROUPS:
            raise StoreError(f"per_scan: expected numbers of {' and '.join(sorted(GROUPS))}")
        if not isinstance(int16, bool):
            raise StoreError(f"int16: got {shown(int16)}, expected true or false")
        return cls(
            rows=attributes.get("rows"),  # type: ignore[arg-type] # refused there
            model=model_in(attributes.get("model")),
            rows_per_shard=attributes.get("rows_per_shard"),  # type: ignore[arg-type]
            profile=text("profile", profile),
            extras=tuple(extras),  # schema 1 had none
            per_scan=per_scan,
            int16=int16,
            identities=attributes.get("identities", 0),  # schemas before 4 had none
            views=attributes.get("views", 0),  # nor those before 5
            attached=attached_in(attributes.get("attached", [])),
            schema=schema,
        )


GROUPS = frozenset({field.group for field in EXTRA_FIELDS.values()} - {""})


def at(group: str) -> str:
    """The field that says where a scan's rows of a group are."""
    return f"{group}s_at"


def group_attributes(version: Path) -> dict[str, Any]:
    """The attributes of a version's or staging's group. Raises StoreError where unreadable."""
    return attributes_in(content_of(version / GROUP), version / GROUP)


def attributes_in(content: bytes, owner: Path | str) -> dict[str, Any]:
    """`group_attributes` of a file that has been read."""
    attributes = parsed(content, owner).get("attributes")
    if not isinstance(attributes, dict):
        raise StoreError(f"{owner}: attributes: got {shown(attributes)}, expected a JSON object")
    return attributes


def form_of(version: Path) -> Form:
    """How a version's or staging's arrays lie. Raises StoreError where that cannot be read."""
    return form_in(group_attributes(version), version)


def form_in(attributes: dict[str, Any], owner: Path | str) -> Form:
    """What the attributes of a group say. Raises StoreError where they are of no version."""
    try:
        return Form.of(attributes)
    except StoreError as error:
        raise StoreError(f"{owner}: {error}") from error
