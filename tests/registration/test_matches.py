from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import scan_of
from remeshing import keep_triangles

from pipeline.registration.matches import (
    Matches,
    ScanSurface,
    find_matches,
    smooth_normals,
    sum_around,
)
from pipeline.registration.template import Template
from pipeline.types import Scan


@pytest.fixture(scope="module")
def head(template: Template) -> Scan:
    """The template's own surface, eyeballs included."""
    return scan_of("head", template.model.template_mm, template.model.faces, None, oriented=True)


def matches_on(template: Template, scan: Scan, on_triangles: bool = True) -> Matches:
    surfaces = [ScanSurface.of(scan, "cpu")]
    rest = template.tensors.template[None]
    return find_matches(rest, surfaces, template, 4.0, 0.5, on_triangles=on_triangles)


@pytest.mark.parametrize("on_triangles", [True, False])
def test_a_surface_on_itself(template: Template, head: Scan, on_triangles: bool) -> None:
    found = matches_on(template, head, on_triangles)
    assert found.distance.max() < 1e-3
    weight = found.weight[0].numpy()
    assert (weight[template.face_region] > 0.99).mean() > 0.97
    for name in ("eyeballs", "mouth_interior"):
        assert not weight[template.model.regions[name]].any()


def test_weights_fall_with_the_distance(template: Template, head: Scan) -> None:
    away = replace(head, vertices_mm=head.vertices_mm + np.float32([0, 0, 50]))
    found = matches_on(template, away)
    trusted = found.weight[0] > 0
    assert trusted.any()
    expected = (16 / (16 + found.distance[0][trusted] ** 2)) ** 2
    np.testing.assert_allclose(found.weight[0][trusted], expected)
    assert found.weight[0][trusted][found.distance[0][trusted] > 20].max() < 0.002


@pytest.mark.parametrize("on_triangles", [True, False])
def test_nothing_matches_a_surface_that_looks_away(
    template: Template, head: Scan, on_triangles: bool
) -> None:
    inside_out = replace(head, normals=-head.normals)
    assert not matches_on(template, inside_out, on_triangles).weight.any()


@pytest.mark.parametrize("on_triangles", [True, False])
def test_nothing_matches_where_the_scan_ends(
    template: Template, head: Scan, on_triangles: bool
) -> None:
    left = (head.vertices_mm[head.faces][..., 0] > 0).all(1)
    half = scan_of("half", *keep_triangles(head.vertices_mm, head.faces, left), None, True)
    weight = matches_on(template, half, on_triangles).weight[0].numpy()
    face = template.face_region.numpy()
    x = template.model.template_mm[face, 0]
    # a fold of the skin may face its counterpart across the cut
    assert (weight[face][x < -5] > 0).mean() < 0.02
    assert (weight[face][x > 10] > 0).mean() > 0.97


@pytest.mark.parametrize("by_segments", [True, False])
def test_sums_around_vertices(by_segments: bool) -> None:
    faces = torch.tensor([[0, 1, 2], [2, 1, 3]])
    values = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [5, 0, 0], [7, 7, 7]])
    around = sum_around(faces, 5, by_segments)(values)
    first, second = [1.0, 1, 1], [5.0, 1, 1]
    assert around.tolist() == [first, [6, 2, 2], [6, 2, 2], second, [0, 0, 0]]


def test_smoothing_evens_out_one_wrong_normal() -> None:
    faces = torch.tensor([[0, i, i % 6 + 1] for i in range(1, 7)])  # a fan around vertex 0
    normals = torch.tensor([[0.0, 0, 1]] * 8)
    normals[0] = torch.tensor([1.0, 0, 0])
    smooth = smooth_normals(normals, faces)
    assert smooth[0, 2] > 0.85
    torch.testing.assert_close(smooth.norm(dim=1), torch.ones(8))
    assert smooth[7].tolist() == [0, 0, 1]  # without triangles
    assert torch.equal(smooth_normals(normals, faces[:0]), normals)
