"""Files as the datasets hold them, that `pipeline.synthetic.files` does not write."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from pipeline.synthetic.delivery import nearest
from pipeline.synthetic.files import (
    rows_of,
    write_bnd,
    write_indices,
    write_lnd,
    write_material,
    write_ply,
    write_range_image,
    write_text,
    write_textured_obj,
    write_wrl,
)
from pipeline.types import Array

__all__ = [
    "nearest",
    "rows_of",
    "write_bnd",
    "write_image",
    "write_indices",
    "write_lnd",
    "write_material",
    "write_obj",
    "write_ply",
    "write_range_image",
    "write_text",
    "write_textured_obj",
    "write_wrl",
]


def write_image(path: Path) -> None:
    """A photo of two pixels, in the format of its suffix."""
    Image.new("RGB", (2, 1), (224, 178, 150)).save(path)


def write_obj(path: Path, vertices: Array, faces: Array) -> None:
    """OBJ of triangles or other polygons, (N,3) and (M,K), without texture."""
    corner = " ".join(["%d"] * faces.shape[1])
    write_text(path, rows_of("v %.6f %.6f %.6f", vertices) + rows_of("f " + corner, faces + 1))
