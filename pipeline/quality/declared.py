"""Whether a source's declared unit and axes are those of the face that was found on a scan.

Landmarks are judged before registration (`normalise`); without them the search is the witness: it
lays a face of true size onto the scan or refuses, and says how that face is turned.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from pipeline.errors import RegistrationError
from pipeline.flame.model import FlameModel
from pipeline.geometry.rigid import umeyama
from pipeline.normalise.axes import contradiction, degrees_of, likely_axes, said
from pipeline.normalise.clutter import part_extents
from pipeline.quality.thresholds import Gates
from pipeline.refusals import Code
from pipeline.registration.search import search
from pipeline.registration.template import Template
from pipeline.registry import Axes, Limits
from pipeline.types import Array, Refusal, Registration, Scan
from pipeline.units import UNITS, Size


def gates_within(gates: Gates, limits: Limits) -> Gates:
    """The gates of a source's scans: the size of a face is what the source says, if it says one."""
    if "outer_eye_mm" not in limits.model_fields_set:
        return gates
    return gates.model_copy(update={"outer_eye_mm": limits.outer_eye_mm})


def wrong_axes(
    registration: Registration, model: FlameModel, axes: Axes | None, limits: Limits
) -> Refusal | None:
    """Why the registered face contradicts `axes`, with the likely ones; None if it does not."""
    if axes is None:
        return None
    face = model.regions["face"]
    pair = (model.template_mm[face], registration.vertices_mm[face])
    turn = umeyama(*(torch.as_tensor(points, dtype=torch.float64) for points in pair))[0].numpy()
    turned_deg = degrees_of(turn)
    if turned_deg <= limits.turn_deg:
        return None
    reason = "; ".join(contradiction(axes, turn, limits.turn_deg, "registration shows"))
    return Refusal("quality", Code.AXES, reason, {"turned_deg": round(turned_deg, 1)})


def likely_instead(
    scan: Scan, template: Template, axes: Axes | None = None, limits: Limits | None = None
) -> str:
    """The unit and axes in which a face is found on a scan that the declared ones leave without.

    Tries every real unit in which a face can have the scan's extent, and every pose. "" where
    there is no face, none other than declared, or landmarks, which were judged before.
    """
    if scan.landmarks_mm is not None:
        return ""
    limits = limits or Limits()
    extents = [mm / scan.unit_factor_mm for mm in part_extents(scan.vertices_mm, scan.faces)]
    sizes = [Size("", value, *limits.extent_mm) for value in extents]
    found = []
    for unit in UNITS:
        if not any(size.fits(unit) for size in sizes):
            continue
        if unit == scan.unit and axes is None:
            continue  # that pose and size were searched
        turn = _found_turn(scan, template, UNITS[unit] / scan.unit_factor_mm)
        if turn is None:
            continue
        parts = [] if unit == scan.unit else [f"in {unit}"]
        if axes is not None and degrees_of(turn) > limits.turn_deg:
            parts.append(said(likely_axes(axes, turn)))
        if parts:
            found.append(" with ".join(parts))
    return f"likely {' or '.join(found)}: a face is found so" if found else ""


def _found_turn(scan: Scan, template: Template, scale: float) -> Array | None:
    """(3,3) rotation of the face that the search finds in any pose, or None."""
    resized = replace(scan, vertices_mm=scan.vertices_mm * np.float64(scale), oriented=False)
    try:
        return search(template, resized)[0].numpy()
    except RegistrationError:
        return None
