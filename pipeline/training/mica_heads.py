"""What a trained MICA predicts of held-out people: heads, their scores, a picture of some."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pipeline.evaluation.alignment.procrustes import procrustes
from pipeline.flame.model import FlameModel
from pipeline.loaders import Draw, FaceDataset
from pipeline.pictures.rendering import View, distance_colours, render
from pipeline.pictures.sheets import save_grid
from pipeline.training.head_scores import head_scores, true_heads
from pipeline.training.system import Measured, Setting, on_device
from pipeline.types import Array

if TYPE_CHECKING:
    from pipeline.training.mica import Mica, MicaConfig

AT_ONCE = 64
"""Pictures."""
SHOWN, CELL_PX = 5, 224
"""People of a picture, and the side of each of its cells."""
RED_MM = 4.0
"""What is painted in full red."""
CAPTIONS = ("picture", "predicted", "registered", f"apart: red from {RED_MM:g} mm")


def heads(
    learner: nn.Module, setting: Setting, split: str, images: int | None = None
) -> dict[str, Tensor]:
    """Person -> (V,3) mm at rest, of the mean coefficients of all their pictures, or of the first
    `images` of each. Raises StoreError for a split without pictures."""
    mica: Mica = learner  # type: ignore[assignment]
    pictures = _pictures(setting, split, (*mica.config.inputs, "identity"))
    codes: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for start in range(0, len(pictures), AT_ONCE):
            batch = pictures[start : start + AT_ONCE]
            draw = Draw(0, *[np.arange(start, start + len(batch["identity"]))] * 2)
            seen = on_device(mica.config.prepared()(batch, draw), setting.device)
            found = mica.codes(mica.features_of(seen), seen)
            for who, code in zip(batch["identity"].tolist(), found, strict=True):
                codes.setdefault(pictures.identities[who], []).append(code)
        return {
            who: mica.decoder(torch.stack(own[:images]).mean(0, keepdim=True))[0].cpu()
            for who, own in codes.items()
        }


def _pictures(setting: Setting, split: str, fields: tuple[str, ...]) -> FaceDataset:
    config: MicaConfig = setting.config
    return FaceDataset(setting.store, split, fields, config.where or None, unit="view")


def measure(learner: nn.Module, setting: Setting, split: str) -> Measured:
    """Metric and aligned medians of the people's heads, see `head_scores`."""
    config: MicaConfig = setting.config
    return head_scores(heads(learner, setting, split), setting, split, config.validation_people)


def picture(learner: nn.Module, setting: Setting, split: str, path: Path) -> None:
    """A PNG: some people's first pictures, their predicted and their registered heads, and how far
    these are apart, moved onto each other at the face but not scaled."""
    found, truth = heads(learner, setting, split), true_heads(setting.store, split)
    shown = [who for who in found if who in truth][:SHOWN]
    crops = _first_pictures(setting, split, shown)
    rows = [_row(crops[who], found[who], truth[who], setting.model) for who in shown]
    save_grid(rows, path, CAPTIONS)


def _first_pictures(setting: Setting, split: str, people: list[str]) -> Mapping[str, Array]:
    """Person -> (112,112,3) uint8."""
    pictures = _pictures(setting, split, ("aligned_images", "identity"))
    names = np.array(pictures.identities)[pictures.column("identity")]
    first = [int(np.flatnonzero(names == who)[0]) for who in people]
    return dict(zip(people, pictures[first]["aligned_images"].numpy(), strict=True))


def _row(crop: Array, found: Tensor, truth: Tensor, model: FlameModel) -> list[Array]:
    face = model.regions["face"]
    head, goal = (x.double().numpy() for x in (found, truth))
    head = procrustes(head[face], goal[face], scaled=False).apply(head)
    x, y, z = goal[face].mean(0).tolist()
    view = View(yaw=25, height_mm=260, centre_mm=(x, y, z))
    apart = distance_colours(np.linalg.norm(head - goal, axis=1), RED_MM)
    return [
        np.asarray(Image.fromarray(crop).resize((CELL_PX, CELL_PX))),
        render(head, model.faces, view, CELL_PX),
        render(goal, model.faces, view, CELL_PX),
        render(head, model.faces, view, CELL_PX, apart),
    ]
