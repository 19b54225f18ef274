"""Files of results keep what a registration and a scan are, all of it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from pipeline.build.result_files import (
    SCAN_ARRAYS,
    ScanViews,
    load_registration,
    load_row,
    load_scan,
    load_view_arrays,
    save_result,
    save_scan,
    save_views,
    scan_id_in,
    views_path,
)
from pipeline.errors import RegistrationError, StoreError
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.refusals import Code
from pipeline.registration.outcome import failed
from pipeline.registration.template import prepare_template
from pipeline.store import fields as stored_fields
from pipeline.store import row_fields
from pipeline.types import (
    REGISTRATION_ARRAYS,
    MarginalInformation,
    Registration,
    RowArray,
    Scan,
)


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


@pytest.fixture(scope="module")
def registration(model: FlameModel) -> Registration:
    """Of which no value is a default."""
    rng, n = np.random.default_rng(3), len(model.template_mm)
    arrays = {
        name: rng.random(array.shape(n)) if array.dtype is not np.bool_ else rng.random(n) > 0.5
        for name, array in REGISTRATION_ARRAYS.items()
    }
    return Registration(
        scan_id="s:1",
        model_digest=model.digest,
        **arrays,
        iterations=7,
        status="iteration limit",
        reason="it still moved",
        code=Code.SINGULAR,
        figures={"moved_mm": 0.3},
        landmark_error_mm=1.5,
        seconds=2.0,
        marginal=MarginalInformation(rng.random(2), rng.random(3)),
    )


@pytest.fixture(scope="module")
def scan() -> Scan:
    return Scan(
        scan_id="s:1",
        vertices_mm=np.eye(3),
        faces=np.array([[0, 1, 2]]),
        normals=np.eye(3),
        source_to_canonical=np.diag([10.0, 10, 10, 1]),
        unit="cm",
        unit_factor_mm=10.0,
        unit_evidence="declared",
        landmarks_mm=np.arange(21.0).reshape(7, 3),
        landmark_scheme="fg7",
        landmark_confidence=np.ones(7),
        landmark_source="file",
        oriented=False,
        left_out={"faces_empty": 2},
        left_out_share=0.1,
    )


def equal(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()
    if isinstance(a, MarginalInformation) and isinstance(b, MarginalInformation):
        return equal(a.mean, b.mean) and equal(a.triangle, b.triangle)
    return a == b


def test_a_registration_comes_back_with_every_field_but_its_seconds(
    tmp_path: Path, scan: Scan, registration: Registration, model: FlameModel
) -> None:
    path = tmp_path / "r.arrays"
    row = row_fields(scan, registration, model)
    save_result(path, row, registration)
    found = load_registration(path, prepare_template(model, "cpu", 1))
    assert found is not None
    for field in fields(Registration):
        if field.name != "seconds":
            assert equal(getattr(found, field.name), getattr(registration, field.name)), field.name
    assert found.seconds == 0
    kept = load_row(path)
    assert kept.keys() == row.keys() and all(equal(kept[name], row[name]) for name in row)


def test_a_scan_comes_back_with_every_field(tmp_path: Path, scan: Scan) -> None:
    save_scan(tmp_path / "s.arrays", scan)
    found = load_scan(tmp_path / "s.arrays")
    assert found is not None
    for field in fields(Scan):
        assert equal(getattr(found, field.name), getattr(scan, field.name)), field.name
        is_array = isinstance(getattr(scan, field.name), np.ndarray)
        assert is_array == (field.name in SCAN_ARRAYS), field.name


def test_every_array_of_a_registration_is_declared(registration: Registration) -> None:
    arrays = [f.name for f in fields(Registration) if "Array" in str(f.type)]
    assert list(REGISTRATION_ARRAYS) == arrays


def test_the_schema_has_every_array_as_it_is_declared(model: FlameModel) -> None:
    n = len(model.template_mm)
    schema = stored_fields(n)
    own = [name for name, field in schema.items() if field.stage == "register"]
    assert own == [*REGISTRATION_ARRAYS, "registered_landmarks_mm"]
    for name, array in REGISTRATION_ARRAYS.items():
        field, flags = schema[name], array.dtype is np.bool_
        assert field.unit == array.unit and field.meaning.startswith(array.meaning), name
        assert field.shape == (((n + 7) // 8,) if flags else array.shape(n)), name
        assert np.dtype(field.dtype) == (np.uint8 if flags else array.dtype), name


def test_what_is_declared_is_in_rows_and_failed_results(
    monkeypatch: pytest.MonkeyPatch, scan: Scan, registration: Registration, model: FlameModel
) -> None:
    more = RowArray(("vertex", "xyz"), "mm", "more", np.float64)
    monkeypatch.setitem(REGISTRATION_ARRAYS, "more_mm", more)
    with pytest.raises(AttributeError, match="more_mm"):  # a row asks the registration for it
        row_fields(scan, registration, model)
    with pytest.raises(TypeError, match="more_mm"):  # and its class has no such field
        failed(prepare_template(model, "cpu", 1), "s:1", RegistrationError("no face"))


def test_the_views_of_a_scan_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {"images": np.full((2, 3, 3), 7, np.uint8), "landmarks_px": np.full((2, 68), np.nan)}
    path = views_path(tmp_path, "ab12")
    save_views(path, "s:1", arrays)
    found = load_view_arrays(path)
    assert all(found[name].tobytes() == arrays[name].tobytes() for name in arrays)
    assert found.keys() == arrays.keys() and scan_id_in(path) == "s:1"
    path.write_bytes(path.read_bytes()[:-5] + b"\0\0\0\0\0")
    with pytest.raises(StoreError, match="damaged"):
        load_view_arrays(path)
    with pytest.raises(FileNotFoundError):
        load_view_arrays(views_path(tmp_path, "cd"))


def test_a_new_network_makes_other_rows_of_the_same_views() -> None:
    views = ScanViews("ab")
    assert views.result_key == "ab"
    assert views._replace(embedding_key="cd").result_key != views.result_key
