"""The contour that moves with the turn: against MICA's numbers, and its choice by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.flame.assets import load_model
from pipeline.flame.model import FlameModel
from pipeline.training.contour import DynamicContour, outline_rows, read_contour
from pipeline.training.decoder import Decoder
from tests.training.linear_faces import tensors


@pytest.fixture(scope="module")
def embedding(shared_data: Path) -> Path:
    return shared_data / "flame" / "landmark_embedding.npy"


@pytest.fixture(scope="module")
def flame(shared_data: Path, embedding: Path) -> FlameModel:
    return load_model(shared_data / "flame_ict" / "flame_ict.npz", embedding)


@pytest.mark.oracles
def test_heads_and_both_kinds_of_landmarks_are_micas(
    oracles: Path, flame: FlameModel, embedding: Path
) -> None:
    theirs = tensors(oracles / "flame_decoder.npz")
    pose = torch.cat(
        [theirs["pose"][:, :3], theirs["neck_pose"], theirs["pose"][:, 3:], theirs["eye_pose"]], 1
    )
    decoder = Decoder(flame, torch.float64)
    vertices = decoder(theirs["shape"], theirs["expression"], pose) / 1000
    contour = DynamicContour(embedding, flame.faces, torch.float64)
    for ours, name in (
        (vertices[:2], "vertices_m"),
        (vertices[:, ::20], "vertices_m_every20"),
        (decoder.landmarks(vertices), "landmarks_full68"),
        (contour(vertices, pose), "landmarks_dynamic_contour"),
    ):
        apart = (ours - theirs[name]).abs().max()
        assert apart <= 1e-5 * theirs[name].abs().max(), name
    assert len(outline_rows(pose).unique()) == 4


def test_flames_outline_comes_forward_where_the_head_turns_away(
    flame: FlameModel, embedding: Path
) -> None:
    """Turned to its left, the subject's left jaw is hidden: its landmarks lie on the cheek. The
    other side's are where they are for a head that looks ahead, or farther back."""
    contour = DynamicContour(embedding, flame.faces)
    head = torch.tensor(flame.template_mm).float().expand(3, -1, -1)
    yaw = torch.deg2rad(torch.tensor([0.0, 35.0, -35.0]))
    pose = torch.stack([0 * yaw, yaw, 0 * yaw], 1)
    ahead, left, right = contour(head, pose)[:, :17]  # of the unturned head
    assert (left[9:, 0] < ahead[9:, 0] - 2).all() and (left[11:, 2] > ahead[11:, 2] + 10).all()
    assert (right[:8, 0] > ahead[:8, 0] + 2).all() and (right[:6, 2] > ahead[:6, 2] + 10).all()
    assert (left[:6, 2] < ahead[:6, 2] + 1).all() and (right[11:, 2] < ahead[11:, 2] + 1).all()


def degrees(*yaw: float) -> Tensor:
    turned = torch.zeros(len(yaw), 3)
    turned[:, 1] = torch.deg2rad(torch.tensor(yaw))
    return turned


def test_the_yaw_chooses_the_row() -> None:
    found = outline_rows(degrees(0, 0.4, 0.6, 12, 39.4, 60, -0.4, -1, -12, -39, -60))
    assert found.tolist() == [0, 0, 1, 12, 39, 39, 0, 40, 51, 78, 78]


def test_the_neck_turns_too_and_other_joints_do_not() -> None:
    still = degrees(0, 0)
    pose = torch.cat([degrees(10, 10), degrees(5, -25), degrees(30, 30), still, still], 1)
    assert outline_rows(pose).tolist() == [15, 54]
    nod = torch.tensor([[0.4, 0, 0]])
    assert outline_rows(nod).tolist() == [0] and outline_rows(nod[:, [1, 2, 0]]).tolist() == [0]


def held(**changed: Any) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    weights = draw.dirichlet(np.ones(3), (79, 17))
    made = {
        "dynamic_lmk_faces_idx": torch.from_numpy(draw.integers(0, 9976, (79, 17))),
        "dynamic_lmk_bary_coords": torch.from_numpy(weights).float(),
        "static_lmk_faces_idx": draw.integers(0, 9976, 51),
        "static_lmk_bary_coords": draw.dirichlet(np.ones(3), 51),
    }
    return {name: value for name, value in (made | changed).items() if value is not None}


def write(path: Path, **changed: Any) -> Path:
    """As FLAME's file: a dictionary of arrays and tensors."""
    np.save(path, np.array(held(**changed), dtype=object), allow_pickle=True)
    return path


def test_landmarks_are_points_of_the_triangles_with_gradient(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    faces, points = draw.integers(0, 500, (9976, 3)), draw.normal(size=(500, 3))
    contour = DynamicContour(write(tmp_path / "e.npy"), faces, torch.float64)
    assert not contour.state_dict() and not list(contour.parameters())
    vertices = torch.tensor(points).expand(2, -1, -1).clone().requires_grad_()
    found = contour(vertices, degrees(3, -20).double())
    assert found.shape == (2, 68, 3)
    made = held()
    for picture, row in ((0, 3), (1, 59)):
        corners = faces[made["dynamic_lmk_faces_idx"][row].numpy()]
        weights = made["dynamic_lmk_bary_coords"][row].numpy()
        expected = np.einsum("lk,lkd->ld", weights, points[corners])
        np.testing.assert_allclose(found[picture, :17].detach(), expected, atol=1e-9)
    found.sum().backward()
    assert vertices.grad is not None
    assert vertices.grad.sum().item() == pytest.approx(2 * 68 * 3, rel=1e-6)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"dynamic_lmk_faces_idx": None}, "no dynamic_lmk_faces_idx among"),
        ({"dynamic_lmk_faces_idx": np.zeros((79, 16), int)}, r"shape \(79, 16\) and .* \(79, 17\)"),
        ({"static_lmk_faces_idx": np.full(51, 9976)}, "names triangle 9976, the model has 9976"),
        ({"static_lmk_bary_coords": np.zeros((51, 2))}, r"static_lmk_bary_coords \(51, 2\)"),
    ],
)
def test_another_file_is_refused(changed: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=told):
        read_contour(write(tmp_path / "embedding.npy", **changed), 9976)


def test_a_file_that_is_missing_or_runs_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be read .*comes with FLAME"):
        read_contour(tmp_path / "none.npy", 9976)
    np.save(tmp_path / "list.npy", np.arange(5))
    with pytest.raises(ModelError, match="among nothing"):
        read_contour(tmp_path / "list.npy", 9976)
    path = tmp_path / "evil.npy"
    np.save(path, np.array({"dynamic_lmk_faces_idx": Path}, dtype=object), allow_pickle=True)
    with pytest.raises(ModelError, match="refused"):
        read_contour(path, 9976)
