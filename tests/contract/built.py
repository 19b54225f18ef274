"""What the fixture `built` gives: every registry that has a miniature, catalogued over it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pipeline.catalogue import Catalogue
from pipeline.registration import RegistrationOptions
from pipeline.registry import SourceRegistry, registries_dir
from pipeline.types import ScanRecord
from tests.miniatures import Miniature
from tests.miniatures.build import SYNTHETIC

SHIPPED = {file.stem for file in registries_dir().glob("*.yaml")}
IDS = sorted(SHIPPED - {id for id in SHIPPED if id.startswith(SYNTHETIC)})
QUICK = RegistrationOptions(
    model_iterations=6, residual_iterations=2, fine_iterations=2, tolerance_mm=5.0
)
"""Right to a millimetre or two, which tells a wrong frame or unit from the right one."""


class Built(NamedTuple):
    miniature: Miniature
    registry: SourceRegistry
    catalogue: Catalogue

    def relative(self, path: Path | str) -> str:
        return Path(path).relative_to(self.miniature.root).as_posix()

    @property
    def records(self) -> dict[str, ScanRecord]:
        return {self.relative(record.path): record for record in self.catalogue.records}
