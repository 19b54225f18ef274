"""Scans come out in millimetres, upright, clean and facing outwards; nothing else is changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import trimesh
import yaml

from pipeline.catalogue import catalogue
from pipeline.errors import FacefoldError, FormatError, UnitError
from pipeline.formats import format_of, read_scan
from pipeline.landmarks import landmark_format_of, read_landmarks, resolve
from pipeline.landmarks.schemes import OWN, scheme_of, to_68
from pipeline.normalise import clean, normalise, read_record
from pipeline.normalise.axes import check_axes
from pipeline.refusals import Code
from pipeline.registry import Axes, Limits, SourceRegistry, load_registry
from pipeline.registry.sections import Direction
from pipeline.types import Array, RawScan, Refusal
from pipeline.units import UNITS
from tests.normalise.pieces import grid, joined

UPRIGHT = Axes(up="+y", forward="+z")


def head() -> tuple[Array, Array]:
    """An ellipsoid of a head's size in millimetres: (V,3) and outward (F,3)."""
    sphere = trimesh.creation.icosphere(subdivisions=4)
    return np.asarray(sphere.vertices) * (75, 115, 100), np.asarray(sphere.faces)


def seven(vertices: Array) -> Array:
    """The landmarks of scheme fg7 on the head's surface, (7,3)."""
    places = [(-45, 30), (-16, 30), (16, 30), (45, 30), (0, -15), (-25, -45), (25, -45)]
    front = np.array([(x, y, 100 * np.sqrt(1 - (x / 75) ** 2 - (y / 115) ** 2)) for x, y in places])
    assert np.abs(front / (75, 115, 100)).max() < 1
    return front


def volume(vertices: Array, faces: Array) -> float:
    a, b, c = np.asarray(vertices, np.float64)[faces].transpose(1, 0, 2)
    return float(np.einsum("ni,ni->n", a, np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    "axes",
    [
        UPRIGHT,
        Axes(up="+z", forward="-y"),
        Axes(up="-x", forward="+y", left="-z"),
        Axes(up="+y", forward="+z", rotation_deg=({"x": -45}, {"y": -45})),
    ],
)
@pytest.mark.parametrize("declared", ["as it is", "auto"])
def test_millimetres_and_canonical_axes(unit: str, axes: Axes, declared: str) -> None:
    vertices, faces = head()
    landmarks = seven(vertices)
    to_file = axes.rotation() / UNITS[unit]
    raw = RawScan((vertices + 500) @ to_file, faces)
    scan = normalise(
        raw,
        scan_id="lab:a",
        unit=unit if declared == "as it is" else "auto",
        axes=axes,
        landmarks=(landmarks + 500) @ to_file,
        scheme="fg7",
    )
    np.testing.assert_allclose(scan.vertices_mm, vertices + 500, atol=1e-3)
    assert scan.landmarks_mm is not None
    np.testing.assert_allclose(scan.landmarks_mm, landmarks + 500, atol=1e-3)
    assert (scan.unit, scan.unit_factor_mm, scan.oriented) == (unit, UNITS[unit], True)
    # the file's coordinates follow from the scan's, and only the unit scales
    matrix = scan.source_to_canonical
    np.testing.assert_allclose(np.cbrt(np.linalg.det(matrix[:3, :3])), UNITS[unit])
    np.testing.assert_allclose(
        raw.vertices @ matrix[:3, :3].T + matrix[:3, 3], scan.vertices_mm, atol=1e-3
    )


def test_unknown_axes_keep_those_of_the_file() -> None:
    vertices, faces = head()
    scan = normalise(RawScan(vertices, faces), scan_id="a", unit="mm", axes=None)
    assert not scan.oriented and scan.landmarks_mm is None and scan.landmark_source is None
    np.testing.assert_array_equal(scan.source_to_canonical, np.eye(4))


def test_missing_landmarks_have_no_confidence() -> None:
    vertices, faces = head()
    landmarks = seven(vertices)
    landmarks[4] = np.nan
    scan = normalise(
        RawScan(vertices, faces), scan_id="a", unit="mm", axes=UPRIGHT, landmarks=landmarks
    )
    assert (scan.landmark_scheme, scan.landmark_source) == ("fg7", "file")
    assert scan.landmark_confidence is not None
    assert scan.landmark_confidence.tolist() == [1, 1, 1, 1, 0, 1, 1]


def test_a_wrong_unit_is_refused() -> None:
    vertices, faces = head()
    raw = RawScan(vertices / 1000, faces)
    with pytest.raises(UnitError, match=r"0\.0900 mm apart with unit mm.*likely in m$"):
        normalise(raw, scan_id="a", unit="mm", axes=None, landmarks=seven(vertices) / 1000)
    with pytest.raises(UnitError, match=r"largest extent 0\.22. mm with unit mm.*likely in m$"):
        normalise(raw, scan_id="a", unit="mm", axes=None)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("known", [[1, 2], [5, 6], [0, 1, 5], [4, 6]])
def test_any_two_landmarks_tell_the_unit(unit: str, known: list[int]) -> None:
    """Inner eye corners, mouth corners, one side of a face, nose and mouth; never the extent."""
    vertices, faces = head()
    landmarks = np.full((7, 3), np.nan)
    landmarks[known] = seven(vertices)[known]
    room = np.vstack([vertices, vertices * (6, 5, 4)])
    raw = RawScan(room / UNITS[unit], np.vstack([faces, faces + len(vertices)]))
    for declared in UNITS:
        given = {"unit": declared, "axes": None, "landmarks": landmarks / UNITS[unit]}
        if declared == unit:
            assert "an average face's" in normalise(raw, scan_id="a", **given).unit_evidence
            continue
        with pytest.raises(UnitError, match=f"with unit {declared}.*likely in {unit}$"):
            normalise(raw, scan_id="a", **given)


EVERY_AXES = [
    Axes(up=up, forward=forward)
    for up, forward in permutations(get_args(Direction), 2)
    if up[1] != forward[1]
]


def turned(degrees: Mapping[str, float]) -> Array:
    """(3,3): rotations about the canonical axes, one after the other."""
    from scipy.spatial.transform import Rotation

    result = np.eye(3)
    for axis, angle in degrees.items():
        result = Rotation.from_euler(axis, angle, degrees=True).as_matrix() @ result
    return result


@pytest.mark.parametrize("pose", [{}, {"x": 34}, {"x": 20, "y": 30}, {"y": -30}])
@pytest.mark.parametrize("true", [UPRIGHT, Axes(up="+z", forward="-y")])
def test_landmarks_tell_swapped_axes_and_name_the_likely_ones(
    true: Axes, pose: dict[str, float]
) -> None:
    """All 24 conventions, on upright heads and on those of sources that are not."""
    in_file = to_68("fg7", seven(head()[0])) @ turned(pose).T @ true.rotation()
    for axes in EVERY_AXES:
        if axes == true:
            check_axes("a", axes, in_file @ axes.rotation().T, 50.0)
            continue
        with pytest.raises(FormatError) as caught:
            check_axes("a", axes, in_file @ axes.rotation().T, 50.0)
        assert f"likely {{up: {true.up}, forward: {true.forward}}}" in str(caught.value)


def test_the_message_of_swapped_axes() -> None:
    vertices, faces = head()
    landmarks = seven(vertices)
    with pytest.raises(FormatError) as caught:
        axes = Axes(up="+y", forward="+x")
        raw = RawScan(vertices, faces)
        normalise(raw, scan_id="a", unit="mm", axes=axes, landmarks=landmarks)
    assert Refusal.of(caught.value).stage == "normalise"
    found = re.sub(r"turned \d\d°", "turned 9_°", str(caught.value))
    assert found == (
        "a: axes {up: +y, forward: +x}: its landmarks show a face turned 9_° from upright, limit "
        "50°; likely {up: +y, forward: +z}; where heads are turned so, raise limits.turn_deg or "
        "add axes.rotation_deg"
    )


def test_a_declared_rotation_is_kept_when_axes_are_swapped() -> None:
    vertices, faces = head()
    tilt = ({"x": -45}, {"y": -45})
    to_file = Axes(up="+y", forward="+z", rotation_deg=tilt).rotation()
    wrong = Axes(up="+z", forward="-y", rotation_deg=tilt)
    with pytest.raises(FormatError, match=r"likely {up: \+y, forward: \+z}"):
        raw = RawScan(vertices @ to_file, faces)
        landmarks = seven(vertices) @ to_file
        normalise(raw, scan_id="a", unit="mm", axes=wrong, landmarks=landmarks)


def test_a_tilted_head_in_the_nearest_axes_there_are() -> None:
    vertices, faces = head()
    to_file = turned({"x": 38, "y": 38})
    raw, landmarks = RawScan(vertices @ to_file, faces), seven(vertices) @ to_file
    with pytest.raises(FormatError, match=r"turned 5\d° from upright, limit 50°; where heads are"):
        normalise(raw, scan_id="a", unit="mm", axes=UPRIGHT, landmarks=landmarks)


def test_turned_heads_pass_where_the_limits_say_so() -> None:
    """A profile view and swapped axes look alike: only the source can tell them apart."""
    vertices, faces = head()
    to_file = turned({"y": 90})
    raw, landmarks = RawScan(vertices @ to_file, faces), seven(vertices) @ to_file
    limits = Limits(turned_deg={"YR_*": 110})
    given = {"scan_id": "a", "unit": "mm", "axes": UPRIGHT, "landmarks": landmarks}
    with pytest.raises(FormatError, match="limit 50°"):
        normalise(raw, **given, limits=limits.of("N"))
    assert normalise(raw, **given, limits=limits.of("YR_R90")).oriented
    assert normalise(raw, **given, limits=Limits(turn_deg=110).of("N")).oriented


def test_too_few_landmarks_do_not_judge_the_axes() -> None:
    vertices, faces = head()
    landmarks = seven(vertices)
    landmarks[4:] = np.nan  # the eyes alone lie on a line
    axes = Axes(up="+z", forward="+y")
    raw = RawScan(vertices, faces)
    assert normalise(raw, scan_id="a", unit="mm", axes=axes, landmarks=landmarks).oriented


@pytest.mark.parametrize("axes", [UPRIGHT, None])
def test_mirrored_scans_and_swapped_sides_are_refused(axes: Axes | None) -> None:
    vertices, faces = head()
    given = {"scan_id": "a", "unit": "mm", "axes": axes}
    swapped = seven(vertices)[[3, 2, 1, 0, 4, 6, 5]]
    for raw, landmarks in (
        (RawScan(vertices, faces), swapped),
        (RawScan(vertices * (-1, 1, 1), faces), seven(vertices) * (-1, 1, 1)),
        (RawScan(vertices * (1, 1, -1), faces), seven(vertices) * (1, 1, -1)),
    ):
        with pytest.raises(FormatError, match=r"swapped|mirror") as caught:
            normalise(raw, **given, landmarks=landmarks)
        assert Refusal.of(caught.value).stage == "landmarks"


@pytest.mark.parametrize("unit", ["mm", "auto"])
def test_a_wrong_order_is_named_before_the_size_that_follows_from_it(unit: str) -> None:
    """Mouth corners where eye corners belong are 50 mm apart, which no unit explains."""
    vertices, faces = head()
    shuffled = seven(vertices)[[5, 4, 1, 6, 2, 0, 3]]
    with pytest.raises(FormatError, match=r"in its order") as caught:
        normalise(RawScan(vertices, faces), scan_id="a", unit=unit, axes=None, landmarks=shuffled)
    refused = Refusal.of(caught.value)
    assert (refused.stage, refused.code) == ("landmarks", Code.LANDMARKS_ORDER)


def test_a_scale_rule_applies_once_before_the_unit() -> None:
    """Files in quarters of a metre: neither the vertices nor the landmarks know it twice."""
    vertices, faces = head()
    landmarks = seven(vertices)
    raw = RawScan(vertices / 250, faces)
    given = {"scan_id": "a", "axes": Axes(up="+z", forward="-y"), "scale": 0.25}
    to_file = given["axes"].rotation()
    raw, marks = RawScan(vertices @ to_file / 250, faces), landmarks @ to_file / 250
    scan = normalise(raw, unit="m", landmarks=marks, **given)
    np.testing.assert_allclose(scan.vertices_mm, vertices, atol=1e-3)
    assert scan.landmarks_mm is not None
    np.testing.assert_allclose(scan.landmarks_mm, landmarks, atol=1e-3)
    assert (scan.unit, scan.unit_factor_mm) == ("m", 1000)
    assert scan.unit_evidence.startswith("file × 0.25, declared m: outer eye corners 90.0 mm")
    # the raw file leads to the scan by the matrix alone: scale and unit, nothing else
    matrix = scan.source_to_canonical
    assert np.cbrt(np.linalg.det(matrix[:3, :3])) == pytest.approx(250)
    np.testing.assert_allclose(raw.vertices @ matrix[:3, :3].T, scan.vertices_mm, atol=1e-3)
    # the gates judge the scaled file: `auto` as well, with and without landmarks
    assert normalise(raw, unit="auto", landmarks=marks, **given).unit == "m"
    without = normalise(raw, unit="m", **given)
    assert without.unit_evidence.startswith("file × 0.25, declared m: largest extent 22")
    for wrong in ({"scale": 1.0}, {"scale": 0.0625}):
        with pytest.raises(UnitError, match="no unit makes that a face"):
            normalise(raw, unit="m", landmarks=marks, **{**given, **wrong})


def test_nothing_scales_without_a_rule() -> None:
    vertices, faces = head()
    for unit, mm in UNITS.items():
        for axes in (UPRIGHT, None, Axes(up="+y", forward="+z", rotation_deg=({"z": 17},))):
            scan = normalise(RawScan(vertices / mm, faces), scan_id="a", unit=unit, axes=axes)
            matrix = scan.source_to_canonical[:3, :3]
            np.testing.assert_allclose(matrix @ matrix.T, mm**2 * np.eye(3), rtol=1e-12, atol=1e-9)
            assert "×" not in scan.unit_evidence


def test_landmarks_of_another_frame_or_unit_are_refused() -> None:
    vertices, faces = head()
    moved = seven(vertices) + np.array((0, 0, 300))
    with pytest.raises(FormatError, match=r"half of its landmarks are more than .* mm away"):
        normalise(RawScan(vertices, faces), scan_id="a", unit="mm", axes=None, landmarks=moved)
    with pytest.raises(FormatError, match="landmarks are more than"):
        raw = RawScan(vertices / 1000, faces)
        normalise(raw, scan_id="a", unit="mm", axes=None, landmarks=seven(vertices))
    with pytest.raises(FormatError, match="all of its landmarks are missing"):
        nothing = np.full((7, 3), np.nan)
        normalise(RawScan(vertices, faces), scan_id="a", unit="mm", axes=None, landmarks=nothing)


def test_cleaning_removes_what_is_no_surface() -> None:
    vertices, faces = head()
    crumb = trimesh.creation.icosphere(subdivisions=1, radius=3.0)
    ear = trimesh.creation.icosphere(subdivisions=2, radius=30.0)
    shift = np.array((200, 0, 0))
    extra = np.vstack([crumb.vertices + shift, crumb.vertices - shift])
    n, m = len(vertices), len(crumb.vertices)
    dirty = np.vstack([vertices, extra, ear.vertices + shift[[1, 0, 2]], [[999.0, 999.0, 999.0]]])
    flat = [[0, 0, 1], [2, 2, 2]]
    bad = np.vstack(
        [
            *(faces, faces[:4, [1, 2, 0]], faces[:3, ::-1], flat),
            *(crumb.faces + n, crumb.faces + n + m, ear.faces + n + 2 * m),
        ]
    )
    cleaned = clean(dirty, bad)
    assert cleaned.left_out == {
        "faces_empty": 2,
        "faces_repeated": 4 + 3,
        "faces_clutter": 2 * len(crumb.faces),
        "vertices_unused": 2 * m + 1,
    }
    assert len(cleaned.vertices) == n + len(ear.vertices)
    assert len(cleaned.faces) == len(faces) + len(ear.faces)
    np.testing.assert_array_equal(cleaned.vertices[cleaned.faces[: len(faces)]], vertices[faces])


@pytest.mark.parametrize("offset", [(6500, 9500, 240), (665187, 5648349, 241), (0, 0, -3)])
@pytest.mark.parametrize("axes", [UPRIGHT, None, Axes(up="+z", forward="-y")])
def test_world_coordinates_lose_nothing(offset: tuple[float, float, float], axes: Axes) -> None:
    """Of surveys, in metres: each vertex and landmark lies where it does without the offset."""
    vertices, faces = head()
    to_file = (UPRIGHT if axes is None else axes).rotation() / 1000
    marks, moved = seven(vertices), np.array(offset)
    raw = RawScan(vertices @ to_file + moved, faces)
    given = {"scan_id": "a", "unit": "m", "axes": axes, "landmarks": marks @ to_file + moved}
    scan = normalise(raw, **given)
    assert np.abs(scan.vertices_mm).max() < 200, "centred"
    matrix = scan.source_to_canonical
    back = (scan.vertices_mm - matrix[:3, 3]) @ matrix[:3, :3] / 1000**2
    assert np.abs(back - raw.vertices).max() * 1000 < 0.001
    assert scan.landmarks_mm is not None
    apart = scan.vertices_mm[:7] - scan.landmarks_mm
    np.testing.assert_allclose(
        np.linalg.norm(apart, axis=1), np.linalg.norm(vertices[:7] - marks, axis=1), atol=1e-3
    )
    shift = matrix[:3, 3]
    np.testing.assert_array_equal(shift, np.round(shift))


def test_scans_near_the_origin_keep_their_frame() -> None:
    vertices, faces = head()
    for offset in (0.0, 700.0, -1500.0):
        scan = normalise(RawScan(vertices + offset, faces), scan_id="a", unit="mm", axes=None)
        np.testing.assert_array_equal(scan.source_to_canonical, np.eye(4))
        np.testing.assert_array_equal(scan.vertices_mm, np.float32(vertices + offset))


@pytest.mark.parametrize("points", [2, 60, 200], ids=["coarse", "as the face", "dense"])
@pytest.mark.parametrize("unit", ["mm", "auto"])
def test_a_table_larger_than_any_face_does_not_hide_the_unit(points: int, unit: str) -> None:
    vertices, faces = head()
    table, flat = grid(points, 900 / (points - 1))
    scene = joined((vertices, faces), (table - (450, 450, 130), flat))
    scan = normalise(RawScan(*scene), scan_id="a", unit=unit, axes=None)
    assert scan.unit == "mm"
    assert re.search(r"largest extent (of )?2\d\d mm", scan.unit_evidence)
    assert scan.left_out_share == 0


def test_what_is_too_large_as_a_whole_and_in_parts_names_the_clutter() -> None:
    vertices, faces = head()
    for scene in ((4 * vertices, faces), joined((4 * vertices, faces), (vertices * 6, faces))):
        with pytest.raises(UnitError) as caught:
            normalise(RawScan(*scene), scan_id="a", unit="mm", axes=None)
        assert "crop what is none" in str(caught.value) and "landmark" not in str(caught.value)
        assert caught.value.code == Code.SIZE and caught.value.figures["extent_mm"] > 800
    assert "in 2 large parts, with unit mm" in str(caught.value)
    # a face in another unit stays a wrong unit, however it is cut
    eye = trimesh.creation.icosphere(radius=12)
    scene = joined((vertices, faces), (eye.vertices + np.array((0, 0, 110)), eye.faces))
    with pytest.raises(UnitError, match="likely in mm"):
        normalise(RawScan(*scene), scan_id="a", unit="cm", axes=None)


def test_a_sources_limits_widen_what_landmarks_may_say() -> None:
    vertices, faces = head()
    for factor in (0.45, 0.6, 0.72):
        raw, marks = RawScan(factor * vertices, faces), factor * seven(vertices)
        given = {"scan_id": "a", "unit": "mm", "axes": None, "landmarks": marks}
        with pytest.raises(UnitError, match=r"times an average adult's; widen") as caught:
            normalise(raw, **given)
        assert caught.value.figures == {"outer_eye_mm": pytest.approx(90 * factor)}
        limits = Limits(outer_eye_mm=(90 * factor - 3, 105.0))
        assert normalise(raw, **given, limits=limits).unit == "mm"


def test_landmarks_of_no_scheme_are_only_to_lie_on_the_scan() -> None:
    vertices, faces = head()
    marks = seven(vertices)[[4, 0, 6, 2, 1]]
    given = {"scan_id": "a", "unit": "mm", "axes": UPRIGHT, "scheme": OWN}
    scan = normalise(RawScan(vertices, faces), landmarks=marks, **given)
    assert scan.landmark_scheme == OWN and scan.landmarks_mm is not None
    np.testing.assert_allclose(scan.landmarks_mm, marks, atol=1e-4)
    assert scan.unit_evidence.startswith("declared mm: largest extent")
    with pytest.raises(FormatError) as caught:
        normalise(RawScan(vertices, faces), landmarks=marks + np.array((0, 0, 300)), **given)
    assert caught.value.code == Code.LANDMARKS_APART
    assert caught.value.figures["median_distance_mm"] > 200


def test_a_triangle_soup_becomes_one_surface() -> None:
    vertices, faces = head()
    soup = vertices.astype(np.float32)[faces].reshape(-1, 3)
    scan = normalise(
        RawScan(soup, np.arange(len(soup)).reshape(-1, 3)), scan_id="a", unit="mm", axes=None
    )
    assert (len(scan.vertices_mm), len(scan.faces)) == (len(vertices), len(faces))
    assert volume(scan.vertices_mm, scan.faces) == pytest.approx(volume(vertices, faces), rel=1e-5)


@pytest.mark.parametrize("part", ["all", "half", "every third"])
@pytest.mark.parametrize("shape", ["head", "face"])
def test_surfaces_face_outwards_whatever_their_winding(part: str, shape: str) -> None:
    vertices, faces = head()
    if shape == "face":
        faces = faces[(vertices[faces][:, :, 2] > 30).all(axis=1)]
    turned = faces.copy()
    chosen = {
        "all": np.ones(len(faces), bool),
        "half": vertices[faces][:, 0, 0] > 20,
        "every third": np.arange(len(faces)) % 3 == 0,
    }[part]
    turned[chosen] = turned[chosen][:, ::-1]
    scan = normalise(RawScan(vertices, turned), scan_id="a", unit="mm", axes=UPRIGHT)
    outward = scan.vertices_mm / np.square((75, 115, 100))
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    cosine = (scan.normals * outward).sum(axis=1)
    assert cosine.min() > 0.9
    np.testing.assert_allclose(np.linalg.norm(scan.normals, axis=1), 1, atol=1e-5)


def test_point_clouds_get_outward_normals() -> None:
    vertices, _ = head()
    raw = RawScan(vertices, np.empty((0, 3)))
    scan = normalise(raw, scan_id="a", unit="mm", axes=UPRIGHT)
    outward = vertices / np.square((75, 115, 100))
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    assert len(scan.faces) == 0
    assert (scan.normals * outward).sum(axis=1).min() > 0.97


def test_surfaces_without_area_are_refused() -> None:
    line = np.stack([np.arange(300), np.zeros(300), np.zeros(300)], axis=1)
    with pytest.raises(FormatError, match="none of its 98 triangles has an area"):
        faces = np.arange(294).reshape(-1, 3)
        normalise(RawScan(line, faces), scan_id="a", unit="mm", axes=None)
    with pytest.raises(FormatError, match="no vertices"):
        empty = RawScan(np.empty((0, 3)), np.empty((0, 3)))
        normalise(empty, scan_id="a", unit="mm", axes=None)


@pytest.fixture
def source(tmp_path: Path) -> tuple[SourceRegistry, Path]:
    """A delivered source in centimetres, z up: three good scans and one of each fault."""
    axes = {"up": "+z", "forward": "-y"}
    data = {
        "id": "lab",
        "title": "Lab",
        "version": "1",
        "verified": True,
        "licence": {"name": "x", "url": "x", "redistribution": True, "commercial": True},
        "citation": "x",
        "access": "x",
        "metric": True,
        "scans": {"include": ["*.ply"], "name": r"(?P<subject>\w+)\.ply"},
        "format": "ply",
        "unit": "cm",
        "axes": axes,
        "landmarks": {"file": "{stem}.npy", "format": "npy", "scheme": "fg7", "required": True},
        "neutral": "all",
    }
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(data))
    root = tmp_path / "root"
    root.mkdir()
    vertices, faces = head()
    to_file = Axes.model_validate(axes).rotation() / 10
    for name in ("a", "b", "c", "metres", "truncated", "unmarked", "miscounted"):
        scale = 0.01 if name == "metres" else 1
        mesh = trimesh.Trimesh(vertices @ to_file * scale, faces, process=False)
        mesh.export(root / f"{name}.ply")
        if name != "unmarked":
            points = seven(vertices)[: 6 if name == "miscounted" else 7]
            np.save(root / f"{name}.npy", points @ to_file * scale)
    content = (root / "truncated.ply").read_bytes()
    (root / "truncated.ply").write_bytes(content[: len(content) // 2])
    return load_registry(tmp_path / "lab.yaml"), root


def test_errors_of_records_know_their_stage(source: tuple[SourceRegistry, Path]) -> None:
    registry, root = source
    stages = {}
    for record in catalogue(registry, root).records:
        try:
            scan = read_record(record, registry)
        except FacefoldError as error:
            stages[record.subject] = Refusal.of(error).stage
        else:
            assert scan.scan_id == record.scan_id and scan.landmark_scheme == "fg7"
            np.testing.assert_allclose(scan.vertices_mm, head()[0], atol=1e-3)
    assert stages == {
        "metres": "normalise",
        "truncated": "read",
        "unmarked": "landmarks",
        "miscounted": "landmarks",
    }


@pytest.mark.parametrize(
    ("file", "landmarks", "unit", "eyes_mm"),
    [
        ("flame_fitting/scan.obj", "flame_fitting/scan_lmks.npy", "m", 91.1),
        ("james/james.obj", "james/james.ljson", "mm", 95.2),
        ("scalismo_faces/01.stl", None, "mm", None),
        ("scalismo_faces/14.stl", None, "mm", None),
    ],
)
def test_real_scans_tell_their_unit(
    shared_data: Path, file: str, landmarks: str | None, unit: str, eyes_mm: float | None
) -> None:
    path = shared_data / "scans" / file
    raw, points, scheme = read_scan(path, format_of(path)), None, None
    if landmarks is not None:
        marked = shared_data / "scans" / landmarks
        found = read_landmarks(marked, landmark_format_of(marked))
        points, scheme = resolve(found, raw, marked), scheme_of(found).name
    scan = normalise(raw, scan_id=file, unit="auto", axes=None, landmarks=points, scheme=scheme)
    assert (scan.unit, scan.unit_factor_mm) == (unit, UNITS[unit])
    if eyes_mm is not None:
        assert f"outer eye corners {eyes_mm} mm apart" in scan.unit_evidence
    assert len(scan.faces) > 0.99 * len(raw.faces)
