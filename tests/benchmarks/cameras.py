"""How near cameras from landmarks and pixels come to the true ones, against OpenCV and DLT.

    python tests/benchmarks/cameras.py [--quick] [--json]

Faces of the ICT model (`../shared/data/ict`; without it the stand-in's) are seen by cameras 400 to
2,500 mm off, turned up to 60° sideways, 25° up and 30° in the picture, at 1.7 pixels a millimetre:
outer eye corners are 150 apart. Normal noise is added to the 51 landmarks within the contour. The
peers: the direct linear transformation (Hartley and Zisserman, 2004, algorithm 7.1), which also
fits the principal point; and if it is installed (`pip install opencv-python-headless`)
`cv2.solvePnP`, which has to be given the focal length. Errors are medians over the cameras: angle,
how far the landmarks are from where the true camera sees them, and the logarithm of the ratio of
focal lengths. Times are the processor's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.errors import FacefoldError
from pipeline.types import Array
from pipeline.views.calibrations import Lens, decomposed, straightened
from pipeline.views.camera import Camera
from pipeline.views.camera_fit import fit_camera
from pipeline.views.crops import align_112, crop_224, shrunk

sys.path.append(str(Path(__file__).parents[1] / "views"))
from sampled_cameras import looking_at, random_camera, stand_in_landmarks

NOISE_PX = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
INNER = slice(17, 68)
Fit = Callable[[Array, Array, Camera], Camera]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20 cameras instead of 200")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    rows = list(accuracy(20 if arguments.quick else 200))
    times = costs(3 if arguments.quick else 11)
    if arguments.json:
        print(json.dumps({"accuracy": rows, "milliseconds": times}))
        return
    names = ("noise_px", "fit", "angle_deg", "landmarks_px", "log_focal", "failed", "ms")
    print("".join(f"{name:>18}" if name == "fit" else f"{name:>14}" for name in names))
    for row in rows:
        shown = (f"{row[n]:>18}" if n == "fit" else f"{row[n]:14.4f}" for n in names)
        print("".join(shown))
    for name, ms in times.items():
        print(f"{name:48}{ms:10.1f} ms")


def accuracy(n: int) -> Iterator[dict[str, Any]]:
    """One row for each noise and each way to fit."""
    for noise in NOISE_PX:
        cases = list(sampled(n, noise))
        for name, fit in fits().items():
            errors, failed, seconds = [], 0, 0.0
            for points, pixels, true in cases:
                start = time.process_time()
                try:
                    found = fit(points, pixels, true)
                except (FacefoldError, np.linalg.LinAlgError):
                    failed += 1
                    continue
                finally:
                    seconds += time.process_time() - start
                errors.append(apart(found, true, points))
            angle, landmarks, focal = np.nanmedian(errors, axis=0).tolist()
            yield {
                "noise_px": noise,
                "fit": name,
                "angle_deg": angle,
                "landmarks_px": landmarks,
                "log_focal": focal,
                "failed": failed / n,
                "ms": 1e3 * seconds / n,
            }


def sampled(n: int, noise_px: float) -> Iterator[tuple[Array, Array, Camera]]:
    """Landmarks (51,3), their pixels with noise, and the camera; the same for every noise."""
    rng, noises = np.random.default_rng(0), np.random.default_rng(1)
    faces = ict_faces(rng)
    for _ in range(n):
        points = next(faces)[INNER]
        camera = random_camera(rng)
        yield points, camera.project(points) + noise_px * noises.standard_normal((51, 2)), camera


def ict_faces(rng: np.random.Generator) -> Iterator[Array]:
    """(68,3) mm landmarks of one face after another."""
    folder = os.environ.get("FACEFOLD_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
    file = Path(folder) / "ict" / "ict_facekit_light.npz"
    if not file.is_file():
        while True:
            yield stand_in_landmarks()
    ict = np.load(file)
    at = ict["landmarks68"]
    mean, modes, expressions = (
        10.0 * ict[name][..., at, :] for name in ("neutral", "identity_modes", "expression_modes")
    )
    middle = mean.mean(axis=0) - stand_in_landmarks().mean(axis=0)
    while True:
        who, does = rng.standard_normal(len(modes)), np.zeros(len(expressions))
        does[rng.integers(len(does))] = rng.uniform(0, 1)
        face = mean + np.tensordot(who, modes, 1) + np.tensordot(does, expressions, 1)
        yield np.asarray(face - middle, np.float64)


def fits() -> dict[str, Fit]:
    """Name -> fit of (points, pixels, true camera), of which only size and focal are looked at."""

    def ours(points: Array, pixels: Array, true: Camera) -> Camera:
        return fit_camera(points, pixels, true.height, true.width).camera

    def ours_of_focal(points: Array, pixels: Array, true: Camera) -> Camera:
        focal = float(true.matrix_px[0, 0])
        return fit_camera(points, pixels, true.height, true.width, focal).camera

    found: dict[str, Fit] = {"facefold": ours, "facefold, f known": ours_of_focal, "DLT": linear}
    try:
        import cv2
    except ImportError:
        return found

    def iterative(points: Array, pixels: Array, true: Camera) -> Camera:
        _, turn, shift = cv2.solvePnP(points, pixels, true.matrix_px, None)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = Rotation.from_rotvec(turn[:, 0]).as_matrix(), shift[:, 0]
        return Camera(true.matrix_px, pose, true.height, true.width)

    return {**found, "OpenCV, f known": iterative}


def linear(points: Array, pixels: Array, true: Camera) -> Camera:
    """The direct linear transformation of normalised points and pixels."""
    to_points, to_pixels = normaliser(points), normaliser(pixels)
    x = np.column_stack([points, np.ones(len(points))]) @ to_points.T
    u = np.column_stack([pixels, np.ones(len(pixels))]) @ to_pixels.T
    none = np.zeros_like(x)
    design = np.concatenate(
        [
            np.column_stack([x, none, -u[:, :1] * x]),
            np.column_stack([none, x, -u[:, 1:2] * x]),
        ]
    )
    normalised = np.linalg.svd(design)[2][-1].reshape(3, 4)
    matrix, rotation, shift = decomposed(np.linalg.solve(to_pixels, normalised @ to_points))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, shift
    return Camera(matrix, pose, true.height, true.width)


def normaliser(points: Array) -> Array:
    """(D+1,D+1): moves points (N,D) to the origin, at root-mean-square distance sqrt(D) of it."""
    dimensions = points.shape[1]
    away = points - points.mean(axis=0)
    scale = np.sqrt(dimensions / (away**2).sum(axis=1).mean())
    matrix = np.diag([*[scale] * dimensions, 1.0])
    matrix[:dimensions, -1] = -scale * points.mean(axis=0)
    return matrix


def apart(found: Camera, true: Camera, points: Array) -> tuple[float, float, float]:
    """Degrees, pixels (median landmark) and |log| of the focal lengths' ratio."""
    turn = found.canonical_to_camera[:3, :3] @ true.canonical_to_camera[:3, :3].T
    off = np.linalg.norm(found.project(points) - true.project(points), axis=1)
    ratio = abs(np.log(abs(found.matrix_px[0, 0]) / true.matrix_px[0, 0]))
    return float(np.degrees(Rotation.from_matrix(turn).magnitude())), float(np.median(off)), ratio


def costs(rounds: int) -> dict[str, float]:
    """Milliseconds of the processor that a photo of 12 million pixels takes, best of the rounds."""
    camera = looking_at(900, 4200, 3000, 4000, 15, 5, 3)
    seen = camera.project(stand_in_landmarks())
    picture = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
    lens = Lens((-0.1, 0.02, 0.0))

    def straight_crop() -> object:
        small, its_camera = shrunk(picture, seen, camera)
        small = straightened(small, its_camera.matrix_px, lens)
        return crop_224(small, its_camera.project(stand_in_landmarks()), its_camera)

    works = {
        "crop of 224, of 12 megapixels": lambda: crop_224(picture, seen, camera),
        "aligned crop of 112, of 12 megapixels": lambda: align_112(picture, seen),
        "shrunk, straightened, cropped, 12 megapixels": straight_crop,
        "straightened whole, 12 megapixels": lambda: straightened(picture, camera.matrix_px, lens),
    }
    return {name: best_ms(work, rounds) for name, work in works.items()}


def best_ms(work: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return 1e3 * min(taken)


if __name__ == "__main__":
    main()
