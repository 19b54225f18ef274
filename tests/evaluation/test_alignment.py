"""Procrustes: equal to the authors' in all its forms; clear about points that fix nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pipeline.errors import FacefoldError
from pipeline.evaluation.alignment.procrustes import Similarity, procrustes
from pipeline.types import Array

REFLECTION = {"best": None, "False": False, "True": True}
MIRROR = np.diag([-1.0, 1.0, 1.0])


def options(text: str) -> tuple[bool, bool | None]:
    """What an option of the oracles asks for: (scaled, reflection)."""
    words = dict(word.split("=") for word in text.split())
    return bool(int(words["scaling"])), REFLECTION[words["reflection"]]


@pytest.mark.oracles
def test_equals_the_authors(oracles: Path) -> None:
    with np.load(oracles / "fg2018_procrustes.npz") as found:
        cases = dict(found)
    asked = set()
    for i, option in enumerate(cases["option"]):
        scaled, reflection = options(str(option))
        asked.add((scaled, reflection))
        source, target = cases["source"][i], cases["target"][i]
        fitted = procrustes(source, target, scaled=scaled, reflection=reflection)
        moved = fitted.apply(source)
        spread = np.square(target - target.mean(0)).sum()
        for got, expected in (
            (moved, cases["transformed"][i]),
            (fitted.rotation.T, cases["rotation"][i]),
            (fitted.translation, cases["translation"][i]),
            (fitted.scale, cases["scale"][i]),
            (fitted.determinant, cases["determinant"][i]),
            (np.square(moved - target).sum() / spread if scaled else cases["d"][i], cases["d"][i]),
        ):
            np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
    assert {scaled for scaled, _ in asked} == {True, False}
    assert {reflection for _, reflection in asked} == {None, False, True}


def seven(seed: int = 3) -> Array:
    return np.random.default_rng(seed).normal(0, 30, (7, 3))


def turned(by: float = 1.0) -> Array:
    return Rotation.from_rotvec([by, -0.4, 0.2]).as_matrix()


@pytest.mark.parametrize("scale", [1.0, 0.001, 1000.0])
@pytest.mark.parametrize("reflection", [None, False])
def test_finds_the_similarity_that_made_the_points(scale: float, reflection: bool | None) -> None:
    made = Similarity(scale, turned(), np.array([5.0, -300.0, 2.0]))
    fitted = procrustes(seven(), made.apply(seven()), reflection=reflection)
    np.testing.assert_allclose(fitted.affine, made.affine, rtol=1e-9, atol=1e-9 * scale)
    assert fitted.determinant == 1


def test_a_mirrored_source_is_turned_back_only_if_reflections_are_allowed() -> None:
    mirrored = seven() @ MIRROR
    allowed = procrustes(mirrored, seven(), reflection=None)
    assert allowed.determinant == -1
    np.testing.assert_allclose(allowed.apply(mirrored), seven(), atol=1e-9)
    proper = procrustes(mirrored, seven())
    assert proper.determinant == 1
    assert np.abs(proper.apply(mirrored) - seven()).max() > 10


def test_without_scale_the_size_is_kept() -> None:
    fitted = procrustes(seven(), 1.2 * seven() @ turned().T, scaled=False)
    assert fitted.scale == 1
    np.testing.assert_allclose(fitted.rotation, turned(), atol=1e-9)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("reflection", [None, False, True])
def test_no_other_similarity_fits_better(scaled: bool, reflection: bool | None) -> None:
    source, target = seven(), seven(4)
    fitted = procrustes(source, target, scaled=scaled, reflection=reflection)
    best = np.square(fitted.apply(source) - target).sum()
    rng = np.random.default_rng(0)
    for _ in range(50):
        turn = Rotation.from_rotvec(rng.normal(0, 0.01, 3)).as_matrix()
        other = Similarity(
            fitted.scale * (1 + rng.normal(0, 0.01) * scaled),
            fitted.rotation @ turn,
            fitted.translation + rng.normal(0, 0.1, 3),
        )
        assert np.square(other.apply(source) - target).sum() >= best


def test_four_points_of_a_plane_are_enough() -> None:
    flat = np.array([[0, 0, 0], [60, 0, 0], [60, 40, 0], [0, 40, 0.0]])
    fitted = procrustes(flat, flat @ turned().T)
    np.testing.assert_allclose(fitted.rotation, turned(), atol=1e-9)


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (seven()[:2], seven()[:2], "2 points, expected at least 3"),
        (seven(), seven()[:6], r"shape \(7, 3\) and \(6, 3\)"),
        (seven()[:, :2], seven()[:, :2], r"expected \(N,3\)"),
        (np.outer(np.arange(7), [1.0, 2, 3]), seven(), "prediction: the points lie on a line"),
        (seven(), np.ones((7, 3)), "truth: the points lie on a line"),
    ],
)
def test_points_that_fix_no_similarity(source: Array, target: Array, said: str) -> None:
    with pytest.raises(FacefoldError, match=said):
        procrustes(source, target)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_points_that_are_not_finite_are_named(value: float) -> None:
    lost = seven()
    lost[[2, 5]] = value
    with pytest.raises(FacefoldError, match="prediction that are not finite, rows 2, 5"):
        procrustes(lost, seven())
    with pytest.raises(FacefoldError, match="truth that are not finite"):
        procrustes(seven(), lost)
