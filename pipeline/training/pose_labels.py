"""What pose guidance learns from: landmarks of the sources' own, and how heads are turned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.errors import StoreError
from pipeline.geometry.rigid import rotation_matrices
from pipeline.loaders import Draw, FaceDataset
from pipeline.loaders.dataset import Sample
from pipeline.store.reader import Store
from pipeline.training.camera_turns import Turned
from pipeline.training.cameras import in_camera

SOURCE = "manifest.landmark_source"
FIELDS = ("canonical_to_camera", "landmarks_mm", SOURCE, "pose", "identity_neutral_mm")


@dataclass(frozen=True)
class OnlyLabels:
    """A transform: landmarks that no file of the source gave become NaN. Those that registration
    detected are its own guesses, and would teach its errors."""

    def __call__(self, batch: Sample, draw: Draw | None = None) -> Sample:
        given = [[said == "file" for said in own] for own in batch[SOURCE]]
        unknown = ~torch.tensor(given)[..., None, None]
        return batch | {"landmarks_mm": batch["landmarks_mm"].masked_fill(unknown, torch.nan)}


class Truth(NamedTuple):
    """Of P people in K pictures each, B = P·K, in the frames of their turned cameras."""

    landmarks_mm: Tensor  # (B,68,3) NaN where no source gave one
    rotation: Tensor  # (B,3,3) of the head
    labelled: Tensor  # (B,) bool: some landmark is known
    neutral_mm: Tensor  # (P,V,3)

    @property
    def at_rest_mm(self) -> Tensor:
        """(B,68,3) the landmarks with the head's rotation undone, wherever it is."""
        return self.landmarks_mm @ self.rotation


def truth_of(view: Turned, batch: Sample) -> Truth:
    """Of people in pictures (P,K,…) that `view` shows one after the other."""
    to_camera = batch["canonical_to_camera"].float().flatten(0, 1)
    marks = in_camera(batch["landmarks_mm"].float().flatten(0, 1), to_camera)
    head = head_rotation(batch["pose"].float().flatten(0, 1))
    labelled = torch.isfinite(marks).all(-1).any(-1)
    rotation = view.turn @ to_camera[:, :3, :3] @ head
    return Truth(view.points(marks), rotation, labelled, batch["identity_neutral_mm"])


def head_rotation(pose: Tensor) -> Tensor:
    """(B,3j) stored axis-angles -> (B,3,3): how the head is turned from rest, by the global
    rotation and that of the neck."""
    turns = rotation_matrices(pose[:, :6].unflatten(1, (-1, 3)))
    return turns[:, 0] @ turns[:, 1] if turns.shape[1] > 1 else turns[:, 0]


def check_labels(store: Store, split: str, where: str) -> None:
    """Raises StoreError where no picture of the split has landmarks that its source gave."""
    pictures = FaceDataset(store, split, SOURCE, where or None, unit="view")
    said = pictures.column(SOURCE)
    if not (said == "file").any():
        raise StoreError(
            f"{store.path}: none of {len(said)} pictures of {split} shows a scan whose "
            "landmark_source is 'file', expected some to learn from; those that "
            "registration detected are no labels: name the source's landmark files in its "
            "registry entry and build again, or train on a split or `where` that has some"
        )
