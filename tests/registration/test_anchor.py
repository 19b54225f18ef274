"""Where heads at rest stand: the same for all that differ by a rigid motion, and no scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.errors import RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import rotation_matrices
from pipeline.registration.anchor import anchor_weights, anchored
from pipeline.registration.template import Template
from tests.registration.model_scans import make_scan


@pytest.fixture(scope="module")
def head(model: FlameModel) -> torch.Tensor:
    """(V,3) a person at rest, 8 % larger than the model."""
    return torch.from_numpy(make_scan(model, 5, size=1.08).neutral_mm)


def test_heads_that_differ_by_a_rigid_motion_stand_in_one_place(
    template: Template, head: torch.Tensor
) -> None:
    turn = rotation_matrices(torch.tensor([[0.3, -1.2, 0.5], [0.0, 3.1, 0.0]]).double())
    moved = head @ turn.mT + torch.tensor([100.0, -400.0, 7.0]).double()
    here = anchored(template, head)
    torch.testing.assert_close(anchored(template, moved), here.expand(2, -1, -1), rtol=0, atol=1e-9)
    torch.testing.assert_close(anchored(template, here), here, rtol=0, atol=1e-9)
    # the size stays: 8 % of a face are 5 mm
    assert torch.cdist(here[:9], here[:9]).sub(torch.cdist(head[:9], head[:9])).abs().max() < 1e-9


def test_a_lower_face_that_moves_takes_nothing_with_it(
    template: Template, head: torch.Tensor
) -> None:
    lower = template.lower_face >= 1
    assert lower.any()
    dropped = head.clone()
    dropped[lower] += torch.tensor([3.0, -15.0, 0.0]).double()
    both = anchored(template, torch.stack([head, dropped]))
    torch.testing.assert_close(both[1, ~lower], both[0, ~lower], rtol=0, atol=1e-9)


def test_nothing_off_the_face_moves_it(template: Template, head: torch.Tensor) -> None:
    off = torch.ones(len(head), dtype=torch.bool)
    off[template.face_region] = False
    assert not anchor_weights(template)[off].any()
    hairy = head.clone()
    hairy[off] *= 1.3
    both = anchored(template, torch.stack([head, hairy]))
    torch.testing.assert_close(both[1, ~off], both[0, ~off], rtol=0, atol=1e-9)


def test_unknown_vertices_count_for_nothing(template: Template, head: torch.Tensor) -> None:
    weights = anchor_weights(template)
    some = head.clone()
    some[weights == 0] = torch.nan
    found = anchored(template, some.float())
    assert bool(found[weights == 0].isnan().all())
    seen = weights > 0
    torch.testing.assert_close(found[seen], anchored(template, head)[seen], rtol=0, atol=1e-3)


def test_refuses_a_head_without_a_face(template: Template, head: torch.Tensor) -> None:
    none = torch.full_like(head, torch.nan)
    with pytest.raises(RegistrationError, match="0 points, expected at least 3"):
        anchored(template, none)
    assert np.isnan(none.numpy()).all()
