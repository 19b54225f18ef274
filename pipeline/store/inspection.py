"""Telling what a store holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.store.layout import FILES, current_version, group_attributes, unsealed
from pipeline.store.schema import TABLES
from pipeline.store.tables import read_table

FIGURES = {column.name for column in TABLES["manifest"] if column.type == "double"} | {
    "flipped_triangles"
}
"""Quality columns of the manifest whose medians `inspect_store` gives."""


def inspect_store(store: Path | str) -> dict[str, Any]:
    """What a store holds, from its tables and listing alone; figures are medians over rows.

    Raises StoreError where there is no published store.
    """
    store = Path(store)
    version = store if (store / FILES).exists() else current_version(store)
    listing, attributes = unsealed(version / FILES), group_attributes(version)
    manifest = read_table(version / "manifest.parquet")
    sizes: Counter[str] = Counter()
    for entry in listing["files"].values():
        sizes[entry.get("field", "tables and metadata")] += entry["bytes"]
    medians = {
        name: float(np.median(values))
        for name in manifest.column_names
        if name in FIGURES
        if len(values := manifest[name].drop_null().to_numpy())
    }
    return {
        "store": str(version),
        "version": listing["digest"][:16],
        "schema_version": attributes["facefold_schema"],
        "profile": attributes["profile"],
        "model": attributes["model"],
        "rows": len(manifest),
        "identities": len(manifest["identity"].unique()),
        **{
            name: _counts(manifest[name].to_pylist())
            for name in ("source", "split", "verdict", "licence", "benchmark")
        },
        "rows_by_identity": _counts(manifest["identity"].to_pylist()),
        "quarantined": _counts(read_table(version / "quarantine.parquet")["source"].to_pylist()),
        "excluded": _counts(read_table(version / "excluded.parquet")["source"].to_pylist()),
        "medians": medians,
        "bytes": {**dict(sorted(sizes.items())), "all": sum(sizes.values())},
    }


def _counts(values: list[str | None]) -> dict[str, int]:
    return dict(sorted(Counter("none" if value is None else value for value in values).items()))
