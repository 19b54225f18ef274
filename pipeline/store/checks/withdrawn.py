"""Whether a version holds anything of people who withdrew, by the marks that it carries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.store.arrays.stored import stored_rows
from pipeline.store.checks.content import split
from pipeline.store.checks.file_places import Files, Folder
from pipeline.store.form import Form, at
from pipeline.store.paths import MANIFEST, PROVENANCE, path_of, table_file
from pipeline.store.schema import Field
from pipeline.store.withdrawn import is_file_of, sources_without, texts_naming, theirs
from pipeline.types import Array, Withdrawal

TELLING = ("vertices_mm", "neutral_mm", "points_mm", "identity_neutral_mm", "images")
"""Fields in which the same bytes are the same scan: others may be zero, or all alike."""
FEW_BYTES = 600
"""Of a scan's points: so few may be another's."""
ROWS_AT_ONCE = 256


def traces(
    tables: Mapping[str, pa.Table], provenance: Mapping[str, Any], gone: Sequence[Withdrawal]
) -> Iterator[str]:
    """What the tables and the provenance of a version hold of people who withdrew; unnamed."""
    for one in gone:
        who = f"of somebody who withdrew on {one.date}; run `facefold withdraw` again"
        for row in np.flatnonzero(theirs(tables["manifest"], one)).tolist():
            yield f"{MANIFEST}: row {row} is {who}"
        for row, person in enumerate(tables["identities"]["identity"].to_pylist()):
            if one.of_person(person):
                yield f"{table_file('identities')}: row {row} is {who}"
        for name in ("manifest", "identities"):
            for column in texts_naming(tables[name], one):
                yield f"{table_file(name)}: {column} names a person or a scan {who}"
        for name in ("quarantine", "excluded", "views", "refused_views"):
            for row, found in enumerate(_files(tables.get(name))):
                if is_file_of(one, found):
                    yield f"{table_file(name)}: row {row} is {who}"
        if sources_without(provenance, one) != provenance.get("sources", []):
            yield f"{PROVENANCE}: names a scan or a person {who}"


def _files(table: pa.Table | None) -> list[dict[str, Any]]:
    """Of each row what says whose file it is; none of a table that the version does not have."""
    if table is None:
        return []
    names = [name for name in ("scan_id", "source", "path") if name in table.column_names]
    found: list[dict[str, Any]] = table.select(names).to_pylist()
    return found


def rows_of_withdrawn(
    version: Files, form: Form, files: Mapping[str, Mapping[str, Any]], gone: Sequence[Withdrawal]
) -> Iterator[str]:
    """Each stored row whose bytes are those of a row that was withdrawn."""
    for name, row, digest in row_digests(version, form, files):
        for one in gone:
            if one.of_row(digest):
                yield f"{name}: row {row} holds the bytes of a row withdrawn on {one.date}"


def telling(part: Form) -> dict[str, Field]:
    """The fields of a part of the form whose rows no two scans, people or views have in common, as
    they are stored."""
    return {name: part.stored(name) for name in TELLING if name in part.fields}


def row_digests(
    version: Files, form: Form, files: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, int, str]]:
    """Field, row and SHA-256 of the stored bytes of each row of the telling fields.

    Below a URL, of those that lie there row by row: a compressed version is pulled to see them all.
    """
    for part in form.parts.values():
        if isinstance(version, Folder):
            yield from digests_of(version.path, form, part.row_of, np.arange(part.rows))
        elif not form.compressed:
            for name, field in telling(part).items():
                for shard in range(part.n_shards) if not field.group else ():
                    path, first = path_of(part, name, shard), shard * part.rows_per_shard
                    rows = split(version.pieces(path, files[path]["bytes"]), field.row_bytes)
                    for i, row in zip(range(part.scans(shard)), rows, strict=False):
                        yield name, first + i, hashlib.sha256(row).hexdigest()


def digests_of(
    version: Path, form: Form, row_of: str, rows: Array
) -> Iterator[tuple[str, int, str]]:
    """Field, row and SHA-256 of the stored bytes of some rows of a version's telling fields."""
    part = form.part(row_of)
    for name, field in telling(part).items():
        yield from _of_field(version, part, name, field, rows)


def _of_field(
    version: Path, form: Form, name: str, field: Field, rows: Array
) -> Iterator[tuple[str, int, str]]:
    held = stored_rows(version, form, name)
    if not field.group:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            for row, values in zip(some.tolist(), held.take(some), strict=True):
                yield name, row, hashlib.sha256(values.tobytes()).hexdigest()
        return
    places = stored_rows(version, form, at(field.group)).take(rows)
    for row, (first, count) in zip(rows.tolist(), places.tolist(), strict=True):
        if count * field.row_bytes >= FEW_BYTES:
            content = held.span(first, count).tobytes()
            yield name, row, hashlib.sha256(content).hexdigest()
