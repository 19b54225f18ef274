"""What users get wrong in predictions, found without a truth: by the mean head of the model.

Of one prediction, `faults_of`; the unit of all, `found_unit`. Reading finds more
(`predictions.read_mesh`), the benchmarks what only they can see, and what runs them what only the
truth shows: a prediction that is scaled, missing or cannot be scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from types import MappingProxyType

import numpy as np

from pipeline.errors import FacefoldError, UnitError
from pipeline.evaluation.alignment.procrustes import procrustes
from pipeline.evaluation.benchmark import Case, Finding, Given, Prediction
from pipeline.evaluation.distances import to_surface
from pipeline.evaluation.predictions.landmark_orders import (
    CLEARLY,
    SWAPPED,
    Order,
    best_order,
    reference_68,
    residuals,
)
from pipeline.evaluation.predictions.neutrality import Moved, moved_by_coefficients, moved_by_lips
from pipeline.flame.model import FlameModel
from pipeline.geometry.mesh import lengths, triangle_normals
from pipeline.landmarks.check import CONTOUR
from pipeline.normalise.size import mark_sizes
from pipeline.registry import Limits
from pipeline.types import Array
from pipeline.units import (
    EXTENT_MM,
    UNITS,
    Size,
    UnitFinding,
    extent,
    find_unit,
    fitting_units,
    three_digits,
)

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "mirrored": "the mesh is a mirror image: left and right are swapped",
        "inside_out": "the triangles wind clockwise as seen from outside",
        "unit": "the size is no face's in the unit that is declared, or found of all predictions",
        "scaled": "the truth is fitted best by another size, which aligned scores hide",
        "not_neutral": "an expression, or an open jaw, where the benchmark wants a face at rest",
        "landmark_order": "the landmarks are those of a face, but in another order",
        "landmarks_apart": "the landmarks do not lie on the mesh",
        "topology": "the mesh is not in the topology of the model, or lacks its triangles",
        "vertex_colours": "the vertices have colours, which some readers take for something else",
        "degenerate": "triangles without area",
        "image_points": "points of an image are in another frame than the image's",
        "keypoints": "keypoints that the benchmark compares by have no place on the prediction",
        "components": "a region of the truth is in several pieces, whose distances say little",
        "missing": "no prediction is there",
        "extra": "files among the predictions that nobody asked for",
        "not_scored": "the prediction cannot be read or scored",
        "no_truth": "the benchmark's own files lack what a prediction is compared with",
        "another_set": "the set is not the one that published figures are of",
    }
)
"""What may be wrong."""

FORWARDS = np.isin(np.arange(68), range(60)) & ~CONTOUR
"""Points of the skin that faces forwards: without the contour, and the lips' inner side."""


def faults_of(
    prediction: Prediction, case: Case, given: Given, *, neutral: bool = True
) -> list[Finding]:
    """What is wrong with a prediction, by its own shape and the mean head's; [] of image points.

    `neutral` says whether the benchmark wants a face at rest.
    """
    if prediction.vertices.shape[1] != 3:
        return []
    reference = reference_68(given.model)
    order = best_order(prediction.landmarks_68, reference)
    dense = _dense_mirror(prediction, given)
    found = _wrong_size(prediction, given, reference)
    found += _turned_over(prediction, reference, order, dense)
    if neutral:
        found += _not_neutral(prediction, given, reference, order, found)
    return [finding._replace(case=case.id) for finding in found]


def found_unit(predictions: Sequence[Prediction], model: FlameModel) -> UnitFinding:
    """The unit in which the median of the predictions' sizes is a face's, and why.

    Of points of an image it is "mm", for they have none. Raises FacefoldError if there is no
    prediction, and UnitError if no unit makes them faces, or several do.
    """
    if not predictions:
        raise FacefoldError("no prediction is there to find a unit by; declare it by --unit")
    if all(prediction.vertices.shape[1] != 3 for prediction in predictions):
        return UnitFinding("mm", 1.0, "points of an image have no unit of length")
    reference = reference_68(model)
    measured = [size for prediction in predictions for size in _sizes(prediction, reference)]
    names = dict.fromkeys(size.name for size in measured)
    if len(names) > 1:
        names.pop("extent", None)  # what landmarks show is surer
    sizes = [
        next(s for s in measured if s.name == name)._replace(
            value=median(s.value for s in measured if s.name == name)
        )
        for name in names
    ]
    fitting = fitting_units(sizes)
    if len(fitting) != 1:
        seen = " and ".join(size.said(f"{three_digits(size.value)} units") for size in sizes)
        open_still = f"as well {' as '.join(fitting)}" if fitting else f"none of {', '.join(UNITS)}"
        raise UnitError(
            f"the unit of the predictions may be {open_still}: in the median of {len(predictions)} "
            f"{seen}, {sizes[0].expected}; declare it by --unit, or save them in one of these units"
        )
    return find_unit("auto", sizes)


def _sizes(prediction: Prediction, reference: Array) -> list[Size]:
    """What the unit is found by: distances of landmarks, in the order that is likely theirs, else
    the extent of the mesh."""
    order = best_order(prediction.landmarks_68, reference)
    points = order.points if order is not None and order.clear else prediction.landmarks_68
    return mark_sizes(points, Limits()) or [
        Size("largest extent {}", extent(prediction.vertices), *EXTENT_MM)
    ]


def _wrong_size(prediction: Prediction, given: Given, reference: Array) -> list[Finding]:
    measured = _sizes(prediction, reference)
    sizes = [size._replace(value=size.value * prediction.unit_mm) for size in measured]
    wrong = next((size for size in sizes if not size.fits("mm")), None)
    if wrong is None:
        return []
    unit = next((name for name, mm in UNITS.items() if mm == prediction.unit_mm), given.unit)
    times = _likely_factor(wrong.value / float(np.sqrt(wrong.low * wrong.high)))
    likely = fitting_units(measured)
    remedy = (
        f"the file is likely in {' or '.join(likely)}: save it in {unit}, or declare the unit of "
        "all predictions by --unit"
        if likely
        else f"no unit makes that a face, it is about {three_digits(times)} times an average one: "
        "save it at its true size, in one unit with its landmarks"
    )
    seen = wrong.said(three_digits(wrong.value) + wrong.sign)
    said = f"{seen} with unit {unit}, {wrong.expected}; {remedy}"
    return [Finding("unit", said, figures={wrong.figure: wrong.value, "times": times})]


def _likely_factor(times: float) -> float:
    """The factor between two units, or of a thousand, that is near `times`, else itself."""
    known = [10.0**k for k in range(-6, 7) if k] + [25.4, 1 / 25.4]
    nearest = min(known, key=lambda factor: abs(np.log(times / factor)))
    return nearest if abs(np.log(times / nearest)) < np.log(1.5) else times


def _dense_mirror(prediction: Prediction, given: Given) -> Array | None:
    """(2,) mm: what a proper rotation and a reflection leave of the face's vertices against the
    mean head's; None for a mesh of another topology."""
    if not prediction.in_model_topology:
        return None
    face = given.model.regions["face"]
    found: Array = residuals(prediction.vertices[face][None], given.model.template_mm[face])[0]
    return found


def _turned_over(
    prediction: Prediction, reference: Array, order: Order | None, dense: Array | None
) -> list[Finding]:
    """Whether the mesh is mirrored or inside out, or its landmarks are in another order."""
    swapped = order is not None and order.clear and order.said == SWAPPED
    outwards = _outwards(prediction, order, reference)
    if dense is not None and CLEARLY * dense[1] < dense[0]:
        return [_mirrored(*dense)]
    if dense is None and order is not None and swapped and not outwards > 0:
        return [_mirrored(order.as_is_mm, order.best_mm)]
    found = []
    if order is not None and order.clear:
        found.append(_other_order(order, mesh_known=dense is not None))
    if outwards < 0:
        said = (
            "the triangles wind clockwise as seen from outside, so that normals point inwards, "
            "expected counter-clockwise; distances stay the same, pictures and normals do not: "
            "reverse the triangles when they are saved"
        )
        found.append(Finding("inside_out", said, figures={"outwards": outwards}))
    return found


def _mirrored(as_is_mm: float, mirrored_mm: float) -> Finding:
    said = (
        f"the mirror image fits the mean head to {mirrored_mm:.1f} mm, the mesh itself only to "
        f"{as_is_mm:.1f} mm, expected the other way; negate one axis of the vertices, and of the "
        "landmarks, when they are saved"
    )
    return Finding(
        "mirrored", said, figures={"as_is_mm": float(as_is_mm), "mirrored_mm": float(mirrored_mm)}
    )


def _other_order(order: Order, mesh_known: bool) -> Finding:
    either = "" if mesh_known or order.said != SWAPPED else ", or the whole mesh is mirrored"
    said = (
        f"the landmarks fit the mean head to {order.best_mm:.1f} mm if they are read {order.said}, "
        f"and to {order.as_is_mm:.1f} mm as they are{either}; save them in the order of iBUG's "
        "points, or of FG2018's seven: right eye outer and inner corner, left eye inner and outer, "
        "bottom of the nose, right and left mouth corner, sides as the subject's own"
    )
    return Finding(
        "landmark_order", said, figures={"as_is_mm": order.as_is_mm, "best_mm": order.best_mm}
    )


def _outwards(prediction: Prediction, order: Order | None, reference: Array) -> float:
    """Mean cosine of the triangles' normals at the landmarks and the mean head's direction of
    view: −1 if they look inwards, 1 if outwards, 0 if nothing is known."""
    if order is None or not len(prediction.faces):
        return 0.0
    points = order.points if order.clear else prediction.landmarks_68
    used = np.isfinite(points).all(axis=1) & np.isfinite(reference).all(axis=1) & FORWARDS
    if used.sum() < 4:
        return 0.0
    to_mean = procrustes(points[used], reference[used]).rotation
    at = to_surface(points[used], prediction.vertices, prediction.faces).triangle
    normals = triangle_normals(prediction.vertices, prediction.faces[at])
    unit = normals / np.maximum(lengths(normals), 1e-300)
    return float((to_mean[2] @ unit).mean())


def _not_neutral(
    prediction: Prediction,
    given: Given,
    reference: Array,
    order: Order | None,
    known: Sequence[Finding],
) -> list[Finding]:
    """Whether an expression or a pose was left in: by the coefficients if there are any, else, or
    if those do not show it, by the lips. What is known to be wrong is put right before."""
    model = given.model
    moved = list[Moved]()
    if prediction.in_model_topology and model.expression_basis_mm.shape[2]:
        to_mm = prediction.unit_mm
        axes = np.ones(3)
        for finding in known:
            to_mm /= finding.figures.get("times", 1.0)
            axes[0] *= -1.0 if finding.kind == "mirrored" else 1.0
        moved.append(moved_by_coefficients(prediction.vertices * to_mm * axes, model))
    if order is not None:
        moved.append(
            moved_by_lips(order.points if order.clear else prediction.landmarks_68, reference)
        )
    found = next((one for one in moved if one.said), None)
    if found is None:
        return []
    remedy = "decode, or predict, the face with expression and pose of 0"
    return [Finding("not_neutral", f"{found.said}; {remedy}", figures=found.figures)]
