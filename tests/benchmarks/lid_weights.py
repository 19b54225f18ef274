"""Weights of lids (`registration/mouth_and_eyes/lids.py`), fitted to faces whose lids are known.

python tests/benchmarks/lid_weights.py [--quick] [--seeds FIRST] [--shared-data DIR]
Faces of the second family, with eyeballs, and of the ICT model, without, from shut to wide open,
meshed finely and coarsely, without landmarks; sections through their eyes as registration cuts
them, sharp and smoothed. Prints WEIGHTS as the module has them, and the log loss of a section: of
people held out (two folds, by the parity of seeds), and by the module's weights, which were fitted
to the seeds that are the default.
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import numpy as np
import torch
from lid_faces import OPTIONS, QUICK, SEEDS, SETS, Sections, cases, cut
from open_models import add_shared_data, open_model
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from pipeline.registration.mouth_and_eyes.lids import (
    HIGHEST,
    LOWEST,
    STEP_MM,
    WEIGHTS,
    WIDEST,
    features,
)
from pipeline.registration.template import prepare_template
from pipeline.types import Array

SMOOTHED_MM = (0.0, 0.8, 1.5)
"""Standard deviations of the Gaussians by which sections are smoothed, as scans may be."""
TRUE_STD_MM = 0.6
"""Of height and gap about the true ones: the edge of a lid is round."""
LEAST_SHARE = 1e-3
"""Added to how common each gap is."""
DECAY = 0.002
RANGES_MM = (0.0, 7.0, 11.0, np.inf)
"""Gaps between which losses are given."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two people of each family")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="the first one, then counted up")
    add_shared_data(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, sets = arguments.shared_data, QUICK if arguments.quick else SETS
    template = prepare_template(open_model(data, "flame_ict"), "cpu", OPTIONS.modes)
    made = [cut(template, case, seed) for seed, case in cases(data, sets, arguments.seeds)]
    known = Sections(*map(np.concatenate, zip(*made, strict=True)))
    print(written(fitted(known)))
    module = losses(known, np.array(list(WEIGHTS.values())), truth(known)[1])
    for name, loss in (("held out", held_out(known)), ("by the module's weights", module)):
        print(f"log loss of a section, {name}: {loss.mean():.3f}")
        for low, high in pairwise(RANGES_MM):
            at = (known.gap_mm >= low) & (known.gap_mm < high)
            if at.any():
                print(f"    gaps of {low:g} to {high:g} mm ({at.sum()}): {loss[at].mean():.3f}")


def fitted(known: Sections) -> Array:
    """(K,) weights of maximum likelihood, given how common each gap is among the sections."""
    likely, common = truth(known)
    x = np.concatenate([design(smoothed(known.depth, s), known.first) for s in SMOOTHED_MM])
    y = np.tile(likely, (len(SMOOTHED_MM), 1))

    def cost(w: Array) -> tuple[float, Array]:
        log_p = log_softmax(x @ w + common, axis=1)
        slope = np.tensordot(np.exp(log_p) - y, x, 2) / len(x)
        return float(DECAY * w @ w - (y * log_p).sum() / len(x)), 2 * DECAY * w + slope

    found: Array = minimize(cost, np.zeros(x.shape[2]), jac=True, method="L-BFGS-B").x
    return found


def held_out(known: Sections) -> Array:
    """(N,) losses by weights of the other fold."""
    result, fold = np.zeros(len(known.seed)), known.seed % 2
    for k in (0, 1):
        own, others = (Sections(*(x[at] for x in known)) for at in (fold == k, fold != k))
        result[fold == k] = losses(own, fitted(others), truth(others)[1])
    return result


def losses(known: Sections, weights: Array, common: Array) -> Array:
    """(N,) cross-entropies of the sections as they were cut."""
    odds = design(known.depth, known.first) @ weights + common
    return np.asarray(-(truth(known)[0] * log_softmax(odds, axis=1)).sum(1))


def design(depth: Array, first: Array) -> Array:
    """(N,C,K) features of all C pairs of a height and a gap."""
    every, _ = features(torch.as_tensor(depth), torch.as_tensor(first))
    return np.asarray(every.flatten(1, 2).numpy())


def truth(known: Sections) -> tuple[Array, Array]:
    """(N,C) how likely each pair is the true one; (C,) logarithms of how common its gap is."""
    heights, gaps = STEP_MM * np.arange(LOWEST, HIGHEST + 1), STEP_MM * np.arange(WIDEST + 1)
    height, gap = (
        -(((grid - true[:, None]) / TRUE_STD_MM) ** 2) / 2
        for grid, true in ((heights, known.lower_mm), (gaps, known.gap_mm))
    )
    pairs = softmax((height[:, :, None] + gap[:, None]).reshape(len(gap), -1), axis=1)
    return pairs, np.tile(np.log(softmax(gap, axis=1).mean(0) + LEAST_SHARE), len(heights))


def smoothed(depth: Array, std_mm: float) -> Array:
    """(N,T) as far as there is surface; holes stay."""
    if not std_mm:
        return depth
    rows, shown = std_mm / STEP_MM, np.isfinite(depth)
    total, share = (
        gaussian_filter1d(x, rows, mode="constant", radius=int(3 * rows))
        for x in (np.nan_to_num(depth), shown.astype(np.float64))
    )
    return np.where(shown, total / np.maximum(share, 1e-6), np.nan)


def written(weights: Array) -> str:
    """As the module has them."""
    lines = [f'    "{name}": {x:.2f},' for name, x in zip(WEIGHTS, weights, strict=True)]
    return "\n".join(["WEIGHTS = {", *lines, "}"])


if __name__ == "__main__":
    main()
