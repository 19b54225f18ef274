"""RawScan -> Scan: millimetres, canonical axes, a clean surface that faces outwards."""

from pipeline.normalise.scan import FAR_MM, in_stage, normalise, read_record
from pipeline.normalise.surface import clean

__all__ = ["FAR_MM", "clean", "in_stage", "normalise", "read_record"]
