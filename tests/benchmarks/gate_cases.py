"""Faces for the gates: sound scans of several families whose true registration is known.

A `Face` is what a source would hold; `registered` runs it through normalisation and registration.
"""

from __future__ import annotations

import hashlib
import pickle
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import ict_cases
import numpy as np
import second_family
from cases import Case
from ict_cases import IctModel
from open_models import open_model
from second_head import MeanHead

from pipeline.errors import FacefoldError
from pipeline.flame.assets import STAND_IN, load_model
from pipeline.flame.model import FlameModel
from pipeline.flame.parts import parts_of
from pipeline.formats import format_of, read_scan
from pipeline.geometry.closest import SurfaceIndex
from pipeline.normalise import normalise
from pipeline.registration import register
from pipeline.registry import Axes
from pipeline.types import Array, RawScan, Refusal, Registration, Scan
from tests.registration.model_scans import make_scan

Found = TypeVar("Found")
UPRIGHT = Axes(up="+y", forward="+z")
CORNERS = {
    "right mouth corner": (48,),
    "left mouth corner": (54,),
    "right eye corners": (36, 39),
    "left eye corners": (42, 45),
}
PLACES = (*CORNERS, "chin", "right ear", "left ear")
"""Parts where more than SLID_MM must not be accepted."""
REAL: Mapping[str, str] = {
    "flame_fitting/scan.obj": "m",
    "james/james.obj": "mm",
    **{f"scalismo_faces/{n}.stl": "mm" for n in ("01", "02", "06", "14")},
    "open/cfwen_face.off": "mm",
    "open/grading_head.ply": "mm",
}
N_FLAME = 5023
UNSEEN = ("eyeballs", "hidden", "mouth_interior")
ON_SKIN_MM = 3.0
SOUND_MM, SLID_MM = 2.5, 4.0
ICT_RECIPES = (
    *("neutral", "smile", "noisy", "open jaw", "neutral 2", "mixed expression", "hair", "blink"),
    *("neutral 3", "face only", "islands", "full smile", "holes", "shoulders", "kiss", "no neck"),
    *("20k triangles", "jaw wide open", "5k triangles", "no back of head", "noise 1 mm"),
    *("puffed cheeks", "scream", "disgust", "wink", "coarse face"),
)
SECOND_RECIPES = (
    *("neutral", "smile", "neutral 2", "open jaw", "noisy", "mixed expression", "neutral 3"),
    *("face only", "lids half open", "lips 5 mm apart", "lids shut", "lips 10 mm apart"),
    "coarse face",
)
OPEN_MOUTHS = (
    *("open jaw", "jaw wide open", "scream", "wink", "face only open jaw"),
    *("lips 5 mm apart", "lips 10 mm apart"),
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
    places: Array  # (68,3) iBUG points, NaN where missing; also where the face carries none
    unit: str = "mm"
    axes: Axes | None = UPRIGHT
    neutral: bool = False
    """Filed as neutral."""
    open_mouth: bool = False


class Embedding(NamedTuple):
    """Places of a topology's vertices on another one."""

    corners: Array  # (V,3) vertices of the other
    barycentric: Array  # (V,3)
    known: Array  # (V,) bool


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
    if family.endswith("stand-in"):
        return load_model(STAND_IN)
    return open_model(data, "bare" if family.endswith("bare") else "flame_ict")


@lru_cache(maxsize=1)
def ict_model(data: Path) -> IctModel:
    return IctModel.load(data)


@lru_cache(maxsize=1)
def mean_head(data: Path) -> MeanHead:
    return MeanHead.load(data)


def face_of(case: Case, family: str, seed: int) -> Face:
    """What a source would hold of a case; every WITHOUT_LANDMARKS-th comes without landmarks."""
    return Face(
        f"{case.name} {seed}",
        family,
        case.scan.vertices_mm,
        case.scan.faces.astype(np.int32),
        None if seed % WITHOUT_LANDMARKS == 0 else case.marks_mm,
        case.truth_mm.astype(np.float32),
        case.supported,
        case.marks_mm,
        neutral=case.kind not in ("expression", "lips") and "jaw" not in case.name,
        open_mouth=case.name in OPEN_MOUTHS,
    )


def ict_face(data: Path, seed: int, family: str = "ict") -> Face:
    recipe = ICT_RECIPES[seed % len(ICT_RECIPES)]
    return face_of(ict_cases.make_case(ict_model(data), recipe, seed), family, seed)


def second_face(data: Path, seed: int, family: str = "second") -> Face:
    recipe = SECOND_RECIPES[seed % len(SECOND_RECIPES)]
    return face_of(second_family.make_case(mean_head(data), recipe, seed), family, seed)


def stand_in_face(data: Path, seed: int) -> Face:
    """Heads of the embedded model, every fourth with its jaw opened."""
    rng = np.random.default_rng(seed)
    jaw = float(rng.uniform(0.1, 0.35)) if seed % 4 == 3 else 0.0
    made = make_scan(load_model(), seed, jaw=jaw, noise_mm=float(rng.choice([0.06, 0.2])))
    marks = made.scan.landmarks_mm
    assert marks is not None
    noisy = marks + rng.normal(scale=0.6, size=marks.shape)
    model = load_model()
    unseen = np.concatenate([model.regions[n] for n in UNSEEN])
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
        marks,
        neutral=jaw == 0.0,
        open_mouth=jaw > 0.0,
    )


@lru_cache(maxsize=2)
def on_stand_in(data: Path, name: str) -> Embedding:
    """Where the stand-in's vertices belong on FLAME's topology, from the mean face of the model
    `name`: registered to it, each at its nearest place."""
    mean, model = open_model(data, name), load_model(STAND_IN)
    assert mean.landmarks is not None
    hidden = np.concatenate([mean.regions[n] for n in UNSEEN if n in mean.regions])
    skin = mean.faces[~np.isin(mean.faces, hidden).any(1)]
    marks = mean.landmarks.positions_68(mean.template_mm, mean.faces)
    raw = RawScan(mean.template_mm, skin)
    scan = normalise(raw, scan_id=name, unit="mm", axes=UPRIGHT, landmarks=marks, scheme="ibug68")
    [found] = register([scan], model)
    nearest = SurfaceIndex(mean.template_mm, skin).query(found.vertices_mm.astype(np.float64))
    return Embedding(skin[nearest.triangle], nearest.barycentric, nearest.distance < ON_SKIN_MM)


def with_stand_in(data: Path, seed: int, family: str) -> Face:
    """A face of "ict" or "second" for the stand-in, its truth by `on_stand_in`."""
    of, mean = {"ict": (ict_face, "flame_ict"), "second": (second_face, "bare")}[
        family.split(",")[0]
    ]
    face, at = of(data, seed, family), on_stand_in(data, mean)
    truth = np.einsum("vk,vkd->vd", at.barycentric, face.truth_mm[at.corners])
    supported = at.known & face.supported[at.corners].all(1)
    return replace(face, truth_mm=truth.astype(np.float32), supported=supported)


def real_face(data: Path, seed: int, family: str = "real") -> Face:
    """A real scan of REAL that was looked at and found sound; its truth is not known."""
    name, unit = tuple(REAL.items())[seed % len(REAL)]
    path = data / "scans" / name
    raw = read_scan(path, format_of(path))
    marks, nobody = np.full((68, 3), np.nan), np.zeros(N_FLAME, bool)
    beside = path.with_name(f"{path.stem}_lmks.npy")
    if beside.exists():
        marks[17:] = np.load(beside, allow_pickle=True)
    given = marks if beside.exists() else None
    truth = np.full((N_FLAME, 3), np.nan, np.float32)
    return Face(name, family, raw.vertices, raw.faces, given, truth, nobody, marks, unit, None)


FAMILIES: Mapping[str, Callable[[Path, int], Face]] = {
    "ict": ict_face,
    "second": second_face,
    "stand-in": stand_in_face,
    "real": real_face,
    "real, stand-in": partial(real_face, family="real, stand-in"),
    "ict, stand-in": partial(with_stand_in, family="ict, stand-in"),
    "second, stand-in": partial(with_stand_in, family="second, stand-in"),
    "ict, bare": partial(ict_face, family="ict, bare"),
    "second, bare": partial(second_face, family="second, bare"),
}
"""Family → its sound face of a seed."""


def cached(folder: Path, what: str, make: Callable[[], Found]) -> Found:
    """What `make` gave for `what`, from disk where it was made before."""
    path = folder / f"{hashlib.sha256(what.encode()).hexdigest()[:24]}.pickle"
    if path.exists():
        found: Found = pickle.loads(zlib.decompress(path.read_bytes()))
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


def part_gaps(tried: Tried, model: FlameModel) -> dict[str, Array]:
    """Part → (K,3) mm from the truth to the result: the mean over what the scan shows of the part,
    of corners the one at each landmark. Left out where the truth is not known or not shown."""
    registration, face = tried.registration, tried.face
    assert registration is not None and model.landmarks is not None
    gap = registration.vertices_mm.astype(np.float64) - face.truth_mm
    gap[~face.supported] = np.nan
    found = {}
    for name, part in parts_of(model).items():
        own = gap[part.vertices]
        known = np.isfinite(own).all(1)
        if known.mean() > 0.5:
            found[name] = own[known].mean(0, keepdims=True)
    at = model.landmarks.positions_68(gap, model.faces)
    for name, points in CORNERS.items():
        own = at[list(points)]
        found.pop(name, None)
        if np.isfinite(own).all():
            found[name] = own
    return found
