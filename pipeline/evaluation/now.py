"""NoW, Not quite in-the-Wild: photos of faces, predictions compared with a scan of the person.

Sanyal et al., CVPR 2019. Distances go from the scan's vertices within a ball around the face to the
predicted surface, after seven landmarks and a fit to the surface have aligned it: with scale
(non-metrical) or in its declared unit (metrical). They are pooled over images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.evaluation import predictions
from pipeline.evaluation.alignment import Similarity, procrustes
from pipeline.evaluation.benchmark import (
    AS_PUBLISHED,
    STRICT,
    VARIANTS,
    Benchmark,
    Case,
    Cases,
    Choice,
    Finding,
    Given,
    Prediction,
    Row,
    Score,
    Variant,
)
from pipeline.evaluation.crops import SEVEN_68, face_ball, faces_within, upright
from pipeline.evaluation.distances import median_mean_std
from pipeline.evaluation.surface_fit import MovedSurface
from pipeline.formats import read_scan
from pipeline.formats.content import opened
from pipeline.landmarks import read_landmarks
from pipeline.types import Array

NONMETRICAL, METRICAL = "nonmetrical", "metrical"
LISTS = {"validation": "imagepathsvalidation.txt", "test": "imagepathstest.txt"}
"""Image set -> the file of its images."""
ANOTHER_SET = "another_set"
BALL = 1.4
"""See `crops.face_ball`."""


class Image(NamedTuple):
    """What a prediction is of."""

    subject: str
    challenge: str
    stem: str

    @property
    def id(self) -> str:
        return "/".join(self)


def cases(given: Given) -> Cases:
    """The images of the chosen list.

    Raises FacefoldError if the list is not there or a subject lacks its scan or landmarks.
    """
    chosen = given.choices.get("image_set", next(iter(LISTS)))
    asked = _images(_list_of(given.root, chosen))
    truths = {image.subject: _truth_of(given.root, image.subject) for image in asked}
    found = [
        Case(
            image.id,
            image.subject,
            image.challenge,
            truths[image.subject],
            predictions.prediction_file(
                given.predictions / image.subject / image.challenge, image.stem
            ),
        )
        for image in asked
    ]
    extra = _not_asked(given.predictions, asked)
    return Cases(tuple(found), tuple(_said_of(extra, given, chosen)), tuple(extra))


def _list_of(root: Path, chosen: str) -> Path:
    """The list of an image set, which may be the only one in the root."""
    path = root / LISTS[chosen]
    if path.is_file():
        return path
    other = next((name for name, file in LISTS.items() if (root / file).is_file()), None)
    remedy = (
        f"choose --choose image_set={other}, whose list is there, or get this one"
        if other
        else "name NoW's folder by --root"
    )
    raise FacefoldError(f"{path}: no list of the {chosen} images; {remedy}")


def _images(path: Path) -> list[Image]:
    """Of a list, whose lines end in subject/challenge/file."""
    with opened(path) as stream:
        lines = stream.read().decode("utf-8", "replace").splitlines()
    found: dict[Image, int] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line:
            continue
        parts = line.split("/")[-3:]
        image = Image(*parts[:-1], Path(parts[-1]).stem) if len(parts) == 3 else None
        if image is None or not all(image):
            raise FacefoldError(
                f"{path}, line {number}: {line!r}, expected …/subject/challenge/image; get NoW's "
                "list again"
            )
        if image in found:
            raise FacefoldError(
                f"{path}: lines {found[image]} and {number} are both of {image.id}, whose "
                "predictions would have one name; leave one out"
            )
        found[image] = number
    if not found:
        raise FacefoldError(f"{path}: no images, expected one a line; get NoW's list again")
    return list(found)


def _truth_of(root: Path, subject: str) -> tuple[Path, Path]:
    """The scan of a subject and its picked points."""
    found = []
    for folder, suffix in (("scans", "obj"), ("scans_lmks_onlypp", "pp")):
        paths = sorted((root / folder / subject).glob(f"*.{suffix}"))
        if not paths:
            raise FacefoldError(
                f"{root / folder / subject}: no *.{suffix}, expected the truth of {subject}, of "
                "whom the list has images; unpack NoW's scans and landmarks below --root"
            )
        found.append(paths[0])
    return found[0], found[1]


def _not_asked(folder: Path, asked: Iterable[Image]) -> list[Path]:
    """Meshes of NoW's two formats below the predictions that are of no image of the list."""
    wanted = set(asked)
    meshes = sorted(path for form in ("obj", "ply") for path in folder.rglob(f"*.{form}"))
    return [path for path in meshes if _image_of(path) not in wanted]


def _image_of(path: Path) -> Image:
    return Image(path.parent.parent.name, path.parent.name, path.stem)


def _said_of(extra: Sequence[Path], given: Given, chosen: str) -> Iterator[Finding]:
    """That predictions are of other images than the list's."""
    (other,) = set(LISTS) - {chosen}
    path = given.root / LISTS[other]
    others = set(_images(path)) if path.is_file() else set()
    images = [_image_of(path) for path in extra]
    of_other = [image for image in images if image in others]
    of_none = [image for image in images if image not in others]
    if of_other:
        yield Finding(
            ANOTHER_SET,
            f"{len(of_other)} predictions are of the {other} set, such as {of_other[0].id}, "
            f"expected the {chosen} set only; they are left out, since figures of the two are "
            f"not comparable: --choose image_set={other} scores them",
            figures={"predictions": float(len(of_other))},
        )
    if of_none:
        unknown = "" if others else f"; those of the {other} set are unknown without {path.name}"
        yield Finding(
            ANOTHER_SET,
            f"{len(of_none)} predictions are of no image of {LISTS[chosen]}, such as "
            f"{of_none[0].id}{unknown}; they are left out: expected "
            "<subject>/<challenge>/<image>.obj or .ply below --predictions",
            figures={"predictions": float(len(of_none))},
        )


class _Truth(NamedTuple):
    """Of a person: the part of the scan that counts, in millimetres."""

    vertices_mm: Array  # (N,3)
    faces: Array  # (M,3)
    seven_mm: Array  # (7,3)
    upright: Array  # (3,3)


def _truth(case: Case) -> _Truth:
    return _truth_in(case.truth, tuple(path.stat().st_mtime_ns for path in case.truth))


@lru_cache(maxsize=2)
def _truth_in(files: tuple[Path, Path], changed: tuple[int, ...]) -> _Truth:
    """The images of a person follow each other and share it."""
    path, marks = files
    found = read_landmarks(marks, "pp").points
    if found is None or len(found) != 7 or not np.isfinite(found).all():
        n = 0 if found is None else len(found)
        raise FacefoldError(f"{marks}: {n} points, expected NoW's 7; get NoW's landmarks again")
    seven = found.astype(np.float64)
    scan = read_scan(path, "obj")
    kept = face_ball(seven, BALL).holds(scan.vertices)
    if kept.sum() < 3:
        raise FacefoldError(
            f"{path}: {kept.sum()} of {len(kept)} vertices are near the landmarks of {marks.name}, "
            "expected a face in millimetres; get NoW's scans and landmarks again"
        )
    faces = faces_within(scan.faces, kept)
    return _Truth(scan.vertices[kept], faces, seven, upright(seven))


def read(case: Case, given: Given) -> Prediction:
    """A mesh with its seven landmarks."""
    return predictions.read_mesh(case, given)


def mean_head(case: Case, given: Given) -> Prediction:
    """The same of all images."""
    return predictions.mean_head(given)


def score(case: Case, prediction: Prediction, given: Given) -> list[Score]:
    """Both modes in both variants."""
    truth = _truth(case)
    surface = MovedSurface(prediction.vertices * prediction.unit_mm, prediction.faces)
    source = prediction.landmarks_68[list(SEVEN_68)] * prediction.unit_mm
    return [
        _score(truth, surface, mode, variant, fitted)
        for (mode, variant), fitted in _fits(truth, surface, source).items()
    ]


def _fits(truth: _Truth, surface: MovedSurface, source: Array) -> dict[tuple[str, Variant], Similarity]:
    """How the surface, in millimetres, is moved onto the scan, from its seven landmarks (7,3).

    As published, reflections are allowed, and the metrical fit starts from the similarity with its
    scale replaced: its translation belongs to the other scale, so that it starts shifted. Strictly,
    it starts from the rigid fit of the landmarks.
    """
    target, points = truth.seven_mm, truth.vertices_mm
    published = procrustes(source, target, reflection=None)
    proper = procrustes(source, target)
    rigid = procrustes(source, target, scaled=False)
    fits = {
        (NONMETRICAL, AS_PUBLISHED): surface.fit(points, published, True),
        (METRICAL, AS_PUBLISHED): surface.fit(points, published._replace(scale=1.0), False),
        (METRICAL, STRICT): surface.fit(points, rigid, False),
    }
    same = published.determinant == proper.determinant
    fits[NONMETRICAL, STRICT] = (
        fits[NONMETRICAL, AS_PUBLISHED] if same else surface.fit(points, proper, True)
    )
    return fits


def _score(
    truth: _Truth, surface: MovedSurface, mode: str, variant: Variant, fitted: Similarity
) -> Score:
    distances = surface.distances(truth.vertices_mm, fitted)
    figures = {
        **median_mean_std([distances]),
        "scale": fitted.scale,
        "determinant": fitted.determinant,
    }
    return Score(
        mode,
        variant,
        distances.astype(np.float32),
        figures=figures,
        vertices_mm=truth.vertices_mm,
        faces=truth.faces,
        upright=truth.upright,
    )


def rows(scored: Sequence[tuple[Case, Sequence[Score]]]) -> list[Row]:
    """Of each challenge and of all: distances of all images together, not a mean of images."""
    pooled: dict[tuple[str, Variant, str], list[Array]] = {}
    for case, scores in scored:
        for one in scores:
            for group in ("", case.group):
                pooled.setdefault((one.mode, one.variant, group), []).append(one.distances)
    groups = ["", *sorted({case.group for case, _ in scored})]
    order = [(m, v, g) for m in (NONMETRICAL, METRICAL) for v in VARIANTS for g in groups]
    return [
        Row(*key[:3], "", len(pooled[key]), median_mean_std(pooled[key]))
        for key in order
        if key in pooled
    ]


NOW = Benchmark(
    "NoW",
    "Sanyal, Bolkart, Feng and Black, Learning to Regress 3D Face Shape and Expression from an "
    "Image without 3D Supervision, CVPR 2019",
    cases,
    read,
    score,
    rows,
    mean_head,
    choices={"image_set": Choice("Which of NoW's two lists of images is scored.", tuple(LISTS))},
)
