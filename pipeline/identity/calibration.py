"""What log likelihood ratios are worth: measured on pairs of known people, and made honest.

Cllr is the mean cost, in bits, of ratios taken at their word; minCllr that of the best monotone
map, by pool adjacent violators (Brümmer, du Preez 2006). Calibration is affine, by logistic
regression with equal weights (Brümmer et al. 2007): it may make ratios weaker, never stronger, for
where no pair is confused the data set no limit. After it, no larger a share of strangers than e^−t
is above any t ≥ 0 among those measured, as must be of likelihood ratios (Markov's inequality). The
same holds of siblings, made of the people themselves (`estimation.made_relatives`); of twins, who
are many, the share that would be merged is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import isotonic_regression, minimize
from scipy.stats import beta

from pipeline.errors import FacefoldError
from pipeline.identity.plda import SIBLINGS, TWINS
from pipeline.types import Array

LEAST_PEOPLE, LEAST_STRANGERS = 20, 300
"""People seen twice and pairs of strangers from which on ratios count as calibrated."""
STRANGERS_MERGED, SIBLINGS_MERGED, TWINS_MERGED = 1e-7, 1e-4, 1e-2
"""Rates of merges without being asked, at most, a pair of each."""
RIDGE = 1e-3
"""Bits for a scale or a shift that is 1 off."""


class Trials(NamedTuple):
    """Pairs of known people."""

    ratio: Array  # (N,) log likelihood ratios, not calibrated
    same: Array  # (N,) bool
    people: Array  # (N,2) int: whose they are


class Calibration(NamedTuple):
    """ratio -> scale ratio + shift, with what it was measured on."""

    scale: float = 1.0
    shift: float = 0.0
    people: int = 0
    """Seen twice."""
    strangers: int = 0
    """Pairs."""
    cllr: float = float("nan")
    """Bits, after calibration."""
    min_cllr: float = float("nan")
    largest_stranger: float = float("nan")
    """Ratio, after calibration."""
    relatives: int = 0
    """Pairs made of the people, of siblings and of twins each."""
    siblings: float = 0.0
    """What a ratio to siblings is too strong by."""
    twins: float = 0.0

    def __call__(self, ratio: Array) -> Array:
        found: Array = self.scale * ratio + self.shift
        return found

    @classmethod
    def of(cls, values: Array) -> Calibration:
        """From its fields as one array of numbers."""
        found = cls(*values.tolist())
        counts = {n: int(getattr(found, n)) for n in ("people", "strangers", "relatives")}
        return found._replace(**counts)

    @property
    def to_relatives(self) -> tuple[tuple[float, float], ...]:
        """Siblings and twins: their correlation, and what ratios to them are too strong by."""
        return (SIBLINGS, self.siblings), (TWINS, self.twins)

    @property
    def measured(self) -> bool:
        """Whether enough people were seen twice to merge anyone without being asked."""
        return self.people >= LEAST_PEOPLE and self.strangers >= LEAST_STRANGERS


def in_parts(pairs: Array, size: int = 1000) -> list[Array]:
    """Pairs in parts that memory holds."""
    return np.split(pairs, range(size, len(pairs), size))


def calibrate(measured: Trials) -> Calibration:
    """Raises FacefoldError for ratios that are not finite."""
    ratio, same = measured.ratio, measured.same
    if not np.isfinite(ratio).all():
        raise FacefoldError(
            f"{(~np.isfinite(ratio)).sum()} of {len(ratio)} log likelihood ratios are not finite; "
            "estimate the population anew (--recalibrate)"
        )
    people, strangers = len(np.unique(measured.people[same])), int((~same).sum())
    if not people or not strangers:
        return Calibration(people=people, strangers=strangers)

    def cost(at: Array) -> float:
        off = (at[0] - 1) ** 2 + at[1] ** 2
        return cllr(at[0] * ratio + at[1], same) + RIDGE * float(off)

    found = minimize(cost, [1.0, 0.0], bounds=[(0.05, 1.0), (None, 0.0)], method="L-BFGS-B").x
    scale, shift = float(found[0]), float(found[1])
    shift = min(shift, -excess(scale * ratio[~same]))
    after = scale * ratio + shift
    return Calibration(
        scale,
        shift,
        people,
        strangers,
        cllr(after, same),
        min_cllr(after, same),
        float(after[~same].max()),
    )


def excess(ratio: Array) -> float:
    """How much log ratios of pairs that are not the same person are too high, at the worst: of N
    the k-th highest may be ln(N/k)."""
    highest = np.sort(ratio)[::-1]
    allowed = np.log(len(ratio) / np.arange(1, len(ratio) + 1))
    return float(np.max(highest - allowed, initial=0.0))


def passed_by(ratio: Array, share: float) -> float:
    """How much log ratios are too high for no more than `share` to pass −ln(share): another of the
    same kind passes with that probability at most (Vovk et al. 2005).
    `excess` where too few are known."""
    ordered = np.sort(ratio)
    at = int(np.ceil((1 - share) * (len(ratio) + 1))) - 1
    return max(0.0, float(ordered[at] + np.log(share))) if at < len(ratio) else excess(ratio)


def cllr(ratio: Array, same: Array) -> float:
    """Mean cost in bits, one person's pairs and strangers' with equal weight."""
    own, other = np.logaddexp(0, -ratio[same]), np.logaddexp(0, ratio[~same])
    return float((own.mean() + other.mean()) / 2 / np.log(2))


def min_cllr(ratio: Array, same: Array) -> float:
    """`cllr` after the best monotone map."""
    order = np.lexsort((~same, ratio))
    weights = np.where(same, 0.5 / same.sum(), 0.5 / (~same).sum())[order]
    share = isotonic_regression(same[order].astype(float), weights=weights).x
    with np.errstate(divide="ignore"):
        best = np.log(share) - np.log1p(-share)
    return cllr(best, same[order])


class Operating(NamedTuple):
    """Error rates by threshold: points of a DET curve, from the lowest threshold."""

    threshold: Array
    false_match: Array
    false_non_match: Array

    @property
    def equal(self) -> float:
        """Equal error rate."""
        at = np.abs(self.false_match - self.false_non_match).argmin()
        return float((self.false_match[at] + self.false_non_match[at]) / 2)


def operating_points(ratio: Array, same: Array) -> Operating:
    """A pair is called the same person from the threshold on."""
    thresholds = np.unique(ratio)
    own, other = np.sort(ratio[same]), np.sort(ratio[~same])
    missed = np.searchsorted(own, thresholds) / len(own)
    taken = 1 - np.searchsorted(other, thresholds) / len(other)
    return Operating(thresholds, taken, missed)


def by_person(
    measured: Trials,
    statistic: Callable[[Array, Array], float],
    rng: np.random.Generator,
    draws: int = 200,
) -> Array:
    """(draws,) a statistic of (ratio, same) over people drawn with replacement: a pair counts as
    often as both of its people are drawn, one person's own as often as they are (Poh, Bengio 2007).
    """
    names = np.unique(measured.people)
    found = []
    for _ in range(draws):
        count = np.bincount(rng.choice(names, len(names)), minlength=names.max() + 1)
        weight = np.where(
            measured.same, count[measured.people[:, 0]], count[measured.people].prod(1)
        )
        at = np.repeat(np.arange(len(weight)), weight)
        found.append(statistic(measured.ratio[at], measured.same[at]))
    return np.array(found)


def bound(errors: int, pairs: int) -> float:
    """Upper end of the 95 % interval of a rate: 3/N after no error (Clopper, Pearson 1934)."""
    return 1.0 if errors >= pairs else float(beta.ppf(0.95, errors + 1, pairs - errors))
