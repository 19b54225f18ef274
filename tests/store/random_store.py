"""Stores of random rows for tests, written through the public functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.store import ModelTag, create_staging, fields, publish, write_shard
from pipeline.store.schema import IDENTITY, VIEW
from pipeline.types import Array, ShardReceipt

N_VERTICES = 64
TAG = ModelTag("test model", "a" * 64, True, N_VERTICES)


def random_rows(n: int, seed: int = 0, n_vertices: int = N_VERTICES) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    rows = {
        name: random.integers(0, 256, (n, *field.shape)).astype(np.uint8)
        if field.dtype == "|u1"
        else random.normal(size=(n, *field.shape)).astype(field.dtype)
        for name, field in fields(n_vertices).items()
    }
    rows["landmarks_mm"][::3, 5:] = np.nan
    rows["landmark_confidence"][::3, 5:] = 0
    return rows


def random_points(n: int, seed: int = 0, most: int = 50) -> dict[str, list[Array]]:
    """0 … `most` points a scan: the first has all, the second none."""
    random = np.random.default_rng(seed)
    counts = [most, 0, *random.integers(0, most + 1, n)][:n]
    return {
        "points_mm": [random.normal(size=(m, 3)).astype("<f4") for m in counts],
        "normals": [random.normal(size=(m, 3)).astype("<f2") for m in counts],
    }


def random_people(n: int, seed: int = 0, n_vertices: int = N_VERTICES) -> dict[str, Array]:
    """One row each of n people."""
    random = np.random.default_rng((seed, 1))
    rows = {
        name: random.normal(0, 30, (n, *field.shape)).astype(field.dtype)
        for name, field in fields(n_vertices, IDENTITY).items()
    }
    return rows | {"identity_scans": np.arange(1, n + 1, dtype="<i4")}


def people_of(n: int) -> list[dict[str, Any]]:
    """Those of `random_manifest(n)`, last first: not in the order of their names."""
    names = sorted({row["identity"] for row in random_manifest(n)}, reverse=True)
    return [{"identity": name, "result_key": f"key of {name}"} for name in names]


def random_views(n: int, seed: int = 0, n_vertices: int = N_VERTICES) -> dict[str, Array]:
    """One row each of n views; the last one has no landmarks."""
    random = np.random.default_rng((seed, 2))
    rows = {
        name: random.integers(0, 256, (n, *field.shape), np.uint8)
        if field.dtype == "|u1"
        else random.normal(0, 30, (n, *field.shape)).astype(field.dtype)
        for name, field in fields(n_vertices, VIEW).items()
    }
    rows["landmarks_px"][-1:] = np.nan
    return rows


def views_of(n: int) -> list[dict[str, Any]]:
    """Rows of views of `random_manifest(n)`: a photo of every second scan, a render of every third,
    the last scan's first: those of one scan are not beside each other."""
    found = [
        {"scan_id": f"s{i % 2}:scan_{i}", "view": f"{kind}0", "kind": kind, "yaw_deg": float(i)}
        for kind, step in (("photo", 2), ("render", 3))
        for i in reversed(range(0, n, step))
    ]
    return [row | {"result_key": f"key{row['scan_id']}#{row['view']}"} for row in found]


REFUSED_VIEWS = [
    {"source": "s1", "scan_id": "s1:scan_1", "view": "photo0", "path": "1.jpg", "stage": "views",
     "code": "no_face", "reason": "nothing to see"},
]  # fmt: skip


def random_manifest(n: int) -> list[dict[str, Any]]:
    """Two scans a person, every fifth person in val, two sources."""
    return [
        {
            "scan_id": f"s{i % 2}:scan_{i}",
            "source": f"s{i % 2}",
            "subject": f"{i // 2}",
            "identity": f"person:{i // 2:04d}",
            "split": "val" if i // 2 % 5 == 0 else "train",
            "expression": "smile" if i % 3 else "neutral",
            "neutral": i % 3 == 0,
            "verdict": "accept",
            "coverage": i / n,
            "landmark_error_mm": None if i % 2 else 1.5,
        }
        for i in range(n)
    ]


def part(rows: dict[str, Any], shard: int, n: int, rows_per_shard: int) -> dict[str, Any]:
    start = shard * rows_per_shard
    stop = min(start + rows_per_shard, n)
    return {name: values[start:stop] for name, values in rows.items()}


def write_random_shard(staging: Path, shard: int, n: int, rows_per_shard: int) -> ShardReceipt:
    rows = part(random_rows(n), shard, n, rows_per_shard)
    return write_shard(staging, shard, rows, TAG.digest)


def stage(
    store: Path,
    n: int,
    rows_per_shard: int,
    seed: int = 0,
    points: bool = False,
    people: bool = False,
    views: bool = False,
    **form: Any,
) -> tuple[Path, list[ShardReceipt]]:
    rows: dict[str, Any] = random_rows(n, seed)
    if points:
        rows |= random_points(n, seed)
        form |= {"extras": ("points_mm", "normals"), "per_scan": {"point": 256}}
    n_people = len(people_of(n)) if people else 0
    n_views = len(views_of(n)) if views else 0
    form |= {"identities": n_people, "views": n_views}
    staging = create_staging(store, n, TAG, rows_per_shard, **form)
    receipts = [
        write_shard(staging, shard, part(rows, shard, n, rows_per_shard), TAG.digest)
        for shard in range(-(-n // rows_per_shard))
    ]
    labels = random_people(n_people, seed)
    receipts += [
        write_shard(staging, k, part(labels, k, n_people, rows_per_shard), TAG.digest, IDENTITY)
        for k in range(-(-n_people // rows_per_shard))
    ]
    if views:
        shown, size = random_views(n_views, seed), max(rows_per_shard // 4 // 16 * 16, 16)
        receipts += [
            write_shard(staging, k, part(shown, k, n_views, size), TAG.digest, VIEW)
            for k in range(-(-n_views // size))
        ]
    return staging, receipts


def make_store(
    store: Path,
    n: int = 40,
    rows_per_shard: int = 16,
    seed: int = 0,
    told: Sequence[Mapping[str, Any]] = ({},),
    **form: Any,
) -> Path:
    """A published store of `random_rows(n, seed)`, and of `random_points` where `points=True`, of
    `random_people` where `people=True`, `random_views` where `views=True`; returns the version's
    folder. `told`, over and over, changes the manifest's rows."""
    staging, receipts = stage(store, n, rows_per_shard, seed, **form)
    quarantine = [
        {"source": "s0", "scan_id": "s0:bad", "path": "bad.obj", "stage": "read", "reason": "empty"}
    ]
    excluded = [{"source": "s1", "path": "x.txt", "reason": "not a scan"}]
    return publish(
        store,
        staging,
        receipts,
        [row | told[i % len(told)] for i, row in enumerate(random_manifest(n))],
        quarantine,
        excluded,
        people_of(n) if form.get("people") else (),
        provenance={"code": "1", "run": {"seed": seed}},
        views=views_of(n) if form.get("views") else (),
        refused_views=REFUSED_VIEWS if form.get("views") else (),
    )
