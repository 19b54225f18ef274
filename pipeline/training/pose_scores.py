"""How well `pose_guidance` sees poses, landmarks and shapes, and a picture of it.

`learner` is a `PoseGuidance` in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from pipeline.geometry.rigid import umeyama
from pipeline.loaders.dataset import FaceDataset, Sample
from pipeline.pictures.sheets import save_grid
from pipeline.training.camera_turns import Changes
from pipeline.training.cameras import to_pixels
from pipeline.training.pose_labels import FIELDS, OnlyLabels, truth_of
from pipeline.training.system import Measured, Setting, on_device
from pipeline.types import Array

if TYPE_CHECKING:
    from pipeline.training.pose_guidance import Prediction

SHOWN_PEOPLE, CELL_PX = 4, 192
TRUE_INK, POSED_INK = (90, 255, 90), (255, 70, 70)


def shown_people(setting: Setting, split: str) -> FaceDataset:
    """People with `frames` pictures each; who has fewer shows some again."""
    fields = ("images", "camera_matrix_px", *FIELDS, "identity")
    return FaceDataset(
        setting.store,
        split,
        fields,
        setting.config.where or None,
        unit="identity",
        views=setting.config.frames,
        fewer="repeat",
    )


def _batches(shown: FaceDataset, setting: Setting) -> Iterator[Sample]:
    labels, n = OnlyLabels(), setting.config.batch
    for start in range(0, len(shown), n):
        yield on_device(labels(shown[start : start + n]), setting.device)


@torch.no_grad()
def measure(learner: Any, setting: Setting, split: str, changes: Changes | None = None) -> Measured:
    """Medians and means over pictures: the angle between the head's rotation and the true one;
    landmarks' distances, relative to their mean, of the posed head and of those predicted. Of the
    face at rest the mean distance of vertices after a rigid motion (metric) and a similarity
    (aligned), by one picture and by `frames` of them, and of the mean head. `changes` are drawn for
    the pictures, always the same ones."""
    drawn = torch.Generator(setting.device)
    found: dict[str, list[Tensor]] = {}

    def add(name: str, values: Tensor) -> None:
        found.setdefault(name, []).append(values.flatten())

    for k, batch in enumerate(_batches(shown_people(setting, split), setting)):
        images, cameras = batch["images"], batch["camera_matrix_px"]
        each = images.flatten(0, 1)[:, None], cameras.flatten(0, 1)[:, None]
        shared, alone = (
            learner.predict(*given, changes, drawn.manual_seed(k))
            for given in ((images, cameras), each)
        )
        truth = truth_of(alone.view, batch)
        add("pose_deg", degrees(alone.rotation, truth.rotation))
        goal = truth.landmarks_mm
        add("landmarks_mm", relative_distances(alone.posed_mm, goal[:, learner.marks]))
        add("predicted_landmarks_mm", relative_distances(alone.seen.landmarks_mm, goal))
        face = truth.neutral_mm[:, learner.face]
        frames = len(alone.shape) // len(face)
        shapes = {"one": alone.shape, "frames": shared.shape, "mean_head": 0 * shared.shape}
        for name, shape in shapes.items():
            true = face.repeat_interleave(frames, 0) if name == "one" else face
            for kind, distances in face_distances(learner.neutral(shape), true).items():
                add(f"{name}_{kind}_mm", distances)
    pooled = {name: torch.cat(values) for name, values in found.items()}
    means = {name: float(values.nanmean()) for name, values in pooled.items()}
    angles = pooled["pose_deg"]
    means["pose_mean_deg"] = means.pop("pose_deg")
    return {"pose_median_deg": float(angles.median()), **means}


def heads(learner: Any, setting: Setting, split: str) -> dict[str, Tensor]:
    """Person -> (V,3) mm at rest, by `frames` pictures."""
    model = setting.model
    template = torch.as_tensor(model.template_mm).float()
    basis = torch.as_tensor(model.shape_basis_mm).float()
    shown = shown_people(setting, split)
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        for batch in _batches(shown, setting):
            shape = learner.predict(batch["images"], batch["camera_matrix_px"]).shape.cpu()
            made = template + torch.einsum("vcs,ps->pvc", basis[..., : shape.shape[1]], shape)
            names = (shown.identities[code] for code in batch["identity"].tolist())
            found |= dict(zip(names, made, strict=True))
    return found


def picture(learner: Any, setting: Setting, split: str, path: Path) -> None:
    """Four people, a row each: the landmarks of the posed head in red, of the source in green."""
    batch = next(_batches(shown_people(setting, split), setting))
    batch = {name: values[:SHOWN_PEOPLE] for name, values in batch.items()}
    with torch.no_grad():
        found = learner.predict(batch["images"], batch["camera_matrix_px"])
    cells = shown_landmarks(found, truth_of(found.view, batch).landmarks_mm)
    frames = batch["images"].shape[1]
    save_grid([cells[i : i + frames] for i in range(0, len(cells), frames)], path)


def shown_landmarks(found: Prediction, truth_mm: Tensor) -> list[Array]:
    """(CELL_PX,CELL_PX,3) uint8 of each picture."""
    cells, view = [], found.view
    size = view.pictures.shape[-1]
    dots = [to_pixels(x, view.camera_matrix_px) for x in (truth_mm, found.posed_mm)]
    for i, one in enumerate(view.pictures.cpu()):
        pixels = (255 * one.clamp(0, 1)).byte().permute(1, 2, 0).numpy()
        cell = Image.fromarray(pixels).resize((CELL_PX, CELL_PX), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(cell)
        for ink, places in zip((TRUE_INK, POSED_INK), dots, strict=True):
            at = (places[i].cpu() + 0.5) * (CELL_PX / size) - 0.5
            for x, y in at[torch.isfinite(at).all(-1)].tolist():
                draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=ink)
        cells.append(np.asarray(cell))
    return cells


def degrees(found: Tensor, truth: Tensor) -> Tensor:
    """(…,3,3) -> (…) angle of the rotation between both, by its Frobenius norm √8 sin(θ/2)."""
    half = (found - truth).square().sum((-2, -1)).sqrt() / 8**0.5
    return torch.rad2deg(2 * torch.asin(half.clamp(max=1)))


def relative_distances(found: Tensor, truth: Tensor) -> Tensor:
    """(B,N,3) -> (B,) mean distance of points relative to their mean, NaN where no truth is."""
    known = torch.isfinite(truth).all(-1, keepdim=True)
    apart = torch.where(known, found - truth, 0)
    n = known.sum(1, keepdim=True)
    middle = apart.sum(1, keepdim=True) / n
    distances = (apart - middle).norm(dim=-1, keepdim=True) * known
    means: Tensor = (distances.sum(1, keepdim=True) / n).flatten()
    return means


def face_distances(found: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """(B,F,3) mm of the same vertices -> (B,) mean distances after the best rigid motion, and
    after the best similarity."""
    source, goal = (x - x.mean(1, keepdim=True) for x in (found, truth))
    rotation, _ = umeyama(source, goal)
    turned = source @ rotation.mT
    scale = (turned * goal).sum((1, 2)) / turned.square().sum((1, 2))
    scaled = scale[:, None, None] * turned
    return {
        "metric": (turned - goal).norm(dim=-1).mean(-1),
        "aligned": (scaled - goal).norm(dim=-1).mean(-1),
    }
