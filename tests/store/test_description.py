"""A version describes itself: what zarr-python, xarray and dask show is what our reader reads."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xarray as xr
import zarr
from random_store import (
    TAG,
    part,
    people_of,
    random_manifest,
    random_people,
    random_points,
    random_rows,
    random_views,
    views_of,
)

from pipeline.errors import StoreError
from pipeline.store import create_staging, open_store, publish, pull, push, subset, verify
from pipeline.store import write_shard as write
from pipeline.store.arrays.int16 import IN_STEPS
from pipeline.store.description import Held, described
from pipeline.store.documents import sealed
from pipeline.store.form import Form
from pipeline.store.reader import Store
from pipeline.store.schema import SCHEMA_VERSION, TABLES
from pipeline.store.topology import Topology
from pipeline.types import Array

N, SHARD, PEOPLE, VIEWS = 40, 16, 20, 34
PROFILES: dict[str, dict[str, Any]] = {
    "training": {},
    "training, int16": {"int16": True},
    "archive": {"profile": "archive"},
    "archive, int16": {"profile": "archive", "int16": True},
}
TOPOLOGY = Topology(
    np.arange(60).reshape(20, 3).astype("<i4"),
    {"face": np.arange(5, 50), "left_eyeball": np.array([1, 60]), "none of it": np.arange(0)},
)
FORM: dict[str, Any] = {
    "extras": ("points_mm", "normals", "embeddings"),
    "per_scan": {"point": 64},
    "identities": PEOPLE,
    "views": VIEWS,
}


def rows() -> dict[str, Any]:
    """Heads anywhere within a metre, and points."""
    random = np.random.default_rng(3)
    found: dict[str, Any] = random_rows(N) | random_points(N)
    for name in ("vertices_mm", "neutral_mm"):
        found[name] = found[name] * 30 + random.integers(-900, 900, (N, 1, 3)).astype("<f4")
    return found


def views() -> dict[str, Any]:
    embeddings = np.random.default_rng(4).normal(size=(VIEWS, 512)).astype("<f4")
    embeddings[3] = np.nan
    return random_views(VIEWS) | {"embeddings": embeddings}


@pytest.fixture(scope="module", params=PROFILES)
def version(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of scans and two of people, the last ones short."""
    store = tmp_path_factory.mktemp("described")
    form = FORM | PROFILES[request.param]
    staging = create_staging(store, N, TAG, SHARD, TOPOLOGY, **form)
    receipts = [write(staging, k, part(rows(), k, N, SHARD), TAG.digest) for k in range(3)]
    people = random_people(PEOPLE)
    receipts += [
        write(staging, k, part(people, k, PEOPLE, SHARD), TAG.digest, "identity") for k in range(2)
    ]
    shown = views()
    receipts += [
        write(staging, k, part(shown, k, VIEWS, SHARD), TAG.digest, "view") for k in range(3)
    ]
    tables: dict[str, Any] = {"identities": people_of(N), "views": views_of(N)}
    return publish(store, staging, receipts, random_manifest(N), **tables)


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def shown_in_mm(arrays: Mapping[str, Any], name: str) -> Array:
    """A field as somebody has it who knows the arrays' names alone."""
    if name in arrays:
        return np.asarray(arrays[name])
    base = name.removesuffix("_mm")
    middle = np.asarray(arrays[f"{base}_middle_mm"])
    return np.asarray(arrays[f"{base}_from_middle_mm"]) + middle[:, None]


def scans_rows(values: Array, places: Array) -> Array:
    return np.concatenate([values[first : first + count] for first, count in places])


def own(store: Store, name: str) -> Array:
    if store.fields[name].row_of == "identity":
        return store.read_identities(name, slice(None))
    if store.fields[name].row_of == "view":
        return store.read_views(name, slice(None))
    if not store.fields[name].group:
        return store.read(name, slice(None))
    return np.concatenate([store.read_ragged(name, row) for row in range(N)])


def test_xarray_shows_what_our_reader_reads(version: Path) -> None:
    store, opened = open_store(version), xr.open_zarr(version)
    for name, field in store.fields.items():
        got, exact = shown_in_mm(opened, name), not store.form.holding(name).in_steps(name)
        if field.group:
            got = scans_rows(got, opened[f"{field.group}s_at"].values)
        expected = own(store, name)
        assert (got.dtype == expected.dtype or not exact) and got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=0, atol=0 if exact else 1e-4)
    np.testing.assert_array_equal(xr.open_dataset(version, engine="zarr")["pose"], opened["pose"])
    assert opened["shape"].coords["scan_id"].values.tolist() == [r["scan_id"] for r in ROWS]
    assert opened["faces"].values.tolist() == TOPOLOGY.faces.tolist()
    person = opened["identity_shape"].sel(identity="person:0007")
    np.testing.assert_array_equal(person, random_people(PEOPLE)["identity_shape"][12])
    by_scan = opened["identity_scans"].isel(identity=opened["identity_row"].load())
    assert by_scan.dims == ("scan",) and by_scan.values.tolist() == [20 - i // 2 for i in range(N)]
    scans = opened["scan_row"].values[opened["view_id"].values == "s0:scan_30#render0"]
    assert scans.tolist() == [30] and opened["view_id"].dims == ("view",)
    mask = opened["region_mask"].sel(region="face").values
    assert np.flatnonzero(mask).tolist() == list(range(5, 50))


ROWS = random_manifest(N)


def test_what_the_guide_says(version: Path) -> None:
    """docs/explanation/store.md, "Without facefold"."""
    faces, store = xr.open_zarr(version), open_store(version)
    inside = faces.region_mask.sel(region="face").values
    assert faces.weight.isel(vertex=inside).shape == (N, 45)
    first, count = faces.points_at[12].values
    points = faces.points_mm[first : first + count]
    np.testing.assert_array_equal(points, store.read_ragged("points_mm", 12))
    images = faces.images.isel(view=(faces.scan_row == 12).values)
    theirs = np.flatnonzero(store.scan_row_of_view == 12)
    np.testing.assert_array_equal(images, store.read_views("images", theirs))
    assert images.shape == (2, 224, 224, 3)
    if not store.form.int16:
        by_scan = faces.identity_neutral_mm.isel(identity=faces.identity_row.load())
        wanted = store.read("identity_neutral_mm", slice(None))
        np.testing.assert_array_equal(by_scan.values, wanted)
    else:
        vertices_mm = faces.vertices_from_middle_mm + faces.vertices_middle_mm
        assert vertices_mm.dims == ("scan", "vertex", "xyz")


def test_zarr_and_dask_show_the_same_bytes(version: Path) -> None:
    store, group = open_store(version), zarr.open_group(version, mode="r")
    for name, field in store.fields.items():
        array = group[store.form.holding(name).array(name)]
        lazy = dask.array.from_zarr(version / store.form.holding(name).array(name)).compute()
        assert lazy.tobytes() == array[...].tobytes(), name
        if store.form.holding(name).in_steps(name):
            assert array.dtype == np.int16 and array.attrs["scale_factor"] == 0.005
            continue
        got = scans_rows(lazy, group[f"{field.group}s_at"][...]) if field.group else lazy
        assert got.tobytes() == own(store, name).tobytes(), name
    assert group["scan_id"][...].tolist() == [row["scan_id"] for row in ROWS]


def test_nothing_is_named_for_what_it_does_not_hold(version: Path) -> None:
    """Lengths in steps from the middle of a head are not `vertices_mm`, raw or decoded."""
    group = zarr.open_group(version, mode="r")
    for name, middle in IN_STEPS.items():
        assert (name in group) == (not (middle and open_store(version).form.int16))


def test_every_array_says_unit_meaning_and_dimensions(version: Path) -> None:
    store, opened = open_store(version), xr.open_zarr(version)
    for name, field in store.fields.items():
        array = opened[store.form.holding(name).array(name)]
        assert array.dims == (field.group or field.row_of, *field.dims)
        assert array.attrs["units"] == field.unit and array.attrs["long_name"]
    assert opened.attrs["Conventions"].startswith("CF-")
    assert opened.attrs["model"]["name"] == "test model"
    for said in ("frame", "frame_origin"):
        assert opened.attrs[said]
    # raw int16 under names that are decoded would lose what a mask makes of them
    assert "_FillValue" not in opened["validity"].encoding | opened["validity"].attrs
    assert opened["points_at"].dtype == np.int64


def test_rows_of_no_scan_are_told_apart(version: Path) -> None:
    """The arrays end with the last scan's rows; before, they are as long as shards have room."""
    group = zarr.open_group(version, mode="r")
    counts = [len(points) for points in random_points(N)["normals"]]
    points, places = group["points_mm"], group["points_at"][...]
    assert points.attrs["rows_of_scans"] == sum(counts) == places[:, 1].sum()
    assert points.shape[0] == places[-1].sum() < N * 64
    used = np.zeros(points.shape[0], bool)
    for first, count in places:
        used[first : first + count] = True
    assert used.sum() == sum(counts) and np.isnan(points[...][~used]).all()


def test_a_table_says_what_its_columns_mean(version: Path) -> None:
    for name, columns in TABLES.items():
        schema = pq.read_schema(version / f"{name}.parquet")
        for column in columns:
            assert schema.field(column.name).metadata[b"long_name"].decode() == column.meaning
    schema = pq.read_schema(version / "manifest.parquet")
    assert schema.field("landmark_error_mm").metadata[b"units"] == b"mm"
    assert b"CRC-32C" in schema.field("crc32c_pose").metadata[b"long_name"]
    assert pd.read_parquet(version / "manifest.parquet")["scan_id"].tolist()[1] == "s1:scan_1"


def test_the_topology_goes_with_the_rows(version: Path, tmp_path: Path) -> None:
    archive = subset(version, "source == 's1'", tmp_path / "a", profile="archive", extras=())
    back = subset(archive, "True", tmp_path / "b", profile="training", int16=False)
    for opened in map(open_store, (version, archive, back)):
        assert opened.faces.tolist() == TOPOLOGY.faces.tolist()
        assert opened.topology is not None
        for name, vertices in TOPOLOGY.regions.items():
            assert opened.topology.regions[name].tolist() == vertices.tolist()
    opened = xr.open_zarr(back)
    assert set(opened["scan_id"].values) == {f"s1:scan_{i}" for i in range(1, N, 2)}
    np.testing.assert_array_equal(opened["pose"], random_rows(N)["pose"][1::2])


def test_a_store_below_a_url_describes_itself_too(tmp_path: Path, s3: str) -> None:
    staging = create_staging(tmp_path / "a", 8, TAG, SHARD, TOPOLOGY)
    receipt = write(staging, 0, random_rows(8), TAG.digest)
    publish(tmp_path / "a", staging, [receipt], random_manifest(8))
    push(tmp_path / "a", s3)
    pulled = pull(s3, tmp_path / "pulled")
    assert verify(s3) == verify(pulled) == []
    assert xr.open_zarr(pulled)["scan_id"].shape == (8,)
    assert open_store(s3).faces.tolist() == TOPOLOGY.faces.tolist()


def test_metadata_is_a_function_of_what_it_describes() -> None:
    form = Form(N, TAG, SHARD, **FORM)
    held = Held([row["scan_id"] for row in ROWS], {"point": 9}, {"point": 9})
    assert described(form, TOPOLOGY, held) == described(form, TOPOLOGY, held)
    assert described(form, TOPOLOGY).keys() < described(form, TOPOLOGY, held).keys()


def test_without_a_topology_that_is_said(store: Path) -> None:
    with pytest.raises(StoreError, match="holds no triangles; take those of the model"):
        open_store(store).faces  # noqa: B018
    assert "faces" not in xr.open_zarr(open_store(store).path)


@pytest.mark.parametrize("array", ["faces", "region_mask"])
def test_a_damaged_topology_is_told(tmp_path: Path, array: str) -> None:
    staging = create_staging(tmp_path, 8, TAG, SHARD, TOPOLOGY)
    receipt = write(staging, 0, random_rows(8), TAG.digest)
    path = publish(tmp_path, staging, [receipt], random_manifest(8)) / array / "c" / "0" / "0"
    opened = open_store(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(StoreError, match=rf"{array}/c/0/0: \d+ bytes, expected \d+"):
        opened.topology  # noqa: B018
    path.write_bytes(b"\xff" * len(content))
    if array == "faces":
        with pytest.raises(StoreError, match="a triangle names a vertex outside the template"):
            opened.topology  # noqa: B018


def test_a_version_of_schema_2_is_read_under_its_arrays_names(tmp_path: Path) -> None:
    staging = create_staging(tmp_path / "a", N, TAG, SHARD, int16=True)
    fields = {name: values for name, values in rows().items() if name in random_rows(1)}
    receipts = [write(staging, k, part(fields, k, N, SHARD), TAG.digest) for k in range(3)]
    new = publish(tmp_path / "a", staging, receipts, random_manifest(N))
    expected = open_store(new).read("vertices_mm", slice(None))
    listing = (new / "files.json").read_text()
    for name in ("vertices", "neutral"):
        (new / f"{name}_from_middle_mm").rename(new / f"{name}_mm")
        listing = listing.replace(f"{name}_from_middle_mm/", f"{name}_mm/")
    group = json.loads((new / "zarr.json").read_text())
    group["attributes"]["facefold_schema"] = 2
    (new / "zarr.json").write_text(json.dumps(group))
    files = json.loads(listing)["files"]
    files["zarr.json"]["bytes"] = (new / "zarr.json").stat().st_size
    (new / "files.json").write_bytes(sealed({"files": files}))
    old = open_store(new)
    assert old.form.schema == 2 and old.form.array("vertices_mm") == "vertices_mm"
    np.testing.assert_array_equal(old.read("vertices_mm", slice(None)), expected)
    converted = open_store(subset(new, "True", tmp_path / "b"))
    assert converted.form.schema == SCHEMA_VERSION
    np.testing.assert_allclose(converted.read("vertices_mm", slice(None)), expected, atol=1e-4)
