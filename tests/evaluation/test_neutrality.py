import numpy as np
import pytest
import torch

from pipeline.evaluation.neutrality import LIPS_OPEN, moved_by_coefficients, moved_by_lips
from pipeline.flame.lbs import pose_vertices, to_tensors
from pipeline.flame.stand_in import stand_in
from pipeline.landmarks.check import average_face
from pipeline.types import Array


def posed(jaw: float, smile: float = 0.0, turn: float = 0.0) -> Array:
    """(V,3) mm of one identity of the stand-in."""
    shape = np.random.default_rng(11).normal(size=(1, 300))
    expression, pose = np.zeros((1, 100)), np.zeros((1, 15))
    expression[0, :10] = smile
    pose[0, 1], pose[0, 6] = turn, jaw
    values = (
        torch.tensor(x, dtype=torch.float32) for x in (shape, expression, pose, np.ones((1, 3)))
    )
    return pose_vertices(to_tensors(stand_in()), *values)[0].numpy().astype(np.float64)


def test_what_moves_the_face_is_measured() -> None:
    rest, opened = moved_by_coefficients(posed(0), stand_in()), posed(0.1, turn=1.0)
    found = moved_by_coefficients(opened, stand_in())
    assert rest.said == ""
    assert "jaw 6°" in found.said
    face = stand_in().regions["face"]
    true = np.linalg.norm((posed(0.1) - posed(0))[face], axis=1)
    rms = np.sqrt(np.square(true).mean())
    assert 0.6 * rms < found.figures["moved_rms_mm"] < rms  # which a rigid motion lessens
    assert found.figures["jaw_deg"] == pytest.approx(np.degrees(0.1), abs=0.2)
    assert moved_by_coefficients(posed(0, smile=1.0), stand_in()).said


def test_what_no_coefficients_explain_is_no_expression() -> None:
    rough = posed(0) + np.random.default_rng(0).normal(0, 0.5, (5023, 3))
    found = moved_by_coefficients(rough, stand_in())
    assert found.said == ""
    assert found.figures["limit_mm"] > 5


@pytest.mark.parametrize("unit", [1.0, 0.001])
def test_lips_are_measured_by_the_eyes(unit: float) -> None:
    closed, opened = average_face()
    assert moved_by_lips(unit * closed, closed).said == ""
    found = moved_by_lips(unit * opened, closed)
    assert "expected at most" in found.said
    assert found.figures["lips_apart"] > found.figures["lips_of_mean_head"] + LIPS_OPEN
    unknown = closed.copy()
    unknown[60:] = np.nan
    assert moved_by_lips(unknown, closed).said == ""
