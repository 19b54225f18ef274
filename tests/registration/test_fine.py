from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import block_diag, csc_array, diags_array, kron
from scipy.sparse.linalg import spsolve
from torch import Tensor

from pipeline.registration import fine
from pipeline.registration.annealing import bending_weight
from pipeline.registration.fine import STAY, TANGENTIAL, ThinPlate, on_all_vertices
from pipeline.registration.matches import Matches
from pipeline.registration.template import Template

GAMMA = bending_weight(25.0)


def made_matches(template: Template, seed: int = 0) -> tuple[Matches, Tensor]:
    """Random normals and weights, and a gap (1,V,3) of some millimetres."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    n = len(template.data)
    normal = torch.nn.functional.normalize(random(1, n, 3), dim=-1)
    weight = random(1, n).abs().clamp_max(1)
    matches = Matches(torch.zeros(1, n, 3), normal, weight, torch.zeros(1, n))
    return matches, on_all_vertices(template, 2 * random(1, n, 3))


def test_conjugate_gradients_reach_the_direct_solution(
    template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    matches, gap = made_matches(template)
    plate = ThinPlate(template, GAMMA, matches)
    v = len(template.areas)
    normals, weight = plate.normal[0].numpy(), plate.weight[0, :, 0].numpy()
    blocks = [
        w * (np.outer(n, n) + TANGENTIAL * np.eye(3)) for n, w in zip(normals, weight, strict=True)
    ]
    data = csc_array(block_diag(blocks))
    smooth = kron(GAMMA * template.bending.matrix, np.eye(3))
    stay = diags_array(np.repeat(STAY * template.mean_mass, 3))
    wanted = spsolve(csc_array(smooth + data + stay), data @ gap[0].numpy().ravel())
    monkeypatch.setattr(fine, "CG_ITERATIONS", 150)
    found = plate.solve(gap, torch.zeros_like(gap))[0].numpy()
    np.testing.assert_allclose(found, wanted.reshape(v, 3), atol=1e-4)


def test_few_iterations_are_most_of_the_way(template: Template) -> None:
    """From zero, the steps of one solve leave little of the residual that they started with."""
    matches, gap = made_matches(template)
    plate = ThinPlate(template, GAMMA, matches)
    found = plate.solve(gap, torch.zeros_like(gap))
    before = plate.precondition(plate.data(gap)).norm()
    after = plate.precondition(plate.data(gap) - plate(found)).norm()
    assert after < 0.3 * before


def test_nothing_moves_without_data(template: Template) -> None:
    matches, gap = made_matches(template)
    plate = ThinPlate(template, GAMMA, matches._replace(weight=torch.zeros_like(matches.weight)))
    assert plate.solve(gap, torch.zeros_like(gap)).abs().max() == 0


def test_a_scan_s_solution_does_not_depend_on_its_batch_mates(template: Template) -> None:
    (one, gap), (other, other_gap) = made_matches(template, 1), made_matches(template, 2)
    both = Matches(*(torch.cat(pair) for pair in zip(one, other, strict=True)))
    alone = ThinPlate(template, GAMMA, one).solve(gap, torch.zeros_like(gap))
    gaps = torch.cat([gap, other_gap])
    together = ThinPlate(template, GAMMA, both).solve(gaps, torch.zeros_like(gaps))
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-9)
