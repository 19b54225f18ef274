"""Every file under a source's root is in exactly one class, in an order that repeats."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.catalogue import Catalogue, catalogue
from pipeline.errors import FacefoldError, RegistryError
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
    assert found.n_bytes == sum(map(len, FILES.values()))
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


def test_a_landmark_file_that_comes_later_is_hashed(tmp_path: Path) -> None:
    landmarks = {"file": "lmk/{sex}/{stem}.lnd", "format": "lnd", "scheme": "fg7", "required": True}
    source, root = registry(tmp_path, landmarks=landmarks), deliver(tmp_path / "root")
    cache = tmp_path / "hashes.sqlite"
    before = hashes(catalogue(source, root, hash_cache=cache))
    assert before == hashes(catalogue(source, root, hash_cache=cache))
    assert before["lab:scans/M02_n"] == twice_hashed(b"scan 3 again")
    (root / "lmk/M/M02_n.lnd").write_bytes(b"marks")
    after = hashes(catalogue(source, root, hash_cache=cache))
    assert after == before | {"lab:scans/M02_n": twice_hashed(b"scan 3 again", b"marks")}


def twice_hashed(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(c).digest() for c in contents)).hexdigest()


def test_the_hash_follows_the_scan_and_its_landmarks(tmp_path: Path) -> None:
    source, root = registry(tmp_path), deliver(tmp_path / "root")

    before = hashes(catalogue(source, root))
    assert len(set(before.values())) == len(before) and all(map(len, before.values()))
    (root / "scans/F01_n.mtl").write_bytes(b"newmtl")
    assert hashes(catalogue(source, root)) == before
    (root / "lmk/F/f01_N.lnd").write_bytes(b"moved")
    (root / "scans/M02_n.OBJ").write_bytes(b"changed")
    changed = {
        name for name, value in hashes(catalogue(source, root)).items() if value != before[name]
    }
    assert changed == {"lab:scans/F01_n", "lab:scans/M02_n"}
    unopened = catalogue(source, root, hashes=False)
    assert {record.content_hash for record in unopened.records} == {""}


def hashes(found: Catalogue) -> dict[str, str]:
    return {record.scan_id: record.content_hash for record in found.records}


@pytest.mark.parametrize(
    ("format", "part", "other"),
    [("bs", "shape_0.obj", "shape_1.obj"), ("gltf", "a.bin", "b.bin"), ("gltf", "mesh.bin", "")],
)
def test_hashes_follow_files_that_hold_some_of_the_geometry(
    tmp_path: Path, format: str, part: str, other: str
) -> None:
    """The faces of FaceWarehouse's shapes, the buffers of glTF."""
    scans = {
        "include": [f"**/*.{format}"],
        "name": rf"(?P<subject>\w+)/(?P<expression>a|b)\.{format}",
        "companions": ["**/*.bin", "**/*.obj"],
    }
    source = registry(
        tmp_path, format=format, scans=scans, landmarks="none", images=[], subjects={}
    )
    root, before = tmp_path / "root", {}
    for name in (f"F01/a.{format}", f"M02/a.{format}", *(f"F01/{n}" for n in (part, other) if n)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    before = hashes(catalogue(source, root))
    assert len(before) == 2
    if other:
        (root / "F01" / other).write_bytes(b"of another scan")
        assert hashes(catalogue(source, root)) == before
    (root / "F01" / part).write_bytes(b"exported again")
    after = hashes(catalogue(source, root))
    assert {name for name in before if after[name] != before[name]} == {"lab:F01/a"}


def rewrite(path: Path, content: bytes, seconds: int) -> None:
    """New content with a time of change that many seconds after the old one."""
    before = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(0, before + seconds * 10**9))


def test_hashes_are_kept_until_size_or_time_change(tmp_path: Path) -> None:
    source, root = registry(tmp_path), deliver(tmp_path / "root")
    cache = tmp_path / "work" / "hashes.sqlite"
    before = catalogue(source, root, hash_cache=cache)
    assert before == catalogue(source, root)
    rewrite(root / "scans/F01_n.obj", b"SCAN 1", seconds=0)
    assert hashes(catalogue(source, root, hash_cache=cache)) == hashes(before), "a file was opened"
    rewrite(root / "scans/M02_n.OBJ", b"SCAN 3 AGAIN", seconds=1)
    rewrite(root / "lmk/F/f01_N.lnd", b"landmarks", seconds=0)
    rewrite(root / "scans/F01_n_left.jpg", b"another photo", seconds=0)
    after = catalogue(source, root, hash_cache=cache)
    changed = {name for name, value in hashes(after).items() if value != hashes(before)[name]}
    assert changed == {"lab:scans/F01_n", "lab:scans/M02_n"}
    photo = root / "scans/F01_n_left.jpg"
    assert after.images[photo].bytes == 13 and after.images[photo] != before.images[photo]
    (root / "scans/F01_n.obj").unlink()
    assert "lab:scans/F01_n" not in hashes(catalogue(source, root, hash_cache=cache))


def test_one_cache_serves_several_sources(tmp_path: Path) -> None:
    source, cache = registry(tmp_path), tmp_path / "hashes.sqlite"
    here, there = deliver(tmp_path / "here"), deliver(tmp_path / "there")
    rewrite(there / "scans/F01_n.obj", b"SCAN 1", seconds=0)
    time = (here / "scans/F01_n.obj").stat().st_mtime_ns
    os.utime(there / "scans/F01_n.obj", ns=(0, time))
    found = [hashes(catalogue(source, root, hash_cache=cache)) for root in (here, there)]
    assert found[0]["lab:scans/F01_n"] != found[1]["lab:scans/F01_n"]


def test_a_foreign_file_in_the_place_of_the_cache_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "hashes.sqlite").write_text("not a database, but long enough to look at" * 9)
    with pytest.raises(FacefoldError, match=r"hashes\.sqlite: no usable cache .* delete it"):
        catalogue(
            registry(tmp_path), deliver(tmp_path / "root"), hash_cache=tmp_path / "hashes.sqlite"
        )


def test_images_are_referenced(found: Catalogue) -> None:
    [left, _] = next(r for r in found.records if r.scan_id == "lab:scans/F01_n").image_paths
    photo = found.images[left]
    assert photo.path == "scans/F01_n_left.jpg" and photo.bytes == 5
    assert photo.sha256 == hashlib.sha256(b"photo").hexdigest()


def test_two_runs_agree(tmp_path: Path, found: Catalogue) -> None:
    assert catalogue(registry(tmp_path), found.root) == found


def reasons(found: Catalogue) -> dict[str, str]:
    return {
        Path(row.path).relative_to(found.root).as_posix(): row.reason for row in found.quarantined
    }


def test_links_are_followed_below_the_root_only(tmp_path: Path) -> None:
    root = deliver(tmp_path / "root")
    outside = deliver(tmp_path / "outside")
    (root / "again").symlink_to(root / "scans", target_is_directory=True)
    (root / "scans/up").symlink_to(root, target_is_directory=True)
    (root / "scans/F05_n.obj").symlink_to(root / "scans/F01_n.obj")
    (root / "scans/F09_n.obj").symlink_to(tmp_path / "gone.obj")
    (root / "scans/F08_n.obj").symlink_to(root / "scans/F08_n.obj")
    (root / "scans/F07_n.obj").symlink_to(outside / "scans/F01_n.obj")
    (root / "scans/more").symlink_to(outside / "scans", target_is_directory=True)
    (root / "torn/M05_n.obj").symlink_to(outside / "scans/F01_n.obj")
    found = catalogue(registry(tmp_path), root)
    assert found.n_files == len(FILES) + 6
    assert "lab:scans/F05_n" in hashes(found)
    assert dict(found.excluded)["torn/M05_n.obj"] == "torn meshes"
    why = reasons(found)
    assert "cannot be opened: No such file" in why["scans/F09_n.obj"]
    assert "cannot be opened: Too many levels" in why["scans/F08_n.obj"]
    assert "a link out of the source's root, to" in why["scans/F07_n.obj"]
    assert "a link out of the source's root, to" in why["scans/more"]
    assert not any("outside" in str(record.path) for record in found.records)


def test_a_root_that_is_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(deliver(tmp_path / "root"), target_is_directory=True)
    found = catalogue(registry(tmp_path), tmp_path / "link")
    assert found.n_files == len(FILES)
    assert found.records[0].path == tmp_path / "link/scans/F01_n.obj"


def test_landmarks_behind_a_link_out_of_the_root_are_not_read(tmp_path: Path) -> None:
    landmarks = {"file": "lmk/{sex}/{stem}.lnd", "format": "lnd", "scheme": "fg7"}
    root = deliver(tmp_path / "root")
    (root / "lmk/F/f01_N.lnd").unlink()
    (root / "lmk/F/f01_N.lnd").symlink_to(deliver(tmp_path / "outside") / "lmk/F/f01_N.lnd")
    kept = catalogue(registry(tmp_path, landmarks=landmarks), root)
    assert kept.records[0].scan_id == "lab:scans/F01_n" and kept.records[0].landmark_path is None
    found = catalogue(registry(tmp_path, landmarks=landmarks | {"required": True}), root)
    assert "lab:scans/F01_n" not in hashes(found)
    assert "its landmark file lmk/F/F01_n.lnd: a link out" in reasons(found)["scans/F01_n.obj"]


def test_what_is_no_file_or_has_no_text_for_a_name_is_quarantined(tmp_path: Path) -> None:
    root = deliver(tmp_path / "root")
    os.mkfifo(root / "scans/F06_n.obj")
    (Path(os.fsdecode(bytes(root) + b"/scans/F\xff_n.obj"))).write_bytes(b"scan")
    found = catalogue(registry(tmp_path), root)
    assert found.n_files == len(FILES) + 2
    assert reasons(found)["scans/F06_n.obj"] == "neither a file nor a folder: remove it"
    assert reasons(found)["scans/F\\xff_n.obj"] == "its name is not UTF-8: rename it"
    for row in found.quarantined:
        assert (row.path + row.scan_id).encode()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_and_folders_are_quarantined(tmp_path: Path) -> None:
    root = deliver(tmp_path / "root")
    closed = [root / "scans/F01_n.obj", root / "scans/M02_n_left.jpg", root / "lmk/M"]
    for path in closed:
        path.chmod(0)
    found = catalogue(registry(tmp_path), root)
    for path in closed:
        path.chmod(0o700)
    assert found.n_files == len(FILES)
    why = reasons(found)
    assert "cannot be opened: Permission denied" in why["scans/F01_n.obj"]
    assert "cannot be opened: Permission denied" in why["scans/M02_n_left.jpg"]
    assert "cannot be listed: Permission denied" in why["lmk/M"]
    assert "scans/M02_n_left.jpg" not in found.companions


@pytest.mark.parametrize("file", ["/etc/{stem}.lnd", "{dir}/../{stem}.lnd", "..\\{stem}.lnd"])
def test_templates_stay_below_the_root(tmp_path: Path, file: str) -> None:
    expected = "expected a path relative to the root"
    with pytest.raises(RegistryError, match=rf"landmarks\.file: got .*{expected}"):
        registry(tmp_path, landmarks={"file": file, "format": "lnd", "scheme": "fg7"})
    with pytest.raises(RegistryError, match=rf"images\.0: got .*{expected}"):
        registry(tmp_path, images=[file])


def test_a_missing_root_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FacefoldError, match="nowhere: got no such folder, expected the root of"):
        catalogue(registry(tmp_path), tmp_path / "nowhere")


def test_an_empty_root_is_an_empty_catalogue(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    found = catalogue(registry(tmp_path), tmp_path / "root")
    assert found.n_files == 0 and os.fspath(found.root).endswith("root")
