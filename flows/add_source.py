"""A new source, from its registry and folder to a verdict: check, sample registration, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.prefect_server.artifacts import escaped, table_rows
from flows.prefect_server.run_log import run_log
from flows.terminal.console import logged, note
from pipeline.build.device import Device, torch_device
from pipeline.build.run import note_model
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.registry import SourceRegistry, load_registry
from pipeline.sources import check_folder
from pipeline.sources.trial import Tried, build_lines, readiness, sample_rows, save_trial, try_scans

plain_task = task(cache_policy=NO_CACHE, persist_result=False)


@flow(name="add_source", persist_result=False)
def add_source(
    registry: str,
    root: Path,
    out: Path,
    sample: int = 8,
    model: Path | None = None,
    embedding: Path | None = None,
    device: Device = "auto",
) -> dict[str, Any]:
    """Tries a source out on `sample` of its scans; returns what `--json` prints.

    `registry` is an id or a YAML file. Writes `<id>_check.png` and, of the scans that could be
    registered, `<id>_registered.png` into `out`.
    """
    torch_device(device)  # a missing GPU is reported before any work
    source, face = load_registry(registry), load_model(model, embedding)
    with run_log():
        note_model(face)
        note(f"checking {root}")
        report = check(source, root, out / f"{source.id}_check.png", sample)
        note(f"registering {len(report['samples'])} scans")
        tried = register_sample(source, root, face, sample, device)
        verdict, reasons = readiness(source, report, tried)
        if logged():
            note("; ".join([f"{source.id}: {verdict}", *reasons]))
    rows = sample_rows(tried)
    description = "\n\n".join(map(escaped, [f"{source.id}: {verdict}", *reasons]))
    create_table_artifact(table_rows(rows), key="add-source", description=description)
    picture = out / f"{source.id}_registered.png"
    return {
        "source": source.id,
        "verdict": verdict,
        "reasons": reasons,
        "check": report,
        "sample": rows,
        "picture": str(picture) if draw(picture, tried, face) else None,
        "build": build_lines(registry, root),
    }


@plain_task
def check(source: SourceRegistry, root: Path, sheet: Path, sample: int) -> dict[str, Any]:
    """`facefold sources check`."""
    return check_folder(source, root, sheet, sample)


@plain_task
def register_sample(
    source: SourceRegistry, root: Path, model: FlameModel, sample: int, device: Device
) -> list[Tried]:
    """The scans that the check looked at, registered and judged."""
    return try_scans(source, root, model, sample, device)


@plain_task
def draw(path: Path, tried: list[Tried], model: FlameModel) -> bool:
    """Below each scan its registration and the distance between them."""
    return save_trial(path, tried, model)
