"""A user's Basel face with its bases, from the two files that reconstruction networks bring:
Deep3D's `BFM_model_front.mat` and 3DDFA-V3's `face_model.npy` (`pipeline.flame.basel`)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import FormatError
from pipeline.flame.basel import basel_face, contents, is_basel, numbers
from pipeline.refusals import Code
from pipeline.training.linear_face import SIZES, BasisArrays, LinearFace


class Names(NamedTuple):
    """Of what a file holds, from which number it counts, and what its authors' code does."""

    identity: str
    expression: str
    mean_albedo: str
    albedo: str
    triangles_of_vertex: str
    first: int
    recentred: bool


NAMES = {
    ".mat": Names("idbase", "exbase", "meantex", "texbase", "point_buf", 1, True),
    ".npy": Names("id", "exp", "u_alb", "alb", "point_buf", 0, False),
}
SOURCE = "use BFM_model_front.mat as Deep3D makes it, or face_model.npy as 3DDFA-V3 publishes it"


def read_linear_face(path: Path | str) -> LinearFace:
    """The model of a file, recentred as the code of its authors does. Raises as `read_bases`."""
    path = Path(path)
    arrays = read_bases(path)
    return LinearFace(arrays, recentred=NAMES[path.suffix.lower()].recentred)


def read_bases(path: Path | str) -> BasisArrays:
    """All arrays of a file, counted from 0. Raises FormatError for a file that is none of the two,
    lacks one, or holds numbers of another size."""
    path = Path(path)
    if not is_basel(path):
        fault = f"ends in {path.suffix or 'nothing'}, expected .mat or .npy"
        raise FormatError(path, fault, SOURCE, Code.UNSUPPORTED)
    found, names = contents(path), NAMES[path.suffix.lower()]
    mean = basel_face(path, found)
    missing = [name for name in names[:5] if name not in found]
    if missing or mean.landmarks is None:
        fault = f"no {', '.join(missing) or '68 landmarks'} among {', '.join(found)}"
        raise FormatError(path, fault, SOURCE, Code.UNSUPPORTED)
    count = 3 * len(mean.vertices)
    sizes = (count, SIZES[0]), (count, SIZES[1]), (count,), (count, SIZES[2])
    read = []
    for name, size in zip(names[:4], sizes, strict=True):
        array = numbers(path, name, found[name])
        array = array.ravel() if len(size) == 1 else array
        if array.shape != size or not np.isfinite(array).all():
            fault = f"{name}: of shape {array.shape}, expected finite numbers of {size}"
            raise FormatError(path, fault, SOURCE)
        read.append(np.asarray(array, np.float64))
    identity, expression, mean_albedo, albedo = read
    around = numbers(path, names.triangles_of_vertex, found[names.triangles_of_vertex])
    return BasisArrays(
        mean=mean.vertices,
        identity=identity,
        expression=expression,
        mean_albedo=mean_albedo.reshape(-1, 3),
        albedo=albedo,
        faces=mean.faces,
        triangles_of_vertex=around.astype(np.int64) - names.first,
        landmarks=mean.landmarks,
    )
