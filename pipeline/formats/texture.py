"""The texture image that belongs to a scan, found without trusting the names in the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
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


def material_images(path: Path, libraries: Iterable[str]) -> dict[str, list[str]]:
    """Each material's names of its diffuse image (`map_Kd`), none where it has none.

    Read are the material libraries that the scan names; if there is none of them, `<stem>.mtl` or
    `<name>.mtl`, as many distributed libraries carry another scan's name.
    """
    found = [beside(path, name) for name in dict.fromkeys(libraries)]
    named = [file for file in found if file is not None]
    if not named:
        usual = (beside(path, name) for name in (f"{path.stem}.mtl", f"{path.name}.mtl"))
        named = [file for file in usual if file is not None][:1]
    images: dict[str, list[str]] = {}
    for library in dict.fromkeys(named):
        for material, names in library_images(library).items():
            images.setdefault(material, names)
    return images


def library_images(library: Path) -> dict[str, list[str]]:
    """The same of one library; empty where it cannot be read: the scan is whole without it."""
    try:
        with opened(library) as file:
            lines = file.read(MAX_LIBRARY).decode("utf-8", errors="replace").splitlines()
    except FormatError:
        return {}
    images, material = dict[str, list[str]](), ""
    for key, value in (row for row in (line.split(None, 1) for line in lines) if len(row) == 2):
        if key.lower() == "newmtl":
            material = value.strip()
            images.setdefault(material, [])
        elif key.lower() == "map_kd":
            # options such as "-s 1 1 1" may stand before the name
            images.setdefault(material, []).extend((value.strip(), value.split()[-1]))
    return images


def main_image(
    path: Path, images: Mapping[str, Iterable[str]], used: Mapping[str, int]
) -> tuple[Path | None, set[str]]:
    """The image that paints most triangles, and the materials whose triangles it does not paint.

    images: names by material; used: triangles by material. A material that is unknown has the
    image of all others if they share one: names in scans and libraries often differ.
    """
    files = {
        material: next((f for f in (beside(path, name) for name in names) if f is not None), None)
        for material, names in images.items()
    }
    shown = list(dict.fromkeys(file for file in files.values() if file is not None))
    if not shown:
        return texture_beside(path, ()), set()
    painted: Counter[Path | None] = Counter()
    for material, n in used.items():
        painted[files.get(material)] += n
    image = max(shown, key=lambda file: painted[file])
    alone = len(shown) == 1
    others = {m for m in used if not (files[m] == image if m in files else alone)}
    return image, others
