"""The tables of a version: every file counted, people kept together, heavy losses refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.build.assembly import Assembly, assemble, assembly_digest, published_as, shard_arrays
from pipeline.build.config import BuildConfig
from pipeline.build.dry_run import dry_run
from pipeline.build.plan import Plan, make_plan
from pipeline.build.quarantine import check_limits, quarantine_rows, summarise
from pipeline.build.result_files import result_path, save_result
from pipeline.build.run import plan_build
from pipeline.errors import FacefoldError, StoreError
from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.identity import split_of
from pipeline.refusals import Code
from pipeline.store import create_staging, publish, write_shard
from pipeline.store.tables import identity_rows
from pipeline.types import N_EXPRESSION, N_POSE, N_SHAPE, Refusal, Registration
from tests.small_build import build_of, outcomes_of, write_registry, write_source
from tests.store.random_store import TAG, random_points, random_rows

REFUSED = {
    "lab:p2_neutral": Refusal("read", Code.DAMAGED, "cut off"),
    "clinic:p9_smile": Refusal("quality", Code.NOT_A_FACE, "hardly a face", {"value": 0.2}),
}
EMPTY = {"lab:p2_neutral": Refusal("read", Code.UNREADABLE, "empty")}


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """lab: 4 scans of 3 people and files of all other kinds; clinic: 3 of 3, one known to lab."""
    write_source(
        *(tmp_path, "lab", "p1_neutral.obj", "p1_smile.obj", "p2_neutral.obj", "p3_neutral.obj"),
        *("p1_smile.npy", "torn_p4.obj", "Thumbs.db", "notes.txt", "who_is_this.obj"),
    )
    same = {"same_as": {"p8": "lab:p1"}}
    write_source(
        *(tmp_path, "clinic", "p7_neutral.obj", "p8_neutral.obj", "p9_smile.obj"), subjects=same
    )
    return tmp_path


Assembled = tuple[BuildConfig, Plan, Assembly]


def assembled(
    folder: Path,
    model: FlameModel,
    *sources: str,
    refused: dict[str, tuple[str, str]] | None = None,
    **fields: Any,
) -> Assembled:
    config = build_of(folder, *(sources or ("lab", "clinic")), **fields)
    plan = make_plan(config, model)
    outcomes = outcomes_of(config, plan, REFUSED if refused is None else refused)
    quarantine = quarantine_rows(config, plan, outcomes)
    facts = config, plan, outcomes, quarantine, model
    return config, plan, assemble(*facts, assembly_digest(*facts))


def rows(assembly: Assembly) -> list[dict[str, Any]]:
    return list(assembly.manifest.to_pylist())


def digest(assembly: Assembly) -> str:
    return str(assembly.provenance["assembly"])


def column(assembly: Assembly, name: str) -> dict[str, Any]:
    return {row["scan_id"]: row[name] for row in rows(assembly)}


def test_images_are_referenced_in_the_manifest(folder: Path, model: FlameModel) -> None:
    write_source(folder, "lab", "p1_neutral.jpg", images=["{stem}.jpg"])
    found = column(assembled(folder, model)[2], "image_files")
    [image] = json.loads(found["lab:p1_neutral"])
    assert image["path"] == "p1_neutral.jpg" and image["bytes"] == len("lab/p1_neutral.jpg")
    assert image["sha256"] == hashlib.sha256(b"lab/p1_neutral.jpg").hexdigest()
    assert found["lab:p1_smile"] == "[]"


def test_what_files_tell_of_people_is_in_the_manifest(folder: Path, model: FlameModel) -> None:
    table = "subject,gender,age\np1,f,34\np2,m,unknown\n"
    (folder / "lab" / "people.csv").write_text(table)
    facts = {"file": "people.csv", "format": "csv", "subject": "subject"}
    facts["fields"] = {"sex": "gender", "age": "age"}  # type: ignore[assignment]
    meaning = {"sex": {"f": "female", "m": "male"}}
    write_registry(folder, "lab", subjects={"table": facts, "metadata": meaning})
    assembly = assembled(folder, model, refused={})[2]
    sex, age = column(assembly, "sex"), column(assembly, "age")
    assert (sex["lab:p1_smile"], age["lab:p1_smile"]) == ("female", 34.0)
    assert (sex["lab:p2_neutral"], age["lab:p2_neutral"]) == ("male", None)
    assert (sex["clinic:p7_neutral"], age["lab:p3_neutral"]) == (None, None)
    assert set(column(assembly, "ancestry").values()) == {None}


def test_expressions_and_frames_are_in_the_manifest(folder: Path, model: FlameModel) -> None:
    scans = {
        "include": ["*.obj"],
        "name": r"(?P<subject>p(?P<frame>\d))_(?P<expression>neutral|smile)\.obj",
        "companions": ["*.npy"],
        "exclude": [{"pattern": "torn_*", "reason": "torn meshes"}],
    }
    write_registry(folder, "lab", scans=scans)
    plain = assembled(folder, model)[2]
    kinds = column(plain, "expression_class")
    assert (kinds["lab:p1_neutral"], kinds["lab:p1_smile"]) == ("neutral", "unknown")
    assert column(plain, "frame")["lab:p1_smile"] == 1
    write_registry(folder, "lab", scans=scans, expressions={"smile": "smile"})
    told = assembled(folder, model)[2]
    kinds, neutral = column(told, "expression_class"), column(told, "neutral")
    assert (kinds["lab:p1_neutral"], kinds["lab:p1_smile"]) == ("neutral", "smile")
    assert all((kinds[scan] == "neutral") == neutral[scan] for scan in kinds)
    assert digest(told) != digest(plain)


def test_every_file_is_counted_once(folder: Path, model: FlameModel) -> None:
    _, plan, assembly = assembled(folder, model)
    summary = summarise(plan, assembly.quarantine)
    lab = {"found": 8, "kept": 3, "quarantined": 3, "excluded": 2, "companions": 1}
    clinic = {"found": 3, "kept": 2, "quarantined": 1, "excluded": 0, "companions": 0}
    assert summary["sources"] == [{"source": "lab", **lab}, {"source": "clinic", **clinic}]
    assert {name: summary[name] for name in lab} == {name: lab[name] + clinic[name] for name in lab}
    for row in (summary, *summary["sources"]):
        assert row["found"] == row["kept"] + row["quarantined"] + row["excluded"]
    assert summary["found"] + summary["companions"] == sum(
        path.is_file() for source in ("lab", "clinic") for path in (folder / source).iterdir()
    )


def test_what_is_left_out_says_where_and_why(folder: Path, model: FlameModel) -> None:
    assembly = assembled(folder, model)[2]
    found = [(row["source"], Path(row["path"]).name, row["stage"]) for row in assembly.quarantine]
    assert found == [
        ("clinic", "p9_smile.obj", "quality"),
        ("lab", "notes.txt", "catalogue"),
        ("lab", "p2_neutral.obj", "read"),
        ("lab", "who_is_this.obj", "catalogue"),
    ]
    assert [row["reason"] for row in assembly.quarantine][::2] == ["hardly a face", "cut off"]
    assert all(Path(row["path"]).is_file() for row in assembly.quarantine)
    assert {(row["path"], row["reason"]) for row in assembly.excluded} == {
        ("torn_p4.obj", "torn meshes"),
        ("Thumbs.db", "written by the operating system"),
    }


def test_people_are_one_across_sources_and_stand_together(folder: Path, model: FlameModel) -> None:
    subjects = {"same_as": {"p8": "lab:p1", "p7": "lab:p3"}}
    write_registry(folder, "clinic", subjects=subjects)
    assembly = assembled(folder, model)[2]
    assert [(row["identity"], row["scan_id"]) for row in rows(assembly)] == [
        ("lab:p1", "clinic:p8_neutral"),
        ("lab:p1", "lab:p1_neutral"),
        ("lab:p1", "lab:p1_smile"),
        ("lab:p3", "clinic:p7_neutral"),
        ("lab:p3", "lab:p3_neutral"),
    ]
    other_way_round = assembled(folder, model, "clinic", "lab")[2]
    assert rows(other_way_round) == rows(assembly)


def test_one_line_says_that_two_sources_number_their_people_alike(
    folder: Path, model: FlameModel
) -> None:
    write_registry(folder, "clinic", subjects={"same_as": {"*": "lab:{subject}", "p8": "lab:p1"}})
    assembly = assembled(folder, model)[2]
    people = column(assembly, "identity")
    assert people["clinic:p7_neutral"] == "lab:p7" and people["clinic:p8_neutral"] == "lab:p1"
    assert people["lab:p3_neutral"] == "lab:p3"


def test_people_that_are_the_same_in_a_circle_are_refused(folder: Path, model: FlameModel) -> None:
    write_registry(folder, "lab", subjects={"same_as": {"p1": "clinic:p8"}})
    with pytest.raises(FacefoldError, match="same_as goes in a circle"):
        assembled(folder, model)


def test_people_of_a_benchmark_are_tested_on_wherever_they_were_scanned(
    folder: Path, model: FlameModel
) -> None:
    everyone = {"splits": {"train": 1.0}}
    assert set(column(assembled(folder, model, **everyone)[2], "split").values()) == {"train"}
    subjects = {"same_as": {"p8": "lab:p1", "p9": "lab:p3"}}
    write_registry(folder, "clinic", benchmark="now", subjects=subjects)
    # p9's own scan is refused: the person is one of the benchmark all the same
    assert column(assembled(folder, model, **everyone)[2], "split") == {
        "clinic:p7_neutral": "test",
        "clinic:p8_neutral": "test",
        "lab:p1_neutral": "test",
        "lab:p1_smile": "test",
        "lab:p3_neutral": "test",
    }
    write_registry(folder, "clinic", benchmark="now", subjects={"same_as": {"p8": "lab:p1"}})
    assert column(assembled(folder, model, **everyone)[2], "split")["lab:p3_neutral"] == "train"


def test_who_is_held_back_and_why_is_in_the_tables(folder: Path, model: FlameModel) -> None:
    write_registry(folder, "lab", benchmark={"name": "now", "subjects": "p[12]"})
    assembly = assembled(folder, model, splits={"train": 1.0})[2]
    assert column(assembly, "benchmark") == {
        "clinic:p7_neutral": None,
        "clinic:p8_neutral": None,
        "lab:p1_neutral": "now",
        "lab:p1_smile": "now",
        "lab:p3_neutral": None,
    }
    # p2's scan is refused, and so p2 has no row
    [held] = assembly.identities
    reasons = json.loads(held["held_back"])
    assert held["identity"] == "lab:p1" and [(r["name"], r["how"]) for r in reasons] == [
        ("clinic:p8", "link"),
        ("lab:p1", "rule"),
    ]
    assert {(r["benchmark"], r["by"], r["said_by"]) for r in reasons} == {
        ("now", "lab:p1", "lab: benchmark")
    }
    told = next(row for row in identity_rows(assembly.manifest, assembly.identities))
    assert (told["identity"], told["split"]) == ("clinic:p7", "train")
    before = digest(assembly)
    write_registry(folder, "lab", benchmark={"name": "realy", "subjects": "p[12]"})
    other = assembled(folder, model, splits={"train": 1.0})[2]
    assert digest(other) != before
    profiles = {"id": "own", "title": "x", "sources": {"lab": {"split": "val", "reason": "x"}}}
    (folder / "own.yaml").write_text(yaml.safe_dump(profiles))
    stated = assembled(folder, model, splits={"train": 1.0}, profile="own.yaml")[2]
    assert not stated.identities and stated.provenance["profile"]["id"] == "own"
    assert column(stated, "split")["lab:p1_smile"] == "val" and digest(stated) != digest(other)


def test_people_of_a_benchmark_that_is_not_in_the_build_are_kept_out_too(
    folder: Path, model: FlameModel
) -> None:
    write_registry(folder, "lab", subjects={"same_as": {"p1": "stirling:F1001"}})
    split = column(assembled(folder, model, splits={"train": 1.0})[2], "split")
    assert split["lab:p1_neutral"] == split["lab:p1_smile"] == "test"
    assert split["lab:p3_neutral"] == "train"


def test_rows_without_true_size_stand_in_splits_of_their_own(
    folder: Path, model: FlameModel
) -> None:
    same = {"same_as": {"p8": "lab:p1"}}
    write_registry(folder, "clinic", metric=False, subjects=same)
    assembly = assembled(folder, model, splits={"train": 1.0})[2]
    assert column(assembly, "split") == {
        "clinic:p7_neutral": "train_non_metric",
        "clinic:p8_neutral": "train_non_metric",
        "lab:p1_neutral": "train",
        "lab:p1_smile": "train",
        "lab:p3_neutral": "train",
    }
    assert not any(row["metric"] for row in rows(assembly) if row["split"] == "train_non_metric")
    # p1 is of both: one split, metric or not
    people = {row["identity"]: row["split"] for row in identity_rows(assembly.manifest)}
    assert people["lab:p1"] == "train"
    write_registry(folder, "clinic", metric=False, benchmark="now", subjects=same)
    split = column(assembled(folder, model, splits={"train": 1.0})[2], "split")
    assert split["clinic:p8_neutral"] == "test_non_metric" and split["lab:p1_smile"] == "test"
    recovered = {"metric": "recoverable", "scale": {"factor": 0.25}}
    write_registry(folder, "clinic", **recovered, subjects=same)
    assembly = assembled(folder, model, splits={"train": 1.0})[2]
    assert set(column(assembly, "split").values()) == {"train"}
    assert all(column(assembly, "metric").values())


def test_an_added_source_moves_nobody_out_of_test(tmp_path: Path, model: FlameModel) -> None:
    write_source(tmp_path, "lab", *(f"p{i}_neutral.obj" for i in range(60)))
    others = {f"p{i}": f"lab:p{i}" for i in range(0, 60, 2)}
    names = (f"p{i}_smile.obj" for i in range(90))
    write_source(tmp_path, "clinic", *names, subjects={"same_as": others})
    config, _, assembly = assembled(tmp_path, model, "lab", refused={})
    before = column(assembly, "split")
    after = column(assembled(tmp_path, model, "lab", "clinic", refused={})[2], "split")
    assert set(before.values()) == {"train", "val", "test"}
    for i in range(60):
        names = (f"lab:p{i}", f"clinic:p{i}") if i % 2 == 0 else (f"lab:p{i}",)
        own = [split_of(name, config.splits, config.seed) for name in names]
        assert before[f"lab:p{i}_neutral"] == own[0]
        assert after[f"lab:p{i}_neutral"] == min(own, key=("test", "val", "train").index)
    assert all(after[f"clinic:p{i}_smile"] == after[f"lab:p{i}_neutral"] for i in range(0, 60, 2))
    other_seed = assembled(tmp_path, model, "lab", refused={}, seed=1)[2]
    assert column(other_seed, "split") != before


def test_the_registry_of_today_goes_before_what_was_recorded(
    folder: Path, model: FlameModel
) -> None:
    terms = {"name": "research", "url": "x", "redistribution": False, "commercial": False}
    write_registry(folder, "lab", licence=terms, metric=False, neutral="all")
    config = build_of(folder, "lab")
    plan = make_plan(config, model)
    stale = {"subject": "somebody", "neutral": False, "licence": "old", "verdict": "review"}
    outcomes = outcomes_of(config, plan, **stale)
    found = rows(assemble(config, plan, outcomes, [], model, ""))
    row = next(row for row in found if row["scan_id"] == "lab:p1_smile")
    work = next(work for work in plan.works if work.record.scan_id == "lab:p1_smile")
    assert {name: row[name] for name in ("subject", "neutral", "licence", "commercial")} == {
        "subject": "p1",
        "neutral": True,
        "licence": "research",
        "commercial": False,
    }
    assert (row["metric"], row["redistribution"], row["benchmark"]) == (False, False, None)
    assert (row["verdict"], row["coverage"]) == ("review", 0.5)
    assert (row["result_key"], row["content_hash"]) == (
        work.keys.register,
        work.record.content_hash,
    )


def test_a_source_that_loses_too_much_stops_the_build(folder: Path, model: FlameModel) -> None:
    # lab loses 3 of 6, clinic 1 of 3; what a rule excludes is not lost
    def limits(lab: float, clinic: float) -> None:
        write_registry(folder, "lab", limits={"max_rejected_share": lab})
        write_registry(folder, "clinic", limits={"max_rejected_share": clinic})
        _, plan, assembly = assembled(folder, model)
        check_limits(plan, assembly.quarantine)

    limits(0.5, 0.34)
    with pytest.raises(FacefoldError) as caught:
        limits(0.49, 0.34)
    lost = "1 catalogue: unexplained, 1 read: damaged, 1 catalogue: name"
    assert f"lab: 3 of 6 scans are quarantined ({lost})" in str(caught.value)
    assert "limits.max_rejected_share 0.49" in str(caught.value)
    assert "nothing was published" in str(caught.value) and "clinic" not in str(caught.value)
    with pytest.raises(
        FacefoldError, match=r"lab: 3 of 6 .*clinic: 1 of 3 .*\(1 quality: not_a_face\)"
    ):
        limits(0.2, 0.2)


def test_what_the_catalogue_loses_stops_a_build_before_it_opens_a_scan(tmp_path: Path) -> None:
    write_source(tmp_path, "lab", "p1_neutral.obj", "p2.obj", limits={"max_rejected_share": 0.49})
    config = build_of(tmp_path, "lab")
    (fault,) = dry_run(config)["beyond_limits"]
    assert fault.startswith("lab: 1 of 2 scans are quarantined (1 catalogue: name)")
    with pytest.raises(FacefoldError, match=r"lab: 1 of 2 .*nothing was published"):
        plan_build(config)
    write_registry(tmp_path, "lab", limits={"max_rejected_share": 0.5})
    assert not dry_run(config)["beyond_limits"] and len(plan_build(config).plan.todo) == 1


def test_a_source_without_scans_loses_nothing(tmp_path: Path, model: FlameModel) -> None:
    write_source(tmp_path, "lab", "torn_p1.obj", limits={"max_rejected_share": 0.0})
    _, plan, assembly = assembled(tmp_path, model, "lab")
    check_limits(plan, assembly.quarantine)
    assert len(assembly.manifest) == 0 and summarise(plan, assembly.quarantine)["found"] == 1


def test_equal_builds_have_equal_digests(folder: Path, model: FlameModel) -> None:
    assert digest(assembled(folder, model)[2]) == digest(
        assembled(folder, model, workers=1, batch=1, device="cpu")[2]
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: write_registry(folder, "lab", version="2"),
        lambda folder: write_registry(
            folder, "lab", limits={"max_rejected_share": 0.3, "extent_mm": [70.0, 600.0]}
        ),
        lambda folder: (folder / "lab" / "p1_neutral.obj").write_bytes(b"scanned again"),
        lambda folder: (folder / "lab" / "p5_neutral.obj").write_bytes(b"one more"),
        lambda folder: (folder / "lab" / "torn_p5.obj").write_bytes(b"torn"),
        lambda folder: (folder / "lab" / "what.obj").write_bytes(b"of no name"),
    ],
    ids=["version", "limits", "changed scan", "more scans", "more excluded", "more quarantined"],
)
def test_digests_follow_the_sources(
    folder: Path, model: FlameModel, change: Callable[[Path], Any]
) -> None:
    before = digest(assembled(folder, model)[2])
    change(folder)
    assert digest(assembled(folder, model)[2]) != before


def test_digests_follow_settings_model_and_verdicts(folder: Path, model: FlameModel) -> None:
    found = [
        digest(assembled(folder, model)[2]),
        digest(assembled(folder, model, seed=1)[2]),
        digest(assembled(folder, model, splits={"train": 1.0})[2]),
        digest(assembled(folder, model, rows_per_shard=64)[2]),
        digest(assembled(folder, model, quality={"coverage": [0.6, 0.3]})[2]),
        digest(assembled(folder, replace(model, name="another"))[2]),
        digest(assembled(folder, model, refused={})[2]),
        digest(assembled(folder, model, refused=REFUSED | EMPTY)[2]),
    ]
    assert len(set(found)) == len(found)


def test_provenance_says_what_the_dataset_is_made_from(folder: Path, model: FlameModel) -> None:
    assembly = assembled(folder, model, registration={"modes": 40})[2]
    found = json.loads(json.dumps(assembly.provenance))
    assert found["model"] == {"name": "stand-in", "digest": model.digest, "is_stand_in": True}
    assert [(s["id"], s["scans"], s["options"]["modes"]) for s in found["sources"]] == [
        ("lab", 4, 40),
        ("clinic", 3, 40),
    ]
    assert found["sources"][0]["registry"]["licence"]["name"] == "x"
    assert str(folder) not in json.dumps(found)


def test_a_version_is_found_by_the_assembly_it_was_published_from(folder: Path) -> None:
    config = build_of(folder, "lab")
    store = config.store_folder
    assert published_as(config, "a" * 64) is None
    versions = {}
    for seed, told in enumerate(("a" * 64, "b" * 64)):
        staging = create_staging(store, 2, TAG, 16)
        receipt = write_shard(staging, 0, random_rows(2, seed), TAG.digest)
        rows = [
            {"scan_id": f"s:{i}", "source": "s", "subject": str(i), "identity": f"s:{i}"}
            | {"split": "train", "expression": "", "neutral": True, "verdict": "accept"}
            for i in range(2)
        ]
        facts = {"assembly": told, "row_order": ("by identity", "in place")[seed]}
        versions[told] = publish(store, staging, [receipt], rows, provenance=facts)
        assert published_as(config, told) == versions[told]
        in_order = versions[told] if seed == 0 else None
        assert published_as(build_of(folder, "lab", sort_rows=True), told) == in_order
    assert published_as(config, "a" * 64) is None
    assert published_as(config, "c" * 64) is None
    (versions[told] / "provenance.json").write_text("{cut")
    with pytest.raises(StoreError, match=r"provenance\.json"):
        published_as(config, told)


A_REGISTRATION = Registration(
    scan_id="lab:p1",
    model_digest="a" * 64,
    vertices_mm=np.zeros((4, 3)),
    neutral_mm=np.zeros((4, 3)),
    shape=np.zeros(N_SHAPE),
    expression=np.zeros(N_EXPRESSION),
    pose=np.zeros(N_POSE),
    translation_mm=np.zeros(3),
    distance_mm=np.zeros(4),
    weight=np.ones(4),
    offset_mm=np.zeros((4, 3)),
    validity=np.ones(4, dtype=bool),
    expected_error_mm=np.ones(4),
    iterations=1,
    status="converged",
)


def save_arrays(work: Path, key: str, arrays: dict[str, Any]) -> None:
    save_result(result_path(work, key), arrays, A_REGISTRATION)


def test_the_arrays_of_a_shard_are_in_the_order_of_its_keys(tmp_path: Path) -> None:
    keys = ["aa", "bb", "cc"]
    rows = random_rows(3)
    for i, key in enumerate(keys):
        row = {name: values[i] for name, values in rows.items()}
        save_arrays(tmp_path, key, row)
    found = shard_arrays(tmp_path, ["cc", "aa"])
    assert set(found) == set(rows)
    for name, values in rows.items():
        np.testing.assert_array_equal(found[name], values[[2, 0]])
        assert found[name].dtype == values.dtype
    points = random_points(3)
    for i, key in enumerate(keys):
        extra = {name: values[i] for name, values in points.items()}
        save_arrays(tmp_path, key, {name: v[i] for name, v in rows.items()} | extra)
    assert set(shard_arrays(tmp_path, ["aa"])) == set(rows)
    found = shard_arrays(tmp_path, ["cc", "aa", "bb"], points_per_scan=20)
    for name, values in points.items():
        for got, i in zip(found[name], (2, 0, 1), strict=True):
            np.testing.assert_array_equal(got, values[i][:20])
    with pytest.raises(FileNotFoundError, match=r"dd\.arrays"):
        shard_arrays(tmp_path, ["aa", "dd"])
