"""Every registry over its miniature with the unit or the axes declared wrongly: never accepted.

Landmarks decide where a scan is normalised; without them the registration does. Whatever refuses
names the unit or the axes that the registry rightly declares.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from pipeline.errors import FacefoldError, UnitError
from pipeline.formats import read_scan
from pipeline.landmarks import read_landmarks, resolve
from pipeline.normalise import normalise, read_record
from pipeline.normalise.axes import CONVENTIONS, degrees_of
from pipeline.quality.refusing import judged
from pipeline.quality.thresholds import Gates
from pipeline.registration import register
from pipeline.registration.template import prepare_template
from pipeline.registry import Axes, SourceRegistry
from pipeline.registry.transforms import matrix_of
from pipeline.types import Array, RawScan, Refusal, Scan, ScanRecord
from pipeline.units import UNITS
from tests.contract.built import IDS, QUICK, Built
from tests.miniatures.heads import model

every_registry = pytest.mark.parametrize("id", IDS)


def a_scan(built: Built) -> ScanRecord:
    """A sound one, with landmarks where any has them."""
    sound = [r for path, r in built.records.items() if built.miniature.scans[path].head]
    sound = [r for r in sound if built.relative(r.path) not in built.miniature.refused]
    marked = [r for r in sound if r.landmark_path is not None]
    return next(iter(marked), built.records[built.miniature.whole])


class Loaded(NamedTuple):
    """A scan as read, to be normalised with one declaration or another."""

    record: ScanRecord
    registry: SourceRegistry
    raw: RawScan
    points: Array | None

    @property
    def own(self) -> Array | None:
        """(4,4) the scan's own transform."""
        return matrix_of(self.record.transform, self.record.path) if self.record.transform else None

    @property
    def right(self) -> str:
        """The unit it has."""
        return self.normalised().unit

    def normalised(self, **changes: Any) -> Scan:
        given = {
            "scan_id": self.record.scan_id,
            "unit": self.record.unit,
            "axes": self.registry.axes,
            "landmarks": self.points,
            "scheme": self.registry.landmarks and self.registry.landmarks.scheme,
            "limits": self.registry.limits.of(self.record.expression),
            "scale": self.record.scale,
            "own": self.own,
        }
        return normalise(self.raw, **{**given, **changes})

    def refusal(self, **changes: Any) -> tuple[str, str]:
        """Stage and reason; registered only where no landmarks decide."""
        try:
            scan = self.normalised(**changes)
        except FacefoldError as error:
            return Refusal.of(error).stage, str(error)
        if self.points is not None:
            return "", "landmarks should have decided"
        template = prepare_template(model(), "cpu", QUICK.modes)
        registration = register([scan], model(), QUICK)[0]
        axes, limits = changes.get("axes", self.registry.axes), self.registry.limits
        refusal, _ = judged(scan, registration, template, Gates(), axes, limits)
        return ("", "") if refusal is None else (refusal.stage, refusal.reason)


@pytest.fixture(scope="module")
def scans(built: dict[str, Built]) -> dict[str, Loaded]:
    found = {}
    for id, one in built.items():
        record, points = a_scan(one), None
        raw = read_scan(record.path, record.format, **one.registry.reader)
        if record.landmark_path is not None and one.registry.landmarks is not None:
            marks = read_landmarks(record.landmark_path, one.registry.landmarks.format)
            points = resolve(marks, raw, record.landmark_path, one.registry.landmarks.scheme)
        found[id] = Loaded(record, one.registry, raw, points)
    return found


@every_registry
def test_a_wrong_unit_is_refused_and_the_right_one_named(id: str, scans: dict[str, Loaded]) -> None:
    scan = scans[id]
    right = scan.right
    for wrong in UNITS:
        if wrong != right:
            stage, reason = scan.refusal(unit=wrong)
            assert stage == "normalise" or (stage and scan.points is None), reason
            likely = reason.rpartition("likely in ")[2].partition(":")[0].split(" or ")
            assert right in likely, f"{right} declared as {wrong}: {reason}"
            assert len(likely) == 1 or scan.points is None, reason


@every_registry
def test_auto_finds_the_right_unit_or_leaves_it_open(id: str, scans: dict[str, Loaded]) -> None:
    scan = scans[id]
    try:
        assert scan.normalised(unit="auto").unit == scan.right
    except UnitError as error:
        assert scan.points is None
        assert scan.right in str(error).partition(" stay plausible")[0].split(" and ")[-2:]


@every_registry
def test_swapped_axes_are_refused_and_the_right_ones_named(
    id: str, scans: dict[str, Loaded]
) -> None:
    """By 90°, 120° and 180°."""
    scan = scans[id]
    right = scan.registry.axes
    if right is None:
        assert not scan.normalised().oriented  # none declared, none wrong
        return
    plain = Axes(up=right.up, forward=right.forward).rotation()
    by_angle = {round(degrees_of(axes.rotation() @ plain.T)): axes for axes in CONVENTIONS}
    assert by_angle.keys() == {0, 90, 120, 180}
    for angle in (90, 120, 180) if scan.points is not None else (90, 180):
        turned = by_angle[angle]
        wrong = Axes(up=turned.up, forward=turned.forward, rotation_deg=right.rotation_deg)
        stage, reason = scan.refusal(axes=wrong)
        assert stage == "normalise" or (stage and scan.points is None), f"{angle}°: {reason}"
        assert f"likely {{up: {right.up}, forward: {right.forward}}}" in reason, reason


@every_registry
def test_mirrored_scans_are_refused_by_their_landmarks(id: str, scans: dict[str, Loaded]) -> None:
    scan = scans[id]
    if scan.points is None:
        return  # a face is its own mirror image but for a few millimetres
    flip = np.array([-1.0, 1.0, 1.0])
    mirrored = scan._replace(
        raw=RawScan(scan.raw.vertices * flip, scan.raw.faces), points=scan.points * flip
    )
    stage, reason = mirrored.refusal()
    assert stage == "landmarks" and "mirror" in reason, reason


@every_registry
def test_only_the_unit_and_the_rule_scale(id: str, scans: dict[str, Loaded]) -> None:
    record, registry, own = scans[id].record, scans[id].registry, scans[id].own
    scan = read_record(record, registry)
    linear = scan.source_to_canonical[:3, :3]
    rule = record.scale if own is None else float(np.cbrt(np.linalg.det(own[:3, :3])))
    size = rule * UNITS[scan.unit]
    np.testing.assert_allclose(linear @ linear.T, size**2 * np.eye(3), rtol=1e-9, atol=1e-9)
    assert (rule != 1) == scan.unit_evidence.startswith(f"file × {rule:g}, ")
    assert rule == 1 or registry.scale is not None or registry.transform is not None
