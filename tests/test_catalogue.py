"""Every file under a source's root is in exactly one class, in an order that repeats."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.catalogue import Catalogue, catalogue
from pipeline.errors import FacefoldError
from pipeline.registry import SourceRegistry, load_registry

FILES = {
    "scans/F01_n.obj": b"scan 1",
    "scans/f01_SMILE.OBJ": b"scan 2",
    "scans/M02_n.obj": b"scan 3",
    "scans/M02_n.OBJ": b"scan 3 again",
    "scans/notes_of_monday.obj": b"not a name",
    "scans/F01_n.mtl": b"",
    "scans/F01_n_left.jpg": b"photo",
    "scans/F01_n_right.jpg": b"photo",
    "scans/M02_n_left.jpg": b"photo",
    "scans/[x]_n.obj": b"odd name",
    "scans/[x]_n_left.jpg": b"photo",
    "lmk/F/f01_N.lnd": b"landmarks 1",
    "lmk/M/lost.lnd": b"of no scan",
    "torn/M03_n.obj": b"",
    "torn/deep/M04_n.obj": b"",
    "readme.pdf": b"?",
    "scans/.DS_Store": b"",
}


def registry(tmp_path: Path, **changes: Any) -> SourceRegistry:
    data = {
        "id": "lab",
        "title": "Lab",
        "version": "1",
        "verified": True,
        "licence": {"name": "x", "url": "x", "redistribution": True, "commercial": True},
        "citation": "x",
        "access": "x",
        "metric": True,
        "scans": {
            "include": ["**/*.obj"],
            "name": r"(?i)scans/(?P<subject>(?P<sex>[fm])\d\d|\[x\])_(?P<expression>n|smile)\.obj",
            "exclude": [{"pattern": "torn/**", "reason": "torn meshes"}],
            "companions": ["**/*.mtl"],
        },
        "format": "obj",
        "unit": "mm",
        "axes": {"up": "+y", "forward": "+z"},
        "landmarks": {"file": "lmk/{sex}/{stem}.lnd", "format": "lnd", "scheme": "fg7"},
        "images": ["{dir}/{subject}_{expression}_*.jpg"],
        "subjects": {"case": "upper", "metadata": {"sex": {"F": "female"}}},
        "neutral": ["N"],
    }
    file = tmp_path / "lab.yaml"
    file.write_text(yaml.safe_dump(data | changes))
    return load_registry(file)


def deliver(root: Path) -> Path:
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture
def found(tmp_path: Path) -> Catalogue:
    return catalogue(registry(tmp_path), deliver(tmp_path / "root"))


def classes(found: Catalogue) -> dict[str, list[str]]:
    def relative(path: Path | str) -> str:
        return Path(path).relative_to(found.root).as_posix()

    return {
        "records": [relative(record.path) for record in found.records],
        "excluded": [path for path, _ in found.excluded],
        "quarantined": [relative(row.path) for row in found.quarantined],
        "companions": list(found.companions),
    }


def test_every_file_is_in_exactly_one_class(found: Catalogue) -> None:
    everywhere = [path for paths in classes(found).values() for path in paths]
    assert sorted(everywhere) == sorted(FILES)
    assert found.n_files == len(FILES)
    assert classes(found)["companions"] == sorted(
        path for path in FILES if path.endswith((".mtl", ".jpg", ".lnd"))
    )


def test_excluded_files_carry_their_reason(found: Catalogue) -> None:
    assert dict(found.excluded) == {
        "scans/.DS_Store": "written by the operating system",
        "torn/M03_n.obj": "torn meshes",
        "torn/deep/M04_n.obj": "torn meshes",
    }


def test_what_does_not_fit_is_quarantined_with_a_reason(found: Catalogue) -> None:
    rows = {Path(row.path).relative_to(found.root).as_posix(): row for row in found.quarantined}
    assert set(rows) == {"readme.pdf", "scans/notes_of_monday.obj", "scans/M02_n.obj"}
    assert all((row.source, row.stage) == ("lab", "catalogue") for row in rows.values())
    assert "no rule explains this file" in rows["readme.pdf"].reason
    assert "does not fit scans.name" in rows["scans/notes_of_monday.obj"].reason
    assert "scan id lab:scans/M02_n is already that of" in rows["scans/M02_n.obj"].reason
    assert len({row.scan_id for row in found.quarantined}) == 3


def test_records_say_what_names_tell(found: Catalogue) -> None:
    scans = {record.scan_id: record for record in found.records}
    assert list(scans) == [
        *("lab:scans/F01_n", "lab:scans/M02_n", "lab:scans/[x]_n", "lab:scans/f01_SMILE"),
    ]
    neutral = scans["lab:scans/F01_n"]
    assert (neutral.subject, neutral.expression, neutral.neutral) == ("F01", "N", True)
    assert neutral.landmark_path == found.root / "lmk/F/f01_N.lnd"
    assert [path.name for path in neutral.image_paths] == ["F01_n_left.jpg", "F01_n_right.jpg"]
    smile = scans["lab:scans/f01_SMILE"]
    assert (smile.subject, smile.expression, smile.neutral) == ("F01", "SMILE", False)
    assert smile.landmark_path is None and smile.image_paths == ()
    assert [path.name for path in scans["lab:scans/[x]_n"].image_paths] == ["[x]_n_left.jpg"]
    assert found.subjects == {"F01": {"sex": "female"}, "M02": {"sex": "M"}, "[X]": {"sex": ""}}


def test_a_required_landmark_file_keeps_its_place(tmp_path: Path) -> None:
    landmarks = {"file": "lmk/{sex}/{stem}.lnd", "format": "lnd", "scheme": "fg7", "required": True}
    found = catalogue(registry(tmp_path, landmarks=landmarks), deliver(tmp_path / "root"))
    missing = next(record for record in found.records if record.subject == "M02")
    assert missing.landmark_path == found.root / "lmk/M/M02_n.lnd"
    assert not missing.landmark_path.exists()


def test_the_hash_follows_the_scan_and_its_landmarks(tmp_path: Path) -> None:
    source, root = registry(tmp_path), deliver(tmp_path / "root")

    def hashes() -> dict[str, str]:
        return {record.scan_id: record.content_hash for record in catalogue(source, root).records}

    before = hashes()
    assert len(set(before.values())) == len(before) and all(map(len, before.values()))
    (root / "scans/F01_n.mtl").write_bytes(b"newmtl")
    assert hashes() == before
    (root / "lmk/F/f01_N.lnd").write_bytes(b"moved")
    (root / "scans/M02_n.OBJ").write_bytes(b"changed")
    changed = {name for name, value in hashes().items() if value != before[name]}
    assert changed == {"lab:scans/F01_n", "lab:scans/M02_n"}
    unopened = catalogue(source, root, hashes=False)
    assert {record.content_hash for record in unopened.records} == {""}


def test_two_runs_agree(tmp_path: Path, found: Catalogue) -> None:
    assert catalogue(registry(tmp_path), found.root) == found


def test_links_are_followed_once_and_broken_ones_are_quarantined(tmp_path: Path) -> None:
    root = deliver(tmp_path / "root")
    (root / "scans/again").symlink_to(root / "scans", target_is_directory=True)
    (root / "scans/F09_n.obj").symlink_to(tmp_path / "gone.obj")
    found = catalogue(registry(tmp_path), root)
    assert found.n_files == len(FILES) + 1
    [row] = [row for row in found.quarantined if row.path.endswith("F09_n.obj")]
    assert "cannot be opened: No such file" in row.reason


def test_a_missing_root_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FacefoldError, match="nowhere: got no such folder, expected the root of"):
        catalogue(registry(tmp_path), tmp_path / "nowhere")


def test_an_empty_root_is_an_empty_catalogue(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    found = catalogue(registry(tmp_path), tmp_path / "root")
    assert found.n_files == 0 and os.fspath(found.root).endswith("root")
