"""Synthetic sources with known truth, written to disk as real datasets are delivered.

The demo and the tests run on them: heterogeneous formats, units, axes, landmarks and names, scans
that are re-meshed, cropped, noisy and hairy, and files that are broken on purpose.
"""

from pipeline.synthetic import archive
from pipeline.synthetic.delivery import Defect, SyntheticSource
from pipeline.synthetic.sources import write_sources
from pipeline.synthetic.truth import Truth, accuracy, load_truth

__all__ = [
    "Defect",
    "SyntheticSource",
    "Truth",
    "accuracy",
    "archive",
    "load_truth",
    "write_sources",
]
