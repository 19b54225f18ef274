"""From results to a version: rows of views, and what people attached to the version before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.build import linked_shards
from flows.cluster.worker import write_rows, write_views
from pipeline.build.assembly import Assembly, assemble, assembly_digest, published_as
from pipeline.build.config import BuildConfig
from pipeline.build.ledger import Result, open_ledger, record
from pipeline.build.plan import Plan, ledger_path, make_plan
from pipeline.build.quarantine import quarantine_rows
from pipeline.build.result_files import (
    ScanViews,
    embeddings_path,
    result_path,
    save_result,
    save_views,
    views_path,
)
from pipeline.build.withdrawal import find_person, record_person, remove_recorded
from pipeline.errors import StoreError
from pipeline.flame.stand_in import stand_in
from pipeline.store import ModelTag, attach, open_store, publish, verify, with_fields
from pipeline.store.reader import Store
from pipeline.store.schema import SCAN, VIEW, VIEW_FIELDS
from pipeline.store.staging import removed_on_fault, stage
from pipeline.types import Array, Registration
from tests.leaks import leaks
from tests.small_build import build_of, outcomes_of, write_source
from tests.store.random_store import random_rows, random_views

MODEL = stand_in()
TAG = ModelTag.of(MODEL)
N, VERTICES = 40, 5023
NAMES = [f"p{i:03}_neutral.obj" for i in range(100, 100 + N)]
SIZE = 32
"""Rows of a shard of scans; of views 16."""
WARM: dict[str, Any] = {"unit": "1", "meaning": "how warm"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_source(tmp_path, "lab", *NAMES)
    return tmp_path


def seed_of(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def row_of(scan_id: str) -> dict[str, Array]:
    """The arrays of a scan, random by its id."""
    rows = random_rows(1, seed_of(scan_id), VERTICES)
    return {name: values[0] for name, values in rows.items()}


def views_named(scan_id: str, again: str = "") -> tuple[list[str], dict[str, Array]]:
    """Names of a scan's views, none to three, and their arrays; `again` makes others of them."""
    names = ["photo0", "render0", "render1"][: seed_of(scan_id) % 4]
    return names, random_views(len(names), seed_of(scan_id + again), VERTICES)


def registered(scan_id: str, row: Mapping[str, Array]) -> Registration:
    held = {name: row[name] for name in ("shape", "expression", "pose", "translation_mm")}
    lengths = ("vertices_mm", "neutral_mm", "offset_mm", "distance_mm", "weight")
    held |= {name: row[name] for name in (*lengths, "expected_error_mm")}
    valid = np.ones(VERTICES, bool)
    return Registration(
        **held,
        scan_id=scan_id,
        model_digest=TAG.digest,
        validity=valid,
        iterations=1,
        status="converged",
    )


def computed(config: BuildConfig, plan: Plan, **again: str) -> dict[str, ScanViews]:
    """Leaves the results of all scans; returns their views. `again` tells those of a subject
    apart from earlier ones; a second view of the last scan could not be made."""
    found = {}
    with open_ledger(ledger_path(config)) as ledger:
        for work in plan.works:
            scan_id, key = work.record.scan_id, work.keys.register
            record(ledger, [Result(one, scan_id) for one in work.keys[:2]])
            if not result_path(config.work, key).exists():
                row = row_of(scan_id)
                save_result(result_path(config.work, key), row, registered(scan_id, row))
            other = again.get(work.record.subject, "")
            names, arrays = views_named(scan_id, other)
            seen = hashlib.sha256(f"{key}{other}".encode()).hexdigest()
            if names:
                save_views(views_path(config.work, seen), scan_id, arrays)
            rows = tuple({"view": name, "kind": name[:-1], "yaw_deg": 1.5} for name in names)
            lost = {"source": "lab", "scan_id": scan_id, "view": "photo1", "stage": "views"}
            refused = ({**lost, "reason": "no face", "code": "no_face"},)
            found[scan_id] = ScanViews(seen, rows, refused if scan_id == "lab:p139_neutral" else ())
    return found


def assembled(config: BuildConfig, embed: bool = False, **again: str) -> Assembly:
    plan = make_plan(config, MODEL)
    views = computed(config, plan, **again)
    if embed:
        views = {scan: embedded(config, scan, found) for scan, found in views.items()}
    outcomes = outcomes_of(config, plan)
    facts = config, plan, outcomes, quarantine_rows(config, plan, outcomes), MODEL
    digest = assembly_digest(*facts, views=views)
    return assemble(*facts, digest, views=views)


def embedded(config: BuildConfig, scan: str, found: ScanViews) -> ScanViews:
    """With embeddings, but for one scan."""
    if not found.rows or scan == "lab:p101_neutral":
        return found
    key = "e" + found.key[1:]
    values = np.full((len(found.rows), 512), seed_of(scan) % 1000, np.float32)
    save_views(embeddings_path(config.work, key), scan, {"embeddings": values})
    return found._replace(embedding_key=key)


def published(config: BuildConfig, assembly: Assembly) -> Path:
    """By the functions that the flow calls on workers."""
    form = assembly.form
    assert form is not None
    staging = stage(config.store_folder, form)
    with removed_on_fault(staging):
        receipts = linked_shards(assembly, staging)
        linked = {(receipt.row_of, receipt.shard) for receipt in receipts}
        keys = [work.keys.register for work in assembly.order.works]
        for row_of, part in form.parts.items():
            attached, size = assembly.attached(row_of), part.rows_per_shard
            for shard in range(part.n_shards):
                if (row_of, shard) in linked:
                    continue
                at = shard * size, (shard + 1) * size
                of = attached and attached.part(*at)
                given = staging, shard, config.work
                own: Any = (keys if row_of == SCAN else assembly.views.lie)[slice(*at)]
                if row_of == SCAN:
                    receipts.append(write_rows(*given, own, TAG.digest, 0, of))
                else:
                    embedded = assembly.views.embedded
                    receipts.append(write_views(*given, own, TAG.digest, embedded, of))
        return publish(
            *(config.store_folder, staging, receipts, assembly.manifest),
            *(assembly.quarantine, assembly.excluded, assembly.identities, assembly.provenance),
            views=assembly.views.rows,
            refused_views=assembly.views.refused,
            instead_of=assembly.carried.version,
        )


def built(config: BuildConfig, **again: Any) -> Path:
    return published(config, assembled(config, **again))


def config_of(folder: Path, **fields: Any) -> BuildConfig:
    return build_of(folder, "lab", points_per_scan=0, rows_per_shard=SIZE, **fields)


def check_views(store: Store, **again: str) -> None:
    """Each view's row is that of its scan's file."""
    views, scans = store.views.to_pylist(), store.manifest["scan_id"].to_pylist()
    for i, view in enumerate(views):
        subject = view["scan_id"].removeprefix("lab:").removesuffix("_neutral")
        names, arrays = views_named(view["scan_id"], again.get(subject, ""))
        place = names.index(view["view"])
        assert scans[view["scan_row"]] == view["scan_id"]
        for name in ("images", "visibility", "canonical_to_camera"):
            np.testing.assert_array_equal(store.read_views(name, [i])[0], arrays[name][place])
    assert sorted(view["view_id"] for view in views) == sorted(
        f"{scan}#{name}" for scan in scans for name in views_named(scan)[0]
    )


def same_files(one: Path, other: Path, name: str) -> dict[str, bool]:
    """Shard of a field -> whether two versions have one file for it."""
    files = sorted(path for path in (other / name / "c").rglob("*") if path.is_file())
    return {
        path.relative_to(other / name / "c").parts[0]: (one / path.relative_to(other)).exists()
        and path.samefile(one / path.relative_to(other))
        for path in files
    }


def test_views_are_rows_of_the_version(folder: Path) -> None:
    store = open_store(built(config_of(folder)))
    assert verify(store.path) == []
    n_views = sum(seed_of(f"lab:{name[:-4]}") % 4 for name in NAMES)
    assert store.form.views == n_views > 48 and store.form.part(VIEW).rows_per_shard == 16
    assert (np.diff(store.scan_row_of_view) >= 0).all()  # of the first version: in order
    check_views(store)
    (refused,) = store.table("refused_views").to_pylist()
    assert (refused["scan_id"], refused["code"]) == ("lab:p139_neutral", "no_face")


def test_a_view_that_is_another_changes_its_shard_alone(folder: Path) -> None:
    config = config_of(folder)
    before = built(config)
    after = built(config, p120="with another camera")
    assert verify(after) == []
    check_views(open_store(after), p120="with another camera")
    views = open_store(before).views.to_pylist()
    theirs = {str(v["row"] // 16) for v in views if v["scan_id"] == "lab:p120_neutral"}
    shards = same_files(before, after, "images")
    assert theirs and {shard for shard, same in shards.items() if not same} == theirs
    assert all(same_files(before, after, "vertices_mm").values())


def test_a_scan_more_leaves_shards_as_they_are(folder: Path) -> None:
    """The first by name: scans move in no array, and its views come last."""
    config = config_of(folder)
    before = built(config)
    new = next(f"a{i}" for i in range(99) if seed_of(f"lab:p{i:03}_neutral") % 4 == 2)
    name = f"p{int(new[1:]):03}_neutral"
    (folder / "lab" / f"{name}.obj").write_text("new")
    after = built(config)
    store = open_store(after)
    assert verify(after) == [] and len(store) == N + 1
    check_views(store)
    assert store.views["scan_id"].to_pylist()[-2:] == [f"lab:{name}"] * 2
    full = open_store(before).form.views // 16
    shards = same_files(before, after, "images")
    assert shards == {str(shard): shard < full for shard in range(len(shards))}


def test_embeddings_come_from_files_of_their_own(folder: Path) -> None:
    store = open_store(built(config_of(folder), embed=True))
    assert verify(store.path) == []
    for i, scan in enumerate(store.views["scan_id"].to_pylist()):
        got = store.read_views("embeddings", [i])[0]
        if scan == "lab:p101_neutral":
            assert np.isnan(got).all()
        else:
            assert (got == seed_of(scan) % 1000).all()


def test_files_of_views_that_are_damaged(folder: Path) -> None:
    config = config_of(folder)
    assembly = assembled(config)
    path = views_path(config.work, assembly.views.lie[0].key)
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    with pytest.raises(StoreError, match="damaged; delete it, and the next build makes it again"):
        published(config, assembly)
    arrays = random_views(3, n_vertices=VERTICES)
    save_views(path, "x", {name: arrays[name] for name in arrays if name != "parts"})
    with pytest.raises(StoreError, match="holds no parts; delete it"):
        published(config, assembly)
    path.write_bytes(content)
    published(config, assembly)
    assert verify(config.store_folder) == []


def ids(store: Store, of: str = "scan") -> list[str]:
    found: list[str] = store.views["view_id"] if of == "view" else store.manifest["scan_id"]
    return found.to_pylist()  # type: ignore[attr-defined]


def npz(folder: Path, ids: list[str], values: Array) -> Path:
    np.savez(folder / "own.npz", ids=ids, values=values)
    return folder / "own.npz"


def value_of(name: str, *shape: int) -> Array:
    """What is attached to a row, by its id."""
    return np.random.default_rng(seed_of(name)).normal(size=shape).astype("<f4")


def all_of(names: list[str], *shape: int) -> Array:
    return np.stack([value_of(name, *shape) for name in names])


@pytest.fixture
def attached(folder: Path) -> BuildConfig:
    """A build to whose version four fields were attached."""
    config = config_of(folder)
    built(config)
    place, store = config.store_folder, open_store(config.store_folder)
    scans, views = ids(store), ids(store, "view")
    attach(place, "warmth", npz(folder, scans, all_of(scans, 3)), **WARM)
    attach(place, "depth", npz(folder, views, all_of(views, 2)), of="view", **WARM)
    attach(place, "shape", npz(folder, scans, all_of(scans, 300)))
    group = np.arange(N, dtype=np.int16)
    attach(place, "group", npz(folder, scans, group), missing=-1, **WARM)
    return config


def test_nothing_changed_and_the_attached_version_stays(attached: BuildConfig) -> None:
    plan = make_plan(attached, MODEL)
    views = computed(attached, plan)
    outcomes = outcomes_of(attached, plan)
    facts = attached, plan, outcomes, quarantine_rows(attached, plan, outcomes), MODEL
    there = published_as(attached, assembly_digest(*facts, views=views))
    assert there == open_store(attached.store_folder).path
    before = open_store(there)
    again = open_store(published(attached, assemble(*facts, "other", views=views)))
    assert again.form.attached == before.form.attached
    for name in ("warmth", "depth", "shape", "group"):
        shards = same_files(before.path, again.path, name)
        assert shards and all(shards.values())


def test_what_was_attached_survives_a_rebuild(attached: BuildConfig, folder: Path) -> None:
    """One scan is new, one has changed, the views of a third are others."""
    before = open_store(attached.store_folder)
    new, changed, seen = "lab:p099_neutral", "lab:p107_neutral", "lab:p120_neutral"
    (folder / "lab" / "p099_neutral.obj").write_text("new")
    (folder / "lab" / "p107_neutral.obj").write_text("changed")
    assembly = assembled(attached, p120="with another camera")
    missing = {row_of: assembly.attached(row_of) for row_of in (SCAN, VIEW)}
    lost = [v["view_id"] for v in assembly.views.rows if v["scan_id"] in (new, changed, seen)]
    assert missing[SCAN] and missing[SCAN].without() == 2
    assert missing[VIEW] and missing[VIEW].without() == len(lost) > 2
    store = open_store(published(attached, assembly))
    assert verify(store.path) == []
    old = dict(zip(ids(before), before.read("group", slice(None)), strict=True))
    for i, scan in enumerate(ids(store)):
        own = scan not in (new, changed)
        expected = value_of(scan, 3) if own else np.full(3, np.nan)
        np.testing.assert_array_equal(store.row("warmth", i), expected)
        expected = value_of(scan, 300) if own else row_of(scan)["shape"]
        np.testing.assert_array_equal(store.row("shape", i), expected)
        assert store.row("group", i) == (old[scan] if own else -1)
    for i, view in enumerate(ids(store, "view")):
        expected = np.full(2, np.nan) if view in lost else value_of(view, 2)
        np.testing.assert_array_equal(store.read_views("depth", [i])[0], expected)
    told = json.loads((store.path / "provenance.json").read_text())["attached"]
    assert told.keys() == {"warmth", "depth", "shape", "group"}
    assert told["warmth"]["file"] == "own.npz"
    check_views(store, p120="with another camera")


def test_without_a_value_for_new_rows_a_field_is_left_out(folder: Path) -> None:
    """As `facefold refit` attaches: coefficients of two models are never mixed."""
    config = config_of(folder)
    built(config)
    store = open_store(config.store_folder)
    scans = ids(store)
    with_fields(config.store_folder, {"shape": (None, all_of(scans, 300))}, {"refit": "other"})
    kept = assembled(config, p120="with another camera")  # no scan is another
    store = open_store(published(config, kept))
    assert kept.carried.left_out == ()
    np.testing.assert_array_equal(store.read("shape", [5]), [value_of(scans[5], 300)])
    (folder / "lab" / "p099_neutral.obj").write_text("new")
    assembly = assembled(config)
    assert assembly.carried.left_out == ("shape",) and not assembly.carried.records
    store = open_store(published(config, assembly))
    assert store.form.attached == () and verify(store.path) == []
    own = [row_of(scan)["shape"] for scan in ids(store)]
    np.testing.assert_array_equal(store.read("shape", slice(None)), own)
    assert "attached" not in json.loads((store.path / "provenance.json").read_text())


def test_without_views_what_was_attached_to_them_is_left_out(attached: BuildConfig) -> None:
    plan, before = make_plan(attached, MODEL), open_store(attached.store_folder).path
    computed(attached, plan)
    outcomes = outcomes_of(attached, plan)
    facts = attached, plan, outcomes, quarantine_rows(attached, plan, outcomes), MODEL
    assembly = assemble(*facts, assembly_digest(*facts))
    assert assembly.carried.left_out == ("depth",)
    store = open_store(published(attached, assembly))
    assert verify(store.path) == [] and store.form.views == 0
    assert [field.name for field in store.form.attached] == ["warmth", "shape", "group"]
    assert before != store.path
    assert all(same_files(before, store.path, "vertices_mm").values())


def test_what_is_attached_during_a_build_is_not_lost(folder: Path) -> None:
    config = config_of(folder)
    built(config)
    (folder / "lab" / "p099_neutral.obj").write_text("new")
    assembly = assembled(config)
    scans = ids(open_store(config.store_folder))
    attach(config.store_folder, "warmth", npz(folder, scans, all_of(scans)), **WARM)
    with pytest.raises(StoreError, match="another version was published while this one was made"):
        published(config, assembly)
    store = open_store(built(config))
    assert len(store) == N + 1 and np.isnan(store.read("warmth", slice(None))).sum() == 1


def test_views_and_attached_rows_of_a_person_who_withdraws_go(
    attached: BuildConfig, folder: Path
) -> None:
    before = open_store(attached.store_folder)
    person = "p120"
    theirs = [i for i, v in enumerate(before.views.to_pylist()) if person in v["scan_id"]]
    scan = ids(before).index(f"lab:{person}_neutral")
    assert theirs
    needles: list[bytes | str] = [f"{person}_neutral"]
    needles += [before.read_views("images", [i])[0].tobytes() for i in theirs]
    needles += [before.read_views("depth", [i])[0].tobytes() for i in theirs]
    needles += [before.row("warmth", scan).tobytes(), before.row("shape", scan).tobytes()]
    assert len(leaks(needles, attached.store_folder)) >= len(needles)
    lost = record_person(attached, find_person(attached, f"lab:{person}"))
    images = [before.read_views("images", [i])[0].tobytes() for i in theirs]
    digests = {hashlib.sha256(image).hexdigest() for image in images}
    assert all(lost.withdrawal.of_row(digest) for digest in digests)
    remove_recorded(attached, lost)
    assert leaks(needles, attached.store_folder) == []
    store = open_store(attached.store_folder)
    assert verify(store.path) == [] and store.form.views == before.form.views - len(theirs)
    scans = ids(store)
    np.testing.assert_array_equal(store.read("warmth", slice(None)), all_of(scans, 3))
    views = ids(store, "view")
    np.testing.assert_array_equal(store.read_views("depth", slice(None)), all_of(views, 2))
    check_views(store)
    # whoever brings a picture of theirs back is found out
    pictures = store.read_views("images", slice(None))
    pictures[5] = before.read_views("images", theirs[:1])[0]
    with_fields(attached.store_folder, {"images": (None, pictures)})
    (fault,) = verify(attached.store_folder)
    assert fault.startswith("images: row 5 holds the bytes of a row withdrawn on ")


def test_all_fields_of_views_are_in_the_files() -> None:
    assert {field.name for field in VIEW_FIELDS} == set(random_views(1, n_vertices=VERTICES))
