"""RawScan -> Scan: millimetres, canonical axes, a clean surface that faces outwards."""

from pipeline.normalise.check import check_source
from pipeline.normalise.scan import in_stage, normalise, read_record, stage_of
from pipeline.normalise.surface import clean

__all__ = ["check_source", "clean", "in_stage", "normalise", "read_record", "stage_of"]
