"""Fields that somebody attached to a store: added, or standard ones whose values they replaced."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

from pipeline.errors import StoreError
from pipeline.store.documents import is_sha256, shown, text, whole
from pipeline.store.schema import (
    EXTRA_FIELDS,
    FIELDS_OF,
    IDENTITY,
    IDENTITY_ROW,
    NAME_OF,
    PLACES,
    SCAN,
    SCAN_ROW,
    TABLE_OF,
    TABLES,
    VIEW,
    Field,
    ModelTag,
)

KEPT, NAN = "kept", "nan"
MANY = {SCAN: "scans", IDENTITY: "people", VIEW: "views"}
"""What several rows are of, in messages."""
Missing: TypeAlias = "int | float | str | None"
DTYPES = tuple(np.dtype(code).str for code in "bBhHiIqQefd")
"""Numbers, little-endian."""
MOST_BYTES, MOST_AXES, MOST_FIELDS, MOST_VERTICES = 1 << 28, 8, 1000, 1 << 24
"""Of a row, of its dimensions, and attached fields of a store."""
_NAME = re.compile("[a-z][a-z0-9_]{0,59}")
_STANDARD = {field.name: field for fields in FIELDS_OF.values() for field in fields}
_OF_COORDINATES = {"faces", "region", "region_mask", *NAME_OF.values()}
_OF_TABLES = {c.name for c in (*PLACES, IDENTITY_ROW, SCAN_ROW)} | {
    column.name for table in TABLE_OF.values() for column in TABLES[table]
}


@dataclass(frozen=True)
class Attached(Field):
    """A field of which a row holds what somebody attached; by the name of a standard one, that
    field with other values."""

    missing: Missing = None
    """What a later build puts in the rows of scans, people and views that are new or changed: a
    number, NAN, or KEPT, what the build itself makes of them. None: such a build leaves the field
    out, or has its own values for all."""
    model: ModelTag | None = None
    """Whose coefficients they are, if the model of the store is another: a build carries all such
    fields, or none."""

    def declared(self) -> dict[str, Any]:
        """As the attributes of a version's group say it."""
        said = asdict(self)
        del said["group"]
        return said

    def value(self) -> Any:
        """`missing` as a number; 0 where it says none."""
        if self.missing in (None, KEPT):
            return 0
        return np.nan if self.missing == NAN else self.missing


def replaces(name: str) -> Field | None:
    """The standard field of that name, whose values may be replaced; None for a new name.

    Raises StoreError where it cannot be that of a field one attaches.
    """
    if (field := _STANDARD.get(name) or EXTRA_FIELDS.get(name)) is not None:
        if field.group or field.stage == "store" or name.endswith("s_at"):
            raise StoreError(
                f"field {name}: the store itself says what it holds, or it has any number of rows "
                "a scan; attach under another name"
            )
        return field
    if name in _OF_COORDINATES | _OF_TABLES or name.startswith("crc32c_") or "_from_middle" in name:
        raise StoreError(f"field {name}: is the name of something else in a store; choose another")
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"field {shown(name)}: expected a name of lower-case letters, digits and _, at most 60"
        )
    return None


def own_dims(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """The dimensions of a row of a new field."""
    return tuple(f"{name}_axis_{axis}" for axis in range(len(shape)))


def check_attached(field: Attached, standard: Mapping[str, Field]) -> None:
    """Raise StoreError where a declaration is none; `standard` are the fields of the rows that it
    is of, as the store has them."""
    owner = f"attached: {field.name}"
    same = standard.get(field.name)
    replaced = replaces(field.name)
    if same is None and replaced and replaced.row_of == field.row_of:
        same = EXTRA_FIELDS.get(field.name)  # which the store would lack without
    if same is not None:
        wanted = (same.dtype, same.shape, same.dims, same.unit, same.optional)
        got = (field.dtype, field.shape, field.dims, field.unit, field.optional)
        if got != wanted:
            raise StoreError(f"{owner}: got {got}, expected {wanted}, as every store has it")
    elif replaced is not None:
        raise StoreError(f"{owner}: the store has no such rows of {field.row_of}")
    if same is None:
        known = {d: n for f in standard.values() for d, n in zip(f.dims, f.shape, strict=True)}
        own = own_dims(field.name, field.shape)
        for dim, other, length in zip(field.dims, own, field.shape, strict=True):
            if dim != other and known.get(dim) != length:
                raise StoreError(f"{owner}: dims: got {dim!r} of {length}, expected {other!r}")
        if field.missing == KEPT:
            raise StoreError(f"{owner}: missing: no build makes the field; expected a number")
    check_missing(owner, field)


def check_missing(owner: str, field: Attached) -> None:
    """Raise StoreError where rows of the field cannot hold what it says of missing ones."""
    kind, missing = np.dtype(field.dtype).kind, field.missing
    if missing in (None, KEPT):
        return
    if missing == NAN:
        fits = kind == "f" and field.optional
    elif isinstance(missing, bool) or not isinstance(missing, int | float):
        fits = False
    elif kind == "f":
        fits = math.isfinite(missing) and abs(missing) <= float(np.finfo(field.dtype).max)
    else:
        span = np.iinfo(field.dtype)
        fits = missing == int(missing) and span.min <= missing <= span.max
    if not fits:
        raise StoreError(
            f"{owner}: missing: got {shown(missing)}, expected a number of the type "
            f"{np.dtype(field.dtype).name}" + ", or nan" * (kind == "f" and field.optional)
        )


def attached_in(said: Any) -> tuple[Attached, ...]:
    """What the attributes of a group say. Raises StoreError for what no version says."""
    if not isinstance(said, list) or len(said) > MOST_FIELDS:
        raise StoreError(f"attached: got {shown(said)}, expected a list of fields")
    return tuple(map(_attached_of, said))


def _attached_of(said: Any) -> Attached:
    if not isinstance(said, dict):
        raise StoreError(f"attached: got {shown(said)}, expected a JSON object")
    name, shape, dims = said.get("name"), said.get("shape"), said.get("dims")
    name = text("attached: name", name)
    replaces(name)
    owner = f"attached: {name}"
    if said.get("dtype") not in DTYPES:
        expected = ", ".join(DTYPES)
        raise StoreError(f"{owner}: dtype: got {shown(said.get('dtype'))}, expected {expected}")
    if not isinstance(shape, list) or not isinstance(dims, list) or len(shape) != len(dims):
        raise StoreError(f"{owner}: expected a shape, and as many names of dimensions")
    whole(f"{owner}: dimensions", len(shape), 0, MOST_AXES)
    for length in shape:
        whole(f"{owner}: shape", length, 1, MOST_BYTES)
    if said.get("row_of") not in tuple(TABLE_OF):
        expected = ", ".join(TABLE_OF)
        raise StoreError(f"{owner}: row_of: got {shown(said.get('row_of'))}, expected {expected}")
    if not isinstance(said.get("optional"), bool):
        raise StoreError(f"{owner}: optional: got {shown(said.get('optional'))}, expected a bool")
    missing = said.get("missing")
    if not (missing is None or missing in (KEPT, NAN) or _is_number(missing)):
        raise StoreError(f"{owner}: missing: got {shown(missing)}, expected a number")
    told = {key: text(f"{owner}: {key}", said.get(key)) for key in ("unit", "meaning", "stage")}
    field = Attached(
        name,
        str(said["dtype"]),
        tuple(shape),
        tuple(text(f"{owner}: dims", dim) for dim in dims),
        optional=said["optional"],
        row_of=str(said["row_of"]),
        missing=missing,
        model=None if said.get("model") is None else model_in(said["model"], f"{owner}: "),
        **told,
    )
    whole(f"{owner}: bytes of a row", field.row_bytes, 1, MOST_BYTES)
    return field


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def model_in(found: Any, owner: str = "") -> ModelTag:
    """What the attributes of a group say of a model. Raises StoreError for what no version says."""
    owner = f"{owner}model"
    if not isinstance(found, dict):
        raise StoreError(f"{owner}: got {shown(found)}, expected a JSON object")
    digest, is_stand_in = found.get("digest"), found.get("is_stand_in")
    if not is_sha256(digest):
        raise StoreError(f"{owner}: digest: got {shown(digest)}, expected a SHA-256")
    if not isinstance(is_stand_in, bool):
        raise StoreError(f"{owner}: is_stand_in: got {shown(is_stand_in)}, expected true or false")
    n_vertices = whole(f"{owner}: n_vertices", found.get("n_vertices"), 1, MOST_VERTICES)
    return ModelTag(text(f"{owner}: name", found.get("name")), str(digest), is_stand_in, n_vertices)
