"""Publishing: a staged store becomes a version and HEAD names it, at once or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import StoreError
from pipeline.store.arrays.stored import stored_rows
from pipeline.store.checks.verification import faults_of_version
from pipeline.store.description import Held, described
from pipeline.store.documents import as_json, sealed, unsealed
from pipeline.store.durable_files import disk_faults_told, sync_folder, write_file
from pipeline.store.form import Form, at, form_of, group_attributes
from pipeline.store.head import current_version, move_head
from pipeline.store.listing import file_entry, version_of
from pipeline.store.locks import publishing
from pipeline.store.paths import FILES, PROVENANCE, RUN, VERSIONS, table_file
from pipeline.store.schema import IDENTITY, IDENTITY_ROW, SCAN, SCAN_ROW, VIEW
from pipeline.store.staging import alive, release, sweep
from pipeline.store.tables import (
    Rows,
    identity_rows,
    identity_table,
    manifest_table,
    names_of,
    table,
    view_table,
    write_table,
)
from pipeline.store.topology import read_topology
from pipeline.types import ShardReceipt


def publish(
    store: Path | str,
    staging: Path | str,
    receipts: Sequence[ShardReceipt],
    manifest: Rows | pa.Table,
    quarantine: Rows = (),
    excluded: Rows = (),
    identities: Rows = (),
    provenance: Mapping[str, Any] | None = None,
    views: Rows = (),
    refused_views: Rows = (),
    instead_of: Path | str | None = None,
) -> Path:
    """Publish a staging whose every shard is written; returns the version's folder.

    `manifest` holds one mapping a row, in the arrays' order, or is the `tables.table` of them;
    tables and columns are those of `schema.TABLES`. `identities` adds columns to what the manifest
    says of them; where they have arrays, it names each of them, in the order of these. `views` are
    in the order of their arrays and name scan_id and view at least: what the manifest says of the
    scan is added. `receipts` are of the shards of all.

    `provenance` is JSON; what differs from run to run of the same build (times, host) belongs under
    its key "run", which is kept apart, so that equal input gives equal bytes and the same version:
    publishing what is published already only moves HEAD. Files are read back and compared before
    that, but for those that `link_shards` put there.

    `instead_of` is the version that this one was made from, if what it adds would otherwise be lost
    with what was published meanwhile.

    Raises StoreError, and leaves HEAD alone, where shards are missing or differ from their
    receipts, the tables contradict them, or HEAD names another version than `instead_of`.
    """
    store, staging = Path(store), Path(staging)
    form = form_of(staging)
    by_part = {row_of: _complete(staging, receipts, part) for row_of, part in form.parts.items()}
    people = names_of(identities) if form.identities else ()
    rows = manifest_table(manifest, by_part[SCAN], form.rows_per_shard, people)
    size_of_views = form.part(VIEW).rows_per_shard if form.views else 1
    of_people = identity_rows(rows, identities, in_order=bool(form.identities))
    tables = {
        "manifest": rows,
        "quarantine": table("quarantine", quarantine),
        "excluded": table("excluded", excluded),
        "identities": identity_table(of_people, by_part.get(IDENTITY, ())),
        "views": view_table(views, by_part.get(VIEW, ()), size_of_views, rows),
        "refused_views": table("refused_views", refused_views),
    }
    with alive(staging):
        _write_all_but_shards(staging, form, receipts, tables, dict(provenance or {}))
        old = {
            path
            for receipt in receipts
            for path, file in receipt.files.items()
            if receipt.linked or file.get("linked")
        }
        return put_in_place(store, staging, quick=True, unread=old, instead_of=instead_of)


def put_in_place(
    store: Path,
    staging: Path,
    quick: bool = False,
    unread: Collection[str] = (),
    instead_of: Path | str | None = None,
) -> Path:
    """A complete staging becomes the published version; returns its folder.

    Every file but those `unread` is read back; `quick` compares CRC-32C instead of SHA-256, enough
    for files that were summed when they were written here.
    Raises StoreError, and leaves HEAD alone, where a file is not as `files.json` says, or HEAD
    names another version than `instead_of`.
    """
    with alive(staging), disk_faults_told(store):
        if faults := faults_of_version(staging, quick, unread):
            raise StoreError(f"{staging}: not published: " + "; ".join(faults[:5]))
        with publishing(store):
            if instead_of is not None and current_version(store).name != Path(instead_of).name:
                raise StoreError(
                    f"{store}: another version was published while this one was made from "
                    f"{Path(instead_of).name}; run it again"
                )
            version = _move(store, staging)
            move_head(store, version)
    release(staging)
    sweep(store)
    return version


def _complete(staging: Path, receipts: Sequence[ShardReceipt], form: Form) -> list[ShardReceipt]:
    """The receipts of a part by shard. Raises StoreError unless each of its shards has one, and all
    are of this staging."""
    foreign = {receipt.store for receipt in receipts} - {staging.name}
    if foreign:
        raise StoreError(f"{staging}: receipts of another staging: {', '.join(sorted(foreign))}")
    own = (receipt for receipt in receipts if receipt.row_of == form.row_of)
    ordered = sorted(own, key=lambda receipt: receipt.shard)
    if [receipt.shard for receipt in ordered] != list(range(form.n_shards)):
        got = [receipt.shard for receipt in ordered]
        raise StoreError(
            f"{staging}: {form.row_of}: got receipts of the shards {got}, "
            f"expected 0 … {form.n_shards - 1}"
        )
    return ordered


def _write_all_but_shards(
    staging: Path,
    form: Form,
    receipts: Sequence[ShardReceipt],
    tables: Mapping[str, pa.Table],
    provenance: dict[str, Any],
) -> None:
    _remove_scaffolding(staging)
    for name, content in tables.items():
        write_table(content, staging / table_file(name))
    small = _description(staging, form, tables)
    run = provenance.pop("run", {})
    small[PROVENANCE] = as_json(provenance)
    for path, content in small.items():
        write_file(staging / path, content)
    published = datetime.now(UTC).isoformat()
    write_file(staging / RUN, sealed({"published": published, "run": run}))
    names = [*small, *map(table_file, tables)]
    write_file(staging / FILES, sealed({"files": _files(staging, receipts, names)}))


def _description(staging: Path, form: Form, tables: Mapping[str, pa.Table]) -> dict[str, bytes]:
    """The version's metadata, now that it is known what the rows are, and how many points they
    have."""
    lengths, used = {}, {}
    for group in form.per_scan:
        first, count = stored_rows(staging, form, at(group)).take(np.arange(form.rows)).T
        lengths[group], used[group] = int(first[-1] + count[-1]), int(count.sum())
    topology = read_topology(staging, group_attributes(staging), form.model.n_vertices)
    names = tables["manifest"]["scan_id"].to_pylist()
    held = Held(names, lengths, used)
    if form.identities:
        people = tables["identities"]["identity"].to_pylist()
        rows = tables["manifest"][IDENTITY_ROW.name].to_numpy()
        held = replace(held, people=people, identity_row=rows)
    if form.views:
        views = tables["views"]["view_id"].to_pylist()
        scans = tables["views"][SCAN_ROW.name].to_numpy()
        held = replace(held, view_ids=views, scan_row=scans)
    return described(form, topology, held)


def _files(
    staging: Path, receipts: Sequence[ShardReceipt], others: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Every file of the version: shards as their receipts say, the rest as it lies there."""
    files = {
        path: {key: file[key] for key in ("bytes", "sha256", "crc32c", "field")}
        | {"shard": receipt.shard}
        for receipt in receipts
        for path, file in receipt.files.items()
    }
    return files | {name: file_entry(staging / name) for name in others}


def _remove_scaffolding(staging: Path) -> None:
    """Receipts, claims and the temporary files of killed writers."""
    for path in staging.rglob(".*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _move(store: Path, staging: Path) -> Path:
    """Staging -> versions/<digest>, made durable first."""
    version: Path = store / VERSIONS / version_of(unsealed(staging / FILES))
    version.parent.mkdir(exist_ok=True)
    for folder in [staging, *(path for path in staging.rglob("*") if path.is_dir())]:
        sync_folder(folder)
    if version.exists() and not faults_of_version(version):
        shutil.rmtree(staging)
        return version
    if version.exists():  # damaged: the good copy takes its place, the sweep takes the other
        version.rename(staging.with_name(f"{staging.name}-damaged"))
    staging.rename(version)
    sync_folder(version.parent)
    sync_folder(store)
    return version
