"""What a store holds: every array and table column once, with unit, meaning and producing stage.

`docs/reference/store_schema.json` is generated from here:
`python -m pipeline.store.schema docs/reference/store_schema.json`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.types import N_SHAPE, REGISTRATION_ARRAYS, ExpressionClass, RowArray

if TYPE_CHECKING:
    from pipeline.flame.model import FlameModel

SCHEMA_VERSION = 5
"""Raised when an older reader would misread a store; a reader refuses a higher one."""
READABLE_FROM = "0.5.0"
"""The first facefold that reads this schema."""

N_VERTICES = 5023
ROWS_PER_CHUNK = 16
ROWS_PER_SHARD = 4096
"""247 MB of vertices: few files, and still little enough for one process to hold and write."""


SCAN, IDENTITY, VIEW = "scan", "identity", "view"
TABLE_OF = {SCAN: "manifest", IDENTITY: "identities", VIEW: "views"}
"""What a row of an array is of -> the table whose row i says of which one row i is."""
NAME_OF = {SCAN: "scan_id", IDENTITY: "identity", VIEW: "view_id"}
"""And the column there that names it; an array too, of the rows' coordinates."""


def view_id(scan_id: str, view: str) -> str:
    """The name of a view of a scan."""
    return f"{scan_id}#{view}"


@dataclass(frozen=True)
class Field:
    """One stored array: row i belongs to row i of the table that TABLE_OF names."""

    name: str
    dtype: str
    """numpy's code, little-endian where it matters: "<f4", "<f8", "|u1"."""
    shape: tuple[int, ...]
    """Of one row."""
    dims: tuple[str, ...]
    unit: str
    """As UDUNITS write it; "1" = a number without one."""
    meaning: str
    stage: str
    """The stage that produces it."""
    optional: bool = False
    """Rows may hold NaN where nothing is known; elsewhere a value that is not finite is refused."""
    group: str = ""
    """What a scan has any number of rows of, "point"; `<group>s_at` says which rows. "" = one row a
    scan, identity or view."""
    row_of: str = SCAN
    """SCAN, IDENTITY or VIEW."""

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def _of_registration(name: str, array: RowArray) -> Field:
    if array.dtype is np.bool_:
        meaning = f"{array.meaning} at vertex 8j+k: bit k, lowest first, of byte j"
        n_bytes = -(-N_VERTICES // 8)
        return Field(name, "|u1", (n_bytes,), (f"{name}_byte",), array.unit, meaning, "register")
    shape, dtype = array.shape(N_VERTICES), np.dtype(array.dtype).str
    return Field(name, dtype, shape, array.dims, array.unit, array.meaning, "register")


FIELDS: tuple[Field, ...] = (
    *(_of_registration(name, array) for name, array in REGISTRATION_ARRAYS.items()),
    Field("landmarks_mm", "<f4", (68, 3), ("landmark", "xyz"), "mm",
          "the scan's landmarks in iBUG-68 order, canonical frame; NaN where absent",
          "landmarks", optional=True),
    Field("landmark_confidence", "<f4", (68,), ("landmark",), "1",
          "confidence in [0, 1] of landmarks_mm, 0 where absent", "landmarks"),
    Field("registered_landmarks_mm", "<f4", (68, 3), ("landmark", "xyz"), "mm",
          "the template's landmarks on vertices_mm; NaN where the model embeds none",
          "register", optional=True),
    Field("source_to_canonical", "<f8", (4, 4), ("row_of_4", "column_of_4"), "mm",
          "the file's coordinates to the canonical frame: unit, axes, translation",
          "normalise"),
    Field("unit_factor_mm", "<f8", (), (), "mm",
          "millimetres in one unit of the file, the only scale ever applied", "normalise"),
)  # fmt: skip
"""Every array that each store has, in the order they are written; of a template of N_VERTICES."""

IDENTITY_FIELDS: tuple[Field, ...] = (
    Field("identity_neutral_mm", "<f4", (N_VERTICES, 3), ("vertex", "xyz"), "mm",
          "the person's head at rest from all their scans, without expression and pose, "
          "anchored to the model's head", "identity", row_of=IDENTITY),
    Field("identity_shape", "<f4", (N_SHAPE,), ("shape_component",), "1",
          "the person's identity coefficients in standard deviations, zero beyond the model's own",
          "identity", row_of=IDENTITY),
    Field("identity_expected_error_mm", "<f4", (N_VERTICES,), ("vertex",), "mm",
          "mean length of the error to expect of each vertex of identity_neutral_mm",
          "identity", row_of=IDENTITY),
    Field("identity_scans", "<i4", (), (), "1",
          "number of scans that identity_neutral_mm was made of", "identity", row_of=IDENTITY),
)  # fmt: skip
"""Every array of the stores that have a row a person."""

VIEW_FIELDS: tuple[Field, ...] = (
    Field("images", "|u1", (224, 224, 3), ("image_row", "image_column", "rgb"), "1",
          "photo or render of the scan, cropped to the face", "views", row_of=VIEW),
    Field("aligned_images", "|u1", (112, 112, 3), ("aligned_row", "aligned_column", "rgb"), "1",
          "the face aligned to ArcFace's five points", "views", row_of=VIEW),
    Field("shaded_images", "|u1", (224, 224), ("image_row", "image_column"), "1",
          "the registered mesh in grey under the camera of images; 0 where it is not seen",
          "views", row_of=VIEW),
    Field("camera_matrix_px", "<f8", (3, 3), ("row_of_3", "column_of_3"), "px",
          "the camera's frame to pixels of images, the top left one's middle at (0, 0)", "views",
          row_of=VIEW),
    Field("canonical_to_camera", "<f8", (4, 4), ("row_of_4", "column_of_4"), "mm",
          "canonical frame to the camera's: +x right, +y down, +z forward", "views", row_of=VIEW),
    Field("landmarks_px", "<f4", (68, 2), ("landmark", "column_and_row"), "px",
          "the registered landmarks in images, iBUG-68 order; NaN where absent", "views",
          optional=True, row_of=VIEW),
    Field("landmark_visibility", "|u1", (68,), ("landmark",), "1",
          "1 where nothing hides the landmark in the picture, else 0", "views", row_of=VIEW),
    Field("visibility", "|u1", (-(-N_VERTICES // 8),), ("visibility_byte",), "1",
          "nothing hides the vertex 8j+k in the picture: bit k, lowest first, of byte j", "views",
          row_of=VIEW),
    Field("parts", "|u1", (8, 224, 28), ("part", "image_row", "column_byte"), "1",
          "part seen at column 8j+k of images: bit k, lowest first, of byte j; left eye, right "
          "eye, left brow, right brow, upper lip, lower lip, nose, skin", "views", row_of=VIEW),
)  # fmt: skip
"""Every array of the stores that have a row a view."""

FIELDS_OF: Mapping[str, tuple[Field, ...]] = {
    SCAN: FIELDS,
    IDENTITY: IDENTITY_FIELDS,
    VIEW: VIEW_FIELDS,
}
"""What a row is of -> the arrays that there always are of such rows."""

_FIRST_AND_COUNT = (2,), ("first_and_count",), "1"
_EXTRAS: tuple[Field, ...] = (
    Field("vertices_middle_mm", "<f4", (3,), ("xyz",), "mm",
          "what vertices_mm are relative to where they are stored as int16", "store"),
    Field("neutral_middle_mm", "<f4", (3,), ("xyz",), "mm",
          "what neutral_mm are relative to where they are stored as int16", "store"),
    Field("identity_neutral_middle_mm", "<f4", (3,), ("xyz",), "mm",
          "what identity_neutral_mm are relative to where they are stored as int16", "store",
          row_of=IDENTITY),
    Field("points_at", "<i8", *_FIRST_AND_COUNT,
          "first row and number of rows of the scan in points_mm and normals", "normalise"),
    Field("points_mm", "<f4", (3,), ("xyz",), "mm",
          "the scan's own points, canonical frame, in random order: any prefix is a fair "
          "sample", "normalise", group="point"),
    Field("normals", "<f2", (3,), ("xyz",), "1", "unit normal of each point", "normalise",
          group="point"),
    Field("embeddings", "<f4", (512,), ("embedding_component",), "1",
          "what the user's own network says of aligned_images, of unit length; NaN where it was "
          "not asked", "views", optional=True, row_of=VIEW),
)  # fmt: skip
EXTRA_FIELDS: Mapping[str, Field] = {field.name: field for field in _EXTRAS}
"""Arrays that a store may have besides, by name."""


def fields(n_vertices: int = N_VERTICES, row_of: str = SCAN) -> dict[str, Field]:
    """FIELDS, IDENTITY_FIELDS or VIEW_FIELDS by name, of a template of so many vertices."""
    n_bytes = -(-n_vertices // 8)
    lengths = {"vertex": n_vertices, "validity_byte": n_bytes, "visibility_byte": n_bytes}
    return {
        field.name: replace(
            field,
            shape=tuple(
                lengths.get(dim, length)
                for dim, length in zip(field.dims, field.shape, strict=True)
            ),
        )
        for field in FIELDS_OF[row_of]
    }


@dataclass(frozen=True)
class Column:
    """One column of a table: `type` is pyarrow's name for it."""

    name: str
    type: str
    meaning: str
    required: bool = False

    @property
    def unit(self) -> str:
        """As its name says it; "" = none."""
        return {"mm": "mm", "px": "px", "deg": "degree"}.get(self.name.rpartition("_")[2], "")


NON_METRIC = "_non_metric"
"""Ends the split of rows without true size, so that nothing that asks for "train" sees them."""

TABLES: dict[str, tuple[Column, ...]] = {
    "manifest": (
        Column("scan_id", "string", "source: and the path within the source", True),
        Column("source", "string", "the registry's id", True),
        Column("subject", "string", "as the source names it", True),
        Column("identity", "string", "one name a person, namespaced by source", True),
        Column(
            "split", "string", "train, val or test; one an identity; else train_non_metric …", True
        ),
        Column("session", "string", "as the source names it"),
        Column("expression", "string", "as the source names it", True),
        Column("neutral", "bool", "the source counts the expression as neutral"),
        Column(
            "expression_class",
            "string",
            "the expression in one vocabulary for all sources, neutral exactly where `neutral`: "
            + ", ".join(ExpressionClass),
        ),
        Column("frame", "int64", "number within a sequence, as file names count; or null"),
        Column("verdict", "string", "accept or review", True),
        Column("reasons", "string", "why the verdict is not accept, joined by '; '"),
        Column("reason_codes", "string", "kinds of these reasons, joined by ';'"),
        Column("status", "string", "how the registration ended: converged or iteration limit"),
        Column("iterations", "int32", "of the registration"),
        Column("scan_to_mesh_median_mm", "double", "over the face region"),
        Column("scan_to_mesh_p95_mm", "double", "over the face region"),
        Column("mesh_to_scan_median_mm", "double", "over the face region"),
        Column("mesh_to_scan_p95_mm", "double", "over the face region"),
        Column("landmark_error_mm", "double", "mean; null where the scan has no landmarks"),
        Column("coverage", "double", "share of the face's vertices the scan has data for"),
        Column("flipped_triangles", "int32", "of the registered mesh"),
        Column("outer_eye_mm", "double", "distance of the outer eye corners"),
        Column("beyond_model_mm", "double", "median free-form displacement on the face"),
        Column("unit", "string", "of the file"),
        Column("unit_evidence", "string", "where the unit comes from"),
        Column("landmark_source", "string", "file; detected: the registered template's; or null"),
        Column("left_out", "string", "JSON: reason and number of what was left out of the file"),
        Column("left_out_share", "double", "of the file's triangles, or points, lost so"),
        Column("licence", "string", "of the source"),
        Column("commercial", "bool", "the licence allows commercial use"),
        Column("redistribution", "bool", "the licence allows redistribution"),
        Column("metric", "bool", "the scan has true size"),
        Column("benchmark", "string", "the benchmark the subject belongs to, or null"),
        Column("sex", "string", "female, male or as the source says; null where it does not"),
        Column("age", "double", "years, as the source says"),
        Column("ancestry", "string", "as the source says"),
        Column("content_hash", "string", "SHA-256 of the scan's files"),
        Column(
            "image_files", "string", "JSON: path in the source, bytes and SHA-256 of each photo"
        ),
        Column("result_key", "string", "the ledger's key of the result"),
    ),
    "quarantine": (
        Column("source", "string", "the registry's id", True),
        Column("scan_id", "string", "as in the manifest", True),
        Column("path", "string", "of the file", True),
        Column("stage", "string", "that gave up", True),
        Column("code", "string", "kind of reason, see docs/reference/refusals.md"),
        Column("reason", "string", "why", True),
        Column("figures", "string", "JSON: the measured values behind the reason, by name"),
    ),
    "excluded": (
        Column("source", "string", "the registry's id", True),
        Column("path", "string", "within the source", True),
        Column("reason", "string", "the rule that excludes it", True),
    ),
    "identities": (
        Column("identity", "string", "one name a person", True),
        Column("split", "string", "train, val or test", True),
        Column("scans", "int32", "rows of the manifest", True),
        Column("sources", "string", "ids of the sources, joined by ','", True),
        Column(
            "held_back",
            "string",
            "JSON: benchmarks that keep the person out of training: which, how they lead to which "
            "of the names, and by which rule; null where none does",
        ),
        Column("result_key", "string", "the ledger's key of what the arrays of people hold"),
    ),
    "views": (
        Column("view_id", "string", "scan_id, # and view", True),
        Column("scan_id", "string", "of the scan that it shows, as in the manifest", True),
        Column("source", "string", "the scan's, as in the manifest", True),
        Column("identity", "string", "the scan's, as in the manifest", True),
        Column("split", "string", "the scan's, as in the manifest", True),
        Column("view", "string", "name within the scan: kind and number from 0", True),
        Column(
            "kind",
            "string",
            "photo; render: the scan in its own colours; shaded: its shape alone",
            True,
        ),
        Column("image_file", "string", "path of a photo below the source's root; else null"),
        Column("camera", "string", "where it comes from: grid, landmarks, calibration or sampled"),
        Column("seed", "int64", "of all that was drawn for it; null where nothing was"),
        Column("yaw_deg", "double", "of the face to the camera"),
        Column("pitch_deg", "double", "of the face to the camera"),
        Column("roll_deg", "double", "of the face to the camera"),
        Column("distance_mm", "double", "from the camera to the face"),
        Column("focal_px", "double", "focal length, in pixels of images"),
        Column("lights", "string", "JSON: what a render was lit by"),
        Column("background", "string", "JSON: what is behind a render"),
        Column("camera_residual_px", "double", "of the camera's fit to landmarks; else null"),
        Column("result_key", "string", "the key of the result and the view's name"),
    ),
    "refused_views": (
        Column("source", "string", "the registry's id", True),
        Column("scan_id", "string", "as in the manifest", True),
        Column("view", "string", "name within the scan", True),
        Column("path", "string", "of the photo below the source's root; else null"),
        Column("stage", "string", "that gave up", True),
        Column("code", "string", "kind of reason, see docs/reference/refusals.md"),
        Column("reason", "string", "why", True),
        Column("figures", "string", "JSON: the measured values behind the reason, by name"),
    ),
}
"""Row tables, one parquet file each. Further columns may follow these; `publish` adds to the
manifest and to the views PLACES and `crc32c_<field>` (uint32), to the views SCAN_ROW, and where
people have arrays, to the manifest IDENTITY_ROW, to the identities that and `crc32c_<field>`."""
SINCE = {"views": 5, "refused_views": 5}
"""Tables that came later -> the first schema whose stores have them."""
PLACES = (
    Column("shard", "int32", "number of the row's shard in each array"),
    Column("row", "int64", "index into each array"),
)
"""Columns of the manifest, and of the views, that say where a row lies."""
IDENTITY_ROW = Column("identity_row", "int64", "the person's index into each array of people")
"""The identities are in this order: row i of theirs has i."""
SCAN_ROW = Column("scan_row", "int64", "the scan's index into each array of scans")
"""Of the views."""
CHECKSUM = "crc32c_"
"""Begins the names of the columns that hold the checksums of a field's rows."""


def tables_of(schema: int) -> tuple[str, ...]:
    """Names of the tables that the stores of a schema have."""
    return tuple(name for name in TABLES if SINCE.get(name, 1) <= schema)


@dataclass(frozen=True)
class ModelTag:
    """Which face model a store's rows were made with."""

    name: str
    digest: str
    is_stand_in: bool
    n_vertices: int = N_VERTICES

    @classmethod
    def of(cls, model: FlameModel) -> ModelTag:
        return cls(model.name, model.digest, model.is_stand_in, len(model.template_mm))


def schema_json() -> str:
    """The whole schema as JSON, for people and for the drift check."""
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "rows_per_chunk": ROWS_PER_CHUNK,
        "rows_per_shard": ROWS_PER_SHARD,
        "fields": [asdict(field) for field in FIELDS],
        "identity_fields": [asdict(field) for field in IDENTITY_FIELDS],
        "view_fields": [asdict(field) for field in VIEW_FIELDS],
        "extra_fields": [asdict(field) for field in EXTRA_FIELDS.values()],
        "tables": {name: [asdict(c) for c in columns] for name, columns in TABLES.items()},
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema_json(), encoding="utf-8")
