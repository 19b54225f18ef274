from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.geometry.nearest import (
    CellGrid,
    KdTree,
    least_of_each,
    nearest_among,
    ranges,
)


def ball(n: int, radius: float, rng: np.random.Generator) -> np.ndarray:
    points = rng.normal(size=(n, 3))
    return radius * points / np.linalg.norm(points, axis=1, keepdims=True)


def clouds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    head = ball(4000, 90.0, rng) + rng.normal(scale=0.3, size=(4000, 3))
    flat = np.column_stack([rng.uniform(0, 50, size=(500, 2)), np.zeros(500)])
    return {
        "surface": head,
        "surface far from the origin": head + np.array([900.0, -700, 1200]),
        "an outlier": np.concatenate([head, [[1e5, 0, 0]]]),
        "each twice": np.concatenate([head[:300], head[:300]]),
        "a plane": flat,
        "a line": flat * [1, 0, 0],
        "one point": head[:1],
        "one place": np.repeat(head[:1], 40, axis=0),
    }


@pytest.mark.parametrize("name", clouds())
@pytest.mark.parametrize("grid", [False, True])
def test_nearest_of_all(name: str, grid: bool) -> None:
    points = torch.as_tensor(clouds()[name], dtype=torch.float32)
    rng = np.random.default_rng(1)
    chosen = points[torch.from_numpy(rng.integers(len(points), size=400))].numpy()
    around = chosen + rng.normal(size=(400, 3)) * rng.choice([0, 0.5, 8, 60, 3000], size=(400, 1))
    queries = torch.as_tensor(around, dtype=torch.float32)
    distance, index = nearest_among(points, grid)(queries)
    every = (queries[:, None].double() - points.double()).norm(dim=-1)
    best = every.min(1).values
    assert distance.dtype == queries.dtype
    torch.testing.assert_close(distance.double(), best, rtol=1e-5, atol=1e-4)
    found = every[torch.arange(400), index]
    torch.testing.assert_close(found, best, rtol=1e-6, atol=1e-5)


def test_the_grid_needs_no_comparison_with_all_near_the_surface() -> None:
    points = torch.as_tensor(clouds()["surface"], dtype=torch.float32)
    grid = CellGrid(points)
    grid.points = torch.zeros(1, 3)  # what a comparison with all would look at
    queries = points + torch.tensor([0.5, 0.5, 8.0])
    torch.testing.assert_close(grid(queries), KdTree(points)(queries))


@pytest.mark.parametrize("grid", [False, True])
def test_an_answer_depends_on_nothing_but_its_query(grid: bool) -> None:
    points = torch.as_tensor(clouds()["surface"], dtype=torch.float32)
    queries = points[::7] * torch.linspace(0, 3, len(points[::7]))[:, None]
    together = nearest_among(points, grid)(queries)
    again = nearest_among(points.clone(), grid)(queries)
    one_by_one = [nearest_among(points, grid)(q[None]) for q in queries[::25]]
    for i in range(2):
        assert torch.equal(together[i], again[i])
        assert torch.equal(together[i][::25], torch.cat([found[i] for found in one_by_one]))


def test_not_finite() -> None:
    points = torch.as_tensor(clouds()["surface"], dtype=torch.float32)
    queries = points[:3].clone()
    queries[1, 0], queries[2, 2] = torch.nan, torch.inf
    with pytest.raises(ValueError, match="finite"):
        KdTree(points)(queries)
    distance, index = CellGrid(points)(queries)
    assert distance.isfinite().tolist() == [True, False, False]
    assert index[0] == 0 and ((index >= 0) & (index < len(points))).all()


def test_no_queries() -> None:
    points = torch.as_tensor(clouds()["surface"], dtype=torch.float32)
    for grid in (False, True):
        distance, index = nearest_among(points, grid)(torch.zeros(0, 3))
        assert len(distance) == len(index) == 0


def test_ranges_and_their_least() -> None:
    owner, value = ranges(torch.tensor([5, 9, 0]), torch.tensor([2, 0, 3]))
    assert owner.tolist() == [0, 0, 2, 2, 2]
    assert value.tolist() == [5, 6, 0, 1, 2]
    values = torch.tensor([2.0, 1, 4, 3, 3])
    least, first = least_of_each(values, owner, 3)
    assert least.tolist() == [1, torch.inf, 3]
    assert first.tolist() == [1, 5, 3]


def test_a_value_that_is_no_number_has_a_place() -> None:
    least, first = least_of_each(torch.tensor([1.0, torch.nan]), torch.tensor([0, 0]), 1)
    assert least.isnan().all()
    assert first.item() in (0, 1)
