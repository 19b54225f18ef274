"""Arrays with a row a view: written, read, checked, linked, taken along, withdrawn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from random_store import (
    N_VERTICES,
    REFUSED_VIEWS,
    TAG,
    make_store,
    part,
    random_manifest,
    random_rows,
    random_views,
    stage,
    views_of,
)
from test_damage import flip
from test_hostile import attributes
from test_hostile import manifest as change_table

from pipeline.errors import StoreError
from pipeline.store import (
    create_staging,
    current_version,
    fields,
    inspect_store,
    link_shards,
    open_store,
    publish,
    pull,
    push,
    subset,
    verify,
    with_fields,
    write_shard,
)
from pipeline.store.documents import sealed
from pipeline.store.listing import file_entry
from pipeline.store.remote.objects import Place
from pipeline.store.schema import VIEW, VIEW_FIELDS, Field
from pipeline.types import Array, ShardReceipt

N, VIEWS = 40, 34
NAMES = tuple(field.name for field in VIEW_FIELDS)
SCAN = np.array([*range(38, -1, -2), *range(39, -1, -3)])
"""Of each view the row of its scan: of one scan, views are not beside each other."""
FORMS: dict[str, dict[str, Any]] = {
    "training": {},
    "int16": {"int16": True},
    "archive": {"profile": "archive"},
}


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    """40 scans, 34 views: three shards of each, the last ones short."""
    make_store(tmp_path / "shown.zarr", views=True, people=True)
    return tmp_path / "shown.zarr"


@pytest.fixture
def version(shown: Path, tmp_path: Path) -> Path:
    """A version's folder on its own, whose files may be changed and sealed again."""
    return Path(shutil.copytree(current_version(shown), tmp_path / "stranger"))


@pytest.mark.parametrize("form", FORMS)
def test_each_view_has_its_row(tmp_path: Path, form: str) -> None:
    store, wanted = open_store(make_store(tmp_path, views=True, **FORMS[form])), random_views(VIEWS)
    assert verify(tmp_path) == []
    assert store.form.views == VIEWS and store.form.part(VIEW).rows_per_shard == 16
    np.testing.assert_array_equal(store.scan_row_of_view, SCAN)
    rows = np.array([33, 0, 0, 17, 5])
    for name in NAMES:
        got = store.read_views(name, rows)
        assert got.dtype == wanted[name].dtype
        np.testing.assert_array_equal(got, wanted[name][rows])
        np.testing.assert_array_equal(store.read_views(name, slice(None)), wanted[name])
        into = np.zeros_like(got)
        store.read_views(name, rows, into)
        np.testing.assert_array_equal(into, got)
    mask = np.arange(VIEWS) % 5 == 1
    np.testing.assert_array_equal(store.read_views("parts", mask), wanted["parts"][mask])


def test_shards_of_views_hold_a_quarter(tmp_path: Path) -> None:
    """For their rows are large; a template of other vertices has other bytes of visibility."""
    staging, _ = stage(tmp_path, 256, 256, views=True)
    assert {p.name for p in (staging / "images" / "c").iterdir()} == {"0", "1", "2", "3"}
    assert fields(N_VERTICES, VIEW)["visibility"].shape == (8,)
    assert fields(row_of=VIEW)["visibility"].shape == (628,)
    assert {f.name: (f.dtype, f.shape) for f in VIEW_FIELDS} == {
        "images": ("|u1", (224, 224, 3)),
        "aligned_images": ("|u1", (112, 112, 3)),
        "shaded_images": ("|u1", (224, 224)),
        "camera_matrix_px": ("<f8", (3, 3)),
        "canonical_to_camera": ("<f8", (4, 4)),
        "landmarks_px": ("<f4", (68, 2)),
        "landmark_visibility": ("|u1", (68,)),
        "visibility": ("|u1", (628,)),
        "parts": ("|u1", (8, 224, 28)),
    }


def test_the_table_says_what_a_view_is_of(shown: Path) -> None:
    store, manifest = open_store(shown), random_manifest(N)
    for i, (row, given) in enumerate(zip(store.views.to_pylist(), views_of(N), strict=True)):
        scan = manifest[SCAN[i]]
        assert row["view_id"] == f"{given['scan_id']}#{given['view']}"
        assert row["scan_row"] == SCAN[i] and row["row"] == i and row["shard"] == i // 16
        for name in ("scan_id", "source", "identity", "split"):
            assert row[name] == scan[name]
        assert row["kind"] == given["kind"] and row["result_key"] == given["result_key"]
    picked = store.view_columns("kind", "yaw_deg")
    assert picked["kind"].to_pylist() == ["photo"] * 20 + ["render"] * 14
    assert picked["yaw_deg"].to_pylist() == [float(i) for i in SCAN]
    (refused,) = store.table("refused_views").to_pylist()
    assert refused == REFUSED_VIEWS[0] | {"figures": None}


def test_inspection_counts_them(shown: Path) -> None:
    found = inspect_store(shown)
    assert found["views"] == {
        "rows": VIEWS,
        "kind": {"photo": 20, "render": 14},
        "source": {"s0": 27, "s1": 7},
        "camera": {"none": VIEWS},
        "scans": 27,
        "refused": {"no_face": 1},
    }
    told = found["fields"]["parts"]
    assert (told["row_of"], told["shape"], told["attached"]) == ("view", [8, 224, 28], False)


def test_stores_without_say_so(store: Path) -> None:
    opened = open_store(store)
    assert opened.form.views == 0 and len(opened.views) == 0
    assert opened.scan_row_of_view.tolist() == []
    assert inspect_store(store)["views"]["rows"] == 0
    for name in ("images", "embeddings", "visibility"):
        with pytest.raises(StoreError, match=rf"no field {name}; .* it has no views: say in the"):
            opened.read_views(name, [0])
    with pytest.raises(StoreError, match="shape has no row a view; use read"):
        opened.read_views("shape", [0])


def test_what_is_asked_wrongly(shown: Path) -> None:
    store = open_store(shown)
    for ask in (lambda: store.read("images", [0]), lambda: store.row("images", 0)):
        with pytest.raises(StoreError, match="images has a row a view, none a scan; use read_view"):
            ask()
    for bad in ([VIEWS], [-1]):
        with pytest.raises(IndexError, match="expected 0 … 33"):
            store.read_views("images", bad)
    with pytest.raises(StoreError, match="no column hat; the views have view_id, scan_id"):
        store.view_columns("hat")


def test_what_cannot_be_published(tmp_path: Path) -> None:
    staging, receipts = stage(tmp_path, N, 16, views=True)
    rows, views = random_manifest(N), views_of(N)
    bad: dict[str, list[dict[str, Any]]] = {
        "views: got 33 rows, the shards hold 34": views[:-1],
        "views: 's9:nobody', of row 33, is no scan of these": [
            *views[:-1],
            views[0] | {"scan_id": "s9:nobody"},
        ],
        "views: 's0:scan_38#photo0' comes more than once": [*views[:-1], views[0]],
        "views: row 33 has no 'view'": [*views[:-1], {"scan_id": "s0:scan_0"}],
        "views: row 33 has no 'kind'": [*views[:-1], views[-1] | {"kind": None}],
        "views: column 'scan_row' does not match": [v | {"scan_row": 1} for v in views],
    }
    for fault, wrong in bad.items():
        with pytest.raises(StoreError, match=fault):
            publish(tmp_path, staging, receipts, rows, views=wrong)
    with pytest.raises(StoreError, match=r"view: got receipts of the shards \[0, 1\]"):
        publish(tmp_path, staging, receipts[:-1], rows, views=views)
    publish(tmp_path, staging, receipts, rows, views=views)
    assert verify(tmp_path) == []
    staging, receipts = stage(tmp_path, N, 16)
    with pytest.raises(StoreError, match="views: got 34 rows, the shards hold 0"):
        publish(tmp_path, staging, receipts, rows, views=views)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    staging = create_staging(tmp_path, N, TAG, 16, views=VIEWS)
    good = part(random_views(VIEWS), 0, VIEWS, 16)

    def refused(match: str, **changed: Array) -> None:
        with pytest.raises(StoreError, match=match):
            write_shard(staging, 0, good | changed, TAG.digest, VIEW)

    refused("images: got uint8 .16, 112, 112, 3., expected", images=good["aligned_images"])
    refused("camera_matrix_px: got float32", camera_matrix_px=np.zeros((16, 3, 3), "<f4"))
    nan = np.full((16, 4, 4), np.nan)
    refused(r"canonical_to_camera: rows \[0, 1, 2, 3, 4\] hold values", canonical_to_camera=nan)
    with pytest.raises(StoreError, match="parts: missing"):
        write_shard(staging, 0, {k: v for k, v in good.items() if k != "parts"}, TAG.digest, VIEW)
    without = create_staging(tmp_path, N, TAG, 16)
    with pytest.raises(StoreError, match="rows of 'view', expected of scan"):
        write_shard(without, 0, good, TAG.digest, VIEW)
    for number in (-1, True, "1", 1 << 50):
        with pytest.raises(StoreError, match="views: got"):
            create_staging(tmp_path, N, TAG, 16, views=number)


@pytest.mark.parametrize(("view", "row"), [(7, 3), (7, 40), (7, -1), (7, None)])
def test_a_wrong_scan_row_is_found(version: Path, view: int, row: int | None) -> None:
    """Sealed by whoever made it; only one among the scans' can be read at all."""
    rows: list[int | None] = SCAN.tolist()
    rows[view] = row

    def changed(table: pa.Table) -> pa.Table:
        place = table.column_names.index("scan_row")
        return table.set_column(place, "scan_row", pa.array(rows, pa.int64()))

    change_table(version, changed, "views")
    assert f"s0:scan_24#photo0 has {row}, whose row says" in " ".join(verify(version))
    if row == 3:
        assert open_store(version).scan_row_of_view[7] == 3
        return
    with pytest.raises(StoreError, match=r"views.parquet: scan_row: expected 0 … 39 of every view"):
        open_store(version).scan_row_of_view  # noqa: B018


def test_views_that_say_other_than_their_scan_are_found(version: Path) -> None:
    """A view of a test person in train would leak."""

    def changed(table: pa.Table) -> pa.Table:
        place = table.column_names.index("split")
        return table.set_column(place, "split", pa.array(["train"] * VIEWS))

    change_table(version, changed, "views")
    held_back = sum(random_manifest(N)[scan]["split"] == "val" for scan in SCAN)
    assert f"scan_row of {held_back} views is not that of their scan" in " ".join(verify(version))


def test_views_in_another_order_than_their_arrays_are_found(version: Path) -> None:
    change_table(version, lambda table: table.take(np.roll(np.arange(VIEWS), 1)), "views")
    assert "views.parquet: 34 rows, of which 'row' is not that" in " ".join(verify(version))


def test_numbers_of_views_that_cannot_be(version: Path) -> None:
    for wrong in (0, 33, 49, -1, 1 << 60, "34", True, None):
        attributes(version, views=wrong)
        with pytest.raises(StoreError):
            open_store(version)


def test_a_table_that_is_not_listed(version: Path) -> None:
    files = json.loads((version / "files.json").read_text())["files"]
    del files["refused_views.parquet"]
    (version / "files.json").write_bytes(sealed({"files": files}))
    with pytest.raises(StoreError, match=r"does not list refused_views\.parquet"):
        open_store(version)


def test_damage_names_the_view(shown: Path) -> None:
    version = current_version(shown)
    flip(version / "shaded_images" / "c" / "1" / "0" / "0", 8 * (2 * 224 * 224 + 7))
    (fault,) = verify(shown)
    assert fault == ("shaded_images/c/1/0/0: content differs from its SHA-256 (view rows [18])")


def receipts_of_views(staging: Path, views: dict[str, Array], which: list[int]) -> list[Any]:
    return [write_shard(staging, k, part(views, k, VIEWS, 16), TAG.digest, VIEW) for k in which]


def test_a_shard_of_views_that_did_not_change_is_linked(tmp_path: Path) -> None:
    store = tmp_path / "a"
    old = make_store(store, views=True)
    staging = create_staging(store, N, TAG, 16, views=VIEWS)
    linked: list[ShardReceipt] = link_shards(staging, old, (0, 1, 2))
    linked += link_shards(staging, old, (0, 1), VIEW)
    changed = random_views(VIEWS)
    changed["images"][33] += 1
    receipts = [*linked, *receipts_of_views(staging, changed, [2])]
    assert [receipt.linked for receipt in receipts] == [True] * 5 + [False]
    new = publish(store, staging, receipts, random_manifest(N), views=views_of(N))
    assert new != old and verify(new) == verify(old) == []
    for path, same in (("images/c/0/0/0/0", True), ("images/c/2/0/0/0", False)):
        assert (new / path).samefile(old / path) == same
    found = open_store(new).read_views("images", slice(None))
    np.testing.assert_array_equal(found, changed["images"])


@pytest.mark.parametrize("out", ["training", "archive"])
def test_a_subset_takes_its_views_along(tmp_path: Path, out: str) -> None:
    old = open_store(make_store(tmp_path / "all", views=True))
    subset(tmp_path / "all", "coverage > 0.7 or source == 's1'", tmp_path / "part", **FORMS[out])
    new = open_store(tmp_path / "part")
    assert verify(tmp_path / "part") == []
    scans = [i for i, row in enumerate(random_manifest(N)) if row["coverage"] > 0.7 or i % 2]
    views = np.flatnonzero(np.isin(SCAN, scans))
    assert 0 < len(views) == new.form.views < VIEWS
    ids = old.views["view_id"].to_pylist()
    assert new.views["view_id"].to_pylist() == [ids[view] for view in views]
    assert [scans[row] for row in new.scan_row_of_view] == SCAN[views].tolist()
    for name in NAMES:
        got = new.read_views(name, slice(None))
        np.testing.assert_array_equal(got, old.read_views(name, views))
    assert len(new.table("refused_views")) == 1


def test_a_subset_of_scans_without_views(tmp_path: Path) -> None:
    make_store(tmp_path / "all", views=True)
    new = open_store(subset(tmp_path / "all", "scan_id == 's1:scan_1'", tmp_path / "part"))
    assert new.form.views == 0 and "images" not in new.fields
    assert new.table("refused_views")["scan_id"].to_pylist() == ["s1:scan_1"]
    assert verify(tmp_path / "part") == []


@pytest.mark.parametrize("form", ["training", "archive"])
def test_below_a_url(tmp_path: Path, s3: str, form: str) -> None:
    make_store(tmp_path / "a", views=True, **FORMS[form])
    push(tmp_path / "a", s3)
    assert verify(s3) == [] and verify(pull(s3, tmp_path / "b")) == []
    expected = open_store(tmp_path / "a")
    got = open_store(s3) if form == "training" else open_store(tmp_path / "b")
    np.testing.assert_array_equal(got.scan_row_of_view, SCAN)
    for name in NAMES:
        np.testing.assert_array_equal(
            got.read_views(name, [3, 33, 3]), expected.read_views(name, [3, 33, 3])
        )


def test_a_damaged_row_of_a_view_below_a_url(tmp_path: Path, s3: str) -> None:
    """It is found by its checksum when it is fetched; other fields are read."""
    version = make_store(tmp_path / "a", views=True)
    push(tmp_path / "a", s3)
    damaged = version / "landmark_visibility" / "c" / "0" / "0"
    flip(damaged, 8 * (4 * 68 + 7))
    (Place(s3) / "versions" / version.name).send("landmark_visibility/c/0/0", damaged)
    assert "(view rows [4])" in " ".join(verify(s3))
    store = open_store(s3)
    with pytest.raises(StoreError, match=r"landmark_visibility/c/0/0: damaged \(rows \[4\]\)"):
        store.read_views("landmark_visibility", [0, 33])
    expected = random_views(VIEWS)["camera_matrix_px"][[0, 33]]
    np.testing.assert_array_equal(store.read_views("camera_matrix_px", [0, 33]), expected)


@pytest.mark.parametrize("schema", [3, 4])
def test_older_schemas_have_no_tables_of_views(tmp_path: Path, schema: int) -> None:
    """A version as those facefolds left it: without these tables and attributes."""
    version = make_store(tmp_path / "old", people=schema == 4)
    group = json.loads((version / "zarr.json").read_text())
    group["attributes"]["facefold_schema"] = schema
    for name in ["views", "attached"] + ["identities"] * (schema == 3):
        del group["attributes"][name]
    (version / "zarr.json").write_text(json.dumps(group))
    files = json.loads((version / "files.json").read_text())["files"]
    for name in ("views.parquet", "refused_views.parquet"):
        (version / name).unlink()
        del files[name]
    files["zarr.json"] = file_entry(version / "zarr.json")
    listing = {"files": files}
    (version / "files.json").write_bytes(sealed(listing))
    renamed = version.rename(version.with_name(json.loads(sealed(listing))["digest"][:16]))
    (tmp_path / "old" / "HEAD").write_text(renamed.name)
    assert verify(tmp_path / "old") == []
    store = open_store(tmp_path / "old")
    assert store.form.schema == schema and store.form.identities == 20 * (schema == 4)
    assert len(store.views) == len(store.table("refused_views")) == 0
    assert inspect_store(tmp_path / "old")["views"]["rows"] == 0
    for name, values in random_rows(N).items():
        np.testing.assert_array_equal(store.read(name, slice(None)), values)
    new = open_store(subset(tmp_path / "old", "True", tmp_path / "new"))
    assert new.form.schema == 5 and verify(tmp_path / "new") == []
    field = Field("warmth", "<f4", (), (), "1", "of the skin", "attach")
    warm = with_fields(tmp_path / "old", {"warmth": (field, np.arange(N, dtype="<f4"))})
    assert verify(tmp_path / "old") == [] and open_store(warm).form.schema == 5
    assert open_store(warm).read("warmth", [7, 3]).tolist() == [7, 3]
    assert (warm / "shape/c/0/0").samefile(store.path / "shape/c/0/0")
