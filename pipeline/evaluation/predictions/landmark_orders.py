"""In which order landmarks are, by the order in which they fit a mean head best."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import permutations
from typing import NamedTuple

import numpy as np

from pipeline.evaluation.crops import SEVEN_68
from pipeline.flame.model import FlameModel
from pipeline.landmarks.check import CONTOUR, average_face
from pipeline.landmarks.schemes import SCHEMES, to_68
from pipeline.types import Array

FEWEST = 4
"""Points that determine an order: three fit every face and its mirror image."""
CLEARLY = 1.75
"""So many times better another order, or a mirror image, fits before it is named. See
docs/explanation/benchmarks.md for what neutral and mirrored faces have."""
ALL_ORDERS = 7
"""Points up to which every order is tried."""
SWAPPED = "with left and right swapped"


class Order(NamedTuple):
    """How points fit a mean head as they are, and in the order that fits best."""

    as_is_mm: float
    best_mm: float
    said: str
    """The best order in words, "" if it is the one they are in."""
    points: Array
    """(68,3) in the best order."""

    @property
    def clear(self) -> bool:
        """Whether another order fits clearly better."""
        return bool(self.said) and CLEARLY * self.best_mm < self.as_is_mm


def reference_68(model: FlameModel) -> Array:
    """(68,3) mm: landmarks of the model's mean head, of an average face if it has fewer than
    FEWEST; NaN where it has none."""
    if model.landmarks is not None:
        found = model.landmarks.positions_68(model.template_mm, model.faces)
        if np.isfinite(found).all(axis=1).sum() >= FEWEST:
            return found
    return average_face()[0]


def residuals(sources: Array, target: Array) -> Array:
    """(B,N,3), (N,3) -> (B,2): root mean square distances, in the target's unit, that the best
    similarity leaves: by a proper rotation and by a reflection (Umeyama 1991, eq. 36)."""
    source = sources - sources.mean(1, keepdims=True)
    aim = target - target.mean(0)
    u, singular, vh = np.linalg.svd(aim.T @ source)
    reflected = np.linalg.det(u @ vh) < 0
    trace = singular.sum(1)
    other = trace - 2 * singular[:, 2]
    traces = np.where(reflected[:, None], np.stack([other, trace], 1), np.stack([trace, other], 1))
    own = np.square(source).sum((1, 2))[:, None]
    left = np.square(aim).sum() - np.square(np.maximum(traces, 0)) / np.maximum(own, 1e-300)
    root: Array = np.sqrt(np.maximum(left, 0) / len(target))
    return root


def best_order(points: Array, reference: Array) -> Order | None:
    """The order of (68,3) points, NaN where there are none, that fits the reference best.

    Tried are all orders of up to ALL_ORDERS points, else those that users and tools give files of
    so many; the contour, which slides over faces, does not decide. None if fewer than FEWEST points
    can be compared.
    """
    known = np.isfinite(points).all(axis=1) & np.isfinite(reference).all(axis=1)
    known &= ~CONTOUR if (known & ~CONTOUR).sum() >= FEWEST else True
    if known.sum() < FEWEST:
        return None
    if np.isfinite(points).all(axis=1).sum() <= ALL_ORDERS:
        return _best_of_all(points, reference, np.flatnonzero(known))
    tried = [
        (said, other) for said, other in likely_orders(points) if np.isfinite(other[known]).all()
    ]
    left = residuals(np.stack([other[known] for _, other in tried]), reference[known])[:, 0]
    best = int(left.argmin())
    return Order(float(left[0]), float(left[best]), *tried[best])


def _best_of_all(points: Array, reference: Array, known: Array) -> Order:
    if np.isin(known, SEVEN_68).all():
        known = np.array([i for i in SEVEN_68 if i in known])  # in the order of their file
    orders = _orders(len(known))
    left = residuals(points[known][orders], reference[known])[:, 0]
    best = int(left.argmin())
    found = points.copy()
    found[known] = points[known[orders[best]]]
    rows = "".join(f" {i}" for i in orders[best])
    said = f"as{rows} of the {len(known)}, counted from 0"
    if (known[orders[best]] == SCHEMES["ibug68"].mirror[known]).all():
        said = SWAPPED
    return Order(float(left[0]), float(left[best]), said if best else "", found)


@lru_cache(maxsize=8)
def _orders(n: int) -> Array:
    """(n!,n), the first is as they are."""
    return np.array(list(permutations(range(n))))


def likely_orders(points: Array) -> Iterator[tuple[str, Array]]:
    """Orders of many points, in words and as (68,3): first as they are."""
    yield "", points
    known = np.flatnonzero(np.isfinite(points).all(axis=1))
    delivered = points if len(known) > 51 else points[17:]
    n = len(delivered)
    own = SCHEMES["ibug68" if n == 68 else "ibug51"].name
    yield SWAPPED, points[SCHEMES["ibug68"].mirror]
    yield "from the last to the first", to_68(own, delivered[::-1])
    for step, said in ((1, "one row further"), (-1, "one row earlier")):
        yield said, to_68(own, np.roll(delivered, -step, axis=0))
    if n == 68:
        yield "with the contour behind the others", to_68(own, np.roll(delivered, 17, axis=0))
    for scheme in SCHEMES.values():
        if len(scheme) == n and scheme.name != own:
            yield f"as {scheme.name}", to_68(scheme.name, delivered)
