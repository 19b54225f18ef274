"""Miniatures of the datasets: tiny folders with the real layout, names, formats, units and axes.

The people are the stand-in model's, so the truth is known; the defects that users of a dataset meet
are in it. One module a registry, called as it is, with `build(writing: Writing) -> None`.
"""

from tests.miniatures.build import build_miniature, covered
from tests.miniatures.folder import ExpectedScan, Miniature

__all__ = ["ExpectedScan", "Miniature", "build_miniature", "covered"]
