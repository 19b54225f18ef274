"""Unit and axes of scans without landmarks: registration tells what was declared wrongly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import stand_in
from pipeline.normalise.axes import CONVENTIONS, degrees_of
from pipeline.quality.declared import likely_instead, wrong_axes
from pipeline.quality.refusing import judged
from pipeline.quality.thresholds import Gates
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.template import Template, prepare_template
from pipeline.registry import Axes, Limits
from pipeline.types import Array, Refusal, Scan
from tests.benchmarks.cases import without_landmarks
from tests.registration.model_scans import make_scan

UPRIGHT = Axes(up="+y", forward="+z")


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return stand_in()


@pytest.fixture(scope="module")
def template(model: FlameModel) -> Template:
    return prepare_template(model, "cpu", RegistrationOptions().modes)


@pytest.fixture(scope="module")
def face(model: FlameModel) -> Scan:
    return without_landmarks(make_scan(model, 3).scan, oriented=True)


def declared(scan: Scan, unit: str, factor_mm: float, size: float, rotation: Array) -> Scan:
    """The scan as a file `size` times too large and turned makes it."""
    return replace(
        scan,
        vertices_mm=size * scan.vertices_mm @ rotation.T,
        normals=scan.normals @ rotation.T,
        unit=unit,
        unit_factor_mm=factor_mm,
    )


def refusal(scan: Scan, template: Template, axes: Axes | None) -> Refusal | None:
    registration = register([scan], template.model)[0]
    return judged(scan, registration, template, Gates(), axes, Limits())[0]


def test_centimetres_and_inches_are_told_apart_by_the_face(face: Scan, template: Template) -> None:
    """The two that the extent leaves open."""
    crop = replace(face, scan_id="crop")
    as_cm = declared(crop, "cm", 10.0, 1 / 2.54, np.eye(3))
    assert refusal(declared(crop, "cm", 10.0, 1.0, np.eye(3)), template, UPRIGHT) is None
    for axes in (UPRIGHT, None):
        found = refusal(replace(as_cm, oriented=axes is not None), template, axes)
        assert found is not None and found.kind == "register: no_face"
        assert found.reason.endswith("; likely in inch: a face is found so")
    as_inch = declared(crop, "inch", 25.4, 2.54, np.eye(3))
    found = refusal(as_inch, template, UPRIGHT)
    assert found is not None and found.stage == "register"
    assert found.reason.endswith("; likely in cm: a face is found so")


def test_a_face_registered_in_wrong_axes_is_refused(face: Scan, template: Template) -> None:
    """Registration may find a face that lies on its side: it must not pass for upright."""
    lying = Axes(up="+y", forward="+x")  # the file's are +y, +z
    turn = lying.rotation()
    scan = declared(face, "mm", 1.0, 1.0, turn)
    registration = register([scan], template.model, starts=[rigid(turn)])[0]
    assert registration.status != "failed"
    found, quality = judged(scan, registration, template, Gates(), lying, Limits())
    assert found is not None and quality is not None and quality.verdict == "reject"
    assert found.kind == "quality: axes"
    reason = found.reason
    assert reason.startswith("axes {up: +y, forward: +x}: registration shows a face turned ")
    assert "from upright, limit 50°; likely {up: +y, forward: +z}; where heads are" in reason
    # where profiles are expected, or nothing is declared, it is what the source holds
    assert wrong_axes(registration, template.model, lying, Limits(turn_deg=100)) is None
    assert wrong_axes(registration, template.model, None, Limits()) is None


def rigid(rotation: Array) -> Array:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    return matrix


@pytest.mark.parametrize("angle", [120, 180])
def test_a_face_not_found_in_wrong_axes_names_the_likely_ones(
    face: Scan, template: Template, angle: int
) -> None:
    axes = next(a for a in CONVENTIONS if round(degrees_of(a.rotation())) == angle)
    found = refusal(declared(face, "mm", 1.0, 1.0, axes.rotation()), template, axes)
    assert found is not None and "likely {up: +y, forward: +z}" in found.reason


def test_a_wrong_unit_and_wrong_axes_at_once(face: Scan, template: Template) -> None:
    axes = Axes(up="-y", forward="-x")
    scan = declared(face, "cm", 10.0, 1 / 2.54, axes.rotation())
    said = likely_instead(scan, template, axes, Limits())
    assert said == "likely in inch with {up: +y, forward: +z}: a face is found so"


def test_nothing_is_likely_of_what_is_no_face(face: Scan, template: Template) -> None:
    ball = np.random.default_rng(0).normal(size=(3000, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    no_face = replace(face, vertices_mm=100 * ball, normals=ball, faces=np.zeros((0, 3)))
    assert likely_instead(no_face, template, UPRIGHT, Limits()) == ""
