"""Faces for the gates: sound scans of several families whose true registration is known.

A `Face` is what a source would hold, in millimetres and canonical axes; `registered` runs it through
normalisation and registration and keeps what comes out on disk, by the code it depends on.
"""

from __future__ import annotations

import hashlib
import pickle
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from ict_cases import IctModel, make_case
from open_models import open_model

from pipeline.code_keys import stage_code
from pipeline.errors import FacefoldError
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.flame.parts import parts_of
from pipeline.normalise import normalise
from pipeline.registration import register
from pipeline.registry import Axes
from pipeline.types import Array, RawScan, Refusal, Registration, Scan
from tests.registration.model_scans import make_scan

UPRIGHT = Axes(up="+y", forward="+z")
CORNERS = {
    "right mouth corner": (48,),
    "left mouth corner": (54,),
    "right eye corners": (36, 39),
    "left eye corners": (42, 45),
}
PLACES = (*CORNERS, "chin", "right ear", "left ear")
"""Where more than SLID_MM must not be accepted."""
SOUND_MM, SLID_MM = 2.5, 4.0
ICT_RECIPES = (
    *("neutral", "smile", "noisy", "open jaw", "neutral 2", "mixed expression", "hair", "blink"),
    *("neutral 3", "face only", "islands", "full smile", "holes", "shoulders", "kiss", "no neck"),
    *("20k triangles", "jaw wide open", "5k triangles", "no back of head", "noise 1 mm"),
    *("puffed cheeks", "scream", "disgust", "wink"),
)
WITHOUT_LANDMARKS = 4
"""Every so many faces come without."""


@dataclass(frozen=True, eq=False)
class Face:
    """Vertices and landmarks in `unit_mm` units of the file, turned as the file is."""

    name: str
    family: str
    vertices: Array  # (N,3)
    faces: Array
    marks: Array | None  # (68,3), NaN where missing
    truth_mm: Array  # (V,3) of the model's topology in canonical axes, NaN where unknown
    supported: Array  # (V,) bool: the scan has data there
    unit: str = "mm"
    axes: Axes | None = UPRIGHT
    neutral: bool = False
    """Filed as neutral."""


@dataclass(frozen=True, eq=False)
class Tried:
    """What became of a face: refused before registration, or registered."""

    face: Face
    scan: Scan | None = None
    registration: Registration | None = None
    refusal: Refusal | None = None


@lru_cache(maxsize=8)
def model_of(data: Path, family: str) -> FlameModel:
    """The model that faces of a family are registered with."""
    if family == "stand-in":
        return load_model()
    return open_model(data, "bare" if family == "bare" else "flame_ict")


@lru_cache(maxsize=1)
def ict_model(data: Path) -> IctModel:
    return IctModel.load(data)


def ict_face(data: Path, seed: int) -> Face:
    recipe = ICT_RECIPES[seed % len(ICT_RECIPES)]
    case = make_case(ict_model(data), recipe, seed)
    marks = None if seed % WITHOUT_LANDMARKS == 0 else case.marks_mm
    neutral = case.kind not in ("expression",) and "jaw" not in recipe
    return Face(
        f"{recipe} {seed}",
        "ict",
        case.scan.vertices_mm,
        case.scan.faces.astype(np.int32),
        marks,
        case.truth_mm.astype(np.float32),
        case.supported,
        neutral=neutral,
    )


def bare_face(data: Path, seed: int) -> Face:
    """An ICT face that a template without a basis is to be laid on."""
    return replace(ict_face(data, seed), family="bare")


def stand_in_face(data: Path, seed: int) -> Face:
    """Heads of the embedded model, every fourth with its jaw opened."""
    rng = np.random.default_rng(seed)
    jaw = float(rng.uniform(0.1, 0.35)) if seed % 4 == 3 else 0.0
    made = make_scan(load_model(), seed, jaw=jaw, noise_mm=float(rng.choice([0.06, 0.2])))
    marks = made.scan.landmarks_mm
    assert marks is not None
    noisy = marks + rng.normal(scale=0.6, size=marks.shape)
    model = load_model()
    unseen = np.concatenate([model.regions[n] for n in ("eyeballs", "hidden", "mouth_interior")])
    supported = np.ones(len(made.vertices_mm), bool)
    supported[unseen] = False
    supported[made.neutral_mm[:, 2] < made.neutral_mm[:, 2].mean() - 40] = False
    return Face(
        f"stand-in {seed}",
        "stand-in",
        made.scan.vertices_mm,
        made.scan.faces,
        None if seed % WITHOUT_LANDMARKS == 1 else noisy,
        made.vertices_mm,
        supported,
        neutral=jaw == 0.0,
    )


FAMILIES: Mapping[str, Callable[[Path, int], Face]] = {
    "ict": ict_face,
    "stand-in": stand_in_face,
    "bare": bare_face,
}
"""Family → its sound face of a seed."""


def cached(folder: Path, what: str, make: Callable[[], Tried]) -> Tried:
    """What `make` gave for `what`, from disk where it was made before."""
    path = folder / f"{hashlib.sha256(what.encode()).hexdigest()[:24]}.pickle"
    if path.exists():
        found: Tried = pickle.loads(zlib.decompress(path.read_bytes()))
        return found
    made = make()
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zlib.compress(pickle.dumps(made), 1))
    return made


def registered(face: Face, model: FlameModel) -> Tried:
    """A face through normalisation and registration; refusals are data."""
    raw = RawScan(np.asarray(face.vertices, np.float64), face.faces)
    marks, scheme = face.marks, "ibug68"
    try:
        scan = normalise(
            raw,
            scan_id=f"{face.family}:{face.name}",
            unit=face.unit,
            axes=face.axes,
            landmarks=marks,
            scheme=None if marks is None else scheme,
        )
    except FacefoldError as fault:
        return Tried(face, refusal=Refusal.of(fault))
    return Tried(face, scan, register([scan], model)[0])


def sound(data: Path, cache: Path, family: str, seed: int) -> Tried:
    """A sound face of a seed, registered; from the cache where the same code made it before."""
    key = f"{stage_code('register')} {stage_code('read')} {family} {seed}"
    return cached(
        cache,
        key,
        lambda: registered(FAMILIES[family](data, seed), model_of(data, family)),
    )


def part_errors(tried: Tried, model: FlameModel) -> dict[str, float]:
    """Part → mean distance to the truth over what the scan shows of it; corners at their landmark.

    NaN where the truth is not known or the scan has no data.
    """
    registration, face = tried.registration, tried.face
    assert registration is not None and model.landmarks is not None
    gap = np.linalg.norm(registration.vertices_mm - face.truth_mm, axis=1)
    gap[~face.supported] = np.nan
    found = {}
    for name, part in parts_of(model).items():
        own = gap[part.vertices]
        known = np.isfinite(own)
        enough = known.mean() > 0.5
        found[name] = float(own[known].mean()) if enough else np.nan
    at = model.landmarks.positions_68(registration.vertices_mm, model.faces)
    true = model.landmarks.positions_68(face.truth_mm, model.faces)
    for name, points in CORNERS.items():
        distance = np.linalg.norm(at[list(points)] - true[list(points)], axis=1)
        found[name] = float(np.nanmax(distance)) if np.isfinite(distance).any() else np.nan
    return found


