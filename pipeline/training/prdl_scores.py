"""How well a network of `prdl` sees faces: landmarks, parts, and the shape of mouth and eyes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.flame.model import PARTS, FlameModel
from pipeline.flame.parts import parts_of
from pipeline.geometry.rigid import umeyama
from pipeline.loaders import FaceDataset
from pipeline.loaders.dataset import Sample
from pipeline.training.cameras import in_camera, unmoved
from pipeline.training.shading import grey, surfaces
from pipeline.training.system import Learner, Measured, Setting, on_device
from pipeline.types import Array
from pipeline.views.scene import parts_of as drawn_parts
from pipeline.views.view import IMAGE_PX

REGIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mouth": ("lips", "right mouth corner", "left mouth corner"),
        "eyes": ("right lids", "left lids", "right eye corners", "left eye corners"),
    }
)
"""Of `flame.parts.parts_of`."""
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"mouth": ("upper_lip", "lower_lip"), "eyes": ("left_eye", "right_eye")}
)
"""Of PARTS."""
FIELDS = (
    "images",
    "parts",
    "landmarks_px",
    "landmark_visibility",
    "camera_matrix_px",
    "canonical_to_camera",
    "vertices_mm",
)
BATCH, SHOWN = 16, 6
OUTLINE = np.array([255, 220, 0])


class PrdlPrediction(NamedTuple):
    """Of B pictures."""

    vertices_mm: Tensor  # (B,V,3) in the cameras' frames
    landmarks_px: Tensor  # (B,68,2)


def region_errors_mm(found_mm: Tensor, truth_mm: Tensor, model: FlameModel) -> dict[str, Tensor]:
    """(B,V,3) twice -> (B,) mean distances of each of REGIONS, once the face is rigidly aligned.

    A model without such parts has no such errors.
    """
    face = torch.as_tensor(model.regions["face"], device=found_mm.device)
    rotation, translation = umeyama(found_mm[:, face], truth_mm[:, face])
    apart = (found_mm @ rotation.mT + translation[:, None] - truth_mm).norm(dim=-1)
    parts = parts_of(model)
    found = {}
    for name, own in REGIONS.items():
        known = [parts[part].vertices for part in own if part in parts]
        if known:
            found[name] = apart[:, np.unique(np.concatenate(known))].mean(1)
    return found


def part_masks(vertices_mm: Tensor, model: FlameModel, camera_matrix_px: Tensor) -> Tensor:
    """(B,V,3) mm in the cameras' frames, (B,3,3) -> (B,8,224,224) bool: what shows of PARTS."""
    faces = torch.from_numpy(model.faces).to(vertices_mm.device)
    here = unmoved(vertices_mm)
    seen = surfaces(vertices_mm, faces, here, camera_matrix_px, IMAGE_PX, IMAGE_PX)
    flat = seen.triangle.reshape(-1).cpu().numpy(), seen.barycentric.reshape(-1, 3).cpu().numpy()
    label = torch.from_numpy(drawn_parts(model).at(*flat)).view(seen.triangle.shape)
    return label[:, None] == torch.arange(len(PARTS))[:, None, None]


def overlaps(found: Tensor, labelled: Tensor) -> dict[str, Tensor]:
    """(B,8,H,W) bool twice -> (B,) intersection over union of each of GROUPS, its parts' mean; NaN
    for a group that the labels do not show."""
    both, either = (found & labelled).sum((2, 3)), (found | labelled).sum((2, 3))
    own = torch.where(labelled.any(3).any(2), both / either.clamp_min(1), torch.nan)
    rows = {name: [PARTS.index(part) for part in parts] for name, parts in GROUPS.items()}
    return {name: own[:, index].nanmean(1) for name, index in rows.items()}


@torch.no_grad()
def measure(learner: Learner, setting: Setting, split: str) -> Measured:
    """Means over views of a split: landmarks where visible, overlap of parts, mm of regions."""
    figures: dict[str, list[Tensor]] = {}
    for batch, found in _predicted(learner, setting, split, setting.config.validation_views):
        apart = (found.landmarks_px - batch["landmarks_px"]).norm(dim=-1)
        apart = torch.where(batch["landmark_visibility"] > 0, apart, torch.nan)
        own = {"landmarks_px": apart.nanmean(1)}
        camera = batch["camera_matrix_px"].float()
        masks = part_masks(found.vertices_mm, setting.model, camera)
        shared = overlaps(masks, batch["parts"].cpu())
        own |= {f"{name}_overlap": value for name, value in shared.items()}
        truth = in_camera(batch["vertices_mm"], batch["canonical_to_camera"])
        errors = region_errors_mm(found.vertices_mm, truth, setting.model)
        own |= {f"{name}_mm": value for name, value in errors.items()}
        for name, value in own.items():
            figures.setdefault(name, []).append(value.cpu())
    return {name: float(torch.cat(values).nanmean()) for name, values in figures.items()}


def _predicted(
    learner: Learner, setting: Setting, split: str, n: int
) -> Iterator[tuple[Sample, PrdlPrediction]]:
    """`n` views evenly from a split, by batches."""
    network: Any = learner
    where = setting.config.where or None
    data = FaceDataset(setting.store, split, FIELDS, where, unit="view")
    rows = np.unique(np.linspace(0, len(data) - 1, min(n, len(data))).astype(np.int64))
    for start in range(0, len(rows), BATCH):
        batch = on_device(data[rows[start : start + BATCH]], setting.device)
        yield batch, network.predict(batch)


@torch.no_grad()
def picture(learner: Learner, setting: Setting, split: str, path: Path) -> None:
    """Rows of photo, photo with the outlines of its labelled parts, predicted mesh with them."""
    model = setting.model
    faces = torch.from_numpy(model.faces).to(setting.device)
    batch, found = next(_predicted(learner, setting, split, SHOWN))
    here = unmoved(found.vertices_mm)
    camera = batch["camera_matrix_px"].float()
    seen = surfaces(found.vertices_mm, faces, here, camera, IMAGE_PX, IMAGE_PX)
    shaded = (255 * grey(found.vertices_mm, faces, seen, here)).byte().cpu().numpy()
    rows = []
    for photo, parts, mesh in zip(batch["images"], batch["parts"], shaded, strict=True):
        edges, own = outlines(parts.cpu().numpy()), photo.cpu().numpy()
        drawn = [own.copy(), np.repeat(mesh[..., None], 3, 2)]
        for image in drawn:
            image[edges] = OUTLINE
        rows.append(np.concatenate([own, *drawn], 1))
    half = (len(rows) + 1) // 2
    rows += [np.zeros_like(rows[0])] * (2 * half - len(rows))
    columns = [np.concatenate(rows[k : k + half]) for k in (0, half)]
    Image.fromarray(np.concatenate(columns, 1)).save(path)


def outlines(masks: Array) -> Array:
    """(P,H,W) bool -> (H,W) bool: pixels of a mask beside others that are not of it."""
    inner = masks.copy()
    inner[:, 1:] &= masks[:, :-1]
    inner[:, :-1] &= masks[:, 1:]
    inner[:, :, 1:] &= masks[:, :, :-1]
    inner[:, :, :-1] &= masks[:, :, 1:]
    return np.asarray((masks & ~inner).any(0))
