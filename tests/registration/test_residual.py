from __future__ import annotations

import torch

from pipeline.flame.model import FlameModel
from pipeline.registration.residual import LARGE, SMALL, residual_basis
from pipeline.registration.template import Template, prepare_template


def test_the_field_has_its_standard_deviation_on_the_face(template: Template) -> None:
    basis = residual_basis(template, 120)
    variance = (basis.columns[template.face_region].square() / basis.precision).sum(1)
    assert abs(float(variance.mean()) - SMALL**2) < 1e-9


def test_short_waves_are_rarer_than_long_ones(template: Template) -> None:
    precision = residual_basis(template, 120).precision
    assert bool((precision.diff() >= 0).all())
    assert precision[-1] > 5 * precision[0]


def test_samples_are_smooth(template: Template) -> None:
    """Neighbours move together: their difference is far below the field's own size."""
    basis = residual_basis(template, 120)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(120, 200, generator=generator, dtype=torch.float64)
    sample = basis.columns @ (noise / basis.precision.sqrt()[:, None])
    edge = template.faces[:, :2]
    in_face = torch.isin(edge, template.face_region).all(1)
    step = (sample[edge[in_face, 0]] - sample[edge[in_face, 1]]).square().mean().sqrt()
    assert step < 0.35 * sample[template.face_region].square().mean().sqrt()


def test_a_bare_template_can_also_be_stretched_as_a_whole(bare: FlameModel) -> None:
    template = prepare_template(bare, "cpu", 40)
    basis = residual_basis(template, 40)
    assert basis.columns.shape[1] == 44
    rest = template.tensors.template
    wanted = torch.cat([torch.ones_like(rest[:, :1]), rest], 1)
    found = torch.linalg.lstsq(basis.columns[:, :4], wanted).solution
    torch.testing.assert_close(basis.columns[:, :4] @ found, wanted)
    smooth = (basis.columns[template.face_region, 4:].square() / basis.precision[4:]).sum(1)
    assert abs(float(smooth.mean()) - LARGE**2) < 1e-9
