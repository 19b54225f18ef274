"""Where a face is on a scan without landmarks: features, sampled hypotheses, a fit, and a judge.

Hypotheses come from two matched features each (RANSAC, Fischler, Bolles 1981; pairs of oriented
points as in Drost et al. 2010); they are scored by how much of the template's face the scan
confirms and how much it contradicts. The best are fitted with a few modes of shape, for an odd
face tilts a rigid one; the winner must fit well and beat every different pose. The random numbers
are seeded: a result repeats.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree
from torch import Tensor

from pipeline.errors import Code, RegistrationError
from pipeline.geometry.features import ring_profiles, thin
from pipeline.geometry.mesh import vertex_normals
from pipeline.geometry.rigid import rotation_matrices, umeyama
from pipeline.registration.annealing import geometric
from pipeline.registration.coefficients import posed_vertices, rest_coefficients
from pipeline.registration.solvable import solvable
from pipeline.registration.template import Template
from pipeline.types import Array, Scan
from pipeline.units import OUTER_EYE_MM

SURFACE_CELL_MM, FEATURE_CELL_MM = 7.0, 10.0
FACE_CELL_MM, CONTEXT_CELL_MM, CONTEXT_MM = 7.0, 10.0, 50.0
"""The template's points: its face, and around it, sparser, what else holds the pose."""
CANDIDATES = 8
"""Scan points with the most similar profile that a template point may be."""
CUT_RING = 0.7
"""What a ring without its full circle counts in the distance of profiles, in variances."""
MIN_POINTS = 30
PAIRS = 30_000
MIN_BASE_MM, MAX_STRETCH, MAX_COSINE_GAP = 30.0, 0.15, 0.3
"""Faces differ: a pair's distance and its normals' cosines may differ this much. None is scaled."""
SHORTLIST = (1000, 200, 14, 6)
"""Hypotheses scored roughly, scored well, fitted rigidly, fitted with shape."""
MAX_TURN_DEGREES = 50.0
"""From the declared axes, where a source declares them."""
GRID_MM, MAX_GRID = 8.0, 400_000
START_DEGREES = 15.0
"""A known start is tried as it is and turned by this about each axis."""
ASIDE_MM = 8.0
"""A template point with the scan's nearest this far beside the normal lies past the scan's edge."""
TOLERANCE_MM, FITTED_TOLERANCE_MM = 8.0, 4.0
"""Off by this much, a point of the rigid, or of the fitted, face confirms nothing."""
MODES, SMOOTH_MODES = 60, 15
SMOOTH_MM, BARE_SMOOTH_MM, SMOOTH_REACH_MM = 1.5, 4.0, 35.0
"""Deviation and reach of the smooth deformations besides a model's own, and of a bare template."""
EXPRESSION_RMS_MM, JAW_RAD = 9.0, 0.2
"""What expressions move the face by, and one deviation of the jaw where it is a joint."""
NOISE_MM, INDEPENDENT_POINTS = 1.5, 100
"""Misfit that no mode explains, and how many points of the face err independently."""
RIGID_STEPS, RIGID_REACH_MM = 8, (15.0, 8.0)
SHAPE_STEPS, SHAPE_REACH_MM = 10, (10.0, 4.0)
"""Gauss–Newton steps, and the robust weights' scale at the first and at the last."""
FIRST_STIFFNESS = 100.0
"""Times the prior's precision at first: the pose comes before the shape, else a face absorbs a
tilt."""
SIZE_STEP = 0.85
"""A face so much smaller or larger than the template is still found."""
RELIEF_MM = 20.0
JAW = 2
"""The joint of that name where a model has FLAME's."""
MIN_AGREEMENT, MIN_SHARE, MIN_LEAD = 0.6, 0.45, 0.05
"""A face must be confirmed where it bends and the scan has data, show enough of that, and beat
other poses. Of 200 faces and parts of faces the least had .67, .63, .20; of balls, planes, boxes,
torsos, backs of heads and scalps none with such a share exceeded .47 in agreement."""


@dataclass(frozen=True, eq=False)
class Surface:
    """Thinned points of a scan with normals; a grid and a k-d tree find the nearest."""

    points: Array  # (N,3)
    normals: Array  # (N,3)
    tree: cKDTree
    corner: Array  # (3,) of the grid
    cell: float
    nearest: Array  # (X,Y,Z) index of the point nearest to a cell

    @classmethod
    def of(cls, points: Array, normals: Array) -> Surface:
        corner = points.min(0) - 2 * GRID_MM
        extent = points.max(0) + 2 * GRID_MM - corner
        cell = max(GRID_MM, float((extent.prod() / MAX_GRID) ** (1 / 3)))
        empty = np.ones(np.ceil(extent / cell).astype(int), dtype=bool)
        nearest = np.zeros(empty.shape, np.int64)
        at = tuple(((points - corner) / cell).astype(int).T)
        empty[at], nearest[at] = False, np.arange(len(points))
        filled = distance_transform_edt(empty, return_distances=False, return_indices=True)
        return cls(points, normals, cKDTree(points), corner, cell, nearest[tuple(filled)])

    def roughly_nearest(self, queries: Array) -> Array:
        """(…,3) -> (…) indices, off by no more than a cell or two."""
        at = ((queries - self.corner) / self.cell).astype(np.int64)
        at = np.clip(at, 0, np.array(self.nearest.shape) - 1)
        return self.nearest[at[..., 0], at[..., 1], at[..., 2]]


@dataclass(frozen=True, eq=False)
class Face:
    """The part of a template that any face scan should show, and how faces vary."""

    points: Array  # (P,3): N of the face, then its context
    normals: Array  # (P,3)
    modes: Array  # (P,3,K) one standard deviation each
    relief: Array  # (N,) how much the face bends there, mean 1
    places: Array  # (M,3) where profiles were taken
    place_normals: Array  # (M,3)
    profiles: Array  # (M,R,5)
    spread: Array  # (R,5) standard deviation of the profiles over the face

    def every(self, wanted: int) -> slice:
        """About `wanted` of the face's own points."""
        return slice(0, len(self.relief), max(1, len(self.relief) // wanted))

    @property
    def centre(self) -> Array:
        """(3,) middle of the face."""
        return np.asarray(self.points[: len(self.relief)].mean(0))


@dataclass(frozen=True, eq=False)
class Fit:
    """The face fitted from H poses."""

    rotations: Array  # (H,3,3)
    translations: Array  # (H,3)
    shapes: Array  # (H,P,3) in the template's frame


@dataclass(frozen=True)
class Verdict:
    """What one fit is worth, each in [0, 1] but the score in [-1, 1]."""

    score: float
    """Confirmed minus contradicted share of the face."""
    agreement: float
    """Share of the face that is confirmed where the scan has data, weighted by relief."""
    share: float
    """Share of the face's relief where the scan has data."""


def search(
    template: Template, scan: Scan, outer_eye_mm: tuple[float, float] = OUTER_EYE_MM
) -> tuple[Tensor, Tensor]:
    """Rotation (3,3) and translation (3,) of the template's face onto the scan.

    The rigid motion that lies closest to the fitted face, where the scan has data. Where eye
    corners may be nearer or farther apart than adults', smaller and larger faces are tried too, and
    the middle of the template's face is laid onto that of the one found. Raises RegistrationError
    where no pose fits well or two different ones fit equally well.
    """
    face = face_of(template)
    first: RegistrationError | None = None
    for size in face_sizes(outer_eye_mm):
        resized = scan if size == 1 else replace(scan, vertices_mm=scan.vertices_mm / size)
        try:
            with solvable(scan.scan_id):
                rotation, translation = _search(face, resized)
        except RegistrationError as fault:
            first = first or fault
            continue
        middle = rotation @ torch.from_numpy(face.centre)
        return rotation, translation + (size - 1) * (middle + translation)
    assert first is not None
    raise first


def face_sizes(outer_eye_mm: tuple[float, float]) -> list[float]:
    """Sizes to try, relative to an adult's: 1 if it is among them, first, then smaller ones."""
    low, high = (mm / usual for mm, usual in zip(outer_eye_mm, OUTER_EYE_MM, strict=True))
    sizes: list[float] = []
    size = high
    while size >= low or not sizes:
        sizes.append(size)
        size *= SIZE_STEP
    return sorted(sizes, key=lambda size: abs(np.log(size)))


def _search(face: Face, scan: Scan) -> tuple[Tensor, Tensor]:
    vertices, normals = scan.vertices_mm.astype(np.float64), scan.normals.astype(np.float64)
    surface = Surface.of(*thin(vertices, normals, SURFACE_CELL_MM))
    rotations, translations = hypotheses(face, *thin(vertices, normals, FEATURE_CELL_MM))
    if scan.oriented:
        near = turn_degrees(rotations, np.eye(3)) < MAX_TURN_DEGREES
        rotations, translations = rotations[near], translations[near]
    if not len(rotations):
        raise RegistrationError(
            f"scan {scan.scan_id}: no landmarks, and no part of it resembles a face; give "
            "landmarks",
            Code.NO_FACE,
        )
    for points, count in zip((60, 200), SHORTLIST[1:3], strict=True):
        score = scores(face, surface, rotations, translations, face.every(points))
        best = distinct(face, rotations, translations, score, count, 12 if points == 200 else 0)
        rotations, translations = rotations[best], translations[best]
    return refined(scan.scan_id, face, surface, rotations, translations)


def settle(
    template: Template, scan: Scan, rotation: Array, translation: Array
) -> tuple[Tensor, Tensor]:
    """`search` from one pose (3,3), (3,) that is known to about 20° and 30 mm.

    Raises RegistrationError where no face fits near it.
    """
    face = face_of(template)
    vertices, normals = scan.vertices_mm.astype(np.float64), scan.normals.astype(np.float64)
    surface = Surface.of(*thin(vertices, normals, SURFACE_CELL_MM))
    turns = np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)]) * np.radians(START_DEGREES)
    rotations = rotation_matrices(torch.from_numpy(turns)).numpy() @ rotation
    # turned about the face, which stays where the start puts it
    translations = rotation @ face.centre + translation - rotations @ face.centre
    with solvable(scan.scan_id):
        return refined(scan.scan_id, face, surface, rotations, translations)


def refined(
    scan_id: str, face: Face, surface: Surface, rotations: Array, translations: Array
) -> tuple[Tensor, Tensor]:
    """The best of a few poses after rigid and shaped fits; raises as `search` does."""
    rough = fitted(face, surface, rotations, translations, shaped=False)
    score = scores(face, surface, rough.rotations, rough.translations, face.every(10_000))
    best = distinct(face, rough.rotations, rough.translations, score, SHORTLIST[3], 12)
    fit = fitted(face, surface, rough.rotations[best], rough.translations[best], shaped=True)
    verdicts, motion = judged(face, surface, fit)
    winner = chosen(scan_id, face, verdicts, *motion)
    return torch.from_numpy(motion[0][winner]), torch.from_numpy(motion[1][winner])


@lru_cache(maxsize=4)
def face_of(template: Template) -> Face:
    """What the search knows of a template, made once."""
    data, region = template.data.cpu().numpy(), template.face_region.cpu().numpy()
    normals = vertex_normals(template.tensors.template, template.faces).cpu().numpy()
    vertices = template.tensors.template.cpu().numpy()
    on_face = cKDTree(vertices[region])
    # profiles at the face's rim need what lies around it
    places, place_normals = thin(vertices[data], normals[data], FEATURE_CELL_MM)
    profiles, _ = ring_profiles(places, place_normals)
    inner = on_face.query(places)[0] < FEATURE_CELL_MM
    sampled, smooth = thin(vertices[data], normals[data], FACE_CELL_MM)
    own = region[np.unique(on_face.query(sampled)[1])]
    around, _ = thin(vertices[data], normals[data], CONTEXT_CELL_MM)
    gap = on_face.query(around)[0]
    around = around[(gap > CONTEXT_CELL_MM) & (gap < CONTEXT_MM)]
    context = np.setdiff1d(data[cKDTree(vertices[data]).query(around)[1]], own)
    at = np.concatenate([own, context])
    points, normals = vertices[at], smooth[cKDTree(sampled).query(vertices[at])[1]]
    return Face(
        points=points,
        normals=normals,
        modes=modes_of(template, at),
        relief=relief(points[: len(own)], normals[: len(own)]),
        places=places[inner],
        place_normals=place_normals[inner],
        profiles=profiles[inner],
        spread=np.maximum(profiles[inner].std(0), 1e-3),
    )


def relief(points: Array, normals: Array) -> Array:
    """(N,) how far the normals around a point differ from its own: what makes a face a face."""
    near = cKDTree(points).query_ball_point(points, RELIEF_MM)
    mean = np.array([normals[i].mean(0) for i in near])
    bend = 1 - (mean * normals).sum(1)
    return np.asarray(bend / bend.mean())


def modes_of(template: Template, at: Array) -> Array:
    """(P,3,K): the principal modes of identity, expression, jaw and smooth deformation.

    The smooth ones are a Gaussian process with a Gaussian kernel (Lüthi et al. 2018): what a model
    does not know, and all that a bare template has.
    """
    tensors, index = template.tensors, torch.as_tensor(at, device=template.device)
    expression = tensors.expression_basis[:, index]
    size = expression.square().sum((0, 2)).mean().sqrt() if len(expression) else 1.0
    parts = [tensors.shape_basis[:, index], expression * EXPRESSION_RMS_MM / size]
    if len(tensors.parents) > JAW:
        rest = rest_coefficients(template, 1)
        turned = rest.rotations.clone()
        turned[:, JAW] = rotation_matrices(rest.translation.new_tensor([JAW_RAD, 0.0, 0.0]))
        opened = posed_vertices(template, replace(rest, rotations=turned))
        parts.append((opened - posed_vertices(template, rest))[:, index])
    points = tensors.template[index].cpu().numpy()
    square = np.square(points[:, None] - points[None]).sum(-1)
    values, vectors = np.linalg.eigh(np.exp(-square / (2 * SMOOTH_REACH_MM**2)))
    deviation = SMOOTH_MM if template.has_basis else BARE_SMOOTH_MM
    smooth = deviation * (vectors * np.sqrt(np.maximum(values, 0)))[:, -SMOOTH_MODES:]
    fields = np.einsum("pk,xd->kxpd", smooth, np.eye(3)).reshape(-1, len(at), 3)
    columns = np.concatenate([*(part.cpu().numpy() for part in parts), fields])
    u, s, _ = np.linalg.svd(columns.reshape(len(columns), -1).T, full_matrices=False)
    return np.asarray((u * s)[:, :MODES].reshape(len(at), 3, -1))


def hypotheses(face: Face, points: Array, normals: Array) -> tuple[Array, Array]:
    """(H,3,3), (H,3) rigid motions from pairs of feature matches that agree in shape."""
    if len(points) < MIN_POINTS:
        return np.zeros((0, 3, 3)), np.zeros((0, 3))
    rng = np.random.default_rng(0)
    candidates = similar(face, points, normals)
    pair = rng.integers(len(face.places), size=(PAIRS, 2))
    partner = candidates[pair, rng.integers(candidates.shape[1], size=(PAIRS, 2))]
    frame_a, length_a, angles_a = pair_frames(face.places[pair], face.place_normals[pair])
    frame_b, length_b, angles_b = pair_frames(points[partner], normals[partner])
    good = (length_a > MIN_BASE_MM) & (np.abs(length_b - length_a) < MAX_STRETCH * length_a)
    good &= (np.abs(angles_a - angles_b) < MAX_COSINE_GAP).all(1)
    keep = np.flatnonzero(good)[: SHORTLIST[0]]
    rotation = frame_b[keep] @ frame_a[keep].transpose(0, 2, 1)
    middle_a, middle_b = face.places[pair[keep]].mean(1), points[partner[keep]].mean(1)
    return rotation, middle_b - np.einsum("hij,hj->hi", rotation, middle_a)


def similar(face: Face, points: Array, normals: Array) -> Array:
    """(M,k) for each of the face's places the points whose profiles are most like its own."""
    profiles, whole = ring_profiles(points, normals)
    weight = np.repeat(whole, profiles.shape[-1], axis=1).astype(np.float64)
    own = (face.profiles / face.spread).reshape(len(face.profiles), -1)
    other = (profiles / face.spread).reshape(len(profiles), -1)
    # Σ w (own - other)², where a cut ring counts the same whatever is left of it
    distance = own**2 @ weight.T - 2 * own @ (weight * other).T
    distance += (weight * other**2 + CUT_RING * (1 - weight)).sum(1)
    k = min(CANDIDATES, len(points))
    return torch.topk(torch.from_numpy(distance), k, largest=False).indices.numpy()


def pair_frames(points: Array, normals: Array) -> tuple[Array, Array, Array]:
    """(H,2,3), (H,2,3) -> frames (H,3,3) as columns, lengths (H,), and cosines (H,3).

    The frame's first axis joins the points, its third leans to their normals; the cosines are those
    of the normals to the first axis and to each other.
    """
    along = points[:, 1] - points[:, 0]
    length = np.linalg.norm(along, axis=1)
    x = along / np.maximum(length, 1e-9)[:, None]
    n = normals.sum(1)
    z = n - (n * x).sum(1, keepdims=True) * x
    z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-9)
    cosines = [(normals[:, 0] * x).sum(1), (normals[:, 1] * x).sum(1), normals.prod(1).sum(1)]
    return np.stack([x, np.cross(z, x), z], axis=-1), length, np.stack(cosines, axis=1)


def scores(
    face: Face, surface: Surface, rotations: Array, translations: Array, some: slice
) -> Array:
    """(H,) in [-1, 1]: confirmed minus contradicted share of some of the face, rigidly moved."""
    points = moved(face.points[some], rotations, translations)
    normals = face.normals[some] @ rotations.transpose(0, 2, 1)
    near = surface.roughly_nearest(points)
    height, aside = offsets(surface, near, points)
    alike = (normals * surface.normals[near]).sum(-1) > 0.6
    confirmed = np.clip(1 - (height / TOLERANCE_MM) ** 2, 0, 1) * alike
    return np.asarray(np.where(past_edge(height, aside), 0.0, 2 * confirmed - 1).mean(1))


def moved(points: Array, rotations: Array, translations: Array) -> Array:
    """(P,3) or (H,P,3) -> (H,P,3)."""
    return np.asarray(points @ rotations.transpose(0, 2, 1) + translations[:, None])


def offsets(surface: Surface, near: Array, points: Array) -> tuple[Array, Array]:
    """How high each point (…,3) lies over the surface at `near`, signed, and how far beside it."""
    gap = points - surface.points[near]
    height = (gap * surface.normals[near]).sum(-1)
    return height, np.sqrt(np.maximum((gap * gap).sum(-1) - height**2, 0))


def past_edge(height: Array, aside: Array) -> Array:
    """Whether a point lies where the scan has no data: that neither confirms nor contradicts."""
    return np.asarray((aside > ASIDE_MM) & (aside > 0.6 * np.abs(height)))


def distinct(
    face: Face, rotations: Array, translations: Array, score: Array, count: int, apart: float
) -> Array:
    """The best `count` that are no near copies (`apart` degrees and mm) of a better one."""
    kept: list[int] = []
    places = rotations @ face.centre + translations
    for candidate in np.argsort(-score, kind="stable"):
        if len(kept) == count:
            break
        if kept and apart:
            turn = turn_degrees(rotations[kept], rotations[candidate])
            shift = np.linalg.norm(places[kept] - places[candidate], axis=1)
            if ((turn < apart) & (shift < apart)).any():
                continue
        kept.append(int(candidate))
    return np.array(kept)


def turn_degrees(rotations: Array, reference: Array) -> Array:
    """(H,3,3), (3,3) -> (H,) angle between them."""
    trace = np.einsum("hij,ij->h", rotations, reference)
    return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


def fitted(
    face: Face, surface: Surface, rotations: Array, translations: Array, shaped: bool
) -> Fit:
    """Iterated closest points from H poses at once: point-to-plane Gauss–Newton, rigid or `shaped`.

    Shaped means with all points and with the modes under their prior. Weights are Geman–McClure's.
    """
    some = slice(None) if shaped else face.every(200)
    points, normals = face.points[some], face.normals[some]
    modes = face.modes[some, :, : None if shaped else 0]
    steps, (first, last) = (
        (SHAPE_STEPS, SHAPE_REACH_MM) if shaped else (RIGID_STEPS, RIGID_REACH_MM)
    )
    precision = INDEPENDENT_POINTS / len(face.relief) / NOISE_MM**2
    k = modes.shape[-1]
    value, prior = np.zeros((len(rotations), k)), np.full(k + 6, 1e-6)
    for progress in np.linspace(0, 1, steps):
        reach = geometric(first, last, progress)
        at = moved(points + np.einsum("pdk,hk->hpd", modes, value), rotations, translations)
        near = surface.tree.query(at)[1]
        own, (height, aside) = surface.normals[near], offsets(surface, near, at)
        weight = precision * (reach**2 / (reach**2 + height**2)) ** 2 * (aside < ASIDE_MM)
        turned = normals @ rotations.transpose(0, 2, 1)
        weight *= np.clip((turned * own).sum(-1), 0, None)
        centre = at.mean(1)
        in_face = np.einsum("hij,hpi->hpj", rotations, own)
        bent = np.einsum("hpd,pdk->hpk", in_face, modes)
        rows = np.concatenate([bent, np.cross(at - centre[:, None], own), own], axis=-1)
        prior[:k] = geometric(FIRST_STIFFNESS, 1.0, min(1.0, 1.6 * progress))
        weighted = (rows * weight[..., None]).transpose(0, 2, 1)
        right = -(weighted @ height[..., None])[..., 0]
        right[:, :k] -= prior[:k] * value
        step = np.linalg.solve(weighted @ rows + np.diag(prior), right[..., None])[..., 0]
        turn = rotation_matrices(torch.from_numpy(step[:, k : k + 3])).numpy()
        value, rotations = value + step[:, :k], turn @ rotations
        arm = np.einsum("hij,hj->hi", turn, translations - centre)
        translations = arm + centre + step[:, k + 3 :]
    shapes = points + np.einsum("pdk,hk->hpd", modes, value)
    return Fit(rotations, translations, shapes)


def judged(face: Face, surface: Surface, fit: Fit) -> tuple[list[Verdict], tuple[Array, Array]]:
    """The worth of each fit, and its rigid motion (H,3,3), (H,3) where the scan has data."""
    n = len(face.relief)
    points = moved(fit.shapes[:, :n], fit.rotations, fit.translations)
    normals = face.normals[:n] @ fit.rotations.transpose(0, 2, 1)
    near = surface.tree.query(points)[1]
    height, aside = offsets(surface, near, points)
    seen = ~past_edge(height, aside)
    cosine = (normals * surface.normals[near]).sum(-1)
    confirmed = np.clip(1 - (height / FITTED_TOLERANCE_MM) ** 2, 0, 1) * seen
    confirmed *= np.clip((cosine - 0.5) / 0.3, 0, 1)
    score = np.where(seen, 2 * confirmed - 1, 0.0).mean(1)
    share = (seen * face.relief).mean(1)
    agreement = (confirmed * face.relief).mean(1) / np.maximum(share, 1e-9)
    verdicts = [Verdict(*map(float, v)) for v in zip(score, agreement, share, strict=True)]
    source = np.broadcast_to(face.points[:n], points.shape).copy()
    weight = confirmed * (aside < ASIDE_MM) + 1e-6
    rotation, translation = umeyama(*map(torch.from_numpy, (source, points, weight)))
    return verdicts, (rotation.numpy(), translation.numpy())


def chosen(
    scan_id: str, face: Face, verdicts: list[Verdict], rotations: Array, translations: Array
) -> int:
    """The best fit, if it is a face and no different pose fits about as well."""
    score = np.array([v.score for v in verdicts])
    best = int(score.argmax())
    found = verdicts[best]
    if found.agreement < MIN_AGREEMENT or found.share < MIN_SHARE:
        raise RegistrationError(
            f"scan {scan_id}: no landmarks, and no pose lays a face on it: the best agrees in "
            f"{found.agreement:.2f} of the {found.share:.2f} of the face that it could show, "
            f"expected at least {MIN_AGREEMENT} of {MIN_SHARE}; give landmarks",
            Code.NO_FACE,
            {"agreement": found.agreement, "share": found.share},
        )
    places = rotations @ face.centre + translations
    shift = np.linalg.norm(places - places[best], axis=1)
    other = (turn_degrees(rotations, rotations[best]) > 15) | (shift > 15)
    if other.any() and found.score - score[other].max() < MIN_LEAD:
        raise RegistrationError(
            f"scan {scan_id}: no landmarks, and two poses fit about equally (scores "
            f"{found.score:.2f} and {score[other].max():.2f}); give landmarks",
            Code.POSE_OPEN,
            {"score": found.score, "other_score": float(score[other].max())},
        )
    return best
