"""Scans that hang, crash, eat all memory or raise harm only themselves; the rest goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.flows.conftest import facefold
from tests.small_build import build_of, write_heads

HEADS = [f"p{i}_neutral.obj" for i in range(12)]
FATES = {
    "lab:p1_neutral": "hang",
    "lab:p3_neutral": "crash",
    "lab:p4_neutral": "memory",
    "lab:p6_neutral": "raise",
    "lab:p8_neutral": "killed once",
}
REASONS = {
    "lab:p1_neutral": "took more than 6 s, in register",
    "lab:p3_neutral": "crashed its worker: Segmentation fault",
    "lab:p4_neutral": "needs more memory than a worker has: Unable to allocate 8.00 TiB",
    "lab:p6_neutral": "IndexError: list index out of range",
}


def build(folder: Path, fates: dict[str, str]) -> tuple[dict[str, Any], str]:
    """The real command, cluster and ledger; in the workers the stage `register` is replaced."""
    (folder / "fates.json").write_text(json.dumps(fates))
    surroundings = {
        "FATES": str(folder / "fates.json"),
        "DASK_DISTRIBUTED__WORKER__PRELOAD": str(Path(__file__).parents[1] / "poison.py"),
    }
    run = facefold("build", folder / "build.yaml", "--json", surroundings=surroundings)
    return run.json, run.stderr


def refused(summary: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {row["scan_id"]: (row["stage"], row["reason"]) for row in summary["quarantine"]}


def test_poison_scans_are_tried_alone_once_and_quarantined_with_their_reason(
    tmp_path: Path,
) -> None:
    write_heads(tmp_path, "lab", HEADS)
    build_of(tmp_path, "lab", scan_seconds=6, model="stand-in", registration={"modes": 1}, batch=4)
    first, said = build(tmp_path, FATES)
    found = refused(first)
    assert len(found) == first["recomputed"] == len(HEADS)
    for scan, reason in REASONS.items():
        assert found[scan][0] == "worker" and reason in found[scan][1], found[scan]
    neighbours = {scan: told for scan, told in found.items() if scan not in REASONS}
    assert set(neighbours.values()) == {("register", "fine")}
    for scan in FATES:
        assert said.count(f"tried again alone: {scan}") == 1
