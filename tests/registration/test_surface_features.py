from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from scipy.sparse import csr_array
from torch import Tensor

from pipeline.flame.model import FlameModel
from pipeline.geometry.mesh import vertex_normals
from pipeline.registration.coefficients import posed_vertices, rest_coefficients
from pipeline.registration.matches import Matches, ScanSurface, find_matches
from pipeline.registration.surface_features import (
    FeatureSites,
    along_surface,
    feature_rows,
    feature_sites,
    independent_share,
    weights,
)
from pipeline.registration.template import Template, prepare_template
from tests.registration.model_scans import make_scan

MODES = 60


@pytest.fixture(scope="module")
def places(template: Template) -> FeatureSites:
    found = feature_sites(template, MODES)
    assert found is not None
    return found


def perfect(vertices: Tensor, faces: Tensor, at: Tensor) -> Matches:
    """Matches of a template that lies on its scan."""
    normals = vertex_normals(vertices, faces)[:, at]
    one = torch.ones_like(normals[..., 0])
    return Matches(vertices[:, at], normals, one, 0 * one)


def rows_of(
    template: Template, places: FeatureSites, vertices: Tensor, matches: Matches
) -> tuple[Tensor, Tensor, Tensor]:
    rest = rest_coefficients(template, len(vertices))
    return feature_rows(template, places, rest, vertices, matches)


def common_step(rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """(B,3) mm: the one step of all sites that the rows ask for."""
    direction, weight, gap = rows
    left = (direction * weight[..., None]).mT @ direction
    right = (direction * (weight * gap)[..., None]).sum(1)
    return torch.linalg.solve(left, right)


def test_where_the_mean_face_lies_on_itself_nothing_pulls(
    template: Template, places: FeatureSites
) -> None:
    rest = posed_vertices(template, rest_coefficients(template, 1))
    matches = perfect(rest, template.faces, places.around)
    direction, weight, gap = rows_of(template, places, rest, matches)
    assert direction.shape == (1, 2 * len(places.middle), 3)
    assert len(places.sites.at) == 2 * len(places.middle)
    torch.testing.assert_close(gap, torch.zeros_like(gap), atol=1e-5, rtol=0)
    assert (weight > 0).double().mean() > 0.9
    normal = matches.normal[:, places.middle].repeat(1, 2, 1)
    assert (direction * normal).sum(-1).abs().max() < 1e-6


@pytest.mark.parametrize("slide", [(0.0, 1.5, 0.0), (0.0, -1.5, 0.0), (1.5, 0.0, 0.0)])
def test_a_template_slid_along_a_face_is_pulled_back(
    template: Template, places: FeatureSites, model: FlameModel, slide: tuple[float, float, float]
) -> None:
    """Another person than the mean, whose distance to the scan does not show that it has slid."""
    truth = make_scan(model, 5)
    surface = ScanSurface.of(truth.scan, "cpu")
    there = torch.as_tensor(truth.vertices_mm)[None]
    normal = vertex_normals(there, template.faces)
    moved = torch.tensor(slide, dtype=torch.float64)
    moved = there + moved - (normal @ moved)[..., None] * normal

    def step(vertices: Tensor) -> Tensor:
        found = find_matches(vertices, [surface], template, 4.0, 0.5, at=places.around)
        across = (found.normal * (found.point - vertices[:, places.around])).sum(-1).abs()
        assert float(across[found.weight > 0].median()) < 0.15
        return common_step(rows_of(template, places, vertices, found))[0]

    back = step(moved) - step(there)
    assert float((back + torch.tensor(slide, dtype=torch.float64)).norm()) < 0.75
    assert float(step(there).norm()) < 0.6


def test_a_batch_gives_what_each_scan_gives_alone(
    template: Template, places: FeatureSites, model: FlameModel
) -> None:
    scans = [make_scan(model, seed) for seed in (5, 6)]
    surfaces = [ScanSurface.of(one.scan, "cpu") for one in scans]
    vertices = torch.stack([torch.as_tensor(one.vertices_mm) for one in scans])
    found = find_matches(vertices, surfaces, template, 4.0, 0.5, at=places.around)
    together = rows_of(template, places, vertices, found)
    for row in range(2):
        alone = Matches(*(part[row : row + 1] for part in found))
        for one, both in zip(
            rows_of(template, places, vertices[row : row + 1], alone), together, strict=True
        ):
            torch.testing.assert_close(one[0], both[row], rtol=1e-5, atol=1e-7)


def test_what_the_scan_does_not_show_has_no_weight(
    template: Template, places: FeatureSites
) -> None:
    rest = posed_vertices(template, rest_coefficients(template, 1))
    matches = perfect(rest, template.faces, places.around)
    left = rest[0, places.around, 0] > 0
    normal = matches.normal.clone()
    normal[:, left] = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    half = Matches(matches.point, normal, (~left).double()[None], matches.distance)
    direction, weight, gap = rows_of(template, places, rest, half)
    shown = ~left[places.middle].repeat(2)
    assert bool((weight[0, ~shown] == 0).all())
    assert weight[0, shown].mean() > 0
    assert bool(torch.isfinite(gap).all()) and bool(torch.isfinite(direction).all())
    # nothing of the unseen half reaches the other
    assert gap[0, weight[0] > 0].abs().max() < 1e-5
    nothing = Matches(matches.point, normal, 0 * half.weight, matches.distance)
    assert all(bool(torch.isfinite(p).all()) for p in rows_of(template, places, rest, nothing))


def test_rows_are_the_normal_equations_of_the_tangent_plane() -> None:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    slope, gap, normal = random(2, 5, 3, 3), random(2, 5, 3), random(2, 5, 3)
    normal = torch.nn.functional.normalize(normal, dim=-1)
    weight = torch.rand(2, 5, generator=generator, dtype=torch.float64)
    direction, size, along = along_surface(slope, gap, weight, normal)
    direction, size, along = (x.unflatten(1, (2, 5)) for x in (direction, size, along))
    flat = torch.eye(3, dtype=torch.float64) - normal[..., None] * normal[..., None, :]
    turn = slope @ flat
    left = weight[..., None, None] * (turn.mT @ turn)
    right = weight[..., None] * (turn.mT @ gap[..., None])[..., 0]
    outer = direction[..., None] * direction[..., None, :]
    torch.testing.assert_close((size[..., None, None] * outer).sum(1), left)
    torch.testing.assert_close(((size * along)[..., None] * direction).sum(1), right)


def test_a_scan_unlike_the_template_counts_less(places: FeatureSites) -> None:
    n = len(places.middle)
    seen = torch.ones(1, n, dtype=torch.float64)
    like, unlike = (torch.full((1, n, 3), x, dtype=torch.float64) for x in (0.02, 0.5))
    assert bool((weights(places, unlike, seen) < 0.2 * weights(places, like, seen)).all())
    outlier = like.clone()
    outlier[0, 7] = 2.0
    assert weights(places, outlier, seen)[0, 7] < 0.2 * weights(places, like, seen)[0, 7]


def test_sites_whose_averages_overlap_share_their_say() -> None:
    rows = csr_array(np.array([[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 1.0, 0]]))
    np.testing.assert_allclose(independent_share(rows), [0.5, 0.5, 1.0])


def test_a_template_without_bends_has_no_features(bare: FlameModel) -> None:
    ball = trimesh.creation.icosphere(subdivisions=3, radius=100.0)
    n = len(ball.vertices)
    smooth = replace(
        bare,
        template_mm=np.asarray(ball.vertices, np.float64),
        faces=np.asarray(ball.faces, np.int64),
        shape_basis_mm=np.zeros((n, 3, 0)),
        expression_basis_mm=np.zeros((n, 3, 0)),
        pose_basis_mm=np.zeros((n, 3, 0)),
        joint_regressor=np.zeros((0, n)),
        weights=np.zeros((n, 0)),
        regions={"face": np.arange(n), "eyeballs": np.zeros(0, np.int64)},
        landmarks=None,
    )
    assert feature_sites(prepare_template(smooth, "cpu", 12), 12) is None
