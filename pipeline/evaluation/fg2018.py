"""FG2018: dense reconstruction from photos, against scans of Stirling/ESRC (Feng et al., FG 2018).

A prediction is laid on the scan by seven landmarks, and by nothing else; what counts is the
distance of each scan vertex within a ball around the face to the predicted surface. The challenge's
fit is a similarity and allows reflections, so it neither sees a wrong size nor a mirrored face.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.evaluation.alignment import Similarity, procrustes
from pipeline.evaluation.benchmark import (
    AS_PUBLISHED,
    STRICT,
    Benchmark,
    Case,
    Cases,
    Finding,
    Given,
    Prediction,
    Row,
    Score,
)
from pipeline.evaluation.crops import face_ball
from pipeline.evaluation.distances import to_surface
from pipeline.evaluation.means import mean_std, rows_of
from pipeline.evaluation.predictions import mean_head
from pipeline.evaluation.truths import (
    Delivered,
    Truth,
    delivered,
    extra_meshes,
    first_found,
    read_truth,
    read_with_seven,
    scored,
    seven_mm,
)
from pipeline.types import Array
from pipeline.units import mm_per

TIMES = 1.2
"""Radius of the ball in `face_ball`'s lengths."""
QUALITIES = ("HQ", "LQ")
"""Folders of the images, which are groups of the table."""
PHOTOS = (".jpg", ".jpeg", ".png", ".bmp")
SUBJECT = re.compile(r"[FM]\d{4}(?!\d)", re.IGNORECASE)


class _Image(NamedTuple):
    quality: str
    stem: str
    subject: str


def cases(given: Given) -> Cases:
    """A case an image of `Subset_2D_FG2018/{HQ,LQ}/<subject>_<n>.jpg`, wherever below the root.

    Predictions are `{HQ,LQ}/<image>.obj`, or lie in one folder. Truths are Stirling's scans with
    an `.lnd`; of a subject's several the one without `b`, `_2` and `H` in its name, in this order.
    Raises FacefoldError if the root has no images or no scans, and for predictions in one folder of
    images that both HQ and LQ call so.
    """
    truths = _truths(given.root)
    images = list(_images(given.root))
    if not images:
        raise FacefoldError(
            f"{given.root}: no images, expected Subset_2D_FG2018/HQ/F1001_001.jpg and others: "
            "their names say which predictions are asked for; copy the challenge's images there"
        )
    lost = Counter(image.subject for image in images if image.subject not in truths)
    names = Counter(image.stem for image in images)
    asked = tuple(
        _case(given, image, truths[image.subject], names[image.stem] > 1)
        for image in images
        if image.subject in truths
    )
    return Cases(asked, tuple(_without_truth(lost)), extra_meshes(given, asked))


def _truths(root: Path) -> dict[str, Delivered]:
    """The scan of each subject."""
    marked = [scan for scan in delivered("stirling", root) if scan.landmarks is not None]
    if not marked:
        raise FacefoldError(
            f"{root}: no scan has landmarks, expected annotations/F_3D_N/F1001_N.lnd and others; "
            "copy the challenge's annotations there"
        )
    return {scan.groups["subject"]: scan for scan in sorted(marked, key=_likeness, reverse=True)}


def _likeness(scan: Delivered) -> tuple[bool, bool, bool, str]:
    """Less for what is rather a subject's first neutral scan."""
    stem = scan.path.stem.upper()
    return scan.groups["session"] != "", "_2" in stem, scan.groups["expression"] != "N", stem


def _images(root: Path) -> Iterator[_Image]:
    for quality in QUALITIES:
        photos = (p for p in root.glob(f"**/{quality}/*") if p.suffix.lower() in PHOTOS)
        for stem in sorted({path.stem for path in photos}):
            subject = SUBJECT.match(stem)
            yield _Image(quality, stem, subject[0].upper() if subject else stem)


def _case(given: Given, image: _Image, scan: Delivered, twice: bool) -> Case:
    prediction, landmarks = first_found(given, ((image.quality, image.stem), ("", image.stem)))
    if twice and prediction is not None and prediction.parent == given.predictions:
        raise FacefoldError(
            f"{prediction}: {image.stem} is an image of {' and of '.join(QUALITIES)}; put the "
            f"predictions into {' and '.join(f'{quality}/' for quality in QUALITIES)}"
        )
    return Case(
        id=f"{image.quality}/{image.stem}",
        person=image.subject,
        group=image.quality,
        truth=scan.files,
        prediction=prediction,
        landmarks=landmarks,
        facts={"unit_mm": mm_per(scan.unit)},
    )


def _without_truth(lost: Mapping[str, int]) -> Iterator[Finding]:
    if lost:
        named = ", ".join(sorted(lost))
        yield Finding(
            "no_truth",
            f"{sum(lost.values())} images are left out, for no scan with landmarks is of {named}; "
            "deliver scans/<sex>/<subject>_N.obj and annotations/<sex>_3D_N/<subject>_N.lnd",
            figures={"images": float(sum(lost.values())), "subjects": float(len(lost))},
        )


def score(case: Case, prediction: Prediction, given: Given) -> list[Score]:
    """`aligned`, by a similarity as the challenge does, and `metric`, by a rigid motion that keeps
    the declared unit; as published the fits may be reflections."""
    scan, landmarks = case.truth
    truth = read_truth(scan, landmarks, case.facts["unit_mm"])
    part = truth.within(face_ball(truth.seven_mm, TIMES))
    scores: list[Score] = []
    for mode in ("aligned", "metric"):
        known: dict[float, Array] = {}
        for variant, reflection in ((AS_PUBLISHED, None), (STRICT, False)):
            fit = procrustes(
                seven_mm(prediction),
                truth.seven_mm,
                scaled=mode == "aligned",
                reflection=reflection,
            )
            if fit.determinant not in known:
                known[fit.determinant] = _distances(part, prediction, fit)
            scores.append(scored(mode, variant, known[fit.determinant], part, fit))
    return scores


def _distances(part: Truth, prediction: Prediction, fit: Similarity) -> Array:
    """(N,) float32 mm."""
    laid = fit.apply(prediction.unit_mm * prediction.vertices)
    return to_surface(part.vertices_mm, laid, prediction.faces).distance.astype(np.float32)


def rows(found: Sequence[tuple[Case, Sequence[Score]]]) -> list[Row]:
    """Means over images, as the challenge ranks by the RMSE, and the RMSE of all images' distances
    together; of all, of HQ and of LQ."""
    return rows_of(found, _columns)


def _columns(scores: Sequence[Score]) -> Mapping[str, float]:
    rmse, std = mean_std(scores, "rmse_mm")
    pooled = np.concatenate([score.distances for score in scores]).astype(np.float64)
    return {
        "rmse_mm": rmse,
        "std_mm": std,
        "mean_mm": mean_std(scores, "mean_mm")[0],
        "median_mm": mean_std(scores, "median_mm")[0],
        "pooled_rmse_mm": float(np.sqrt(np.square(pooled).mean())),
    }


FG2018 = Benchmark(
    title="FG2018 (Stirling/ESRC)",
    citation="Feng et al., Evaluation of Dense 3D Reconstruction from 2D Face Images in the Wild, "
    "FG 2018",
    cases=cases,
    read=read_with_seven,
    score=score,
    rows=rows,
    mean_head=lambda case, given: mean_head(given),
)
