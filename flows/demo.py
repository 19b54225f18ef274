"""The demo: synthetic sources -> store -> accuracy against the truth -> a batch in torch -> a
network, trained and scored."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch.utils.data import DataLoader

from flows.build import build
from flows.demo_training import show_training, train_and_score
from flows.terminal.console import heading, note, out, plain, rows_table, summary_table
from pipeline.build.config import BuildConfig, load_build
from pipeline.build.device import Device
from pipeline.catalogue import catalogue
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.loaders import FaceDataset
from pipeline.normalise import read_record
from pipeline.pictures.contact_sheets import Shown, save_registrations
from pipeline.pictures.view_sheets import ShownView, save_views
from pipeline.registry import load_registry
from pipeline.store import open_store
from pipeline.store.validity_bits import unpack_validity
from pipeline.synthetic import SyntheticSource, accuracy, archive, load_truth, write_sources


def run_demo(
    folder: Path, scans: int, device: Device, train_seconds: float, quiet: bool
) -> dict[str, Any]:
    """Runs the whole demo into `folder`; returns what `--json` prints."""
    started = time.monotonic()
    folder = folder.resolve()
    sources = write_sources(
        folder, scans, progress=lambda name: note(f"writing synthetic source {name}")
    )
    note(f"writing synthetic source {archive.SOURCE}")
    sources = [*sources, archive.write_archive(folder)]
    config_path = write_config(folder, sources, device)
    config = load_build(config_path)
    summary = build(config_path)
    store, model = Path(summary["store"]), load_model(config.model)
    note("comparing with the truth, drawing pictures")
    summary["accuracy"] = accuracy_by_source(folder, store, model)
    summary["surprises"] = [
        *surprises(sources, summary["quarantine"]),
        *not_found(summary["people"]["findings"]),
    ]
    summary["pictures"] = save_pictures(folder / "pictures", config, model)
    summary["pictures"] += save_view_sheet(folder / "pictures" / "views.png", store)
    summary["training"] = train_and_score(store, model, folder / "training", device, train_seconds)
    summary["build"] = str(config_path)
    summary["seconds"] = round(time.monotonic() - started, 2)
    if not quiet:
        accuracy_rows = summary["accuracy"]
        hidden = ("accuracy", "surprises", "pictures", "training")
        summary_table({k: v for k, v in summary.items() if k not in hidden})
        plain(f"pictures: {folder / 'pictures'}")
        out.print(rows_table("Distance to the truth on supported face vertices, mm", accuracy_rows))
        for surprise in summary["surprises"]:
            plain(f"NOT AS EXPECTED: {surprise}")
        show_batch(config.store_folder)
        show_training(summary["training"])
    return summary


def write_config(folder: Path, sources: Sequence[SyntheticSource], device: str) -> Path:
    """DIR/build.yaml, which `facefold build` rebuilds."""
    path = folder / "build.yaml"
    config = {
        "store": "unified.zarr",
        "model": "stand-in",
        "sources": [{"registry": s.id, "root": str(s.root.relative_to(folder))} for s in sources],
        "device": device,
    }
    text = "# Written by `facefold demo`; `facefold build` on this file rebuilds the store.\n"
    path.write_text(text + yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def accuracy_by_source(folder: Path, store: Path, model: FlameModel) -> list[dict[str, Any]]:
    """Error of the kept scans against their truth, a row a source and one for all."""
    opened = open_store(store)
    manifest = opened.manifest.select(["source", "scan_id"]).to_pylist()
    vertices = opened.read("vertices_mm", np.arange(len(manifest)))
    frames = opened.read("source_to_canonical", np.arange(len(manifest)))
    errors: dict[str, list[dict[str, float]]] = {}
    for row, registered, frame in zip(manifest, vertices, frames, strict=True):
        stem = row["scan_id"].split(":", 1)[1]
        figures = accuracy(registered, load_truth(folder, row["source"], stem), model, frame)
        errors.setdefault(row["source"], []).append(figures)
    errors["all"] = [figures for source in errors.values() for figures in source]
    return [
        {
            "source": source,
            "scans": len(figures),
            **{
                name: float(np.mean([f[f"{name}_mm"] for f in figures]))
                for name in ("mean", "median", "p95")
            },
            "worst mean": max(f["mean_mm"] for f in figures),
        }
        for source, figures in errors.items()
    ]


def save_pictures(
    folder: Path, config: BuildConfig, model: FlameModel, columns: int = 4
) -> list[str]:
    """One PNG a source, of the first scans that the store kept."""
    opened = open_store(config.store_folder)
    manifest = opened.manifest.select(["source", "scan_id"]).to_pylist()
    written = []
    for entry in config.sources:
        registry = load_registry(entry.registry)
        records = {r.scan_id: r for r in catalogue(registry, entry.root, hashes=False).records}
        rows = [i for i, row in enumerate(manifest) if row["source"] == registry.id][:columns]
        shown = []
        for i in rows:
            vertices, distance, packed = (
                opened.read(name, np.array([i]))[0]
                for name in ("vertices_mm", "distance_mm", "validity")
            )
            scan = read_record(records[manifest[i]["scan_id"]], registry)
            valid = unpack_validity(packed, len(vertices))
            shown.append(Shown(scan, vertices, distance, valid))
        if shown:
            path = folder / f"{registry.id}.png"
            save_registrations(path, shown, model)
            written.append(str(path))
    return written


def save_view_sheet(path: Path, store: Path, each: int = 2) -> list[str]:
    """One PNG of views: `each` of every source and kind; none of a store that has none."""
    if not open_store(store).form.views:
        return []
    fields = "images", "parts", "landmarks_px", "landmark_visibility", "shaded_images"
    columns = "view_id", "views.source", "kind"
    dataset = FaceDataset(store, unit="view", fields=(*fields, *columns))
    codes, _ = dataset.classes("views.source", "kind")
    chosen = np.concatenate([np.flatnonzero(codes == code)[:each] for code in np.unique(codes)])
    batch = dataset[chosen]
    drawn = zip(
        *(batch[name].numpy() for name in fields), batch["kind"], batch["view_id"], strict=True
    )
    shown = [
        ShownView(image, parts, marks, seen.astype(bool), shading, f"{kind}: {view_id}")
        for image, parts, marks, seen, shading, kind, view_id in drawn
    ]
    save_views(path, shown)
    return [str(path)]


def surprises(
    sources: Sequence[SyntheticSource], quarantine: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Where the quarantine differs from the files that were broken on purpose; none is right."""
    found = {
        (row["source"], Path(row["path"]).resolve()): (row["stage"], row["reason"])
        for row in quarantine
    }
    wrong = []
    for source in sources:
        for relative, defect in source.broken.items():
            stage, reason = found.pop((source.id, (source.root / relative).resolve()), ("", ""))
            if stage != defect.stage or defect.word not in reason:
                wrong.append(
                    f"{source.id} {relative}: quarantined at {stage or 'no stage'} ({reason}), "
                    f"expected {defect.stage} for {defect.word!r}"
                )
    wrong += [f"{name} {path}: quarantined at {s}: {r}" for (name, path), (s, r) in found.items()]
    return wrong


def not_found(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which wrong names of the archive were not reported; none is right."""
    found = {(row["kind"], frozenset([*row["scans"], *row["people"]])) for row in findings}
    return [
        f"{archive.SOURCE}: {' and '.join(names)}: not reported as {kind}"
        for kind, names in archive.MISLABELLED.items()
        if not any(kind == k and names <= about for k, about in found)
    ]


def show_batch(store: Path) -> None:
    """Draws a batch as a training job would, and shows the code that does."""
    fields = ("images", "parts", "landmarks_px", "identity_shape", "identity")
    dataset = FaceDataset(store, split="train", fields=fields, unit="view")
    batch = next(iter(DataLoader(dataset, batch_size=4, shuffle=True)))
    plain("")
    heading("One batch in torch")
    plain(f'  dataset = FaceDataset("{store}", split="train", unit="view",')
    plain(f"                        fields={fields})")
    plain("  batch = next(iter(DataLoader(dataset, batch_size=4, shuffle=True)))")
    for name, tensor in batch.items():
        plain(f"  batch[{name!r}]: {tuple(tensor.shape)} {tensor.dtype}")
