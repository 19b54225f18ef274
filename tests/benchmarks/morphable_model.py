"""Morphable models of made people (`pipeline.flame.morphable`), against one as LSFM makes it.

    python tests/benchmarks/morphable_model.py [--quick] [--json] [--people N] [--failed SHARE]

People are ICT-FaceKit's 100 modes on FLAME's topology where its data is, else the stand-in's. Their
heads are what labels are: off by a smooth error, some of them by far (failed registrations). The
peer is written after Booth et al. 2016 and 2018 (menpo3d and LSFM's code cannot be installed on
this Python): generalised Procrustes with similarities, pruning of the people whose coefficients are
unlikely, principal components. Unseen people are without error. `metric`: a head is placed rigidly
and its size has to be explained; `scaled`: as LSFM measures, the head is brought to the mean's size
first, and the distance is brought back to millimetres. The row `weighted` weighs people by expected
error, `anchored` leaves heads, seen and unseen, where the store's anchor puts them.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from ict_cases import IctModel
from open_models import add_shared_data, open_model
from scipy.stats import chi2

from pipeline.evaluation.alignment.procrustes import procrustes
from pipeline.evaluation.crops import faces_within
from pipeline.evaluation.distances import to_surface
from pipeline.flame.model import FlameModel
from pipeline.flame.morphable import Morphable, morphable_of, placed_mutually, vertex_distances
from pipeline.flame.stand_in import stand_in
from pipeline.geometry.laplacian import cotangent_laplacian, lowest_eigenvectors, lumped_masses
from pipeline.registration.anchor import anchored
from pipeline.registration.template import prepare_template
from pipeline.types import Array

COUNTS = 5, 10, 20, 40, 80
UNSEEN, SURFACES, DRAWS = 100, 15, 100
ERRORS_MM = 0.4, 1.2
"""Root mean square error of labels, of the best and the worst."""
FAILED_MM = 15.0
UNLIKELY = 0.999
"""Share of people whom LSFM's pruning keeps, if coefficients are normal."""
HELD = 0.98
"""Share of the variance that pruning looks at (after Booth et al. 2018)."""


class People(NamedTuple):
    """Vertices (V,3) mm of the same topology."""

    labels: Array  # (n,V,3) as registered
    errors_mm: Array  # (n,) to expect of each
    unseen: Array  # (m,V,3) true
    faces: Array
    truths: Array  # (n,V,3) of the labels


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    people = made(arguments)
    found = {name: measured(name, people, arguments.counts) for name in METHODS}
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        report(people, found)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few people, few components")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--failed", type=float, default=0.0, help="share of failed registrations")
    parser.add_argument("--seed", type=int, default=0)
    add_shared_data(parser)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.people = 60
    arguments.counts = [k for k in COUNTS if k < 0.8 * arguments.people]
    return arguments


def made(arguments: argparse.Namespace) -> People:
    """Heads as a store has them: anchored."""
    random = np.random.default_rng(arguments.seed)
    count = arguments.people + UNSEEN
    if (arguments.shared_data / "ict").is_dir():
        model = open_model(arguments.shared_data, "flame_ict")
        ict = IctModel.load(arguments.shared_data)
        faces_of = random.normal(size=(count, 100))
        truths = np.array([ict.on_flame(ict.vertices(own, {})) for own in faces_of])
    else:
        model = stand_in()
        drawn = random.normal(size=(count, model.shape_basis_mm.shape[2]))
        truths = model.template_mm + np.einsum("ns,vds->nvd", drawn, model.shape_basis_mm)
    known = np.isfinite(truths).all((0, 2))
    errors = random.uniform(*ERRORS_MM, arguments.people)
    labels = truths[: arguments.people] + errors[:, None, None] * smooth(model, random, len(errors))
    failed = random.permutation(len(labels))[: round(arguments.failed * len(labels))]
    far = np.clip(labels[failed, :, :1] / 30, 0, 1) * random.normal(size=(len(failed), 1, 3))
    labels[failed] += FAILED_MM * far
    placed, rest = anchored_to(model, labels)[:, known], anchored_to(model, truths)[:, known]
    faces, n = faces_within(model.faces, known), arguments.people
    return People(placed, errors, rest[n:], faces, rest[:n])


def smooth(model: FlameModel, random: np.random.Generator, count: int) -> Array:
    """(count,V,3) of root mean square length 1: a field of the surface's 200 longest waves."""
    v = model.template_mm
    _, waves = lowest_eigenvectors(
        cotangent_laplacian(v, model.faces), lumped_masses(v, model.faces), 200
    )
    fields = np.einsum("vw,nwd->nvd", waves, random.normal(size=(count, 200, 3)))
    return fields / np.sqrt(np.square(fields).sum(2).mean(1))[:, None, None]


def anchored_to(model: FlameModel, heads: Array) -> Array:
    return anchored(prepare_template(model, "cpu", 0), torch.from_numpy(heads)).numpy()


# --- ways to make a model


def ours(people: People, count: int) -> Morphable:
    return morphable_of(placed_mutually(people.labels), count)


def anchored_only(people: People, count: int) -> Morphable:
    return morphable_of(people.labels, count)


def weighted(people: People, count: int) -> Morphable:
    """By the precision of a person: what people differ by, and what the label is off by."""
    heads = placed_mutually(people.labels)
    spread = np.square(heads - heads.mean(0)).sum(2).mean()
    weights = 1 / (spread + people.errors_mm**2)
    weights /= weights.mean()
    mean = np.average(heads, axis=0, weights=weights)
    scaled = np.sqrt(weights)[:, None, None] * (heads - mean)
    mirrored = np.concatenate([scaled, -scaled])  # whose mean is zero
    model, n = morphable_of(mirrored, count), len(scaled)
    share = (2 * n - 1) / (2 * (n - 1))
    variances = model.variances_mm2 * share
    return Morphable(mean, model.components, variances, model.total_mm2 * share, n)


def lsfm(people: People, count: int) -> Morphable:
    """Similarities removed, unlikely people pruned, as published."""
    heads = similar(people.labels)
    first = morphable_of(heads, min(len(heads) - 1, 300))
    k = int(np.searchsorted(np.cumsum(first.variances_mm2), HELD * first.total_mm2)) + 1
    whitened = first.first(k).coefficients(heads) ** 2 / first.variances_mm2[:k]
    return morphable_of(heads[whitened.sum(1) <= chi2.ppf(UNLIKELY, k)], count)


def similar(heads: Array) -> Array:
    """Generalised Procrustes (Gower 1975) with similarities, to a mean of fixed size."""
    mean = heads[0]
    size = np.mean([extent(head) for head in heads])
    for _ in range(20):
        moved = as_placed(heads, mean, scaled=True)
        before, centre = mean, moved.mean((0, 1))
        mean = moved.mean(0)
        mean = centre + (mean - centre) * size / extent(mean)
        if np.abs(mean - before).max() < 1e-4:
            break
    return as_placed(heads, mean, scaled=True)


def extent(head: Array) -> float:
    return float(np.linalg.norm(head - head.mean(0)))


METHODS: dict[str, Callable[[People, int], Morphable]] = {
    "ours": ours,
    "weighted": weighted,
    "anchored": anchored_only,
    "lsfm": lsfm,
}


# --- what they are worth


def measured(name: str, people: People, counts: Sequence[int]) -> dict[str, Any]:
    began = time.process_time()
    model = METHODS[name](people, counts[-1])
    seconds = time.process_time() - began
    metric = people.unseen
    if name != "anchored":
        metric = as_placed(people.unseen, model.mean_mm, scaled=False)
    scaled = as_placed(people.unseen, model.mean_mm, scaled=True)
    sizes = np.array([extent(h) / extent(s) for h, s in zip(people.unseen, scaled, strict=True)])
    distances = {
        "metric_mm": vertex_distances(model, metric, counts).mean((1, 2)),
        "scaled_mm": (vertex_distances(model, scaled, counts).mean(2) * sizes).mean(1),
        "surface_metric_mm": surfaces(model, metric[:SURFACES], counts, people.faces),
        "specificity_mm": specificity(name, model, people, counts),
        "compactness": np.cumsum(model.variances_mm2)[np.array(counts) - 1] / model.total_mm2,
    }
    said = {"components": list(counts), "people": model.people, "unseen": len(people.unseen)}
    return said | {key: list(map(float, x)) for key, x in distances.items()} | {"seconds": seconds}


def as_placed(heads: Array, mean: Array, *, scaled: bool) -> Array:
    return np.array([procrustes(head, mean, scaled=scaled).apply(head) for head in heads])


def surfaces(model: Morphable, heads: Array, counts: Sequence[int], faces: Array) -> list[float]:
    coefficients = model.coefficients(heads)
    return [
        float(
            np.mean(
                [
                    to_surface(head, model.heads_mm(own[None, :k])[0], faces).distance.mean()
                    for head, own in zip(heads, coefficients, strict=True)
                ]
            )
        )
        for k in counts
    ]


def specificity(name: str, model: Morphable, people: People, counts: Sequence[int]) -> list[float]:
    """Mean distance in true size from heads that are drawn to the nearest person as they are."""
    drawn = np.random.default_rng(1).normal(size=(DRAWS, len(model))) * np.sqrt(model.variances_mm2)
    truths = people.truths
    if name != "anchored":
        truths = as_placed(truths, model.mean_mm, scaled=False)
    real = truths.reshape(len(truths), -1)
    found = []
    for k in counts:
        heads = model.heads_mm(drawn[:, :k])
        flat = heads.reshape(DRAWS, -1)
        near = np.square(real).sum(1) - 2 * flat @ real.T
        who = np.argpartition(near, 10, axis=1)[:, :10]
        apart = [
            np.linalg.norm(real[own].reshape(10, -1, 3) - head, axis=2).mean(1).min()
            for own, head in zip(who, heads, strict=True)
        ]
        found.append(float(np.mean(apart)))
    return found


def report(people: People, found: dict[str, dict[str, Any]]) -> None:
    sizes = np.array([extent(head) for head in people.truths])
    print(f"{len(people.labels)} people, size ± {100 * sizes.std() / sizes.mean():.1f} %; "
          f"{len(people.unseen)} unseen")  # fmt: skip
    keys = ("metric_mm", "scaled_mm", "surface_metric_mm", "specificity_mm", "compactness")
    for key in keys:
        print(f"\n{key:<18}" + "".join(f"{k:>9}" for k in found["ours"]["components"]))
        for name, row in found.items():
            print(f"{name:<18}" + "".join(f"{value:9.3f}" for value in row[key]))
        ratios = np.array(found["lsfm"][key]) / found["ours"][key]
        print(f"{'lsfm / ours':<18}" + "".join(f"{value:9.2f}" for value in ratios))
    print("\npeople used, seconds of CPU")
    for name, row in found.items():
        print(f"{name:<18}{row['people']:>9}{row['seconds']:9.1f}")


if __name__ == "__main__":
    main()
