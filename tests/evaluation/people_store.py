"""Stores of made people for tests of morphable models: one scan each, and a head at rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.flame.model import FlameModel
from pipeline.store import ModelTag, create_staging, publish, write_shard
from pipeline.store.schema import IDENTITY
from pipeline.store.topology import Topology
from pipeline.types import Array
from tests.store.random_store import random_people, random_rows

IN_SHARD = 16


def heads_of(model: FlameModel, count: int, seed: int, components: int = 10) -> Array:
    """(count,V,3) mm float32 of the model's first identity components."""
    drawn = np.random.default_rng(seed).normal(size=(count, components))
    moved = np.einsum("ns,vds->nvd", drawn, model.shape_basis_mm[..., :components])
    return (model.template_mm + moved).astype(np.float32)


def write_people(
    store: Path,
    model: FlameModel,
    heads: Array,
    told: Sequence[Mapping[str, Any]] = ({},),
    labels: bool = True,
    scans: int = 1,
    landmarks: bool = True,
    of_people: Sequence[Mapping[str, Any]] = ({},),
    topology: bool = True,
) -> Path:
    """Publishes them: person i has `scans` scans of their head, and with `labels` a row. `told`,
    over and over, changes rows of the manifest, `of_people` those of identities."""
    n, v = len(heads) * scans, len(model.template_mm)
    rows, each = random_rows(n, n_vertices=v), np.repeat(heads, scans, axis=0)
    rows |= {"vertices_mm": each, "neutral_mm": each}
    rows["registered_landmarks_mm"] = np.full((n, 68, 3), np.nan, np.float32)
    if landmarks and model.landmarks is not None:
        found = [model.landmarks.positions_68(head, model.faces) for head in each]
        rows["registered_landmarks_mm"] = np.array(found, np.float32)
    people = random_people(len(heads), n_vertices=v)
    people |= {
        "identity_neutral_mm": heads,
        "identity_expected_error_mm": np.full((len(heads), v), 0.5, np.float32),
        "identity_scans": np.full(len(heads), scans, np.int32),
    }
    tag = ModelTag.of(model)
    form: dict[str, Any] = {"topology": Topology.of(model)} if topology else {}
    staging = create_staging(store, n, tag, IN_SHARD, identities=len(heads) * labels, **form)
    receipts = [write_shard(staging, k, some, tag.digest) for k, some in shards(rows, n)]
    if labels:
        receipts += [
            write_shard(staging, k, some, tag.digest, IDENTITY)
            for k, some in shards(people, len(heads))
        ]
    manifest = [row(i, i // scans) | told[i // scans % len(told)] for i in range(n)]
    named = [
        {"identity": f"person:{i:05d}"} | of_people[i % len(of_people)] for i in range(len(heads))
    ]
    return publish(store, staging, receipts, manifest, identities=named if labels else ())


def row(scan: int, person: int) -> dict[str, Any]:
    """Every fifth person in val."""
    return {
        "scan_id": f"s:scan_{scan}",
        "source": "s",
        "subject": f"{person}",
        "identity": f"person:{person:05d}",
        "split": "val" if person % 5 == 0 else "train",
        "expression": "neutral",
        "neutral": True,
        "verdict": "accept",
        "licence": "open",
        "commercial": True,
        "redistribution": True,
        "metric": True,
    }


def shards(rows: Mapping[str, Any], n: int) -> list[tuple[int, dict[str, Any]]]:
    starts = range(0, n, IN_SHARD)
    return [
        (k, {name: x[start : start + IN_SHARD] for name, x in rows.items()})
        for k, start in enumerate(starts)
    ]
