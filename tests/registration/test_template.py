from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.flame.model import FlameModel, LandmarkEmbedding
from pipeline.registration.template import (
    LOWER_FACE_MM,
    LOWER_LIP_68,
    UPPER_LIP_68,
    Template,
    prepare_template,
)


def test_templates_differ_where_regions_or_landmarks_do(template: Template) -> None:
    model = template.model
    modes = len(template.eigenvalues)
    assert prepare_template(model, "cpu", modes) is prepare_template(model, "cpu", modes)
    assert prepare_template(replace(model, landmarks=None), "cpu", modes).model.landmarks is None
    nose = model.regions["nose"]
    seen = prepare_template(
        replace(model, regions={"face": model.regions["face"], "hidden": nose}), "cpu", modes
    )
    assert template.areas[nose].all() and not seen.areas[nose].any()
    # eyeballs are silent as components, named or not
    assert not seen.areas[model.regions["eyeballs"]].any()


def corners_of(model: FlameModel, names: tuple[int, ...]) -> list[int]:
    landmarks = model.landmarks
    assert landmarks is not None
    return model.faces[landmarks.triangles[np.isin(landmarks.indices_68, names)]].ravel().tolist()


def test_the_lower_face_goes_with_the_lower_lip_and_not_with_the_upper(template: Template) -> None:
    model, share = template.model, template.lower_face
    lower, upper = (set(corners_of(model, names)) for names in (LOWER_LIP_68, UPPER_LIP_68))
    assert bool((share[list(lower)] == 1).all())
    assert not share[list(upper - lower)].any()
    assert bool(((share >= 0) & (share <= 1)).all())
    rest = template.tensors.template
    far = (rest - rest[list(lower)].mean(0)).norm(dim=1) > LOWER_FACE_MM + 15
    assert not share[far].any()
    middle = rest[list(lower)].mean(0)
    chin = (rest - middle - torch.tensor([0.0, -20.0, 0.0])).norm(dim=1).argmin()
    nose = model.regions["nose"]
    assert share[chin] > 0.5
    assert share[nose].mean() < 0.1


@pytest.mark.parametrize("which", ["none", "own points", "no lips"])
def test_without_lips_there_is_no_lower_face(model: FlameModel, which: str) -> None:
    found = model.landmarks
    assert found is not None
    parts = found.indices_68, found.triangles, found.barycentric
    given = {
        "none": None,
        "own points": LandmarkEmbedding(np.full(5, -1), *(part[:5] for part in parts[1:])),
        "no lips": LandmarkEmbedding(*(part[found.indices_68 < 48] for part in parts)),
    }[which]
    assert not prepare_template(replace(model, landmarks=given), "cpu", 8).lower_face.any()
