"""Stores of every form: with points, packed, in steps; what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from random_store import (
    N_VERTICES,
    TAG,
    make_store,
    random_manifest,
    random_points,
    random_rows,
)

from pipeline.errors import StoreError
from pipeline.store import create_staging, open_store, publish, subset, verify, write_shard
from pipeline.store.arrays.int16 import IN_STEPS, STEP_MM
from pipeline.store.form import Form
from pipeline.store.paths import shard_path

N = 40
FORMS: list[dict[str, Any]] = [
    {"points": True},
    {"points": True, "profile": "archive"},
    {"points": True, "int16": True},
    {"points": True, "int16": True, "profile": "archive"},
]


def checksums(store: Path) -> dict[str, list[int]]:
    manifest = open_store(store).manifest
    names = [name for name in manifest.column_names if name.startswith("crc32c_")]
    return {name: manifest[name].to_pylist() for name in names}


@pytest.mark.parametrize("form", FORMS)
def test_what_was_written_comes_back(tmp_path: Path, form: dict[str, Any]) -> None:
    make_store(tmp_path, N, **form)
    assert verify(tmp_path) == []
    store, rows, points = open_store(tmp_path), random_rows(N), random_points(N)
    shuffled = np.random.default_rng(1).permutation(N)
    for name, values in rows.items():
        got = store.read(name, shuffled)
        assert (got.dtype, got.shape) == (values.dtype, values.shape)
        error = STEP_MM / 2 + 1e-6 if store.form.in_steps(name) else 0
        np.testing.assert_allclose(got, values[shuffled], rtol=0, atol=error)
        np.testing.assert_allclose(store.row(name, N - 1), values[N - 1], rtol=0, atol=error)
    for name, by_scan in points.items():
        error = STEP_MM / 2 + 1e-6 if store.form.in_steps(name) else 0
        for scan, values in enumerate(by_scan):
            got = store.read_ragged(name, scan)
            assert (got.dtype, got.shape) == (values.dtype, values.shape)
            np.testing.assert_allclose(got, values, rtol=0, atol=error)
        assert store.read_ragged(name, 0, 7).tobytes() == store.read_ragged(name, 0)[:7].tobytes()


@pytest.mark.parametrize("profile", ["training", "archive"])
def test_chunks_of_nothing_but_fill_values_are_rows(tmp_path: Path, profile: str) -> None:
    rows = random_rows(N)
    rows["landmarks_mm"][:] = np.nan
    rows["validity"][:] = 0
    staging = create_staging(tmp_path, N, TAG, 64, profile=profile)
    publish(tmp_path, staging, [write_shard(staging, 0, rows, TAG.digest)], random_manifest(N))
    assert verify(tmp_path) == []
    store = open_store(tmp_path)
    for name in ("landmarks_mm", "validity"):
        np.testing.assert_array_equal(store.read(name, slice(None)), rows[name])


@pytest.mark.parametrize("form", FORMS)
def test_plain_zarr(tmp_path: Path, form: dict[str, Any]) -> None:
    group = zarr.open_group(make_store(tmp_path, N, **form), mode="r")
    store, written = open_store(tmp_path), random_rows(N) | random_points(N)
    assert set(group.array_keys()) == {*map(store.form.array, store.fields), "scan_id"}
    places = group["points_at"][...]
    for name, values in written.items():
        array = group[store.form.array(name)]
        scale = np.float32(array.attrs.get("scale_factor", 1))
        got = array[...] * scale if store.form.in_steps(name) else array[...]
        if store.form.in_steps(name) and (middle := IN_STEPS[name]):
            got = got + group[middle][...][:, None]
        if isinstance(values, list):
            got = np.concatenate([got[first : first + count] for first, count in places])
            values = np.concatenate(values)
        error = STEP_MM / 2 + 1e-6 if store.form.in_steps(name) else 0
        np.testing.assert_allclose(got, values, rtol=0, atol=error)


def test_a_sample_is_the_first_points(tmp_path: Path) -> None:
    make_store(tmp_path, N, points=True)
    store, written = open_store(tmp_path), random_points(N)["points_mm"]
    rows = [5, 0, 1, N - 1]
    got = store.read_points(("points_mm", "normals"), rows, 30)
    assert got["normals"].shape == (4, 30, 3)
    for sample, row in zip(got["points_mm"], rows, strict=True):
        held = written[row]
        if len(held):
            np.testing.assert_array_equal(sample, held[np.arange(30) % len(held)])
        else:
            assert np.isnan(sample).all()
    assert store.read_points(("points_mm",), rows, 0)["points_mm"].shape == (4, 0, 3)


def test_from_profile_to_profile(tmp_path: Path) -> None:
    original = make_store(tmp_path / "a", N, points=True)
    archive = subset(tmp_path / "a", "True", tmp_path / "b", profile="archive")
    back = subset(tmp_path / "b", "True", tmp_path / "c", profile="training")
    assert checksums(tmp_path / "a") == checksums(tmp_path / "b") == checksums(tmp_path / "c")
    for path in original.rglob("c/**/*"):
        if path.is_file():
            assert (back / path.relative_to(original)).read_bytes() == path.read_bytes()
    field = shard_path("vertices_mm", 0, 2)
    assert (archive / field).stat().st_size != (original / field).stat().st_size


def test_a_subset_keeps_the_points_of_its_rows(tmp_path: Path) -> None:
    make_store(tmp_path / "a", N, points=True)
    subset(tmp_path / "a", "source == 's1'", tmp_path / "b", rows_per_shard=32)
    subset(tmp_path / "a", "source == 's1'", tmp_path / "c", extras=())
    store = open_store(tmp_path / "b")
    for row, values in enumerate(random_points(N)["points_mm"][1::2]):
        assert store.read_ragged("points_mm", row).tobytes() == values.tobytes()
    assert "points_mm" not in open_store(tmp_path / "c").fields


def test_the_second_time_lengths_in_steps_lose_nothing(tmp_path: Path) -> None:
    make_store(tmp_path / "a", N, int16=True, people=True)
    subset(tmp_path / "a", "True", tmp_path / "b", int16=False)
    subset(tmp_path / "b", "True", tmp_path / "c", int16=True)
    first, third = open_store(tmp_path / "a"), open_store(tmp_path / "c")
    for name in IN_STEPS:  # a middle may round to another millimetre: the same grid all the same
        values = first.read(name, slice(None))
        np.testing.assert_allclose(third.read(name, slice(None)), values, rtol=0, atol=1e-4)


def test_damage_in_an_archive_is_found(tmp_path: Path) -> None:
    version = make_store(tmp_path, N, points=True, profile="archive")
    for name, n_dims in (("shape", 1), ("points_mm", 1)):
        path = version / shard_path(name, 1, n_dims)
        content = bytearray(path.read_bytes())
        content[20] ^= 1
        path.write_bytes(content)
    assert [fault.split(":")[0] for fault in verify(tmp_path)] == [
        "points_mm/c/1/0",
        "shape/c/1/0",
    ]
    store = open_store(tmp_path)
    with pytest.raises(StoreError, match=r"shape/c/1/0: chunk 0: damaged"):
        store.read("shape", [16])
    store.read("shape", [15])
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"points_mm/c/1/0: its index: damaged"):
        open_store(tmp_path).read_ragged("points_mm", 0)


def test_faults_of_rows(tmp_path: Path) -> None:
    form = {"extras": ("points_mm", "normals"), "per_scan": {"point": 64}}
    staging = create_staging(tmp_path, 16, TAG, 16, **form)
    good: dict[str, Any] = random_rows(16) | random_points(16)

    def refused(match: str, **changed: Any) -> None:
        with pytest.raises(StoreError, match=match):
            write_shard(staging, 0, good | changed, TAG.digest)

    points, normals = good["points_mm"], good["normals"]
    refused("got rows of 15 scans, expected 16", points_mm=points[1:], normals=normals[1:])
    refused(
        r"normals: scan 2: got float16 \(\d+, 3\), expected",
        normals=[*normals[:2], normals[0], *normals[3:]],
    )
    long = [np.zeros((65, 3), "<f4"), *points[1:]], [np.zeros((65, 3), "<f2"), *normals[1:]]
    refused("scan 0: got float32 .65, 3., .* at most 64 rows", points_mm=long[0], normals=long[1])
    refused("scan 0 holds values that are not", points_mm=[points[0] * np.nan, *points[1:]])
    with pytest.raises(StoreError, match="normals: missing"):
        write_shard(staging, 0, {k: v for k, v in good.items() if k != "normals"}, TAG.digest)
    again = write_shard(staging, 0, good, TAG.digest)
    assert write_shard(staging, 0, good, TAG.digest) == again
    refused("already holds other rows of points_mm", points_mm=[points[0] + 1, *points[1:]])


def test_lengths_that_steps_cannot_hold(tmp_path: Path) -> None:
    staging = create_staging(tmp_path, 16, TAG, 16, int16=True)
    rows = random_rows(16)
    rows["vertices_mm"] += 1114  # a head may lie anywhere
    rows["neutral_mm"] -= 500
    write_shard(staging, 0, rows, TAG.digest)
    staging = create_staging(tmp_path / "other", 16, TAG, 16, int16=True)
    rows["vertices_mm"][3, 5, 1] += 330
    with pytest.raises(StoreError, match=r"vertices_mm: 16\d\.\d mm .* int16 holds up to 163\.8"):
        write_shard(staging, 0, rows, TAG.digest)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"profile": "zip"}, "profile: got 'zip', expected training or archive"),
        ({"extras": ("hats",)}, "extras: got 'hats'"),
        ({"extras": ("points_mm",)}, "per_scan: says nothing of 'point'"),
        ({"extras": ("points_mm",), "per_scan": {"point": 0}}, "per_scan: says nothing"),
        ({"rows": 0}, "0 rows"),
        ({"rows_per_shard": 100}, "multiple of 16"),
    ],
)
def test_no_form(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(StoreError, match=match):
        Form(**{"rows": 5, "model": TAG} | wrong)


def test_what_is_and_is_not_of_a_group(tmp_path: Path) -> None:
    make_store(tmp_path, N, points=True)
    store = open_store(tmp_path)
    with pytest.raises(StoreError, match="points_mm holds any number of rows a scan"):
        store.read("points_mm", [0])
    with pytest.raises(StoreError, match=r"'shape' is no field of several .*points_mm"):
        store.read_ragged("shape", 0)
    with pytest.raises(IndexError):
        store.read_ragged("points_mm", N)
    assert store.read("points_at", [0]).tolist() == [[0, 50]]
    assert store.fields["vertices_mm"].row_bytes == N_VERTICES * 12


def test_a_store_of_schema_1(tmp_path: Path) -> None:
    """Written before forms had these names, it is one of the plain form."""
    plain = Form(40, TAG, 16)
    old = {k: v for k, v in plain.attributes().items() if k not in ("extras", "per_scan", "int16")}
    assert Form.of(old | {"facefold_schema": 1}) == plain
