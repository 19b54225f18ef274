"""Builds of small files for tests without faces: real registries, catalogues and plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
import yaml

from pipeline.build.config import BuildConfig, load_build
from pipeline.build.ledger import Result, open_ledger, record
from pipeline.build.plan import Plan, ledger_path
from pipeline.types import Refusal

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


def write_heads(folder: Path, source: str, names: Sequence[str], **changes: Any) -> Path:
    """A source of egg-shaped scans that can be read, of a head's size, each a little different."""
    write_registry(
        folder, source, **{"landmarks": "none", "limits": {"max_rejected_share": 1.0}, **changes}
    )
    root = folder / source
    root.mkdir(exist_ok=True)
    egg = trimesh.creation.icosphere(subdivisions=2)
    for i, name in enumerate(names):
        size_mm = np.array([75.0, 110.0, 95.0]) + i % 97 / 100
        rows = [f"v {x:.4f} {y:.4f} {z:.4f}" for x, y, z in egg.vertices * size_mm]
        rows += [f"f {a} {b} {c}" for a, b, c in egg.faces + 1]
        (root / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def build_of(folder: Path, *sources: str, **fields: Any) -> BuildConfig:
    """The checked build file of these sources."""
    entries = [{"registry": f"{source}.yaml", "root": source} for source in sources]
    path = folder / "build.yaml"
    path.write_text(yaml.safe_dump({"store": "unified.zarr", "sources": entries, **fields}))
    return load_build(path)


def outcomes_of(
    config: BuildConfig,
    plan: Plan,
    refused: Mapping[str, Refusal] | None = None,
    **figures: Any,
) -> dict[str, str]:
    """Records a result for every work of the plan; `refused` by scan id."""
    results = []
    for work in plan.works:
        scan_id = work.record.scan_id
        summary = {"scan_id": scan_id, "verdict": "accept", "coverage": 0.5, **figures}
        results.append(Result(work.keys.judge, scan_id, (refused or {}).get(scan_id), summary))
    with open_ledger(ledger_path(config)) as ledger:
        record(ledger, results)
    return {result.key: result.stage for result in results}
