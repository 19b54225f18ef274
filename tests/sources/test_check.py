"""The check of a folder: what its report says, and what its contact sheet shows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import trimesh
import yaml
from PIL import Image

from pipeline.errors import FacefoldError
from pipeline.flame.stand_in import stand_in
from pipeline.pictures.sheets import BLUE, RED
from pipeline.registry import SourceRegistry, load_registry, new_registry
from pipeline.sources import check_folder
from pipeline.sources.check_sheet import SIZE, side_colours
from pipeline.types import Array

FG7 = [36, 39, 42, 45, 33, 48, 54]
TO_FILE = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], float)
"""The canonical frame to a file's with z up and the face along −y."""


def registry_of(folder: Path, **fields: object) -> SourceRegistry:
    data = yaml.safe_load(new_registry("lab").replace("FILL", "told"))
    data["scans"] = {"include": ["*.ply"], "name": r"(?P<subject>\w+)\.ply"}
    landmarks = {"file": "{stem}.npy", "format": "npy", "scheme": "fg7"}
    data |= {"format": "ply", "unit": "cm", "neutral": "all", "landmarks": landmarks}
    (folder / "lab.yaml").write_text(yaml.safe_dump(data | fields))
    return load_registry(folder / "lab.yaml")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Heads in centimetres, z up: with landmarks, with swapped ones, in metres, a point cloud,
    nothing but a ball, a file that is cut off, and a head with nose and eye corner exchanged."""
    folder = tmp_path / "root"
    folder.mkdir()
    model = stand_in()
    assert model.landmarks is not None
    marks = model.landmarks.positions(model.template_mm, model.faces)[FG7]
    vertices = model.template_mm @ TO_FILE.T / 10
    mesh = trimesh.Trimesh(vertices, model.faces, process=False)
    mesh.export(folder / "a_whole.ply")
    np.save(folder / "a_whole.npy", marks @ TO_FILE.T / 10)
    mesh.export(folder / "b_swapped.ply")
    np.save(folder / "b_swapped.npy", marks[[3, 2, 1, 0, 4, 6, 5]] @ TO_FILE.T / 10)
    trimesh.Trimesh(vertices / 100, model.faces, process=False).export(folder / "c_metres.ply")
    np.save(folder / "c_metres.npy", marks @ TO_FILE.T / 1000)
    trimesh.PointCloud(vertices).export(folder / "d_cloud.ply")
    trimesh.creation.icosphere(radius=11).export(folder / "e_ball.ply")
    mesh.export(folder / "g_order.ply")
    np.save(folder / "g_order.npy", marks[[0, 4, 2, 3, 1, 5, 6]] @ TO_FILE.T / 10)
    content = (folder / "a_whole.ply").read_bytes()
    (folder / "f_cut.ply").write_bytes(content[: len(content) // 2])
    return folder


def tiles(sheet: Path, columns: int = 4) -> list[Array]:
    """The pictures of a sheet, in order."""
    pixels = np.asarray(Image.open(sheet).convert("RGB")).astype(int)
    high = (pixels.shape[0] - 50) // (2 if pixels.shape[0] > 700 else 1)
    return [
        pixels[50 + row * high :, 8 + column * (SIZE + 8) :][:SIZE, :SIZE]
        for row in range((pixels.shape[0] - 50) // high)
        for column in range(columns)
    ]


def middle(picture: Array, colour: tuple[int, int, int]) -> float:
    """The mean column of a colour's pixels, NaN where there is none."""
    columns = np.nonzero((picture == colour).all(axis=2))[1]
    return float(columns.mean()) if len(columns) else np.nan


def test_a_sheet_shows_each_scan_with_its_faults(root: Path, tmp_path: Path) -> None:
    registry = registry_of(tmp_path, axes={"up": "+z", "forward": "-y"})
    report = check_folder(registry, root, tmp_path / "out" / "sheet.png", samples=7)
    assert report["sheet"] == str(tmp_path / "out" / "sheet.png")
    faults = {scan: seen["faults"] for scan, seen in report["samples"].items()}
    assert faults["lab:a_whole"] == faults["lab:d_cloud"] == []
    assert "swapped" in faults["lab:b_swapped"][0]
    assert "likely in m" in faults["lab:c_metres"][0]
    assert "no pose lays a face on it" in faults["lab:e_ball"][0]
    assert faults["lab:f_cut"][0].startswith("read: ")
    assert any("right eye" in fault for fault in faults["lab:g_order"])
    assert report["faults"] == [f"{scan}: {f}" for scan, some in faults.items() for f in some]
    whole, swapped, metres, cloud, ball, cut, *_ = tiles(tmp_path / "out" / "sheet.png")
    # the viewer sees the subject's right on the left
    assert middle(whole, RED) < SIZE / 2 < middle(whole, BLUE)
    assert middle(swapped, BLUE) < SIZE / 2 < middle(swapped, RED)
    assert middle(metres, RED) < SIZE / 2 < middle(metres, BLUE)
    assert np.isnan(middle(cloud, RED))
    for picture in (whole, swapped, metres, cloud, ball):
        shown = (picture < 250).any(axis=2)
        assert shown.mean() > 0.15, "a shaded head, or a ball"
        assert not shown[: SIZE // 40].any(), "all of it, with air around"
    assert len(np.unique(cut.reshape(-1, 3), axis=0)) == 1, "nothing to show"


def test_scans_of_unknown_axes_are_turned_to_the_viewer(root: Path, tmp_path: Path) -> None:
    known = registry_of(tmp_path, axes={"up": "+z", "forward": "-y"}, landmarks="none")
    unknown = registry_of(tmp_path, axes="unknown", landmarks="none")
    for name in ("b_swapped", "c_metres", "d_cloud", "e_ball", "f_cut", "g_order"):
        (root / f"{name}.ply").unlink()
    check_folder(known, root, tmp_path / "known.png")
    report = check_folder(unknown, root, tmp_path / "unknown.png")
    told = report["samples"]["lab:a_whole"]["axes"]
    assert told == "unknown is declared; by its shape the face is likely {up: +z, forward: -y}"
    (a, *_), (b, *_) = (tiles(tmp_path / f"{n}.png", columns=1) for n in ("known", "unknown"))
    same = (np.abs(a - b).sum(axis=2) < 60).mean()
    assert same > 0.85, "the same view but for a few degrees"


def test_wrong_axes_are_told_by_the_face_alone(root: Path, tmp_path: Path) -> None:
    wrong = registry_of(tmp_path, axes={"up": "+y", "forward": "+z"}, landmarks="none")
    report = check_folder(wrong, root, tmp_path / "wrong.png", samples=1)
    (fault,) = report["samples"]["lab:a_whole"]["faults"]
    assert "turned by 90°" in fault and "likely {up: +z, forward: -y}" in fault


@pytest.mark.slow
@pytest.mark.parametrize("factor", [0.6, 0.7])
def test_a_print_or_toy_is_told_by_its_size(root: Path, tmp_path: Path, factor: float) -> None:
    """As a build does, not only by an extent that faces have too; with the likely scale."""
    for path in root.iterdir():
        path.unlink()
    model = stand_in()
    vertices = factor * model.template_mm @ TO_FILE.T / 10
    trimesh.Trimesh(vertices, model.faces, process=False).export(root / "toy.ply")
    axes = {"up": "+z", "forward": "-y"}
    registry = registry_of(tmp_path, axes=axes, landmarks="none")
    (fault,) = check_folder(registry, root, samples=1)["samples"]["lab:toy"]["faults"]
    (times,) = re.findall(r"limits 80–105: (0\.\d+) times an average adult's", fault)
    assert float(times) == pytest.approx(factor, abs=0.1)
    assert "widen limits.outer_eye_mm" in fault and "`metric: false`" in fault
    limits = {"outer_eye_mm": [45, 105]}
    small = registry_of(tmp_path, axes=axes, landmarks="none", limits=limits)
    assert check_folder(small, root, samples=1)["faults"] == []


def test_a_sheet_of_nothing_and_to_nowhere(root: Path, tmp_path: Path) -> None:
    registry = registry_of(tmp_path)
    (tmp_path / "empty").mkdir()
    report = check_folder(registry, tmp_path / "empty", tmp_path / "empty.png")
    assert report["faults"] and Image.open(tmp_path / "empty.png").size[0] > 0
    with pytest.raises(FacefoldError, match=r"cannot be written .* name another file by --sheet"):
        check_folder(registry, root, root / "a_whole.ply" / "sheet.png", samples=1)


def test_sides_follow_the_names_of_the_scheme() -> None:
    colours = side_colours("ibug68")
    assert colours[36] == RED and colours[45] == BLUE and colours[30] not in (RED, BLUE)


def test_a_report_says_what_a_scan_shows(root: Path, tmp_path: Path) -> None:
    registry = registry_of(tmp_path, axes={"up": "+z", "forward": "-y"})
    report = check_folder(registry, root, samples=1)
    assert (report["files"], report["scans"], report["with_landmarks"]) == (11, 7, 4)
    assert report["companions"] == 4 and "sheet" not in report
    whole = report["samples"]["lab:a_whole"]
    model = stand_in()
    extents = np.ptp(model.template_mm, axis=0).round().astype(int).tolist()
    assert whole["extents_mm"] == extents
    assert whole["vertices"] == 5023  # the eyeballs lie on the head: they are no clutter
    assert whole["unit"].startswith("declared cm: outer eye corners ")
    assert whole["landmarks"].startswith("7 of 7, ")
    assert whole["axes"].startswith("by its landmarks the face is turned by ")
    unknown = registry_of(tmp_path, axes="unknown")
    told = check_folder(unknown, root, samples=1)["samples"]["lab:a_whole"]["axes"]
    assert told == "unknown is declared; the landmarks show about {up: +z, forward: -y}"


def test_what_fits_no_scan_of_the_folder_is_reported(tmp_path: Path) -> None:
    """A slip or a part that was not delivered: no fault, yet nothing to pass over in silence."""
    (tmp_path / "root").mkdir()
    trimesh.creation.icosphere(radius=10).export(tmp_path / "root" / "anna_rest.ply")
    scans = {"include": ["*.ply"], "name": r"(?P<subject>[a-z]+)_(?P<expression>[a-z]+)\.ply"}
    rule = {"where": {"subject": "ana"}, "unit": "mm", "reason": "its file is"}
    told = {"scans": scans, "neutral": ["neutral"], "rules": [rule], "landmarks": "none"}
    report = check_folder(registry_of(tmp_path, **told), tmp_path / "root", samples=0)
    assert report["unused"] == [
        "rules.0 (subject ana) fits no scan that no earlier rule fits",
        "neutral: no scan has the expression 'neutral'",
    ]
    assert report["faults"] == []


def test_a_check_of_a_wrong_folder(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.obj").write_text("")
    report = check_folder(registry_of(tmp_path, axes="unknown"), tmp_path / "other")
    assert report["scans"] == 0 and report["samples"] == {}
    assert report["faults"][0].startswith("no scan below")
    assert "no rule explains" in report["faults"][1]


def test_the_guide_for_a_new_source_is_true(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs/how_to/add_a_source.md").read_text()
    text = guide.split("```yaml\n", 1)[1].split("```", 1)[0]
    (tmp_path / "lab.yaml").write_text(text)
    registry, root = load_registry(tmp_path / "lab.yaml"), tmp_path / "root"
    model = stand_in()
    assert registry.axes is not None and model.landmarks is not None
    to_file = registry.axes.rotation() / 10
    points = np.full((68, 3), np.nan)
    points[model.landmarks.indices_68] = model.landmarks.positions(model.template_mm, model.faces)
    for scan in registry.scans.examples:
        folder = (root / scan).parent
        folder.mkdir(parents=True, exist_ok=True)
        trimesh.Trimesh(model.template_mm @ to_file, model.faces, process=False).export(root / scan)
        np.save((root / scan).with_name(f"{Path(scan).stem}_lmk.npy"), points @ to_file)
        (root / scan).with_suffix(".jpg").write_bytes(b"")
        (folder / "test_1.obj").write_bytes(b"")
    report = check_folder(registry, root)
    assert report["faults"] == []
    assert report["scans"] == report["with_landmarks"] == report["with_images"] == 2
    assert report["excluded"] == {"trial shots of the operator": 2}
