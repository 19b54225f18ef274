"""What a build takes over of a version whose coefficients are another model's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.build.attached_rows import carried_fields
from pipeline.store import open_store, with_fields
from pipeline.store.attached import Attached
from pipeline.store.schema import IDENTITY, SCAN
from tests.store.random_store import TAG, make_store, people_of, random_manifest

N = 20
SCANS = {row["scan_id"]: "key" for row in random_manifest(N)}
PEOPLE = {row["identity"]: row["result_key"] for row in people_of(N)}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "unified.zarr"
    make_store(folder, N, people=True, told=({"result_key": "key"},))
    found = open_store(folder)
    other = replace(TAG, name="other", digest="b" * 64)
    fields = {}
    for name, rows in (("shape", N), ("identity_shape", len(PEOPLE))):
        own = Attached(**vars(found.fields[name]), model=other)
        fields[name] = own, np.zeros((rows, 300), np.float32)
    with_fields(folder, fields)
    return folder


def test_all_are_carried_while_nothing_changes(store: Path) -> None:
    carried = carried_fields(store, {SCAN: SCANS, IDENTITY: PEOPLE})
    assert {field.name for field in carried.fields} == {"shape", "identity_shape"}
    assert {field.model and field.model.name for field in carried.fields} == {"other"}
    assert carried.left_out == ()


def test_with_one_new_scan_none_is(store: Path) -> None:
    """Its person's row is the same, and still not of another model than the scans'."""
    carried = carried_fields(store, {SCAN: SCANS | {"s0:new": "key"}, IDENTITY: PEOPLE})
    assert carried.fields == () and not carried.records
    assert {*carried.left_out} == {"shape", "identity_shape"}


def test_a_build_without_people_has_those_of_scans(store: Path) -> None:
    carried = carried_fields(store, {SCAN: SCANS})
    assert [field.name for field in carried.fields] == ["shape"]


def test_a_version_says_whose_coefficients_it_has(store: Path) -> None:
    assert open_store(store).coefficient_model["name"] == "other"
    assert open_store(store).model["name"] == TAG.name
