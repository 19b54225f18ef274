"""Heads scored in memory as the command scores their files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.errors import FacefoldError, StoreError
from pipeline.evaluation.benchmark import STRICT
from pipeline.evaluation.protocols.people import ALIGNED, METRIC
from pipeline.flame.stand_in import stand_in
from pipeline.store import open_store
from pipeline.training.config import TrainingConfig
from pipeline.training.head_scores import at_mean_size, head_scores, true_heads
from pipeline.training.run.heads import write_heads
from pipeline.training.system import Setting
from tests.evaluation.commanding import evaluate, row

FACES = stand_in().faces


@pytest.fixture(scope="module")
def setting(made_people: Path) -> Setting:
    return Setting(open_store(made_people), stand_in(), TrainingConfig(), torch.device("cpu"))


@pytest.fixture(scope="module")
def predicted(setting: Setting) -> dict[str, Tensor]:
    """Half way from the mean head to the true ones of the test split."""
    template = torch.from_numpy(stand_in().template_mm).float()
    return {who: (head + template) / 2 for who, head in true_heads(setting.store, "test").items()}


def test_figures_are_those_of_the_command(
    setting: Setting, predicted: dict[str, Tensor], made_people: Path, tmp_path: Path
) -> None:
    files = write_heads(tmp_path / "heads", predicted, FACES)
    assert [file.suffix for file in files] == [".ply"] * 3
    found = evaluate("people", made_people, tmp_path / "heads", tmp_path / "out")
    assert (found["status"], found["scored"], found["unit"]["unit"]) == (0, 3, "mm")
    ours = head_scores(predicted, setting, "test")
    for mode in (METRIC, ALIGNED):
        theirs = row(found, mode, STRICT)["median_mm"]
        mean = row(found, mode, STRICT, of="mean head")["median_mm"]
        assert ours[f"{mode}_median_mm"] == pytest.approx(theirs, abs=1e-4)
        assert ours[f"mean_head_{mode}_median_mm"] == pytest.approx(mean, abs=1e-4)
        assert ours[f"{mode}_ratio"] == pytest.approx(theirs / mean, abs=1e-3)
        assert 0.3 < ours[f"{mode}_ratio"] < 0.7


def test_only_so_many_people_are_scored(setting: Setting, predicted: dict[str, Tensor]) -> None:
    first, *_ = predicted
    alone = head_scores({first: predicted[first]}, setting, "test")
    assert head_scores(predicted, setting, "test", limit=1) == alone
    assert head_scores(predicted, setting, "test") != alone
    assert head_scores(predicted, setting, "test", limit=7) == head_scores(
        predicted, setting, "test"
    )


def test_perfect_shapes_at_mean_size_are_wrong_in_size_alone(setting: Setting) -> None:
    true = true_heads(setting.store, "test")
    found = head_scores(at_mean_size(true, setting.model), setting, "test")
    assert found["aligned_median_mm"] < 1e-3 < 0.05 < found["metric_median_mm"]
    assert found["metric_ratio"] < 1


def test_a_head_that_diverged_is_an_error(setting: Setting, predicted: dict[str, Tensor]) -> None:
    first, *_ = predicted
    bad = predicted | {first: torch.full_like(predicted[first], torch.nan)}
    with pytest.raises(FacefoldError, match=f"{first} has values that are not finite"):
        head_scores(bad, setting, "test")


def test_heads_of_others_are_an_error(setting: Setting, predicted: dict[str, Tensor]) -> None:
    with pytest.raises(FacefoldError, match="none of 3 heads is of the people of val"):
        head_scores(predicted, setting, "val")
    with pytest.raises(StoreError, match="no people in the split 'dev'"):
        head_scores(predicted, setting, "dev")


def test_heads_that_cannot_be_written_are_an_error(
    predicted: dict[str, Tensor], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FacefoldError, match="name another folder"):
        write_heads(tmp_path / "file", predicted, FACES)
