"""What a morphable model is worth: compactness, generalisation and specificity over the number of
its components (Styner et al. 2003; Davies, Twining, Taylor 2008, ch. 9).

Heads are placed rigidly onto the model's mean, and distances are in millimetres: a model that has
lost size shows it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation.distances import to_surface
from pipeline.evaluation.morphable.people import Heads, People
from pipeline.flame.morphable import (
    FEWEST_PEOPLE,
    Morphable,
    morphable_of,
    placed,
    placed_mutually,
    vertex_distances,
)
from pipeline.types import Array

STEPS = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 250, 300)
"""Numbers of components that curves show, and the model's own."""
MOST_TRIED, MOST_SURFACES = 200, 20
"""People that generalisation is measured on, and of them those with distances to the surface."""
FEWEST_TRIED, FOLDS = 5, 5
"""With fewer people of other splits, those of the model are tried on models made without them."""
MOST_IN_FOLDS = 2000
"""People that are then used."""
DRAWS, NEAREST = 100, 10
"""Heads drawn for each number of components; people among whom the nearest is sought, vertex by
vertex, who are the nearest by the root mean square."""
AT_ONCE = 256
"""Heads in memory."""


def curves(
    model: Morphable, people: People, faces: Array, face: Array, seed: int
) -> dict[str, Any]:
    """The three curves, as JSON has them; `face` (N,) are the vertices of the face."""
    counts = steps(len(model))
    return {
        "compactness": compactness(model, counts),
        "generalisation": generalisation(model, people, faces, face, seed),
        "specificity": specificity(model, people.heads, seed),
    }


def steps(count: int) -> list[int]:
    """Numbers of components of a model of `count`."""
    return [*(step for step in STEPS if step < count), count]


def compactness(model: Morphable, counts: Sequence[int]) -> dict[str, Any]:
    """The share of people's variance that the first components hold."""
    held = np.r_[0.0, np.cumsum(model.variances_mm2)]
    n_vertices = len(model.mean_mm)
    return {
        "people": model.people,
        "components": list(counts),
        "share": [float(held[k] / model.total_mm2) for k in counts],
        "rms_mm": [float(np.sqrt(held[k] / n_vertices)) for k in counts],
    }


def generalisation(
    model: Morphable, people: People, faces: Array, face: Array, seed: int
) -> dict[str, Any]:
    """How near the model comes to people it was not made of: vertex to vertex, and to its surface.

    People of other splits, or if there are hardly any, people of the model's in FOLDS parts, each
    of which is tried on a model of the others.
    """
    random = np.random.default_rng((seed, 1))
    if len(people.held_out) >= FEWEST_TRIED:
        heads = people.held_out_heads.some(chosen(random, len(people.held_out), MOST_TRIED))
        tried: Iterator[tuple[Morphable, Array]] = ((model, h) for _, h in heads.blocks(AT_ONCE))
        return {"of": "people of other splits"} | _generalisation(tried, len(model), faces, face)
    some = people.heads.some(chosen(random, len(people.heads), MOST_IN_FOLDS))
    folds = list(folded(some.read(), len(model), random))
    if not folds:
        return {"of": "nobody", "people": 0, "components": []}
    count = min(len(part) for part, _ in folds)
    said = {"of": f"{len(folds)} folds of the model's people, each unseen by a model of the rest"}
    return said | _generalisation(iter(folds), count, faces, face)


def chosen(random: np.random.Generator, n: int, most: int) -> Array:
    """Places of at most so many of n, in order."""
    found: Array = np.sort(random.permutation(n)[:most])
    return found


def folded(
    heads: Array, count: int, random: np.random.Generator
) -> Iterator[tuple[Morphable, Array]]:
    """Models of all but a part of the heads, with that part."""
    parts = np.array_split(random.permutation(len(heads)), min(FOLDS, len(heads)))
    for part in parts:
        rest = np.delete(heads, part, axis=0)
        if len(rest) >= FEWEST_PEOPLE:
            yield morphable_of(placed_mutually(rest), min(count, len(rest) - 1)), heads[part]


def _generalisation(
    tried: Iterator[tuple[Morphable, Array]], count: int, faces: Array, face: Array
) -> dict[str, Any]:
    counts, of_head, of_face, surface = steps(count), [], [], []
    left = MOST_SURFACES
    for model, unseen in tried:
        heads = placed(unseen, model.mean_mm)
        apart = vertex_distances(model, heads, counts)
        of_head.append(apart.mean(2))
        of_face.append(apart[:, :, face].mean(2))
        surface.append(_to_surfaces(model, heads[:left], counts, faces, face))
        left -= len(surface[-1][0])
    mean = {
        "head_mm": np.concatenate(of_head, axis=1),
        "face_mm": np.concatenate(of_face, axis=1),
        "face_surface_mm": np.concatenate(surface, axis=1),
    }
    found: dict[str, Any] = {"people": mean["head_mm"].shape[1], "components": counts}
    found |= {name: values.mean(1).tolist() for name, values in mean.items()}
    spread = mean["head_mm"].std(1, ddof=1) if found["people"] > 1 else np.zeros(len(counts))
    return found | {
        "head_standard_deviation_mm": spread.tolist(),
        "surface_people": mean["face_surface_mm"].shape[1],
    }


def _to_surfaces(
    model: Morphable, heads: Array, counts: Sequence[int], faces: Array, face: Array
) -> Array:
    """(len(counts),n) mm: mean distance of the face's vertices to the surface of the model's."""
    coefficients = model.coefficients(heads)
    return np.array(
        [
            [
                to_surface(head[face], model.heads_mm(own[None, :k])[0], faces).distance.mean()
                for head, own in zip(heads, coefficients, strict=True)
            ]
            for k in counts
        ]
    ).reshape(len(counts), len(heads))


def specificity(model: Morphable, heads: Heads, seed: int) -> dict[str, Any]:
    """How near heads that are drawn from the model come to a person it was made of."""
    random, counts = np.random.default_rng((seed, 2)), steps(len(model))
    drawn = random.normal(size=(DRAWS, len(model))) * np.sqrt(model.variances_mm2)
    scores, beyond = np.empty((len(heads), len(model))), np.empty(len(heads))
    for places, unplaced in heads.blocks(AT_ONCE):
        some = placed(unplaced, model.mean_mm)
        scores[places] = model.coefficients(some)
        whole = np.square(some - model.mean_mm).sum((1, 2))
        beyond[places] = whole - np.square(scores[places]).sum(1)
    distances = []
    for k in counts:
        apart = beyond + np.square(scores).sum(1) - 2 * drawn[:, :k] @ scores[:, :k].T
        nearest = np.argpartition(apart, min(NEAREST, len(heads)) - 1, axis=1)[:, :NEAREST]
        made = [model.heads_mm(one[None, :k])[0] for one in drawn]
        distances.append(
            [_nearest(one, model, heads.some(who)) for one, who in zip(made, nearest, strict=True)]
        )
    found = np.array(distances)
    return {
        "draws": DRAWS,
        "people": len(heads),
        "components": counts,
        "head_mm": found.mean(1).tolist(),
        "head_standard_deviation_mm": found.std(1, ddof=1).tolist(),
    }


def _nearest(head: Array, model: Morphable, heads: Heads) -> float:
    """mm to the nearest of some people, mean over vertices."""
    people = placed(heads.read(), model.mean_mm)
    return float(np.linalg.norm(people - head, axis=2).mean(1).min())


def curves_png(found: dict[str, Any], title: str) -> bytes:
    """The three curves beside each other as a PNG, each with its number of people."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    drawers: tuple[Callable[[Any, dict[str, Any]], None], ...] = (
        _draw_compactness,
        _draw_generalisation,
        _draw_specificity,
    )
    for axes, draw in zip(figure.subplots(1, 3), drawers, strict=True):
        draw(axes, found)
        axes.set_xlabel("components")
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, metadata={"Software": None})
    return picture.getvalue()


def _draw_compactness(axes: Any, found: dict[str, Any]) -> None:
    own = found["compactness"]
    axes.plot(own["components"], [100 * share for share in own["share"]], ".-")
    axes.set_title(f"compactness, {own['people']} people")
    axes.set_ylabel("share of variance, %")


def _draw_generalisation(axes: Any, found: dict[str, Any]) -> None:
    own = found["generalisation"]
    axes.set_title(f"generalisation, {own['people']} unseen people")
    axes.set_ylabel("mean distance, mm")
    if not own["people"]:
        return
    for name, label in (("head_mm", "vertices of the head"), ("face_mm", "vertices of the face")):
        axes.plot(own["components"], own[name], ".-", label=label)
    label = f"face to surface ({own['surface_people']} people)"
    axes.plot(own["components"], own["face_surface_mm"], ".-", label=label)
    axes.set_ylim(bottom=0)
    axes.legend()


def _draw_specificity(axes: Any, found: dict[str, Any]) -> None:
    own = found["specificity"]
    axes.plot(own["components"], own["head_mm"], ".-")
    axes.set_title(f"specificity, {own['draws']} draws, {own['people']} people")
    axes.set_ylabel("mean distance to the nearest person, mm")
    axes.set_ylim(bottom=0)
