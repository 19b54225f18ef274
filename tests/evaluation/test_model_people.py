"""Whose heads a model may be made of."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import StoreError
from pipeline.evaluation.morphable.people import (
    HELD_BACK,
    NO_SCAN,
    NOT_ASKED,
    WITHOUT_SIZE,
    People,
    people_of,
)
from pipeline.flame.stand_in import stand_in
from pipeline.store import attach, open_store, push
from tests.evaluation.people_store import heads_of, write_people

N = 20


def found(store: Path | str, split: str = "train", where: str = "") -> People:
    return people_of(str(store), open_store(store), split, where)


def names(*numbers: int) -> tuple[str, ...]:
    return tuple(f"person:{i:05d}" for i in numbers)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Person 1 has no true size, 2 and 3 are held back, 6 is asked for by nothing, 7 has no scan;
    0, 5, 10 and 15 are in val, of whom a benchmark tests on 5."""
    told = [
        {"source": "other" if i == 6 else "s"}
        | ({"split": "train_non_metric", "metric": False} if i == 1 else {})
        | ({"benchmark": "NoW"} if i in (2, 5) else {})
        | ({"licence": "research", "commercial": False} if i % 2 else {})
        | ({"licence": None, "commercial": None, "redistribution": None} if i == 4 else {})
        for i in range(N)
    ]
    held = [{"held_back": "[]"} if i == 3 else {} for i in range(N)]
    store = tmp_path_factory.mktemp("people") / "unified.zarr"
    write_people(store, stand_in(), heads_of(stand_in(), N, 1), told, of_people=held)
    given = store.parent / "scans.npz"
    np.savez(given, identity=np.array(names(7)), identity_scans=np.zeros(1, np.int32))
    attach(store, "identity_scans", given, missing="kept")
    return store


def test_people_who_may_be_trained_on_are_used_and_the_rest_is_named(local: Path) -> None:
    people = found(local, where="source == 's'")
    assert people.used == names(4, 8, 9, 11, 12, 13, 14, 16, 17, 18, 19)
    assert people.left_out == {
        HELD_BACK: names(2, 3),
        WITHOUT_SIZE: names(1),
        NO_SCAN: names(7),
        NOT_ASKED: names(6),
        "in the split val": names(0, 5, 10, 15),
    }
    assert people.held_out == names(0, 5, 10, 15)
    assert people.expected_error_mm == pytest.approx(0.5)


def test_heads_are_those_of_the_people(local: Path) -> None:
    people, truth = found(local, where="source == 's'"), heads_of(stand_in(), N, 1)
    assert (people.heads.read() == truth[[4, 8, 9, 11, 12, 13, 14, 16, 17, 18, 19]]).all()
    assert (people.held_out_heads.read() == truth[[0, 5, 10, 15]]).all()
    blocks = list(pickle.loads(pickle.dumps(people.heads)).blocks(4))
    assert [(b.start, b.stop) for b, _ in blocks] == [(0, 4), (4, 8), (8, 11)]
    assert (np.concatenate([heads for _, heads in blocks]) == people.heads.read()).all()


def test_licences_are_those_of_the_people_the_strictest_first(local: Path) -> None:
    licences = found(local, where="source == 's'").licences
    assert [(x["licence"], x["people"], x["commercial"]) for x in licences] == [
        ("not stated", 1, False),
        ("research", 5, False),
        ("open", 5, True),
    ]
    assert [x["redistribution"] for x in licences] == [False, True, True]


def test_what_no_scan_fits_is_refused(local: Path) -> None:
    with pytest.raises(StoreError, match=r"no row has split in \['dev'\]; it has train"):
        found(local, "dev")
    with pytest.raises(StoreError, match="no true size"):
        found(local, "train_non_metric")
    with pytest.raises(StoreError, match="no column colour"):
        found(local, where="colour == 'red'")


def test_without_labels_a_persons_scans_are_averaged(tmp_path: Path) -> None:
    store, heads = tmp_path / "s.zarr", heads_of(stand_in(), 6, 2)
    write_people(store, stand_in(), heads, labels=False, scans=3)
    people = found(store)
    assert people.used == names(1, 2, 3, 4) and people.heads.field == "neutral_mm"
    assert people.heads.read() == pytest.approx(heads[1:5], abs=1e-4)
    assert [len(rows) for rows in people.heads.rows] == [3, 3, 3, 3]
    one = found(store, where="scan_id != 's:scan_4'")
    assert [len(rows) for rows in one.heads.rows] == [2, 3, 3, 3]
    assert people.expected_error_mm is None


def test_another_version_is_noticed(local: Path) -> None:
    heads = found(local).heads
    other = type(heads)(heads.store, "0" * 16, heads.field, heads.rows)
    with pytest.raises(StoreError, match="another was published meanwhile"):
        other.read()


def test_a_url_is_read_as_a_folder_is(local: Path, s3: str) -> None:
    push(local, s3)
    there, here = found(s3), found(local)
    assert there.used == here.used and there.heads.store == s3
    assert (there.heads.read() == here.heads.read()).all()
