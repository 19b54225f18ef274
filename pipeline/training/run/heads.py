"""Heads that a system predicts, as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pipeline.build.register_files import write_ply
from pipeline.text import file_name
from pipeline.types import Array

HEADS = "heads"


def write_heads(folder: Path, heads: Mapping[str, Tensor], faces: Array) -> None:
    """Person -> (V,3) mm, (F,3): FOLDER/<person>.ply, in millimetres, as `facefold evaluate people`
    reads them. Signs that no file's name may have are replaced as `pipeline.text.file_name` does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for person, vertices_mm in heads.items():
        write_ply(folder / f"{file_name(person)}.ply", vertices_mm.cpu().numpy(), faces)
