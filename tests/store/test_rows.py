"""A scan and its registration become a row that says what they said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import StoreError
from pipeline.flame.model import FlameModel, LandmarkEmbedding
from pipeline.refusals import Code
from pipeline.store import (
    ModelTag,
    create_staging,
    fields,
    manifest_row,
    open_store,
    publish,
    row_fields,
    stack_rows,
    write_shard,
)
from pipeline.store.rows import MOST_POINTS, point_fields
from pipeline.store.schema import TABLES
from pipeline.store.validity_bits import unpack_validity
from pipeline.types import REGISTRATION_ARRAYS, Quality, Refusal, Registration, Scan, ScanRecord

V = 21


@pytest.fixture
def model() -> FlameModel:
    """A bare template whose landmarks 30 and 36 lie on its first triangle."""
    embedding = LandmarkEmbedding(
        np.array([30, 36]), np.array([0, 0]), np.array([[1.0, 0, 0], [0, 0.5, 0.5]])
    )
    return FlameModel(
        "bare",
        True,
        np.arange(V * 3, dtype=float).reshape(V, 3),
        np.array([[0, 1, 2]]),
        np.zeros((V, 3, 0)),
        np.zeros((V, 3, 0)),
        np.zeros((V, 3, 0)),
        np.ones((1, V)) / V,
        np.ones((V, 1)),
        np.array([-1]),
        embedding,
    )


@pytest.fixture
def scan() -> Scan:
    """Seven landmarks, the third one missing."""
    landmarks = np.arange(21, dtype=np.float32).reshape(7, 3)
    landmarks[2] = np.nan
    confidence = np.linspace(0.4, 1, 7)
    confidence[2] = 0
    return Scan(
        "s:1",
        np.eye(3),
        np.array([[0, 1, 2]]),
        np.eye(3),
        np.diag([10.0, 10, 10, 1]),
        "cm",
        10.0,
        "declared",
        landmarks,
        "fg7",
        confidence,
        "file",
    )


@pytest.fixture
def registration(model: FlameModel) -> Registration:
    random = np.random.default_rng(0)
    return Registration(
        "s:1",
        model.digest,
        random.normal(size=(V, 3)),
        random.normal(size=(V, 3)),
        random.normal(size=300),
        random.normal(size=100),
        random.normal(size=15),
        random.normal(size=3),
        random.normal(size=(V, 3)),
        random.random(V),
        random.random(V),
        random.random(V) > 0.5,
        random.random(V),
        7,
        "converged",
    )


def test_a_row(scan: Scan, registration: Registration, model: FlameModel) -> None:
    row = row_fields(scan, registration, model)
    for name, field in fields(V).items():
        assert row[name].shape == field.shape, name
        assert row[name].dtype == np.dtype(field.dtype), name
    for name in REGISTRATION_ARRAYS.keys() - {"validity"}:
        assert row[name].tobytes() == getattr(registration, name).tobytes()
    assert (unpack_validity(row["validity"], V) == registration.validity).all()
    assert row["unit_factor_mm"] == 10


def test_landmarks_keep_their_places(
    scan: Scan, registration: Registration, model: FlameModel
) -> None:
    row = row_fields(scan, registration, model)
    present = np.flatnonzero(row["landmark_confidence"])
    assert sorted(present) == [33, 36, 39, 45, 48, 54]  # 42 is the missing one
    assert (row["landmarks_mm"][39] == scan.landmarks_mm[1]).all()  # type: ignore[index]
    assert row["landmark_confidence"][39] == np.float32(0.5)
    assert np.isnan(row["landmarks_mm"]).any(axis=1).sum() == 62
    on_template = row["registered_landmarks_mm"]
    assert (on_template[30] == registration.vertices_mm[0]).all()
    assert np.allclose(on_template[36], registration.vertices_mm[1:3].mean(axis=0))
    assert np.isfinite(on_template).all(axis=1).sum() == 2


def test_a_scan_without_landmarks(registration: Registration, model: FlameModel) -> None:
    scan = Scan("s:1", np.eye(3), [[0, 1, 2]], np.eye(3), np.eye(4), "mm", 1.0, "declared")
    row = row_fields(scan, registration, replace(model, landmarks=None))
    assert np.isnan(row["landmarks_mm"]).all()
    assert np.isnan(row["registered_landmarks_mm"]).all()
    assert not row["landmark_confidence"].any()


def test_points_are_a_fair_sample_in_an_order_of_the_scans_own() -> None:
    n = 3 * MOST_POINTS
    line = np.stack([np.arange(n), np.zeros(n), np.zeros(n)], axis=-1)
    normals = np.roll(np.eye(3), 1, axis=0)[np.arange(n) % 3]
    scan = Scan("s:1", line, [[0, 1, 2]], normals, np.eye(4), "mm", 1.0, "declared")
    found = point_fields(scan)
    place = found["points_mm"][:, 0].astype(int)
    assert len(place) == len(set(place)) == MOST_POINTS
    assert found["normals"].dtype == np.float16
    np.testing.assert_array_equal(found["normals"], normals[place])
    # the mean of a prefix of 1,000 of n lies within 5 standard errors of the middle
    assert abs(place[:1000].mean() - n / 2) < 5 * n / np.sqrt(12 * 1000)
    np.testing.assert_array_equal(point_fields(scan)["points_mm"][:, 0], place)
    other = point_fields(replace(scan, scan_id="s:2"))["points_mm"][:, 0]
    assert (other != place).any()


def test_what_is_not_stored(scan: Scan, registration: Registration, model: FlameModel) -> None:
    failed = replace(registration, status="failed", reason="no overlap")
    with pytest.raises(StoreError, match=r"failed \(no overlap\), not to be stored"):
        row_fields(scan, failed, model)
    other = replace(model, template_mm=model.template_mm + 1)
    with pytest.raises(StoreError, match="registered with another model than 'bare'"):
        row_fields(scan, registration, other)


def test_from_scan_to_store(
    tmp_path: Path, scan: Scan, registration: Registration, model: FlameModel
) -> None:
    record = ScanRecord("s", "s:1", "1", "", "n", True, Path("1.obj"), "obj", "cm", None, (), "ab")
    figures = {"face": {"median": 0.1, "mean": 0.2, "p95": 0.4, "max": 1.0}}
    findings = (
        Refusal("quality", Code.SIZE, "small"),
        Refusal("quality", Code.COVERAGE, "late"),
    )
    quality = Quality(figures, figures, None, 0.9, 0, 90.0, 0.3, "review", findings)
    row = manifest_row(record, scan, registration, quality, identity="s:1", split="train")
    assert {column.name for column in TABLES["manifest"]} >= row.keys()
    staging = create_staging(tmp_path, 1, ModelTag.of(model))
    rows = stack_rows([row_fields(scan, registration, model)])
    publish(tmp_path, staging, [write_shard(staging, 0, rows, model.digest)], [row])
    store = open_store(tmp_path)
    assert store.row("vertices_mm", 0).tobytes() == registration.vertices_mm.tobytes()
    (stored,) = store.manifest.to_pylist()
    assert (stored["reasons"], stored["landmark_error_mm"]) == ("small; late", None)
    assert stored["reason_codes"] == "size;coverage"
    assert stored["scan_to_mesh_p95_mm"] == 0.4


def test_what_was_left_out_is_in_the_manifest(
    scan: Scan, registration: Registration, tmp_path: Path
) -> None:
    record = ScanRecord(
        *("s", "s:1", "1", "", "neutral", True),
        *(Path("1.obj"), "obj", "mm", None, (), "0" * 64),
    )
    face = {"face": dict.fromkeys(("median", "p95"), 0.1)}
    quality = Quality(face, face, None, 1.0, 0, 90.0, 0.1, "accept")
    left_out = {"faces_clutter": 30, "faces_open": 1}
    row = manifest_row(
        record, replace(scan, left_out=left_out, left_out_share=0.25), registration, quality
    )
    assert json.loads(row["left_out"]) == left_out and row["left_out_share"] == 0.25
    columns = {column.name: column.type for column in TABLES["manifest"]}
    assert (columns["left_out"], columns["left_out_share"]) == ("string", "double")
