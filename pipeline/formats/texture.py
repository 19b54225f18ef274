"""The texture image that belongs to a scan, found without trusting the names in the file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".PNG", ".JPG", ".JPEG", ".BMP")


def beside(path: Path, name: str) -> Path | None:
    """The file `name` means, relative to the folder of `path`; None where there is none.

    Names often keep the folders of the machine that wrote them; then the bare name counts.
    """
    name = name.strip().strip('"').replace("\\", "/")
    if not name:
        return None
    candidates = (path.parent / name, path.parent / Path(name).name)
    return next((file for file in candidates if file.is_file()), None)


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
    lines = library.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [row for row in (line.split(None, 1) for line in lines) if len(row) == 2]
    named = [value.strip() for key, value in rows if key.lower() == "map_kd"]
    # options such as "-s 1 1 1" may stand before the name
    return [*named, *(name.split()[-1] for name in named)]
