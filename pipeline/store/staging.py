"""Staging a version: a folder of its own inside the store, with all metadata and no shard yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError
from pipeline.store.description import described
from pipeline.store.durable_files import write_file
from pipeline.store.form import Form, form_of
from pipeline.store.head import current_version
from pipeline.store.locks import new_staging, removed_on_fault, sweep
from pipeline.store.paths import HEAD, VERSIONS, is_there
from pipeline.store.schema import ROWS_PER_SHARD, SCHEMA_VERSION, ModelTag
from pipeline.store.topology import Topology


def create_staging(
    store: Path | str,
    n_rows: int,
    model: ModelTag,
    rows_per_shard: int = ROWS_PER_SHARD,
    topology: Topology | None = None,
    **form: Any,
) -> Path:
    """A new staging folder inside `store` with all metadata and no shard yet.

    The calling process must live until `publish`: what a dead process leaves is swept by the next
    call. Several stagings may exist at once; each is published whole or not at all.

    rows_per_shard is a multiple of 16; `topology` (`Topology.of(model)`) is stored for those who
    read the version without facefold; `form` gives `profile`, `extras`, `per_scan`, `int16` of the
    store's `Form`.
    Raises StoreError for wrong numbers, where the store was made with another model, and where the
    folder holds what belongs to no store.
    """
    try:
        wanted = Form(n_rows, model, rows_per_shard, **form)
    except StoreError as error:
        raise StoreError(f"{store}: {error}") from error
    return stage(Path(store), wanted, topology)


def stage(store: Path, form: Form, topology: Topology | None = None) -> Path:
    """`create_staging` of a form that is made already."""
    check_model(store, form.model)
    sweep(store)
    staging = new_staging(store)
    with removed_on_fault(staging):
        for path, content in described(replace(form, schema=SCHEMA_VERSION), topology).items():
            write_file(staging / path, content)
    return staging


def check_model(store: Path | str, model: ModelTag) -> None:
    """Raises StoreError where `store` is published and was made with another model."""
    store = Path(store)
    if not is_there(store / HEAD):
        return
    try:
        versions = [current_version(store)]
    except StoreError:  # a damaged HEAD, which publishing mends: the versions are as good a witness
        versions = list((store / VERSIONS).glob("*"))
    for version in versions[:1]:
        published = form_of(version).model
        same_model(store, published.digest, model.digest, published.name)


def same_model(where: Path, digest: str, got: str, name: str) -> None:
    if digest != got:
        raise StoreError(
            f"{where}: made with the model {name!r} ({digest[:12]}…), the rows with another "
            f"({got[:12]}…); register them again with that model or choose another store"
        )
