"""The texture image that belongs to a scan, found without trusting the names in the file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pipeline.errors import FormatError
from pipeline.formats.content import opened

MAX_LIBRARY = 1 << 20
"""Bytes of a material library that are read; real ones have some hundreds."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".PNG", ".JPG", ".JPEG", ".BMP")


def beside(path: Path, name: str) -> Path | None:
    """The file `name` means in the folder of `path` or below; None where there is none.

    Names often keep the folders of the machine that wrote them; then the bare name counts, and
    always where the name or a link leads out of the folder: a scan opens nothing elsewhere.
    """
    name = name.strip().strip('"').replace("\\", "/")
    whole = PurePosixPath(name)
    below = [] if whole.is_absolute() or ".." in whole.parts else [name]
    found = (path.parent / part for part in dict.fromkeys((*below, whole.name)) if part)
    return next((file for file in found if is_within(file, path.parent)), None)


def is_within(file: Path, folder: Path) -> bool:
    """Whether it is a file that lies in the folder or below, all links followed."""
    try:
        return file.is_file() and file.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):  # a name that is too long or holds a zero byte
        return False


def texture_beside(path: Path, names: Iterable[str]) -> Path | None:
    """The first image of `names` that exists, else the image called as the scan is, else None."""
    same_stem = (path.stem + suffix for suffix in SUFFIXES)
    found = (beside(path, name) for name in (*names, *same_stem))
    return next((image for image in found if image is not None), None)


def material_images(path: Path, libraries: Iterable[str]) -> list[str]:
    """The diffuse images (`map_Kd`) of the first material library that exists.

    Tried in turn: the names in the scan, `<stem>.mtl`, `<name>.mtl`; many distributed libraries
    carry another scan's name.
    """
    tried = (beside(path, name) for name in (*libraries, f"{path.stem}.mtl", f"{path.name}.mtl"))
    library = next((file for file in tried if file is not None), None)
    if library is None:
        return []
    try:
        with opened(library) as file:
            lines = file.read(MAX_LIBRARY).decode("utf-8", errors="replace").splitlines()
    except FormatError:  # the scan is whole without its texture
        return []
    rows = [row for row in (line.split(None, 1) for line in lines) if len(row) == 2]
    named = [value.strip() for key, value in rows if key.lower() == "map_kd"]
    # options such as "-s 1 1 1" may stand before the name
    return [*named, *(name.split()[-1] for name in named)]
