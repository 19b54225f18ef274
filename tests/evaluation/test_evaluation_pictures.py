from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image
from scipy.spatial.transform import Rotation

from pipeline.errors import FacefoldError
from pipeline.evaluation.benchmark import AS_PUBLISHED, STRICT, Score
from pipeline.evaluation.crops import upright
from pipeline.evaluation.scoring.pictures import (
    HEAT,
    MODES,
    Curve,
    HeatMap,
    save_curve,
    save_heat_maps,
    to_show,
)
from pipeline.types import Array
from tests.evaluation.scenes import Scene, stand_in_scene


@pytest.fixture(scope="module")
def scene() -> Scene:
    return stand_in_scene()


def pixels(path: Path) -> Array:
    return np.asarray(Image.open(path).convert("RGB"), np.float64)


def rows_of(picture: Array, colour: str, column: int) -> Array:
    """Where a column of pixels has the colour."""
    return np.flatnonzero(np.abs(picture[:, column] - 255 * np.array(to_rgb(colour))).max(1) < 12)


def test_best_median_and_worst_are_shown_once_each() -> None:
    assert to_show([3.0, 1.0, 2.0, 9.0, 4.0]) == {"best": 1, "median": 0, "worst": 3}
    assert to_show([3.0, 1.0, np.inf]) == {"best": 1, "worst": 0}
    assert to_show([3.0]) == {"best": 0}
    assert to_show([np.nan]) == {}


def test_a_curve_is_the_share_of_all_distances_and_missing_ones_keep_it_low(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "curve.png"
    one = np.array([0.5, 0.5, 1.5, np.inf], np.float32)
    save_curve(path, {Curve("metric", STRICT): one}, 2.0)
    picture = pixels(path)
    # the axes' 0 and 100.6 % are .65 and 4.9 inches above the bottom of 5.4, at 160 pixels an inch
    for x, per_cent in ((1.2, 50), (1.98, 75)):
        column = round(160 * 9.6 * (0.075 + 0.60 * x / 2))
        row = 160 * (5.4 - 0.65 - 4.25 * per_cent / 100.6)
        assert np.median(rows_of(picture, MODES[0], column)) == pytest.approx(row, abs=2)


def test_curves_of_many_modes_have_room_in_the_legend(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    curves = {
        Curve(f"recipe $E_{i}$", variant, mean_head): rng.gamma(2, 0.4 + i / 20, 500)
        for i in range(9)
        for variant in (AS_PUBLISHED, STRICT)
        for mean_head in (False, True)
    }
    curves[Curve("nothing", STRICT)] = np.zeros(0)
    save_curve(tmp_path / "curve.png", curves, 4.0, "mm", "Nine recipes")
    picture = pixels(tmp_path / "curve.png")
    assert picture.shape[0] > 5.4 * 160  # it grew
    assert (picture[-10:] == 255).all()
    assert (picture[:, -10:] == 255).all()


def test_pictures_are_equal_bytes(tmp_path: Path, scene: Scene) -> None:
    curves = {Curve("aligned", AS_PUBLISHED): np.linspace(0, 3, 50)}
    row = HeatMap("a", score_of(scene, np.zeros(len(scene.vertices_mm))))
    for name in ("one", "other"):
        save_curve(tmp_path / f"{name}.png", curves, 8.0)
        save_heat_maps(tmp_path / f"{name}_map.png", [row], 2.0)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
    assert (tmp_path / "one_map.png").read_bytes() == (tmp_path / "other_map.png").read_bytes()
    assert b"matplotlib" not in (tmp_path / "one.png").read_bytes().lower()


def score_of(scene: Scene, distances: Array, turn: Array | None = None) -> Score:
    """The scene's scan, or the same turned, in the pose that its seven points say."""
    turned = np.eye(3) if turn is None else turn
    return Score(
        "metric",
        STRICT,
        distances.astype(np.float32),
        vertices_mm=scene.vertices_mm @ turned.T,
        faces=scene.faces,
        upright=upright(scene.seven_mm @ turned.T),
    )


def share_of(picture: Array, level: float) -> float:
    """How much of a picture has the colour of a distance of this share of the limit."""
    colour = 255 * np.array(colormaps[HEAT](level)[:3])
    hue = picture / np.maximum(picture.sum(2, keepdims=True), 1)  # shading changes no hue
    return float((np.abs(hue - colour / colour.sum()).max(2) < 0.03).mean())


def test_a_truth_is_painted_by_its_distances_in_front_view(tmp_path: Path, scene: Scene) -> None:
    to_left = upright(scene.seven_mm)[0]
    left = scene.vertices_mm @ to_left > (scene.seven_mm @ to_left).mean()
    row = HeatMap("half", score_of(scene, np.where(left, 5.0, 0.0)))
    save_heat_maps(tmp_path / "maps.png", [row], 2.0, "mm", "Halves")
    picture = pixels(tmp_path / "maps.png")[:-80]
    front = picture[:, : picture.shape[1] // 2]
    middle = front.shape[1] // 2
    # the subject's left is on the right in a picture from the front
    assert share_of(front[:, middle:], 1.0) > 0.3 > 0.1 > share_of(front[:, middle:], 0.0)
    assert share_of(front[:, :middle], 0.0) > 0.3 > 0.1 > share_of(front[:, :middle], 1.0)


def test_pose_and_winding_of_a_truth_do_not_matter(tmp_path: Path, scene: Scene) -> None:
    distances = np.linalg.norm(scene.vertices_mm - scene.seven_mm[4], axis=1) / 50
    turn = Rotation.from_rotvec([2.0, -1.0, 0.7]).as_matrix()
    plain, turned = score_of(scene, distances), score_of(scene, distances, turn)
    inwards = Score(
        **{**vars(turned), "faces": turned.faces[:, ::-1] if turned.faces is not None else None}
    )
    for name, score in (("plain", plain), ("turned", turned), ("inwards", inwards)):
        save_heat_maps(tmp_path / f"{name}.png", [HeatMap("x", score)], 2.0)
    expected = pixels(tmp_path / "plain.png")
    for name in ("turned", "inwards"):
        assert np.abs(pixels(tmp_path / f"{name}.png") - expected).mean() < 0.2


def test_a_mean_head_beside_and_points_without_triangles(tmp_path: Path, scene: Scene) -> None:
    mesh = score_of(scene, np.full(len(scene.vertices_mm), np.nan))
    points = Score(
        "metric", STRICT, np.ones(500, np.float32), vertices_mm=scene.vertices_mm[::17][:500]
    )
    save_heat_maps(tmp_path / "alone.png", [HeatMap("x", mesh)], 2.0)
    save_heat_maps(tmp_path / "both.png", [HeatMap("x", mesh, points)], 2.0)
    alone, both = pixels(tmp_path / "alone.png"), pixels(tmp_path / "both.png")
    assert both.shape[1] > 1.8 * alone.shape[1]
    assert share_of(both[:-80, both.shape[1] // 2 :], 0.5) > 0.05
    grey = (np.ptp(alone[:-80], axis=2) == 0) & (alone[:-80].max(2) < 250)
    assert grey.mean() > 0.3  # nothing is known of the distances


def test_what_cannot_be_drawn_or_written_is_said(tmp_path: Path) -> None:
    bare = Score("metric", STRICT, np.ones(3, np.float32))
    with pytest.raises(ValueError, match="no vertices_mm"):
        save_heat_maps(tmp_path / "x.png", [HeatMap("x", bare)], 2.0)
    (tmp_path / "file").write_text("")
    with pytest.raises(FacefoldError, match=r"curve\.png: the picture cannot be written"):
        save_curve(tmp_path / "file" / "curve.png", {}, 2.0)


def test_upright_is_the_canonical_frame_for_seven_points_of_any_pose(scene: Scene) -> None:
    canonical = scene.seven_m("truth") * 1000
    tilt = Rotation.from_matrix(upright(canonical)).magnitude()
    assert np.degrees(tilt) < 8
    turn = Rotation.from_rotvec([-1.0, 2.2, 0.4]).as_matrix()
    assert np.allclose(upright(canonical @ turn.T + 300) @ turn, upright(canonical))
