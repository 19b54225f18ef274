"""What the fixture `written` gives: the synthetic sources on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.synthetic import SyntheticSource

SCANS = 24


@dataclass(frozen=True)
class Written:
    out: Path
    sources: list[SyntheticSource]

    def sound(self) -> list[tuple[SyntheticSource, str]]:
        return [
            (source, scan)
            for source in self.sources
            for scan in source.scans
            if scan not in source.broken and scan not in source.excluded
        ]
