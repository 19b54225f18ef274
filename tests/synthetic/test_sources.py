"""The sources as delivered: every file is what it claims, broken files are broken as stated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from written_sources import SCANS, Written

from pipeline.catalogue import Catalogue, catalogue
from pipeline.errors import FacefoldError
from pipeline.flame.model import FlameModel
from pipeline.formats import format_of, read_scan
from pipeline.geometry.closest import SurfaceIndex
from pipeline.landmarks.schemes import SCHEMES, to_68
from pipeline.normalise import read_record
from pipeline.registry import SourceRegistry, load_registry
from pipeline.registry.naming import without_suffix
from pipeline.synthetic import SyntheticSource, Truth, load_truth, write_sources
from pipeline.synthetic.expressions import BU83
from pipeline.synthetic.people import landmarks_68
from pipeline.synthetic.sources import KINDS, good_counts
from pipeline.synthetic.studio import FG7
from pipeline.types import Refusal, Scan

SHIPPED = Path(__file__).parents[2] / "registries"


def registry_of(source: SyntheticSource) -> SourceRegistry:
    return load_registry(SHIPPED / f"{source.id}.yaml")


def found_in(source: SyntheticSource) -> Catalogue:
    return catalogue(registry_of(source), source.root, hashes=False)


def relative(source: SyntheticSource, path: Path | str) -> str:
    return Path(path).relative_to(source.root).as_posix()


@pytest.fixture(scope="module")
def scans(written: Written) -> list[tuple[SyntheticSource, Scan, Truth]]:
    """Every sound scan through the real reader and normalisation, with its truth."""
    found = []
    for source in written.sources:
        registry = registry_of(source)
        for record in found_in(source).records:
            path = relative(source, record.path)
            if path not in source.broken:
                truth = load_truth(written.out, source.id, without_suffix(path))
                found.append((source, read_record(record, registry), truth))
    return found


def test_every_file_is_in_the_class_that_is_expected(written: Written) -> None:
    for source in written.sources:
        found = found_in(source)
        refused = {relative(source, row.path): row.reason for row in found.quarantined}
        at_catalogue = {p: d for p, d in source.broken.items() if d.stage == "catalogue"}
        assert refused.keys() == at_catalogue.keys()
        assert all(defect.word in refused[path] for path, defect in at_catalogue.items())
        assert dict(found.excluded).keys() == source.excluded.keys()
        assert all(source.excluded[path] in reason for path, reason in found.excluded)
        records = {relative(source, record.path) for record in found.records}
        assert records == {*source.scans} - {*source.excluded} - {*at_catalogue}


def test_broken_files_fail_at_the_stated_stage_and_others_pass(
    written: Written, scans: list[tuple[SyntheticSource, Scan, Truth]]
) -> None:
    assert len(scans) == len(written.sound())
    stages = set()
    for source in written.sources:
        registry = registry_of(source)
        for record in found_in(source).records:
            defect = source.broken.get(relative(source, record.path))
            if defect is None:
                continue
            stages.add(defect.stage)
            if defect.stage == "register":  # reads as a scan, though it is no face
                assert len(read_record(record, registry).faces) > 8000
                continue
            with pytest.raises(FacefoldError, match=defect.word) as caught:
                read_record(record, registry)
            assert Refusal.of(caught.value).stage == defect.stage
    assert stages == {"read", "normalise", "register"}


def test_canonical_scans_lie_on_their_truth(
    scans: list[tuple[SyntheticSource, Scan, Truth]], model: FlameModel
) -> None:
    face = np.zeros(len(model.template_mm), dtype=bool)
    face[model.regions["face"]] = True
    for source, scan, truth in scans:
        matrix = scan.source_to_canonical
        true = truth.vertices_file @ matrix[:3, :3].T + matrix[:3, 3]
        np.testing.assert_allclose(true, truth.vertices_mm, atol=1e-6, err_msg=source.id)
        right, left = landmarks_68(model, true)[[36, 45]]
        assert 80 <= np.linalg.norm(left - right) <= 105
        assert left[0] > right[0]
        shown = true[face & truth.supported]
        assert len(shown) > 300
        distance = SurfaceIndex(scan.vertices_mm, scan.faces).query(shown).distance
        assert np.median(distance) < 0.35
        assert distance.max() < 2.5, scan.scan_id


def test_landmark_files_mark_the_truth(
    scans: list[tuple[SyntheticSource, Scan, Truth]], model: FlameModel
) -> None:
    with_landmarks = set()
    for source, scan, truth in scans:
        if scan.landmarks_mm is None:
            continue
        with_landmarks.add(source.id)
        assert scan.landmark_scheme is not None
        points = to_68(scan.landmark_scheme, scan.landmarks_mm)
        error = np.linalg.norm(points - landmarks_68(model, truth.vertices_mm), axis=1)
        assert np.isfinite(error).sum() >= 6
        # indices name the nearest vertex, which a hole or the hair may have moved
        assert np.nanmedian(error) < 3.0, scan.scan_id
    assert with_landmarks == {source.id for source, _, _ in scans} - {"synth_range"}
    without = [
        scan for source, scan, _ in scans if source.id == "synth_cm" and scan.landmarks_mm is None
    ]
    assert without


def test_files_hold_the_landmarks_of_their_schemes() -> None:
    for written, scheme in ((FG7, "fg7"), (BU83, "bu83")):
        numbers = SCHEMES[scheme].indices_68
        known = numbers >= 0
        np.testing.assert_array_equal(np.array(written)[known], numbers[known])


def test_no_scan_shares_vertices_with_the_template(
    scans: list[tuple[SyntheticSource, Scan, Truth]],
) -> None:
    for _, scan, truth in scans:
        gap = SurfaceIndex(truth.vertices_mm, np.zeros((0, 3), int)).query(scan.vertices_mm)
        assert (gap.distance > 1e-3).mean() > 0.999


def test_scans_have_the_size_of_scans(scans: list[tuple[SyntheticSource, Scan, Truth]]) -> None:
    for _, scan, _ in scans:
        assert 8_000 <= len(scan.faces) <= 40_000, scan.scan_id


def test_shared_people_are_the_ones_the_registry_names(written: Written) -> None:
    by_id = {source.id: source for source in written.sources}
    identities: dict[str, set[str]] = {}
    for source, path in written.sound():
        groups = registry_of(source).groups(path)
        assert groups is not None
        truth = load_truth(written.out, source.id, without_suffix(path))
        identities.setdefault(f"{source.id}:{groups['subject']}", set()).add(truth.identity)
    assert all(len(names) == 1 for names in identities.values())
    same_as = registry_of(by_id["synth_ply"]).subjects.same_as
    for subject, other in same_as.items():
        assert identities[f"synth_ply:{subject}"] == identities[other]
    # nobody else is in two sources
    distinct = {name for names in identities.values() for name in names}
    assert len(distinct) == len(identities) - len(same_as)


def test_studio_textures_have_seams_and_some_materials_are_lost(written: Written) -> None:
    studio = next(source for source in written.sources if source.id == "synth_studio")
    missing = 0
    for path in studio.scans:
        text = (studio.root / path).read_text()
        if text:
            assert text.count("\nvt ") > text.count("\nv ")
            name = text.split("\n", 1)[0].removeprefix("mtllib ")
            missing += not (studio.root / "scans" / name).exists()
    assert 0 < missing < len(studio.scans) - 1


def test_units_formats_and_axes_differ(written: Written) -> None:
    registries = [registry_of(source) for source in written.sources]
    assert {registry.unit for registry in registries} == {"mm", "m", "cm"}
    assert len({registry.format for registry in registries}) == 4
    assert len({str(registry.axes) for registry in registries}) == 3
    assert sum(registry.landmarks is None for registry in registries) == 1


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    written: Written, model: FlameModel, tmp_path: Path
) -> None:
    def content(out: Path) -> dict[str, bytes]:
        return {
            p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()
        }

    seen: list[str] = []
    again = tmp_path / "again"
    left = again / "sources" / "synth_studio" / "scans" / "f9999_n.obj"  # of an earlier writing
    left.parent.mkdir(parents=True)
    left.touch()
    write_sources(again, SCANS, seed=0, model=model, progress=seen.append)
    first, second = content(written.out), content(again)
    assert first.keys() == second.keys()
    assert [path for path in first if first[path] != second[path]] == []
    assert seen == list(KINDS)
    write_sources(tmp_path / "other", SCANS, seed=1, model=model)
    name = "sources/synth_studio/scans/f1001_n.obj"
    assert content(tmp_path / "other")[name] != first[name]


@pytest.mark.parametrize("scans", [24, 37, 60, 400])
def test_the_number_of_files_is_the_one_asked_for(scans: int) -> None:
    counts = good_counts(scans)
    assert sum(counts.values()) + sum(kind.extra for kind in KINDS.values()) == scans
    assert min(counts.values()) >= 1


def test_all_files_are_counted(written: Written) -> None:
    assert sum(len(source.scans) for source in written.sources) == SCANS
    for source in written.sources:
        assert all((source.root / path).is_file() for path in (*source.scans, *source.broken))


def test_too_few_scans_are_refused(tmp_path: Path, model: FlameModel) -> None:
    with pytest.raises(ValueError, match="got 5, expected at least 24"):
        write_sources(tmp_path, 5, model=model)
    assert list(tmp_path.iterdir()) == []


def test_polygons_have_more_than_three_corners(written: Written) -> None:
    source, path = next(pair for pair in written.sound() if pair[0].id == "synth_cm")
    corners = [line.count(" ") for line in (source.root / path).read_text().split("\n")[-500:-1]]
    assert min(corners) >= 4
    assert len(read_scan(source.root / path, format_of(source.root / path)).faces) > 8000
