"""The files of a store: where each lies, and what it is for.

STORE/HEAD                          name of the published version
STORE/versions/<name>/zarr.json     a Zarr v3 group; its attributes are the version's `Form`
STORE/versions/<name>/<field>/zarr.json, c/<shard>/0/0
STORE/versions/<name>/faces, region, region_mask, scan_id, identity, identity_row, view_id,
                      scan_row: `description.py`
STORE/versions/<name>/manifest.parquet, quarantine.parquet, excluded.parquet, identities.parquet,
                      views.parquet, refused_views.parquet, provenance.json
STORE/versions/<name>/files.json    size and SHA-256 of all of these; its digest names it
STORE/versions/<name>/run.json      when, where and how long: outside the digest
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import StoreError
from pipeline.store.documents import fault_of, shown
from pipeline.store.schema import tables_of

if TYPE_CHECKING:
    from pipeline.store.form import Form

HEAD, VERSIONS = "HEAD", "versions"
GROUP, PROVENANCE, FILES, RUN = "zarr.json", "provenance.json", "files.json", "run.json"
"""Of a version, beside its tables and arrays."""


def table_file(name: str) -> str:
    """Of a table of `schema.TABLES`, within the version."""
    return f"{name}.parquet"


MANIFEST = table_file("manifest")
TABLES_AND_METADATA = (GROUP, PROVENANCE, *map(table_file, tables_of(schema=1)))
"""Files that every version has, and lists."""


def shard_path(array: str, shard: int, n_dims: int) -> str:
    """Where Zarr looks for a shard of an array whose rows have `n_dims` dimensions."""
    return "/".join([array, "c", str(shard), *["0"] * n_dims])


def path_of(form: Form, name: str, shard: int) -> str:
    """A shard's file, within the version."""
    return shard_path(form.array(name), shard, len(form.fields[name].shape))


def shard_files(version: Path, form: Form, name: str) -> list[str]:
    """Those of a field, of which there may be thousands: no Paths."""
    return [f"{version}/{path_of(form, name, shard)}" for shard in range(form.n_shards)]


def is_there(path: Path) -> bool:
    """Raises StoreError for what cannot be a path: too long, or with a NUL."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise StoreError(f"{shown(str(path))}: unreadable ({fault_of(error)})") from error
    return True


def strangers(names: Iterable[str]) -> list[str]:
    """Those names of a store's folder that belong to no store; hidden ones may be anybody's."""
    ours = {HEAD, VERSIONS, "lost+found"}
    return sorted(name for name in names if name not in ours and not name.startswith("."))
