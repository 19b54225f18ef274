"""Curves of models whose worth is known."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation.morphable.curves import (
    compactness,
    curves,
    curves_png,
    folded,
    generalisation,
    specificity,
    steps,
)
from pipeline.evaluation.morphable.model import in_memory
from pipeline.evaluation.morphable.people import People, people_of
from pipeline.flame.morphable import Morphable, morphable_of, placed, placed_mutually
from pipeline.flame.stand_in import stand_in
from pipeline.store import open_store
from pipeline.types import Array
from tests.evaluation.people_store import heads_of, write_people

N, KNOWN = 30, 6
"""People, and what they differ by."""


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    store = tmp_path_factory.mktemp("curves") / "unified.zarr"
    write_people(store, stand_in(), heads_of(stand_in(), N, 3, KNOWN))
    return people_of(str(store), open_store(store), "train")


@pytest.fixture(scope="module")
def model(people: People) -> Morphable:
    return in_memory(people.heads, KNOWN, 0)


def face() -> Array:
    return stand_in().regions["face"]


def test_steps_end_with_the_models_own() -> None:
    assert steps(6) == [0, 1, 2, 3, 5, 6]
    assert steps(1) == [0, 1] and steps(300)[-2:] == [250, 300]


def test_compactness_is_the_variance_held(people: People, model: Morphable) -> None:
    found = compactness(model, [0, 2, KNOWN])
    heads = placed_mutually(people.heads.read())
    coefficients = model.coefficients(heads)
    whole = heads.reshape(len(heads), -1).var(0, ddof=1).sum()
    held = coefficients[:, :2].var(0, ddof=1).sum() / whole
    assert found["share"] == pytest.approx([0, held, 1], abs=1e-4)
    assert found["rms_mm"][2] == pytest.approx(np.sqrt(whole / 5023), rel=1e-4)
    assert found["people"] == 24


def test_unseen_people_are_explained_by_what_people_differ_by(
    people: People, model: Morphable
) -> None:
    found = generalisation(model, people, stand_in().faces, face(), 0)
    assert found["of"] == "people of other splits" and found["people"] == 6
    assert found["components"] == [0, 1, 2, 3, 5, 6] and found["surface_people"] == 6
    unseen = placed(people.held_out_heads.read(), model.mean_mm)
    apart = np.linalg.norm(unseen - model.mean_mm, axis=2)
    assert found["head_mm"][0] == pytest.approx(apart.mean())
    assert found["face_mm"][0] == pytest.approx(apart[:, face()].mean())
    assert found["face_surface_mm"][0] < found["face_mm"][0]
    for name in ("head_mm", "face_mm", "face_surface_mm"):
        assert 10 * found[name][-1] < 0.1 < found[name][-2]


def test_without_other_splits_nobody_is_tried_on_a_model_that_has_seen_them(
    people: People, model: Morphable
) -> None:
    heads = people.heads.read()
    folds = list(folded(heads, 4, np.random.default_rng(0)))
    tried = np.concatenate([part for _, part in folds])
    assert len(folds) == 5 and sorted(tried[:, 0, 2]) == sorted(heads[:, 0, 2])
    for own, part in folds:
        rest = np.array([head for head in heads if not (head == part).all((1, 2)).any()])
        assert own.people == len(rest) == len(heads) - len(part)
        exact = morphable_of(placed_mutually(rest), 4)
        assert own.mean_mm == pytest.approx(exact.mean_mm, abs=1e-9)
        assert own.variances_mm2 == pytest.approx(exact.variances_mm2)
    alone = replace(people, held_out=(), held_out_heads=people.heads.some(slice(0)))
    found = generalisation(model, alone, stand_in().faces, face(), 0)
    assert found["people"] == 24 and found["of"].startswith("5 folds")
    assert 10 * found["head_mm"][-1] < found["head_mm"][-2]


def test_draws_of_a_model_of_few_are_far_from_them_only_if_it_invents(
    people: People, model: Morphable
) -> None:
    found = specificity(model, people.heads, 0)
    heads, random = placed_mutually(people.heads.read()), np.random.default_rng((0, 2))
    drawn = random.normal(size=(100, KNOWN)) * np.sqrt(model.variances_mm2)
    made = model.heads_mm(drawn)
    nearest = [np.linalg.norm(heads - one, axis=2).mean(1).min() for one in made]
    assert found["head_mm"][-1] == pytest.approx(np.mean(nearest), rel=1e-3)
    wide = Morphable(model.mean_mm, model.components, 9 * model.variances_mm2, 1.0, 24)
    assert specificity(wide, people.heads, 0)["head_mm"][-1] > 2 * found["head_mm"][-1]
    assert specificity(model, people.heads, 0) == found != specificity(model, people.heads, 1)


def test_pictures_show_all_three(people: People, model: Morphable) -> None:
    found = curves(model, people, stand_in().faces, face(), 0)
    png = curves_png(found, "a model")
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    assert picture.shape[1] > 1000 and all(p.min() < 128 for p in np.array_split(picture, 3, 1))
    assert png == curves_png(found, "a model")
