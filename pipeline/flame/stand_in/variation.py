"""How stand-in heads differ: identity and expression fields, smooth and of our own making."""

from __future__ import annotations

import numpy as np

from pipeline.flame.stand_in import rig, sculpt
from pipeline.flame.stand_in.curves import gaussian, smoothstep
from pipeline.types import Array

N_HEAD, N_EYEBALL = rig.N_HEAD, rig.N_EYEBALL
ALL = 1e4  # a radius without end

Vector = tuple[float, float, float]
Row = tuple[Vector, Vector, Vector, Vector]
Part = tuple[str, Vector, Vector, Vector, Vector]

# Semantic identity fields: centre; radii; move; stretch about the centre (per mm), for one standard
# deviation. Those with a centre off the midline act on both sides, mirrored.
IDENTITY: dict[str, Row] = {
    "head size": ((0, -10, 0), (ALL, ALL, ALL), (0, 0, 0), (0.026, 0.026, 0.026)),
    "face length": ((0, -5, 70), (ALL, 75, 90), (0, 0, 0), (0, 0.05, 0)),
    "face width": ((0, -30, 40), (ALL, 60, 60), (0, 0, 0), (0.05, 0, 0)),
    "face depth": ((0, -40, 20), (ALL, 60, 60), (0, 0, 0), (0, 0, 0.05)),
    "cranium height": ((0, 40, -15), (ALL, 60, ALL), (0, 0, 0), (0, 0.06, 0)),
    "cranium length": ((0, 40, 0), (ALL, 70, ALL), (0, 0, 0), (0, 0, 0.035)),
    "cranium width": ((0, 40, -20), (ALL, 60, 75), (0, 0, 0), (0.045, 0, 0)),
    "neck width": ((0, -150, -20), (ALL, 38, ALL), (0, 0, 0), (0.09, 0, 0.07)),
    "lower face length": ((0, -60, 90), (60, 60, 60), (0, 0, 0), (0, 0.09, 0)),
    "jaw width": ((0, -80, 20), (ALL, 26, 40), (0, 0, 0), (0.08, 0, 0)),
    "jaw angle": ((52, -78, 15), (22, 22, 26), (1.5, -3.5, 0), (0, 0, 0)),
    "chin forward": ((0, -100, 92), (26, 18, 30), (0, 0, 3.2), (0, 0, 0)),
    "chin height": ((0, -108, 85), (28, 16, 30), (0, -3.2, 0), (0, 0, 0)),
    "chin width": ((0, -102, 85), (30, 16, 26), (0, 0, 0), (0.13, 0, 0)),
    "profile": ((0, -70, 80), (ALL, 42, 60), (0, 0, 3.0), (0, 0, 0)),
    "cheekbone width": ((60, -25, 48), (20, 18, 28), (2.8, 0, 0.8), (0, 0, 0)),
    "cheekbone forward": ((42, -26, 68), (16, 14, 26), (0.8, 0, 2.6), (0, 0, 0)),
    "cheek fullness": ((46, -60, 55), (18, 20, 30), (2.6, 0, 2.2), (0, 0, 0)),
    "brow forward": ((24, 17, 88), (22, 9, 26), (0, 0, 2.0), (0, 0, 0)),
    "brow height": ((26, 17, 85), (22, 9, 26), (0, 1.8, 0), (0, 0, 0)),
    "forehead slope": ((0, 62, 85), (55, 24, 50), (0, 0, 3.4), (0, 0, 0)),
    "temple width": ((66, 28, 40), (20, 26, 32), (2.0, 0, 0), (0, 0, 0)),
    "eye distance": ((31, 0, 72), (20, 20, 30), (1.6, 0, 0), (0, 0, 0)),
    "eye height": ((31, 0, 72), (20, 17, 30), (0, 1.5, 0), (0, 0, 0)),
    "eye depth": ((31, 0, 74), (19, 15, 26), (0, 0, 1.7), (0, 0, 0)),
    "eye size": ((31, 0, 76), (17, 13, 24), (0, 0, 0), (0.045, 0.07, 0.03)),
    "eye slant": ((45, 0, 70), (9, 10, 20), (0, 1.5, 0), (0, 0, 0)),
    "nose length": ((0, -42, 105), (24, 17, 30), (0, -2.6, 0), (0, 0, 0)),
    "nose forward": ((0, -36, 114), (15, 17, 26), (0, 0, 2.8), (0, 0, 0)),
    "nose width": ((0, -42, 100), (24, 14, 24), (0, 0, 0), (0.13, 0, 0)),
    "nose bridge": ((0, -10, 102), (11, 14, 24), (0, 0, 2.2), (0, 0, 0)),
    "nose root": ((0, 6, 94), (13, 10, 22), (0, 0, 1.9), (0, 0, 0)),
    "nose bridge width": ((0, -12, 98), (18, 18, 22), (0, 0, 0), (0.12, 0, 0)),
    "nose tip up": ((0, -40, 115), (12, 10, 18), (0, 2.2, 0.6), (0, 0, 0)),
    "nose tip size": ((0, -37, 112), (15, 13, 16), (0, 0, 0), (0.11, 0.11, 0.06)),
    "nose wings": ((13, -41, 98), (8, 9, 16), (1.0, 0, 0.5), (0, 0.04, 0)),
    "mouth width": ((0, -67, 94), (34, 18, 30), (0, 0, 0), (0.09, 0, 0)),
    "mouth height": ((0, -67, 98), (34, 17, 34), (0, 1.8, 0), (0, 0, 0)),
    "lips forward": ((0, -67, 104), (20, 13, 20), (0, 0, 2.0), (0, 0, 0)),
    "lip fullness": ((0, -67, 102), (26, 11, 18), (0, 0, 0), (0, 0.14, 0.06)),
    "upper lip forward": ((0, -60, 104), (18, 6.5, 18), (0, 0, 1.3), (0, 0, 0)),
    "lower lip forward": ((0, -76, 102), (18, 6.5, 18), (0, 0, 1.4), (0, 0, 0)),
    "fold below lip": ((0, -86, 96), (20, 8, 20), (0, 0, 1.4), (0, 0, 0)),
    "ears out": ((84, -8, -24), (18, 34, 22), (3.2, 0, 0), (0, 0, 0)),
    "ear size": ((76, -12, -12), (22, 40, 26), (0, 0, 0), (0.03, 0.06, 0.06)),
    "ear height": ((74, -12, -12), (24, 42, 30), (0, 2.8, 0), (0, 0, 0)),
    "double chin": ((0, -118, 62), (34, 18, 26), (0, -3.0, 1.0), (0, 0, 0)),
    "nape": ((0, -70, -70), (50, 40, 40), (0, 0, -2.8), (0, 0, 0)),
}

# Named expressions: part (all, upper, lower: the side of the mouth's line), then as above.
EXPRESSION: dict[str, list[Part]] = {
    "smile": [
        ("all", (26, -68, 88), (15, 13, 20), (3.8, 3.8, -2.8), (0, 0, 0)),
        ("upper", (0, -62, 100), (15, 9, 18), (0, 0.6, -1.0), (0, 0, 0)),
        ("lower", (0, -74, 100), (15, 9, 18), (0, -0.8, -1.0), (0, 0, 0)),
        ("all", (40, -44, 74), (13, 12, 22), (0.4, 1.6, 1.2), (0, 0, 0)),
        ("all", (31, -12, 78), (13, 6, 14), (0, 0.7, 0), (0, 0, 0)),
    ],
    "open jaw": [],
    "frown": [
        ("all", (25, -71, 88), (11, 11, 18), (0.6, -3.0, 0), (0, 0, 0)),
        ("all", (12, 16, 92), (12, 9, 18), (-0.8, -1.6, 0.3), (0, 0, 0)),
    ],
    "pucker": [
        ("all", (0, -67, 98), (24, 14, 24), (0, 0, 3.6), (-0.16, 0.04, 0)),
    ],
    "blink left": [],
    "blink right": [],
    "brows up": [("all", (27, 19, 86), (24, 12, 26), (0, 3.0, 0), (0, 0, 0))],
    "brows down": [("all", (20, 16, 88), (20, 9, 24), (-1.0, -2.4, 0.4), (0, 0, 0))],
    "cheek puff": [("all", (40, -64, 70), (17, 16, 26), (3.4, 0, 3.0), (0, 0, 0))],
    "sneer": [
        ("upper", (11, -50, 98), (12, 14, 20), (0.4, 2.4, 0), (0, 0, 0)),
        ("all", (8, 4, 92), (10, 9, 16), (-0.4, -0.8, 0.8), (0, 0, 0)),
    ],
    "lips apart": [
        ("lower", (0, -72, 100), (22, 11, 24), (0, -2.4, 0), (0, 0, 0)),
        ("upper", (0, -62, 100), (22, 11, 24), (0, 1.4, 0), (0, 0, 0)),
    ],
    "upper lip up": [("upper", (0, -61, 102), (18, 11, 20), (0, 2.4, 0.4), (0, 0, 0))],
    "lower lip down": [("lower", (0, -75, 100), (18, 11, 20), (0, -2.4, 0.4), (0, 0, 0))],
    "stretch": [("all", (25, -70, 88), (12, 13, 20), (3.2, -1.0, -1.8), (0, 0, 0))],
    "chin raise": [("lower", (0, -88, 96), (22, 18, 24), (0, 2.0, 1.2), (0, 0, 0))],
    "inner brows up": [("all", (11, 18, 90), (11, 10, 20), (0, 2.6, 0), (0, 0, 0))],
    "outer brows up": [("all", (41, 18, 78), (12, 11, 22), (0, 2.6, 0), (0, 0, 0))],
    "squint": [
        ("all", (32, -9, 78), (14, 6, 14), (0, 1.5, 0.4), (0, 0, 0)),
    ],
    "nostrils wide": [("all", (13, -42, 98), (7, 8, 14), (1.4, 0.3, 0), (0, 0, 0))],
    "lips in": [("all", (0, -67, 102), (22, 9, 14), (0, 0, -2.2), (0, -0.1, 0))],
}
ONE_SIDED: dict[str, list[Part]] = {  # the left one and its mirror image
    "mouth": [("all", (6, -67, 96), (28, 18, 26), (3.4, 0, 0), (0, 0, 0))],
    "jaw": [("lower", (0, -85, 70), (60, 40, 70), (3.6, 0, 0), (0, 0, 0))],
    "smile": [("all", (26, -68, 88), (14, 12, 20), (3.2, 3.2, -2.2), (0, 0, 0))],
    "brow up": [("all", (27, 19, 86), (17, 12, 26), (0, 2.8, 0), (0, 0, 0))],
}
EXPRESSION_NAMES = (
    *EXPRESSION,
    *(f"{name} {side}" for name in ONE_SIDED for side in ("left", "right")),
)
"""What the first expression components are; the others are small and random."""


def stroke(p: Array, row: Row, mirror: bool = True) -> Array:
    """(N,3) displacement of one row at points (N,3): gaussian × (move + stretch × (p - centre))."""
    centre, radii, move, stretch = (np.array(part, dtype=np.float64) for part in row)
    flip = np.array([-1.0, 1, 1])
    out = np.zeros_like(p)
    for side in (np.ones(3), flip) if mirror and centre[0] else (np.ones(3),):
        local = p * side - centre
        out += gaussian(*(local / radii).T)[:, None] * (move + stretch * local) * side
    return out


def random_fields(p: Array, n: int, seed: int, wavelengths_mm: tuple[float, float]) -> Array:
    """(n,N,3) smooth random fields of unit RMS, mostly symmetric, of falling wavelength.

    Sums of random waves (Rahimi & Recht 2007).
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    out = np.empty((n, len(p), 3))
    for k in range(n):
        share = k / max(n - 1, 1)
        length = wavelengths_mm[0] ** (1 - share) * wavelengths_mm[1] ** share
        wave = rng.standard_normal((3, 3)) * (2.2 / length)
        phase = rng.uniform(0, 2 * np.pi, 3)
        direction = rng.standard_normal((3, 3))
        near = np.cos(p @ wave + phase) @ direction
        far = (np.cos((p * [-1, 1, 1]) @ wave + phase) @ direction) * [-1, 1, 1]
        field = near + far + 0.2 * (near - far)
        out[k] = field / np.sqrt((field**2).sum(1).mean())
    return out


def carry_eyeballs(fields: Array, p: Array) -> Array:
    """Fields (n,5023,3) in which eyeballs move as a whole with their socket, and lids with them."""
    for k, x in enumerate((1.0, -1.0)):
        centre = sculpt.EYE_CENTRE_MM * [x, 1, 1]
        ball = slice(N_HEAD + k * N_EYEBALL, N_HEAD + (k + 1) * N_EYEBALL)
        whole = fields[:, ball].mean(1, keepdims=True)
        near = smoothstep(-np.linalg.norm((p - centre) / [1.15, 1, 1], axis=1), -24.0, -12.0)
        fields = fields + near[None, :, None] * (whole - fields)
        fields[:, ball] = whole
    return fields


def shape_basis(template_mm: Array) -> Array:
    """(5023,3,300) identity components: semantic fields, then random ones, made orthogonal in this
    order and sorted by variance; one unit is one standard deviation."""
    semantic = 0.75 * np.stack([stroke(template_mm, row) for row in IDENTITY.values()])
    n = 300 - len(semantic)
    fields = carry_eyeballs(random_fields(template_mm, n, 1, (200.0, 28.0)), template_mm)
    amplitude = 0.2 * np.linspace(1, 0.4, n)
    semantic[:, N_HEAD:] = _rigid_eyeballs(semantic[:, N_HEAD:])
    stacked = np.concatenate([semantic, fields * amplitude[:, None, None]])
    return orthogonal(stacked.reshape(300, -1)).T.reshape(-1, 3, 300)


def orthogonal(fields: Array) -> Array:
    """Gram-Schmidt: each field (n,N) less its projections on those before, longest first.

    Fields (below 8 mm) and mixing coefficients (below 8) are rounded to so few bits that both
    matrix products are exact, whatever order a processor or its threads add in.
    """
    fields = np.round(fields * 2.0**15) / 2.0**15
    lower = np.linalg.cholesky(fields @ fields.T)
    length = np.diag(lower)
    mix = np.round(length[:, None] * np.linalg.inv(lower) * 2.0**22) / 2.0**22
    return (mix @ fields)[np.argsort(-length, kind="stable")]


def _rigid_eyeballs(fields: Array) -> Array:
    """(n,1092,3) fields, each eyeball's replaced by its mean."""
    halves = fields.reshape(len(fields), 2, N_EYEBALL, 3)
    return np.broadcast_to(halves.mean(2, keepdims=True), halves.shape).reshape(fields.shape)


def expression_basis(template_mm: Array, base_mm: Array) -> Array:
    """(5023,3,100) expressions: the named ones (EXPRESSION_NAMES), then small random ones."""
    p = template_mm[:N_HEAD]
    jaw = rig.lower_jaw(base_mm)
    parts = {"all": np.ones(N_HEAD), "upper": 1 - jaw, "lower": jaw}
    out = np.zeros((100, len(template_mm), 3))

    def total(rows: list[Part], p: Array, mirror: bool) -> Array:
        moved = [parts[row[0]][:, None] * stroke(p, row[1:], mirror) for row in rows]
        return np.sum(moved, axis=0) if moved else np.zeros_like(p)

    fields = {name: total(rows, p, True) for name, rows in EXPRESSION.items()}
    arm = p - rig.JOINTS_MM[2]
    fields["open jaw"] = 0.09 * jaw[:, None] * np.stack([0 * jaw, -arm[:, 2], arm[:, 1]], 1)
    fields["blink left"], fields["blink right"] = blink(base_mm, 1.0), blink(base_mm, -1.0)
    flip = np.array([-1.0, 1, 1])
    for name, rows in ONE_SIDED.items():
        fields[f"{name} left"] = total(rows, p, False)
        fields[f"{name} right"] = total(rows, p * flip, False) * flip
    named = [fields[name] for name in EXPRESSION_NAMES]
    out[: len(named), :N_HEAD] = named
    n = 100 - len(named)
    active = sum(
        gaussian((np.abs(p[:, 0]) - x) / rx, (p[:, 1] - y) / ry, (p[:, 2] - 90) / 30)
        for x, y, rx, ry in ((0, -70, 30, 22), (27, 17, 26, 12))
    )
    random = random_fields(p, n, 2, (160.0, 60.0)) * np.linspace(0.6, 0.12, n)[:, None, None]
    out[len(named) :, :N_HEAD] = random * np.minimum(active, 1)[:, None]
    return np.moveaxis(out, 0, 2)


def blink(base_mm: Array, side: float) -> Array:
    """(3931,3) half of closing one eye (+1 left): the upper lid comes down over the eyeball."""
    x, y, z = base_mm[:, 0] * side, base_mm[:, 1], base_mm[:, 2]
    s, across = sculpt.lens(x, y)
    inside = np.clip(s, -1, 1)
    upper, lower = sculpt.lid_heights(inside)
    span = (upper + lower) * (np.abs(s) < 1) * (z > 20) * (x > 0)
    above = np.maximum(across - 1, 0) * upper
    down = smoothstep(across, -0.6, 0.6) * np.exp(-((above / 5.0) ** 2))
    below = np.maximum(-across - 1, 0) * lower
    up = smoothstep(-across, -0.6, 0.6) * np.exp(-((below / 4.0) ** 2))
    moved = np.zeros_like(base_mm)
    moved[:, 1] = 0.5 * span * (0.12 * up - 0.86 * down)
    moved[:, 2] = 0.10 * span * down
    return moved
