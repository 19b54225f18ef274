"""Fields added or replaced for all rows: what is linked, what is read, what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from random_store import make_store, random_people, random_rows, random_views
from test_hostile import attributes

from pipeline.errors import StoreError
from pipeline.store import current_version, fields, open_store, pull, push, subset, verify
from pipeline.store.attached import KEPT, NAN, Attached
from pipeline.store.attaching import with_fields
from pipeline.store.schema import IDENTITY, VIEW, Field

N, PEOPLE, VIEWS = 40, 20, 34
WARMTH = Attached(
    "warmth", "<f4", (3,), ("warmth_axis_0",), "degree_Celsius", "skin of three places", "attach"
)
FORMS: dict[str, dict[str, Any]] = {
    "training": {},
    "int16": {"int16": True},
    "archive": {"profile": "archive"},
}


def values(n: int, *shape: int, seed: int = 9) -> Any:
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype("<f4")


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """Scans, people and views, in several shards each."""
    make_store(tmp_path / "full.zarr", people=True, views=True, points=True)
    return tmp_path / "full.zarr"


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `full`, for tests that publish nothing."""
    store = tmp_path_factory.mktemp("untouched") / "full.zarr"
    make_store(store, people=True, views=True, points=True)
    return store


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of scans with the field `warmth`."""
    store = tmp_path_factory.mktemp("warm") / "a"
    make_store(store)
    return with_fields(store, {"warmth": (WARMTH, values(N, 3))})


@pytest.mark.parametrize("form", FORMS)
def test_a_new_field_is_read_as_any_other(tmp_path: Path, form: str) -> None:
    store, new = tmp_path / "a", values(N, 3)
    old = make_store(store, people=True, views=True, **FORMS[form])
    version = with_fields(store, {"warmth": (WARMTH, new)}, {"by": "hand", "run": {"day": 1}})
    assert version != old and verify(store) == verify(old) == []
    opened = open_store(store)
    np.testing.assert_array_equal(opened.read("warmth", slice(None)), new)
    np.testing.assert_array_equal(opened.row("warmth", 39), new[39])
    assert opened.fields["warmth"] == WARMTH
    for path in old.rglob("c/**/*"):
        inside = path.relative_to(old)
        if path.is_file() and inside.parts[0] in opened.form.all_fields:
            assert (version / inside).samefile(path)
    shown = xr.open_zarr(version)["warmth"]
    assert shown.dims == ("scan", "warmth_axis_0") and shown.attrs["units"] == "degree_Celsius"
    np.testing.assert_array_equal(shown.values, new)
    said = json.loads((version / "provenance.json").read_text())
    assert said["attached"] == {"warmth": {"by": "hand"}} and said["code"] == "1"
    assert json.loads((version / "run.json").read_text())["run"] == {"day": 1}


def test_fields_of_people_and_of_views(full: Path) -> None:
    of_people = replace(WARMTH, name="mood", shape=(), dims=(), row_of=IDENTITY)
    of_views = replace(WARMTH, name="depth", dims=("depth_axis_0",), row_of=VIEW)
    one, other = values(PEOPLE), values(VIEWS, 3)
    with_fields(full, {"mood": (of_people, one), "depth": (of_views, other)})
    store = open_store(full)
    assert verify(full) == []
    np.testing.assert_array_equal(store.read_identities("mood", slice(None)), one)
    np.testing.assert_array_equal(store.read("mood", [0, 39]), one[[19, 0]])
    np.testing.assert_array_equal(store.read_views("depth", [33, 1]), other[[33, 1]])


@pytest.mark.parametrize("form", FORMS)
def test_a_standard_field_is_replaced(tmp_path: Path, form: str) -> None:
    """Also lengths in steps, whose middles change with them; all else stays as it is."""
    make_store(tmp_path, people=True, points=True, views=True, **FORMS[form])
    before = open_store(tmp_path)
    moved = random_rows(N)["vertices_mm"] * 30 + 400
    shape, images = random_rows(N, seed=5)["shape"], random_views(VIEWS, seed=5)["images"]
    people = random_people(PEOPLE, seed=5)["identity_neutral_mm"]
    new = {"vertices_mm": moved, "shape": shape, "images": images, "identity_neutral_mm": people}
    with_fields(tmp_path, {name: (None, array) for name, array in new.items()})
    store = open_store(tmp_path)
    assert verify(tmp_path) == []
    step = 0.0026 if form == "int16" else 0
    got = store.read("vertices_mm", slice(None))
    np.testing.assert_allclose(got, moved, rtol=0, atol=step)
    np.testing.assert_array_equal(store.read("shape", slice(None)), shape)
    np.testing.assert_array_equal(store.read_views("images", slice(None)), images)
    got = store.read_identities("identity_neutral_mm", slice(None))
    np.testing.assert_allclose(got, people, rtol=0, atol=step)
    for name in ("pose", "neutral_mm"):
        np.testing.assert_array_equal(store.read(name, [3]), before.read(name, [3]))
    assert store.read_ragged("points_mm", 5).tobytes() == (
        before.read_ragged("points_mm", 5).tobytes()
    )


def test_again_and_again(full: Path) -> None:
    """A field keeps its declaration where only values are given; others stay beside it."""
    other = replace(WARMTH, name="cold", dims=("cold_axis_0",))
    with_fields(full, {"warmth": (WARMTH, values(N, 3))}, {"time": 1})
    with_fields(full, {"cold": (other, values(N, 3, seed=2))}, {"time": 2})
    version = with_fields(full, {"warmth": (None, values(N, 3, seed=3))}, {"time": 3})
    store = open_store(full)
    np.testing.assert_array_equal(store.read("warmth", [7]), values(N, 3, seed=3)[[7]])
    np.testing.assert_array_equal(store.read("cold", [7]), values(N, 3, seed=2)[[7]])
    assert store.fields["warmth"] == WARMTH
    said = json.loads((version / "provenance.json").read_text())["attached"]
    assert said == {"warmth": {"time": 3}, "cold": {"time": 2}}
    again = with_fields(full, {"warmth": (None, values(N, 3, seed=3))}, {"time": 3})
    assert again == version and verify(full) == []


def test_the_same_where_nothing_can_be_linked(full: Path, monkeypatch: Any) -> None:
    """Rows are copied then; the version is the same."""
    linked = with_fields(full, {"warmth": (WARMTH, values(N, 3))})
    make_store(full, people=True, views=True, points=True)  # as it was

    def link(*_: Any) -> None:
        raise OSError(1, "no links")

    monkeypatch.setattr("pipeline.store.linking.os.link", link)
    shutil.rmtree(linked)
    copied = with_fields(full, {"warmth": (WARMTH, values(N, 3))})
    assert copied.name == linked.name and verify(full) == []


@pytest.mark.parametrize("out", FORMS)
def test_subsets_and_transfers_take_them_along(full: Path, tmp_path: Path, out: str) -> None:
    of_views = replace(WARMTH, name="depth", dims=("depth_axis_0",), row_of=VIEW)
    with_fields(full, {"warmth": (WARMTH, values(N, 3)), "depth": (of_views, values(VIEWS, 3))})
    subset(full, "source == 's1'", tmp_path / "part", **FORMS[out])
    store = open_store(tmp_path / "part")
    assert verify(tmp_path / "part") == [] and store.fields["warmth"] == WARMTH
    np.testing.assert_array_equal(store.read("warmth", slice(None)), values(N, 3)[1::2])
    assert len(store.read_views("depth", slice(None))) == store.form.views == 7
    no_views = subset(full, "scan_id == 's1:scan_1'", tmp_path / "none")
    assert [field.name for field in open_store(no_views).form.attached] == ["warmth"]


def test_below_a_url(full: Path, tmp_path: Path, s3: str) -> None:
    push(full, s3)
    with pytest.raises(StoreError, match="attached to a store in a folder: pull it"):
        with_fields(s3, {"warmth": (WARMTH, values(N, 3))})
    with_fields(full, {"warmth": (WARMTH, values(N, 3))})
    push(full, s3)
    assert verify(s3) == [] and verify(pull(s3, tmp_path / "b")) == []
    for store in (open_store(s3), open_store(tmp_path / "b")):
        np.testing.assert_array_equal(store.read("warmth", [39, 0]), values(N, 3)[[39, 0]])


def standard(name: str) -> Field:
    return fields(64)[name]


BAD: dict[str, tuple[Field | None, Any, str]] = {
    "warmth": (None, values(N, 3), "no field warmth; a new one needs unit and meaning"),
    "short": (
        replace(WARMTH, name="short", dims=("short_axis_0",)),
        values(39, 3),
        r"expected float32 \(40, 3\)",
    ),
    "Loud": (replace(WARMTH, name="Loud"), values(N, 3), "expected a name of lower-case"),
    "coverage": (replace(WARMTH, name="coverage"), values(N, 3), "name of something else"),
    "faces": (replace(WARMTH, name="faces"), values(N, 3), "name of something else"),
    "points_mm": (None, values(N, 3), "the store itself says what it holds, or it has any"),
    "vertices_middle_mm": (None, values(N, 3), "the store itself says what it holds"),
    "other": (WARMTH, values(N, 3), "the declaration is of warmth"),
    "shape": (None, values(N, 299), r"expected float32 \(40, 300\)"),
    "pose": (replace(WARMTH, name="pose"), values(N, 3), "as every store has it"),
    "images": (None, values(N, 3), r"expected uint8 \(34, 224, 224, 3\)"),
    "axes": (
        replace(WARMTH, name="axes", dims=("vertex",)),
        values(N, 3),
        "dims: got 'vertex' of 3, expected 'axes_axis_0'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_attached(untouched: Path, name: str) -> None:
    field, array, fault = BAD[name]
    before = current_version(untouched)
    with pytest.raises(StoreError, match=fault):
        with_fields(untouched, {name: (field, array)})
    assert current_version(untouched) == before
    assert not [path for path in untouched.iterdir() if path.name.startswith(".staging")]


def test_values_that_are_not_finite(full: Path) -> None:
    new = values(N, 3)
    new[17, 1] = np.inf
    with pytest.raises(StoreError, match=r"warmth: rows \[1\] hold values that are not finite"):
        with_fields(full, {"warmth": (WARMTH, new)})
    unknown = replace(WARMTH, optional=True, missing=NAN)
    new[17, 1] = np.nan
    with_fields(full, {"warmth": (unknown, new)})
    assert np.isnan(open_store(full).read("warmth", [17])[0, 1])
    shape = random_rows(N)["shape"]
    shape[3, 3] = np.nan
    with pytest.raises(StoreError, match=r"shape: rows \[3\] hold values"):
        with_fields(full, {"shape": (None, shape)})


def test_a_version_that_was_published_meanwhile_is_not_lost(full: Path, monkeypatch: Any) -> None:
    import pipeline.store.attaching as module

    write = module.write_shard

    def meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(module, "write_shard", write)
        with_fields(full, {"cold": (replace(WARMTH, name="cold", shape=(), dims=()), values(N))})
        return write(*arguments)

    monkeypatch.setattr(module, "write_shard", meanwhile)
    with pytest.raises(StoreError, match="another version was published while this one was made"):
        with_fields(full, {"warmth": (WARMTH, values(N, 3))})
    assert [field.name for field in open_store(full).form.attached] == ["cold"]
    with_fields(full, {"warmth": (WARMTH, values(N, 3))})
    assert [field.name for field in open_store(full).form.attached] == ["cold", "warmth"]


def said(**changes: Any) -> list[dict[str, Any]]:
    return [WARMTH.declared() | changes]


STRANGE: list[Any] = [
    None,
    {},
    [3],
    said(name="../x"),
    said(name="shape"),
    said(name=7),
    said(dtype="O"),
    said(dtype=">f4"),
    said(dtype=["<f4"]),
    said(shape=[-3]),
    said(shape=[1 << 40]),
    said(shape=[1 << 20, 1 << 20], dims=["warmth_axis_0", "warmth_axis_1"]),
    said(shape=[3] * 2),
    said(shape=3),
    said(shape=[True]),
    said(dims=["scan"]),
    said(dims=[None]),
    said(row_of="person"),
    said(row_of=["scan"]),
    said(optional="no"),
    said(missing=NAN),
    said(missing=KEPT),
    said(missing=[]),
    said(missing=1e300),
    said(unit=None),
    said(meaning="two\nlines"),
    said() * 2,
]


@pytest.mark.parametrize("strange", STRANGE, ids=str)
def test_declarations_of_a_stranger(warm: Path, tmp_path: Path, strange: Any) -> None:
    """Whoever makes a store can seal anything."""
    version = Path(shutil.copytree(warm, tmp_path / "stranger"))
    attributes(version, attached=strange)
    with pytest.raises(StoreError):
        open_store(version)
    assert verify(version) != []
