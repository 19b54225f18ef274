"""Gates over parts of a face and over its features: what distances do not show."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.flame.parts import PAIRS, parts_of
from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.rigid import rotation_matrices
from pipeline.quality.assess import assess
from pipeline.quality.gates import GATES
from pipeline.quality.local import log_stretches
from pipeline.quality.measures import measure
from pipeline.quality.relief import detrended
from pipeline.quality.thresholds import Gates
from pipeline.refusals import Code
from pipeline.types import Array, Quality
from tests.quality.test_quality import FAULTS, Made, make, scan_of


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return load_model()


@pytest.fixture(scope="module")
def made(model: FlameModel) -> Made:
    """Its scan is the registered mesh, with landmarks of .3 mm noise."""
    found = make(model)
    vertices = found.registration.vertices_mm
    assert model.landmarks is not None
    marks = model.landmarks.positions_68(vertices, model.faces)
    marks[:17] = np.nan
    noisy = marks + np.random.default_rng(0).normal(scale=0.3, size=marks.shape)
    scan = replace(
        scan_of(vertices, model.faces),
        landmarks_mm=noisy,
        landmark_scheme="ibug68",
        landmark_confidence=np.isfinite(marks).all(1),
        landmark_source="file",
    )
    return replace(found, scan=scan)


def turn_of(made: Made) -> Array:
    """(3,3) the template's axes in the scan, one a column."""
    return rotation_matrices(torch.as_tensor(made.registration.pose[:3]).double()).numpy()


def moved(made: Made, part: str, by_mm: Array, reach_mm: float) -> Array:
    """The vertices with a part moved by (3,) mm in the template's axes, smoothly less around it,
    and laid back onto the scan."""
    vertices = made.registration.vertices_mm.astype(np.float64)
    centre = vertices[parts_of(made.model)[part].vertices].mean(0)
    share = np.exp(-0.5 * (np.linalg.norm(vertices - centre, axis=1) / reach_mm) ** 2)
    near = share > 0.02
    there = vertices[near] + share[near, None] * (turn_of(made) @ by_mm)
    vertices[near] = SurfaceIndex(made.scan.vertices_mm, made.scan.faces).query(there).point
    return vertices


def slid(made: Made) -> dict[str, Any]:
    return {"vertices_mm": moved(made, "chin", np.array([0.0, 9.0, 1.0]), 16.0)}


def smoothed(made: Made, *names: str) -> dict[str, Any]:
    """The depth of parts replaced by that of a quadric."""
    vertices = made.registration.vertices_mm.astype(np.float64)
    upright = vertices @ turn_of(made)
    parts = parts_of(made.model)
    own = np.unique(np.concatenate([parts[name].vertices for name in names]))
    upright[own, 2] -= detrended(upright[own])
    return {"vertices_mm": upright @ turn_of(made).T}


def wavy(made: Made) -> dict[str, Any]:
    vertices = made.registration.vertices_mm.astype(np.float64)
    height = (vertices @ turn_of(made))[:, 1]
    wave = 2.5 * np.sin(height / 3.0)[:, None] * turn_of(made)[:, 2]
    return {"vertices_mm": vertices + wave}


def hair(made: Made) -> Made:
    """A layer before the forehead, which the scan does not show."""
    return layered(made, "forehead", 10.0, shown=False)


def doubled(made: Made) -> Made:
    """The face a second time, 6 mm before itself."""
    return layered(made, "face", 6.0, shown=True)


def layered(made: Made, where: str, mm: float, shown: bool) -> Made:
    vertices, normals = made.registration.vertices_mm, made.scan.normals
    own = made.model.regions[where] if where == "face" else parts_of(made.model)[where].vertices
    added = vertices[own] + mm * normals[own]
    scan = replace(
        made.scan,
        vertices_mm=np.concatenate([vertices, *[added] * 3]),
        normals=np.concatenate([normals, *[normals[own]] * 3]),
        faces=made.scan.faces,
    )
    validity = made.registration.validity.copy()
    validity[own] = shown
    return replace(made, scan=scan, registration=replace(made.registration, validity=validity))


def off_mark(made: Made) -> Made:
    assert made.scan.landmarks_mm is not None
    marks = made.scan.landmarks_mm.copy()
    marks[48] += 11.0 * turn_of(made)[:, 0]
    return replace(made, scan=replace(made.scan, landmarks_mm=marks))


def changed(change: Callable[[Made], dict[str, Any]]) -> Callable[[Made], Made]:
    return lambda made: replace(made, registration=replace(made.registration, **change(made)))


MOUTH = ("lips", "right mouth corner", "left mouth corner")
EYE = ("left lids", "left eye corners")
LOCAL: dict[str, tuple[Callable[[Made], Made], Code, str]] = {
    "covered": (hair, Code.COVERED, r"0\.\d+ of the scan's points at the face lie in front of it"),
    "scattered": (doubled, Code.ROUGH, r"points lie apart from a surface that is there"),
    "rough": (changed(wavy), Code.ROUGH, r"the cheeks are waved as no face is: 0\.\d+/mm"),
    "mouth": (
        changed(lambda m: smoothed(m, *MOUTH)),
        Code.NOT_SHOWN,
        r"the mouth shows -?0\.\d+ of the model's relief",
    ),
    "eyes": (
        changed(lambda m: smoothed(m, *EYE)),
        Code.NOT_SHOWN,
        r"an eye shows -?0\.\d+ of the model's relief",
    ),
    "slid": (
        changed(slid),
        Code.SLID,
        r"chin: likely slid along the surface; stretched by \d+% against the model, curved as it "
        r"is there with a correlation of -?0\.\d+ \([+-]0\.\d+ elsewhere\)$",
    ),
    "landmarks of parts": (off_mark, Code.LANDMARK_ERROR, r": a landmark is 1\d\.\d mm off"),
    "expected error": (
        changed(lambda m: {"expected_error_mm": np.full(len(m.model.template_mm), 9.0)}),
        Code.UNCERTAIN,
        r": 9\.0 mm of error are to be expected",
    ),
}


def test_every_gate_has_a_fault() -> None:
    elsewhere = {"clutter", "neutral"}  # tests of their own
    assert {*FAULTS, *LOCAL, *elsewhere} == GATES.keys()


def test_a_faultless_registration_with_landmarks_is_accepted(made: Made) -> None:
    quality = made.assessed()
    assert (quality.verdict, quality.reasons) == ("accept", ())


@pytest.mark.parametrize("gate", LOCAL)
def test_every_local_fault_is_found_and_named(made: Made, gate: str) -> None:
    spoil, code, reason = LOCAL[gate]
    quality = spoil(made).assessed()
    assert quality.verdict != "accept"
    matching = [f for f in quality.findings if re.search(reason, f.reason)]
    assert [f.code for f in matching] == [code], quality.reasons


@pytest.mark.parametrize(("feature", "named"), [("mouth", "the mouth"), ("eye", "an eye")])
def test_a_shallow_mouth_or_eye_is_not_shown_whatever_the_model_has(
    made: Made, feature: str, named: str
) -> None:
    features = measure(made.scan, made.registration, made.model).features
    least = min(r.depth_mm for name, r in features.items() if name.endswith(feature))
    for limit, verdict in ((least - 0.01, "accept"), (least + 0.01, "review")):
        gates = Gates(**{f"{feature}_depth_mm": [limit, 0.0]})
        quality = assess(made.scan, made.registration, made.model, gates)
        assert quality.verdict == verdict
    assert quality.codes == (Code.NOT_SHOWN,)
    assert quality.reasons[0].startswith(f"the relief of {named} is {least:.2f} mm (rms) deep")


@pytest.mark.parametrize("part", ["left mouth corner", "right eye corners", "chin", "left ear"])
def test_the_part_that_slid_is_named(made: Made, part: str) -> None:
    sideways = np.array([0.0, 8.0, 3.0]) if "ear" in part else np.array([7.0, 4.0, 0.0])
    quality = made.assessed(vertices_mm=moved(made, part, sideways, 10.0))
    named = [f.reason.partition(":")[0] for f in quality.findings if f.code is Code.SLID]
    near = {part, part.replace("eye corners", "lids")}
    assert near & set(named), quality.reasons


def test_a_neutral_scan_with_an_open_mouth_is_to_be_looked_at(made: Made) -> None:
    def judged(neutral: bool, gates: Gates | None = None) -> Quality:
        given = made.scan, made.registration, made.model, gates or Gates()
        return assess(*given, neutral=neutral)

    open_mm = measure(made.scan, made.registration, made.model).lip_gap_mm
    assert open_mm > 4.0, "the jaw is turned by .1"
    assert judged(neutral=False).verdict == "accept"
    found = judged(neutral=True)
    assert (found.verdict, found.codes) == ("review", (Code.NOT_NEUTRAL,))
    assert found.reasons[0].startswith(f"filed as neutral, and the lips are {open_mm:.1f} mm apart")
    wide = Gates(neutral_lip_gap_mm=[open_mm + 1, 50])
    assert judged(neutral=True, gates=wide).verdict == "accept"


def test_what_has_no_data_is_not_judged(made: Made) -> None:
    """Ears that no scan shows are not valid, and no reason against it."""
    ears = [p.vertices for n, p in parts_of(made.model).items() if n.endswith("ear")]
    validity = made.registration.validity.copy()
    validity[np.concatenate(ears)] = False
    away = moved(made, "left ear", np.array([0.0, 15.0, 0.0]), 12.0)
    m = measure(
        made.scan, replace(made.registration, validity=validity, vertices_mm=away), made.model
    )
    ear = m.parts["left ear"]
    assert ear.validity == 0.0
    assert math.isnan(ear.stretch) and math.isnan(ear.likeness) and math.isnan(ear.expected_mm)


def test_stretches_are_those_of_a_known_map() -> None:
    triangle = np.array([[0.0, 0, 0], [1, 0, 0], [0.3, 2, 0]])
    turn = rotation_matrices(torch.tensor([0.3, -1.0, 0.5]).double()).numpy()
    after = triangle * [1.5, 0.8, 1.0] @ turn.T + 7.0
    found = log_stretches(triangle, after, np.array([[0, 1, 2]]))
    assert found == pytest.approx(np.log([[1.5, 0.8]]), abs=1e-9)
    assert np.isfinite(log_stretches(triangle * 0, after, np.array([[0, 1, 2]]))).all()


def test_parts_of_a_model_are_in_place(model: FlameModel) -> None:
    parts = parts_of(model)
    assert model.landmarks is not None
    marks = model.landmarks.positions_68(model.template_mm, model.faces)
    inside = np.concatenate([model.regions[n] for n in ("eyeballs", "hidden")])
    for name, part in parts.items():
        assert not np.isin(part.vertices, inside).any(), name
        x = model.template_mm[part.vertices, 0]
        if name.startswith("right"):
            assert x.max() < 0, name
        for point in part.landmarks:
            gaps = np.linalg.norm(model.template_mm[part.vertices] - marks[point], axis=1)
            assert gaps.min() < 5.0, (name, point)
    for right, left in PAIRS:
        assert abs(len(parts[right].vertices) - len(parts[left].vertices)) < 6
    chin = np.mean(np.isin(parts["chin"].vertices, model.regions["chin"]))
    assert chin > 0.5, "the embedded model names its own chin"


def test_ears_and_forehead_are_found_without_regions(model: FlameModel) -> None:
    kept = {"eyeballs", "hidden", "boundary", "face"}
    bare = replace(model, regions={n: v for n, v in model.regions.items() if n in kept})
    for name in ("right ear", "left ear"):
        named, found = (set(parts_of(m)[name].vertices) for m in (model, bare))
        assert len(named & found) > 0.9 * len(named)
    assert len(parts_of(bare)["forehead"].vertices) > 50
    unmarked = replace(model, landmarks=None)
    assert parts_of(unmarked) == {}
