"""Builds of small files for tests that never open a scan: real registries, catalogues and plans."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import BuildConfig, load_build
from pipeline.ledger import Result
from pipeline.plan import Plan

REGISTRY: Mapping[str, Any] = {
    "title": "Lab",
    "version": "1",
    "verified": True,
    "licence": {"name": "x", "url": "x", "redistribution": True, "commercial": True},
    "citation": "x",
    "access": "x",
    "metric": True,
    "scans": {
        "include": ["*.obj"],
        "name": r"(?P<subject>p\d+)_(?P<expression>neutral|smile)\.obj",
        "exclude": [{"pattern": "torn_*", "reason": "torn meshes"}],
        "companions": ["*.npy"],
    },
    "format": "obj",
    "unit": "mm",
    "axes": {"up": "+y", "forward": "+z"},
    "landmarks": {"file": "{stem}.npy", "format": "npy", "scheme": "ibug68"},
    "neutral": ["neutral"],
}


def write_registry(folder: Path, source: str, **changes: Any) -> None:
    """`folder`/<source>.yaml; `changes` replace fields of REGISTRY."""
    text = yaml.safe_dump({**REGISTRY, "id": source, **changes})
    (folder / f"{source}.yaml").write_text(text, encoding="utf-8")


def write_source(folder: Path, source: str, *files: str, **changes: Any) -> Path:
    """A registry and a folder with these files, whose content is their name; returns the folder."""
    write_registry(folder, source, **changes)
    root = folder / source
    root.mkdir(exist_ok=True)
    for name in files:
        (root / name).write_text(f"{source}/{name}", encoding="utf-8")
    return root


def build_of(folder: Path, *sources: str, **fields: Any) -> BuildConfig:
    """The checked build file of these sources."""
    entries = [{"registry": f"{source}.yaml", "root": source} for source in sources]
    path = folder / "build.yaml"
    path.write_text(yaml.safe_dump({"store": "unified.zarr", "sources": entries, **fields}))
    return load_build(path)


def results_of(
    plan: Plan, refused: Mapping[str, tuple[str, str]] | None = None
) -> dict[str, Result]:
    """A result for every work of the plan; `refused`: scan id -> stage and reason."""
    results = {}
    for work in plan.works:
        scan_id = work.record.scan_id
        stage, reason = (refused or {}).get(scan_id, ("", ""))
        summary = {"scan_id": scan_id, "verdict": "accept", "coverage": 0.5}
        results[work.key] = Result(work.key, scan_id, stage, reason, summary)
    return results
