"""Pose guidance: known poses, labels from sources alone, one shape for all frames of a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_people

from pipeline.errors import FacefoldError, MachineError, StoreError
from pipeline.flame.assets import load_model
from pipeline.geometry.rigid import rotation_matrices
from pipeline.loaders.dataset import Sample
from pipeline.store import publish
from pipeline.store.reader import open_store
from pipeline.training.camera_turns import turned
from pipeline.training.pose_guidance import SYSTEM, PoseGuidance, PoseGuidanceConfig, Weights
from pipeline.training.pose_labels import OnlyLabels, head_rotation, truth_of
from pipeline.training.pose_network import fused, rotation_of
from pipeline.training.pose_scores import degrees, face_distances, relative_distances
from pipeline.training.system import Moment, Setting

SMALL = {"backbone": "small", "size_px": 32, "batch": 2, "frames": 2, "n_shape": 12}
DETECTED = ("made:0/1", "made:1/0", "made:1/1", "made:1/2", "made:1/3")
"""Scans whose landmarks registration found: one of person 0, all of person 1."""


def setting(store: Path, **changed: object) -> Setting:
    config = PoseGuidanceConfig.model_validate(SMALL | {"n_expression": 6} | changed)
    return Setting(open_store(store), load_model("stand-in"), config, torch.device("cpu"))


def first(asked: Setting, n: int = 2) -> Sample:
    """A batch of the first people, as the loop hands it over."""
    shown = SYSTEM.samples(asked, "train")
    assert shown.transform is not None
    return shown.transform(shown.dataset[0:n], None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def some_detected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people, of whose scans DETECTED have no landmarks of their source."""

    def said(store: Path, staging: Any, receipts: Any, manifest: Any, **tables: Any) -> Any:
        changed = {True: {"landmark_source": "detected"}, False: {}}
        rows = [{**row, **changed[row["scan_id"] in DETECTED]} for row in manifest]
        return publish(store, staging, receipts, rows, **tables)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_people, "publish", said)
        folder = tmp_path_factory.mktemp("detected")
        return training_people.write_people(folder, training_people.People(2, 0, 0, 3), 1)


def test_detected_landmarks_are_no_labels(some_detected: Path) -> None:
    asked = setting(some_detected, frames=4)
    batch = first(asked)
    known = torch.isfinite(batch["landmarks_mm"]).all(-1).all(-1)
    assert known.sum(1).tolist() == [3, 0]
    learner = PoseGuidance(asked)
    found = learner.predict(batch["images"], batch["camera_matrix_px"])
    truth = truth_of(found.view, batch)
    assert truth.labelled.tolist() == known.flatten().tolist()
    other = {**batch, "pose": batch["pose"] + ~known[..., None]}
    other["identity_neutral_mm"] = batch["identity_neutral_mm"].clone()
    other["identity_neutral_mm"][1] += 50
    losses = [learner.losses(found, truth_of(found.view, x)).total for x in (batch, other)]
    assert torch.equal(*losses)  # what registration says of unlabelled pictures teaches nothing
    other["pose"] = batch["pose"] + known[..., None]
    assert learner.losses(found, truth_of(found.view, other)).total > losses[0]


def test_pictures_without_labels_still_teach(some_detected: Path) -> None:
    asked = setting(some_detected, frames=4)
    batch = {name: values[1:] for name, values in first(asked).items()}
    learner = PoseGuidance(asked)
    losses = learner(batch, Moment(0, 0))
    losses.total.backward()
    teaching = {name for name, value in losses.terms.items() if value > 0}
    assert teaching == {"consistency", "agreement", "prior"}
    gradient = learner.network.landmarks.heat.weight.grad
    assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_pictures_without_any_label_are_refused(some_detected: Path) -> None:
    asked = setting(some_detected, where="landmark_source == 'detected'")
    with pytest.raises(StoreError, match=r"none of 5 pictures of train .* landmark files"):
        SYSTEM.samples(asked, "train")


def test_an_unknown_backbone_is_refused(made_people: Path) -> None:
    with pytest.raises(MachineError, match="torchvision"):
        PoseGuidance(setting(made_people, backbone="resnet18"))
    with pytest.raises(FacefoldError, match="backbone: got 'deep', expected one that has maps"):
        PoseGuidance(setting(made_people, backbone="deep"))


def test_a_person_has_one_shape_in_all_frames(made_people: Path) -> None:
    asked = setting(made_people, frames=3)
    learner, batch = PoseGuidance(asked), first(asked)
    found = learner.predict(batch["images"], batch["camera_matrix_px"])
    assert found.shape.shape == (2, 12)
    at_rest = learner.at_rest(found.shape.repeat_interleave(3, 0), 0 * found.seen.expression,
                              0 * found.seen.jaw)  # fmt: skip
    assert torch.equal(at_rest[0], at_rest[2]) and not torch.equal(at_rest[0], at_rest[3])
    alone = learner.predict(batch["images"][:, :1], batch["camera_matrix_px"][:, :1])
    assert torch.allclose(alone.shape, alone.seen.shape)
    assert not torch.allclose(alone.shape, found.shape)
    turned_round = learner.predict(batch["images"].flip(1), batch["camera_matrix_px"].flip(1))
    assert torch.allclose(turned_round.shape, found.shape, atol=1e-5)


def test_evidence_of_frames_adds_up_beside_the_prior() -> None:
    truth, precision = torch.tensor([1.5, -0.5]), torch.tensor([[1.0, 4.0], [3.0, 0.0]])
    each = truth * precision / (1 + precision)
    expected = truth * precision.sum(0) / (1 + precision.sum(0))
    assert torch.allclose(fused(each[None], precision[None])[0], expected)


def test_the_pose_is_that_of_the_head_onto_its_landmarks(made_people: Path) -> None:
    asked = setting(made_people)
    learner, batch = PoseGuidance(asked), first(asked)
    found = learner.predict(batch["images"], batch["camera_matrix_px"])
    assert torch.allclose(torch.linalg.det(found.rotation), torch.ones(4))
    offset = found.seen.weights[..., None] * (found.posed_mm - found.seen.landmarks_mm)
    assert offset.sum(1).abs().max() < 1e-2  # the fit's residual has no mean
    turn = rotation_matrices(torch.tensor([0.01, 0.02, -0.01]))
    best = (offset * (found.posed_mm - found.seen.landmarks_mm)).sum()
    middle = (found.seen.weights[..., None] * found.posed_mm).sum(1, keepdim=True)
    worse = (found.posed_mm - middle) @ turn.mT + middle - found.seen.landmarks_mm
    assert (found.seen.weights[..., None] * worse.square()).sum() > best


def test_true_rotations_lead_the_head_at_rest_to_where_it_is_seen(made_people: Path) -> None:
    asked = setting(made_people)
    learner, batch = PoseGuidance(asked), first(asked)
    shown = asked.store
    rows = [0, 1, 4, 5]
    stored = {name: torch.from_numpy(shown.read_fields([name], np.array(rows))[name])
              for name in ("shape", "expression", "pose")}  # fmt: skip
    view = turned(batch["images"].flatten(0, 1), batch["camera_matrix_px"].flatten(0, 1), 32)
    truth = truth_of(view, batch)
    rest = learner.at_rest(stored["shape"], stored["expression"], stored["pose"][:, 6:9])
    assert relative_distances(rest @ truth.rotation.mT, truth.landmarks_mm).max() < 1e-2
    neck = torch.zeros(1, 15)
    neck[0, 0], neck[0, 3] = 0.2, 0.3
    both = rotation_matrices(torch.tensor([0.5, 0, 0]))
    assert torch.allclose(head_rotation(neck)[0], both, atol=1e-6)


@pytest.mark.parametrize("pose", ["closed_form", "regressed"])
def test_gradients_are_finite_and_reach_every_weight(made_people: Path, pose: str) -> None:
    asked = setting(made_people, pose=pose)
    learner = PoseGuidance(asked)
    losses = learner(first(asked), Moment(0, 0))
    losses.total.backward()
    assert torch.isclose(losses.total, torch.stack([*losses.terms.values()]).sum())
    for name, weight in learner.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all() and weight.grad.abs().max() > 0, name


def test_weights_and_steps_are_functions_of_the_seed(made_people: Path) -> None:
    asked = setting(made_people)
    batch = first(asked)
    before = torch.random.get_rng_state()
    totals = [PoseGuidance(asked)(batch, Moment(7, 0)).total for _ in range(2)]
    assert torch.equal(*totals) and torch.equal(before, torch.random.get_rng_state())
    assert PoseGuidance(asked)(batch, Moment(8, 0)).total != totals[0]
    assert PoseGuidance(setting(made_people, seed=1))(batch, Moment(7, 0)).total != totals[0]


def test_figures_heads_and_picture_of_a_split(made_people: Path, tmp_path: Path) -> None:
    asked = setting(made_people, frames=4)
    learner = PoseGuidance(asked).eval()
    figures = SYSTEM.measure(learner, asked, "test")
    assert SYSTEM.best_by in figures and all(np.isfinite([*figures.values()]))
    assert figures["mean_head_aligned_mm"] <= figures["mean_head_metric_mm"]
    assert SYSTEM.heads is not None and SYSTEM.picture is not None
    heads = SYSTEM.heads(learner, asked, "test")
    assert len(heads) == 3 and {head.shape for head in heads.values()} == {(5023, 3)}
    SYSTEM.picture(learner, asked, "test", tmp_path / "seen.png")
    assert (tmp_path / "seen.png").stat().st_size > 10_000


def test_errors_of_known_sizes() -> None:
    turn = rotation_matrices(torch.tensor([[0.0, 0.1, 0.0]]).double())
    assert torch.allclose(degrees(turn, torch.eye(3).double()), torch.rad2deg(turn.new_tensor(0.1)))
    face = torch.randn(1, 50, 3, generator=torch.Generator().manual_seed(0)).double()
    moved = face @ turn.mT + 5
    assert face_distances(moved, face)["metric"] < 1e-9
    grown = face_distances(1.1 * moved, face)
    assert grown["aligned"] < 1e-9 and grown["metric"] > 0.05
    some = face.clone()
    some[:, 10:] = torch.nan
    shifted = face.clone() + 3
    shifted[0, 10:] += 100
    assert relative_distances(shifted, some) < 1e-9


def test_regressed_rotations_are_proper_and_begin_at_a_face_before_the_camera() -> None:
    six = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    found = rotation_of(six)
    assert torch.allclose(found @ found.mT, torch.eye(3).expand(8, 3, 3), atol=1e-6)
    assert torch.allclose(torch.linalg.det(found), torch.ones(8))
    facing = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    assert torch.equal(rotation_of(torch.zeros(1, 6))[0], facing)


def test_weights_of_losses_are_checked() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        Weights(landmarks=-1)
    assert OnlyLabels() == OnlyLabels()
