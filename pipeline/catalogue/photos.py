"""A scan's photos, and the files that say where their cameras stood."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from pipeline.catalogue.companions import Companions
from pipeline.catalogue.digests import Digest, Digests
from pipeline.registry.naming import fill, filled, without_suffix
from pipeline.registry.views import Photo, Views
from pipeline.types import PhotoFile

NUMBER = re.compile(r"\d+")
WILD = re.compile(r"[*?]|\[[^]]*\]|\{\w+\+next\}")


class NamedPhoto(NamedTuple):
    """A photo, its paths relative to the root."""

    path: str
    said: Photo
    beside: str | None
    """Its landmark file or its calibration, as wanted if it is not there."""
    is_there: bool
    """Whether that file is, if the photo needs one."""
    camera: int | None
    """Its number in a file of many."""

    @property
    def files(self) -> tuple[str, ...]:
        """Those that are there, the photo first."""
        return (self.path, self.beside) if self.beside and self.is_there else (self.path,)

    @property
    def missing(self) -> tuple[str, ...]:
        """Those that are not."""
        return () if self.beside is None or self.is_there else (self.beside,)


class Photos(NamedTuple):
    """Those of a scan that are there, and the files that are not, relative to the root."""

    found: tuple[NamedPhoto, ...] = ()
    missing: tuple[str, ...] = ()
    """With `*` for what is looked for."""

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(file for photo in self.found for file in photo.files)

    def without(self, lost: set[str]) -> Photos:
        """Less the photos at these paths, which are those of other scans."""
        if not lost:
            return self
        gone = tuple(photo.path for photo in self.found if photo.path in lost)
        return Photos(
            tuple(photo for photo in self.found if photo.path not in lost), self.missing + gone
        )


def photos_of(views: Views, path: str, groups: Mapping[str, str], beside: Companions) -> Photos:
    """The photos of the scan at `path`. FormatError if a shifted group is no number."""
    found: list[NamedPhoto] = []
    missing: list[str] = []
    for photo in views.photos:
        for template in photo.pictures.values():
            if there := beside.matching(template, path, groups):
                named = [_named(photo, template, file, path, groups, beside) for file in there]
                found += named
                missing += [file for one in named for file in one.missing]
                break
        else:
            missing.append(fill(photo.file, path, groups))
    return Photos(tuple(found), tuple(dict.fromkeys(missing)))


def _named(
    photo: Photo,
    template: str,
    file: str,
    path: str,
    groups: Mapping[str, str],
    companions: Companions,
) -> NamedPhoto:
    rest = _rest(template, file, path, groups)
    told = {**groups, "photo": posixpath.basename(without_suffix(file)), "rest": rest}
    needed = photo.landmarks or photo.calibration
    wanted = None if needed is None else fill(needed.file, path, told)
    there = None if wanted is None else companions.at(wanted)
    number = None
    if photo.calibration is not None and photo.calibration.camera is not None:
        numbers = NUMBER.findall(filled(photo.calibration.camera, path, told))
        number = int(numbers[-1]) if numbers else None
    return NamedPhoto(file, photo, there or wanted, there is not None, number)


def _rest(template: str, file: str, path: str, groups: Mapping[str, str]) -> str:
    """What a file's name has between the first and the last wildcard of its template, or in the
    place of the next number."""
    parts = WILD.split(posixpath.basename(template))
    if len(parts) == 1:
        return ""
    before, after = (len(filled(text, path, groups)) for text in (parts[0], parts[-1]))
    name = posixpath.basename(file)
    return name[before : len(name) - after]


def photo_files(root: Path, photos: Photos, digests: Digests) -> Iterator[PhotoFile]:
    """The photos as records hold them; without those that cannot be opened."""
    for photo in photos.found:
        if isinstance(digests.get(photo.path), OSError):
            continue
        marks, calibration = photo.said.landmarks, photo.said.calibration
        beside = None if photo.beside is None else root / photo.beside
        yield PhotoFile(
            path=root / photo.path,
            camera=photo.said.camera,
            landmark_path=None if marks is None else beside,
            landmark_format=marks.format if marks else "",
            landmark_scheme=marks.scheme if marks else "",
            calibration_path=None if calibration is None else beside,
            calibration_format=calibration.format if calibration else "",
            calibration_camera=photo.camera,
            digest=_digest(photo, digests),
        )


def _digest(photo: NamedPhoto, digests: Digests) -> str:
    """Over what can be read of the photo and the files beside it; "" if nothing was hashed."""
    found = [digests.get(file) for file in photo.files]
    read = [one.sha256 for one in found if isinstance(one, Digest)]
    return sha256(b"".join(read)).hexdigest() if read else ""
