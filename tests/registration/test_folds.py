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


def test_a_fold_at_the_corner_of_an_opening_mouth_leaves_the_chin_where_it_is(
    template: Template,
) -> None:
    """A jaw opens by 20 mm at the lips; a vertex at a corner of the mouth is led astray."""
    rest = template.tensors.template[None]
    moved = rest.clone()
    moved[..., 1] -= 20.0 * template.lower_face
    embedding = template.model.landmarks
    assert embedding is not None
    corner = int(template.faces[embedding.triangles[embedding.indices_68 == 48].item(), 0])
    moved[0, corner] += torch.tensor([12.0, 0.0, -4.0], dtype=rest.dtype)
    seen = (template.areas[template.faces] > 0).any(1)
    assert bool((folded_triangles(moved, rest, template.faces) & seen).any())
    found = unfold(template, moved, rest, rest)
    assert not bool((folded_triangles(found, rest, template.faces) & seen).any())
    chin = (template.lower_face > 0.5) & ((rest[0] - rest[0, corner]).norm(dim=1) > 25)
    assert chin.sum() > 50
    lost = (found - moved)[0, chin].norm(dim=1)
    assert lost.max() < 0.5


def test_what_no_scan_shows_may_fold(template: Template) -> None:
    rest = template.tensors.template[None]
    inside = (template.areas[template.faces] == 0).all(1).nonzero()[0]
    moved = rest.clone()
    moved[0, template.faces[inside[0], 0]] += torch.tensor([30.0, 0.0, 0.0], dtype=rest.dtype)
    folded = folded_triangles(moved, rest, template.faces)
    assert folded.any() and not bool((folded & (template.areas[template.faces] > 0).any(1)).any())
    assert torch.equal(unfold(template, moved, rest, rest), moved)


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
