"""The views of one registered scan: its photos, cropped, and renders of it, each with its camera,
landmarks, part masks and visibility."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline.flame.model import FlameModel
from pipeline.registry.views import Views
from pipeline.types import Array, Frozen, PhotoFile, RawScan, Refusal
from pipeline.views.view import PHOTO, RENDER, View


@dataclass(frozen=True, eq=False)
class RegisteredScan(Frozen):
    """What views are made of: a scan as its file has it, and the template that lies on it."""

    scan_id: str
    raw: RawScan
    source_to_canonical: Array  # (4,4) float64
    vertices_mm: Array  # (V,3) float32 of the registered mesh, canonical
    landmarks_mm: Array  # (68,3) float32 on it; NaN where the template has none


class Refused(NamedTuple):
    """A view that is not made."""

    name: str
    path: Path | None
    """Of the photo; None for a render."""
    refusal: Refusal


def names_of(photos: Sequence[PhotoFile], section: Views) -> list[str]:
    """The names of the views that are asked for of a scan: its photos, then its renders."""
    return [
        *(f"{PHOTO}{i}" for i in range(len(photos))),
        *(f"{RENDER}{i}" for i in range(section.renders)),
    ]


def seed_of(seed: int, scan_id: str, name: str) -> int:
    """Of all that is random in a view: 0 … 2⁶³ − 1, whatever else is made."""
    text = f"{seed}\0{scan_id}\0{name}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_views(
    scan: RegisteredScan,
    photos: Sequence[PhotoFile],
    section: Views,
    model: FlameModel,
    seed: int = 0,
) -> tuple[list[View], list[Refused]]:
    """The views that `section` asks for, and those that cannot be made, each with its reason.

    The same arguments give the same views, bit for bit.
    """
    raise NotImplementedError
