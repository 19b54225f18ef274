"""Heads predicted of people of a store whom no network was trained on, compared as in NoW.

The truth is the person's head at rest (`identity_neutral_mm`): of its vertices those within NoW's
ball around the face that a scanner sees. Their distances to the predicted surface are taken after
seven landmarks and a fit to the surface have aligned it, rigidly (metric) or with scale (aligned),
and pooled over people (Sanyal et al., Learning to Regress 3D Face Shape and Expression from an
Image without 3D Supervision, CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from pipeline.errors import FacefoldError, StoreError
from pipeline.evaluation.alignment.procrustes import procrustes
from pipeline.evaluation.alignment.surface_fit import Fitted, MovedSurface
from pipeline.evaluation.benchmark import (
    STRICT,
    Benchmark,
    Case,
    Cases,
    Choice,
    Finding,
    Given,
    Prediction,
    Row,
    Score,
)
from pipeline.evaluation.crops import face_ball
from pipeline.evaluation.distances import median_mean_std
from pipeline.evaluation.predictions.meshes import mean_head, prediction_file, stem_of
from pipeline.evaluation.protocols.held_out import INNER, check_topology, opened
from pipeline.evaluation.protocols.means import rows_of
from pipeline.evaluation.protocols.now import BALL
from pipeline.evaluation.protocols.truths import (
    Truth,
    extra_meshes,
    read_with_seven,
    scored,
    seven_mm,
)
from pipeline.flame.model import FlameModel
from pipeline.store.paths import FILES
from pipeline.store.reader import Store, open_store
from pipeline.store.schema import NON_METRIC
from pipeline.text import NAME_BYTES
from pipeline.text import file_name as plain_name
from pipeline.types import Array

METRIC, ALIGNED = "metric", "aligned"
SPLIT = "test"
"""What is scored if nothing is said."""
UNSEEN = (*INNER, "mouth_interior")
"""Regions of the truth that are not compared, because no scan shows them."""
PERSON = "identity_row"
"""Fact of a case: the person's row."""
ANOTHER_SET = "another_set"


def file_name(person: str) -> str:
    """The stem of a person's prediction: letters, figures and `_ . - ~` stay, all else is
    percent-encoded as in URLs, so that no two people share a file ("made:0042" -> "made%3A0042").
    A name that is too long ends in a hash of the whole."""
    name = quote(person, safe="", errors="surrogatepass")
    if len(name) > NAME_BYTES:
        return plain_name(person)
    return f"%2E{name[1:]}" if name.startswith(".") else name or "%"


def people_in(store: Store, split: str) -> dict[str, int]:
    """Person -> their row among the store's people, by row: all who have a scan in the split and a
    head at rest made of scans of true size only.

    Raises StoreError if there is none.
    """
    if not store.form.identities:
        raise StoreError(f"{store.path}: keeps no heads at rest of its people; build it again")
    splits = np.asarray(store.columns("split")["split"].to_pylist(), str)
    sizeless = np.char.endswith(splits, NON_METRIC)
    rows = np.setdiff1d(store.identity_row[splits == split], store.identity_row[sizeless])
    rows = rows[store.read_identities("identity_scans", rows) > 0]
    if not len(rows):
        there = ", ".join(sorted(set(splits[~sizeless].tolist()))) or "none"
        raise StoreError(
            f"{store.path}: no people in the split {split!r} whose head at rest is made of scans "
            f"of true size; name one of {there} (--choose split=…)"
        )
    names = store.table("identities")["identity"].take(rows).to_pylist()
    return dict(zip(names, rows.tolist(), strict=True))


def cases(given: Given) -> Cases:
    """Every person of the split.

    Raises StoreError for a split without people and a model of another topology than the store's,
    FacefoldError for a model without landmarks and where no predictions are named.
    """
    store = opened(open_store(given.root).path)
    _check(store, given)
    split, files = given.choices.get("split") or SPLIT, store.path / FILES
    found = [
        Case(
            person,
            person,
            truth=(files,),
            prediction=prediction_file(given.predictions, file_name(person)),
            facts={PERSON: float(row)},
        )
        for person, row in people_in(store, split).items()
    ]
    extra = extra_meshes(given, found)
    return Cases(tuple(found), tuple(_said_of(extra, store, split)), extra)


def _check(store: Store, given: Given) -> None:
    if given.predictions == given.root:
        raise FacefoldError(
            "--predictions: got none but the store, expected the folder of the predictions"
        )
    check_topology(store, given)
    if given.model.landmarks is None:
        raise FacefoldError(
            f"the model {given.model.name} has no landmarks, which truths are cropped and "
            "predictions aligned by; name its embedding by --embedding"
        )


def _said_of(extra: Sequence[Path], store: Store, split: str) -> Iterator[Finding]:
    if split.startswith("train"):
        yield Finding(
            ANOTHER_SET,
            f"the people of {split} are those that networks are trained on, expected others; score "
            "test or val to say how a network generalises",
        )
    names = {file_name(name): name for name in store.table("identities")["identity"].to_pylist()}
    others = [names[stem_of(path)] for path in extra if stem_of(path) in names]
    if others:
        yield Finding(
            ANOTHER_SET,
            f"{len(others)} predictions are of people of other splits, such as {others[0]}, "
            f"expected those of {split} only; they are left out: --choose split=… scores them",
            figures={"predictions": float(len(others))},
        )


def face_of(store: Store, row: int, model: FlameModel) -> Truth:
    """What counts of a person's head: see this file's first lines."""
    head = store.read_identities("identity_neutral_mm", [row])[0].astype(np.float64)
    assert model.landmarks is not None and store.topology is not None  # `cases` has checked both
    whole = Truth(head, model.faces, model.landmarks.positions_68(head, model.faces))
    seen = face_ball(whole.seven_mm, BALL).holds(head)
    for name in UNSEEN:
        seen[store.topology.regions.get(name, [])] = False
    return whole.part(seen)


def fits(face: Truth, seven: Array, vertices_mm: Array, faces: Array) -> dict[str, Fitted]:
    """Mode -> where a predicted surface (V,3), (F,3) with its seven landmarks (7,3) comes to lie,
    and the distances (N,) mm from the truth's vertices to it there."""
    surface, found = MovedSurface(vertices_mm, faces), dict[str, Fitted]()
    for mode, scaled in ((METRIC, False), (ALIGNED, True)):
        start = procrustes(seven, face.seven_mm, scaled=scaled)
        (found[mode],) = surface.fits(face.vertices_mm, [start], scaled)
    return found


def score(case: Case, prediction: Prediction, given: Given) -> list[Score]:
    """Both modes."""
    face = face_of(opened(case.truth[0].parent), int(case.facts[PERSON]), given.model)
    vertices = prediction.unit_mm * prediction.vertices
    found = fits(face, seven_mm(prediction), vertices, prediction.faces)
    return [
        scored(mode, STRICT, fitted.distances.astype(np.float32), face, fitted.moved)
        for mode, fitted in found.items()
    ]


def rows(scored: Sequence[tuple[Case, Sequence[Score]]]) -> list[Row]:
    """By mode: distances of all people together, not a mean of people."""
    return rows_of(scored, lambda of: median_mean_std([score.distances for score in of]))


PEOPLE = Benchmark(
    "Held-out people of a store",
    "the store's own people; distances after Sanyal et al., CVPR 2019 (NoW)",
    cases,
    read_with_seven,
    score,
    rows,
    lambda case, given: mean_head(given),
    choices={"split": Choice("whose people are asked for", (), SPLIT)},
    curve_limit=5.0,
)
