"""Relief: what remains of the depth of a face, its eyes and its mouth once a quadric is taken out.

Distance cannot distinguish a scalp without lids from a face: the template is smooth where the scan
is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from pipeline.flame.model import FlameModel
from pipeline.quality.local import topology_of
from pipeline.types import Array

FEATURES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "mouth": ("lips", "right mouth corner", "left mouth corner"),
        "right eye": ("right lids", "right eye corners"),
        "left eye": ("left lids", "left eye corners"),
    }
)
"""Features that every face has, and the parts that each consists of."""
MIN_SHARE = 0.5
"""Smallest share of a feature's vertices with data for it to be judged."""


@dataclass(frozen=True)
class Relief:
    """Relief of one feature; NaN where the scan has too little data."""

    height: float
    """Slope over the posed model's relief: 1 where all of it is there, 0 on a smooth scan."""
    depth_mm: float
    """Root mean square, of a face of usual size; no model has a part in it."""


def measure_relief(
    upright: Array, posed: Array, valid: Array, size: float, model: FlameModel
) -> dict[str, Relief]:
    """Feature → its relief, of the registered (V,3) and the posed (V,3) vertices, both laid onto
    the template; `size` is the face's over the usual."""
    parts, found = topology_of(model).parts, {}
    for name, names in FEATURES.items() if parts else ():
        own = np.unique(np.concatenate([parts[n].vertices for n in names]))
        shown = own[valid[own]]
        if len(shown) < MIN_SHARE * len(own):
            found[name] = Relief(math.nan, math.nan)
            continue
        scan, said = (detrended(v[shown]) for v in (upright, posed))
        height = float(scan @ said / max(float(said @ said), 1e-12))
        found[name] = Relief(height, float(np.sqrt(np.square(scan).mean())) / size)
    return found


def detrended(points: Array) -> Array:
    """(N,3) -> (N,) depth less its least-squares quadric."""
    x, y, z = (points - points.mean(0)).T
    quadric = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    return np.asarray(z - quadric @ np.linalg.lstsq(quadric, z, rcond=None)[0])
