"""The same scan under another name, on heads whose surface is known everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from pipeline.identity.duplicates import (
    Candidate,
    Duplicate,
    Points,
    Similarity,
    duplicates,
    face_points,
    fitted,
    similarity,
)
from pipeline.types import Array

NOISE_MM = 0.1
VERTICES = 12_000
STORED = 5_000
REGISTRATION_MM = 0.25


def directions(n: int, rng: np.random.Generator) -> Array:
    """(n,3) over the front of a head."""
    found = rng.normal(size=(3 * n, 3))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found[found[:, 2] > 0][:n]


FACE = directions(120, np.random.default_rng(0))


def head(person: int, change_mm: float = 0.0, change: int = 0) -> Callable[[Array], Array]:
    """Directions (N,3) -> the places of a person's head there, changed at random by `change`."""

    def place(at: Array) -> Array:
        radius = np.full(len(at), 85.0)
        for seed, size in ((person, 2.5), (change, change_mm)):
            rng = np.random.default_rng(seed)
            for k in rng.normal(size=(24, 3)) * 5:
                radius += size * rng.normal() * np.cos(at @ k + rng.uniform(0, 6)) / 3
        return at * radius[:, None] * [0.9, 1.15, 1.0]

    return place


def captured(name: str, place: Callable[[Array], Array], seed: int) -> tuple[Candidate, Array]:
    """A scan of a head, and its triangles; its points are its vertices."""
    rng = np.random.default_rng(seed)
    at = directions(VERTICES, rng)
    vertices = place(at) + rng.normal(scale=NOISE_MM / np.sqrt(3), size=at.shape)
    faces = ConvexHull(np.concatenate([at, [[0, 0, -1]]])).simplices
    faces = faces[(faces < len(at)).all(1)]
    a, b, c = (at[faces[:, i]] for i in range(3))
    outwards = (np.cross(b - a, c - a) * a).sum(1) > 0
    faces = np.where(outwards[:, None], faces, faces[:, ::-1])
    face = place(FACE) + rng.normal(scale=REGISTRATION_MM / np.sqrt(3), size=FACE.shape)
    found = Points(vertices, normals_of(vertices, faces))
    return Candidate(name, face, np.ones(len(face), bool), lambda: found), faces


def normals_of(vertices: Array, faces: Array) -> Array:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normals = np.zeros_like(vertices)
    for i in range(3):
        np.add.at(normals, faces[:, i], np.cross(b - a, c - a))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def stored(scan: Candidate, seed: int = 0) -> Candidate:
    """With as many of its points as a store keeps, in an order of its own."""
    points = scan.points()
    order = np.random.default_rng(seed).permutation(len(points.points_mm))[:STORED]
    kept = Points(*(part[order] for part in points))
    return replace(scan, points=lambda: kept)


def moved(scan: Candidate, name: str, scale: float, seed: int) -> Candidate:
    """In another unit and other axes, registered again."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    shift, points = rng.normal(scale=200, size=3), scan.points()
    new = Points(scale * points.points_mm @ turn.T + shift, points.normals @ turn.T)
    face = scan.face_mm + rng.normal(scale=REGISTRATION_MM / np.sqrt(3), size=FACE.shape)
    face = scale * face @ turn.T + shift
    return Candidate(name, face, scan.seen, lambda: new)


def remeshed(scan: Candidate, faces: Array, n: int, seed: int) -> Candidate:
    """Other points on the same triangles."""
    rng, points = np.random.default_rng(seed), scan.points()
    weights = rng.dirichlet([1, 1, 1], n)
    chosen = faces[rng.integers(len(faces), size=n)]
    new, normals = ((weights[:, :, None] * part[chosen]).sum(1) for part in points)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return replace(scan, points=lambda: Points(new, normals))


def part(scan: Candidate, keep: Callable[[Array], Array]) -> Candidate:
    """Cut out where `keep` says so of places (N,3)."""
    points = scan.points()
    some = keep(points.points_mm)
    return replace(
        scan,
        seen=keep(head(1)(FACE)),
        points=lambda: Points(*(part[some] for part in points)),
    )


REST = head(0)(FACE)
ORIGINAL, TRIANGLES = captured("a:1", head(1), 10)


def middle(places: Array) -> Array:
    return np.asarray(np.hypot(places[:, 0], places[:, 1]) < 65)


COPIES = {
    "same vertices": ORIGINAL,
    "re-meshed": remeshed(ORIGINAL, TRIANGLES, 4_000, 5),
    "a region": part(ORIGINAL, middle),
    "half of it": part(ORIGINAL, lambda places: places[:, 0] > -5),
}


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("scale", [0.92, 1 / 7.3])
def test_copies_are_found_with_their_scale(kind: str, scale: float) -> None:
    copy = moved(stored(COPIES[kind], 3), "b:1", scale, 6)
    (found,) = duplicates([stored(ORIGINAL), copy], REST)
    assert (found.a, found.b) == ("a:1", "b:1")
    assert found.scale == pytest.approx(scale, rel=5e-4)
    assert found.residual_mm < 0.04 and found.overlap > 0.9
    # and the reverse
    (back,) = duplicates([copy, stored(ORIGINAL)], REST)
    assert (back.a, back.scale) == ("b:1", pytest.approx(1 / scale, rel=5e-4))


@pytest.mark.parametrize("change_mm", [0.0, 0.1, 0.2])
def test_another_capture_of_the_person_is_no_copy(change_mm: float) -> None:
    other = stored(captured("a:2", head(1, change_mm, 77), 11)[0])
    assert duplicates([stored(ORIGINAL), other], REST) == []
    fit = similarity(other.face_mm, ORIGINAL.face_mm, np.ones(len(FACE)))
    agreement = fitted(other.points(), stored(ORIGINAL).points(), fit)[1]
    # it is the residual that parts them, not that nothing was found
    assert agreement.overlap > 0.5 and not agreement.is_copy


def test_points_are_loaded_only_of_scans_whose_faces_agree() -> None:
    def never() -> Points:
        raise AssertionError("loaded")

    people = [replace(captured(f"a:{i}", head(i), i)[0], points=never) for i in range(1, 6)]
    assert duplicates(people, REST) == []


def test_a_new_scan_is_compared_with_those_known_and_they_not_again() -> None:
    first, second = stored(ORIGINAL), moved(stored(ORIGINAL, 3), "b:1", 1.02, 6)
    third = moved(stored(ORIGINAL, 4), "c:1", 0.97, 7)
    everybody = duplicates([first, second, third], REST)
    assert [(d.a, d.b) for d in everybody] == [("a:1", "b:1"), ("a:1", "c:1"), ("b:1", "c:1")]
    assert duplicates([third], REST, known=[first, second]) == everybody[1:]
    assert duplicates([], REST, known=[first, second]) == []


def test_two_halves_of_a_scan_are_no_copies_of_each_other() -> None:
    left = part(stored(ORIGINAL), lambda places: places[:, 0] > -35)
    right = replace(part(stored(ORIGINAL, 3), lambda places: places[:, 0] < 35), scan_id="b:1")
    assert (left.seen & right.seen).sum() > 40
    assert duplicates([left, right], REST) == []


def test_dense_scans_are_told_by_the_points_that_coincide() -> None:
    # of 12,000 vertices 3,000 are stored each: one in four of those is in both
    few = [
        replace(stored(ORIGINAL, seed), scan_id=f"{name}:1", points=few_points(seed))
        for name, seed in (("a", 0), ("b", 3))
    ]
    (found,) = duplicates(few, REST)
    assert isinstance(found, Duplicate) and found.scale == pytest.approx(1, rel=1e-4)


def few_points(seed: int) -> Callable[[], Points]:
    kept = Points(*(part[:3000] for part in stored(ORIGINAL, seed).points()))
    return lambda: kept


def test_no_scans() -> None:
    assert duplicates([], REST) == []
    assert duplicates([ORIGINAL], REST) == []


def test_faces_of_another_template_are_refused() -> None:
    odd = replace(ORIGINAL, scan_id="b:2", face_mm=ORIGINAL.face_mm[:50])
    with pytest.raises(ValueError, match=r"b:2: face_mm \(50, 3\), expected \(120, 3\)"):
        duplicates([ORIGINAL, odd], REST)


def test_face_points_are_spread_over_the_face() -> None:
    rng = np.random.default_rng(4)
    template, face = rng.uniform(-80, 80, size=(3000, 3)), np.arange(500, 2500)
    chosen = face_points(face, template)
    assert len(chosen) == len(np.unique(chosen)) == 200 and np.isin(chosen, face).all()
    apart = np.linalg.norm(template[chosen][:, None] - template[chosen], axis=2)
    np.fill_diagonal(apart, np.inf)
    # of 200 points at random the nearest two are 1 mm apart or so
    assert apart.min() > 12
    assert (face_points(face[:30], template) == face[:30]).all()


def test_a_similarity_is_recovered_and_never_mirrors() -> None:
    rng = np.random.default_rng(2)
    points = rng.normal(size=(2, 40, 3))
    turn = np.linalg.qr(rng.normal(size=(2, 3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))[:, None, None]
    truth = Similarity(np.array([0.1, 3.0]), turn, rng.normal(size=(2, 3)))
    weights = (rng.uniform(size=(2, 40)) < 0.7).astype(float)
    target = np.where(weights[..., None] > 0, truth.of(points), 1e3)
    for found, true in zip(similarity(points, target, weights), truth, strict=True):
        np.testing.assert_allclose(found, true, atol=1e-9)
    mirrored = similarity(points, points * [-1, 1, 1], weights)
    np.testing.assert_allclose(np.linalg.det(mirrored.rotation), 1)
