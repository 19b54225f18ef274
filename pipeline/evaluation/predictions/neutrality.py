"""Whether a predicted head is at rest: expression and jaw zeroed, as benchmarks of shape want it.

A head in the model's topology says it by its coefficients (`registration.refit`): what expression
and pose of the refit move the face by, against the refit's identity at rest. A neutral head moves a
little too, for identity and expression look alike: the more so, the worse the model explains it.
Other meshes say by the opening of their lips alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.evaluation.alignment.procrustes import procrustes
from pipeline.flame.model import FlameModel
from pipeline.landmarks.schemes import OUTER_EYES_68
from pipeline.registration.refit import refit
from pipeline.types import Array

EXPECTED_ERROR_MM = 0.1
"""Of a prediction's vertices against the model: methods save what the model gives, and the files'
digits are finer. With more, the prior takes a part of a strange identity for an expression."""
MOVED_MM = 0.5
"""Root mean square that the face may move, and be neutral."""
MOVED_PER_RESIDUAL = 16.0
"""And so much more a millimetre (root mean square) that the model does not explain."""
INNER_LIPS_68 = ((61, 67), (62, 66), (63, 65))
LIPS_OPEN = 0.06
"""Share of the distance of the outer eye corners by which lips are farther apart than the mean
head's, 5.4 mm, and the mouth is open. Of 3,000 random neutral faces of three models the most was
.036; of as many half as strange again .085, and one above the limit."""
JAW = 2


class Moved(NamedTuple):
    """What is not at rest."""

    said: str
    """The value and what was expected; "" if the head is neutral."""
    figures: dict[str, float]


def moved_by_coefficients(vertices_mm: Array, model: FlameModel) -> Moved:
    """Of a head in the model's topology, (V,3) mm in any pose; the model has a basis."""
    everywhere = np.ones((1, len(vertices_mm)), bool)
    error = np.full(everywhere.shape, EXPECTED_ERROR_MM)
    found = refit(vertices_mm[None], everywhere, model, error)
    face = model.regions["face"]
    shape = found.shape[0, : model.shape_basis_mm.shape[2]]
    rest = (model.template_mm + model.shape_basis_mm @ shape)[face]
    posed = (vertices_mm - found.offset_mm[0])[face]
    moved = np.linalg.norm(procrustes(rest, posed, scaled=False).apply(rest) - posed, axis=1)
    rms, most = float(np.sqrt(np.square(moved).mean())), float(moved.max())
    limit = MOVED_MM + MOVED_PER_RESIDUAL * float(found.residual_mm[0])
    jaw = float(np.degrees(np.linalg.norm(found.pose[0, 3 * JAW : 3 * JAW + 3])))
    figures = {"moved_rms_mm": rms, "moved_most_mm": most, "limit_mm": limit, "jaw_deg": jaw}
    if rms <= limit:
        return Moved("", figures)
    return Moved(
        f"expression and pose move the face by {rms:.1f} mm rms, {most:.1f} at most (jaw "
        f"{jaw:.0f}°), expected below {limit:.1f} of a neutral head",
        figures,
    )


def moved_by_lips(points: Array, reference: Array) -> Moved:
    """Of (68,3) iBUG points in any unit, against those of the mean head; says nothing of a face
    whose inner lips or outer eye corners are unknown."""
    own, mean = _lip_gap(points), _lip_gap(reference)
    opened = own - mean
    figures = {"lips_apart": own, "lips_of_mean_head": mean}
    if not opened > LIPS_OPEN:
        return Moved("", figures)
    return Moved(
        f"the inner lips are {100 * own:.0f} % of the distance of the outer eye corners apart, "
        f"expected at most {100 * (mean + LIPS_OPEN):.0f} % of a neutral head",
        figures,
    )


def _lip_gap(points: Array) -> float:
    """Mean of INNER_LIPS_68, relative to the distance of the outer eye corners; maybe NaN."""
    right, left = points[list(OUTER_EYES_68)]
    upper, lower = points[np.array(INNER_LIPS_68).T]
    gap = np.linalg.norm(upper - lower, axis=1).mean()
    return float(gap / np.linalg.norm(left - right))
