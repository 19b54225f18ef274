"""Samples are the views that were written, or hold some of them, each with its scan and person."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_store import make_store
from torch.utils.data import DataLoader
from view_store import (
    MANIFEST,
    PEOPLE,
    PERSON_OF,
    ROWS,
    SCAN_OF,
    SCANS,
    SHOWN,
    VIEWS,
    make_view_store,
)

from pipeline.errors import FacefoldError, StoreError
from pipeline.loaders import FaceDataset, FaceLoader, InOrder, Shuffled, identities
from pipeline.store import fields, open_store, push
from pipeline.store.attached import Attached, own_dims
from pipeline.store.schema import IDENTITY, SCAN, VIEW
from pipeline.types import Array

NAMES = tuple(fields(64, VIEW))
MASKS = {"visibility": 64, "parts": 224}
DIMS = {of: own_dims(f"my_{of}", (2, 3)) for of in (SCAN, IDENTITY, VIEW)}
BESIDE = ("shape", "identity_shape", "views.row", "manifest.row", "views.kind", "coverage")
TRAIN = [k for k in range(len(VIEWS)) if MANIFEST[SCAN_OF[k]]["split"] == "train"]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views") / "shown.zarr"
    make_view_store(folder)
    return folder


def stored(name: str, rows: Array) -> Array:
    values: Array = SHOWN[name][rows]
    if name in MASKS:
        bits = np.unpackbits(values, axis=-1, count=MASKS[name], bitorder="little")
        return bits.astype(bool)
    return values


def check(batch: dict[str, Any], names: tuple[str, ...] = NAMES) -> Array:
    """Each view has its own content, and with it that of its scan and person; returns the views'
    rows."""
    rows = batch["views.row"].numpy()
    for name in names:
        expected = stored(name, rows)
        assert batch[name].numpy().dtype == expected.dtype
        np.testing.assert_array_equal(batch[name].numpy(), expected, name)
    return rows


def of_scan(scan: int) -> list[int]:
    """Its views, in the store's order."""
    return [k for k in range(len(VIEWS)) if SCAN_OF[k] == scan]


def of_person(person: int) -> list[int]:
    return [k for k in range(len(VIEWS)) if PERSON_OF[k] == person]


def test_a_sample_is_a_view(shown: Path) -> None:
    dataset = FaceDataset(shown, "train", (*NAMES, *BESIDE), unit="view")
    assert len(dataset) == len(TRAIN) > 20
    batch = dataset[:]
    rows = check(batch)
    np.testing.assert_array_equal(rows, TRAIN)
    np.testing.assert_array_equal(batch["shape"], ROWS["shape"][SCAN_OF[rows]])
    np.testing.assert_array_equal(batch["manifest.row"], SCAN_OF[rows])
    labels = PEOPLE["identity_shape"][PERSON_OF[rows]]
    np.testing.assert_array_equal(batch["identity_shape"], labels)
    assert batch["views.kind"] == [VIEWS[k]["kind"] for k in rows]
    assert batch["coverage"].tolist() == [MANIFEST[SCAN_OF[k]]["coverage"] for k in rows]
    sample = dataset[3]
    assert sample["images"].equal(batch["images"][3]) and sample["images"].dtype == torch.uint8
    assert tuple(sample["parts"].shape) == (8, 224, 224) and sample["parts"].dtype == torch.bool


def test_names_of_columns(shown: Path) -> None:
    """A bare one is the view's own, else the scan's."""
    names = ("row", "result_key", "yaw_deg", "expression", "manifest.expression", "identity")
    batch = FaceDataset(shown, fields=names, unit="view")[[7, 2]]
    assert batch["row"].tolist() == [7, 2] and batch["result_key"] == ["view 7", "view 2"]
    assert batch["yaw_deg"].tolist() == [VIEWS[k]["yaw_deg"] for k in (7, 2)]
    assert batch["manifest.expression"] == [MANIFEST[SCAN_OF[k]]["expression"] for k in (7, 2)]
    np.testing.assert_array_equal(batch["expression"], ROWS["expression"][SCAN_OF[[7, 2]]])
    people = FaceDataset(shown, fields="shape").identities
    assert [people[c] for c in batch["identity"]] == [
        MANIFEST[SCAN_OF[k]]["identity"] for k in (7, 2)
    ]
    dataset = FaceDataset(shown, fields=("row", "views.identity", "views.source"), unit="view")
    assert dataset.identities == people
    np.testing.assert_array_equal(dataset.column("views.identity"), dataset.column("identity"))
    assert dataset.column("manifest.row").tolist() == SCAN_OF.tolist()
    assert dataset.column("kind").tolist() == [view["kind"] for view in VIEWS]


def test_choosing_views(shown: Path) -> None:
    """By what is said of them, and of their scans."""
    question = "kind == 'photo' and -20 < yaw_deg < 30 and coverage > 0.2 and split == 'train'"
    wanted = [
        k
        for k in TRAIN
        if VIEWS[k]["kind"] == "photo"
        and -20 < VIEWS[k]["yaw_deg"] < 30
        and MANIFEST[SCAN_OF[k]]["coverage"] > 0.2
    ]
    assert FaceDataset(shown, None, "row", question, unit="view").rows.tolist() == wanted
    where = {"views.kind": ["photo", "render"], "source": "s1"}
    assert FaceDataset(shown, None, "row", where, unit="view").rows.tolist() == [
        k
        for k in range(len(VIEWS))
        if VIEWS[k]["kind"] != "shaded" and MANIFEST[SCAN_OF[k]]["source"] == "s1"
    ]
    photos = FaceDataset(shown, fields="views.kind", where="kind == 'photo'", views=1)
    assert photos.rows.tolist() == [i for i in range(SCANS) if i % 4]
    assert photos[[3, 0]]["views.kind"] == [["photo"], ["photo"]]
    for wrong, message in {
        "kinds == 'photo'": "no column kinds; the manifest has .*; the views have view_id",
        "yaw_deg > 9000": "no row of the views satisfies all of yaw_deg > 9000",
    }.items():
        with pytest.raises(StoreError, match=message):
            FaceDataset(shown, None, "row", wrong, unit="view")
    with pytest.raises(StoreError, match=r"no row has kind in \['drawing'\]; it has photo, render"):
        FaceDataset(shown, None, "row", {"kind": "drawing"}, unit="view")
    with pytest.raises(StoreError, match="a scan has any number of views; ask for views=K of each"):
        FaceDataset(shown, None, "row", "kind == 'photo'")


def test_some_views_of_each_scan(shown: Path) -> None:
    """Plain indexing gives the first ones; scans of fewer are counted."""
    dataset = FaceDataset(shown, None, ("row", *NAMES, *BESIDE), views=2)
    scans = [i for i in range(SCANS) if i % 4 >= 2]
    assert dataset.rows.tolist() == scans and dataset.left_out == SCANS // 4
    assert "views=2; 20 samples, 10 of fewer than 2 views left out" in repr(dataset)
    batch = dataset[[4, 0, 11]]
    rows = check(batch)
    assert rows.tolist() == [of_scan(scans[i])[:2] for i in (4, 0, 11)]
    assert tuple(batch["images"].shape) == (3, 2, 224, 224, 3)
    np.testing.assert_array_equal(batch["shape"], ROWS["shape"][[scans[4], scans[0], scans[11]]])
    assert batch["views.kind"][1] == [VIEWS[k]["kind"] for k in rows[1]]
    assert dataset[4]["views.kind"] == batch["views.kind"][0]
    assert dataset[4]["landmarks_px"].shape == (2, 68, 2)
    with pytest.raises(StoreError, match=r"views\.kind: a scan has any number of views"):
        dataset.column("views.kind")
    with pytest.raises(StoreError, match="views=4: the most that one scan has is 3; ask for fewer"):
        FaceDataset(shown, fields="images", views=4)


def test_some_views_of_each_person(shown: Path) -> None:
    """The person's label comes once, the scans' fields with each view."""
    names = ("identity", "identity_neutral_mm", "shape", "images", "scans", *BESIDE)
    dataset = FaceDataset(shown, None, names, unit="identity", views=2)
    people = [p for p in range(SCANS // 2) if len(of_person(p)) == 5]
    assert dataset.rows.tolist() == people and dataset.left_out == SCANS // 4
    batch = dataset[[2, 0]]
    rows = check(batch, ("images",))
    chosen = [people[2], people[0]]
    assert rows.tolist() == [of_person(p)[:2] for p in chosen]
    label = PEOPLE["identity_neutral_mm"][chosen]
    np.testing.assert_array_equal(batch["identity_neutral_mm"], label)
    np.testing.assert_array_equal(batch["manifest.row"], SCAN_OF[rows])
    np.testing.assert_array_equal(batch["shape"], ROWS["shape"][SCAN_OF[rows]])
    assert batch["scans"].tolist() == [2, 2] and batch["coverage"].shape == (2, 2)
    assert [dataset.identities[code] for code in batch["identity"]] == [
        MANIFEST[SCAN_OF[row[0]]]["identity"] for row in rows
    ]


def test_people_without_views(shown: Path) -> None:
    names = ("identity", "identity_shape", "identity_scans", "scans")
    dataset = FaceDataset(shown, "val", names, unit="identity")
    val = sorted({SCANS // 2 - 1 - i // 2 for i in range(SCANS) if MANIFEST[i]["split"] == "val"})
    assert dataset.rows.tolist() == val
    np.testing.assert_array_equal(dataset[:]["identity_shape"], PEOPLE["identity_shape"][val])
    for name in ("shape", "coverage", "images", "yaw_deg"):
        with pytest.raises(StoreError, match=f"{name}: a person has any number of"):
            FaceDataset(shown, fields=(name,), unit="identity")


def test_what_has_no_true_size_is_no_training_set(tmp_path: Path) -> None:
    """The split is the scan's, also of people and their views."""
    told = [{}, {"split": "train_non_metric"}]
    make_view_store(tmp_path, [{"split": "train"}, *told[1:]])
    for options in ({"unit": "view"}, {"views": 1}, {"unit": "identity", "views": 1}):
        dataset = FaceDataset(tmp_path, "train", ("views.row",), **options)  # type: ignore[arg-type]
        seen = np.concatenate([np.ravel(dataset[:]["views.row"])])
        assert (SCAN_OF[seen] % 2 == 0).all()


def test_repeated_views(shown: Path) -> None:
    dataset = FaceDataset(shown, None, ("row", *BESIDE), views=3, fewer="repeat")
    assert dataset.rows.tolist() == [i for i in range(SCANS) if i % 4] and dataset.left_out == 0
    batch = dataset[:3]
    first, pair, three = of_scan(1), of_scan(2), of_scan(3)
    assert batch["views.row"].tolist() == [first * 3, [*pair, pair[0]], three]
    assert batch["view_repeated"].tolist() == [
        [False, True, True],
        [False, False, True],
        [False] * 3,
    ]
    for loaded in FaceLoader(dataset, 6, seed=1):
        for row, views, again in zip(
            loaded["row"].tolist(),
            loaded["views.row"].tolist(),
            loaded["view_repeated"],
            strict=True,
        ):
            held = of_scan(row)
            assert sorted(set(views)) == held and again.tolist() == [
                k >= len(held) for k in range(3)
            ]


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("unit", ["scan", "identity"])
def test_drawn_views(shown: Path, unit: Any, threads: int) -> None:
    """Different ones of the sample's own, others each epoch, in buffers that are used again."""
    dataset = FaceDataset(shown, None, ("images", "parts", "views.row"), unit=unit, views=2)
    owner = SCAN_OF if unit == "scan" else PERSON_OF
    loader = FaceLoader(dataset, 3, Shuffled(len(dataset), 4), threads=threads, drop_last=False)
    epochs = []
    for _ in range(4):
        kept = list(loader)  # what is kept is not overwritten
        drawn = np.concatenate([check(batch, ("images", "parts")) for batch in kept])
        assert (owner[drawn[:, 0]] == owner[drawn[:, 1]]).all()
        assert (drawn[:, 0] != drawn[:, 1]).all()
        assert sorted(owner[drawn[:, 0]]) == dataset.rows.tolist()
        epochs.append({tuple(sorted(pair)) for pair in drawn.tolist()})
    assert len(set.union(*epochs)) > 1.5 * len(dataset)


def drawn_rows(loader: FaceLoader) -> list[Any]:
    return [batch["views.row"].tolist() for batch in loader]


@dataclass(frozen=True, repr=False)
class Seeded(InOrder):
    """Shows the same samples whatever its seed is."""

    seed: int = 0


def test_ranks_and_restarts_draw_the_same_views(shown: Path) -> None:
    dataset = FaceDataset(shown, None, ("row", "views.row"), views=2)
    order = Shuffled(len(dataset), 9)
    whole = FaceLoader(dataset, 6, order)
    expected = [drawn_rows(whole) for _ in range(3)]
    ranks = [FaceLoader(dataset, 3, order, rank=rank, world=2) for rank in (0, 1)]
    for epoch in range(3):
        parts = zip(*map(drawn_rows, ranks), strict=True)
        assert [one + other for one, other in parts] == expected[epoch]
    first = FaceLoader(dataset, 6, order)
    first.set_epoch(1)
    next(iter(first))
    for rank in (0, 1):
        again = FaceLoader(dataset, 3, order, rank=rank, world=2)
        again.load_state_dict(first.state_dict())
        assert drawn_rows(again) == [step[3 * rank :][:3] for step in expected[1][1:]]
    other = FaceLoader(dataset, 6, Shuffled(len(dataset), 10))
    assert drawn_rows(other) != expected[0]
    in_order = [FaceLoader(dataset, 6, Seeded(len(dataset), seed)) for seed in (0, 0, 1)]
    zero, again, one = map(drawn_rows, in_order)
    assert zero == again != one and zero != drawn_rows(in_order[0])  # others each epoch


def test_states_of_other_views(shown: Path) -> None:
    def state(**options: Any) -> dict[str, Any]:
        return FaceLoader(FaceDataset(shown, None, "views.row", **options), 2, seed=1).state_dict()

    kinds = {"where": {"kind": ["photo", "render"]}}
    options: list[dict[str, Any]] = [
        {"views": 2},
        {"views": 1},
        {"views": 2} | kinds,
        {"unit": "view"},
    ]
    options += [{"views": 2, "unit": "identity"}]
    said = [state(**some)["rows"] for some in options]
    assert len(set(said)) == len(options)
    loader = FaceLoader(FaceDataset(shown, None, "views.row", views=2), 2, seed=1)
    loader.load_state_dict(state(views=2))
    with pytest.raises(FacefoldError, match=r"selection: it is of .* 2 of 50 views, "):
        loader.load_state_dict(state(views=2, **kinds))
    without = ({"views.row": [k for k in range(len(VIEWS)) if k != out]} for out in of_scan(3)[:2])
    one, other = (state(views=2, where=where) for where in without)
    assert one["rows"].split(", ")[:3] == other["rows"].split(", ")[:3]
    assert one["rows"] != other["rows"]


def test_people_times_images(shown: Path) -> None:
    """MICA's batches: K images of each of several people, nobody twice."""
    dataset = FaceDataset(shown, None, ("aligned_images", "identity", *BESIDE), unit="view")
    order = identities(dataset, 2, unit="view")
    for batch in FaceLoader(dataset, 6, order):
        rows = check(batch, ("aligned_images",)).reshape(3, 2)
        people = PERSON_OF[rows]
        assert (people[:, 0] == people[:, 1]).all() and len(set(people[:, 0])) == 3
        assert (rows[:, 0] != rows[:, 1]).all()
    scans = FaceDataset(shown, None, ("shape",))
    with pytest.raises(FacefoldError, match="samples are scans: make it with FaceDataset"):
        identities(scans, 2, unit="view")


def test_what_stays_packed(shown: Path) -> None:
    packed = FaceDataset(shown, None, NAMES, unit="view", unpack_parts=False, unpack_validity=False)
    one = packed[11]
    for name in NAMES:
        assert one[name].numpy().tobytes() == SHOWN[name][11].tobytes()
    assert packed.array_shapes()["parts"][0] == (8, 224, 28)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_worker_processes(shown: Path, start: str) -> None:
    dataset = FaceDataset(shown, None, ("row", *NAMES, *BESIDE), views=2)
    here = drawn_rows(FaceLoader(dataset, 4, seed=1))
    loader = FaceLoader(dataset, 4, seed=1)
    batches = DataLoader(loader, None, num_workers=2, multiprocessing_context=start)
    there = []
    for batch in batches:
        check(batch)
        there.append(batch["views.row"].tolist())
    assert there == here
    again = pickle.loads(pickle.dumps(dataset))
    assert again[5]["images"].equal(dataset[5]["images"]) and again.left_out == 10


@pytest.mark.parametrize("form", [{"profile": "archive"}, {"int16": True}])
def test_other_ways_to_store_them(tmp_path: Path, form: dict[str, Any]) -> None:
    """Compressed, and lengths in steps of 5 µm."""
    make_view_store(tmp_path, **form)
    names = (*NAMES, *BESIDE, "vertices_mm", "identity_neutral_mm")
    for options in ({"unit": "view"}, {"views": 2, "unit": "identity"}):
        dataset = FaceDataset(tmp_path, None, names, **options)  # type: ignore[arg-type]
        for batch in list(FaceLoader(dataset, 5, seed=1)):
            rows = check(batch)
            once = rows[:, 0] if rows.ndim == 2 else rows
            for name, wanted in (
                ("vertices_mm", ROWS["vertices_mm"][SCAN_OF[rows]]),
                ("identity_neutral_mm", PEOPLE["identity_neutral_mm"][PERSON_OF[once]]),
            ):
                np.testing.assert_allclose(batch[name].numpy(), wanted, rtol=0, atol=0.0026)


def test_below_a_url(shown: Path, s3: str) -> None:
    push(shown, s3)
    for options in ({"unit": "view"}, {"views": 2}, {"views": 2, "unit": "identity"}):
        names = (*NAMES, *BESIDE, "identity_neutral_mm")
        loaders = [
            FaceLoader(FaceDataset(place, None, names, **options), 4, seed=2)  # type: ignore[arg-type]
            for place in (s3, shown)
        ]
        for got, wanted in zip(*loaders, strict=True):
            check(got)
            assert got["identity_neutral_mm"].equal(wanted["identity_neutral_mm"])
            assert got["views.row"].equal(wanted["views.row"])


@pytest.mark.parametrize("dtype", ["<f8", "<i8", "<u2", "|i1", "<f2"])
def test_fields_of_the_user_s_own(tmp_path: Path, dtype: str) -> None:
    """Of any of the three, in samples of any."""
    random = np.random.default_rng(0)
    numbers = {SCAN: SCANS, IDENTITY: SCANS // 2, VIEW: len(VIEWS)}
    values = {of: random.integers(0, 100, (n, 2, 3)).astype(dtype) for of, n in numbers.items()}
    attached = tuple(
        Attached(f"my_{of}", dtype, (2, 3), DIMS[of], "1", "mine", "attach", row_of=of, missing=0)
        for of in numbers
    )
    extra = {of: {f"my_{of}": some} for of, some in values.items()}
    make_view_store(tmp_path, attached=attached, extra=extra)
    names = ("my_scan", "my_identity", "my_view", "views.row")
    for options in ({"unit": "view"}, {"views": 2}, {"views": 2, "unit": "identity"}):
        dataset = FaceDataset(tmp_path, None, names, **options)  # type: ignore[arg-type]
        for batch in FaceLoader(dataset, 5, seed=1):
            views = batch["views.row"].numpy()
            once = views[:, 0] if views.ndim == 2 else views
            scans = SCAN_OF[views if options.get("unit") == "identity" else once]
            for of, rows in ((VIEW, views), (SCAN, scans), (IDENTITY, PERSON_OF[once])):
                got = batch[f"my_{of}"].numpy()
                assert got.dtype == np.dtype(dtype) and got.tobytes() == values[of][rows].tobytes()


def test_metres(shown: Path) -> None:
    names = ("views.distance_mm", "vertices_mm", "images", "views.row")
    batch = FaceDataset(shown, None, names, unit="view", units="m")[[4, 9]]
    assert batch["views.distance_m"].tolist() == [0.504, 0.509]
    np.testing.assert_array_equal(
        batch["vertices_m"], ROWS["vertices_mm"][SCAN_OF[[4, 9]]] / np.float32(1000)
    )
    with pytest.raises(
        StoreError, match="canonical_to_camera: in millimetres, and not to be turned"
    ):
        FaceDataset(shown, None, "canonical_to_camera", unit="view", units="m")


def test_samples_that_cannot_be(shown: Path, tmp_path: Path) -> None:
    make_store(tmp_path)
    with pytest.raises(StoreError, match="unit: got 'person', expected 'scan', 'identity', 'view'"):
        FaceDataset(shown, unit="person")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="views=2 of a view: ask for unit='scan' or"):
        FaceDataset(shown, unit="view", views=2)
    with pytest.raises(StoreError, match="fewer: got 'pad', expected 'drop' or 'repeat'"):
        FaceDataset(shown, views=2, fewer="pad")  # type: ignore[arg-type]
    with pytest.raises(FacefoldError, match="views: got -1, expected an integer ≥ 0"):
        FaceDataset(shown, views=-1)
    with pytest.raises(StoreError, match="images: a scan has any number of views; ask for views=K"):
        FaceDataset(shown, fields=("images", "shape"))
    for options in ({"unit": "view"}, {"views": 1}):
        with pytest.raises(StoreError, match="it has no views: say in the registries"):
            FaceDataset(tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="its people have no rows of their own: build it again"):
        FaceDataset(tmp_path, unit="identity")
    with pytest.raises(StoreError, match=r"no field images; .*it has no views: say in the regist"):
        FaceDataset(tmp_path, fields="images")


def test_addresses_for_millions_of_views(shown: Path) -> None:
    """Shards are mapped behind each other with gaps, which must leave room for four million views
    of every field among the 2^47 addresses of a process, in shards of 1024."""
    store = open_store(shown)
    gaps = {name: store._field(name).rows_per_slot for name in NAMES}  # type: ignore[attr-defined]
    total = sum(4000 * rows * store.fields[name].row_bytes for name, rows in gaps.items())
    assert total < 2**44
