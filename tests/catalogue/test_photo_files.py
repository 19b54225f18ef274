"""Photos of scans, and what says where their cameras stood: found, hashed, and missed by name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.terminal.dry_run import photos as in_words
from pipeline.build.dry_run import dry_run
from pipeline.build.plan import make_plan
from pipeline.catalogue import Catalogue, catalogue
from pipeline.flame.stand_in import stand_in
from pipeline.registry import load_registry
from pipeline.sources.check import check_folder
from pipeline.types import PhotoFile, ScanRecord, Withdrawal
from tests.small_build import build_of, write_heads, write_registry

SCANS = {"include": ["**/*.obj"], "name": r"(?:.*/)?(?P<subject>[a-z]+\d?)/(?P<frame>\d+)\.obj"}
MARKED: dict[str, Any] = {
    "file": "{dir}/{stem}_?.jpg",
    "camera": "landmarks",
    "landmarks": {"file": "{dir}/2d/{photo}.pts", "format": "pts", "scheme": "ibug68"},
}
RIG = {"file": "rig.npz", "format": "cameras.npz", "camera": "{photo}"}
CALIBRATED: dict[str, Any] = {
    "file": "{dir}/{stem}/*.png",
    "camera": "calibration",
    "calibration": RIG,
}


def deliver(
    tmp_path: Path,
    files: Sequence[str],
    photos: Sequence[dict[str, Any]],
    withdrawn: Sequence[Withdrawal] = (),
    **changes: Any,
) -> Catalogue:
    told = {"landmarks": "none", "neutral": "all", "scans": SCANS, **changes}
    write_registry(tmp_path, "lab", views={"photos": list(photos)}, **told)
    for name in files:
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(name)
    registry = load_registry(tmp_path / "lab.yaml")
    return catalogue(registry, tmp_path / "root", withdrawn=withdrawn)


def of(found: Catalogue, scan: str) -> ScanRecord:
    return next(record for record in found.records if record.scan_id == f"lab:{scan}")


def digest(*files: str) -> str:
    """Over files whose contents are their names."""
    each = (hashlib.sha256(file.encode()).digest() for file in files)
    return hashlib.sha256(b"".join(each)).hexdigest()


def test_photos_with_landmarks(tmp_path: Path) -> None:
    files = ["s1/01.obj", "s1/01_L.JPG", "s1/01_r.jpg", "s1/2d/01_L.pts", "s1/02.obj"]
    found = deliver(tmp_path, files, [MARKED])
    root = found.root
    left, right = of(found, "s1/01").photos
    assert left == PhotoFile(
        path=root / "s1/01_L.JPG",
        camera="landmarks",
        landmark_path=root / "s1/2d/01_L.pts",
        landmark_format="pts",
        landmark_scheme="ibug68",
        digest=digest("s1/01_L.JPG", "s1/2d/01_L.pts"),
    )
    # what is not there keeps its place, so that the view says why there is none
    assert right.landmark_path == root / "s1/2d/01_r.pts" and right.digest == digest("s1/01_r.jpg")
    assert of(found, "s1/02").photos == ()
    assert found.missing == {"lab:s1/01": ("s1/2d/01_r.pts",), "lab:s1/02": ("s1/02_?.jpg",)}
    assert {*found.companions} == {*files} - {"s1/01.obj", "s1/02.obj"}
    assert not found.quarantined and not found.images
    assert found.photos == {
        "scans": 1,
        "files": 2,
        "scans_lacking": 2,
        "missing": ["s1/2d/01_r.pts", "s1/02_?.jpg"],
    }


def test_a_file_beside_a_photo_has_what_the_wildcards_stand_for(tmp_path: Path) -> None:
    rig = {"file": "rigs/{subject}/{rest}_C.tka", "format": "tka"}
    photos = [
        {"file": "{dir}/" + name, "camera": "calibration", "calibration": {**rig}}
        for name in ("{stem}.*_c.png", "x[12]_?.JPG", "{frame+next}.png")
    ]
    files = ["s1/01.obj", "s1/01.26_C.png", "s1/X2_7.jpg", "s1/009.png", "s1/x3_1.jpg"]
    calibrations = ["rigs/s1/26_C.tka", "rigs/s1/2_7_C.tka", "rigs/s1/009_C.tka"]
    found = deliver(tmp_path, [*files, *calibrations], photos, scans=SCANS | {"companions": ["**"]})
    told = {p.path.name: p.calibration_path for p in of(found, "s1/01").photos}
    assert told == {
        "01.26_C.png": found.root / "rigs/s1/26_C.tka",
        "X2_7.jpg": found.root / "rigs/s1/2_7_C.tka",
        "009.png": found.root / "rigs/s1/009_C.tka",
    }
    assert not found.missing


def test_cameras_of_one_file_go_by_number(tmp_path: Path) -> None:
    files = ["s1/01.obj", "s1/01/cam2_007.png", "s1/01/front.png", "rig.npz"]
    found = deliver(tmp_path, files, [CALIBRATED])
    seventh, front = of(found, "s1/01").photos
    assert (seventh.calibration_format, seventh.calibration_camera) == ("cameras.npz", 7)
    assert seventh.calibration_path == found.root / "rig.npz"
    assert seventh.digest == digest("s1/01/cam2_007.png", "rig.npz")
    assert front.calibration_camera is None and not found.missing


def test_other_names_of_a_photo_are_looked_for_in_order(tmp_path: Path) -> None:
    photo = {
        "file": "{dir}/{frame+next}.png",
        "else_file": ["{dir}/{frame+next}.jpg"],
        "camera": "grid",
    }
    files = ["s1/01.obj", "s1/02.png", "s1/02.jpg", "s1/05.obj", "s1/07.obj", "s1/08.jpg"]
    found = deliver(tmp_path, files, [photo], format="abs", scans=SCANS)
    told = {r.path.stem: [p.path.name for p in r.photos] for r in found.records}
    # 08 is the photo of 07, and of no earlier scan
    assert told == {"01": ["02.png"], "05": [], "07": ["08.jpg"]}
    assert found.missing == {"lab:s1/05": ("s1/08.jpg",)}


def test_digests_follow_the_bytes_and_content_hashes_do_not(tmp_path: Path) -> None:
    files = ["s1/01.obj", "s1/01_l.jpg", "s1/2d/01_l.pts"]
    before = of(deliver(tmp_path, files, [MARKED]), "s1/01")
    for changed in files[1:]:
        (tmp_path / "root" / changed).write_text("other")
        registry = load_registry(tmp_path / "lab.yaml")
        after = of(catalogue(registry, tmp_path / "root"), "s1/01")
        assert after.photos[0].digest != before.photos[0].digest
        assert after.content_hash == before.content_hash
        (tmp_path / "root" / changed).write_text(changed)
    plain = catalogue(registry, tmp_path / "root", hashes=False)
    assert of(plain, "s1/01").photos[0]._replace(digest=digest(*files[1:])) == before.photos[0]


def test_a_rule_has_photos_of_its_own(tmp_path: Path) -> None:
    rule = {"where": {"subject": "s2"}, "reason": "x", "views": {"photos": [CALIBRATED]}}
    files = [f"{s}/{name}" for s in ("s1", "s2") for name in ("01.obj", "01/3.png", "01_l.jpg")]
    found = deliver(tmp_path, [*files, "rig.npz"], [MARKED], rules=[rule])
    told = {r.subject: [p.path.name for p in r.photos] for r in found.records}
    assert told == {"s1": ["01_l.jpg"], "s2": ["3.png"]}
    assert not found.quarantined


def test_a_photo_that_cannot_be_opened_is_quarantined_alone(tmp_path: Path) -> None:
    (tmp_path / "root" / "s1").mkdir(parents=True)
    (tmp_path / "elsewhere.jpg").write_text("")
    (tmp_path / "root/s1/01_l.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    found = deliver(tmp_path, ["s1/01.obj", "s1/2d/01_l.pts"], [MARKED])
    assert of(found, "s1/01").photos == ()
    assert found.missing == {"lab:s1/01": ("s1/01_?.jpg",)}
    assert ["a link out of" in row.reason for row in found.quarantined] == [True]


def test_names_of_people_are_hidden(tmp_path: Path) -> None:
    files = ["anna/01.obj", "anna/01_l.jpg", "bert/01.obj"]
    found = deliver(tmp_path, files, [MARKED], subjects={"pseudonyms": True})
    said = repr((found.missing, found.photos))
    assert "anna" not in said and "bert" not in said and len(found.missing) == 2
    registry = load_registry(tmp_path / "lab.yaml")
    own = catalogue(registry, found.root, own_names_shown=True)
    assert {*own.photos["missing"]} == {"anna/2d/01_l.pts", "bert/01_?.jpg"}


def test_photos_of_people_who_withdrew_are_no_ones(tmp_path: Path) -> None:
    files = ["anna/01.obj", "anna/01_l.jpg", "bert/01.obj"]
    found = deliver(tmp_path, files, [MARKED])
    assert found.missing.keys() == {"lab:anna/01", "lab:bert/01"}
    none = Withdrawal("salt", "2026-01-01", *[frozenset[str]()] * 4)
    anna = replace(none, people=frozenset({none.mark("lab:anna")}))
    left = deliver(tmp_path, files, [MARKED], [anna])
    assert left.missing.keys() == {"lab:bert/01"} and left.photos["files"] == 0


@pytest.mark.parametrize("photos", [[], [MARKED]])
def test_checks_and_dry_runs_say_what_is_missing(tmp_path: Path, photos: list[Any]) -> None:
    names = ["p1_neutral.obj", "p2_neutral.obj"]
    photo = [{**one, "landmarks": {**MARKED["landmarks"], "file": "{photo}.pts"}} for one in photos]
    root = write_heads(tmp_path, "lab", names, views={"photos": photo})
    for name in ("p1_neutral_a.jpg", "p1_neutral_a.pts") if photos else ():
        (root / name).write_text(name)
    found = {"scans": 1, "files": 1, "scans_lacking": 1, "missing": ["p2_neutral_?.jpg"]}
    rows = dry_run(build_of(tmp_path, "lab"))["photos"]
    report = check_folder(load_registry(tmp_path / "lab.yaml"), root, samples=0)
    assert not report["faults"]
    if not photos:
        assert rows == [] and report["photos"]["files"] == 0
        return
    assert rows == [{"source": "lab", **found}] and report["photos"] == found
    assert in_words(found) == (
        "1 photos of 1 scans; 1 scans lack files of views, first p2_neutral_?.jpg"
    )
    plan = make_plan(build_of(tmp_path, "lab"), stand_in())
    assert [len(work.record.photos) for work in plan.works] == [1, 0]
