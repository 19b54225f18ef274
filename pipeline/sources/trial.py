"""A new source tried out: its folder checked, some scans registered, what follows from both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline.build.device import Device, torch_device
from pipeline.catalogue import catalogue
from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.normalise import read_record
from pipeline.pictures.contact_sheets import Shown, save_registrations
from pipeline.quality.assess import DEFAULT_GATES
from pipeline.quality.refusing import judged
from pipeline.registration import RegistrationOptions, register
from pipeline.registration.template import prepare_template
from pipeline.registry import SourceRegistry
from pipeline.sources.report import spread
from pipeline.types import Quality, Refusal, Registration, Scan

SHOWN = 12
"""As many of a trial are drawn."""
CAPTION = 48
"""As many letters are as wide as a picture."""
Readiness = Literal["ready", "look at it", "not ready"]


@dataclass(frozen=True, eq=False)
class Tried:
    """What became of one scan of the sample, as far as it came."""

    scan_id: str
    scan: Scan | None = None
    registration: Registration | None = None
    quality: Quality | None = None
    refusal: Refusal | None = None
    """As in a build; None if the scan would be kept."""

    @property
    def verdict(self) -> str:
        return "reject" if self.refusal or self.quality is None else self.quality.verdict

    @property
    def fault(self) -> str:
        """Why it is not simply accepted; "" if it is."""
        if self.refusal is not None:
            return f"{self.refusal.stage}: {self.refusal.reason}"
        reasons = () if self.quality is None else self.quality.reasons
        return "review: " + "; ".join(reasons) if reasons else ""


def try_scans(
    registry: SourceRegistry,
    root: Path | str,
    model: FlameModel,
    samples: int,
    device: Device = "auto",
) -> list[Tried]:
    """Reads, registers and judges so many scans, spread evenly over the folder, as a build would.

    They are the scans that `pipeline.sources.check_folder` looks at. Refusal is data.
    """
    root = Path(root)
    done: dict[str, Tried] = {}
    scans: list[Scan] = []
    found = catalogue(registry, root, hashes=False)
    sample = spread(found.records, samples)
    for record in sample:
        try:
            scans.append(read_record(record, registry))
        except FacefoldError as error:
            done[record.scan_id] = Tried(record.scan_id, refusal=registry.shown(Refusal.of(error)))
    where = torch_device(device)
    options = RegistrationOptions(**registry.registering)
    template = prepare_template(model, where, options.modes)
    records = {record.scan_id: record for record in sample}
    for scan, registration in zip(scans, register(scans, model, options, where), strict=True):
        record = records[scan.scan_id]
        ruled = registry.under(record.rule)
        limits = ruled.limits.of(record.expression)
        refusal, quality = judged(
            scan, registration, template, DEFAULT_GATES, ruled.axes, limits, record.neutral
        )
        fitted = None if registration.status == "failed" else registration
        done[scan.scan_id] = Tried(scan.scan_id, scan, fitted, quality, refusal)
    return [done[record.scan_id] for record in sample]


def save_trial(path: Path, tried: Sequence[Tried], model: FlameModel) -> bool:
    """A PNG of the first scans that were registered, in order; whether there was one."""
    shown = []
    for one in tried:
        if one.scan is not None and (fit := one.registration) is not None:
            caption = f"{one.scan_id[-CAPTION:]}\n{one.verdict}"
            shown.append(Shown(one.scan, fit.vertices_mm, fit.distance_mm, fit.validity, caption))
    if shown:
        save_registrations(path, shown[:SHOWN], model)
    return bool(shown)


def readiness(
    registry: SourceRegistry, report: Mapping[str, Any], tried: Sequence[Tried]
) -> tuple[Readiness, list[str]]:
    """Whether a build should take the source, and every reason against it.

    `report` is `check_folder`'s. Not ready: no scan was found, or more files of the folder or scans
    of the sample are lost than `limits.max_rejected_share` allows a build to lose, as all are where
    the registry's unit or axes are wrong. Any other fault asks for a look.
    """
    faults = list(_faults(report, tried))
    reasons = list(_against(registry, report, tried))
    if reasons:
        return "not ready", reasons + faults
    return ("look at it" if faults else "ready"), faults


def _against(
    registry: SourceRegistry, report: Mapping[str, Any], tried: Sequence[Tried]
) -> Iterator[str]:
    """What a build would fail for."""
    limit = registry.limits.max_rejected_share
    allowed = f"limits.max_rejected_share allows {limit:.0%}"
    refused = Counter(one.refusal.kind for one in tried if one.refusal is not None)
    if tried and refused.total() / len(tried) > limit:
        where = ", ".join(f"{n} {kind}" for kind, n in refused.most_common())
        yield f"{refused.total()} of {len(tried)} sampled scans are refused ({where}), {allowed}"
    lost, found = report["quarantined"], report["scans"] + report["quarantined"]
    if found and lost / found > limit:
        yield f"{lost} of {found} scans and unexplained files are quarantined, {allowed}"
    if not tried:
        yield "no scan was tried"


def _faults(report: Mapping[str, Any], tried: Sequence[Tried]) -> Iterator[str]:
    """The check's faults and those of the sample, each once."""
    yield from report["faults"]
    for one in tried:
        seen = report["samples"].get(one.scan_id, {"faults": []})
        if one.fault and one.fault not in seen["faults"]:
            yield f"{one.scan_id}: {one.fault}"


def sample_rows(tried: Sequence[Tried]) -> list[dict[str, Any]]:
    """A row a scan, JSON-ready: verdict, figures of the registration, what is wrong."""
    return [
        {
            "scan": one.scan_id,
            "verdict": one.verdict,
            "scan_to_mesh_median_mm": one.quality and one.quality.scan_to_mesh_mm["face"]["median"],
            "coverage": one.quality and one.quality.coverage,
            "fault": one.fault,
        }
        for one in tried
    ]


def build_lines(registry: str, root: Path | str) -> str:
    """What to paste below `sources:` of a build file in any folder."""
    root = Path(root)
    path = str(Path(registry).resolve()) if registry.endswith((".yaml", ".yml")) else registry
    return yaml.safe_dump(
        [{"registry": path, "root": str(root.resolve())}],
        sort_keys=False,
        allow_unicode=True,
        width=1000,
    )
