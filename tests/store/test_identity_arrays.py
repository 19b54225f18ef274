"""Arrays with a row a person: written, read by scan and by person, checked, linked, taken along."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from random_store import (
    TAG,
    make_store,
    part,
    people_of,
    random_manifest,
    random_people,
    random_rows,
    stage,
)
from test_damage import flip
from test_hostile import attributes, reseal
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
    write_shard,
)
from pipeline.store.remote.objects import Place
from pipeline.store.schema import IDENTITY
from pipeline.types import Array, ShardReceipt

N, PEOPLE = 40, 20
NAMES = tuple(fields(64, IDENTITY))
ROW = np.array([PEOPLE - 1 - i // 2 for i in range(N)])
"""Of each scan that of its person: two scans each, the last person first."""
FORMS: dict[str, dict[str, Any]] = {
    "training": {},
    "int16": {"int16": True},
    "archive": {"profile": "archive"},
    "archive, int16": {"profile": "archive", "int16": True},
}


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """40 scans of 20 people: three shards of scans, two of people, the last ones short."""
    make_store(tmp_path / "labelled.zarr", people=True)
    return tmp_path / "labelled.zarr"


@pytest.fixture
def version(labelled: Path, tmp_path: Path) -> Path:
    """A version's folder on its own, whose files may be changed and sealed again."""
    return Path(shutil.copytree(current_version(labelled), tmp_path / "stranger"))


def within(name: str, int16: bool) -> float:
    """Half a step where lengths are in steps."""
    return 0.0025001 if int16 and name == "identity_neutral_mm" else 0


@pytest.mark.parametrize("form", FORMS)
def test_each_scan_has_the_row_of_its_person(tmp_path: Path, form: str) -> None:
    store, wanted = open_store(make_store(tmp_path, people=True, **FORMS[form])), random_people(20)
    assert verify(tmp_path) == []
    assert tuple(name for name in store.fields if name.startswith("identity_"))[:4] == NAMES
    np.testing.assert_array_equal(store.identity_row, ROW)
    rows = np.array([39, 0, 0, 17, 5])
    for name in NAMES:
        close = {"rtol": 0, "atol": within(name, store.form.int16)}
        by_person = store.read_identities(name, slice(None))
        np.testing.assert_allclose(by_person, wanted[name], **close)
        np.testing.assert_array_equal(store.read_identities(name, [3, 19]), by_person[[3, 19]])
        np.testing.assert_array_equal(store.read(name, rows), by_person[ROW[rows]])
        np.testing.assert_array_equal(store.row(name, 17), by_person[ROW[17]])
    both = store.read_fields(("shape", "identity_shape"), rows)
    np.testing.assert_array_equal(both["shape"], random_rows(N)["shape"][rows])
    np.testing.assert_array_equal(both["identity_shape"], wanted["identity_shape"][ROW[rows]])


def test_the_tables_say_whose_row_it_is(labelled: Path) -> None:
    store = open_store(labelled)
    people = store.table("identities").to_pylist()
    assert [row["identity"] for row in people] == [row["identity"] for row in people_of(N)]
    assert [row["identity_row"] for row in people] == list(range(PEOPLE))
    assert people[0]["result_key"] == "key of person:0019" and people[0]["scans"] == 2
    for row in store.manifest.to_pylist():
        assert people[row["identity_row"]]["identity"] == row["identity"]
    found = inspect_store(labelled)
    assert found["labelled_identities"] == PEOPLE
    shown = found["fields"]["identity_neutral_mm"]
    assert (shown["row_of"], shown["shape"], shown["unit"]) == ("identity", [64, 3], "mm")
    assert shown["bytes"] > PEOPLE * 64 * 12


def test_stores_without_say_so(store: Path, tmp_path: Path) -> None:
    opened = open_store(store)
    assert "identity_row" not in opened.column_names and opened.form.identities == 0
    assert inspect_store(store)["labelled_identities"] == 0
    for ask in (
        lambda: opened.read("identity_neutral_mm", [0]),
        lambda: opened.read_identities("identity_shape", [0]),
    ):
        with pytest.raises(StoreError, match="no rows of their own: build it again"):
            ask()
    with pytest.raises(StoreError, match="shape has a row a scan, none a person; use read"):
        opened.read_identities("shape", [0])


def test_rows_of_people_that_are_not_there(labelled: Path) -> None:
    store = open_store(labelled)
    for bad in ([20], [-1]):
        with pytest.raises(IndexError, match="expected 0 … 19"):
            store.read_identities("identity_shape", bad)


def receipts_of_people(staging: Path, n: int = PEOPLE) -> list[ShardReceipt]:
    people = random_people(n)
    return [
        write_shard(staging, k, part(people, k, n, 16), TAG.digest, IDENTITY)
        for k in range(-(-n // 16))
    ]


def test_what_cannot_be_published(tmp_path: Path) -> None:
    staging, receipts = stage(tmp_path, N, 16, people=True)
    rows, people = random_manifest(N), people_of(N)
    bad: dict[str, list[dict[str, Any]]] = {
        "'person:0000', of s0:scan_0, has no row": people[:-1],
        "'person:0003' comes more than once": [*people[:-1], people[-4]],
        "'nobody' has no row in the manifest": [*people, {"identity": "nobody"}],
        "got None, expected a name": [*people[:-1], {}],
    }
    for fault, identities in bad.items():
        with pytest.raises(StoreError, match=fault):
            publish(tmp_path, staging, receipts, rows, identities=identities)
    with pytest.raises(StoreError, match=r"identity: got receipts of the shards \[0\]"):
        publish(tmp_path, staging, receipts[:-1], rows, identities=people)
    publish(tmp_path, staging, receipts, rows, identities=people)
    assert verify(tmp_path) == []


def test_what_cannot_be_staged_or_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="identities: got 41, expected"):
        create_staging(tmp_path, N, TAG, 16, identities=41)
    without = create_staging(tmp_path, N, TAG, 16)
    with pytest.raises(StoreError, match="rows of 'identity', expected of scan"):
        receipts_of_people(without)
    staging = create_staging(tmp_path, N, TAG, 16, identities=PEOPLE)
    assert receipts_of_people(staging) == receipts_of_people(staging)
    with pytest.raises(StoreError, match="identity shard 2, expected 0 … 1"):
        write_shard(staging, 2, part(random_people(40), 2, 40, 16), TAG.digest, IDENTITY)
    other = part(random_people(PEOPLE, seed=1), 0, PEOPLE, 16)
    with pytest.raises(StoreError, match="identity shard 0 already holds other rows"):
        write_shard(staging, 0, other, TAG.digest, IDENTITY)
    other["identity_neutral_mm"][3, 0, 0] = np.nan
    with pytest.raises(StoreError, match=r"identity_neutral_mm: rows \[3\] hold values"):
        write_shard(staging, 0, other, TAG.digest, IDENTITY)


def test_damage_names_the_person(labelled: Path) -> None:
    version = current_version(labelled)
    flip(version / "identity_shape" / "c" / "1" / "0", 8 * (2 * 1200 + 7))
    (fault,) = verify(labelled)
    assert fault == ("identity_shape/c/1/0: content differs from its SHA-256 (identity rows [18])")
    (version / "identity_scans" / "c" / "0").unlink()
    with pytest.raises(StoreError, match="identity_scans/c/0: missing"):
        open_store(labelled)


def with_rows(table: pa.Table, rows: Array) -> pa.Table:
    place = table.column_names.index("identity_row")
    return table.set_column(place, "identity_row", pa.array(rows))


@pytest.mark.parametrize(
    ("scan", "row", "reads"), [(7, 3, True), (7, 20, False), (7, -1, False), (7, None, False)]
)
def test_a_wrong_identity_row_is_found(
    version: Path, scan: int, row: int | None, reads: bool
) -> None:
    """Sealed by whoever made it; only one among the rows can be read at all."""
    rows: list[int | None] = ROW.tolist()
    rows[scan] = row
    change_table(version, lambda table: with_rows(table, pa.array(rows, pa.int64())))
    faults = " ".join(verify(version))
    assert f"s1:scan_7 has {row}, which is not the row of 'person:0003'" in faults
    if reads:
        open_store(version).read("identity_shape", [0])
        return
    with pytest.raises(StoreError, match=r"identity_row: expected 0 … 19 of every scan"):
        open_store(version).read("identity_shape", [0])


def test_people_in_another_order_than_their_arrays_are_found(version: Path) -> None:
    order = np.roll(np.arange(PEOPLE), 1)
    change_table(version, lambda table: table.take(order), "identities")
    assert "'identity_row' is not that of the 20 rows" in " ".join(verify(version))
    change_table(version, lambda table: with_rows(table, np.arange(PEOPLE)), "identities")
    assert "identity_row of 40 scans is not that of their person" in " ".join(verify(version))


def test_numbers_of_people_that_cannot_be(version: Path) -> None:
    for wrong in (0, 19, 41, -1, 1 << 60, "20", True, None):
        attributes(version, identities=wrong)
        with pytest.raises(StoreError):
            open_store(version)
    attributes(version, identities=PEOPLE)
    table = pq.read_table(version / "identities.parquet")
    pq.write_table(table.drop_columns(["crc32c_identity_shape"]), version / "identities.parquet")
    reseal(version)
    with pytest.raises(StoreError, match="no column 'crc32c_identity_shape'"):
        open_store(version)


def test_a_shard_of_people_that_did_not_change_is_linked(tmp_path: Path) -> None:
    """One scan more of a person: one shard of people is written, the other has two names."""
    store = tmp_path / "a"
    old = make_store(store, people=True)
    staging = create_staging(store, N, TAG, 16, identities=PEOPLE)
    linked = link_shards(staging, old, (0, 1, 2)) + link_shards(staging, old, (0,), IDENTITY)
    changed = random_people(PEOPLE)
    changed["identity_shape"][17] += 1
    written = write_shard(staging, 1, part(changed, 1, PEOPLE, 16), TAG.digest, IDENTITY)
    assert [receipt.linked for receipt in linked] == [True] * 4 and not written.linked
    rows, people = random_manifest(N), people_of(N)
    new = publish(store, staging, [written, *linked], rows, identities=people)
    assert new != old and verify(new) == verify(old) == []
    for path, same in (("identity_shape/c/0/0", True), ("identity_shape/c/1/0", False)):
        assert (new / path).samefile(old / path) == same
    found = open_store(new).read_identities("identity_shape", slice(None))
    np.testing.assert_array_equal(found, changed["identity_shape"])
    without, staging = make_store(tmp_path / "b"), create_staging(store, N, TAG, 16, identities=20)
    assert link_shards(staging, without, (0,), IDENTITY) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("out", FORMS)
def test_a_subset_takes_its_people_along(tmp_path: Path, form: str, out: str) -> None:
    old = open_store(make_store(tmp_path / "all", people=True, **FORMS[form]))
    wanted = {"profile": "training", "int16": False} | FORMS[out]
    subset(tmp_path / "all", "coverage > 0.7 and source == 's1'", tmp_path / "part", **wanted)
    new = open_store(tmp_path / "part")
    assert verify(tmp_path / "part") == []
    scans = [i for i, row in enumerate(random_manifest(N)) if row["coverage"] > 0.7 and i % 2]
    people = sorted({*ROW[scans]})
    assert new.form.identities == len(people) == len(scans) == 6
    facts, before = new.table("identities").to_pylist(), old.table("identities").to_pylist()
    assert [row["identity"] for row in facts] == [before[i]["identity"] for i in people]
    assert [row["result_key"] for row in facts] == [before[i]["result_key"] for i in people]
    assert [row["scans"] for row in facts] == [1] * 6  # of the subset; identity_scans are of all
    for name in NAMES:
        close = {"rtol": 0, "atol": 2 * within(name, old.form.int16 or new.form.int16)}
        np.testing.assert_allclose(new.read(name, slice(None)), old.read(name, scans), **close)
        by_person = new.read_identities(name, slice(None))
        np.testing.assert_allclose(by_person, old.read_identities(name, people), **close)


def test_a_subset_of_a_store_without_people(store: Path, tmp_path: Path) -> None:
    assert open_store(subset(store, "True", tmp_path / "b")).form.identities == 0


@pytest.mark.parametrize("form", ["training", "archive"])
def test_below_a_url(tmp_path: Path, s3: str, form: str) -> None:
    make_store(tmp_path / "a", people=True, **FORMS[form])
    push(tmp_path / "a", s3)
    assert verify(s3) == [] and verify(pull(s3, tmp_path / "b")) == []
    expected = open_store(tmp_path / "a")
    got = open_store(s3) if form == "training" else open_store(tmp_path / "b")
    for name in NAMES:
        np.testing.assert_array_equal(got.read(name, [3, 39]), expected.read(name, [3, 39]))
        every = got.read_identities(name, slice(None))
        np.testing.assert_array_equal(every, expected.read_identities(name, slice(None)))


def test_a_damaged_row_of_a_person_below_a_url(tmp_path: Path, s3: str) -> None:
    """It is found by its checksum when it is fetched; other fields are read."""
    version = make_store(tmp_path / "a", people=True)
    push(tmp_path / "a", s3)
    damaged = version / "identity_shape" / "c" / "0" / "0"
    flip(damaged, 8 * (4 * 1200 + 7))
    (Place(s3) / "versions" / version.name).send("identity_shape/c/0/0", damaged)
    assert "(identity rows [4])" in " ".join(verify(s3))
    store = open_store(s3)
    with pytest.raises(StoreError, match=r"identity_shape/c/0/0: damaged \(rows \[4\]\)"):
        store.read("identity_shape", [0, 39])
    expected = random_people(PEOPLE)["identity_scans"][ROW[[0, 39]]]
    np.testing.assert_array_equal(store.read("identity_scans", [0, 39]), expected)
