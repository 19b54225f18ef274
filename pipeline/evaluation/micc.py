"""MICC: 53 people of Florence's 2D/3D faces, filmed in three settings (Bagdanov et al. 2011).

Two protocols are in use, and their numbers are not comparable. Neither has public code, so both are
after the papers' words: GANFit's (Gecer et al., CVPR 2019) and Deep3D's (Deng et al., CVPR
Workshops 2019, after Genova et al., CVPR 2018). What they leave open is decided here: alignments
begin with the seven landmarks of FG2018, without reflections, and end where the sum of squared
distances from the cropped scan to the surface is least.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipeline.errors import FacefoldError
from pipeline.evaluation.benchmark import (
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
)
from pipeline.evaluation.means import mean_std, rows_of
from pipeline.evaluation.micc_protocols import BROWS_68, NOSE_TIP_68, PROTOCOLS, compared
from pipeline.evaluation.predictions import mean_head
from pipeline.evaluation.truths import (
    Delivered,
    Truth,
    delivered,
    extra_meshes,
    first_found,
    read_truth,
    read_with_seven,
)
from pipeline.units import mm_per

SETTINGS = ("cooperative", "indoor", "outdoor")
FRONTAL = ("frontal1", "frontal2")
CROP_MM = 95.0
"""Around the tip of the nose."""
GANFIT_CROP_MM = {"28": 60.0}
"""Of the subject whose scan GANFit crops closer."""


def cases(given: Given) -> Cases:
    """A case a subject and setting, `<setting>/subject_<n>.obj`, `subject_<n>/<setting>.obj` or
    `subject_<n>_<setting>.obj` among the predictions.

    Truths are the frontal scans with landmarks, `MICC_landmarks/…/<scan>.ljson` in GANFit's
    delivery; a subject without any is left out and reported. Raises FacefoldError if the root has
    no scans, or none with landmarks.
    """
    scans: dict[str, list[Delivered]] = {}
    for scan in delivered("florence", given.root):
        if scan.groups.get("view", FRONTAL[0]) in FRONTAL:
            scans.setdefault(scan.groups["subject"], []).append(scan)
    marked = {
        subject: [scan for scan in own if scan.landmarks is not None]
        for subject, own in sorted(scans.items())
    }
    if not any(marked.values()):
        raise FacefoldError(
            f"{given.root}: none of {len(scans)} subjects has a frontal scan with landmarks; "
            f"{REMEDY}"
        )
    settings = SETTINGS if _chosen(given, "setting") == "all" else (_chosen(given, "setting"),)
    asked = tuple(
        _case(given, subject, setting, own)
        for setting in settings
        for subject, own in marked.items()
        if own
    )
    return Cases(asked, tuple(_without_landmarks(scans)), extra_meshes(given, asked))


REMEDY = (
    "copy GANFit's MICC_landmarks into the root, or write the iBUG points of the scan to "
    "MICC_landmarks/subject_<n>/Model/<view>/obj/<scan>.ljson"
)


def _case(given: Given, subject: str, setting: str, scans: Sequence[Delivered]) -> Case:
    person = f"subject_{subject}"
    places = ((setting, person), (person, setting), ("", f"{person}_{setting}"))
    prediction, landmarks = first_found(given, places)
    crop = GANFIT_CROP_MM if _chosen(given, "protocol") == "ganfit" else {}
    return Case(
        id=f"{setting}/{person}",
        person=person,
        group=setting,
        truth=tuple(path for scan in scans for path in scan.files),
        prediction=prediction,
        landmarks=landmarks,
        facts={"unit_mm": mm_per(scans[0].unit), "crop_mm": crop.get(subject, CROP_MM)},
    )


def _without_landmarks(scans: Mapping[str, Sequence[Delivered]]) -> Iterator[Finding]:
    for subject, own in sorted(scans.items()):
        lost = [scan.path.name for scan in own if scan.landmarks is None]
        if lost:
            left = "the subject is" if len(lost) == len(own) else f"{len(lost)} of {len(own)} is"
            yield Finding(
                "no_truth",
                f"subject_{subject}: {' and '.join(lost)} without landmarks, so that {left} left "
                f"out; {REMEDY}",
                figures={"scans": float(len(lost))},
            )


def _chosen(given: Given, name: str) -> str:
    return given.choices.get(name, CHOICES[name].values[0])


def score(case: Case, prediction: Prediction, given: Given) -> list[Score]:
    """`aligned`, by a similarity as both protocols do, and `metric`, by a rigid motion that keeps
    the declared unit.

    GANFit's error is the mean distance from scan to prediction and back, halved; as published it is
    in the prediction's millimetres, to which the scan is rescaled, and of the better of two scans.
    Strictly it is in the scan's, back from what the scan shows of the prediction alone, and the
    mean of both scans. Deep3D's is the RMSE of the distances from the scan without its forehead to
    the planes of the closest triangles; strictly, to the surface.
    """
    protocol = _chosen(given, "protocol")
    scores = []
    for mode in ("aligned", "metric"):
        every = [
            compared(truth, prediction, mode == "aligned", case.facts["crop_mm"], protocol)
            for truth in _truths(case)
        ]
        scores += [PROTOCOLS[protocol](mode, variant, every) for variant in VARIANTS]
    return scores


def _truths(case: Case) -> Iterator[Truth]:
    for scan, landmarks in zip(case.truth[::2], case.truth[1::2], strict=True):
        truth = read_truth(scan, landmarks, case.facts["unit_mm"])
        needed = truth.points_68_mm[[NOSE_TIP_68, *BROWS_68]]
        if lost := int((~np.isfinite(needed)).any(axis=1).sum()):
            raise FacefoldError(
                f"{landmarks}: {lost} of the {len(needed)} points of the brows and the tip of the "
                f"nose are missing, expected none; {REMEDY}"
            )
        yield truth


def rows(found: Sequence[tuple[Case, Sequence[Score]]]) -> list[Row]:
    """Mean and standard deviation over people of the protocol's error, and means of the distances'
    mean and median; of all settings and of each."""
    return rows_of(found, _columns)


def _columns(scores: Sequence[Score]) -> Mapping[str, float]:
    error, std = mean_std(scores, "error_mm")
    rest = {name: mean_std(scores, name)[0] for name in ("mean_mm", "median_mm")}
    return {"error_mm": error, "std_mm": std, **rest}


CHOICES = {
    "protocol": Choice(
        "ganfit: both ways, 95 mm around the nose, the better of two scans; deep3d: RMSE of "
        "distances to planes, without the forehead",
        tuple(PROTOCOLS),
    ),
    "setting": Choice("of the videos that are predicted from", ("all", *SETTINGS)),
}

MICC = Benchmark(
    title="MICC (Florence 2D/3D)",
    citation="Bagdanov, Del Bimbo and Masi, The Florence 2D/3D Hybrid Face Dataset, J-HGBU 2011; "
    "scored after Gecer et al., GANFit, CVPR 2019, or Deng et al., Accurate 3D Face "
    "Reconstruction with Weakly-Supervised Learning, CVPR Workshops 2019",
    cases=cases,
    read=read_with_seven,
    score=score,
    rows=rows,
    mean_head=lambda case, given: mean_head(given),
    choices=CHOICES,
)
