"""The schema agrees with the types it stores and with its checked-in copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.store.schema import fields, schema_json

CHECKED_IN = Path(__file__).parents[2] / "docs" / "reference" / "store_schema.json"


def test_the_checked_in_schema_is_current() -> None:
    remedy = f"run: python -m pipeline.store.schema {CHECKED_IN}"
    assert CHECKED_IN.read_text(encoding="utf-8") == schema_json(), remedy


def test_units_are_in_the_names() -> None:
    for name, field in fields().items():
        assert name.endswith("_mm") == (field.unit == "mm" and name != "source_to_canonical"), name
        assert len(field.dims) == len(field.shape), name
        assert field.row_bytes == np.zeros(field.shape, field.dtype).nbytes
