"""Predicted heads scored in memory while a network trains: as `facefold evaluate people` scores the
files that they become."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import FacefoldError, ModelError
from pipeline.evaluation.alignment.procrustes import procrustes
from pipeline.evaluation.crops import SEVEN_68
from pipeline.evaluation.protocols.held_out import opened
from pipeline.evaluation.protocols.people import ALIGNED, METRIC, face_of, fits, people_in
from pipeline.flame.model import FlameModel
from pipeline.store.reader import Store
from pipeline.training.system import Setting
from pipeline.types import Array

MODES = (METRIC, ALIGNED)


def head_scores(
    heads: Mapping[str, Tensor], setting: Setting, split: str, limit: int | None = None
) -> dict[str, float]:
    """Person -> (V,3) mm in any pose -> median distances in millimetres, pooled over the people of
    the split who are among the heads, or `limit` of them, evenly spaced: of the heads, of the mean
    head for the same people, and the ratio of the two.

    The template's scores are kept, so that only the first call takes twice the time (a quarter of
    a second a person). Raises FacefoldError if a head has values that are not finite, or no head is
    of the split; ModelError for a model without landmarks; StoreError for a split without people.
    """
    store, model = setting.store, setting.model
    if model.landmarks is None:
        raise ModelError(f"model {model.name} has no landmarks; name its embedding")
    known = {who: row for who, row in people_in(store, split).items() if who in heads}
    if not known:
        raise FacefoldError(
            f"{store.path}: none of {len(heads)} heads is of the people of {split}, expected their "
            "names as the store has them (column identity)"
        )
    asked = _spaced(list(known), limit)
    own = [_distances(store, known[who], model, _finite(heads[who], who)) for who in asked]
    mean = [_of_mean_head(store.path, known[who], model) for who in asked]
    found = _medians(own, "") | _medians(mean, "mean_head_")
    ratios = {
        f"{mode}_ratio": found[f"{mode}_median_mm"] / found[f"mean_head_{mode}_median_mm"]
        for mode in MODES
    }
    return found | ratios


def _spaced(people: list[str], limit: int | None) -> list[str]:
    if limit is None or limit >= len(people):
        return people
    return [people[i * len(people) // limit] for i in range(limit)]


def _finite(head: Tensor, person: str) -> Array:
    """(V,3) float64."""
    if not torch.isfinite(head).all():
        raise FacefoldError(
            f"the head predicted of {person} has values that are not finite: training diverged; "
            "lower optimiser.learning_rate, or set optimiser.largest_gradient"
        )
    return np.asarray(head.detach().double().cpu().numpy())


def _distances(store: Store, row: int, model: FlameModel, head: Array) -> dict[str, Array]:
    """Mode -> (N,) mm."""
    assert model.landmarks is not None
    seven = model.landmarks.positions_68(head, model.faces)[list(SEVEN_68)]
    found = fits(face_of(store, row, model), seven, head, model.faces)
    return {mode: fitted.distances.astype(np.float32) for mode, fitted in found.items()}


@lru_cache(maxsize=4096)  # 17 kB each
def _of_mean_head(version: Path, row: int, model: FlameModel) -> dict[str, Array]:
    return _distances(opened(version), row, model, model.template_mm)


def _medians(distances: Iterable[Mapping[str, Array]], of: str) -> dict[str, float]:
    all_of = list(distances)
    return {
        f"{of}{mode}_median_mm": float(np.median(np.concatenate([one[mode] for one in all_of])))
        for mode in MODES
    }


def true_heads(store: Store, split: str) -> dict[str, Tensor]:
    """Person -> (V,3) float32 mm: what `head_scores` compares with."""
    people = people_in(store, split)
    heads = torch.from_numpy(store.read_identities("identity_neutral_mm", [*people.values()]))
    return dict(zip(people, heads, strict=True))


def at_mean_size(heads: Mapping[str, Tensor], model: FlameModel) -> dict[str, Tensor]:
    """The heads (V,3) mm scaled to the template, as the face's vertices fit it best: what a network
    would predict that knew every shape and nothing of sizes."""
    face = model.regions["face"]
    template = model.template_mm[face]
    return {
        who: head * procrustes(head[face].double().cpu().numpy(), template).scale
        for who, head in heads.items()
    }
