"""Scans of the ICT-FaceKit morphable model whose true registration is known vertex by vertex.

Each vertex of FLAME's topology has a triangle and barycentric coordinates on the ICT mesh, so any
ICT face — 100 identity modes, more than the registered model's 40 — says where it belongs.
`RECIPES` names the cases; `make_case` makes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import trimesh
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from pipeline.geometry.closest import SurfaceIndex
from pipeline.geometry.mesh import boundary_vertices, vertex_areas, vertex_normals
from pipeline.types import Array, Scan

SUPPORT_MM = 0.5
"""A vertex is supported where its truth lies this near to the clean scan's surface."""
BORDER_MM = 2.0
"""Nearer to the scan's border than this nobody can say whether there is data."""


def both(**weights: float) -> dict[str, float]:
    """The same weight for the left and the right half of an expression."""
    return {f"{name}_{side}": value for name, value in weights.items() for side in "LR"}


@dataclass(frozen=True)
class Recipe:
    """How a case differs from a whole neutral head of about 87k triangles without clutter."""

    kind: str
    seed: int
    expression: Mapping[str, float] = field(default_factory=dict)
    crop: str = ""
    noise_mm: float = 0.1
    holes: int = 3
    hole_radius_mm: float = 8.0
    clutter: str = ""
    triangles: int = 0
    """Re-meshed to about so many; 0 keeps the split ICT mesh."""
    landmarks: bool = True
    turn_degrees: float = 0.0
    start: str = ""
    """"good" or "off" (20° and 25 mm away) gives the case a start and takes the landmarks away."""


RECIPES: Mapping[str, Recipe] = {
    "neutral": Recipe("neutral", 100),
    "smile": Recipe("expression", 101, both(mouthSmile=0.9, cheekSquint=0.5)),
    "open jaw": Recipe("expression", 102, {"jawOpen": 0.8}),
    "face only": Recipe("partial", 103, crop="face only"),
    "noisy": Recipe("neutral", 104, noise_mm=0.4, holes=6, hole_radius_mm=12.0),
    "mixed expression": Recipe(
        "expression",
        105,
        {**both(browOuterUp=0.8, mouthStretch=0.5, eyeSquint=0.6), "jawOpen": 0.3},
    ),
    "half face": Recipe("partial", 106, crop="left half"),
    "neutral 2": Recipe("neutral", 107),
    "neutral 3": Recipe("neutral", 108),
    "holes": Recipe("neutral", 109, holes=6, hole_radius_mm=12.0),
    "noise 1 mm": Recipe("noise", 110, noise_mm=1.0),
    "full smile": Recipe("expression", 111, both(mouthSmile=1.0, cheekSquint=1.0)),
    "jaw wide open": Recipe("expression", 112, {"jawOpen": 1.0}),
    "blink": Recipe("expression", 113, both(eyeBlink=1.0)),
    "puffed cheeks": Recipe("expression", 114, both(cheekPuff=1.0)),
    "kiss": Recipe("expression", 115, {"mouthPucker": 1.0}),
    "scream": Recipe(
        "expression", 116, {**both(browOuterUp=1.0, mouthStretch=1.0, eyeWide=1.0), "jawOpen": 1.0}
    ),
    "disgust": Recipe(
        "expression", 117, both(noseSneer=1.0, browDown=1.0, mouthUpperUp=1.0, cheekSquint=1.0)
    ),
    "wink": Recipe(
        "expression", 118, {"mouthSmile_L": 1.0, "eyeBlink_R": 1.0, "jawLeft": 1.0, "jawOpen": 0.5}
    ),
    "no back of head": Recipe("partial", 119, crop="no back"),
    "no neck": Recipe("partial", 120, crop="no neck"),
    "half face right": Recipe("partial", 121, crop="right half"),
    "face only open jaw": Recipe("partial", 122, {"jawOpen": 1.0}, crop="face only"),
    "shoulders": Recipe("clutter", 123, clutter="shoulders"),
    "hair": Recipe("clutter", 124, clutter="hair"),
    "islands": Recipe("clutter", 125, clutter="islands"),
    "5k triangles": Recipe("resolution", 126, triangles=5_000),
    "20k triangles": Recipe("resolution", 127, triangles=20_000),
    "100k triangles": Recipe("resolution", 128, triangles=100_000),
    "400k triangles": Recipe("resolution", 129, triangles=400_000),
    "start good": Recipe("start", 130, start="good"),
    "start 20° 25 mm off": Recipe("start", 130, start="off"),
    "no landmarks": Recipe("start", 131, landmarks=False),
    "turned without landmarks": Recipe("start", 132, turn_degrees=140.0),
}
CASES = tuple(RECIPES)


@dataclass(frozen=True, eq=False)
class Case:
    name: str
    kind: str
    scan: Scan
    truth_mm: Array  # (5023,3), NaN where the vertex does not lie on the ICT surface
    supported: Array  # (5023,) bool: known, and the scan has data there
    near_border: Array  # (5023,) bool: known, within BORDER_MM of where the scan ends
    clutter: Array  # (V,) bool of the scan's vertices: no part of the head
    marks_mm: Array
    """(68,3) iBUG landmarks on the scan, NaN where missing; also where the scan carries none."""
    start_error: Array | None
    """(4,4) in the scan's frame, to apply after the landmarks' start: the case prescribes this
    start. None where the method finds its own."""

    @property
    def known(self) -> Array:
        """(5023,) bool: the vertices with a truth."""
        return np.isfinite(self.truth_mm).all(1)


@dataclass(frozen=True, eq=False)
class IctModel:
    neutral: Array  # (N,3) mm
    triangles: Array
    identity: Array  # (100,N,3)
    expression: Array  # (57,N,3)
    expression_names: list[str]
    landmarks68: Array
    region: Array
    triangle: Array  # (5023,) of FLAME's vertices
    barycentric: Array
    valid: Array

    @classmethod
    def load(cls, shared_data: Path) -> IctModel:
        ict = np.load(shared_data / "ict" / "ict_facekit_light.npz")
        flame = np.load(shared_data / "flame_ict" / "flame_in_ict.npz")
        return cls(
            neutral=ict["neutral"] * 10.0,
            triangles=ict["triangles"].astype(np.int64),
            identity=ict["identity_modes"] * 10.0,
            expression=ict["expression_modes"] * 10.0,
            expression_names=[str(n) for n in ict["expression_names"]],
            landmarks68=ict["landmarks68"],
            region=ict["region"],
            triangle=flame["triangle"],
            barycentric=flame["barycentric"],
            valid=flame["valid"],
        )

    def vertices(self, identity: Array, expression: Mapping[str, float]) -> Array:
        weights = np.zeros(len(self.expression))
        for name, value in expression.items():
            weights[self.expression_names.index(name)] = value
        return (
            self.neutral
            + np.tensordot(identity, self.identity, 1)
            + np.tensordot(weights, self.expression, 1)
        )

    def on_flame(self, vertices: Array) -> Array:
        """(N,3) ICT vertices -> (5023,3) FLAME's vertices, NaN where not valid."""
        points = np.einsum("vk,vkd->vd", self.barycentric, vertices[self.triangles[self.triangle]])
        points[~self.valid] = np.nan
        return points


def make_case(
    ict: IctModel, name: str, seed: int | None = None, turn_degrees: float | None = None
) -> Case:
    """One scan: identity from a unit normal, re-meshed, cropped, with holes, noise and clutter.

    `seed` and `turn_degrees` replace the recipe's; a turn is about a random axis and drops the
    landmarks (a free start).
    """
    recipe = RECIPES[name]
    rng = np.random.default_rng(recipe.seed if seed is None else seed)
    turn = recipe.turn_degrees if turn_degrees is None else turn_degrees
    full = ict.vertices(rng.normal(size=100), recipe.expression)
    truth = ict.on_flame(full)
    marks = full[ict.landmarks68] + rng.normal(scale=0.6, size=(68, 3))
    marks[:17] = np.nan
    skin = (ict.region[ict.triangles] < 2).all(1)
    vertices, faces = random_split(*keep_triangles(full, ict.triangles, skin), rng)
    keep = crop(recipe.crop, ict, vertices[faces].mean(1), full)
    front = vertices[vertices[:, 2] > np.quantile(vertices[:, 2], 0.6)]
    for centre in front[rng.integers(len(front), size=recipe.holes)]:
        keep &= np.linalg.norm(vertices[faces].mean(1) - centre, axis=1) > recipe.hole_radius_mm
    added: list[tuple[Array, Array]] = []
    if recipe.clutter:
        covered, added = CLUTTER[recipe.clutter](vertices, faces, rng)
        keep &= ~covered
    vertices, faces = keep_triangles(vertices, faces, keep)
    surface = SurfaceIndex(vertices, faces)
    supported = ict.valid.copy()
    supported[ict.valid] = surface.query(truth[ict.valid]).distance < SUPPORT_MM
    border = cKDTree(vertices[boundary_vertices(faces, len(vertices))])
    near_border = ict.valid.copy()
    near_border[ict.valid] = border.query(truth[ict.valid])[0] < BORDER_MM
    marks[surface.query(np.nan_to_num(marks)).distance > 5] = np.nan
    if recipe.triangles:
        vertices, faces = remesh(vertices, faces, recipe.triangles, rng)
    n_head = len(vertices)
    vertices, faces = joined([(vertices, faces), *added])
    vertices = vertices + rng.normal(scale=recipe.noise_mm, size=vertices.shape) / np.sqrt(3)
    if turn:
        rotation = rotation_about(rng.normal(size=3), np.radians(turn))
        shift = rng.normal(scale=100, size=3)
        vertices, truth = vertices @ rotation.T + shift, truth @ rotation.T + shift
        marks = marks @ rotation.T + shift
    start_error = None
    if recipe.start == "good":
        start_error = np.eye(4)
    elif recipe.start == "off":
        start_error = moved_off(np.nanmean(marks, axis=0), 20.0, 25.0, rng)
    has_marks = recipe.landmarks and not turn and not recipe.start
    scan = scan_of(f"ict:{name}", vertices, faces, marks if has_marks else None, not turn)
    clutter = np.arange(len(vertices)) >= n_head
    return Case(name, recipe.kind, scan, truth, supported, near_border, clutter, marks, start_error)


def moved_off(centre: Array, degrees: float, length_mm: float, rng: np.random.Generator) -> Array:
    """(4,4) a turn about a random axis through `centre` and a shift in a random direction."""
    rotation = rotation_about(rng.normal(size=3), np.radians(degrees))
    shift = rng.normal(size=3)
    shift *= length_mm / np.linalg.norm(shift)
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = rotation, centre - rotation @ centre + shift
    return result


def crop(name: str, ict: IctModel, centres: Array, full: Array) -> Array:
    """Triangles to keep."""
    nose, chin = full[ict.landmarks68[30]], full[ict.landmarks68[8]]
    if name == "left half":
        return centres[:, 0] > -5
    if name == "right half":
        return centres[:, 0] < 5
    if name == "face only":
        return np.linalg.norm(centres - nose, axis=1) < 95
    if name == "no back":
        return centres[:, 2] > nose[2] - 110
    if name == "no neck":
        return centres[:, 1] > chin[1] - 12 + 0.15 * (nose[2] - centres[:, 2])
    if name:
        raise ValueError(f"crop {name!r} is none of those above")
    return np.ones(len(centres), dtype=bool)


def shoulders(
    vertices: Array, faces: Array, rng: np.random.Generator
) -> tuple[Array, list[tuple[Array, Array]]]:
    """The collar goes on outwards and down from the rim below the neck."""
    rim = vertices[boundary_vertices(faces, len(vertices))]
    rim = rim[rim[:, 1] < vertices[:, 1].min() + 80]
    centre = rim.mean(0) * [1, 0, 1]
    angle = np.arctan2(*(rim - centre)[:, [2, 0]].T)
    even = np.linspace(-np.pi, np.pi, 241)
    ring = np.stack([np.interp(even, *sorted_by(angle, x), period=2 * np.pi) for x in rim.T], 1)
    share = np.linspace(0, 1, 40)[:, None, None]
    points = ring + share * np.array([1.3, 0, 0.5]) * (ring - centre)
    points[..., 1] -= 110 * share[..., 0] ** 1.5
    return nothing(faces), [grid_mesh(points)]


def sorted_by(key: Array, values: Array) -> tuple[Array, Array]:
    order = np.argsort(key, kind="stable")
    return key[order], values[order]


def hair(
    vertices: Array, faces: Array, rng: np.random.Generator
) -> tuple[Array, list[tuple[Array, Array]]]:
    """Locks on the scalp: the hull of many balls; the skin beneath them is not seen."""
    top, front = vertices[:, 1].max(), vertices[:, 2].max()
    scalp = (vertices[:, 1] > top - 75) & (vertices[:, 2] < front - 45)
    scalp |= (vertices[:, 1] > top - 160) & (vertices[:, 2] < front - 130)
    share = np.where(scalp, vertex_areas(vertices, faces), 0)
    centres = vertices[rng.choice(len(vertices), size=250, p=share / share.sum())]
    radii = rng.uniform(8, 18, size=len(centres))
    balls = joined([ball(*one) for one in zip(centres, radii, strict=True)])
    owner = np.repeat(np.arange(len(radii)), len(balls[1]) // len(radii))
    shown = ~inside_balls(balls[0][balls[1]].mean(1), centres, radii, owner)
    locks = keep_triangles(*balls, shown)
    normals = vertex_normals(torch.from_numpy(vertices), torch.from_numpy(faces)).numpy()
    middles = locks[0][locks[1]].mean(1)
    nearest = cKDTree(vertices).query(middles)[1]
    outside = ((middles - vertices[nearest]) * normals[nearest]).sum(1) > 0
    locks = keep_triangles(*locks, outside)
    return inside_balls(vertices[faces].mean(1), centres, radii), [locks]


def inside_balls(points: Array, centres: Array, radii: Array, owner: Array | None = None) -> Array:
    """(N,3) -> (N,) bool: inside of any of the balls but the point's owner."""
    inside = np.zeros(len(points), dtype=bool)
    for i, (centre, radius) in enumerate(zip(centres, radii, strict=True)):
        hit = np.linalg.norm(points - centre, axis=1) < radius
        inside |= hit if owner is None else hit & (owner != i)
    return inside


def islands(
    vertices: Array, faces: Array, rng: np.random.Generator
) -> tuple[Array, list[tuple[Array, Array]]]:
    """Loose pieces in the air around the head, 12 to 90 mm away from it."""
    normals = vertex_normals(torch.from_numpy(vertices), torch.from_numpy(faces)).numpy()
    places = rng.integers(len(vertices), size=14)
    pieces = []
    for place in places:
        radius = rng.uniform(3, 15)
        centre = vertices[place] + normals[place] * (radius + rng.uniform(12, 90))
        lump, triangles = ball(centre, radius)
        side = (lump[triangles].mean(1) - centre) @ rng.normal(size=3) > 0
        pieces.append(keep_triangles(lump, triangles, side))
    return nothing(faces), pieces


CLUTTER = {"shoulders": shoulders, "hair": hair, "islands": islands}
"""Each (vertices, faces, rng) -> triangles of the head that it covers, and the meshes it adds."""


def nothing(faces: Array) -> Array:
    return np.zeros(len(faces), dtype=bool)


def ball(centre: Array, radius: float) -> tuple[Array, Array]:
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    return np.asarray(sphere.vertices) + centre, np.asarray(sphere.faces, np.int64)


def grid_mesh(points: Array) -> tuple[Array, Array]:
    """(R,C,3) -> two triangles a cell."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    return points.reshape(-1, 3), faces


def joined(meshes: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    offsets = np.cumsum([0, *(len(v) for v, _ in meshes)])
    faces = [f + offset for (_, f), offset in zip(meshes, offsets, strict=False)]
    return np.concatenate([v for v, _ in meshes]), np.concatenate(faces)


def random_split(vertices: Array, faces: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Cuts every edge at a random place: four triangles from one, on the same surface."""
    unique, inverse = unique_edges(faces, len(vertices))
    t = rng.uniform(0.3, 0.7, size=(len(unique), 1))
    middle = (1 - t) * vertices[unique[:, 0]] + t * vertices[unique[:, 1]]
    ab, bc, ca = (inverse.reshape(-1, 3) + len(vertices)).T
    a, b, c = faces.T
    parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return np.concatenate([vertices, middle]), np.concatenate([np.stack(p, 1) for p in parts])


def unique_edges(faces: Array, n_vertices: int) -> tuple[Array, Array]:
    """(F,3) -> (E,2) each edge once, smaller index first, and (3F,) which edge each side is."""
    sides = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    key, inverse = np.unique(sides[:, 0] * np.int64(n_vertices) + sides[:, 1], return_inverse=True)
    return np.stack([key // n_vertices, key % n_vertices], axis=1), inverse


def remesh(
    vertices: Array, faces: Array, triangles: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """About `triangles` evenly spaced ones on the same surface.

    The dual of geodesic Voronoi cells around evenly spread vertices of a finer mesh (Valette,
    Chassery 2004); each new vertex goes where the planes of its cell's triangles meet best
    (quadric error, Garland and Heckbert 1997).
    """
    while len(faces) < 3 * triangles:
        vertices, faces = random_split(vertices, faces, rng)
    edges, _ = unique_edges(faces, len(vertices))
    a, b = edges.T
    length = np.linalg.norm(vertices[a] - vertices[b], axis=1)
    graph = coo_array((length, (a, b)), shape=(len(vertices),) * 2).tocsr()
    areas = vertex_areas(vertices, faces) * bending(vertices, faces, edges, length)
    seeds = rng.choice(len(vertices), triangles // 2, replace=False, p=areas / areas.sum())
    # a cell at the border is centred there, else the border would recede by half a cell
    areas = areas * np.where(boundary_vertices(faces, len(vertices)), 1e6, 1.0)
    for _ in range(3):
        cell = np.unique(nearest_seed(graph, seeds), return_inverse=True)[1]
        centres = sum_by(cell, vertices * areas[:, None]) / sum_by(cell, areas[:, None])
        order = np.lexsort((np.linalg.norm(vertices - centres[cell], axis=1), cell))
        seeds = order[np.unique(cell[order], return_index=True)[1]]
    corners, owner = vertices[faces], cell[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.sqrt(np.linalg.norm(normals, axis=1, keepdims=True)), 1e-12)
    gap = (normals[:, None] * (corners[:, :1] - centres[owner])).sum(-1)
    squares = np.repeat((normals[:, :, None] * normals[:, None]).reshape(-1, 9), 3, axis=0)
    left = sum_by(owner.ravel(), squares).reshape(-1, 3, 3)
    right = sum_by(owner.ravel(), (normals[:, None] * gap[..., None]).reshape(-1, 3))
    left += 0.03 * np.trace(left, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    placed = centres + np.linalg.solve(left, right[..., None])[..., 0]
    dual = owner[(owner != np.roll(owner, 1, axis=1)).all(1)]
    # several triangles join the same three cells; each with its smallest corner first, sense kept
    dual = np.take_along_axis(dual, (dual.argmin(1)[:, None] + np.arange(3)) % 3, axis=1)
    key = (dual[:, 0] * len(placed) + dual[:, 1]) * len(placed) + dual[:, 2]
    dual = dual[np.unique(key, return_index=True)[1]]
    # three cells that meet twice make a second triangle of the wrong sense
    outwards = sum_by(owner.ravel(), np.repeat(normals, 3, axis=0))[dual].sum(1)
    a, b, c = (placed[dual[:, k]] for k in range(3))
    return keep_triangles(placed, dual, (np.cross(b - a, c - a) * outwards).sum(1) > 0)


def bending(vertices: Array, faces: Array, edges: Array, length: Array) -> Array:
    """(V,) how densely to sample: the curvature, 1/100 to 1/4 mm, evened out along the edges."""
    normals = vertex_normals(torch.from_numpy(vertices), torch.from_numpy(faces)).numpy()
    a, b = edges.T
    turn = np.linalg.norm(normals[a] - normals[b], axis=1) / np.maximum(length, 1e-9)
    n = len(vertices)
    degree = np.bincount(edges.ravel(), minlength=n)
    result = (np.bincount(a, turn, n) + np.bincount(b, turn, n)) / np.maximum(degree, 1)
    for _ in range(3):
        around = np.bincount(a, result[b], n) + np.bincount(b, result[a], n)
        result = (result + around) / (1 + degree)
    return np.clip(result, 0.01, 0.25)


def nearest_seed(graph: csr_array, seeds: Array) -> Array:
    """(V,) the seed nearest along the edges; a piece without any goes to the first one."""
    _, _, source = dijkstra(
        graph, directed=False, indices=seeds, min_only=True, return_predecessors=True
    )
    return np.where(source < 0, seeds[0], source)


def sum_by(group: Array, values: Array) -> Array:
    """(N,) group, (N,k) -> (G,k) sums."""
    return np.stack([np.bincount(group, column) for column in values.T], axis=1)


def keep_triangles(vertices: Array, faces: Array, keep: Array | slice) -> tuple[Array, Array]:
    used, inverse = np.unique(faces[keep], return_inverse=True)
    return vertices[used], inverse.reshape(-1, 3)


def rotation_about(axis: Array, angle: float) -> Array:
    x, y, z = axis / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def scan_of(
    scan_id: str, vertices: Array, faces: Array, marks: Array | None, oriented: bool
) -> Scan:
    normals = vertex_normals(torch.as_tensor(vertices), torch.as_tensor(faces)).numpy()
    return Scan(
        scan_id=scan_id,
        vertices_mm=vertices,
        faces=faces,
        normals=normals,
        source_to_canonical=np.eye(4),
        unit="mm",
        unit_factor_mm=1.0,
        unit_evidence="made in millimetres",
        landmarks_mm=marks,
        landmark_scheme=None if marks is None else "ibug68",
        landmark_confidence=None if marks is None else np.isfinite(marks).all(1),
        landmark_source=None if marks is None else "file",
        oriented=oriented,
    )
