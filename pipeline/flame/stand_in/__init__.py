"""The stand-in model: our own procedural head in FLAME's layout, for use where FLAME is absent.

It has FLAME's counts, joints and landmark scheme and a plausible human size and variation, but it
is a stand-in: sculpted from formulas, learned from nobody, and not interchangeable with FLAME.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from pipeline.flame.model import FlameModel
from pipeline.flame.stand_in import loft, mesh, rig, sculpt, variation
from pipeline.flame.stand_in.variation import EXPRESSION_NAMES
from pipeline.types import Array

__all__ = ["EXPRESSION_NAMES", "stand_in", "stand_in_domain"]

DECIMALS = 5
"""Arrays are rounded to 1e-5 mm, so that processors that differ in the last bit agree."""


@cache
def stand_in() -> FlameModel:
    """The stand-in, `is_stand_in` True: 5,023 vertices, 9,976 triangles, 300 + 100 components."""
    disc, head_faces = mesh.head_mesh()
    base_mm = loft.base(disc)
    head_mm = sculpt.head(disc)
    ball, ball_faces = mesh.eyeball()
    centre = sculpt.EYE_CENTRE_MM
    balls = [ball * sculpt.EYE_RADIUS_MM + centre * [side, 1, 1] for side in (1, -1)]
    template = np.round(np.concatenate([head_mm, *balls]), DECIMALS)
    starts = (mesh.N_HEAD, mesh.N_HEAD + mesh.N_EYEBALL)
    faces = np.concatenate([head_faces, *(ball_faces + start for start in starts)])
    regions = rig.regions(disc, base_mm)
    return FlameModel(
        name="stand-in",
        is_stand_in=True,
        template_mm=template,
        faces=faces,
        shape_basis_mm=variation.shape_basis(template),
        expression_basis_mm=np.round(variation.expression_basis(template, base_mm), DECIMALS),
        pose_basis_mm=np.round(rig.pose_basis(template), DECIMALS),
        joint_regressor=np.round(rig.joint_regressor(template), 9),
        weights=np.round(rig.weights(base_mm), 9),
        parents=rig.PARENTS,
        landmarks=rig.landmarks(disc, faces),
        regions=regions,
    )


def stand_in_domain() -> Array:
    """(3931,2) place of each head vertex in the unit disc the head is sculpted on.

    Any triangulation of points of this disc lifts to a re-meshing of the head's surface.
    """
    return mesh.head_mesh()[0].copy()
