"""RawScan -> Scan: millimetres, canonical axes, a clean surface that faces outwards."""

from pipeline.normalise.scan import in_stage, normalise, read_record
from pipeline.normalise.surface import clean

__all__ = ["clean", "in_stage", "normalise", "read_record"]
