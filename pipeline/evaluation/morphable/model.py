"""`facefold model`: a morphable model of a store's people, with what it was made of and is worth.

It lies in this room for the loaders' way to choose people, and for what it is tried on. The model
is not weighted: what people differ by is many times what their heads are off by, so that weights by
expected error change nothing that matters (ADR 16 has the figures).
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline import __version__
from pipeline.build.refit_store import same_topology
from pipeline.errors import ModelError, StoreError
from pipeline.evaluation.morphable.curves import curves, curves_png
from pipeline.evaluation.morphable.people import Heads, People, people_of
from pipeline.flame.assets import load_model
from pipeline.flame.embedding import read_embedding
from pipeline.flame.model import FlameModel, LandmarkEmbedding
from pipeline.flame.morphable import (
    Morphable,
    check_counts,
    embedding_of,
    model_arrays,
    morphable_of,
    placed_mutually,
)
from pipeline.store.durable_files import write_file
from pipeline.store.reader import Store, open_store
from pipeline.types import N_SHAPE, Array

Components = Callable[[Heads, int, int], Morphable]
"""People's heads, number of components, seed -> the model."""
EMBEDDED_BY = 5
"""Scans that say where on the template its landmarks lie."""
SIZE_MM = 1e-3
"""A vertex of the file that is off by more is not the one that was written."""
SAID = "facefold"
"""Key of the file's own account, JSON in UTF-8."""


class Asked(NamedTuple):
    """What a user says of a model."""

    store: str
    """Folder or URL."""
    out: Path
    components: int | None = None
    """As many as there are if None, at most N_SHAPE."""
    split: str = "train"
    where: str = ""
    seed: int = 0
    other: FlameModel | None = None
    """Of the same topology: gives expressions, joints and, if the store knows none, landmarks."""
    embedding: Path | None = None
    """Of the model's landmarks, in place of what the store knows."""


def in_memory(heads: Heads, count: int, seed: int) -> Morphable:
    """Exact, of all heads at once; nothing is drawn."""
    return morphable_of(placed_mutually(heads.read()), count)


def make_model(asked: Asked, components: Components = in_memory) -> dict[str, Any]:
    """Writes the model to `asked.out`, its account and curves beside it as .json and .png; returns
    the account.

    The model is that of the people of `asked.split` who may be trained on
    (`people.people_of`). Raises StoreError for a store that does not hold what it takes,
    ModelError for fewer than three people, more components than they have, or heads of no
    plausible size.
    """
    if asked.out.suffix != ".npz":
        raise ModelError(f"{asked.out}: a model is written as .npz; name such a file")
    store = open_store(asked.store)
    faces = store.faces.astype(np.int64)
    if asked.other is not None:
        same_topology(store, asked.other)
    people = people_of(asked.store, store, asked.split, asked.where)
    count = counted(asked, people)
    made = components(people.heads, count, asked.seed)
    landmarks, known_by = landmarks_of(asked, store, faces, made.mean_mm)
    assert store.topology is not None
    arrays = model_arrays(made, faces, store.topology.regions, landmarks, asked.other)
    said = account(asked, store, people, made, known_by, arrays)
    face = written(asked.out, arrays | extras(made, said)).regions["face"]
    said = said | {"curves": curves(made, people, faces, face, asked.seed)}
    write_file(asked.out.with_suffix(".json"), dumped(said))
    title = f"{asked.out.stem}: {len(made)} components"
    write_file(asked.out.with_suffix(".png"), curves_png(said["curves"], title))
    return said


def counted(asked: Asked, people: People) -> int:
    """The number of components. Raises ModelError if the people cannot have so many."""
    most = min(len(people.used) - 1, N_SHAPE)
    count = most if asked.components is None else asked.components
    try:
        check_counts(len(people.used), count)
    except ModelError as fault:
        reasons = "; ".join(f"{len(who)} {why}" for why, who in people.left_out.items())
        left_out = f" (left out: {reasons})" if reasons else ""
        raise ModelError(f"{asked.store}: {fault}{left_out}") from fault
    if count > N_SHAPE:
        raise ModelError(f"--components {count}: expected 1 … {N_SHAPE}, which commands take")
    return count


def landmarks_of(
    asked: Asked, store: Store, faces: Array, mean_mm: Array
) -> tuple[LandmarkEmbedding | None, str]:
    """Where on the template its landmarks lie, and who says so."""
    if asked.embedding is not None:
        return read_embedding(asked.embedding, faces, mean_mm), str(asked.embedding)
    try:
        found, fault = embedding_in(store, faces), ""
    except ModelError as error:
        found, fault = None, f" (in the store, {error})"
    if found is not None:
        return found, "the store"
    if asked.other is not None and asked.other.landmarks is not None:
        return asked.other.landmarks, f"the model {asked.other.name}{fault}"
    return None, f"nobody: name an embedding where the model is used (--embedding){fault}"


def embedding_in(store: Store, faces: Array) -> LandmarkEmbedding | None:
    """What a store knows of it: landmarks lie on every registered mesh, which says in which
    triangles. Raises ModelError if they do not lie there."""
    name = "registered_landmarks_mm"
    rows = np.unique(np.linspace(0, store.n_rows - 1, EMBEDDED_BY).astype(np.int64))
    held = store.read_fields((name, "vertices_mm"), rows)
    return embedding_of(held["vertices_mm"], held[name], faces)


def account(
    asked: Asked,
    store: Store,
    people: People,
    made: Morphable,
    landmarks: str,
    arrays: dict[str, Array],
) -> dict[str, Any]:
    """All that is needed to make the model again, and what may be done with it."""
    licences = people.licences
    return {
        "facefold": __version__,
        "store": asked.store,
        "version": store.version,
        "field": people.heads.field,
        "registered_with": store.model,
        "options": {
            "components": asked.components,
            "split": asked.split,
            "where": asked.where,
            "seed": asked.seed,
            "from": None if asked.other is None else asked.other.name,
            "embedding": None if asked.embedding is None else str(asked.embedding),
        },
        "from_digest": None if asked.other is None else asked.other.digest,
        "people": len(people.used),
        "components": len(made),
        "exact": made.exact,
        "share_of_variance": float(made.variances_mm2.sum() / made.total_mm2),
        "rms_mm": float(np.sqrt(made.total_mm2 / len(made.mean_mm))),
        "expected_error_mm": people.expected_error_mm,
        "landmarks_from": landmarks,
        "left_out": {reason: len(who) for reason, who in people.left_out.items()},
        "licences": [dict(one) for one in licences],
        "commercial": all(one["commercial"] for one in licences),
        "redistribution": all(one["redistribution"] for one in licences),
        "arrays_sha256": {name: digest(array) for name, array in sorted(arrays.items())},
        "people_used": list(people.used),
        "people_left_out": {reason: list(who) for reason, who in people.left_out.items()},
    }


def digest(array: Array) -> str:
    """SHA-256 of an array's type, shape and bytes."""
    sha = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def extras(made: Morphable, said: dict[str, Any]) -> dict[str, Array]:
    """What the file holds besides FLAME's keys."""
    return {
        "mean_mm": made.mean_mm,
        "variances_mm2": made.variances_mm2,
        "total_variance_mm2": np.array(made.total_mm2),
        SAID: np.frombuffer(dumped(said), np.uint8),
    }


def dumped(said: dict[str, Any]) -> bytes:
    return (json.dumps(said, indent=1, ensure_ascii=False) + "\n").encode()


def said_in(path: Path | str) -> dict[str, Any]:
    """The account in a model's file. Raises ModelError for a file without one."""
    with np.load(path, allow_pickle=False) as held:
        if SAID not in held:
            raise ModelError(f"{path}: holds no account; it was not made by `facefold model`")
        found: dict[str, Any] = json.loads(held[SAID].tobytes())
    return found


def written(out: Path, arrays: dict[str, Array]) -> FlameModel:
    """The model of the arrays, which become its file, whole or not at all.

    Raises StoreError if it is none that `load_model` takes.
    """
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    trial = out.with_name(f".{uuid.uuid4().hex}.npz")
    try:
        write_file(trial, packed.getbuffer())
        model = load_model(trial)
        _check_size(model, arrays["mean_mm"])
        trial.replace(out)
    except ModelError as fault:
        raise StoreError(f"the people's mean head is none that commands take: {fault}") from fault
    finally:
        trial.unlink(missing_ok=True)
    return model


def _check_size(model: FlameModel, mean_mm: Array) -> None:
    """Raises ModelError if what is read is not of the size that was written: files of models do not
    say their unit."""
    if np.abs(model.template_mm - mean_mm).max() > SIZE_MM:
        extent = np.ptp(mean_mm, axis=0).max()
        raise ModelError(
            f"it measures {extent:.4g} mm along its longest side, expected a head of 150–600 mm; "
            "does the store hold millimetres?"
        )
