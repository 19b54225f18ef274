"""What a face of the second family does: a jaw that turns, lids that slide over the eyeballs, and
the soft movements of mouth, cheeks and brows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from second_head import MeanHead
from second_identity import along, bump, front, step

from pipeline.types import Array

JAW_AXIS_MM = np.array([0.0, -6.0, -4.0])
"""Through both joints before the ears, along x."""
OPEN_JAW = np.radians(22.0)
LID_RAMP = np.radians(38.0)
"""Above the margin's the angle over which a lid's movement fades, below the brow."""
UPPER, LOWER = ((36, 37, 38, 39), (42, 43, 44, 45)), ((36, 41, 40, 39), (42, 47, 46, 45))
Pairs = tuple[tuple[int, ...], tuple[int, ...]]
INNER_LIPS = (61, 62, 63), (67, 66, 65)
MARGINS = (37, 38, 43, 44), (41, 40, 47, 46)
"""iBUG landmarks whose distances are the gap of the lips and that of the lids."""


def soft_movements(rest: Array, vertices: Array) -> Mapping[str, Array]:
    """(H,3) the mean head's places -> each movement's (H,3) displacement at a weight of 1."""
    x, y, z = rest.T
    side, lateral, before = np.tanh(x / 8), np.abs(x), front(z)
    corner = x**4 / (x**4 + 18.0**4) * bump((y + 44) / 13) * step(lateral, 60, 27) * before
    cheek = bump((lateral - 40) / 14, (y + 6) / 15) * before
    ring = bump(x / 26, (y + 44) / 17) * before
    brow = bump(lateral / 55, (y - 47) / 15) * before
    smile = [
        side * 8.0 * corner + side * 2.0 * cheek,
        9.0 * corner + 3.5 * cheek,
        2.5 * cheek - 5 * corner,
    ]
    pout = [-0.36 * x * ring, 0.25 * (y + 44) * ring, 6.5 * bump(x / 16, (y + 44) / 12) * before]
    return {
        "smile": np.stack(smile, 1),
        "pout": np.stack(pout, 1),
        "brows up": along(1, 7.0 * brow),
        "brows together": along(0, -3.5 * side * bump((lateral - 14) / 12, (y - 43) / 10) * before)
        - along(1, 2.5 * bump((lateral - 12) / 14, (y - 43) / 11) * before),
        "cheeks puffed": np.stack([side, 0 * x, 0.6 + 0 * x], 1)
        * (6.5 * bump((lateral - 38) / 15, (y + 36) / 17) * before)[:, None],
        "mouth to the left": along(0, 6.0 * bump(x / 32, (y + 48) / 20) * before),
    }


def posed(head: MeanHead, identity: Array, expression: Mapping[str, float]) -> Array:
    """(H,3) a person's face at rest -> the face with the expression.

    "open jaw" and "shut lids" have weights too: 1 turns the jaw by 22 degrees, and brings the lids'
    margins together; a negative one opens the eyes wide.
    """
    given = dict(expression)
    jaw, lids = given.pop("open jaw", 0.0), given.pop("shut lids", 0.0)
    movements = soft_movements(head.vertices, identity)
    result = identity + sum(
        (weight * movements[name] for name, weight in given.items()), np.zeros_like(identity)
    )
    if lids:
        result = lidded(head, identity, result, lids)
    return turned_jaw(head, result, jaw * OPEN_JAW)


def turned_jaw(head: MeanHead, vertices: Array, angle: float) -> Array:
    """Each vertex turns about the joints' axis by its share of `angle` (rad)."""
    share = head.jaw * angle
    offset = vertices - JAW_AXIS_MM
    c, s = np.cos(share), np.sin(share)
    y, z = offset[:, 1], offset[:, 2]
    return np.stack([offset[:, 0], c * y - s * z, s * y + c * z], 1) + JAW_AXIS_MM


def eye_centres(head: MeanHead, identity: Array) -> Array:
    """(2,3) the eyeballs' middles, right and left, which go where the lids go."""
    shift = head.landmarks(identity) - head.marks
    return head.eye_centres + np.stack([shift[36:42].mean(0), shift[42:48].mean(0)])


def lidded(head: MeanHead, identity: Array, vertices: Array, share: float) -> Array:
    """The upper lids turn about the eyes' middles by `share` of the way to the lower lids."""
    result = vertices.copy()
    marks, centres = head.landmarks(vertices), eye_centres(head, identity)
    for eye, (upper, lower) in enumerate(zip(UPPER, LOWER, strict=True)):
        centre = centres[eye]
        axis = marks[upper[3]] - marks[upper[0]]
        axis /= np.linalg.norm(axis)
        ahead = np.array([0.0, 0.0, 1.0]) - axis[2] * axis
        ahead /= np.linalg.norm(ahead)
        frame = np.stack([axis, np.cross(ahead, axis), ahead])
        up, low = ((marks[list(k)] - centre) @ frame.T for k in (upper, lower))
        local = (vertices - centre) @ frame.T
        result = np.where(
            (np.sign(head.vertices[:, 0]) == (-1, 1)[eye])[:, None] & ~head.lower_lids[:, None],
            centre + turned_lid(local, up, low, share) @ frame,
            result,
        )
    return result


def turned_lid(local: Array, upper: Array, lower: Array, share: float) -> Array:
    """(N,3) along the eye's slit, up and ahead of its middle -> the same, the lid moved.

    `upper` and `lower` (4,3) are landmarks from corner to corner. Rotation about the slit's axis
    keeps the distance to the eyeball's middle, so the lid stays on the eyeball.
    """
    across, y, z = local.T
    angle, top, bottom = (np.arctan2(v[:, 1], v[:, 2]) for v in (local, upper, lower))
    along_slit = (2 * across - upper[3, 0] - upper[0, 0]) / (upper[3, 0] - upper[0, 0])
    opening = 1 - along_slit.clip(-1, 1) ** 4
    corner, middle = top[[0, 3]].mean(), top[1:3].mean()
    margin = corner + (middle - corner) * opening
    ramp = 1 - step(angle, margin, margin + LID_RAMP)
    near = 1 - step(np.linalg.norm(local, axis=1), 17.0, 27.0)
    turn = share * (bottom - top)[1:3].mean() * opening * ramp * near
    c, s = np.cos(turn), np.sin(turn)
    return np.stack([across, c * y + s * z, c * z - s * y], 1)


def gap(marks: Array, pairs: Pairs) -> float:
    """Mean distance of two rows of landmarks."""
    return float(np.linalg.norm(marks[list(pairs[0])] - marks[list(pairs[1])], axis=1).mean())


def weight_for(
    gap_of: Callable[[float], float], wanted_mm: float, low: float, high: float
) -> float:
    """The weight with the wanted gap, by bisection; the gap rises from `low` to `high`."""
    if not gap_of(low) <= wanted_mm <= gap_of(high):
        raise ValueError(
            f"a gap of {wanted_mm} mm, expected {gap_of(low):.2f} … {gap_of(high):.2f}"
        )
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if gap_of(middle) < wanted_mm else (low, middle)
    return (low + high) / 2
