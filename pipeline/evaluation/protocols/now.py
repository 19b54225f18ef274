"""NoW, Not quite in-the-Wild: photos of faces, predictions compared with a scan of the person.

Sanyal et al., CVPR 2019. Distances go from the scan's vertices within a ball around the face to the
predicted surface, after seven landmarks and a fit to the surface have aligned it: with scale
(non-metrical) or in its declared unit (metrical). They are pooled over images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.evaluation.alignment.procrustes import Similarity, procrustes
from pipeline.evaluation.alignment.surface_fit import MovedSurface
from pipeline.evaluation.benchmark import (
    AS_PUBLISHED,
    STRICT,
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
from pipeline.evaluation.crops import face_ball, upright
from pipeline.evaluation.distances import median_mean_std
from pipeline.evaluation.predictions.meshes import mean_head, prediction_file, stem_of
from pipeline.evaluation.protocols.means import rows_of
from pipeline.evaluation.protocols.truths import (
    Truth,
    extra_meshes,
    read_truth,
    read_with_seven,
    seven_mm,
)
from pipeline.formats.content import opened
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
            prediction_file(given.predictions / image.subject / image.challenge, image.stem),
        )
        for image in asked
    ]
    extra = extra_meshes(given, found)
    return Cases(tuple(found), tuple(_said_of(extra, given, chosen)), extra)


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
        *_, subject, challenge, file = ("", "", *line.split("/"))
        image = Image(subject, challenge, Path(file).stem)
        if not all(image):
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


def _image_of(path: Path) -> Image:
    return Image(path.parent.parent.name, path.parent.name, stem_of(path))


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


def score(case: Case, prediction: Prediction, given: Given) -> list[Score]:
    """Both modes in both variants."""
    path, landmarks = case.truth
    scan = read_truth(path, landmarks, unit_mm=1.0)
    part = scan.within(face_ball(scan.seven_mm, BALL))
    surface = MovedSurface(prediction.vertices * prediction.unit_mm, prediction.faces)
    points, found = part.vertices_mm, list[Score]()
    for mode, begun in starts(seven_mm(prediction), part.seven_mm).items():
        ends = surface.fits(points, list(begun.values()), scaled=mode == NONMETRICAL)
        for variant, end in zip(begun, ends, strict=True):
            found.append(_score(mode, variant, part, end.moved, end.distances))
    return found


def starts(predicted_mm: Array, target_mm: Array) -> dict[str, dict[Variant, Similarity]]:
    """Mode -> variant -> where its fit to the surface starts, from seven points (7,3) each.

    As published, reflections are allowed, and the metrical fit starts from the similarity with its
    scale replaced: the translation belongs to the other scale, so that the start is shifted.
    Strictly, it starts from the rigid fit of the landmarks.
    """
    published = procrustes(predicted_mm, target_mm, reflection=None)
    rigid = procrustes(predicted_mm, target_mm, scaled=False)
    return {
        NONMETRICAL: {AS_PUBLISHED: published, STRICT: procrustes(predicted_mm, target_mm)},
        METRICAL: {AS_PUBLISHED: published._replace(scale=1.0), STRICT: rigid},
    }


def _score(mode: str, variant: Variant, part: Truth, fitted: Similarity, distances: Array) -> Score:
    aligned = {"scale": fitted.scale, "determinant": fitted.determinant}
    return Score(
        mode,
        variant,
        distances.astype(np.float32),
        figures={**median_mean_std([distances]), **aligned},
        vertices_mm=part.vertices_mm,
        faces=part.faces,
        upright=upright(part.seven_mm),
    )


def rows(scored: Sequence[tuple[Case, Sequence[Score]]]) -> list[Row]:
    """Of all and of each challenge: distances of all images together, not a mean of images."""
    return rows_of(scored, lambda of: median_mean_std([score.distances for score in of]))


NOW = Benchmark(
    "NoW",
    "Sanyal, Bolkart, Feng and Black, Learning to Regress 3D Face Shape and Expression from an "
    "Image without 3D Supervision, CVPR 2019",
    cases,
    read_with_seven,
    score,
    rows,
    lambda case, given: mean_head(given),
    choices={"image_set": Choice("Which of NoW's two lists of images is scored.", tuple(LISTS))},
)
