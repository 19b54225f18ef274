"""`facefold attach`: a person's own file as a field of a store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from random_store import make_store, people_of, random_manifest, random_rows, views_of
from torch.utils.data import DataLoader

from pipeline.errors import StoreError
from pipeline.loaders import FaceDataset
from pipeline.store import attach, current_version, fields, open_store, verify, with_fields
from pipeline.store.attached import KEPT, NAN, Attached
from pipeline.store.schema import Field, ModelTag
from pipeline.types import Array

N, VIEWS = 40, 34
IDS = [row["scan_id"] for row in random_manifest(N)]
VIEW_IDS = [f"{row['scan_id']}#{row['view']}" for row in views_of(N)]
PEOPLE = [row["identity"] for row in people_of(N)]
NEW: dict[str, Any] = {"unit": "degree_Celsius", "meaning": "warmth of the skin"}
ORDER = np.random.default_rng(0).permutation(N)
"""Of the rows of files: not that of the store."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    make_store(tmp_path / "a.zarr", people=True, views=True)
    return tmp_path / "a.zarr"


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `store`, for tests that publish nothing."""
    place = tmp_path_factory.mktemp("untouched") / "a.zarr"
    make_store(place, people=True, views=True)
    return place


def values(*shape: int) -> Array:
    return np.random.default_rng(7).normal(size=shape).astype("<f4")


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "own.npz", **arrays)
    return folder / "own.npz"


def parquet(folder: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), folder / "own.parquet")
    return folder / "own.parquet"


@pytest.mark.parametrize("called", ["ids", "scan_id"])
@pytest.mark.parametrize("column", ["values", "warmth", "w"])
def test_rows_go_where_their_ids_say(store: Path, tmp_path: Path, called: str, column: str) -> None:
    new = values(N, 4)
    file = npz(tmp_path, **{called: np.array(IDS)[ORDER], column: new[ORDER]})
    done = attach(store, "warmth", file, **NEW)
    assert (done.given, done.rows, done.replaced) == (N, N, False)
    opened = open_store(store)
    np.testing.assert_array_equal(opened.read("warmth", slice(None)), new)
    field = opened.fields["warmth"]
    assert (field.dtype, field.shape, field.unit) == ("<f4", (4,), "degree_Celsius")
    assert field.meaning == "warmth of the skin" and verify(store) == []
    said = json.loads((done.version / "provenance.json").read_text())["attached"]["warmth"]
    assert said["file"] == "own.npz" and said["ids"] == N and len(said["sha256"]) == 64
    assert "attached" in json.loads((done.version / "run.json").read_text())["run"]


@pytest.mark.parametrize(
    ("kind", "dtype", "shape"),
    [
        (pa.float32(), "<f4", ()),
        (pa.float64(), "<f8", ()),
        (pa.list_(pa.float32(), 5), "<f4", (5,)),
        (pa.list_(pa.float64()), "<f8", (5,)),
        (pa.list_(pa.list_(pa.float32(), 3), 2), "<f4", (2, 3)),
    ],
    ids=str,
)
def test_columns_of_a_table(
    store: Path, tmp_path: Path, kind: pa.DataType, dtype: str, shape: tuple[int, ...]
) -> None:
    new = values(N, *shape).astype(dtype)
    column = pa.array(new[ORDER].tolist(), kind)
    file = parquet(tmp_path, scan_id=np.array(IDS)[ORDER], warmth=column, other=[1] * N)
    attach(store, "warmth", file, **NEW)
    opened = open_store(store)
    assert (opened.fields["warmth"].dtype, opened.fields["warmth"].shape) == (dtype, shape)
    np.testing.assert_array_equal(opened.read("warmth", slice(None)), new)


def test_of_views_and_of_people(store: Path, tmp_path: Path) -> None:
    by_view, by_person = values(VIEWS, 2), values(20)
    attach(store, "depth", parquet(tmp_path, view_id=VIEW_IDS, v=by_view.tolist()), **NEW)
    attach(store, "mood", npz(tmp_path, ids=PEOPLE, values=by_person), of="identity", **NEW)
    opened = open_store(store)
    np.testing.assert_allclose(opened.read_views("depth", slice(None)), by_view)
    np.testing.assert_array_equal(opened.read_identities("mood", slice(None)), by_person)
    assert opened.fields["depth"].row_of == "view" and opened.fields["mood"].row_of == "identity"


@pytest.mark.parametrize(
    ("missing", "expected", "dtype"),
    [("nan", np.nan, "<f4"), ("-1", -1, "<f4"), ("-1", -1, "<i4"), (2.5, 2.5, "<f8")],
)
def test_rows_of_which_nothing_is_given(
    store: Path, tmp_path: Path, missing: Any, expected: float, dtype: str
) -> None:
    new = (values(N, 2) * 100).astype(dtype)
    file = npz(tmp_path, ids=IDS[10:30], values=new[10:30])
    done = attach(store, "warmth", file, missing=missing, **NEW)
    got = open_store(store).read("warmth", slice(None))
    np.testing.assert_array_equal(got[10:30], new[10:30])
    outside = got[[*range(10), *range(30, N)]]
    np.testing.assert_array_equal(outside, np.full((20, 2), expected, dtype))
    assert done.given == 20 and done.field.optional == (missing == "nan")


def test_some_rows_keep_what_they_hold(store: Path, tmp_path: Path) -> None:
    old, new = random_rows(N)["landmarks_mm"], values(3, 68, 3).astype("<f8")
    file = npz(tmp_path, ids=[IDS[5], IDS[39], IDS[0]], values=new)
    done = attach(store, "landmarks_mm", file, missing="kept")
    assert (done.given, done.replaced, done.field.missing) == (3, True, KEPT)
    got = open_store(store).read("landmarks_mm", slice(None))
    old[[5, 39, 0]] = new.astype("<f4")
    np.testing.assert_array_equal(got, old)
    first = npz(tmp_path, ids=IDS, values=values(N))
    attach(store, "warmth", first, **NEW)
    attach(store, "warmth", npz(tmp_path, ids=IDS[:1], values=values(1) + 5), missing="kept")
    got = open_store(store).read("warmth", slice(None))
    np.testing.assert_array_equal(got, [values(1)[0] + 5, *values(N)[1:]])


def test_later_builds_have_something_to_put_into_new_rows(store: Path, tmp_path: Path) -> None:
    done = attach(store, "warmth", npz(tmp_path, ids=IDS, values=values(N)), **NEW)
    assert done.field.missing == NAN and done.field.optional
    shape = values(N, 300)
    assert attach(store, "shape", npz(tmp_path, ids=IDS, values=shape)).field.missing == KEPT
    whole = npz(tmp_path, ids=IDS, values=np.arange(N))
    with pytest.raises(StoreError, match="holds whole numbers, none of which says that nothing"):
        attach(store, "group", whole, **NEW)
    assert attach(store, "group", whole, missing="-1", **NEW).field.missing == -1


def test_coefficients_of_another_model_are_in_all_rows_or_in_none(
    store: Path, tmp_path: Path
) -> None:
    """A later build has none such to put into new rows."""
    other = ModelTag("other", "b" * 64, False, 64)
    said = {key: getattr(fields(64)["shape"], key) for key in Field.__dataclass_fields__}
    with_fields(store, {"shape": (Attached(**said, model=other), values(N, 300))})
    file = npz(tmp_path, ids=IDS[:1], values=values(1, 300) + 1)
    done = attach(store, "shape", file, missing="kept")
    assert (done.field.model, done.field.missing, done.given) == (other, None, 1)
    got = open_store(store).read("shape", slice(None))
    np.testing.assert_array_equal(got[1:], values(N, 300)[1:])
    np.testing.assert_array_equal(got[0], values(1, 300)[0] + 1)


def test_embeddings_of_ones_own(store: Path, tmp_path: Path) -> None:
    """A standard field that this store is without: as every store has it, NaN where none is."""
    new = values(VIEWS, 512)
    done = attach(store, "embeddings", npz(tmp_path, ids=VIEW_IDS, values=new))
    assert done.field.row_of == "view" and done.field.meaning.startswith("what the user's own")
    np.testing.assert_array_equal(open_store(store).read_views("embeddings", [33]), new[[33]])
    with pytest.raises(StoreError, match=r"rows of \(256,\), expected \(512,\)"):
        attach(store, "embeddings", npz(tmp_path, ids=VIEW_IDS, values=new[:, :256]))


BAD: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "unknown ids": (
        "warmth",
        {"ids": [*IDS, "s0:x", "s0:y"], "values": values(42)},
        NEW,
        "2 ids ('s0:x', 's0:y') are no scans of",
    ),
    "ids that come twice": (
        "warmth",
        {"ids": [*IDS, *IDS[:7]], "values": values(47)},
        NEW,
        "7 ids ('s0:scan_0', 's1:scan_1', 's0:scan_2', 's1:scan_3', 's0:scan_4' …) come more",
    ),
    "missing ids": (
        "warmth",
        {"ids": IDS[1:], "values": values(39)},
        NEW,
        "gives nothing of 1 ids ('s0:scan_0'); give them all, or say what such rows hold",
    ),
    "no unit": (
        "warmth",
        {"ids": IDS, "values": values(N)},
        {},
        "is new; say its unit and meaning",
    ),
    "another unit": (
        "shape",
        {"ids": IDS, "values": values(N, 300)},
        {"unit": "m"},
        "unit: got 'm', expected '1'",
    ),
    "another shape": (
        "shape",
        {"ids": IDS, "values": values(N, 299)},
        {},
        "rows of (299,), expected (300,), as shape has them",
    ),
    "not finite": (
        "shape",
        {"ids": IDS, "values": np.where(np.arange(N) == 3, np.nan, 0)[:, None] + values(N, 300)},
        {},
        "values of 1 ids ('s1:scan_3') are not finite; give finite ones, or leave them out",
    ),
    "infinite": (
        "warmth",
        {"ids": IDS, "values": values(N) * np.float32(np.inf)},
        NEW | {"missing": "nan"},
        "are not finite; give finite ones",
    ),
    "fractions of pixels": (
        "identity_scans",
        {"ids": PEOPLE, "values": values(20)},
        {},
        "float32 values that int32 cannot hold",
    ),
    "too large": (
        "images",
        {"ids": VIEW_IDS, "values": np.full((VIEWS, 224, 224, 3), 300, np.int16)},
        {},
        "int16 values that uint8 cannot hold",
    ),
    "nan of whole numbers": (
        "group",
        {"ids": IDS, "values": np.arange(N)},
        NEW | {"missing": "nan"},
        "missing: got 'nan', expected a number of the type int64",
    ),
    "no number": (
        "warmth",
        {"ids": IDS, "values": values(N)},
        NEW | {"missing": "none"},
        "missing: got 'none', expected nan, kept or a number",
    ),
    "nothing to keep": (
        "warmth",
        {"ids": IDS[1:], "values": values(39)},
        NEW | {"missing": "kept"},
        "has no such values to keep",
    ),
    "of something else": (
        "shape",
        {"view_id": VIEW_IDS, "values": values(VIEWS, 300)},
        {},
        "field shape: is of scans, got ids of views",
    ),
    "said otherwise": (
        "warmth",
        {"view_id": VIEW_IDS, "values": values(VIEWS)},
        NEW | {"of": "scan"},
        "field warmth: is of scans, got ids of views",
    ),
    "no ids": ("warmth", {"values": values(N)}, NEW, "holds 'values'; expected ids under one"),
    "no values": ("warmth", {"ids": IDS}, NEW, "holds nothing besides ids; expected the values"),
    "several": (
        "warmth",
        {"ids": IDS, "a": values(N), "b": values(N)},
        NEW,
        "holds 'a', 'b' besides ids; expected the values under the name warmth",
    ),
    "numbers as ids": (
        "warmth",
        {"ids": np.arange(N), "values": values(N)},
        NEW,
        "ids: got int64 (40,), expected a list of texts",
    ),
    "other rows": ("warmth", {"ids": IDS, "values": values(39)}, NEW, "40 ids with values (39,)"),
    "texts": ("warmth", {"ids": IDS, "values": IDS}, NEW, "expected numbers of up to 64 bits"),
    "complex": ("warmth", {"ids": IDS, "values": values(N) * 1j}, NEW, "got complex64, expected"),
    "empty": ("warmth", {"ids": IDS, "values": np.zeros((N, 0))}, NEW, "at least one number an id"),
    "a column's name": ("coverage", {"ids": IDS, "values": values(N)}, NEW, "name of something"),
    "points": ("points_mm", {"ids": IDS, "values": values(N, 3)}, {}, "any number of rows a scan"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(untouched: Path, tmp_path: Path, case: str) -> None:
    name, arrays, options, fault = BAD[case]
    before = current_version(untouched)
    with pytest.raises(StoreError) as caught:
        attach(untouched, name, npz(tmp_path, **arrays), **options)
    assert fault in str(caught.value)
    assert current_version(untouched) == before


def test_files_that_are_none(untouched: Path, tmp_path: Path) -> None:
    store = untouched
    bad = {
        "own.csv": (b"ids,values", "expected a file that ends with .npz or .parquet"),
        "own.npz": (b"PK but no archive", "own.npz: unreadable"),
        "own.parquet": (b"PAR1", "own.parquet: unreadable"),
        "gone.npz": (None, "gone.npz: unreadable (No such file or directory)"),
    }
    for name, (content, fault) in bad.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreError) as caught:
            attach(store, "warmth", tmp_path / name, **NEW)
        assert fault in str(caught.value)
    pickled = npz(tmp_path, ids=np.array(IDS, object), values=values(N))
    with pytest.raises(StoreError, match=r"unreadable .*allow_pickle=False"):
        attach(store, "warmth", pickled, **NEW)
    holes = {
        "row 3 is empty": pa.array([None if i == 3 else 1.0 for i in range(N)]),
        "lists have empty places": pa.array([[None, 1.0]] * N),
        "expected one length": pa.array([[1.0] * (1 + i % 2) for i in range(N)]),
        "expected numbers or lists": pa.array([{"a": 1}] * N),
    }
    for fault, column in holes.items():
        with pytest.raises(StoreError, match=fault):
            attach(store, "warmth", parquet(tmp_path, scan_id=IDS, warmth=column), **NEW)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"])
def test_datasets_have_them_as_they_have_others(store: Path, tmp_path: Path, dtype: str) -> None:
    new = np.arange(N * 3).reshape(N, 3).astype(f"<{dtype}")
    attach(store, "group", npz(tmp_path, ids=IDS, values=new), missing=0, **NEW)
    dataset = FaceDataset(store, split="val", fields=("group", "identity_shape"))
    for i, row in enumerate(dataset.rows.tolist()):
        got = dataset[i]["group"]
        assert got.tolist() == new[row].tolist() and np.dtype(dtype) == got.numpy().dtype
    batch = next(iter(DataLoader(dataset, batch_size=4)))
    assert batch["group"].tolist() == new[dataset.rows[:4]].tolist()


def test_several_at_once(store: Path, tmp_path: Path) -> None:
    """Whoever is told that a field was added finds it there, whoever came between."""
    np.savez(tmp_path / "own.npz", ids=IDS, values=values(N))
    command = [sys.executable, "-m", "flows.terminal.command", "attach", str(store)]
    options = ["--from", str(tmp_path / "own.npz"), "--unit", "1", "--meaning", "mine"]
    names = [f"mine_{i}" for i in range(4)]
    ran = [
        subprocess.Popen([*command, "--field", name, *options], stderr=subprocess.PIPE, text=True)
        for name in names
    ]
    told = {name: one.communicate()[1] for name, one in zip(names, ran, strict=True)}
    added = {name for name, one in zip(names, ran, strict=True) if one.returncode == 0}
    assert added and verify(store) == []
    assert {field.name for field in open_store(store).form.attached} == added
    for name in set(names) - added:
        assert "another version was published while this one was made from" in told[name]


def test_the_command(store: Path, tmp_path: Path) -> None:
    new = values(N, 4)
    file = parquet(tmp_path, scan_id=IDS, warmth=new.tolist())
    command = [sys.executable, "-m", "flows.terminal.command", "attach", str(store), "--json"]
    given = ["--field", "warmth", "--from", str(file)]
    told = ["--unit", "1", "--meaning", "how warm"]
    ran = subprocess.run([*command, *given, *told], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found == {
        "store": str(current_version(store)),
        "field": "warmth",
        "of": "scan",
        "type": "<f8",
        "shape": [4],
        "rows": N,
        "given": N,
        "replaced": False,
    }
    ran = subprocess.run([*command, *given[:2], "--from", "x.npz"], capture_output=True, text=True)
    assert ran.returncode == 2 and ran.stderr.startswith("facefold: x.npz: unreadable")
    ran = subprocess.run(
        [*command[:-2], "s3://bucket/store", *given], capture_output=True, text=True
    )
    assert ran.returncode == 2 and "pull it (facefold pull), attach there, and push" in ran.stderr
