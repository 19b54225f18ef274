from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.errors import FacefoldError
from pipeline.evaluation.image_points import (
    errors_percent,
    off_as_a_whole,
    read_points,
    weak_perspective,
)
from pipeline.landmarks.check import average_face
from pipeline.types import Array


def test_errors_are_relative_to_the_true_points_box() -> None:
    truth = np.zeros((2, 68, 2))
    truth[0, :34], truth[1, :34] = [40.0, 90.0], [80.0, 20.0]
    errors = errors_percent(truth + np.array([3.0, 4.0]), truth)
    np.testing.assert_allclose(errors[0], 100 * 5 / 60)
    np.testing.assert_allclose(errors[1], 100 * 5 / 40)


def test_what_fits_far_better_otherwise_is_named_and_noise_is_not() -> None:
    truth = 2 * average_face()[0][None, :, :2] * [1, -1] + [225.0, 225.0]
    rng = np.random.default_rng(1)
    for noise in (1.0, 10.0, 40.0):
        assert off_as_a_whole(truth + rng.normal(0, noise, truth.shape), truth, {}) == []
    [finding] = off_as_a_whole(truth * [1, -1], truth, {"of a made frame": truth + 100})
    assert finding.kind == "image_points"
    assert "y upwards" in finding.said
    [finding] = off_as_a_whole(truth / 7 + 3, truth, {"of a made frame": truth})
    assert "of a made frame" in finding.said


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_head_lies_as_the_best_camera_sees_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = average_face()[0]
    turn = Rotation.from_euler("xyz", [180, *rng.uniform(-80, 80, 2)], degrees=True)
    image = 2.3 * turn.apply(points)[:, :2] + [200, 180]
    np.testing.assert_allclose(weak_perspective(points, image), image, atol=1e-6)
    noisy = image + rng.normal(0, 3, image.shape)
    left = np.square(weak_perspective(points, noisy) - noisy).sum()
    assert left <= np.square(image - noisy).sum()


@pytest.mark.parametrize("suffix", [".npy", ".txt"])
def test_points_are_read_in_any_usual_shape(tmp_path: Path, suffix: str) -> None:
    points = np.random.default_rng(0).uniform(0, 450, (68, 3))
    path = tmp_path / f"a{suffix}"
    shapes = [points, points[:, :2], points.T, points[:, :2].T]
    if suffix == ".npy":
        shapes += [points[None], points.T[None].astype(np.float32)]
    for shape in shapes:
        if suffix == ".npy":
            np.save(path, shape)
        else:
            np.savetxt(path, shape)
        np.testing.assert_allclose(read_points(path), points[:, :2], rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.zeros((67, 2)), r"shape \(67, 2\), expected \(68, 2\)"),
        (np.full((68, 2), np.nan), "68 of 68 points are not finite"),
        (np.array(["a"] * 68), "save real numbers"),
    ],
)
def test_bad_points_are_refused(tmp_path: Path, content: Array, said: str) -> None:
    np.save(tmp_path / "a.npy", content)
    with pytest.raises(FacefoldError, match=said):
        read_points(tmp_path / "a.npy")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((68, 2)))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:500])
    with pytest.raises(FacefoldError, match="not a whole plain array"):
        read_points(tmp_path / "a.npy")
    (tmp_path / "a.txt").write_text("1 2\n3\n")
    with pytest.raises(FacefoldError, match="rows of 1 to 2 values"):
        read_points(tmp_path / "a.txt")
