from __future__ import annotations

import torch
from torch import Tensor

from pipeline.registration.folds import folded_triangles, keep_rigid, unfold
from pipeline.registration.template import Template


def dented(template: Template) -> tuple[Tensor, Tensor, int]:
    """Two templates; a vertex of the first's cheek lies beyond its neighbours."""
    rest = template.tensors.template[None].repeat(2, 1, 1)
    vertex = int(template.model.regions["cheeks"][100])
    moved = rest.clone()
    moved[:, :, 2] += 1.0
    moved[0, vertex, 0] += 30.0
    return rest, moved, vertex


def test_a_step_that_folds_is_taken_back_there_only(template: Template) -> None:
    rest, moved, vertex = dented(template)
    assert folded_triangles(moved, rest, template.faces)[0].any()
    found = unfold(template, moved, rest, rest)
    assert not folded_triangles(found, rest, template.faces).any()
    assert torch.equal(found[1], moved[1])  # the other scan keeps its whole step
    kept = (found[0] == moved[0]).all(-1)
    assert not kept[vertex] and kept.double().mean() > 0.9


def test_eyeballs_move_rigidly_and_the_head_as_it_was(template: Template) -> None:
    rest = template.tensors.template[None]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(rest.shape, generator=generator, dtype=rest.dtype)
    shift = torch.tensor([1.0, -2.0, 5.0], dtype=rest.dtype)
    found = keep_rigid(template, rest + shift + noise, rest)
    assert len(template.loose) == 2
    for part in template.loose:
        apart = (torch.pdist(x[0, part]) for x in (found, rest))
        torch.testing.assert_close(*apart)
        assert ((found - rest)[0, part].mean(0) - shift).norm() < 0.3
    head = torch.ones(rest.shape[1], dtype=torch.bool)
    head[torch.cat(template.loose)] = False
    assert torch.equal(found[:, head], (rest + shift + noise)[:, head])
