"""Cameras of photos as sources have them: their files are read, and the true places found again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from sampled_cameras import random_camera

from pipeline.flame.stand_in import stand_in
from pipeline.formats import read_scan
from pipeline.landmarks import read_landmarks
from pipeline.synthetic.delivery import Cast, Delivery
from pipeline.synthetic.frames import write_scan as write_frame
from pipeline.synthetic.range_images import photo_camera
from pipeline.synthetic.range_images import write_scan as write_range_scan
from pipeline.synthetic.truth import load_truth
from pipeline.types import Array
from pipeline.views.crops import crop_224
from pipeline.views.drift import refuse_drift
from pipeline.views.photo_cameras import LANDMARK_SHARE, camera_of_grid, camera_of_landmarks
from pipeline.views.photos import read_photo
from pipeline.views.raycasting import prepare


@cache
def cast() -> Cast:
    return Cast.of(stand_in(), 3)


def landmarks_of(vertices: Array) -> Array:
    assert cast().model.landmarks is not None
    return cast().model.landmarks.positions_68(vertices, cast().model.faces)


def test_a_photo_beside_a_range_image(tmp_path: Path) -> None:
    delivery = Delivery(tmp_path, "synth_range", 3, 2)
    stem = write_range_scan(cast(), delivery, 0).removesuffix(".abs.gz")
    raw = read_scan(delivery.root / f"{stem}.abs.gz", "abs.gz")
    picture = read_photo(delivery.root / f"{stem.replace('range', 'photo')}.png")
    assert raw.pixels is not None and raw.grid is not None
    found = camera_of_grid(raw.vertices, raw.pixels, raw.grid, *picture.shape[:2])
    truth = load_truth(tmp_path, "synth_range", stem).vertices_file
    marks = landmarks_of(truth)
    off = found.camera.project(marks) - photo_camera().project(marks)
    assert np.linalg.norm(off, axis=1).max() < 0.05
    image, crop = crop_224(picture, found.camera.project(marks), found.camera)
    drift = refuse_drift(image, crop, prepare(truth, cast().model.faces), marks)
    assert drift is None or np.hypot(drift.columns_px, drift.rows_px) <= 2


@pytest.mark.parametrize("number", range(4))
def test_a_photo_with_landmarks(tmp_path: Path, number: int) -> None:
    delivery = Delivery(tmp_path, "synth_ply", 3, 3, 1000.0)
    path = delivery.root / write_frame(cast(), delivery, number, 1)
    pixels = read_landmarks(path.with_suffix(".pts"), "pts").pixels
    picture = read_photo(path.with_suffix(".jpg"))
    stem = path.relative_to(delivery.root).with_suffix("").as_posix()
    marks = landmarks_of(load_truth(tmp_path, "synth_ply", stem).vertices_file * 1000)
    assert pixels is not None
    found = camera_of_landmarks(marks, pixels, "ibug68", *picture.shape[:2])
    eyes = np.linalg.norm(pixels[36] - pixels[45])
    assert np.nanmedian(found.residual_px) < LANDMARK_SHARE / 4 * eyes


def ict_landmarks(shared_data: Path) -> Iterator[Array]:
    """(68,3) mm of one face of the ICT model after another, with an expression."""
    ict = np.load(shared_data / "ict" / "ict_facekit_light.npz")
    at, rng = ict["landmarks68"], np.random.default_rng(0)
    mean, modes, expressions = (
        10.0 * ict[name][..., at, :].astype(np.float64)
        for name in ("neutral", "identity_modes", "expression_modes")
    )
    while True:
        does = rng.uniform(0, 1) * expressions[rng.integers(len(expressions))]
        face = mean + np.tensordot(rng.standard_normal(len(modes)), modes, 1) + does
        yield face - mean.mean(axis=0) + [0, -30, 60]


def test_faces_of_the_ict_model(shared_data: Path) -> None:
    rng, faces = np.random.default_rng(5), ict_landmarks(shared_data)
    off, eyes_px = [], []
    for _ in range(20):
        marks, true = next(faces), random_camera(rng)
        seen = true.project(marks)
        found = camera_of_landmarks(marks, seen, "ibug68", 1000, 1000)
        np.testing.assert_allclose(found.camera.project(marks), seen, atol=1e-3)
        noisy = seen + 2 * rng.standard_normal((68, 2))
        found = camera_of_landmarks(marks, noisy, "ibug68", 1000, 1000)
        off.append(np.median(np.linalg.norm(found.camera.project(marks)[17:] - seen[17:], axis=1)))
        eyes_px.append(np.linalg.norm(seen[36] - seen[45]))
    assert np.median(eyes_px) > 100
    assert np.median(off) < 0.8
