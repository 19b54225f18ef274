"""What every reader of scan files owes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from pipeline.types import RawScan


class Reader(Protocol):
    """A function that reads one file format.

    - It returns the whole surface, or raises FormatError with the fault, a remedy and, as far as
      it is known, what the file is instead. A mesh that is cut off, empty or not finite is a
      fault; no other exception leaves it, whatever the bytes.
    - Vertices, (V,3) float64, stay in the file's own unit, axes and order; triangles, (F,3)
      int64, name them, and F is 0 for points. Nothing is scaled, turned, merged or cleaned:
      that is for `normalise`, which knows the registry. What a reader must leave out, such as
      rows beyond an announced end, is counted in the scan it returns.
    - Colours and texture coordinates come with the surface where the format has them. Damaged ones
      are left out and counted, and refuse nothing.
    - The name of the file decides nothing but where its companions lie. The first bytes are
      looked at first, and sizes that a header announces are checked before memory is taken.
    - What the file does not say of itself, such as the step of a range image, is a keyword-only
      parameter with a type: an option, given by `reader:` in a registry.

    tests/formats/test_reader_contract.py and test_fuzz.py hold every reader of READERS to it.
    """

    def __call__(self, path: Path, /, *args: Any, **options: Any) -> RawScan: ...
