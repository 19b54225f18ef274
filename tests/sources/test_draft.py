"""A draft of datasets that registries describe already: what it finds out by itself."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
import yaml
from scipy.spatial.transform import Rotation

from pipeline.catalogue import catalogue
from pipeline.errors import FacefoldError
from pipeline.flame.stand_in import stand_in
from pipeline.normalise.axes import degrees_of
from pipeline.registry import Axes, SourceRegistry, load_registry, new_registry
from pipeline.sources import draft_source
from pipeline.sources.evidence import common_axes, read_marks
from pipeline.types import Array, RawScan
from tests.miniatures import build_miniature

UPRIGHT = {"up": "+y", "forward": "+z"}
FOUND: dict[str, dict[str, Any]] = {
    "stirling": {
        "unit": "mm",
        "axes": UPRIGHT,
        "neutral": ["N", "NH"],
        "landmarks": {"file": "annotations/{sex}_3D_N/{stem}.lnd", "format": "lnd"},
        "scheme": "fg7",
        "images": ["{dir}/{stem}.bmp"],
    },
    "headspace": {
        "unit": "mm",
        "landmarks": {"file": "{dir}/ldmks{stem}.txt", "format": "txt1"},
        "tilt": [{"x": -45.0}, {"y": -45.0}],
        "neutral": "FILL",
    },
    "bosphorus": {
        "unit": "mm",
        "axes": UPRIGHT,
        "landmarks": {"file": "{dir}/{stem}.lm3", "format": "lm3"},
        "scheme": "bosphorus22",
        "images": ["{dir}/{stem}.png"],
    },
    "bp4dplus": {
        "unit": "mm",
        "axes": UPRIGHT,
    },
    "frgc": {"unit": "mm", "axes": UPRIGHT, "neutral": "FILL", "format": "abs.gz"},
    "coma": {"unit": "m", "axes": UPRIGHT},
    "nphm": {"unit": "FILL", "axes": "unknown"},
    "texas3d": {"format": "png", "reader": "FILL", "unit": "FILL", "axes": "unknown"},
}
"""Dataset -> what its miniature's draft must say; nothing of NPHM, whose files are four times as
large, of landmarks whose numbers are not their scans', and of depth images whose camera is not in
the file."""


def filled(text: str) -> dict[str, Any]:
    """A draft as a user leaves it who answers every FILL with something that is allowed."""
    data = yaml.safe_load(text)
    data |= dict.fromkeys(("title", "version", "citation", "access"), "told")
    data["licence"] |= {"name": "told", "url": "told"}
    for rule in data["scans"]["exclude"]:
        rule["reason"] = "told" if rule["reason"] == "FILL" else rule["reason"]
    answers = {"metric": True, "unit": "mm", "neutral": "all", "reader": {"pixel_size": 0.32}}
    for name, answer in answers.items():
        if data.get(name) in ("FILL", ["FILL"]):
            data[name] = answer
    if data["landmarks"] != "none" and data["landmarks"]["format"] == "FILL":
        data["landmarks"]["format"] = "txt"
    return data


def loaded(data: dict[str, Any], folder: Path) -> SourceRegistry:
    file = folder / f"{data['id']}.yaml"
    file.write_text(json.dumps(data), encoding="utf-8")  # is YAML, and quotes every text
    return load_registry(file)


@pytest.mark.parametrize("id", FOUND)
def test_a_draft_of_a_known_dataset(id: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    miniature = build_miniature(id, root)
    text = new_registry("mine", draft_source(root, samples=4))
    data, wanted = yaml.safe_load(text), FOUND[id]
    for name in wanted.keys() - {"landmarks", "scheme", "tilt"}:
        assert data.get(name) == wanted[name], name
    if "landmarks" in wanted:
        assert wanted["landmarks"].items() <= data["landmarks"].items()
    if "scheme" in wanted:
        assert data["landmarks"]["scheme"] == wanted["scheme"]
    if "tilt" in wanted:
        assert [*data["axes"]] == ["up", "forward", "rotation_deg"]
        found, tilt = (
            Axes(**UPRIGHT, rotation_deg=steps).rotation()
            for steps in (data["axes"]["rotation_deg"], wanted["tilt"])
        )
        assert degrees_of(found.T @ tilt) < 10
    # once filled in it loads, its examples hold, and no file is left without a rule
    registry = loaded(filled(text), tmp_path)
    assert registry.scans.examples
    catalogued = catalogue(registry, root)
    assert not catalogued.quarantined
    assert catalogued.n_files == sum(path.is_file() for path in root.rglob("*"))
    # every scan that the dataset's own registry knows is one, of the same person
    records = {record.path.relative_to(root).as_posix(): record for record in catalogued.records}
    known = {path: scan.subject for path, scan in miniature.scans.items()}
    assert known.keys() <= records.keys()
    of = {path: records[path].subject for path in known}
    assert len(set(of.values())) == len(set(zip(of.values(), known.values(), strict=True)))


def head(unit: float = 1.0) -> tuple[Array, Array]:
    model = stand_in()
    return model.template_mm * unit, model.faces


def test_a_crop_in_centimetres_is_told_from_inches_by_its_face(tmp_path: Path) -> None:
    vertices, faces = head(0.1)
    face = vertices[:, 2] > np.median(vertices[:, 2])
    keep = face[faces].all(axis=1)
    for name in ("anna", "ben"):
        trimesh.Trimesh(vertices, faces[keep]).export(tmp_path / f"{name}.stl")
    data = yaml.safe_load(new_registry("mine", draft_source(tmp_path)))
    assert (data["unit"], data["axes"]) == ("cm", UPRIGHT)


def test_other_formats_and_strays_are_left_to_the_user(tmp_path: Path) -> None:
    vertices, faces = head()
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    stl = mesh.export(file_type="stl")
    for i in range(12):
        (tmp_path / f"p{i:02}").mkdir()
        (tmp_path / f"p{i:02}" / "smile.stl").write_bytes(stl)
    (tmp_path / "template.stl").write_bytes(stl)
    mesh.export(tmp_path / "p00" / "smile.off")
    (tmp_path / "p00" / "odd {1}[2].txt").write_text("?")
    (tmp_path / "README").write_text("?")
    (tmp_path / "out.stl").symlink_to("/etc/hostname")
    text = new_registry("mine", draft_source(tmp_path, samples=1))
    data = yaml.safe_load(text)
    assert data["scans"]["exclude"] == [
        {"pattern": "**/*.off", "reason": "FILL"},
        {"pattern": "template.stl", "reason": "FILL"},
    ]
    assert "# quarantined: out.stl: a link out of the source's root" in text
    assert data["neutral"] == "FILL"
    (tmp_path / "registry").mkdir()
    registry = loaded(filled(text), tmp_path / "registry")
    (tmp_path / "registry" / "mine.yaml").unlink()
    found = catalogue(registry, tmp_path)
    assert [row.path for row in found.quarantined] == [str(tmp_path / "out.stl")]
    assert len(found.records) == 12 and len(found.excluded) == 2
    with pytest.raises(FacefoldError, match=r"scans\.exclude\.0\.reason: got \"FILL\""):
        loaded({**filled(text), "scans": data["scans"]}, tmp_path)


def test_folders_without_scans_are_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("no mesh")
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(FacefoldError, match=r"none of its 2 files can be read as a scan.*a\.obj"):
        draft_source(tmp_path)
    with pytest.raises(FacefoldError, match="no such folder"):
        draft_source(tmp_path / "nowhere")


def test_landmarks_of_another_frame_are_not_taken(tmp_path: Path) -> None:
    model = stand_in()
    assert model.landmarks is not None
    marks = model.landmarks.positions(model.template_mm, model.faces)
    scan = RawScan(model.template_mm, model.faces)
    np.save(tmp_path / "here.npy", marks)
    np.save(tmp_path / "elsewhere.npy", marks + np.array([300, 0, 0]))
    np.save(tmp_path / "mixed.npy", np.random.default_rng(0).permutation(marks))
    taken = read_marks({"s": scan}, {"s": tmp_path / "here.npy"}, ["npy"])
    assert not isinstance(taken, str) and taken.format == "npy" and taken.scheme == "ibug68"
    for name, told in (("elsewhere", "mm from the scans"), ("mixed", "they are no face")):
        fault = read_marks({"s": scan}, {"s": tmp_path / f"{name}.npy"}, ["npy"])
        assert isinstance(fault, str) and re.search(told, fault)


def test_axes_of_tilted_and_of_arbitrary_heads() -> None:
    nods = Rotation.from_euler("x", [[-8], [0], [8]], degrees=True)
    lying = Rotation.from_euler("x", 90, degrees=True)
    axes, _ = common_axes(list((lying * nods).as_matrix()))
    assert axes == {"up": "+z", "forward": "-y"}
    tilted = Rotation.from_euler("xyz", [20, -40, 10], degrees=True)
    axes, _ = common_axes(list((tilted * nods).as_matrix()))
    assert isinstance(axes, dict) and len(axes["rotation_deg"]) == 3
    upright = Rotation.from_matrix(Axes.model_validate(axes).rotation())
    assert np.degrees((upright * tilted).magnitude()) < 2
    any_way = Rotation.from_rotvec(np.random.default_rng(0).normal(size=(6, 3))).as_matrix()
    assert common_axes(list(any_way))[0] == "unknown"
