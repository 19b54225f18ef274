"""A store of made people for `training.py`: heads of the stand-in model, one at rest and three with
expressions of each, rendered once each, every picture in other colours.

Scans, registrations and labels are the truth: what is measured is training, not registration.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.flame.assets import load_model
from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.registry.views import Views
from pipeline.store import ModelTag, create_staging, fields, publish, write_shard
from pipeline.store.form import form_of
from pipeline.store.rows import view_fields
from pipeline.store.schema import IDENTITY, SCAN, VIEW
from pipeline.store.topology import Topology
from pipeline.store.validity_bits import pack_validity
from pipeline.synthetic.hair import HeadFrame
from pipeline.synthetic.paint import Painter, complexion
from pipeline.synthetic.people import landmarks_68
from pipeline.types import Array, RawScan
from pipeline.views.making import make_views
from pipeline.views.scene import RegisteredScan
from pipeline.views.view import View

SOURCE = "made"
VIEWS_A_PERSON = 4
FOCAL_PX, DISTANCE_MM = 900.0, 1000.0
"""Of the camera of every picture, before it is cropped to the face."""
CAMERAS = Views(
    renders=1,
    yaw_deg=(-40, 40),
    pitch_deg=(-20, 20),
    roll_deg=(-10, 10),
    distance_mm=(DISTANCE_MM, DISTANCE_MM),
    focal_px=(FOCAL_PX, FOCAL_PX),
)
SPREAD, MOST = 1.6, 4.0
"""Standard deviation of the people's coefficients, and their bound. With 1 the stand-in's people
differ less than real ones; with 1.6 the mean head scores about what FLAME's does on NoW: 1.2."""
N_EXPRESSION = 20
"""Components that expressions are made of."""
JAW_RAD = 0.2
TURN_RAD = 0.1
WORDS = ("neutral", "expression 1", "expression 2", "expression 3")


@dataclass(frozen=True)
class People:
    """How many there are of each split, and the seed that they are drawn from."""

    train: int = 600
    val: int = 40
    test: int = 80
    seed: int = 0

    @property
    def splits(self) -> list[str]:
        """Of each person."""
        return [s for s in ("train", "val", "test") for _ in range(getattr(self, s))]


@dataclass(frozen=True, eq=False)
class Head:
    """One scan of a person, as it was made."""

    shape: Array  # (300,)
    expression: Array  # (100,)
    pose: Array  # (15,)
    translation_mm: Array  # (3,)
    vertices_mm: Array  # (5023,3) float32
    view: dict[str, Array]
    """Its row of the arrays of views."""
    facts: dict[str, Any]
    """Its row of their table."""


@lru_cache(maxsize=1)
def head_model() -> FlameModel:
    return load_model("stand-in")


@lru_cache(maxsize=1)
def painter() -> Painter:
    return Painter.of(head_model(), HeadFrame.of(head_model()))


def shape_of(seed: int, person: int) -> Array:
    """(300,) a person's coefficients."""
    drawn = np.random.default_rng([seed, 1, person]).normal(scale=SPREAD, size=300)
    return np.clip(drawn, -MOST, MOST)


def heads_of(seed: int, person: int) -> list[Head]:
    """The person's scans: at rest, then with expressions."""
    model = head_model()
    shape = shape_of(seed, person)
    rng = np.random.default_rng([seed, 2, person])
    expression, pose = np.zeros((VIEWS_A_PERSON, 100)), np.zeros((VIEWS_A_PERSON, 15))
    expression[1:, :N_EXPRESSION] = rng.normal(size=(VIEWS_A_PERSON - 1, N_EXPRESSION))
    pose[:, :3] = rng.normal(scale=TURN_RAD, size=(VIEWS_A_PERSON, 3))
    pose[1:, 6] = np.abs(rng.normal(scale=JAW_RAD, size=VIEWS_A_PERSON - 1))
    translation = rng.uniform(-20, 20, (VIEWS_A_PERSON, 3))
    given = np.tile(shape, (VIEWS_A_PERSON, 1)), expression, pose, translation
    tensors = to_tensors(model, "cpu", torch.float64)
    posed = pose_vertices(tensors, *map(torch.from_numpy, given)).numpy().astype(np.float32)
    found = []
    for k in range(VIEWS_A_PERSON):
        view = view_of(seed, person, k, posed[k])
        made = *(values[k] for values in given[1:]), posed[k]
        found.append(Head(shape, *made, view_fields(view), {"view": view.name, **view.facts}))
    return found


def view_of(seed: int, person: int, scan: int, vertices_mm: Array) -> View:
    """A scan's picture, in colours of its own: by those of a person, networks would learn few
    hundred people by heart."""
    model, paint = head_model(), painter()
    who = complexion(seed, VIEWS_A_PERSON * person + scan)
    ball = np.zeros(len(vertices_mm))
    ball[model.regions["eyeballs"]] = 1
    colours = np.clip(paint.colours(who, model.template_mm, ball), 0, 255).astype(np.uint8)
    raw = RawScan(vertices_mm.astype(np.float64), model.faces, colours=colours)
    marks = landmarks_68(model, vertices_mm).astype(np.float32)
    registered = RegisteredScan(f"{person}/{scan}", raw, np.eye(4), vertices_mm, marks)
    made, refused = make_views(registered, (), CAMERAS, model, seed)
    if refused:
        raise SystemExit(f"person {person}, scan {scan}: {refused[0].refusal.reason}")
    return made[0]


def _of_person(task: tuple[int, int]) -> list[Head]:
    torch.set_num_threads(1)
    return heads_of(*task)


def write_people(folder: Path, people: People, processes: int = 2) -> Path:
    """Writes the store and returns its folder; one that is there already is used again."""
    store = folder / f"people-{people.train}-{people.val}-{people.test}-{people.seed}.zarr"
    if (store / "HEAD").exists():
        return store
    splits = people.splits
    with ProcessPoolExecutor(processes) as pool:
        tasks = [(people.seed, person) for person in range(len(splits))]
        found = list(pool.map(_of_person, tasks, chunksize=4))
    heads = [head for own in found for head in own]
    model = head_model()
    tag, topology = ModelTag.of(model), Topology.of(model)
    staging = create_staging(
        store, len(heads), tag, topology=topology, identities=len(found), views=len(heads)
    )
    receipts = []
    for row_of, made, rows_of in (
        (SCAN, heads, scan_rows),
        (IDENTITY, [own[0] for own in found], people_rows),
        (VIEW, heads, view_rows),
    ):
        part, start = form_of(staging).part(row_of), 0
        for shard in range(part.n_shards):
            stop = start + part.scans(shard)
            rows = rows_of(made[start:stop], model)
            receipts.append(write_shard(staging, shard, rows, tag.digest, row_of))
            start = stop
    manifest = [
        {
            "scan_id": f"{SOURCE}:{person}/{k}",
            "source": SOURCE,
            "subject": str(person),
            "identity": f"{SOURCE}:{person:04d}",
            "split": split,
            "expression": word,
            "expression_class": "neutral" if k == 0 else "other",
            "neutral": k == 0,
            "verdict": "accept",
            "landmark_source": "file",
            "metric": True,
        }
        for person, split in enumerate(splits)
        for k, word in enumerate(WORDS)
    ]
    views = [
        {"scan_id": row["scan_id"], **head.facts} for row, head in zip(manifest, heads, strict=True)
    ]
    names = sorted({row["identity"] for row in manifest})
    publish(store, staging, receipts, manifest, identities=[{"identity": n} for n in names],
            views=views)  # fmt: skip
    return store


def scan_rows(heads: Sequence[Head], model: FlameModel) -> dict[str, Array]:
    """Every array of a scan's row."""
    n, v = len(heads), len(model.template_mm)
    rows = {name: np.zeros((n, *field.shape), field.dtype) for name, field in fields(v).items()}
    rest = [model.template_mm + model.shape_basis_mm @ head.shape for head in heads]
    marks = np.stack([landmarks_68(model, head.vertices_mm) for head in heads])
    known = {
        "vertices_mm": np.stack([head.vertices_mm for head in heads]),
        "neutral_mm": np.stack(rest),
        "shape": np.stack([head.shape for head in heads]),
        "expression": np.stack([head.expression for head in heads]),
        "pose": np.stack([head.pose for head in heads]),
        "translation_mm": np.stack([head.translation_mm for head in heads]),
        "landmarks_mm": marks,
        "registered_landmarks_mm": marks,
        "landmark_confidence": np.ones((n, 68)),
        "weight": np.ones((n, v)),
        "source_to_canonical": np.tile(np.eye(4), (n, 1, 1)),
        "unit_factor_mm": np.ones(n),
    }
    rows |= {name: values.astype(rows[name].dtype) for name, values in known.items()}
    return rows | {"validity": pack_validity(np.ones((n, v), bool))}


def people_rows(heads: Sequence[Head], model: FlameModel) -> dict[str, Array]:
    """Every array of a person's row, of one scan of each."""
    n, v = len(heads), len(model.template_mm)
    shapes = [head.shape for head in heads]
    rest = [model.template_mm + model.shape_basis_mm @ shape for shape in shapes]
    return {
        "identity_neutral_mm": np.stack(rest).astype(np.float32),
        "identity_shape": np.stack(shapes).astype(np.float32),
        "identity_expected_error_mm": np.zeros((n, v), np.float32),
        "identity_scans": np.full(n, VIEWS_A_PERSON, np.int32),
    }


def view_rows(heads: Sequence[Head], model: FlameModel) -> dict[str, Array]:
    """Every array of a view's row."""
    return {name: np.stack([head.view[name] for head in heads]) for name in heads[0].view}
