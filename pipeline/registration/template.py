"""What registration needs to know of a model once, whatever the scans: areas, smoothness, masks."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csc_array, csr_array, diags_array
from scipy.sparse.linalg import splu
from torch import Tensor

from pipeline.flame.lbs import ModelTensors, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.geometry.laplacian import cotangent_laplacian, lowest_eigenvectors, lumped_masses
from pipeline.geometry.mesh import boundary_vertices, components, vertex_areas
from pipeline.types import Array

SILENT_REGIONS = ("eyeballs", "hidden", "mouth_interior")
"""Vertices a scanner does not see: they follow their neighbourhood instead of the scan."""
LOWER_LIP_68 = (55, 56, 57, 58, 59, 65, 66, 67)
UPPER_LIP_68 = (31, 32, 33, 34, 35, 49, 50, 51, 52, 53, 61, 62, 63)
LOWER_FACE_MM = 160.0
"""Distance from the lower lip to which a jaw moves the surface."""
FOCUS = 4.0
"""Times the density of the face for the eigenvectors: the same number resolves twice the detail."""
_CACHE: OrderedDict[tuple[str, str, int], Template] = OrderedDict()


class SparseOperator:
    """A (W,V) matrix that acts on a batch of vector fields.

    scipy's product on the CPU (forty times faster than torch's there), torch's elsewhere.
    """

    def __init__(self, matrix: csr_array | csc_array, device: torch.device) -> None:
        self.matrix = csr_array(matrix)
        self.on_device: Tensor | None = None
        if device.type != "cpu":
            coo = self.matrix.tocoo()
            at = torch.as_tensor(np.stack([coo.row, coo.col]), dtype=torch.int64)
            values = torch.as_tensor(coo.data, dtype=torch.float64)
            made = torch.sparse_coo_tensor(at, values, coo.shape, check_invariants=False)
            self.on_device = made.coalesce().to(device)

    def __call__(self, fields: Tensor) -> Tensor:
        """(B,V,d) -> (B,W,d)."""
        b, v, d = fields.shape
        columns = fields.permute(1, 0, 2).reshape(v, b * d)
        if self.on_device is not None:
            product = self.on_device @ columns
        else:
            product = torch.from_numpy(self.matrix @ columns.numpy())
        return product.reshape(-1, b, d).permute(1, 0, 2)


@dataclass(frozen=True, eq=False)
class Template:
    """A model's tensors on a device (float64) with the operators of its surface."""

    model: FlameModel
    tensors: ModelTensors
    faces: Tensor  # (F,3)
    areas: Tensor  # (V,) share of the surface that the scan may speak for; 0 where silent
    boundary: Tensor  # (V,) bool
    face_region: Tensor  # (N,) vertex indices
    loose: tuple[Tensor, ...]
    """Vertices of each small component: eyeballs, moved rigidly."""
    eigenvalues: Tensor  # (k,) 1/mm², as seen in the face
    eigenvectors: Tensor  # (V,k), mean square 1
    bending: SparseOperator
    """(V,V) K = L M⁻¹ L over the total area: uᵀ K u is the thin-plate energy per unit area."""
    mean_mass: Array  # (V,) lumped masses over the total area
    neighbour_mean: SparseOperator
    """(V,V): the mean of a vertex's neighbours."""
    data: Tensor  # (N,) indices of the vertices that may carry data
    lower_face: Tensor
    """(V,) share of an opening jaw's motion, from lips; 0 if no landmarks mark them."""

    @property
    def has_basis(self) -> bool:
        """Whether the model knows any shape or expression besides its own."""
        return len(self.tensors.shape_basis) + len(self.tensors.expression_basis) > 0

    @property
    def device(self) -> torch.device:
        return self.areas.device


def prepare_template(model: FlameModel, device: str | torch.device, modes: int) -> Template:
    """The template of a model, made once per process, model, device and number of modes.

    `modes` Laplacian eigenvectors are kept, without the constant one.
    """
    key = (model.contents_hash, str(device), modes)
    if key not in _CACHE:
        _CACHE[key] = _prepare(model, torch.device(device), modes)
        while len(_CACHE) > 4:
            _CACHE.popitem(last=False)
    return _CACHE[key]


def _prepare(model: FlameModel, device: torch.device, modes: int) -> Template:
    v, f, n = model.template_mm, model.faces, len(model.template_mm)
    masses = lumped_masses(v, f)
    stiffness = cotangent_laplacian(v, f)
    focus = masses * (1 + (FOCUS - 1) * soft_face(model, f, n))
    values, vectors = lowest_eigenvectors(stiffness, focus, modes + 1)
    areas = vertex_areas(v, f)
    for name in SILENT_REGIONS:
        areas[model.regions.get(name, np.zeros(0, np.int64))] = 0.0
    part = components(f, n)
    areas[part > 0] = 0.0
    total = masses.sum()

    def real(array: Array) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float64, device=device)

    def index(array: Array) -> Tensor:
        return torch.as_tensor(np.asarray(array), dtype=torch.int64, device=device)

    return Template(
        model=model,
        tensors=to_tensors(model, device, torch.float64),
        faces=index(f),
        areas=real(areas / areas.sum()),
        boundary=torch.as_tensor(boundary_vertices(f, n), device=device),
        face_region=index(face_region(model, areas)),
        loose=tuple(index(np.flatnonzero(part == p)) for p in range(1, int(part.max()) + 1)),
        eigenvalues=real(values[1:] * FOCUS),
        eigenvectors=real(vectors[:, 1:] * np.sqrt(focus.sum())),
        bending=SparseOperator(stiffness @ diags_array(1 / masses) @ stiffness / total, device),
        mean_mass=masses / total,
        neighbour_mean=SparseOperator(neighbour_mean(f, n), device),
        data=index(np.flatnonzero(areas > 0)),
        lower_face=real(lower_face(model, stiffness)),
    )


def lower_face(model: FlameModel, stiffness: csc_array) -> Array:
    """(V,) harmonic on the surface: 1 at the lower lip, 0 at the upper and far from the mouth.

    Lips that touch are far apart along the surface, so the field is a jaw's (cf. Baran, Popović
    2007, sec. 4, for weights by diffusion).
    """
    v, landmarks = model.template_mm, model.landmarks
    weight = np.zeros(len(v))
    known = set() if landmarks is None else set(landmarks.indices_68.tolist())
    if landmarks is None or not known.issuperset(LOWER_LIP_68 + UPPER_LIP_68):
        return weight
    corners = model.faces[landmarks.triangles]

    def of(names: tuple[int, ...]) -> Array:
        return np.unique(corners[np.isin(landmarks.indices_68, names)])

    lower, upper = of(LOWER_LIP_68), of(UPPER_LIP_68)
    far = np.linalg.norm(v - v[lower].mean(0), axis=1) > LOWER_FACE_MM
    fixed = far.copy()
    fixed[upper] = fixed[lower] = True
    weight[lower] = 1.0
    free = np.flatnonzero(~fixed)
    matrix = csc_array(stiffness)
    pull = -(matrix @ weight)[free]
    inner = csc_array(matrix[free][:, free] + 1e-9 * diags_array(np.ones(len(free))))
    weight[free] = splu(inner).solve(pull)
    return np.clip(weight, 0.0, 1.0)


def soft_face(model: FlameModel, faces: Array, n: int) -> Array:
    """(V,) 1 in the face, 0 far from it."""
    inside = np.zeros(n)
    inside[model.regions.get("face", np.arange(n))] = 1.0
    mean = neighbour_mean(faces, n)
    for _ in range(6):
        inside = mean @ inside
    return inside


def face_region(model: FlameModel, areas: Array) -> Array:
    """Indices of the face's vertices that may carry data."""
    face = np.asarray(model.regions.get("face", np.arange(len(areas))))
    return np.asarray(face[areas[face] > 0])


def neighbour_mean(faces: Array, n_vertices: int) -> csr_array:
    """(V,V) rows that average a vertex's neighbours."""
    rows, cols = faces[:, [0, 1, 2, 1, 2, 0]].ravel(), faces[:, [1, 2, 0, 0, 1, 2]].ravel()
    adjacency = csr_array((np.ones(len(rows)), (rows, cols)), shape=(n_vertices, n_vertices))
    adjacency.data[:] = 1.0
    return csr_array(diags_array(1 / np.maximum(adjacency.sum(axis=1), 1)) @ adjacency)
