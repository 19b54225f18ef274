"""Quality: measures with known values, every gate, and things that are no faces."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pipeline.errors import ModelError
from pipeline.flame.assets import load_model
from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.mesh import vertex_normals
from pipeline.geometry.rigid import rotation_matrices
from pipeline.quality.assess import assess
from pipeline.quality.declared import gates_within
from pipeline.quality.surface import statistics
from pipeline.quality.thresholds import Gates
from pipeline.refusals import Code
from pipeline.registry import Limits
from pipeline.types import Array, Quality, Registration, Scan


@dataclass(frozen=True, eq=False)
class Made:
    """A registration whose truth is known, and the scan it is of."""

    scan: Scan
    registration: Registration
    model: FlameModel

    def assessed(self, gates: Gates | None = None, **changes: Any) -> Quality:
        registration = replace(self.registration, **changes)
        return assess(self.scan, registration, self.model, gates or Gates())


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return load_model()


def scan_of(vertices: Array, faces: Array) -> Scan:
    return Scan(
        scan_id="test:scan",
        vertices_mm=vertices,
        faces=faces,
        normals=normals_of(vertices, faces),
        source_to_canonical=np.eye(4),
        unit="mm",
        unit_factor_mm=1.0,
        unit_evidence="made in millimetres",
    )


def normals_of(vertices: Array, faces: Array) -> Array:
    found: Array = vertex_normals(torch.as_tensor(vertices), torch.as_tensor(faces)).numpy()
    return found


def make(model: FlameModel, seed: int = 0) -> Made:
    """A posed head turned by 40°, registered without fault; its scan shares no vertex with it."""
    rng = np.random.default_rng(seed)
    shape, expression = np.zeros(300), np.zeros(100)
    shape[:20], expression[:5] = rng.normal(size=20), 0.5 * rng.normal(size=5)
    pose = np.array([0.2, 0.6, -0.2, *np.zeros(3), 0.1, *np.zeros(8)])
    shift = np.array([10.0, -20.0, 30.0])
    tensors = to_tensors(model, dtype=torch.float64)
    coefficients = [torch.as_tensor(c)[None] for c in (shape, expression, pose, shift)]
    vertices = pose_vertices(tensors, *coefficients)[0].numpy()  # type: ignore[arg-type]
    corners = rng.dirichlet([1, 1, 1], 8 * len(model.faces))
    triangle = np.repeat(np.arange(len(model.faces)), 8)
    points = np.einsum("nk,nkd->nd", corners, vertices[model.faces[triangle]])
    v = len(vertices)
    return Made(
        scan_of(points, np.zeros((0, 3), np.int64)),
        Registration(
            scan_id="test:scan",
            model_digest=model.digest,
            vertices_mm=vertices,
            neutral_mm=vertices,
            shape=shape,
            expression=expression,
            pose=pose,
            translation_mm=shift,
            offset_mm=np.zeros((v, 3)),
            distance_mm=np.full(v, 0.1),
            weight=np.ones(v),
            validity=np.ones(v, bool),
            expected_error_mm=np.full(v, 0.5),
            iterations=1,
            status="converged",
            landmark_error_mm=2.0,
        ),
        model,
    )


@pytest.fixture(scope="module")
def made(model: FlameModel) -> Made:
    return make(model)


def test_a_faultless_registration_is_accepted(made: Made) -> None:
    quality = made.assessed()
    assert (quality.verdict, quality.reasons) == ("accept", ())
    assert quality.coverage == 1.0
    assert quality.flipped_triangles == 0
    assert quality.beyond_model_mm < 0.01
    assert quality.landmark_error_mm == 2.0
    assert {"all", "face", "nose", "mouth"} <= quality.scan_to_mesh_mm.keys()
    for region in quality.scan_to_mesh_mm.values():
        # the points lie on the very triangles, to single precision
        assert region["max"] < 1e-3
    assert quality.mesh_to_scan_mm["face"] == pytest.approx(
        {"median": 0.1, "mean": 0.1, "p95": 0.1, "max": 0.1}
    )


def test_distances_are_those_of_a_known_offset(made: Made) -> None:
    normals = normals_of(made.registration.vertices_mm.astype(np.float64), made.model.faces)
    quality = made.assessed(vertices_mm=made.registration.vertices_mm + 0.7 * normals)
    for region in ("all", "face", "forehead", "cheeks"):
        assert quality.scan_to_mesh_mm[region]["median"] == pytest.approx(0.7, abs=0.03), region
    assert quality.beyond_model_mm == pytest.approx(0.7, abs=0.05)


def test_a_local_fault_shows_in_its_region_only(made: Made) -> None:
    vertices = made.registration.vertices_mm.copy()
    nose = made.model.regions["nose"]
    inside = np.setdiff1d(
        nose, np.unique(made.model.faces[~np.isin(made.model.faces, nose).all(1)])
    )
    vertices[inside] += [0.0, 0.0, 3.0]
    quality = made.assessed(vertices_mm=vertices)
    assert quality.scan_to_mesh_mm["nose"]["p95"] > 1.0
    assert quality.scan_to_mesh_mm["forehead"]["p95"] < 1e-3


def test_clutter_off_the_face_does_not_count(made: Made) -> None:
    vertices = made.registration.vertices_mm
    normals = normals_of(vertices.astype(np.float64), made.model.faces)
    forehead = made.model.regions["forehead"]
    fringe = (vertices + 30 * normals)[forehead]
    inside = (fringe < vertices.max(0) + 10).all(1) & (fringe > vertices.min(0) - 10).all(1)
    assert inside.sum() > 20
    points = np.concatenate([made.scan.vertices_mm, np.repeat(fringe[inside], 50, axis=0)])
    cluttered = replace(made, scan=scan_of(points, made.scan.faces))
    quality = cluttered.assessed()
    assert quality.verdict == "accept"
    assert quality.scan_to_mesh_mm["all"]["max"] < 1e-3


def test_what_no_scanner_sees_does_not_lower_coverage(made: Made) -> None:
    validity = np.ones(len(made.model.template_mm), bool)
    validity[made.model.regions["hidden"]] = False
    validity[made.model.regions["eyeballs"]] = False
    assert made.assessed(validity=validity).coverage == 1.0


def test_a_wave_tilts_triangles_without_turning_them_over(made: Made) -> None:
    vertices = made.registration.vertices_mm
    wave = 6 * np.sin(vertices[:, :1] / 5)
    tilted = vertices + wave * [0, 1, 0]
    assert made.assessed(vertices_mm=tilted).flipped_triangles < 20


def test_size_is_the_outer_eye_distance_of_the_registered_mesh(made: Made) -> None:
    landmarks = made.model.landmarks
    assert landmarks is not None
    at = landmarks.positions(made.registration.vertices_mm.astype(np.float64), made.model.faces)
    index = {int(i): k for k, i in enumerate(landmarks.indices_68)}
    expected = np.linalg.norm(at[index[36]] - at[index[45]])
    assert made.assessed().outer_eye_mm == pytest.approx(expected, abs=1e-3)


def offset(made: Made) -> dict[str, Any]:
    normals = normals_of(made.registration.vertices_mm.astype(np.float64), made.model.faces)
    return {"vertices_mm": made.registration.vertices_mm + 2.0 * normals}


def without_data(made: Made) -> dict[str, Any]:
    return {"validity": np.random.default_rng(0).random(len(made.model.template_mm)) < 0.2}


def folded(made: Made) -> dict[str, Any]:
    """A tenth of the face's vertices swapped with a neighbour."""
    vertices = made.registration.vertices_mm.copy()
    face = made.model.regions["face"]
    own = made.model.faces[np.isin(made.model.faces, face).all(1)]
    pairs = own[:: len(own) // (len(face) // 10), :2]
    vertices[pairs] = vertices[pairs[:, ::-1]]
    return {"vertices_mm": vertices}


def shrunk(made: Made) -> dict[str, Any]:
    centre = made.registration.vertices_mm.mean(0)
    return {"vertices_mm": centre + 0.75 * (made.registration.vertices_mm - centre)}


def bent(made: Made) -> dict[str, Any]:
    vertices = made.registration.vertices_mm.copy()
    wave = 27 * np.sin(vertices[:, 0] / 25) * np.cos(vertices[:, 1] / 25)
    return {"vertices_mm": vertices + wave[:, None] * [0, 0, 1]}


def on_a_ball(made: Made) -> dict[str, Any]:
    """The face drawn over a ball through the eyes: smooth, near, and no face."""
    vertices = made.registration.vertices_mm.astype(np.float64)
    face = made.model.regions["face"]
    points = vertices[face]
    a = np.c_[2 * points, np.ones(len(points))]
    *centre, rest = np.linalg.lstsq(a, (points**2).sum(1), rcond=None)[0]
    radius = np.sqrt(rest + np.square(centre).sum())
    out = vertices - centre
    vertices[face] = centre + radius * (out / np.linalg.norm(out, axis=1, keepdims=True))[face]
    return {"vertices_mm": vertices}


FAULTS: dict[str, tuple[Callable[[Made], dict[str, Any]], str]] = {
    "surface": (offset, r"scan-to-mesh median [\d.]+ mm on the face, limit 1.5"),
    "landmarks": (lambda made: {"landmark_error_mm": 13.0}, r"landmarks 13.0 mm off.*limit 12"),
    "coverage": (without_data, r"shows 0\.(19|2\d) of the face, limit 0.25"),
    "flips": (folded, r"triangles are turned over, limit 0.03"),
    "size": (shrunk, r"outer eye corners [67]\d\.\d mm apart, limits 80–105"),
    "bending": (bent, r"bent [\d.]+ mm off the model, limit 9"),
    "plausible shape": (
        lambda made: {"shape": np.full(300, 3.5)},
        r"identity coefficients of 3.5 standard deviations \(rms\), limit 3",
    ),
    "relief": (on_a_ball, r"correlate -?0\.\d+ with the template's, limit 0.55"),
    "normals": (on_a_ball, r"normals are \d+° \(median\) off the template's, limit 19.5"),
}


@pytest.mark.parametrize("gate", FAULTS)
def test_every_gate_rejects_its_fault_and_says_why(made: Made, gate: str) -> None:
    fault, reason = FAULTS[gate]
    quality = made.assessed(**fault(made))
    assert quality.verdict == "reject"
    matching = [r for r in quality.reasons if re.search(reason, r)]
    assert matching, quality.reasons


def test_between_the_limits_a_person_should_look(made: Made) -> None:
    quality = made.assessed(landmark_error_mm=8.0)
    assert quality.verdict == "review"
    assert quality.reasons == ("landmarks 8.0 mm off on average, expected at most 6",)


@pytest.mark.parametrize(("beyond", "verdict"), [(0.5, "review"), (17.0, "reject")])
def test_a_size_just_outside_is_looked_at_not_refused(
    made: Made, beyond: float, verdict: str
) -> None:
    smallest = made.assessed().outer_eye_mm + beyond
    quality = made.assessed(Gates(outer_eye_mm=[smallest, 200.0]))
    assert quality.verdict == verdict
    assert quality.reasons[0].startswith("outer eye corners")


def test_a_large_share_left_out_is_a_reason_to_look(made: Made) -> None:
    for share, verdict in ((0.07, "accept"), (0.3, "review"), (0.99, "review")):
        scan = replace(made.scan, left_out={"faces_clutter": 9}, left_out_share=share)
        quality = replace(made, scan=scan).assessed()
        assert quality.verdict == verdict
        assert quality.codes == ((Code.CLUTTER,) if verdict == "review" else ())
    assert quality.reasons[0].startswith("0.99 of the file was left out as damaged or as clutter")
    strict = Gates(left_out_share=[0.1, 0.5])
    assert replace(made, scan=scan).assessed(strict).verdict == "reject"


def test_a_sources_limits_are_its_gates(made: Made) -> None:
    """Of children: what the source says goes before the usual gate, what it leaves out does not."""
    children = gates_within(Gates(), Limits(outer_eye_mm=(60.0, 105.0)))
    assert children.outer_eye_mm == (60.0, 105.0)
    assert children == Gates(outer_eye_mm=(60.0, 105.0))
    build = Gates(outer_eye_mm=[70, 100])
    assert gates_within(build, Limits()) == gates_within(build, Limits(turn_deg=60.0)) == build
    assert gates_within(build, Limits(outer_eye_mm=(80.0, 105.0))).outer_eye_mm == (80.0, 105.0)


def test_rejecting_reasons_come_first(made: Made) -> None:
    changes = {**without_data(made), "landmark_error_mm": 8.0}
    quality = made.assessed(**changes)
    assert quality.verdict == "reject"
    assert quality.reasons[0].startswith("the scan shows")
    assert "expected at most 6" in quality.reasons[-1]


def test_thresholds_decide(made: Made) -> None:
    strict = Gates(landmark_error_mm=[0.5, 1.0])
    assert made.assessed(strict).verdict == "reject"
    assert made.assessed().verdict == "accept"


@pytest.mark.parametrize("radius", [70.0, 90.0, 110.0])
def test_a_ball_with_every_vertex_on_it_is_no_face(made: Made, radius: float) -> None:
    """The most a flexible method can do: distances are zero, the coefficients innocent."""
    turn = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    polar = np.linspace(0.01, np.pi - 0.01, 80)
    ball = np.stack(
        np.broadcast_arrays(
            np.sin(polar)[:, None] * np.sin(turn),
            np.cos(polar)[:, None],
            np.sin(polar)[:, None] * np.cos(turn),
        ),
        axis=-1,
    ).reshape(-1, 3)
    template = made.model.template_mm
    centre = template[made.model.regions["face"]].mean(0) - [0, 0, radius - 15]
    points = centre + radius * ball
    out = template - centre
    vertices = centre + radius * out / np.linalg.norm(out, axis=1, keepdims=True)
    v = len(vertices)
    registration = replace(
        made.registration,
        vertices_mm=vertices,
        shape=np.zeros(300),
        expression=np.zeros(100),
        pose=np.zeros(15),
        translation_mm=np.zeros(3),
        distance_mm=np.zeros(v),
        landmark_error_mm=None,
    )
    quality = assess(scan_of(points, np.zeros((0, 3), np.int64)), registration, made.model)
    assert quality.verdict == "reject"
    assert any("hardly a face" in reason for reason in quality.reasons), quality.reasons


def test_nothing_near_is_not_measured_and_rejected(made: Made) -> None:
    away = replace(made, scan=scan_of(made.scan.vertices_mm + 1000, made.scan.faces))
    quality = away.assessed(validity=np.zeros(len(made.model.template_mm), bool))
    assert math.isnan(quality.scan_to_mesh_mm["face"]["median"])
    assert quality.verdict == "reject"
    assert quality.reasons[0] == "the scan shows 0.00 of the face, limit 0.25"


def test_a_bare_template_is_judged_too(made: Made) -> None:
    """Without basis and joints: the pose is the rotation alone, the identity is all beyond it."""
    v = len(made.model.template_mm)
    bare = replace(
        made.model,
        name="bare",
        shape_basis_mm=np.zeros((v, 3, 0)),
        expression_basis_mm=np.zeros((v, 3, 0)),
        pose_basis_mm=np.zeros((v, 3, 0)),
        joint_regressor=np.zeros((0, v)),
        weights=np.zeros((v, 0)),
        parents=np.zeros(0, np.int64),
    )
    rotation = rotation_matrices(torch.as_tensor(made.registration.pose[:3]).double())
    turned = made.model.template_mm @ rotation.numpy().T
    registration = replace(
        made.registration,
        model_digest=bare.digest,
        shape=np.zeros(300),
        pose=np.array([*made.registration.pose[:3], *np.zeros(12)]),
        vertices_mm=turned,
        translation_mm=np.zeros(3),
    )
    scan = scan_of(turned, bare.faces)
    quality = assess(scan, registration, bare)
    assert (quality.verdict, quality.flipped_triangles) == ("accept", 0)
    assert quality.beyond_model_mm < 1e-3


def test_another_model_is_refused(made: Made) -> None:
    with pytest.raises(ModelError, match="registered with model 0123"):
        made.assessed(model_digest="0123456789abcdef")


def test_wrong_thresholds_are_all_named() -> None:
    with pytest.raises(ValidationError) as raised:
        Gates(scan_to_mesh=[1, 2], coverage=0.5, relief=["a", 1])
    faults = [error["loc"] for error in raised.value.errors()]
    assert sorted(faults) == [("coverage",), ("relief", 0), ("scan_to_mesh",)]


def test_the_distance_is_to_the_surface_not_to_vertices(made: Made) -> None:
    nearest = SurfaceIndex(made.registration.vertices_mm, np.zeros((0, 3), np.int64))
    to_vertices = nearest.query(made.scan.vertices_mm[:2000]).distance
    assert np.median(to_vertices) > 0.5
    assert made.assessed().scan_to_mesh_mm["all"]["p95"] < 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics_are_numpys(dtype: type[np.floating[Any]]) -> None:
    rng = np.random.default_rng(0)
    for n in [*range(1, 45), 1000, 3001]:
        values = rng.exponential(size=n).astype(dtype)
        assert statistics(values) == {
            "median": float(np.median(values)),
            "mean": float(values.mean()),
            "p95": pytest.approx(float(np.percentile(values, 95)), rel=1e-6),
            "max": float(values.max()),
        }
    assert all(math.isnan(value) for value in statistics(values[:0]).values())
