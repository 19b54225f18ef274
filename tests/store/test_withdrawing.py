"""A version without a person: what goes, what stays where it is, and what `verify` then finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_store import make_store

from pipeline.errors import StoreError
from pipeline.store import current_version, open_store, publish, verify, write_shard
from pipeline.store.checks.withdrawn import digests_of
from pipeline.store.pruning import prune_holding
from pipeline.store.schema import IDENTITY, SCAN
from pipeline.store.staging import stage
from pipeline.store.subsets import own_columns, rows_of
from pipeline.store.withdrawing import order_without, publish_without
from pipeline.store.withdrawn import as_document, theirs, withdrawals_in
from pipeline.types import Array, Withdrawal

EMPTY: frozenset[str] = frozenset()
FORMS: dict[str, dict[str, Any]] = {
    "training": {"points": True, "people": True},
    "without people": {"points": True},
    "int16": {"people": True, "int16": True},
    "archive": {"points": True, "people": True, "int16": True, "profile": "archive"},
}


def marks_of(version: Path, person: str) -> Withdrawal:
    """The record of an identity, with the bytes of all its rows."""
    store = open_store(version)
    told = store.columns("identity", "scan_id", "source", "subject").to_pylist()
    rows = [i for i, row in enumerate(told) if row["identity"] == person]
    found = [d for _, _, d in digests_of(version, store.form, SCAN, np.array(rows))]
    if store.form.identities:
        of_people = np.unique(store.identity_row[rows])
        found += [d for _, _, d in digests_of(version, store.form, IDENTITY, of_people)]
    plain = Withdrawal("5a17", "2026-11-30", EMPTY, EMPTY, EMPTY, EMPTY)
    return Withdrawal(
        plain.salt,
        plain.date,
        frozenset({plain.mark(person)}),
        frozenset(plain.mark(told[i]["scan_id"]) for i in rows),
        EMPTY,
        frozenset(map(plain.mark, found)),
    )


@pytest.fixture(params=FORMS)
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """80 rows of 40 people in shards of 16."""
    make_store(tmp_path / "unified.zarr", n=80, **FORMS[request.param])
    return tmp_path / "unified.zarr"


def rows_by_scan(version: Path) -> dict[str, list[Array]]:
    """All that the arrays have of each scan, and of its person."""
    store = open_store(version)
    names = store.columns("scan_id")["scan_id"].to_pylist()
    found: dict[str, list[Array]] = {}
    for row, name in enumerate(names):
        single = [f for f in store.fields if not store.fields[f].group and not f.endswith("_at")]
        parts = [store.row(field, row) for field in single]
        grouped = [f for f in store.fields if store.fields[f].group]
        parts += [store.read_ragged(field, row) for field in grouped]
        if store.form.identities:
            parts.append(store.read_identities("identity_neutral_mm", store.identity_row[[row]]))
        found[name] = [np.array(part) for part in parts]
    return found


def test_everything_of_the_others_stays(store: Path) -> None:
    before = current_version(store)
    gone = marks_of(before, "person:0003")
    old, old_names = rows_by_scan(before), names(before)

    after = publish_without(store, gone)

    assert after == current_version(store) != before and verify(store) == []
    new, steps = rows_by_scan(after), open_store(after).form.int16
    assert new.keys() == old.keys() - {"s0:scan_6", "s1:scan_7"}
    for name, parts in new.items():
        for got, expected in zip(parts, old[name], strict=True):
            # a row that moves is rounded to steps of 5 µm again, from another middle
            np.testing.assert_allclose(got, expected, rtol=0, atol=0.006 if steps else 0)
    new_names = names(after)
    assert new_names[6:8] == old_names[78:] and new_names[:6] == old_names[:6]
    assert new_names[8:] == old_names[8:78]
    provenance = json.loads((after / "provenance.json").read_text())
    assert withdrawals_in(provenance, after) == (gone,) and provenance["code"] == "1"
    assert provenance["row_order"] == "in place"
    people = open_store(after).table("identities")["identity"].to_pylist()
    assert "person:0003" not in people and len(people) == 39
    assert publish_without(store, gone) is None


def names(version: Path) -> list[str]:
    found: list[str] = open_store(version).columns("scan_id")["scan_id"].to_pylist()
    return found


def test_shards_that_held_nobody_of_theirs_are_the_same_files(store: Path) -> None:
    before = current_version(store)
    after = publish_without(store, marks_of(before, "person:0020"))
    assert after is not None
    field = "pose" if "pose" in open_store(before).fields else "shape"
    same = [
        (before / f"{field}/c/{shard}/0").stat().st_ino
        == (after / f"{field}/c/{shard}/0").stat().st_ino
        for shard in range(5)
    ]
    assert same == [True, True, False, True, False]


def test_verify_finds_every_trace(store: Path) -> None:
    """A version that carries the record of somebody whom it holds."""
    before = current_version(store)
    gone = marks_of(before, "person:0003")
    (store / "HEAD").unlink()
    staged = published_with(store, gone)
    faults = verify(staged)
    where = [fault.partition(":")[0] for fault in faults]
    assert where.count("manifest.parquet") == 2 and where.count("identities.parquet") == 1
    assert where.count("vertices_mm") == 2 and where.count("neutral_mm") == 2
    if open_store(staged).form.identities:
        assert where.count("identity_neutral_mm") == 1
    assert all("2026-11-30" in fault and "scan_6" not in fault for fault in faults)


def published_with(store: Path, gone: Withdrawal, version: Path | None = None) -> Path:
    """The published rows again, as somebody would who forged the record."""
    source = open_store(version or next((store / "versions").iterdir()))
    staging = stage(store, source.form, source.topology)
    receipts = []
    for row_of, part in source.form.parts.items():
        for shard in range(part.n_shards):
            rows = np.arange(shard * 16, min((shard + 1) * 16, part.rows))
            values = rows_of(source, part, rows)
            receipts.append(write_shard(staging, shard, values, part.model.digest, row_of))
    manifest = source.manifest.select(own_columns(source.column_names))
    people = source.table("identities")
    people = people.select(own_columns(people.column_names)).to_pylist()
    provenance = {"withdrawn": [as_document(gone)]}
    return publish(store, staging, receipts, manifest, (), (), people, provenance)


def test_only_versions_that_hold_them_go(tmp_path: Path) -> None:
    store = tmp_path / "unified.zarr"
    first = make_store(store, n=4)
    make_store(store, n=40)
    gone = marks_of(current_version(store), "person:0010")
    after = publish_without(store, gone)
    assert after is not None

    def holds(version: Path) -> bool:
        return bool(theirs(open_store(version).manifest, gone).any())

    [removed] = prune_holding(store, holds).versions
    assert {path.name for path in (store / "versions").iterdir()} == {first.name, after.name}
    assert removed.name not in (first.name, after.name)


def test_somebody_whose_scan_is_among_anothers_leaves_with_it_until_the_next_build(
    tmp_path: Path,
) -> None:
    """The other's row was made of that scan, too."""
    store = tmp_path / "unified.zarr"
    make_store(store, n=40, people=True)
    plain = Withdrawal("5a17", "2026-11-30", EMPTY, EMPTY, EMPTY, EMPTY)
    scan = frozenset({plain.mark("s0:scan_6")})
    after = publish_without(store, Withdrawal("5a17", "2026-11-30", EMPTY, scan, EMPTY, EMPTY))
    assert after is not None
    assert {"s0:scan_6", "s1:scan_7"}.isdisjoint(names(after)) and len(names(after)) == 38


def test_nobody_else(tmp_path: Path) -> None:
    store = tmp_path / "unified.zarr"
    make_store(store, n=2)
    with pytest.raises(StoreError, match="holds nobody else"):
        publish_without(store, marks_of(current_version(store), "person:0000"))


def test_order_without() -> None:
    leaving = np.array([True, False, False, True, False, True])
    assert order_without(leaving).tolist() == [4, 1, 2]
    assert order_without(np.zeros(3, bool)).tolist() == [0, 1, 2]
    assert order_without(np.ones(3, bool)).tolist() == []


@pytest.mark.parametrize("records", [1, [1], [{"salt": "x"}]])
def test_records_that_are_none(tmp_path: Path, records: Any) -> None:
    with pytest.raises(StoreError, match="withdrawn"):
        withdrawals_in({"withdrawn": records}, tmp_path)


def test_texts_about_others_name_them_no_more(tmp_path: Path) -> None:
    store = tmp_path / "unified.zarr"
    words = (
        "s0:scan_8, filed under person:0004, is another person than the rest and seems to be of "
    )
    told = [
        {"reasons": f"{words}person:0003 (log ratio 12.3)" if i == 8 else None} for i in range(40)
    ]
    before = make_store(store, n=40, told=told)
    gone = marks_of(before, "person:0003")
    after = publish_without(store, gone)
    assert after is not None and verify(store) == []
    reasons = open_store(after).columns("reasons")["reasons"].to_pylist()
    assert reasons[8] == f"{words}… (log ratio 12.3)" and set(reasons[:8] + reasons[9:]) == {None}
    found = [fault for fault in verify(published_with(store, gone, before)) if "reasons" in fault]
    assert found and "names a person or a scan of somebody who withdrew" in found[0]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("lab:anna", "…"),
        ("lab:anna_2, lab:annabel, lab:anna-2", "lab:anna_2, lab:annabel, lab:anna-2"),
        ("lab:anna/x, lab:anna.x, lab:anna.", "lab:anna/x, lab:anna.x, …."),
        ("seems to be of lab:anna; ratio: 3", "seems to be of …; ratio: 3"),
        ('[{"by": "lab:anna", "name": "x:lab:anna"}]', '[{"by": "…", "name": "x:…"}]'),
        ("lab:s01/session_1/test (1) is lab:b", "… is lab:b"),
        ("note: nothing", "note: nothing"),
    ],
)
def test_full_names_in_texts(text: str, left: str) -> None:
    plain = Withdrawal("5a17", "2026-11-30", EMPTY, EMPTY, EMPTY, EMPTY)
    scans = frozenset({plain.mark("lab:s01/session_1/test (1)")})
    gone = Withdrawal("5a17", "x", frozenset({plain.mark("lab:anna")}), scans, EMPTY, EMPTY)
    assert gone.without_names(text) == left
