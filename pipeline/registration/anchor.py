"""Where a head at rest stands: rigidly in the model's frame, by one rule for all heads.

The rule is a weighted rigid fit, without scale, of the head's vertices to the model's template. The
weights depend on the template alone, so neither what a scan shows nor how it was registered moves
them. They are those of the middle of the face: a Gaussian of the distance to it, since foreheads,
temples and jaws' angles are what crops and hair leave unseen, times what an opening jaw leaves in
place, since an expression that was not quite removed moves the lower face.

A rigid fit to the template removes from an error, to first order, its own rigid part: to anchor an
estimate and a truth each by itself brings them about as near as fitting one to the other.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from pipeline.geometry.rigid import check_spread, umeyama
from pipeline.registration.template import Template

MIDDLE_MM = 60.0
"""Standard deviation of the Gaussian."""


@lru_cache(maxsize=8)
def anchor_weights(template: Template) -> Tensor:
    """(V,) ≥ 0, zero off the face."""
    face, rest = template.face_region, template.tensors.template[template.face_region]
    apart = (rest - rest.mean(0)).square().sum(1) / MIDDLE_MM**2
    weights = torch.zeros_like(template.areas)
    weights[face] = (-0.5 * apart).exp() * (1 - template.lower_face[face])
    return weights


def anchored(template: Template, rest: Tensor) -> Tensor:
    """(…,V,3) mm, heads at rest -> the same float64 heads, moved and turned to where they stand.

    Vertices that are NaN count for nothing and stay NaN. Raises RegistrationError where those that
    are left cannot fix a rotation. Umeyama 1991 with the scale 1.
    """
    rest = rest.to(template.areas)
    known = torch.isfinite(rest).all(-1)
    weights = anchor_weights(template) * known
    for head in (weights > 0).reshape(-1, len(template.areas)):
        check_spread(template.tensors.template[head], "a head to be anchored")
    given = torch.where(known[..., None], rest, 0.0)
    rotation, shift = umeyama(given, template.tensors.template.expand_as(given), weights)
    return rest @ rotation.mT + shift[..., None, :]
