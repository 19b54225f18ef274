"""Predicted heads as files that `facefold evaluate people` scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pipeline.build.register_files import write_ply
from pipeline.errors import FacefoldError
from pipeline.evaluation.protocols.people import file_name
from pipeline.types import Array

HEADS = "heads"
"""Folder in a training's."""


def write_heads(folder: Path, heads: Mapping[str, Tensor], faces: Array) -> list[Path]:
    """Person -> (V,3) mm, with triangles (F,3) -> a .ply a person, in millimetres.

    Raises FacefoldError where the folder cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for person, head in heads.items():
            written.append(folder / f"{file_name(person)}.ply")
            write_ply(written[-1], head.detach().cpu().numpy(), faces)
    except OSError as error:
        raise FacefoldError(f"{folder}: {error.strerror}; name another folder") from error
    return written
