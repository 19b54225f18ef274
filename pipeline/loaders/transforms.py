"""What a batch may go through between the store and the network: `FaceLoader(transform=…)`.

A transform is called with a batch of `FaceDataset` and the `Draw` that says which samples it
holds, and returns a new batch. What is random in it is a function of a seed, the epoch and each
sample's position in it: the same on any number of ranks and after a resume. They work in
millimetres and in metres (`units="m"`), and can be pickled for worker processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import FacefoldError
from pipeline.geometry.rigid import rotation_matrices
from pipeline.loaders.checks import number, whole
from pipeline.loaders.dataset import Sample
from pipeline.loaders.permutation import draws
from pipeline.types import Array

if TYPE_CHECKING:
    from pipeline.flame.model import FlameModel

MICA_WEIGHTS: Mapping[str, float] = {
    "eyeballs": 0.01, "left_ear": 0.01, "right_ear": 0.01, "face": 150.0
}  # fmt: skip
"""Region to weight in MICA's loss (Zielonka et al. 2022), 1 elsewhere; the later region counts."""

PLACES = ("vertices", "landmarks", "registered_landmarks", "points")
"""Fields of places in the scan's pose, by name without unit; NaN where absent."""
DIRECTIONS = ("offset", "normals")
"""Fields of directions in the scan's pose."""
CAMERA = "canonical_to_camera"
"""The field that leads from the scan's pose to the camera's frame."""


@dataclass(frozen=True, eq=False)
class Draw:
    """Which samples a batch is: what a transform may depend on, to give the same on any rank."""

    epoch: int
    positions: Array  # (B,) within the epoch
    samples: Array  # (B,) of the dataset
    views: Array | None = None  # (B,K) rows of the views that the samples show, if they show some


Transform = Callable[[Sample, Draw], Sample]


@dataclass(frozen=True)
class Chain:
    """Transforms after each other."""

    steps: tuple[Transform, ...]

    def __call__(self, batch: Sample, draw: Draw) -> Sample:
        for step in self.steps:
            batch = step(batch, draw)
        return batch


def neutral(batch: Sample, draw: Draw) -> Sample:
    """The vertices are the neutral ones; expression, pose and translation, where asked for, zero.

    Fields of the scan's own pose (landmarks, points, `canonical_to_camera`, …) are left out: they
    do not fit any more. Images and what lies in their pixels stay as they are.
    """
    return _at_rest(batch, f"neutral{_unit(batch)}")


def identity_neutral(batch: Sample, draw: Draw) -> Sample:
    """As `neutral`, with what all scans of the person say together: the vertices are
    `identity_neutral_mm`, and `shape`, where asked for, is `identity_shape`."""
    at_rest = _at_rest(batch, f"identity_neutral{_unit(batch)}")
    return at_rest | {
        name: _field(batch, f"identity_{name}") for name in ("shape",) if name in batch
    }


def _at_rest(batch: Sample, vertices: str) -> Sample:
    """See `neutral`."""
    unit = _unit(batch)
    posed = (*PLACES, *DIRECTIONS, CAMERA)
    kept = {name: value for name, value in batch.items() if _stem(name) not in posed}
    zero = ("expression", "pose", f"translation{unit}")
    kept |= {name: torch.zeros_like(batch[name]) for name in zero if name in batch}
    return kept | {f"vertices{unit}": _field(batch, vertices)}


@dataclass(frozen=True, eq=False)
class PoseRemoved:
    """Undoes the head's global rotation and translation; neck, jaw and eyes stay as they are.

    FLAME turns the head about its root joint, which depends on shape and expression, then shifts
    it: the batch must hold `shape`, `expression`, `pose` and `translation_mm`, of which the global
    part becomes zero. All fields of the scan's pose follow, and cameras. Make it with
    `PoseRemoved.of(model)`.
    """

    template: Tensor  # (3,) mm, the root joint of the mean head
    shape_basis: Tensor  # (300,3) mm
    expression_basis: Tensor  # (100,3) mm

    @classmethod
    def of(cls, model: FlameModel) -> PoseRemoved:
        """`model` is that of the store (`Store.model` has its digest)."""
        root = model.joint_regressor[0] if len(model.joint_regressor) else None

        def at_root(basis: Array) -> Tensor:  # (V,3,…) -> (…,3)
            held = np.zeros(basis.shape[1:]) if root is None else np.tensordot(root, basis, 1)
            return torch.from_numpy(held.T.astype(np.float32))

        bases = model.shape_basis_mm, model.expression_basis_mm
        return cls(at_root(model.template_mm), *map(at_root, bases))

    def __call__(self, batch: Sample, draw: Draw) -> Sample:
        unit = _unit(batch)
        pose, translation = _field(batch, "pose"), _field(batch, f"translation{unit}")
        _check_one_scan("pose", pose, 2)
        root = self.template + sum(
            _field(batch, name)[:, : len(basis)] @ basis
            for name, basis in (("shape", self.shape_basis), ("expression", self.expression_basis))
        )
        root = (root / 1000 if unit == "_m" else root)[:, None]
        # v = R (rest - root) + root + translation; rows are points, so R from the right undoes it
        rotation = rotation_matrices(pose[:, :3])
        moved = dict(batch)
        for name, values in _posed(batch, PLACES).items():
            moved[name] = (values - root - translation[:, None]) @ rotation + root
        for name, values in _posed(batch, DIRECTIONS).items():
            moved[name] = _turned(values, rotation.mT)
        shift = root[:, 0] + translation - (rotation @ root.mT)[..., 0]
        moved |= _camera_of_moved(batch, rotation, shift)
        still = torch.cat([torch.zeros_like(pose[:, :3]), pose[:, 3:]], 1)
        zero = torch.zeros_like(translation)
        return moved | {"pose": still, f"translation{unit}": zero}


@dataclass(frozen=True)
class RandomRotation:
    """Turns all fields of the scan's pose about the origin, and adds `rotation` (B,3,3).

    About an axis of any direction, by an angle of up to `max_degrees`, both uniform. Cameras turn
    along: they see what they saw. `neutral_mm`, `pose`, `translation_mm` and the fields of
    identities stay those of the head before.
    """

    max_degrees: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        number("max_degrees", self.max_degrees, 0, 180), whole("seed", self.seed)

    def __call__(self, batch: Sample, draw: Draw) -> Sample:
        height, round_axis, share = (self._uniform(draw, i) for i in range(3))
        height = 2 * height - 1
        flat = np.sqrt(1 - height**2)
        around = 2 * np.pi * round_axis
        axis = np.stack([flat * np.cos(around), flat * np.sin(around), height], 1)
        angle = np.radians(self.max_degrees) * share
        rotation = rotation_matrices(torch.from_numpy(axis * angle[:, None])).float()
        turned = {
            name: _turned(values, rotation)
            for name, values in _posed(batch, PLACES + DIRECTIONS).items()
        }
        camera = _camera_of_moved(batch, rotation.mT, torch.zeros(len(rotation), 3))
        return batch | turned | camera | {"rotation": rotation}

    def _uniform(self, draw: Draw, which: int) -> Array:
        """(B,) float64 in [0, 1)."""
        bits = draws((self.seed, draw.epoch, which), draw.positions) >> np.uint64(11)
        return bits.astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class SomePoints:
    """`n` of each sample's points, others each epoch; ask the dataset for more than `n`."""

    n: int
    seed: int = 0

    def __post_init__(self) -> None:
        whole("n", self.n, 1), whole("seed", self.seed)

    def __call__(self, batch: Sample, draw: Draw) -> Sample:
        fields = [*_posed(batch, ("points", "normals"))]
        held = batch[fields[0]].shape[1] if fields else 0
        if held < self.n:
            raise FacefoldError(f"{self.n} points of {held}: ask the dataset for more points")
        keys = draws((self.seed, draw.epoch), draw.positions[:, None] * held + np.arange(held))
        chosen = np.argpartition(keys, self.n - 1, axis=1)[:, : self.n]
        index = torch.from_numpy(np.sort(chosen, axis=1))[..., None].expand(-1, -1, 3)
        return batch | {name: batch[name].gather(1, index) for name in fields}


@dataclass(frozen=True, eq=False)
class VertexWeights:
    """Adds `vertex_weight` (B,V), the same for each sample; times `validity` with `valid_only`.

    Make it with `VertexWeights.of(model)`.
    """

    weights: Tensor  # (V,)
    valid_only: bool = False

    @classmethod
    def of(
        cls,
        model: FlameModel,
        regions: Mapping[str, float] = MICA_WEIGHTS,
        rest: float = 1.0,
        valid_only: bool = False,
    ) -> VertexWeights:
        """By the model's regions, the later ones over the earlier. Raises FacefoldError for a
        region that the model does not have."""
        weights = torch.full((len(model.template_mm),), rest)
        for name, weight in regions.items():
            if name not in model.regions:
                raise FacefoldError(
                    f"model {model.name} has no region {name!r}; it has "
                    + ", ".join(sorted(model.regions))
                )
            weights[torch.from_numpy(model.regions[name])] = weight
        return cls(weights, valid_only)

    def __call__(self, batch: Sample, draw: Draw) -> Sample:
        if self.valid_only:
            return batch | {"vertex_weight": self.weights * _field(batch, "validity")}
        return batch | {"vertex_weight": self.weights.expand(len(draw.samples), -1)}


def _posed(batch: Sample, stems: tuple[str, ...]) -> dict[str, Tensor]:
    """Fields (B,N,3) of the scan's pose. Raises FacefoldError where a sample has several scans."""
    found = {name: values for name, values in batch.items() if _stem(name) in stems}
    for name, values in found.items():
        _check_one_scan(name, values, 3)
    return found


def _check_one_scan(name: str, values: Tensor, ndim: int) -> None:
    if values.ndim != ndim:
        raise FacefoldError(
            f"{name}: got {tuple(values.shape)}: this transform moves one scan a sample; ask the "
            'dataset for unit="view" or unit="scan"'
        )


def _camera_of_moved(batch: Sample, rotation: Tensor, shift: Tensor) -> Sample:
    """Where x was `rotation` x + `shift` before it was moved, (B,3,3) and (B,3): the camera that
    sees it as before, if the batch has one."""
    if CAMERA not in batch:
        return {}
    before: Tensor = batch[CAMERA]  # (B,4,4), or (B,K,4,4)
    back = torch.eye(4, dtype=before.dtype).repeat(len(rotation), 1, 1)
    back[:, :3, :3], back[:, :3, 3] = rotation, shift
    return {CAMERA: before @ (back if before.ndim == 3 else back[:, None])}


def _turned(values: Tensor, rotation: Tensor) -> Tensor:
    """(B,N,3) by (B,3,3), in float32; of the type they had."""
    return (values.float() @ rotation.mT).to(values.dtype)


def _stem(name: str) -> str:
    return name.removesuffix("_mm").removesuffix("_m")


def _unit(batch: Sample) -> str:
    """How the batch's lengths end: "_mm" or "_m"."""
    return "_m" if any(name.endswith("_m") for name in batch) else "_mm"


def _field(batch: Sample, name: str) -> Tensor:
    if name not in batch:
        raise FacefoldError(f"no {name} in the batch; ask the dataset for it in `fields`")
    field: Tensor = batch[name]
    return field
