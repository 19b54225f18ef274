"""Values by id in a person's own file, .npz or parquet, as they are attached to a store."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import StoreError
from pipeline.store.checksums import file_digest
from pipeline.store.documents import fault_of, shown
from pipeline.store.schema import NAME_OF
from pipeline.types import Array

ANY_ID = ("ids", "id")
"""What a file may call it as well."""
PARQUET = (".parquet", ".pq")


class Given(NamedTuple):
    """What a file gives."""

    ids: pa.Array
    values: Array  # (n,*shape), little-endian numbers
    row_of: str | None
    """What the name of its ids says: SCAN, VIEW or IDENTITY; None: nothing."""
    sha256: str


def given_values(path: Path | str, name: str) -> Given:
    """The values of the field `name` in a file.

    An .npz holds ids (n,) and values (n,*shape); a parquet table a column of ids, and one of
    numbers or of lists of one length. The ids are called scan_id, view_id, identity or ids, the
    values as the field or `values`, or they are all that there is besides. Raises StoreError that
    says what the file holds instead.
    """
    path = Path(path)
    if path.suffix not in (".npz", *PARQUET):
        raise StoreError(f"{path}: expected a file that ends with .npz or .parquet")
    try:
        arrays = _of_parquet(path, name) if path.suffix in PARQUET else _of_npz(path, name)
        digest = file_digest(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, pa.ArrowException) as error:
        raise StoreError(f"{path}: unreadable ({fault_of(error)})") from error
    ids, values, called = arrays
    row_of = next((of for of, column in NAME_OF.items() if column == called), None)
    return Given(_texts(path, ids), _numbers(path, values, len(ids)), row_of, digest)


def _of_npz(path: Path, name: str) -> tuple[Array, Array, str]:
    with np.load(path, allow_pickle=False) as held:
        called, column = _names(path, held.files, name)
        return held[called], held[column], called


def _of_parquet(path: Path, name: str) -> tuple[Array, Array, str]:
    called, column = _names(path, pq.read_schema(path).names, name)
    table = pq.read_table(path, columns=[called, column])
    for one in (called, column):
        if table[one].null_count:
            row = table[one].is_null().index(True).as_py()
            raise StoreError(f"{path}: {one}: row {row} is empty; leave the row out")
    ids = np.array(table[called].to_pylist(), object)
    return ids, _flat(path, column, table[column].combine_chunks()), called


def _flat(path: Path, name: str, column: pa.Array) -> Array:
    """(n,*shape) of a column of numbers, or of lists of one length, of such again."""
    shape = [len(column)]
    while pa.types.is_nested(column.type):
        if not hasattr(column.type, "value_type"):
            raise StoreError(f"{path}: {name}: holds {column.type}, expected numbers or lists")
        lengths = pc.list_value_length(column).unique().to_pylist()
        if len(lengths) > 1:
            raise StoreError(f"{path}: {name}: lists of {lengths[:5]} values, expected one length")
        shape.append(lengths[0] if lengths else 0)
        column = column.flatten()
    if column.null_count:
        raise StoreError(f"{path}: {name}: lists have empty places; give a number for each")
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)


def _names(path: Path, held: Sequence[str], name: str) -> tuple[str, str]:
    """The names of the ids and of the values among those `held`."""
    ids = [one for one in (*NAME_OF.values(), *ANY_ID) if one in held and one != name]
    if len(ids) != 1:
        raise StoreError(
            f"{path}: holds {', '.join(map(shown, held)) or 'nothing'}; expected ids under one of "
            f"the names {', '.join((*NAME_OF.values(), ANY_ID[0]))}"
        )
    others = [one for one in held if one != ids[0]]
    found = next((one for one in (name, "values") if one in others), None)
    if found is None and len(others) == 1:
        found = others[0]
    if found is None:
        raise StoreError(
            f"{path}: holds {', '.join(map(shown, others)) or 'nothing'} besides {ids[0]}; "
            f"expected the values under the name {name}"
        )
    return ids[0], found


def _texts(path: Path, ids: Array) -> pa.Array:
    if ids.ndim != 1 or not all(isinstance(one, str) for one in ids.tolist()):
        raise StoreError(f"{path}: ids: got {ids.dtype} {ids.shape}, expected a list of texts")
    return pa.array(ids.tolist(), pa.string())


def _numbers(path: Path, values: Array, n: int) -> Array:
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    if values.dtype.kind not in "iuf" or values.dtype.itemsize > 8:
        raise StoreError(f"{path}: values: got {values.dtype}, expected numbers of up to 64 bits")
    if not values.ndim or len(values) != n:
        raise StoreError(f"{path}: {n} ids with values {values.shape}; expected one row an id")
    if 0 in values.shape:
        raise StoreError(f"{path}: values: got {values.shape}, expected at least one number an id")
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
