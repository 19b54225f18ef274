"""A field's rows as the files of a version hold them: mapped, or compressed."""

from __future__ import annotations

from pathlib import Path

from pipeline.store.arrays.compressed import CompressedField
from pipeline.store.arrays.mapped import MappedField
from pipeline.store.form import Form
from pipeline.store.paths import shard_files


def stored_rows(version: Path, form: Form, name: str) -> MappedField | CompressedField:
    """Read-only rows of a field, without what they are multiplied with or added to.

    Raises FileNotFoundError where a shard is missing, StoreError where its index is damaged.
    """
    part, kind = form.holding(name), CompressedField if form.compressed else MappedField
    return kind(part, name, shard_files(version, part, name))
