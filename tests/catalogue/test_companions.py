"""Files that belong to scans by number: counted from elsewhere, or the next that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.catalogue import Catalogue, catalogue
from pipeline.errors import FormatError, RegistryError
from pipeline.refusals import Code
from pipeline.registry import load_registry
from pipeline.registry.naming import any_path, fill, path_template, placeholders
from tests.small_build import write_registry

SCANS = {"include": ["**/*.obj"], "name": r"(?:.*/)?(?P<subject>s\d)/(?P<frame>\w+)\.obj"}


def deliver(tmp_path: Path, *files: str, **changes: Any) -> Catalogue:
    told = {"landmarks": "none", "neutral": [], "scans": SCANS, **changes}
    if "expression" not in told["scans"]["name"]:
        told["neutral"] = "all"
    write_registry(tmp_path, "lab", **told)
    for name in files:
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(name)
    return catalogue(load_registry(tmp_path / "lab.yaml"), tmp_path / "root")


def images(found: Catalogue) -> dict[str, list[str]]:
    return {r.path.stem: [path.name for path in r.image_paths] for r in found.records}


@pytest.mark.parametrize(
    ("template", "number", "path"),
    [
        ("{dir}/{frame+1}.txt", "0009", "a/0010.txt"),  # as wide as the scan's own
        ("{dir}/{frame+1:05d}.txt", "0009", "a/00010.txt"),
        ("{dir}/{frame-1:d}.txt", "0009", "a/8.txt"),
        ("{frame+10}_{frame}.txt", "99", "109_99.txt"),
    ],
)
def test_a_number_may_be_counted_from_elsewhere(template: str, number: str, path: str) -> None:
    assert fill(template, "a/x.obj", {"frame": number}) == path
    assert placeholders(template) <= {"dir", "frame"}
    assert any_path(template).fullmatch(path)


@pytest.mark.parametrize(
    "template",
    [
        "{frame:04d}.txt",  # a form for a text
        "{frame+next:04d}.txt",
        "{frame+1:x}.txt",
        "{frame+1:{frame}}.txt",
        "{frame*2}.txt",
        "{frame+}.txt",
        "{frame+1.5}.txt",
        "{frame-next}.txt",
        "{frame!r}.txt",
        "{}.txt",
        "{frame.real}.txt",
    ],
)
def test_other_arithmetic_is_refused(template: str) -> None:
    with pytest.raises(ValueError):
        path_template(template)


def test_a_word_has_no_next_number(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="frame is 'first' in its name") as caught:
        fill("{frame+1}.txt", "s1/first.obj", {"frame": "first"})
    assert caught.value.code is Code.COMPANION
    landmarks = {"file": "{dir}/{frame+1}.pp", "format": "pp", "scheme": "fg7"}
    found = deliver(tmp_path, "s1/first.obj", "s1/03.obj", "s1/04.pp", landmarks=landmarks)
    assert [r.landmark_path and r.landmark_path.name for r in found.records] == ["04.pp"]
    assert ["frame is 'first'" in row.reason for row in found.quarantined] == [True]


def test_landmarks_are_those_of_the_number_and_never_of_the_rank(tmp_path: Path) -> None:
    landmarks = {"file": "lmk/{subject}_{frame+1:04d}.pp", "format": "pp", "scheme": "fg7"}
    files = ("s1/0000.obj", "s1/0002.obj", "s1/0003.obj", "lmk/s1_0001.pp", "lmk/s1_0004.pp")
    found = deliver(tmp_path, *files, landmarks=landmarks)
    told = {r.frame: r.landmark_path and r.landmark_path.name for r in found.records}
    assert told == {0: "s1_0001.pp", 2: None, 3: "s1_0004.pp"}


def test_the_next_photo_is_that_of_the_last_scan_before_it(tmp_path: Path) -> None:
    files = [f"{subject}/{n}.obj" for subject in ("s1", "s2") for n in ("07", "10", "12")]
    files += ["s1/8.JPG", "s1/9.jpg", "s1/13.jpg", "s1/13b.jpg", "s2/11.jpg", "s2/05.jpg"]
    found = deliver(tmp_path, *files, images=["{dir}/{frame+next}.jpg"])
    told = {f"{r.subject}/{r.path.stem}": [p.name for p in r.image_paths] for r in found.records}
    assert told == {
        "s1/07": ["8.JPG"],
        "s1/10": [],  # 13 is the next of 12 as well
        "s1/12": ["13.jpg"],
        "s2/07": [],  # 11 is the next of 10 as well
        "s2/10": ["11.jpg"],
        "s2/12": [],
    }
    assert "s1/13b.jpg" in found.companions


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"landmarks": {"file": "{frame+next}.pp", "format": "pp", "scheme": "fg7"}},
         "landmarks.file"),
        ({"images": ["{frame+next}/a.jpg"]}, "images.0"),
        ({"images": ["{frame+next}_*.jpg"]}, "images.0"),
        ({"images": ["{frame+next}_{frame+next}.jpg"]}, "images.0"),
        ({"metric": False, "scale": {"file": "a.json", "key": "{frame+next}"}}, "scale.key"),
    ],
)  # fmt: skip
def test_the_next_number_is_looked_for_in_names_of_images_alone(
    tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(RegistryError, match=rf"{field}: got .*once in the name of an image"):
        deliver(tmp_path, **changes)


def test_keys_of_tables_may_hold_stems_and_shifted_numbers(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "f.json").write_text('{"s1/03": {"04": 2.5}}')
    scale = {"file": "f.json", "key": "{stem}/{frame+1}"}
    found = deliver(tmp_path, "s1/03.obj", metric=False, scale=scale)
    assert "holds nothing at 03/04" in found.quarantined[0].reason
    (tmp_path / "root" / "f.json").write_text('{"03": {"04": 2.5}}')
    found = deliver(tmp_path, metric=False, scale=scale)
    assert [record.scale for record in found.records] == [2.5]
