"""What every reader of landmark files owes."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pipeline.types import RawLandmarks


class LandmarkReader(Protocol):
    """A function that reads one landmark format.

    It returns points, vertex indices or pixels, whichever the file has, in the file's unit, axes
    and order, with their names if it has them; NaN rows and index -1 are missing landmarks. What
    they mean is for `schemes`, where they lie for `resolve`. It raises FormatError, and nothing
    else, for a file that is not of the format.
    """

    def __call__(self, path: Path, /) -> RawLandmarks: ...
