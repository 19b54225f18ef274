"""The archive: its names are wrong as stated, its files are read, its copy is a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from written_sources import Written

from pipeline.catalogue import catalogue
from pipeline.flame.model import FlameModel
from pipeline.normalise import read_record
from pipeline.registry import load_registry
from pipeline.synthetic import archive, load_truth
from pipeline.types import ScanRecord

SHIPPED = Path(__file__).parents[2] / "registries"


def test_names_are_wrong_as_stated(written: Written, model: FlameModel, tmp_path: Path) -> None:
    for kept in ("sources", "truth"):
        shutil.copytree(written.out / kept / "synth_studio", tmp_path / kept / "synth_studio")
    source = archive.write_archive(tmp_path, seed=0, model=model)
    registry = load_registry(SHIPPED / f"{source.id}.yaml")
    found = catalogue(registry, source.root, hashes=False)
    assert len(found.records) == len(source.scans)
    assert not found.quarantined and not found.excluded
    records = {record.scan_id: record for record in found.records}

    def person(record: ScanRecord) -> str:
        return load_truth(tmp_path, source.id, record.scan_id.partition(":")[2]).identity

    people: dict[str, list[str]] = {}
    for record in found.records:
        people.setdefault(record.subject, []).append(person(record))
    usual = {name: max(set(own), key=own.count) for name, own in people.items()}
    odd = {scan for scan, record in records.items() if person(record) != usual[record.subject]}
    assert odd == archive.MISLABELLED["swapped"] | archive.MISLABELLED["misfiled"]
    first, second = archive.MISLABELLED["filed twice"]
    assert usual[first.partition(":")[2]] == usual[second.partition(":")[2]]
    assert len({*usual.values()}) == len(usual) - 1
    copy, original = sorted(archive.MISLABELLED["duplicate"])
    truth = load_truth(tmp_path, "synth_studio", original.partition(":")[2])
    assert person(records[copy]) == truth.identity
    scan = read_record(records[copy], registry)
    studio = load_registry(SHIPPED / "synth_studio.yaml")
    root = tmp_path / "sources" / "synth_studio"
    [theirs] = [r for r in catalogue(studio, root, hashes=False).records if r.scan_id == original]
    sizes = [
        np.sort(np.linalg.norm(s.vertices_mm - s.vertices_mm.mean(0), axis=1))
        for s in (scan, read_record(theirs, studio))
    ]
    np.testing.assert_allclose(sizes[0], sizes[1], atol=0.02)
