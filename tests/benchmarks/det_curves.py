"""DET curves as SVG: both error rates on probit axes (Martin et al. 1997)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import norm

from pipeline.identity.calibration import Trials, operating_points
from pipeline.types import Array

SIZE, LEFT, TOP = 420, 70, 40
RATES = (1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5)
COLOURS = {"strangers": "#2c7fb8", "siblings": "#d95f0e", "twins": "#7a0177"}
DASHES = {"neutral": "", "expression": "7 3", "half face": "2 3", "60 mm crop": "9 3 2 3"}


def drawn(curves: Mapping[str, Trials], title: str) -> str:
    """An SVG of curves by "kind, against whom"; a rate of no error is drawn at the axis."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE + LEFT + 190} '
        f'{SIZE + TOP + 60}" font-family="DejaVu Sans, sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{title}</text>',
    ]
    for rate in RATES:
        x, y = place(np.array([rate])), SIZE - place(np.array([rate]))
        label = f"{100 * rate:g} %"
        parts += [
            f'<path d="M{LEFT + x[0]:.1f} {TOP}v{SIZE}M{LEFT} {TOP + y[0]:.1f}h{SIZE}" '
            'stroke="#ddd" fill="none"/>',
            f'<text x="{LEFT + x[0]:.1f}" y="{TOP + SIZE + 18}" '
            f'text-anchor="middle">{label}</text>',
            f'<text x="{LEFT - 6}" y="{TOP + y[0] + 4:.1f}" text-anchor="end">{label}</text>',
        ]
    middle = LEFT + SIZE / 2
    parts += [
        f'<text x="{middle}" y="{TOP + SIZE + 42}" text-anchor="middle">others above the '
        "threshold</text>",
        f'<text transform="translate(16 {TOP + SIZE / 2}) rotate(-90)" text-anchor="middle">the '
        "same person below it</text>",
        f'<rect x="{LEFT}" y="{TOP}" width="{SIZE}" height="{SIZE}" fill="none" stroke="#444"/>',
    ]
    for i, (name, trials) in enumerate(curves.items()):
        kind, whom = name.rsplit(", ", 1)
        style = f'stroke="{COLOURS[whom]}" stroke-dasharray="{DASHES[kind]}" stroke-width="1.8"'
        y = TOP + 10 + 18 * i
        parts += [
            f'<path d="{path(trials)}" fill="none" {style}/>',
            f'<path d="M{LEFT + SIZE + 12} {y}h28" {style}/>',
            f'<text x="{LEFT + SIZE + 46}" y="{y + 4}">{name}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])


def path(trials: Trials) -> str:
    found = operating_points(trials.ratio, trials.same)
    x, y = LEFT + place(found.false_match), TOP + SIZE - place(found.false_non_match)
    points = np.unique(np.round(np.stack([x, y], 1)), axis=0)  # by x, then downwards
    turns = np.diff(points[:, 0]) != 0
    points = points[np.r_[True, turns] | np.r_[turns, True]]
    return "M" + "L".join(f"{a:g} {b:g}" for a, b in points)


def place(rate: Array) -> Array:
    """Along an axis of SIZE, from the lowest of RATES."""
    low, high = norm.ppf(RATES[0]), norm.ppf(0.6)
    found: Array = SIZE * (norm.ppf(np.clip(rate, RATES[0], 0.6)) - low) / (high - low)
    return found
