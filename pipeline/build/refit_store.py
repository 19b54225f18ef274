"""A store's coefficients made anew for another model of the same topology: `facefold refit`.

Vertices, heads at rest and all that was measured on them stay those of the registration; the fields
that say what a model makes of them are replaced. They are declared as that model's, so that nobody
takes them for the store's own.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pipeline.build.tally import Tally
from pipeline.errors import StoreError
from pipeline.flame.model import FlameModel
from pipeline.registration.anchor import anchored
from pipeline.registration.consensus import explained
from pipeline.registration.refit import FEWEST, Refitted, refit
from pipeline.registration.template import prepare_template
from pipeline.store.attached import Attached
from pipeline.store.attaching import folder_of, with_fields
from pipeline.store.reader import Store, open_store
from pipeline.store.schema import Field, ModelTag
from pipeline.store.validity_bits import unpack_validity
from pipeline.types import N_SHAPE, Array

OF_SCANS = ("shape", "expression", "pose", "translation_mm", "offset_mm")
OF_PEOPLE = "identity_shape"
ROWS_AT_ONCE = 256


class RefitStore(NamedTuple):
    """What `refit_store` did."""

    version: Path
    scans: int
    people: int
    residual_mm: float
    """Median over scans of what the coefficients leave of valid vertices, root mean square."""
    before_mm: float
    """The same of the coefficients that the store had."""


def refit_store(store: Path | str, model: FlameModel, seen: Tally | None = None) -> RefitStore:
    """Publishes a version whose coefficients are those of `model`; all else is linked.

    Coefficients are fitted to the stored vertices (`registration.refit`), weighted by validity and
    expected error: shape, expression, pose, translation_mm and offset_mm of every scan, and
    identity_shape of every person, explained from identity_neutral_mm. Rows are read and written a
    shard at a time. `seen` is advanced by scans. Raises StoreError for a URL, and if the model's
    vertices or triangles are not the store's.
    """
    source = open_store(folder_of(store))
    same_topology(source, model)
    tag, seen = ModelTag.of(model), seen or Tally()
    seen.phase(f"fitting {model.name}", source.n_rows, "scans")
    with ExitStack() as files:
        arrays = {n: files.enter_context(room(source, source.fields[n])) for n in OF_SCANS}
        residual, before = np.zeros(source.n_rows), np.zeros(source.n_rows)
        for rows in batches(source.n_rows):
            found, before[rows] = refitted_rows(source, rows, model)
            for name, array in arrays.items():
                array[rows] = getattr(found, name)
            residual[rows] = found.residual_mm
            seen.advance(rows.stop - rows.start)
        if source.form.identities:
            arrays[OF_PEOPLE] = shapes_of_people(source, model)
        seen.phase("publishing")
        version = with_fields(store, declared(source, arrays, tag), said_of(source, tag))
    people = source.form.identities
    return RefitStore(
        version, source.n_rows, people, float(np.median(residual)), float(np.median(before))
    )


def same_topology(source: Store, model: FlameModel) -> None:
    """Raises StoreError unless the model has the store's vertices and triangles."""
    vertices = source.form.model.n_vertices
    if len(model.template_mm) != vertices:
        raise StoreError(
            f"{source.path}: of {vertices} vertices, the model {model.name} has "
            f"{len(model.template_mm)}; a model of another topology needs a registration of its own"
        )
    if len(model.faces) != len(source.faces) or (model.faces != source.faces).any():
        raise StoreError(
            f"{source.path}: the triangles of the model {model.name} are not those of the store: "
            "its vertices mean something else; a model of another topology needs a registration of "
            "its own"
        )


def batches(count: int) -> Iterator[slice]:
    """0 … count - 1 in pieces."""
    for start in range(0, count, ROWS_AT_ONCE):
        yield slice(start, min(start + ROWS_AT_ONCE, count))


@contextmanager
def room(source: Store, field: Field) -> Iterator[Array]:
    """An array of all the field's rows in a file of no name beside the store: memory may be too
    small for it. Raises OSError on a full disk."""
    with tempfile.TemporaryFile(dir=source.path.parent) as file:
        # writing to mapped pages that the disk has no room for would kill the process
        os.posix_fallocate(file.fileno(), 0, source.n_rows * field.row_bytes)
        yield np.memmap(file, field.dtype, "r+", shape=(source.n_rows, *field.shape))


def refitted_rows(source: Store, rows: slice, model: FlameModel) -> tuple[Refitted, Array]:
    """Coefficients of scans, and (n,) mm that those they had leave of valid vertices."""
    names = ("vertices_mm", "validity", "expected_error_mm", "offset_mm")
    held = source.read_fields(names, rows)
    valid = unpack_validity(held["validity"], source.form.model.n_vertices)
    few = np.flatnonzero(valid.sum(1) < FEWEST)
    if len(few):
        scan = source.columns("scan_id")["scan_id"][rows.start + int(few[0])]
        raise StoreError(
            f"{source.path}: scan {scan}: {valid[few[0]].sum()} valid vertices, expected at least "
            f"{FEWEST}; leave it out (facefold subset)"
        )
    found = refit(held["vertices_mm"], valid, model, held["expected_error_mm"])
    square = np.square(held["offset_mm"], dtype=np.float64).sum(2) * valid
    return found, np.sqrt(square.sum(1) / valid.sum(1))


def shapes_of_people(source: Store, model: FlameModel) -> Array:
    """(people,300) float32: what the model's identity explains of each person's head at rest."""
    template = prepare_template(model, "cpu", 0)
    shapes = np.zeros((source.form.identities, N_SHAPE), np.float32)
    n = len(template.tensors.shape_basis)
    for rows in batches(len(shapes)):
        heads = torch.from_numpy(source.read_identities("identity_neutral_mm", rows))
        for row, head in zip(range(rows.start, rows.stop), anchored(template, heads), strict=True):
            shapes[row, :n] = explained(template, head)[0].numpy()
    return shapes


def declared(
    source: Store, arrays: Mapping[str, Array], tag: ModelTag
) -> dict[str, tuple[Field, Array]]:
    """The arrays with what they are: the standard fields, of that model."""
    fields: dict[str, tuple[Field, Array]] = {}
    for name, array in arrays.items():
        said = {key: getattr(source.fields[name], key) for key in Field.__dataclass_fields__}
        fields[name] = Attached(**said | {"stage": "refit"}, model=tag), array
    return fields


def said_of(source: Store, tag: ModelTag) -> dict[str, Any]:
    """Of provenance."""
    return {"by": "facefold refit", "model": asdict(tag), "of": source.path.name}
