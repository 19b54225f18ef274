"""How the stand-in moves: joints, skinning weights, pose correctives, landmarks and regions."""

from __future__ import annotations

import numpy as np

from pipeline.flame.model import LandmarkEmbedding
from pipeline.flame.stand_in import loft, mesh, sculpt
from pipeline.flame.stand_in.curves import gaussian, smoothstep
from pipeline.flame.stand_in.ear import ear_coordinates
from pipeline.types import Array

PARENTS = np.array([-1, 0, 1, 1, 1])
JOINTS_MM = np.array([[0, -150, -26], [0, -95, -24], [0, -22, 4.0]])  # global, neck, jaw
N_HEAD, N_EYEBALL = mesh.N_HEAD, mesh.N_EYEBALL


def lower_jaw(base_mm: Array) -> Array:
    """(N,) share of the lower jaw at lofted points: 1 at lower lip and chin, 0 at upper lip, neck.

    The lips part sharply along the mouth's line and softly beyond its corners, where the border
    rises towards the ear.
    """
    x, y, z = base_mm.T
    v, half = sculpt.mouth_coordinates(x, y)
    u = np.abs(x) / sculpt.MOUTH_HALF_WIDTH_MM
    parted = np.sqrt(np.maximum(1 - u * u, 0)) * (z > 20)
    lips = np.clip(v / np.maximum(half, 0.05), -1, 1)
    rise = 52.0 * smoothstep(-z, -78.0, -2.0)
    around = np.tanh((v - rise) / (8.0 + 0.15 * rise))
    share = 0.5 - 0.51 * (parted * lips + (1 - parted) * around)  # the tails end at 0 and 1
    share = np.clip(share, 0.0, 1.0)
    throat = smoothstep(y, -134.0, -108.0)
    return np.asarray(share * throat * smoothstep(z, -14.0, 22.0))


def weights(base_mm: Array) -> Array:
    """(5023,5) skinning weights of the head's lofted points and, whole, the two eyeballs."""
    jaw = lower_jaw(base_mm)
    neck = smoothstep(base_mm[:, 1], -160.0, -95.0)
    out = np.zeros((N_HEAD + 2 * N_EYEBALL, 5))
    out[:N_HEAD, 0], out[:N_HEAD, 1], out[:N_HEAD, 2] = 1 - neck, neck * (1 - jaw), neck * jaw
    out[N_HEAD : N_HEAD + N_EYEBALL, 3] = 1
    out[N_HEAD + N_EYEBALL :, 4] = 1
    return out


def joint_regressor(template_mm: Array) -> Array:
    """(5,5023) rows that sum to 1: the smallest weights over the skin nearby that hit the joint."""
    out = np.zeros((5, len(template_mm)))
    for row, joint in enumerate(JOINTS_MM):
        near = np.flatnonzero(np.abs(template_mm[:N_HEAD, 1] - joint[1]) < 25)
        system = np.concatenate([template_mm[near].T, np.ones((1, len(near)))])
        out[row, near] = system.T @ np.linalg.solve(system @ system.T, np.append(joint, 1.0))
        out[row] /= out[row].sum()
    out[3, N_HEAD : N_HEAD + N_EYEBALL] = 1 / N_EYEBALL
    out[4, N_HEAD + N_EYEBALL :] = 1 / N_EYEBALL
    return out


def pose_basis(template_mm: Array) -> Array:
    """(5023,3,36) correctives, one per entry of the rotations minus identity: soft tissue only.

    Columns 9 … 17 belong to the jaw. Opening (entries (1,2) and (2,1)) hollows the cheeks and
    draws the mouth's corners in; the neck's entries bulge its front and nape a little.
    """
    out = np.zeros((len(template_mm), 3, 36))
    x, y, z = template_mm[:N_HEAD].T
    side = np.sign(x) * smoothstep(np.abs(x), 0.0, 10.0)
    below = smoothstep(-y, 15.0, 35.0)
    cheek = below * gaussian((np.abs(x) - 48) / 14, (y + 62) / 18, (z - 55) / 25)
    corner = below * gaussian((np.abs(x) - 26) / 10, (y + 67) / 9, (z - 88) / 14)
    for entry, sign in ((5, -1.0), (7, 1.0)):
        out[:N_HEAD, 0, 9 + entry] = -sign * side * (3.0 * cheek + 2.5 * corner)
        out[:N_HEAD, 2, 9 + entry] = -sign * 2.0 * corner
    throat = gaussian((y + 122) / 14)
    for entry, sign in ((5, -1.0), (7, 1.0)):
        out[:N_HEAD, 2, entry] = sign * throat * np.where(z > 0, 1.5, 1.0)
    for entry, sign in ((2, 1.0), (6, -1.0)):
        out[:N_HEAD, 0, entry] = sign * 1.0 * throat
    return out


def _frontal_landmarks() -> Array:
    """(51,2) frontal places of iBUG's points 17 … 67 on the lofted head."""
    brow = np.array([[50, 12], [43, 18.5], [33, 20.5], [23, 19.5], [13, 16.5]])
    ridge = np.array([[0, 2], [0, -11], [0, -23], [0, -36]])
    base = np.array([[-13, -50], [-6.8, -52.5], [0, -54], [6.8, -52.5], [13, -50]])
    s = np.array([-1 / 3, 1 / 3])
    chord = sculpt.EYE_OUTER - sculpt.EYE_INNER
    up, down = sculpt.lid_heights(s)
    middle = sculpt.EYE_INNER + (s[:, None] + 1) / 2 * chord
    upper, lower = middle + up[:, None] * [0, 1], middle - down[:, None] * [0, 1]
    left = np.array([sculpt.EYE_INNER, *upper, sculpt.EYE_OUTER, lower[1], lower[0]])
    right = left[[3, 2, 1, 0, 5, 4]] * [-1, 1]
    a = sculpt.MOUTH_HALF_WIDTH_MM
    outer_x = np.array([-a, -16, -5.5, 0, 5.5, 16, a, 15, 7, 0, -7, -15])
    rise = np.array([0, 6.0, 8.2, 7.6, 8.2, 6.0, 0, -7.0, -9.0, -9.4, -9.0, -7.0])
    inner_x = np.array([-a + 2.5, -9, 0, 9, a - 2.5, 9, 0, -9])
    above = np.array([0, 1, 1, 1, 0, -1, -1, -1.0])
    offset, half = sculpt.mouth_coordinates(inner_x, np.zeros(8))
    outer_offset, outer_half = sculpt.mouth_coordinates(outer_x, np.zeros(12))
    # the lens is closed by the lips, so that a height above the line starts at its half height
    outer = np.stack([outer_x, -outer_offset + rise + 0.4 * np.sign(rise) * outer_half], 1)
    inner = np.stack([inner_x, -offset + above * half], 1)
    return np.concatenate([brow * [-1, 1], brow[::-1], ridge, base, right, left, outer, inner])


# iBUG 8 … 11, chin to jaw, seen from the front (x, y); 12 … 16, jaw to ear, from the side (z, y)
CHIN_MM = np.array([[0, -108.5], [13, -107.5], [26, -102.5], [38, -95]])
JAW_MM = np.array([[33, -84], [21, -68], [15, -48], [13, -28], [13, -8.0]])


def landmarks(disc: Array, faces: Array) -> LandmarkEmbedding:
    """All 68 iBUG points, each where its feature is sculpted, the right side mirroring the left."""
    below, aside = np.array([0.0, -0.6]), np.array([0.35, 0.0])
    jaw = np.concatenate(
        [loft.disc_of(CHIN_MM, (0, 1), below), loft.disc_of(JAW_MM, (2, 1), aside)]
    )
    contour = np.concatenate([jaw[:0:-1] * [-1, 1], jaw])
    points = _frontal_landmarks()
    inner = loft.disc_of(np.stack([np.abs(points[:, 0]), points[:, 1]], 1), (0, 1), below)
    inner[:, 0] *= np.where(points[:, 0] < 0, -1, 1)
    triangles, barycentric = locate(
        np.concatenate([contour, inner]), disc, faces[: mesh.N_HEAD_FACES]
    )
    return LandmarkEmbedding(np.arange(68), triangles, barycentric)


def locate(points: Array, disc: Array, triangles: Array) -> tuple[Array, Array]:
    """The disc's triangle (N,) that holds each point (N,2), and its barycentric place (N,3)."""
    a, b, c = (disc[triangles[:, k]] for k in range(3))
    inverse = np.linalg.inv(np.stack([b - a, c - a], axis=2))
    found, where = [], []
    for point in points:
        bc = np.einsum("tij,tj->ti", inverse, point - a)
        weight = np.concatenate([1 - bc.sum(1, keepdims=True), bc], axis=1)
        best = int(weight.min(1).argmax())
        found.append(best)
        where.append(np.clip(weight[best], 0, None) / np.clip(weight[best], 0, None).sum())
    return np.array(found), np.array(where)


def regions(disc: Array, base_mm: Array) -> dict[str, Array]:
    """Region name -> vertex indices, sorted."""
    x, y, z = base_mm.T
    ax = np.abs(x)
    frontal = z > 20
    v, half = sculpt.mouth_coordinates(x, y)
    s, across = sculpt.lens(ax, y)
    pocket = frontal & (np.abs(v) < half - 1e-6)
    eye = frontal & (((ax - 30.4) / 19) ** 2 + ((y - 0.5) / 13) ** 2 < 1)
    opening = frontal & (np.abs(across) < 0.99) & (np.abs(s) < 1)
    ear = ear_coordinates(base_mm)[0] < 1.02
    under_jaw = y < -112 + 0.62 * np.maximum(84 - z, 0)
    skin = (z > 16) & ~under_jaw & (y < 78) & ~pocket & ~ear
    neck = ~skin & ~ear & ~pocket & ~opening & ((under_jaw & (z > 0)) | (y < -45))
    mask = {
        "face": skin & ~opening,
        "forehead": skin & (y > 22),
        "nose": skin & (ax < 20 - 0.25 * (y + 45).clip(0, 50)) & (y < 10) & (y > -51),
        "lips": skin & (ax < 28) & (v < 9 + half) & (v > -10 - half),
        "left_eye_region": eye & (x > 0),
        "right_eye_region": eye & (x < 0),
        "left_ear": ear & (x > 0),
        "right_ear": ear & (x < 0),
        "scalp": ~skin & ~neck & ~ear & ~pocket,
        "neck": neck,
        "boundary": np.hypot(*disc.T) > 1 - 1e-9,
        "mouth_interior": pocket,
        "jaw": skin & (lower_jaw(base_mm) > 0.5),
        "chin": skin & (y < -86) & (ax < 28),
        "cheeks": skin & (y < -8) & (y > -84) & (ax > 27) & ~eye,
    }
    found = {name: np.flatnonzero(where) for name, where in mask.items()}
    found["left_eyeball"] = np.arange(N_HEAD, N_HEAD + N_EYEBALL)
    found["right_eyeball"] = found["left_eyeball"] + N_EYEBALL
    found["eyeballs"] = np.arange(N_HEAD, N_HEAD + 2 * N_EYEBALL)
    return found
