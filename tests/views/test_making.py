"""Views of a head whose registration is exact: what pictures show lies where cameras say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.refusals import Code
from pipeline.registry.views import Views
from pipeline.types import Array, PhotoFile, RawScan
from pipeline.views.camera import Camera
from pipeline.views.crops import ARCFACE_POINTS, five_points
from pipeline.views.making import Refused, make_views, names_of, seed_of
from pipeline.views.scene import RegisteredScan
from pipeline.views.view import View
from tests.views.heads import (
    MARKED,
    green_dots,
    head,
    landmarks_mm,
    model,
    photo_of,
    range_image,
    registered,
)
from tests.views.sampled_cameras import angle_deg, looking_at

FRONT = {"yaw_deg": (-20, 20), "pitch_deg": (-15, 15), "lights": "studio", "backgrounds": "grey"}


def views_of(
    scan: RegisteredScan, *photos: PhotoFile, seed: int = 0, **section: object
) -> tuple[list[View], list[Refused]]:
    return make_views(scan, photos, Views.model_validate(section), model(), seed)


def camera_of(view: View) -> Camera:
    return Camera(view.camera_matrix_px, view.canonical_to_camera, 224, 224)


def check(view: View, reach_px: float = 0.5) -> None:
    """Where the picture shows the dots of the head, the view has its landmarks."""
    seen = np.array(MARKED)[view.landmark_seen[list(MARKED)]]
    assert len(seen) >= 3, view.name
    near = view.landmarks_px[seen].astype(np.float64)
    dots = green_dots(view.image, near, 6.0)
    off = np.linalg.norm(dots - near, axis=1)
    assert np.nanmedian(off) < reach_px, f"{view.name}: {off}"
    projected = camera_of(view).project(landmarks_mm())
    assert np.abs(projected - view.landmarks_px).max() < 0.5 or view.facts["kind"] != "photo"


@pytest.mark.parametrize("focal", [{}, {"focal_px": (900, 1500)}], ids=["at once", "cropped"])
def test_renders_show_landmarks_where_they_are_stored(focal: dict[str, tuple[int, int]]) -> None:
    views, refused = views_of(head(), renders=4, **FRONT, **focal)
    assert [view.name for view in views] == ["render0", "render1", "render2", "render3"]
    assert refused == []
    for view in views:
        check(view)
        assert view.facts["kind"] == "render" and view.facts["camera"] == "sampled"
        assert np.abs(camera_of(view).project(landmarks_mm()) - view.landmarks_px).max() < 0.01
        assert view.parts.any(axis=(1, 2)).all()
        red, _, blue = view.image[view.parts[7]].mean(axis=0)  # skin, before a grey wall
        assert red - blue > 30
        assert (view.shading[view.parts.any(axis=0)] > 0).all()


def test_aligned_pictures_show_the_five_points_of_arcface() -> None:
    for focal in ({}, {"focal_px": (1200, 1200)}):
        views, _ = views_of(head(), renders=2, **{**FRONT, "yaw_deg": (0, 0)}, **focal)
        for view in views:
            wanted = ARCFACE_POINTS[2:]  # nose and mouth corners are dots
            off = green_dots(view.aligned, wanted, 8.0) - wanted
            assert np.linalg.norm(off, axis=1).max() < 4.0  # a similarity fits five points
            assert view.aligned.any(axis=2).all()  # no black border


def test_angles_are_of_the_head_wherever_it_looks() -> None:
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("yx", [70, 20], degrees=True).as_matrix()
    turned[:3, 3] = 30, -500, 80
    section = {**FRONT, "yaw_deg": (10, 12), "pitch_deg": (-6, -5), "roll_deg": (3, 4)}
    straight, _ = views_of(head(), renders=2, **section)
    elsewhere, _ = views_of(head(turned), renders=2, **section)
    for before, after in zip(straight, elsewhere, strict=True):
        for name, (low, high) in (("yaw_deg", (10, 12)), ("pitch_deg", (-6, -5))):
            assert low - 0.01 <= after.facts[name] <= high + 0.01
        assert after.facts["distance_mm"] == pytest.approx(before.facts["distance_mm"], abs=0.05)
        assert np.abs(after.landmarks_px - before.landmarks_px).max() < 0.1
        assert np.abs(after.image.astype(int) - before.image).mean() < 1


def test_a_scan_without_colours_or_with_none_wanted_is_clay() -> None:
    plain = head()
    bare = replace(plain, raw=RawScan(plain.raw.vertices, plain.raw.faces))
    [without], _ = views_of(bare, renders=1)
    [unwanted], _ = views_of(plain, renders=1, colours=False)
    assert without.facts["kind"] == unwanted.facts["kind"] == "shaded"
    assert without.name == "render0"
    assert np.array_equal(without.image, unwanted.image)


def test_the_same_arguments_give_the_same_bytes() -> None:
    scan = head()
    first, second = (views_of(scan, renders=2, seed=3)[0] for _ in range(2))
    alone = views_of(scan, renders=1, seed=3)[0]
    for one, other in [*zip(first, second, strict=True), (first[0], alone[0])]:
        for name in ("image", "aligned", "shading", "parts", "landmarks_px", "vertex_seen"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
        assert json.dumps(one.facts) == json.dumps(other.facts)
    another = views_of(scan, renders=1, seed=4)[0]
    assert another[0].facts["yaw_deg"] != first[0].facts["yaw_deg"]
    assert seed_of(3, "lab:p1", "render0") == first[0].facts["seed"]
    assert len({seed_of(s, i, n) for s in (0, 1) for i in "ab" for n in "cd"}) == 8


PORTRAIT = looking_at(900, 1400, 500, 400, yaw_deg=12, pitch_deg=-5, roll_deg=4)


def test_a_photo_on_the_grid_of_a_range_image(tmp_path: Path) -> None:
    grid = looking_at(900, 700, 250, 200, yaw_deg=12, pitch_deg=-5, roll_deg=4)
    path = photo_of(head(), PORTRAIT, tmp_path / "photo.png")
    scan = range_image(grid)
    [view], refused = views_of(scan, PhotoFile(path, "grid"), photos=[])
    assert refused == []
    check(view)
    assert angle_deg(camera_of(view), PORTRAIT) < 0.3
    facts = view.facts
    assert (facts["kind"], facts["camera"], facts["image_path"]) == ("photo", "grid", path)
    assert facts["seed"] is facts["lights"] is facts["background"] is None
    assert facts["camera_residual_px"] < 0.5
    assert facts["yaw_deg"] == pytest.approx(12, abs=1)


def pts(path: Path, pixels: Array) -> Path:
    rows = "\n".join(f"{x:.2f} {y:.2f}" for x, y in pixels + 1)
    path.write_text(f"version: 1\nn_points: {len(pixels)}\n{{\n{rows}\n}}\n")
    return path


def marked_photo(tmp_path: Path, pixels: Array | None = None) -> PhotoFile:
    path = photo_of(head(), PORTRAIT, tmp_path / "photo.png")
    seen = PORTRAIT.project(landmarks_mm()) if pixels is None else pixels
    marks = pts(tmp_path / "photo.pts", seen)
    return PhotoFile(path, "landmarks", marks, "pts", "ibug68")


def test_a_photo_with_landmarks(tmp_path: Path) -> None:
    [view], refused = views_of(head(), marked_photo(tmp_path))
    assert refused == []
    check(view, 0.7)
    assert angle_deg(camera_of(view), PORTRAIT) < 0.5
    assert view.facts["camera_residual_px"] < 0.2


def test_a_photo_of_another_face_is_refused_and_the_others_are_made(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(100, 400, (68, 2))
    photo = marked_photo(tmp_path, noise)
    views, refused = views_of(head(), photo, renders=1, **FRONT)
    assert [view.name for view in views] == ["render0"]
    [lost] = refused
    assert (lost.name, lost.path) == ("photo0", photo.path)
    assert (lost.refusal.stage, lost.refusal.code) == ("views", Code.CAMERA_ERROR)
    assert lost.refusal.figures["share"] > 0.08


def calibrated(tmp_path: Path, camera: Camera) -> PhotoFile:
    """A photo of the head with FaceScape's kind of calibration, in the scan's own frame."""
    path = photo_of(head(), camera, tmp_path / "3.png")
    said = {
        "3_K": camera.matrix_px.tolist(),
        "3_Rt": camera.canonical_to_camera[:3].tolist(),
        "3_height": camera.height,
        "3_width": camera.width,
        "3_distortion": [0.0] * 5,
        "3_valid": True,
    }
    file = tmp_path / "params.json"
    file.write_text(json.dumps(said))
    calibration = {"calibration_path": file, "calibration_format": "params.json"}
    return PhotoFile(path, "calibration", calibration_camera=3, **calibration)


def test_a_photo_of_a_calibrated_camera(tmp_path: Path) -> None:
    on_its_side = looking_at(700, 900, 400, 600, yaw_deg=-15)
    quarter = np.eye(4)
    quarter[:2, :2] = [[0, -1], [1, 0]]
    turned = quarter @ on_its_side.canonical_to_camera
    on_its_side = replace(on_its_side, canonical_to_camera=turned)
    [view], refused = views_of(head(), calibrated(tmp_path, on_its_side))
    assert refused == []
    check(view)
    assert view.facts["camera_residual_px"] is None
    marks = view.landmarks_px
    assert marks[8, 1] > marks[27, 1] + 40  # the chin below the nose: it was turned upright
    assert abs(view.facts["roll_deg"]) < 5 and view.facts["yaw_deg"] == pytest.approx(-15, abs=1)


def refusal(refused: list[Refused]) -> Code:
    [lost] = refused
    assert lost.refusal.stage == "views"
    return lost.refusal.code


def test_a_camera_behind_the_head_and_one_that_cuts_the_face(tmp_path: Path) -> None:
    behind = looking_at(700, 900, 400, 400, yaw_deg=170)
    _, refused = views_of(head(), calibrated(tmp_path, behind))
    assert refusal(refused) is Code.OUT_OF_PICTURE
    assert "behind the head" in refused[0].refusal.reason
    cut = looking_at(700, 900, 400, 400, target_mm=(150.0, -30.0, 60.0))
    _, refused = views_of(head(), calibrated(tmp_path, cut))
    assert refusal(refused) is Code.OUT_OF_PICTURE
    assert 0 < refused[0].refusal.figures["inside"] < 0.75


def test_nothing_is_seen_where_a_photo_ends(tmp_path: Path) -> None:
    edge = looking_at(700, 900, 400, 400, target_mm=(115.0, -30.0, 60.0))
    [view], refused = views_of(head(), calibrated(tmp_path, edge))
    assert refused == []
    black = ~view.image.any(axis=2)
    first = int(np.flatnonzero(~black.any(axis=0)).min())
    assert first > 30  # columns that the photo does not have
    assert (view.shading[:, : first - 2] > 0).sum() > 300  # the head is there
    assert not view.parts[:, :, : first - 2].any()
    assert view.parts[:, :, first + 2 :].any()
    beyond = view.landmarks_px[:, 0] < first - 2
    assert beyond.any() and not view.landmark_seen[beyond].any()
    whole = looking_at(700, 900, 400, 400, target_mm=(0.0, -30.0, 60.0))
    [whole_view], _ = views_of(head(), calibrated(tmp_path, whole))
    assert view.vertex_seen.sum() < whole_view.vertex_seen.sum()


def test_photos_that_cannot_be_read(tmp_path: Path) -> None:
    photo = marked_photo(tmp_path)
    whole = photo.path.read_bytes()
    photo.path.write_bytes(whole[:2000])
    assert refusal(views_of(head(), photo)[1]) is Code.DAMAGED
    photo.path.write_bytes(whole)
    photo.landmark_path.unlink()  # type: ignore[union-attr]
    assert refusal(views_of(head(), photo)[1]) is Code.LANDMARKS_UNREADABLE
    photo.path.unlink()
    assert refusal(views_of(head(), photo)[1]) is Code.UNREADABLE
    grid = PhotoFile(photo_of(head(), PORTRAIT, tmp_path / "photo.png"), "grid")
    assert refusal(views_of(head(), grid)[1]) is Code.CAMERA_OPEN


def test_points_without_triangles_have_photos_and_no_renders(tmp_path: Path) -> None:
    whole = head()
    cloud = replace(whole, raw=RawScan(whole.raw.vertices, np.empty((0, 3), np.int64)))
    views, refused = views_of(cloud, marked_photo(tmp_path), renders=1)
    assert [view.name for view in views] == ["photo0"]
    assert refusal(refused) is Code.NO_SURFACE


def covered() -> RegisteredScan:
    """The head behind a plate that hides all but the forehead."""
    raw = head().raw
    corners = np.array([[-90, 20, 130], [90, 20, 130], [90, -120, 130], [-90, -120, 130.0]])
    n = len(raw.vertices)
    plate = np.array([[0, 1, 2], [0, 2, 3]]) + n
    assert raw.colours is not None
    return registered(
        RawScan(
            np.concatenate([raw.vertices, corners]),
            np.concatenate([raw.faces, plate]),
            np.concatenate([raw.colours, np.full((4, 3), 80, np.uint8)]),
        )
    )


def test_a_face_that_the_scan_hides_is_refused(tmp_path: Path) -> None:
    _, refused = views_of(covered(), marked_photo(tmp_path), renders=1, **FRONT)
    assert [lost.refusal.code for lost in refused] == [Code.FACE_HIDDEN] * 2
    assert refused[0].refusal.figures["hidden"] > 0.5


def test_a_texture_that_cannot_be_read_takes_the_renders_alone(tmp_path: Path) -> None:
    raw = head().raw
    uv = np.zeros((len(raw.faces), 3, 2), np.float32)
    image = tmp_path / "texture.png"
    image.write_bytes(b"no image")
    painted = registered(RawScan(raw.vertices, raw.faces, uv=uv, texture_path=image))
    views, refused = views_of(painted, marked_photo(tmp_path), renders=1)
    assert [view.name for view in views] == ["photo0"]
    assert refusal(refused) is Code.NOT_THIS_FORMAT
    assert len(views_of(painted, renders=1, colours=False)[0]) == 1


def test_names_are_those_that_were_asked_for() -> None:
    photos = [PhotoFile(Path("a.png"), "grid")] * 2
    assert names_of(photos, Views(renders=1)) == ["photo0", "photo1", "render0"]
    assert names_of((), Views()) == []


def test_five_points_of_a_view_are_those_of_deep3d() -> None:
    """The crop shows them where Deep3D's mean face has them, whatever the distance."""
    views, _ = views_of(head(), renders=3, **{**FRONT, "yaw_deg": (0, 0), "pitch_deg": (0, 0)})
    for view in views:
        five = five_points(view.landmarks_px)
        assert np.abs(five.mean(axis=0) - [112.5, 118]).max() < 8
