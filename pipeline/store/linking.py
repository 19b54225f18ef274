"""Shards that a new version has in common with an earlier one: the same files, under two names."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError
from pipeline.store.form import Form, form_of
from pipeline.store.listing import listing_of
from pipeline.store.paths import path_of, table_file
from pipeline.store.schema import CHECKSUM, SCAN, TABLE_OF
from pipeline.store.table_reading import read_table
from pipeline.store.writer import receipt_of
from pipeline.types import ShardReceipt


def link_shards(
    staging: Path | str,
    before: Path | str,
    shards: Collection[int],
    row_of: str = SCAN,
    but: Collection[str] = (),
) -> list[ShardReceipt]:
    """Puts `shards` of the version `before`, of its scans, identities or views, into the staging as
    they are; returns their receipts. Fields of the names `but` are left out: `write_shard` puts
    them beside the others.

    The caller knows that they hold the wanted rows, and that both have one form but for the numbers
    of rows. Nothing is read: the bytes are what was said of them when they were published. A shard
    whose files are not all there in full size, or which the file system cannot link, is left out:
    it has to be written.
    """
    staging = Path(staging)
    before = Path(before)
    form = form_of(staging).part(row_of)
    names = [name for name in form.fields if name not in but]
    try:
        files_before = listing_of(before)["files"]
        checksums = read_table(
            before / table_file(TABLE_OF[row_of]), [CHECKSUM + name for name in names]
        )
    except StoreError:  # damaged: nothing is taken over from it
        return []
    receipts = []
    for shard in shards:
        files = _files(form, names, shard, files_before)
        if files is None or not all(_linked(before, staging, *file) for file in files.items()):
            continue
        rows = checksums.slice(shard * form.rows_per_shard, form.scans(shard))
        for file in files.values():
            file["row_crc32c"] = rows[CHECKSUM + file["field"]].to_numpy()
        receipts.append(replace(receipt_of(staging, shard, form, files), linked=True))
    return receipts


def _files(
    form: Form, names: Sequence[str], shard: int, listing: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]] | None:
    """Path -> what a receipt says of each file of the shard; None where one is not listed, or was
    written by a facefold that took no CRC-32C."""
    told = {"field", "bytes", "crc32c", "sha256"}
    paths = [path_of(form, name, shard) for name in names]
    if not all(told <= listing.get(path, {}).keys() for path in paths):
        return None
    return {path: {name: listing[path][name] for name in told} for path in paths}


def _linked(before: Path, staging: Path, path: str, told: Mapping[str, Any]) -> bool:
    try:
        if (before / path).stat().st_size != told["bytes"]:
            return False
        (staging / path).parent.mkdir(parents=True, exist_ok=True)
        os.link(before / path, staging / path)
    except OSError:  # gone meanwhile, or a file system without links
        return False
    return True
