"""Transforms do what they say, the same on any rank, in millimetres and in metres."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_store import make_store
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.errors import FacefoldError
from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.model import FlameModel
from pipeline.loaders import Draw, FaceDataset, FaceLoader
from pipeline.loaders.dataset import Sample
from pipeline.loaders.transforms import (
    Chain,
    PoseRemoved,
    RandomRotation,
    SomePoints,
    VertexWeights,
    neutral,
)

B, V = 5, 64
RNG = np.random.default_rng(0)
DRAW = Draw(2, np.arange(10, 10 + B), np.arange(B))


def shares(*shape: int) -> np.ndarray:
    drawn = RNG.random(shape)
    return drawn / drawn.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def model() -> FlameModel:
    return FlameModel(
        name="tiny",
        is_stand_in=True,
        template_mm=80 * RNG.normal(size=(V, 3)),
        faces=RNG.integers(0, V, (20, 3)),
        shape_basis_mm=3 * RNG.normal(size=(V, 3, 4)),
        expression_basis_mm=2 * RNG.normal(size=(V, 3, 2)),
        pose_basis_mm=RNG.normal(size=(V, 3, 9)),
        joint_regressor=shares(2, V),
        weights=shares(V, 2),
        parents=np.array([-1, 0]),
        regions={"face": np.arange(30), "eyeballs": np.arange(25, 40), "left_ear": np.array([50])},
    )


def posed(model: FlameModel, pose: Tensor, translation: Tensor) -> Sample:
    """A batch as of a dataset of that model, in millimetres; offsets and normals are random."""
    random = torch.Generator().manual_seed(1)
    shape, expression = torch.zeros(B, 300), torch.zeros(B, 100)
    shape[:, :4] = torch.randn(B, 4, generator=random)
    expression[:, :2] = torch.randn(B, 2, generator=random)
    explained = pose_vertices(
        to_tensors(model), shape[:, :4], expression[:, :2], pose[:, :6], translation
    )
    offset = torch.randn(B, V, 3, generator=random)
    return {
        "vertices_mm": explained + offset,
        "offset_mm": offset,
        "registered_landmarks_mm": explained[:, :3],
        "normals": torch.randn(B, 4, 3, generator=random).half(),
        "shape": shape,
        "expression": expression,
        "pose": pose,
        "translation_mm": translation,
        "validity": torch.rand(B, V, generator=random) < 0.5,
    }


@pytest.fixture(scope="module")
def batch(model: FlameModel) -> Sample:
    random = torch.Generator().manual_seed(2)
    pose = torch.nn.functional.pad(torch.randn(B, 6, generator=random), (0, 9))
    return posed(model, pose, 20 * torch.randn(B, 3, generator=random))


def in_metres(batch: Sample) -> Sample:
    return {
        name.removesuffix("mm") + "m" if name.endswith("_mm") else name: (
            value / 1000 if name.endswith("_mm") else value
        )
        for name, value in batch.items()
    }


def test_pose_removed(model: FlameModel, batch: Sample) -> None:
    """What is left is what FLAME's equations give without the global pose."""
    given = {name: value.clone() for name, value in batch.items()}
    found = PoseRemoved.of(model)(batch, DRAW)
    assert all(batch[name].equal(value) for name, value in given.items())
    still = torch.cat([torch.zeros(B, 3), batch["pose"][:, 3:]], 1)
    assert found["pose"].equal(still) and not found["translation_mm"].any()
    wanted = posed(model, still, torch.zeros(B, 3))
    explained = wanted["vertices_mm"] - wanted["offset_mm"]
    torch.testing.assert_close(
        found["vertices_mm"] - found["offset_mm"], explained, atol=1e-3, rtol=0
    )
    torch.testing.assert_close(
        found["registered_landmarks_mm"], explained[:, :3], atol=1e-3, rtol=0
    )
    assert found["offset_mm"].norm(dim=-1).allclose(batch["offset_mm"].norm(dim=-1), atol=1e-4)
    assert found["normals"].dtype == torch.float16 and not found["normals"].equal(batch["normals"])


def test_pose_removed_in_metres(model: FlameModel, batch: Sample) -> None:
    one, other = PoseRemoved.of(model)(batch, DRAW), PoseRemoved.of(model)(in_metres(batch), DRAW)
    torch.testing.assert_close(other["vertices_m"], one["vertices_mm"] / 1000, atol=1e-6, rtol=0)
    assert "vertices_mm" not in other and not other["translation_m"].any()


def test_pose_removed_of_a_model_without_joints(model: FlameModel) -> None:
    bare = replace(
        model,
        joint_regressor=np.zeros((0, V)),
        weights=np.zeros((V, 0)),
        parents=np.zeros(0, np.int64),
        pose_basis_mm=np.zeros((V, 3, 0)),
    )
    rest = torch.from_numpy(model.template_mm).float().expand(B, -1, -1)
    turned = pose_vertices(
        to_tensors(bare), torch.zeros(B, 1), torch.zeros(B, 1), torch.full((B, 3), 0.3),
        torch.full((B, 3), 7.0),
    )  # fmt: skip
    fields = {"shape": torch.zeros(B, 300), "expression": torch.zeros(B, 100)}
    fields |= {"pose": torch.full((B, 15), 0.3), "translation_mm": torch.full((B, 3), 7.0)}
    found = PoseRemoved.of(bare)(fields | {"vertices_mm": turned}, DRAW)
    torch.testing.assert_close(found["vertices_mm"], rest, atol=1e-3, rtol=0)


def test_neutral(batch: Sample) -> None:
    rest = torch.randn(B, V, 3)
    found = neutral(batch | {"neutral_mm": rest}, DRAW)
    assert found["vertices_mm"] is rest and found["shape"] is batch["shape"]
    assert not any(found[name].any() for name in ("expression", "pose", "translation_mm"))
    assert not {"normals", "offset_mm", "registered_landmarks_mm"} & found.keys()
    with pytest.raises(FacefoldError, match="no neutral_mm in the batch"):
        neutral(batch, DRAW)


def test_random_rotation(batch: Sample) -> None:
    turn = RandomRotation(40, seed=3)
    found = turn(batch, DRAW)
    rotation = found["rotation"]
    identity = torch.eye(3).expand(B, 3, 3)
    torch.testing.assert_close(rotation @ rotation.mT, identity, atol=1e-5, rtol=0)
    cosine = (torch.diagonal(rotation, dim1=1, dim2=2).sum(1) - 1) / 2
    assert (cosine >= np.cos(np.radians(40)) - 1e-6).all() and cosine.std() > 0
    for name in ("vertices_mm", "offset_mm", "registered_landmarks_mm"):
        torch.testing.assert_close(found[name], batch[name] @ rotation.mT)
    assert found["pose"] is batch["pose"]
    # of each sample's own position, whatever batch and rank it falls into
    part = turn({"vertices_mm": batch["vertices_mm"][3:]}, Draw(2, DRAW.positions[3:], RNG))
    assert part["rotation"].equal(rotation[3:])
    for other in (Draw(3, DRAW.positions, DRAW.samples), Draw(2, DRAW.positions + 1, DRAW.samples)):
        assert not turn(batch, other)["rotation"].equal(rotation)
    assert not RandomRotation(40, seed=4)(batch, DRAW)["rotation"].equal(rotation)


def test_rotations_point_everywhere() -> None:
    many = Draw(0, np.arange(20_000), np.arange(20_000))
    rotation = RandomRotation(180)({}, many)["rotation"]
    angle = torch.arccos(((torch.diagonal(rotation, dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1))
    assert angle.mean() == pytest.approx(np.pi / 2, abs=0.03)
    skew = rotation - rotation.mT
    axis = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], 1)
    axis = axis / axis.norm(dim=1, keepdim=True)
    assert axis.mean(0).abs().max() < 0.03
    torch.testing.assert_close(axis.T @ axis / len(axis), torch.eye(3) / 3, atol=0.02, rtol=0)


def test_some_points() -> None:
    points = torch.arange(B * 50).reshape(B, 50, 1).expand(-1, -1, 3).float()
    given = {"points_mm": points, "normals": points.half(), "shape": torch.zeros(B, 300)}
    found = SomePoints(8)(given, DRAW)
    assert found["points_mm"].shape == (B, 8, 3) and found["shape"] is given["shape"]
    assert found["normals"].equal(found["points_mm"].half())
    for sample, held in enumerate(found["points_mm"][..., 0].tolist()):
        assert len(set(held)) == 8 and {int(p) // 50 for p in held} == {sample}
    assert not SomePoints(8)(given, Draw(3, DRAW.positions, RNG))["points_mm"].equal(
        found["points_mm"]
    )
    with pytest.raises(FacefoldError, match="60 points of 50"):
        SomePoints(60)(given, DRAW)


def test_vertex_weights(model: FlameModel, batch: Sample) -> None:
    regions = {"eyeballs": 0.01, "left_ear": 0.01, "face": 150.0}
    found = VertexWeights.of(model, regions)(batch, DRAW)["vertex_weight"]
    wanted = np.ones(V, np.float32)
    wanted[:30], wanted[30:40], wanted[50] = 150, 0.01, 0.01  # where both are, the face counts
    assert (found.numpy() == wanted).all() and found.shape == (B, V)
    valid = VertexWeights.of(model, regions, valid_only=True)(batch, DRAW)["vertex_weight"]
    assert (valid.numpy() == wanted * batch["validity"].numpy()).all()
    with pytest.raises(FacefoldError, match="model tiny has no region 'right_ear'; it has eye"):
        VertexWeights.of(model)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> FaceDataset:
    folder = tmp_path_factory.mktemp("points") / "unified.zarr"
    make_store(folder, points=True)
    fields = ("vertices_mm", "points_mm", "validity", "row")
    return FaceDataset(folder, fields=fields, points=20, units="m")


def test_the_same_on_any_rank_and_after_a_resume(dataset: FaceDataset, model: FlameModel) -> None:
    steps = Chain((RandomRotation(seed=1), SomePoints(6), VertexWeights(torch.ones(V), True)))
    pickle.loads(pickle.dumps(steps))

    def shown(loaders: list[FaceLoader]) -> list[Sample]:
        parts = zip(*loaders, strict=True)
        return [{k: torch.cat([b[k] for b in batches]) for k in batches[0]} for batches in parts]

    whole = shown([FaceLoader(dataset, 8, transform=steps)])
    stopped = FaceLoader(dataset, 8, transform=steps)
    next(iter(stopped))
    ranks = [FaceLoader(dataset, 4, rank=r, world=2, transform=steps) for r in (0, 1)]
    for rank in ranks:
        rank.load_state_dict(stopped.state_dict())
    workers = DataLoader(
        FaceLoader(dataset, 8, transform=steps), None, num_workers=2, multiprocessing_context="fork"
    )
    for others, wanted in ((shown(ranks), whole[1:]), (list(workers), whole)):
        for one, other in zip(others, wanted, strict=True):
            for name in ("vertices_m", "points_m", "vertex_weight", "rotation", "row"):
                torch.testing.assert_close(one[name], other[name], equal_nan=True)


def test_points_and_units(dataset: FaceDataset) -> None:
    store = dataset.store
    batch = dataset[[0, 1, 5]]
    assert list(batch) == ["vertices_m", "points_m", "validity", "row"]
    raw = torch.from_numpy(store.read_points(("points_mm",), [0, 1, 5], 20)["points_mm"])
    torch.testing.assert_close(batch["points_m"], raw / 1000, equal_nan=True)
    assert batch["points_m"][1].isnan().all()
    vertices = torch.from_numpy(store.read("vertices_mm", [0, 1, 5]))
    assert batch["vertices_m"].equal(vertices / 1000)
    for loaded in FaceLoader(dataset, 8):  # the ring's memory, used again, is converted each time
        same = dataset[loaded["row"].tolist()]  # the dataset holds all rows
        torch.testing.assert_close(loaded["vertices_m"], same["vertices_m"], atol=0, rtol=0)
        torch.testing.assert_close(loaded["points_m"], same["points_m"], equal_nan=True)
    again = pickle.loads(pickle.dumps(dataset))
    assert again[4]["vertices_m"].equal(dataset[4]["vertices_m"])


def seen(batch: Sample, camera: Tensor, name: str = "vertices_mm") -> Tensor:
    """The vertices in the frames of cameras (B,4,4)."""
    return batch[name].double() @ camera[:, :3, :3].mT + camera[:, None, :3, 3]


@pytest.mark.parametrize("kind", ["turned", "pose removed"])
def test_cameras_see_what_they_saw(model: FlameModel, batch: Sample, kind: str) -> None:
    """Of one view a sample, and of several."""
    step = RandomRotation(90, seed=1) if kind == "turned" else PoseRemoved.of(model)
    random = np.random.default_rng(3)
    cameras = torch.eye(4, dtype=torch.float64).repeat(B, 2, 1, 1)
    cameras[..., :3, :3] = torch.from_numpy(np.linalg.qr(random.normal(size=(B, 2, 3, 3)))[0])
    cameras[..., :3, 3] = torch.from_numpy(random.normal(0, 500, (B, 2, 3)))
    one = step(batch | {"canonical_to_camera": cameras[:, 0]}, DRAW)
    two = step(batch | {"canonical_to_camera": cameras}, DRAW)
    assert one["canonical_to_camera"].dtype == torch.float64
    assert not one["vertices_mm"].allclose(batch["vertices_mm"], atol=1)
    for k, found in (
        (0, one["canonical_to_camera"]),
        *enumerate(two["canonical_to_camera"].unbind(1)),
    ):
        was = seen(batch, cameras[:, k])
        torch.testing.assert_close(seen(one, found), was, atol=2e-3, rtol=0)
    assert "canonical_to_camera" not in step(batch, DRAW)


def test_neutral_leaves_the_images(batch: Sample) -> None:
    """The camera is that of the head in its own pose."""
    views = {"images": torch.zeros(B, 224, 224, 3), "canonical_to_camera": torch.zeros(B, 4, 4)}
    views |= {"landmarks_px": torch.zeros(B, 68, 2), "neutral_mm": torch.zeros(B, V, 3)}
    found = neutral(batch | views, DRAW)
    assert found["images"] is views["images"] and found["landmarks_px"] is views["landmarks_px"]
    assert "canonical_to_camera" not in found


def test_several_scans_a_sample_are_refused(model: FlameModel, batch: Sample) -> None:
    """Rather than moved wrongly."""
    several = {name: torch.stack([values, values], 1) for name, values in batch.items()}
    for step in (RandomRotation(), PoseRemoved.of(model)):
        with pytest.raises(
            FacefoldError, match="moves one scan a sample; ask the dataset for unit"
        ):
            step(several, DRAW)
    points = {"points_mm": torch.zeros(B, 2, 50, 3)}
    with pytest.raises(FacefoldError, match=r"points_mm: got .5, 2, 50, 3.: this transform moves"):
        SomePoints(8)(points, DRAW)
