"""How well a store's registrations, their coefficients, and a morphable model explain its scans.

The truth is the scans' own points, which the store keeps beside what was registered to them. They
are compared where they stand, in millimetres: nothing is aligned, and nothing scaled. On people
that the model was not made from, `model` and `model at rest` are its generalisation (Styner et al.,
Evaluation of 3D correspondence methods for model building, IPMI 2003).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.build.refit_store import same_topology
from pipeline.errors import StoreError
from pipeline.evaluation.alignment.procrustes import procrustes
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
    no_points,
)
from pipeline.evaluation.crops import faces_within
from pipeline.evaluation.distances import median_mean_std, to_surface
from pipeline.evaluation.protocols.means import rows_of
from pipeline.quality.surface import CLUTTER_MM
from pipeline.registration.refit import FEWEST, refit
from pipeline.store.paths import FILES
from pipeline.store.reader import Store, open_store
from pipeline.store.schema import NON_METRIC
from pipeline.store.validity_bits import unpack_validity
from pipeline.types import Array

REGISTRATION, COEFFICIENTS, MODEL = "registration", "coefficients", "model"
MODEL_AT_REST = "model at rest"
MODES = (REGISTRATION, COEFFICIENTS, MODEL, MODEL_AT_REST)
"""Of a scan: the registered vertices; what the store's coefficients make of the store's model;
what the given model makes of them. Of a person: what the given model's identity makes of the head
at rest, vertex by vertex."""
ROW, PERSON = "row", "identity_row"
"""Facts of a case: of which row of the scans it is, or of the people."""
ALL, NEUTRAL = "all", "neutral"
INNER = ("eyeballs", "hidden", "boundary")
"""Regions that no scanner sees, or that end in nothing: points nearest to them are not compared."""


@dataclass(frozen=True, eq=False)
class Explained(Prediction):
    """What is compared, by mode."""

    meshes: Mapping[str, Array] = field(default_factory=dict)
    """Mode -> (V,3) mm in the truth's frame."""


def cases(given: Given) -> Cases:
    """Every scan of the split, and every person in it whose head at rest is stored.

    Raises StoreError for a store without points, for a split without scans, and for a model of
    another topology than the store's.
    """
    store = opened(open_store(given.root).path)
    _check(store, given)
    split, neutral = given.choices.get("split", ""), given.choices.get("scans") == NEUTRAL
    table = store.columns("scan_id", "identity", "source", "split", "neutral").to_pydict()
    chosen = [
        i
        for i in range(store.n_rows)
        if table["split"][i] == split and (table["neutral"][i] or not neutral)
    ]
    if not chosen:
        there = ", ".join(sorted(set(table["split"]))) or "none"
        kind = "neutral scans" if neutral else "scans"
        raise StoreError(
            f"{store.path}: no {kind} in the split {split!r}; name one of {there} (--from-store)"
        )
    files = store.path / FILES
    found = [
        Case(
            id=table["scan_id"][i],
            person=table["identity"][i],
            group=table["source"][i],
            truth=(files,),
            prediction=files,
            facts={ROW: float(i)},
        )
        for i in chosen
    ]
    if store.form.identities:
        people = dict(zip(store.identity_row[chosen].tolist(), found, strict=True))
        found += [
            Case(f"{one.person} at rest", one.person, "", (files,), files, facts={PERSON: float(i)})
            for i, one in sorted(people.items())
        ]
    return Cases(tuple(found), _findings(split))


def _findings(split: str) -> tuple[Finding, ...]:
    said = []
    if split.startswith("train"):
        said.append(
            f"the people of {split} are those that models of this store are made from, expected "
            "others; score val or test to say how a model generalises"
        )
    if split.endswith(NON_METRIC):
        said.append(
            f"the scans of {split} have no true size, and no distance in millimetres either; score "
            f"{split.removesuffix(NON_METRIC)}"
        )
    return tuple(Finding("another_set", text) for text in said)


def _check(store: Store, given: Given) -> None:
    if "points_mm" not in store.fields:
        raise StoreError(
            f"{store.path}: keeps no points of its scans, which registrations are compared with; "
            "build it again with points_per_scan (16384 if nothing is said)"
        )
    check_topology(store, given)


def check_topology(store: Store, given: Given) -> None:
    """Raises StoreError for a model of another topology than the store's."""
    try:
        same_topology(store, given.model)
    except StoreError as fault:
        raise StoreError(f"{fault}; name one of the store's topology with --model") from fault


@lru_cache(maxsize=2)
def opened(version: Path) -> Store:
    """A version, which never changes."""
    return open_store(version)


def _store_of(case: Case) -> Store:
    return opened(case.truth[0].parent)


def read(case: Case, given: Given) -> Prediction:
    """What the store holds of the scan, or of the person, and what the model makes of it."""
    store = _store_of(case)
    if PERSON in case.facts:
        head = _head_at_rest(store, case)
        return _explained(head, given, {MODEL_AT_REST: _at_rest(head, _face(store), given)})
    names = ("vertices_mm", "validity", "expected_error_mm", "offset_mm")
    held = store.read_fields(names, [int(case.facts[ROW])])
    valid = unpack_validity(held["validity"], store.form.model.n_vertices)
    if valid.sum() < FEWEST:
        raise StoreError(
            f"{store.path}: scan {case.id}: {valid.sum()} valid vertices, expected at least "
            f"{FEWEST}; leave it out (facefold subset)"
        )
    registered = held["vertices_mm"].astype(np.float64)
    fitted = refit(held["vertices_mm"], valid, given.model, held["expected_error_mm"])
    meshes = {
        REGISTRATION: registered[0],
        COEFFICIENTS: registered[0] - held["offset_mm"][0],
        MODEL: registered[0] - fitted.offset_mm[0],
    }
    return _explained(registered[0], given, meshes)


def mean_head(case: Case, given: Given) -> Prediction:
    """The model's template, laid rigidly onto the face of the registration or of the person."""
    store, template = _store_of(case), given.model.template_mm
    face, of_person = _face(store), PERSON in case.facts
    head = _head_at_rest(store, case) if of_person else _registered(store, case)
    placed = procrustes(template[face], head[face], scaled=False).apply(template)
    modes = [mode for mode in MODES if (mode == MODEL_AT_REST) == of_person]
    return _explained(placed, given, dict.fromkeys(modes, placed))


def _explained(vertices: Array, given: Given, meshes: Mapping[str, Array]) -> Explained:
    model, marks = given.model, no_points()
    if model.landmarks is not None:
        marks = model.landmarks.positions_68(vertices, model.faces)
    return Explained(vertices, model.faces, marks, in_model_topology=True, meshes=meshes)


def _registered(store: Store, case: Case) -> Array:
    """(V,3) float64 mm."""
    return store.row("vertices_mm", int(case.facts[ROW])).astype(np.float64)


def _head_at_rest(store: Store, case: Case) -> Array:
    """(V,3) float64 mm."""
    found = store.read_identities("identity_neutral_mm", [int(case.facts[PERSON])])
    head: Array = found[0].astype(np.float64)
    return head


def _face(store: Store) -> Array:
    """(V,) bool: the face, without what no scanner sees."""
    topology = store.topology
    assert topology is not None  # `same_topology` read its triangles
    face: Array = np.zeros(store.form.model.n_vertices, bool)
    face[topology.regions["face"]] = True
    for name in INNER:
        face[topology.regions.get(name, [])] = False
    return face


def _at_rest(head: Array, face: Array, given: Given) -> Array:
    """(V,3) what identity and a rigid motion explain of a head: least squares on the face, without
    a prior, as generalisation is measured."""
    model = given.model
    to_model = procrustes(head[face], model.template_mm[face], scaled=False)
    placed = to_model.apply(head)
    turns = np.cross(np.eye(3), placed[:, None]).swapaxes(1, 2)  # what is left of the motion
    shifts = np.broadcast_to(np.eye(3), turns.shape)
    columns = np.concatenate([model.shape_basis_mm, shifts, turns], axis=2)
    on_face = columns[face].reshape(3 * int(face.sum()), -1)
    left = (placed - model.template_mm)[face].ravel()
    rest = model.template_mm + columns @ np.linalg.lstsq(on_face, left, rcond=None)[0]
    back: Array = (rest - to_model.translation) @ to_model.rotation
    return back


def score(case: Case, prediction: Prediction, given: Given) -> list[Score]:
    """Unsigned distances from the face's points to each mesh; of heads at rest, vertex to vertex.

    Points of the face are those whose closest place on the registration is a vertex's of the face,
    at most 20 mm off: what is farther is hair, hands or clothes. `left_out_share` says how many of
    the face's points that were. Raises StoreError for a scan without points there.
    """
    assert isinstance(prediction, Explained)
    store = _store_of(case)
    face = _face(store)
    if PERSON in case.facts:
        head, mesh = _head_at_rest(store, case), prediction.meshes[MODEL_AT_REST]
        distances = np.linalg.norm(mesh - head, axis=1)[face]
        triangles = faces_within(given.model.faces, face)
        return [_scored(MODEL_AT_REST, distances, head[face], {}, triangles)]
    points, left_out = _face_points(store, case, face)
    meshes, faces = prediction.meshes, given.model.faces
    different = {id(mesh): mesh for mesh in meshes.values()}  # the mean head is one for all modes
    apart = {key: to_surface(points, mesh, faces).distance for key, mesh in different.items()}
    shares = {"left_out_share": left_out}
    return [_scored(mode, apart[id(mesh)], points, shares) for mode, mesh in meshes.items()]


def _scored(
    mode: str,
    distances: Array,
    where_mm: Array,
    shares: Mapping[str, float],
    faces: Array | None = None,
) -> Score:
    figures = {
        "mean_mm": float(distances.mean()),
        "median_mm": float(np.median(distances)),
        "rmse_mm": float(np.sqrt(np.square(distances).mean())),
    }
    exact = distances.astype(np.float32)
    return Score(mode, STRICT, exact, "", {**figures, **shares}, where_mm, faces)


def _face_points(store: Store, case: Case, face: Array) -> tuple[Array, float]:
    """(N,3) float64 mm of the scan, and which share of those at the face is too far from it."""
    points = store.read_ragged("points_mm", int(case.facts[ROW])).astype(np.float64)
    if len(points):
        closest = to_surface(points, _registered(store, case), store.faces)
        vertex = store.faces[closest.triangle, closest.barycentric.argmax(1)]
        of_face, near = face[vertex], closest.distance < CLUTTER_MM
        points = points[of_face & near]
    if not len(points):
        raise StoreError(
            f"{store.path}: scan {case.id} keeps no point of its face, which is what registrations "
            "are compared with; look at the scan, or leave it out (facefold subset)"
        )
    return points, float(1 - near[of_face].mean())


def rows(scored: Sequence[tuple[Case, Sequence[Score]]]) -> list[Row]:
    """By mode: of all, and of each source; distances of all scans together."""
    return rows_of(scored, lambda scores: median_mean_std([s.distances for s in scores]))


STORE = Benchmark(
    title="Held-out scans of a store",
    citation="the store's own scans; generalisation: Styner et al., IPMI 2003",
    cases=cases,
    read=read,
    score=score,
    rows=rows,
    mean_head=mean_head,
    choices={
        "split": Choice("split whose scans are compared (--from-store)", ()),
        "scans": Choice("which of its scans", (ALL, NEUTRAL)),
    },
    curve_limit=5.0,
    neutral=False,
)
