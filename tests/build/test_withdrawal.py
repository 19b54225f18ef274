"""A person who withdraws leaves no byte behind, in a store of random rows with real ledgers."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.build import withdrawal
from pipeline.build.assembly import assemble, assembly_digest, shard_arrays
from pipeline.build.config import BuildConfig
from pipeline.build.ledger import Result, open_ledger, record
from pipeline.build.plan import Plan, ledger_path, make_plan
from pipeline.build.quarantine import quarantine_rows
from pipeline.build.result_files import result_path, save_result
from pipeline.build.withdrawal import (
    find_person,
    find_recorded,
    record_person,
    remove_recorded,
)
from pipeline.build.withdrawn import FILE, load_withdrawn
from pipeline.errors import FacefoldError, RegistryError
from pipeline.flame.stand_in import stand_in
from pipeline.refusals import Code
from pipeline.store import (
    ModelTag,
    current_version,
    link_shards,
    open_store,
    publish,
    push,
    subset,
    verify,
    write_shard,
)
from pipeline.store.remote.objects import Place
from pipeline.store.staging import stage
from pipeline.store.topology import Topology
from pipeline.types import N_EXPRESSION, N_POSE, N_SHAPE, Refusal, Registration
from tests.leaks import leaks
from tests.small_build import build_of, outcomes_of, write_source
from tests.store.random_store import random_rows

SCANS = {
    "include": ["*.obj"],
    "name": r"(?P<subject>[a-z]+)_(?P<expression>neutral|smile)\.obj",
    "exclude": [{"pattern": "torn_*", "reason": "torn meshes"}],
    "companions": ["*.npy"],
}
PEOPLE = [f"{a}{b}" for a in ("anna", "bert", "carl") for b in ("mann", "holm", "fels", "berg")]
LAB = [f"{name}_{face}.obj" for name in PEOPLE for face in ("neutral", "smile")]
MODEL = stand_in()
TAG = ModelTag.of(MODEL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """lab: 24 scans of 12 people and more files; clinic: one of them under another name, another
    person, and one whose scan is the first one's again."""
    more = ("annamann_smile.npy", "torn_annamann.obj", "annamann.txt", "bertholm.txt")
    write_source(tmp_path, "lab", *LAB, *more, scans=SCANS, limits={"max_rejected_share": 1.0})
    same = {"same_as": {"gretel": "lab:annamann"}}
    write_source(
        tmp_path, "clinic", "gretel_smile.obj", "hansel_neutral.obj", scans=SCANS, subjects=same
    )
    return tmp_path


def registered(scan_id: str) -> Registration:
    zeros = np.zeros((4, 3))
    return Registration(
        **dict.fromkeys(("vertices_mm", "neutral_mm", "offset_mm"), zeros),
        **{name: np.zeros(4) for name in ("distance_mm", "weight", "expected_error_mm")},
        scan_id=scan_id,
        model_digest="a" * 64,
        shape=np.zeros(N_SHAPE),
        expression=np.zeros(N_EXPRESSION),
        pose=np.zeros(N_POSE),
        translation_mm=np.zeros(3),
        validity=np.ones(4, dtype=bool),
        iterations=1,
        status="converged",
    )


def row_of(scan_id: str) -> dict[str, Any]:
    """The arrays of a scan's row, random by its id."""
    rows = random_rows(1, zlib.crc32(scan_id.encode()), n_vertices=5023)
    return {name: values[0] for name, values in rows.items()}


def compute(config: BuildConfig, plan: Plan) -> dict[str, str]:
    """Results of all scans of the plan, as stages leave them."""
    refused = {"lab:annamann_smile": Refusal("quality", Code.NOT_A_FACE, "hardly a face")}
    results = []
    for work in plan.works:
        results += [Result(key, work.record.scan_id) for key in work.keys[:2]]
        path = result_path(config.work, work.keys.register)
        if not path.exists():
            save_result(path, row_of(work.record.scan_id), registered(work.record.scan_id))
    sample = Result("f" * 64, "lab", None, {"sample": [w.record.scan_id for w in plan.works]})
    with open_ledger(ledger_path(config)) as ledger:
        record(ledger, [*results, sample])
    return outcomes_of(config, plan, refused)


def built(config: BuildConfig) -> Path:
    """The published version, by the functions that the flow calls."""
    plan = make_plan(config, MODEL)
    outcomes = compute(config, plan)
    facts = config, plan, outcomes, quarantine_rows(config, plan, outcomes), MODEL
    assembly = assemble(*facts, assembly_digest(*facts))
    order = assembly.order
    form = config.form(len(order.works), TAG)
    staging = stage(config.store_folder, form, Topology.of(MODEL))
    receipts = link_shards(staging, order.before, order.unchanged) if order.before else []
    linked = [receipt.shard for receipt in receipts]
    for shard in sorted({*range(form.n_shards)} - {*linked}):
        works = order.works[shard * form.rows_per_shard : (shard + 1) * form.rows_per_shard]
        arrays = shard_arrays(config.work, [work.keys.register for work in works])
        receipts.append(write_shard(staging, shard, arrays, TAG.digest))
    return publish(
        *(config.store_folder, staging, receipts, assembly.manifest),
        *(assembly.quarantine, assembly.excluded),
        identities=assembly.identities,
        provenance=assembly.provenance,
    )


def build(folder: Path, **fields: Any) -> BuildConfig:
    return build_of(folder, "lab", "clinic", points_per_scan=0, rows_per_shard=16, **fields)


def withdraw(config: BuildConfig, person: str) -> dict[str, Any]:
    found = find_recorded(config, person) or record_person(config, find_person(config, person))
    return remove_recorded(config, found)


NAMES = ("annamann", "gretel")


def needles(folder: Path) -> list[bytes | str]:
    """Names, hashes and bytes of the person's rows."""
    version = open_store(folder / "unified.zarr")
    manifest = version.columns("scan_id", "content_hash").to_pylist()
    theirs = [i for i, row in enumerate(manifest) if any(n in row["scan_id"] for n in NAMES)]
    assert theirs, "the test looks for nothing"
    rows = [version.read(name, theirs) for name in ("vertices_mm", "neutral_mm", "shape")]
    parts = [values[:64].tobytes() for some in rows for values in some.reshape(len(theirs), -1)]
    return [*NAMES, *parts, *(manifest[i]["content_hash"] for i in theirs)]


def places(folder: Path) -> tuple[Path, Path]:
    return folder / "unified.zarr", folder / ".facefold"


def test_no_byte_of_a_person_is_left(folder: Path) -> None:
    config = build(folder)
    built(config)
    (folder / "lab" / "zoe_neutral.obj").write_text("one more scan, so that there are versions")
    before = built(config)
    looked_for = needles(folder)
    assert len(leaks(looked_for, *places(folder))) > 8
    rows = len(open_store(before))
    others = {name: row for name, row in kept_rows(before).items() if not is_theirs(name)}

    removed = withdraw(config, "clinic:gretel")

    assert leaks(looked_for, *places(folder), folder / FILE) == []
    store = folder / "unified.zarr"
    assert verify(store) == []
    part = subset(store, "neutral", folder / "part.zarr")
    assert load_records(part) == load_records(current_version(store)) != []
    assert [path.name for path in (store / "versions").iterdir()] == [current_version(store).name]
    assert len(removed["versions"]) == 2 and removed["results"] == 3
    after = kept_rows(current_version(store))
    assert len(after) == rows - 2 and after.keys() == others.keys()
    for name, row in after.items():
        np.testing.assert_array_equal(row, others[name])
    names = open_store(store).columns("identity")["identity"].to_pylist()
    assert names[0] != "lab:annamann" and "lab:annaholm" in names


def load_records(version: Path) -> Any:
    return json.loads((version / "provenance.json").read_text())["withdrawn"]


def is_theirs(scan_id: str) -> bool:
    return any(name in scan_id for name in NAMES)


def kept_rows(version: Path) -> dict[str, Any]:
    opened = open_store(version)
    names = opened.columns("scan_id")["scan_id"].to_pylist()
    return dict(zip(names, opened.read("vertices_mm", np.arange(len(names))), strict=True))


def test_shards_without_the_person_are_the_same_files(folder: Path) -> None:
    config = build(folder)
    before = built(config)
    names = open_store(before).columns("scan_id")["scan_id"].to_pylist()
    assert len(names) > 16
    first = (before / "vertices_mm" / "c" / "0").rglob("0")
    inode = next(path for path in first if path.is_file()).stat().st_ino
    last = names[-1].partition("_")[0]
    withdraw(config, last)
    after = current_version(folder / "unified.zarr") / "vertices_mm" / "c" / "0"
    assert next(p for p in after.rglob("0") if p.is_file()).stat().st_ino == inode


@pytest.mark.parametrize("again", ["same", "work deleted", "under another name"])
def test_a_rebuild_does_not_bring_them_back(folder: Path, again: str) -> None:
    config = build(folder)
    built(config)
    looked_for = needles(folder)
    withdraw(config, "lab:annamann")
    if again == "work deleted":
        shutil.rmtree(config.work)
    if again == "under another name":
        content = (folder / "lab" / "annamann_neutral.obj").read_bytes()
        (folder / "clinic" / "otto_neutral.obj").write_bytes(content)
    version = built(config)
    assert leaks(looked_for, *places(folder)) == []
    assert leaks(["otto"], *places(folder)) == []
    assert verify(version) == []
    excluded = open_store(version).table("excluded").to_pylist()
    told = {row["source"]: row["reason"] for row in excluded if not row["path"]}
    assert told["lab"] == "withdrawn: 4 files"
    assert told["clinic"] == f"withdrawn: {1 + (again == 'under another name')} files"
    manifest = open_store(version).columns("scan_id")["scan_id"].to_pylist()
    assert "lab:bertholm_smile" in manifest and "clinic:hansel_neutral" in manifest


STEPS = ("publish_without", "prune_holding", "forget_results", "forget_hashes", "forget_decisions")


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_withdrawal_goes_on_where_it_is_asked_for_again(
    folder: Path, step: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("facefold"), "propagate", True)
    config = build(folder)
    built(config)
    looked_for = needles(folder)
    (folder / "identities.yaml").write_text(
        'decisions:\n- same: ["lab:annamann", "clinic:hansel"]\n  by: me\n  date: "2026-01-01"\n'
    )
    if (child := os.fork()) == 0:
        real = getattr(withdrawal, step)

        def half_done(*arguments: Any, **options: Any) -> None:
            if step == "forget_results":
                real(*arguments, **options)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(withdrawal, step, half_done)
        withdraw(config, "lab:annamann")
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    [left] = load_withdrawn(folder)
    assert not left.complete and left.withdrawal.of_person("clinic:gretel")
    make_plan(config, MODEL)
    assert "was broken off" in caplog.text
    assert leaks(looked_for, *places(folder), folder / "identities.yaml")
    withdraw(config, "clinic:gretel")
    assert leaks(looked_for, *places(folder), folder / "identities.yaml") == []
    assert verify(folder / "unified.zarr") == []
    [record] = load_withdrawn(folder)
    assert record.complete and record.withdrawal == left.withdrawal


def test_what_is_sent_to_an_object_store_goes_from_there(folder: Path, s3: str) -> None:
    config = build(folder, store=s3)
    before = built(config)
    push(config.store_folder, s3)
    withdraw(config, "lab:bertfels")
    assert verify(s3) == []
    there = open_store(s3)
    assert there.version == current_version(config.store_folder).name != before.name
    assert not any("bertfels" in name for name in there.columns("scan_id")["scan_id"].to_pylist())
    assert {name.split("/")[0] for name in (Place(s3) / "versions").sizes()} == {there.version}


def test_verify_finds_a_row_that_came_back(folder: Path) -> None:
    """By its bytes alone: under another name, with another content hash."""
    config = build(folder)
    built(config)
    bytes_of_theirs = row_of("clinic:gretel_smile")
    withdraw(config, "clinic:gretel")
    plan = make_plan(config, MODEL)
    chosen = next(w for w in plan.works if w.record.scan_id == "clinic:hansel_neutral")
    path = result_path(config.work, chosen.keys.register)
    save_result(path, bytes_of_theirs, registered("clinic:hansel_neutral"))
    version = current_version(config.store_folder)
    shutil.rmtree(version)
    (config.store_folder / "HEAD").unlink()
    faults = verify(built(config))
    assert [fault.partition(":")[0] for fault in faults] == ["vertices_mm", "neutral_mm"]
    assert all("bytes of a row withdrawn on" in fault for fault in faults)


def test_what_was_compared_of_others_stays(folder: Path) -> None:
    config = build(folder)
    built(config)
    people = config.work / "people"
    for name in ("evidence/aa/aa1.arrays", "evidence/bb/bb1.arrays", "labels/cc/cc1.arrays"):
        (people / name).parent.mkdir(parents=True)
        (people / name).write_bytes(b"lab:annamann")
    (people / "population.npz").write_bytes(b"of all")
    keys = {"lab:annamann": "aa1", "lab:bertholm": "bb1"}
    pairs = [["lab:annamann", "lab:bertholm", 1.5], ["lab:bertholm", "lab:bertfels", -3.0]]
    copies = [["clinic:gretel_smile", "lab:bertholm_smile", 0.1]]
    said = {"keys": keys, "pairs": pairs, "copies": copies, "population": "x", "code": "y"}
    (people / "compared.json").write_text(json.dumps(said))
    (people / "findings.json").write_text("lab:annamann")
    (config.work / "undecided.yaml").write_text("lab:annamann")
    withdraw(config, "lab:annamann")
    left = {str(path.relative_to(people)) for path in people.rglob("*") if path.is_file()}
    assert left == {"evidence/bb/bb1.arrays", "population.npz", "compared.json"}
    assert not (config.work / "undecided.yaml").exists()
    assert json.loads((people / "compared.json").read_text()) == said | {
        "keys": {"lab:bertholm": "bb1"},
        "pairs": pairs[1:],
        "copies": [],
    }


def test_photos_that_do_not_name_the_person_are_found_by_their_scans(folder: Path) -> None:
    photo = {
        "file": "{number}.jpg",
        "camera": "calibration",
        "calibration": {"file": "rig_{number}.tka", "format": "tka"},
    }
    name = r"(?P<number>\d)_(?P<subject>[a-z]+)_(?P<expression>neutral)\.obj"
    files = [f"{i}_{who}_neutral.obj" for i, who in enumerate(("anna", "bert"))]
    files += ["0.jpg", "1.jpg", "rig_0.tka", "rig_1.tka"]
    scans = SCANS | {"name": name, "companions": []}
    write_source(folder, "rig", *files, scans=scans, views={"photos": [photo]})
    config = build_of(folder, "lab", "rig", points_per_scan=0, rows_per_shard=16)
    built(config)
    found = find_person(config, "rig:anna")
    assert {path.name for path in found.files} == {"0_anna_neutral.obj", "0.jpg"}
    photo_digest = hashlib.sha256(b"rig/0.jpg").hexdigest()
    assert photo_digest in found.contents


def test_a_scan_that_was_decided_to_be_theirs_goes_and_its_subject_stays(folder: Path) -> None:
    config = build(folder)
    path = folder / "identities.yaml"
    path.write_text(
        "decisions:\n- {scan: lab:bertfels_smile, person: lab:annamann, by: me, "
        'date: "2026-11-30"}\n'
    )
    built(config)
    assert find_person(config, "lab:bertfels").names == ("lab:bertfels",)
    found = find_person(config, "lab:annamann")
    assert found.names == ("clinic:gretel", "lab:annamann")
    assert folder / "lab" / "bertfels_smile.obj" in found.files
    withdraw(config, "lab:annamann")
    scans = {row["scan_id"] for row in open_store(built(config)).columns("scan_id").to_pylist()}
    assert "lab:bertfels_neutral" in scans and "lab:bertfels_smile" not in scans
    assert verify(config.store_folder) == []


def test_people_who_were_decided_to_be_two_do_not_leave_together(folder: Path) -> None:
    same = 'decisions:\n- {same: [lab:annamann, lab:bertfels], by: me, date: "2026-11-30"}\n'
    config = build(folder)
    (folder / "identities.yaml").write_text(same)
    built(config)
    (folder / "identities.yaml").write_text(same.replace("same", "different"))
    with pytest.raises(FacefoldError, match="build first, so that the other one stays"):
        find_person(config, "lab:annamann")


def test_who_is_not_there_and_who_is_alone(folder: Path) -> None:
    config = build(folder)
    built(config)
    with pytest.raises(FacefoldError, match="lab:nobody: got a name that no scan"):
        find_person(config, "lab:nobody")
    assert not (folder / FILE).exists()
    alone = build_of(folder, "clinic", points_per_scan=0, work="alone", store="alone.zarr")
    (folder / "clinic" / "gretel_smile.obj").unlink()
    built(alone)
    with pytest.raises(FacefoldError, match="holds nobody else"):
        find_person(alone, "clinic:hansel")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("withdrawn: [", "unreadable"),
        ("withdrawn: [{salt: x}]", "withdrawn.0.salt"),
        ("other: 1", "withdrawn"),
    ],
)
def test_a_record_that_cannot_be_read_stops_the_build(folder: Path, text: str, fault: str) -> None:
    config = build(folder)
    (folder / FILE).write_text(text)
    with pytest.raises(RegistryError, match=fault):
        make_plan(config, MODEL)


def test_records_have_salts_of_their_own_and_no_names(folder: Path) -> None:
    config = build(folder)
    for person in ("lab:annamann", "lab:bertholm"):
        record_person(config, find_person(config, person), reason="asked on paper")
    first, second = (one.withdrawal for one in load_withdrawn(folder))
    assert first.salt != second.salt and not first.people & second.people
    assert first.of_person("lab:annamann") and not second.of_person("lab:annamann")
    text = (folder / FILE).read_text()
    assert not any(name in text for name in ("annamann", "bertholm", "gretel"))
    assert yaml.safe_load(text)["withdrawn"][0]["counts"]["names"] == 2


DECISIONS = """\
# who is who; lab:annamann came twice
decisions:
- different: [lab:annamann, lab:bertholm, clinic:hansel]
  by: me   # asked lab:annamann
  date: "2026-11-30"
# stays
- different: ["lab:annamann", "lab:carlberg"]
  by: me
  date: "2026-11-30"
- different:
  - lab:carlholm
  - lab:carlberg
  by: me
  date: "2026-11-30"
  note: nothing alike
- different:
  - lab:carlholm
  - lab:annamann
  - lab:bertfels
  by: me
  date: "2026-11-30"
- scan: lab:bertfels_smile
  person: lab:annamann
  by: me
  date: "2026-11-30"
"""
LEFT = """\
decisions:
- different: ["lab:bertholm", "clinic:hansel"]
  by: me
  date: "2026-11-30"
# stays
- different:
  - lab:carlholm
  - lab:carlberg
  by: me
  date: "2026-11-30"
  note: nothing alike
- different: ["lab:carlholm", "lab:bertfels"]
  by: me
  date: "2026-11-30"
"""


def test_decisions_about_a_person_go_and_the_others_stay_as_they_are(folder: Path) -> None:
    config = build(folder)
    (folder / "identities.yaml").write_text(DECISIONS)
    removed = withdraw(config, "lab:annamann")
    assert (folder / "identities.yaml").read_text() == LEFT
    assert removed["decisions"] == {"entries": 2, "comments": 2}


def test_the_last_decision_leaves_an_empty_list(folder: Path) -> None:
    config = build(folder)
    path = folder / "identities.yaml"
    path.write_text(
        'decisions:\n- {scan: lab:annamann_smile, exclude: true, by: me, date: "2026-11-30"}\n'
    )
    withdraw(config, "lab:annamann")
    assert yaml.safe_load(path.read_text()) == {"decisions": []}
