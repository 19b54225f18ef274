"""What `pipeline/quality/usual.py` says, from rows: the weights of the evidence that a part slid,
and what sound parts reach."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from gate_cases import SLID_MM, SOUND_MM
from gate_rows import SOUND, Row
from gate_slides import SLIDES
from gate_tables import errors_of
from scipy.optimize import minimize
from scipy.special import expit

from pipeline.quality.part_gates import slide_evidence, usual_stretch
from pipeline.quality.usual import Slide, Usual, part_group
from pipeline.types import Array

SOUND_TAIL, SLID_TAIL = 0.99, 0.03
"""Quantiles between which the score of a part that slid begins; the former where they overlap."""
MOST_TAIL, MOST_ODDS = 0.998, 0.5
"""Quantile of sound parts of which no slides are counted, and log odds beyond it."""
MARGIN = 1.1
"""For families that were not seen."""
LEAST = {"landmark_sigmas": 2.5, "expected_mm": 2.0}
"""Less than this is nothing to look at, however seldom it was reached."""
DECAY = 0.05
SLID_GROUPS = tuple(part_group(slides[0].part) for slides in SLIDES.values())

Bias = dict[tuple[str, str], Array]


def tuned(rows: Sequence[Row], bias: Bias) -> tuple[Slide, dict[str, Usual]]:
    """Weights of the evidence, and group of parts → what is usual."""
    sound: dict[str, list[Slide]] = defaultdict(list)
    looked_at: dict[str, list[Slide]] = defaultdict(list)
    slid: dict[str, list[Slide]] = defaultdict(list)
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    before = {(row.family, row.seed): errors_of(row, bias) for row in rows if row.kind == SOUND}
    for row in rows:
        if row.measures is None:
            continue
        errors, real = errors_of(row, bias), row.family.startswith("real")
        unmoved = before.get((row.family, row.seed), {})
        whole = usual_stretch(row.measures)
        for name, part in row.measures.parts.items():
            group, error = part_group(name), errors.get(name, np.nan)
            evidence = slide_evidence(part, whole)
            if row.kind == SOUND and (real or error < SOUND_MM):
                (looked_at if real else sound)[group].append(evidence)
                for field in LEAST:
                    values[group][field].append(getattr(part, field))
            moved = {slide.part for slide in SLIDES.get(row.kind, ())}
            if name in moved and error > SLID_MM and unmoved.get(name, np.inf) < SOUND_MM:
                slid[group].append(evidence)
    weights = Slide(*np.round(fitted(sound, slid), 2).tolist())
    table = {g: usual(sound[g], looked_at[g], slid[g], values[g], weights) for g in sound}
    return weights, table


def fitted(sound: Mapping[str, list[Slide]], slid: Mapping[str, list[Slide]]) -> Array:
    """Weights of a logistic regression over all groups whose parts slid, a constant for each;
    every group and both outcomes count alike."""
    evidence, outcome, group, weight = [], [], [], []
    for at, name in enumerate(SLID_GROUPS):
        for y, found in ((0.0, known(sound[name])), (1.0, known(slid[name]))):
            evidence.append(found)
            outcome += [y] * len(found)
            group += [at] * len(found)
            weight += [50 / max(len(found), 1)] * len(found)
    x = np.concatenate([np.concatenate(evidence), np.eye(len(SLID_GROUPS))[group]], axis=1)
    y, w = np.array(outcome), np.array(weight)

    def cost(b: Array) -> tuple[float, Array]:
        odds = x @ b
        loss = w @ (np.logaddexp(0, odds) - y * odds) + DECAY / 2 * b @ b
        return float(loss), x.T @ (w * (expit(odds) - y)) + DECAY * b

    found: Array = minimize(cost, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return found[: len(Slide._fields)]


def known(evidence: Sequence[Slide]) -> Array:
    """(N,5) of those where all could be taken."""
    found = np.array(evidence, np.float64).reshape(-1, len(Slide._fields))
    return np.asarray(found[np.isfinite(found).all(1)])


def usual(
    sound: Sequence[Slide],
    looked_at: Sequence[Slide],
    slid: Sequence[Slide],
    values: Mapping[str, Sequence[float]],
    weights: Slide,
) -> Usual:
    reached = {name: np.array(found) for name, found in values.items()}
    most = {
        name: max(LEAST[name], MARGIN * float(np.nanquantile(x, MOST_TAIL)))
        if np.isfinite(x).any()
        else np.inf
        for name, x in reached.items()
    }
    scores, real, moved = (known(f) @ np.array(weights) for f in (sound, looked_at, slid))
    if len(moved):
        low, high = np.quantile(scores, SOUND_TAIL), np.quantile(moved, SLID_TAIL)
        slide = (low + max(low, high)) / 2
    else:
        slide = np.quantile(scores, MOST_TAIL) + MOST_ODDS
    slide = max([slide, *real])  # few, and all of them were looked at
    return Usual(round(float(slide) + 0.005, 2), **{name: round(x, 2) for name, x in most.items()})


def written(weights: Slide, table: Mapping[str, Usual]) -> str:
    """As `pipeline/quality/usual.py` has it."""
    lines = [f"WEIGHTS = Slide{tuple(weights)!r}"]
    lines += [f'    "{group}": Usual{tuple(values)!r},' for group, values in table.items()]
    return "\n".join(lines).replace("inf", "math.inf")
