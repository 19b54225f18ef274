"""A store of people at rest, and a predicted head of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.evaluation.protocols.people import file_name
from tests.evaluation.people_store import write_people
from tests.evaluation.scenes import NAMES, Scene, write_obj


def write(root: Path, predictions: Path, scene: Scene, names: Sequence[str] = NAMES) -> None:
    """A person of the split test for each named prediction, all with the subject's head."""
    heads = np.stack([1000 * scene.predictions_m["truth"]] * len(names)).astype(np.float32)
    people = [f"made:{name}" for name in names]
    told = [{"identity": person, "split": "test"} for person in people]
    of_people = [{"identity": person} for person in people]
    write_people(root, scene.model, heads, told, of_people=of_people)
    for person, name in zip(people, names, strict=True):
        path = predictions / f"{file_name(person)}.obj"
        write_obj(path, scene.predictions_m[name], scene.prediction_faces)
