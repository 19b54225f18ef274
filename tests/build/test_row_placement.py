"""Rows keep their places from version to version, and shards whose rows did stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.build.config import BuildConfig
from pipeline.build.ledger import Keys
from pipeline.build.row_placement import (
    PeopleOrder,
    RowOrder,
    kept_places,
    people_order,
    row_order,
    unchanged_shards,
    written_rows,
)
from pipeline.build.stages import Work
from pipeline.store import link_shards, publish, verify, write_shard
from pipeline.store.schema import IDENTITY
from pipeline.store.staging import stage
from pipeline.types import Array, ScanRecord
from tests.small_build import build_of, write_source
from tests.store.random_store import TAG, random_manifest, random_people, random_rows

SIZE = 16


@pytest.fixture
def config(tmp_path: Path) -> BuildConfig:
    write_source(tmp_path, "lab", "p1_neutral.obj")
    return build_of(tmp_path, "lab", rows_per_shard=SIZE, points_per_scan=0)


def scan(person: int, key: str = "") -> Work:
    """The one scan of a person; `key` tells results of it apart."""
    name = f"lab:p{person:03}"
    record = ScanRecord(
        *("lab", name, f"p{person:03}", "", "neutral", True, Path(name), "obj", "mm"),
        *(None, (), "0" * 64),
    )
    return Work(record, Keys("read", f"{name} {key}", "judge"))


def people(works: Sequence[Work]) -> list[int]:
    return [int(work.record.subject[1:]) for work in works]


def identity(works: Sequence[Work]) -> Mapping[str, str]:
    return {work.record.scan_id: work.record.scan_id for work in works}


def order(config: BuildConfig, works: Sequence[Work]) -> RowOrder:
    return row_order(config, works, identity(works), TAG)


def published(config: BuildConfig, works: Sequence[Work]) -> RowOrder:
    """Publishes a version of them, in the order of `row_order`."""
    found = order(config, works)
    staging = stage(config.store_folder, config.form(len(works), TAG))
    rows = random_rows(len(works))
    receipts = [
        write_shard(staging, k, {n: v[k * SIZE :][:SIZE] for n, v in rows.items()}, TAG.digest)
        for k in range(-(-len(works) // SIZE))
    ]
    manifest = [
        {
            "scan_id": w.record.scan_id,
            "source": "lab",
            "subject": w.record.subject,
            "identity": w.record.scan_id,
            "split": "train",
            "expression": "neutral",
            "verdict": "accept",
            "result_key": w.keys.register,
        }
        for w in found.works
    ]
    publish(config.store_folder, staging, receipts, manifest)
    return found


def test_rows_are_by_identity_where_nothing_is_published(config: BuildConfig) -> None:
    works = [scan(person) for person in (5, 3, 4)]
    named = {"lab:p003": "lab:z", "lab:p004": "lab:a", "lab:p005": "lab:b"}
    found = row_order(config, works, named, TAG)
    assert people(found.works) == [4, 5, 3]
    assert found.by_identity and found.before is None and found.unchanged == ()
    assert order(config, []).works == []


def test_new_scans_come_last_though_their_people_come_first(config: BuildConfig) -> None:
    old = [scan(person) for person in range(100, 140)]
    published(config, old)
    found = order(config, [scan(1), *old, scan(0)])
    assert people(found.works) == [*range(100, 140), 0, 1]
    assert not found.by_identity and found.unchanged == (0, 1)
    assert people(written_rows(found, config.form(42, TAG))) == [*range(132, 140), 0, 1]


def test_scans_that_leave_give_their_rows_to_new_ones_and_then_to_the_last(
    config: BuildConfig,
) -> None:
    old = [scan(person) for person in range(100, 164)]
    published(config, old)
    stay = [work for work in old if people([work])[0] not in (101, 103, 105)]
    found = order(config, [*stay, scan(1)])
    # three rows are free: one for the new scan, two for those of the last two rows
    assert people(found.works)[:6] == [100, 1, 102, 162, 104, 163]
    assert people(found.works)[6:] == list(range(106, 162))
    assert found.unchanged == (1, 2)
    assert sorted(people(found.works)) == sorted([*people(stay), 1])


def test_a_result_that_is_another_changes_its_shard_alone(config: BuildConfig) -> None:
    old = [scan(person) for person in range(100, 164)]
    published(config, old)
    new = [scan(person, "again" * (person == 120)) for person in range(100, 164)]
    found = order(config, new)
    assert found.works == new and found.by_identity and found.unchanged == (0, 2, 3)


def test_rows_are_ordered_again_where_most_shards_change(config: BuildConfig) -> None:
    old = [scan(person) for person in range(100, 148)]
    published(config, old)
    changed = {110, 130}  # in two shards of three
    new = [scan(1), *(scan(person, "again" * (person in changed)) for person in range(100, 148))]
    found = order(config, new)
    assert people(found.works) == [1, *range(100, 148)]
    assert found.by_identity and found.unchanged == ()


def test_rows_can_be_ordered_always(config: BuildConfig) -> None:
    old = [scan(person) for person in range(100, 164)]
    published(config, old)
    found = order(config.model_copy(update={"sort_rows": True}), [*old[:40], scan(1), *old[40:]])
    assert people(found.works) == [1, *range(100, 164)] and found.by_identity
    later = order(config.model_copy(update={"sort_rows": True}), [*old, scan(900)])
    assert later.unchanged == (0, 1, 2, 3)


def labelled(config: BuildConfig, keys: Mapping[str, str]) -> PeopleOrder:
    """Publishes a version of one scan and one row of each person, in the order of `people_order`;
    shards that stay are linked."""
    n = len(keys)
    form = replace(config.form(n, TAG), identities=n)
    found = people_order(config, keys, form)
    staging = stage(config.store_folder, form)
    rows, people = random_rows(n), random_people(n)
    receipts = [write_shard(staging, k, at(rows, k), TAG.digest) for k in range(form.n_shards)]
    if found.before:
        receipts += link_shards(staging, found.before, found.unchanged, IDENTITY)
    there = {receipt.shard for receipt in receipts if receipt.linked}
    assert there == {*found.unchanged}
    receipts += [
        write_shard(staging, k, at(people, k), TAG.digest, IDENTITY)
        for k in sorted({*range(form.n_shards)} - there)
    ]
    told = random_manifest(1)[0]
    manifest = [told | {"scan_id": f"lab:{name}", "identity": name} for name in keys]
    identities = [{"identity": name, "result_key": keys[name]} for name in found.people]
    publish(config.store_folder, staging, receipts, manifest, identities=identities)
    return found


def at(rows: Mapping[str, Array], shard: int) -> dict[str, Array]:
    return {name: values[shard * SIZE :][:SIZE] for name, values in rows.items()}


def test_people_keep_their_rows_and_their_shards(config: BuildConfig) -> None:
    """One more scan of a person, and one person more, change two shards of four."""
    keys = {f"lab:p{person:03}": f"key {person}" for person in range(100, 155)}
    first = labelled(config, keys)
    assert first.people == sorted(keys) and first.before is None and first.unchanged == ()
    again = labelled(config, keys)
    assert again.people == first.people and again.unchanged == (0, 1, 2, 3)
    third = labelled(config, keys | {"lab:p120": "key 120 of two scans", "lab:a": "new"})
    assert third.people == [*first.people, "lab:a"] and third.unchanged == (0, 2)
    assert verify(config.store_folder) == []


def test_people_are_in_order_where_none_are_published(config: BuildConfig) -> None:
    published(config, [scan(person) for person in range(100, 140)])
    form = replace(config.form(40, TAG), identities=3)
    found = people_order(config, {"b": "2", "a": "1", "c": "3"}, form)
    assert found == PeopleOrder(["a", "b", "c"])


def test_places() -> None:
    assert kept_places(["a", "b", "c"], ["c", "x", "a"]) == [2, 1, 0]
    assert kept_places(["a"], ["c", "x", "a"]) == [0]
    assert kept_places(["a", "b"], []) == [0, 1]
    assert kept_places([], ["a"]) == []
    assert unchanged_shards(["1", "2", "3"], ["1", "2", "4"], 2) == (0,)
    assert unchanged_shards(["1", "2", "3"], ["1", "2"], 2) == (0,)
    assert unchanged_shards(["1"], ["1", "2"], 2) == ()


def damage(store: Path) -> None:
    (next((store / "versions").iterdir()) / "manifest.parquet").write_bytes(b"no table")


OTHER: Mapping[str, Callable[[BuildConfig], BuildConfig]] = {
    "rows": lambda config: config.model_copy(update={"rows_per_shard": 32}),
    "points": lambda config: config.model_copy(update={"points_per_scan": 256}),
    "damaged": lambda config: (damage(config.store_folder), config)[1],
}


@pytest.mark.parametrize("other", OTHER)
def test_nothing_is_taken_over_from_another_form_or_a_damaged_version(
    config: BuildConfig, other: str
) -> None:
    old = [scan(person) for person in range(100, 164)]
    published(config, old)
    found = order(OTHER[other](config), [*old, scan(1)])
    assert people(found.works) == [1, *range(100, 164)]
    assert found.before is None and found.unchanged == ()


def test_any_history_keeps_each_scan_once_and_what_did_not_change(config: BuildConfig) -> None:
    random = np.random.default_rng(0)
    before: list[Work] = []
    for _ in range(12):
        chosen = np.flatnonzero(random.random(160) < random.choice([0.5, 0.97]))
        works = [scan(int(p), "again" * bool(random.random() < 0.02)) for p in chosen]
        found = published(config, works)
        assert sorted(people(found.works)) == chosen.tolist()
        for shard in found.unchanged:
            rows = slice(shard * SIZE, (shard + 1) * SIZE)
            assert [w.keys for w in found.works[rows]] == [w.keys for w in before[rows]]
        before = found.works
