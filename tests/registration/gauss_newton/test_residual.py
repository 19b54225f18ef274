from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipeline.flame.model import FlameModel
from pipeline.registration.gauss_newton.residual import LARGE_LENGTH_MM, SMALL, residual_basis
from pipeline.registration.template import Template, prepare_template


def mm(amplitude: float) -> Tensor:
    return torch.tensor(amplitude, dtype=torch.float64)


@pytest.mark.parametrize("amplitude", [0.0, 0.5, 4.0])
def test_both_fields_have_their_standard_deviations_on_the_face(
    template: Template, amplitude: float
) -> None:
    basis = residual_basis(template, 120)
    weights = basis.columns[template.face_region].square()
    variance = (weights / basis.precision(mm(amplitude))).sum(1).mean()
    assert float(variance) == pytest.approx(SMALL**2 + amplitude**2, abs=1e-9)


def test_precision_is_of_each_scan_s_amplitude(template: Template) -> None:
    basis = residual_basis(template, 20)
    both = basis.precision(torch.tensor([0.5, 3.0], dtype=torch.float64))
    torch.testing.assert_close(both[1], basis.precision(mm(3.0)))
    assert bool((both[0] > both[1]).all())


def test_the_large_field_is_a_matern_field_of_space(template: Template) -> None:
    """Its covariance falls with the distance through space, whatever the way along the surface."""
    basis = residual_basis(template, 220)
    at = template.face_region[::7]
    columns, rest = basis.columns[at], template.tensors.template[at]
    found = (columns * basis.large) @ columns.T
    wanted = (-(rest[:, None] - rest).norm(dim=-1) / LARGE_LENGTH_MM).exp()
    assert float((found / found.diagonal().mean() - wanted).abs().max()) < 0.15


def test_the_small_field_has_the_shorter_waves(template: Template) -> None:
    basis = residual_basis(template, 120)
    assert bool((basis.large.diff() <= 0).all())
    assert basis.large[0] / basis.large[-1] > 5 * basis.small[0] / basis.small[-1]


def test_fewer_eigenfunctions_are_the_first_of_more(template: Template) -> None:
    few, many = residual_basis(template, 40), residual_basis(template, 120)
    torch.testing.assert_close(few.columns, many.columns[:, :40])


def test_samples_are_smooth(template: Template) -> None:
    """Neighbours move together: their difference is far below the field's own size."""
    basis = residual_basis(template, 120)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(120, 200, generator=generator, dtype=torch.float64)
    sample = basis.columns @ (noise / basis.precision(mm(0.0)).sqrt()[:, None])
    edge = template.faces[:, :2]
    in_face = torch.isin(edge, template.face_region).all(1)
    step = (sample[edge[in_face, 0]] - sample[edge[in_face, 1]]).square().mean().sqrt()
    assert step < 0.35 * sample[template.face_region].square().mean().sqrt()


def test_a_bare_template_can_also_be_stretched_as_a_whole_and_at_the_jaw(bare: FlameModel) -> None:
    template = prepare_template(bare, "cpu", 40)
    basis = residual_basis(template, 40)
    assert basis.columns.shape[1] == 48
    rest = template.tensors.template
    affine = torch.cat([torch.ones_like(rest[:, :1]), rest], 1)
    for wanted, columns in (
        (affine, basis.columns[:, :4]),
        (template.lower_face[:, None] * affine, basis.columns[:, 4:8]),
    ):
        found = torch.linalg.lstsq(columns, wanted).solution
        torch.testing.assert_close(columns @ found, wanted)
    # their prior does not depend on the scan
    loose = basis.precision(torch.tensor([0.1, 6.0], dtype=torch.float64))[:, :8]
    torch.testing.assert_close(loose[0], loose[1])
    smooth = basis.columns[template.face_region, 8:].square() / basis.precision(mm(3.0))[8:]
    assert float(smooth.sum(1).mean()) == pytest.approx(3.0**2, abs=1e-9)


def test_without_lips_the_jaw_is_left_out(bare: FlameModel) -> None:
    template = prepare_template(replace(bare, landmarks=None), "cpu", 40)
    assert residual_basis(template, 40).columns.shape[1] == 44
