"""What is read of losses, and the files that show it."""

from __future__ import annotations

import json
import logging
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.errors import FacefoldError
from pipeline.training.run.curve_picture import COLOURS, save_curves
from pipeline.training.run.curves import Sums, event_files, write_points
from pipeline.training.system import Losses


def losses(total: float, **terms: float) -> Losses:
    return Losses(torch.tensor(total), {k: torch.tensor(v) for k, v in terms.items()})


def test_means_are_over_the_steps_since_the_last_point() -> None:
    sums = Sums()
    assert sums.means(0) == {}
    for value in (1.0, 2.0, 6.0):
        sums.add(losses(value, half=value / 2))
    assert sums.means(3) == {"total": 3.0, "half": 1.5}
    sums.clear()
    sums.add(losses(5.0, other=1.0))  # another point may have other terms
    assert sums.means(4) == {"total": 5.0, "other": 1.0}


def test_sums_go_on_from_what_was_saved(tmp_path: Path) -> None:
    sums, other = Sums(), Sums()
    sums.add(losses(1.0, a=2.0))
    torch.save(sums.state_dict(), tmp_path / "sums.pt")
    state = torch.load(tmp_path / "sums.pt", weights_only=True)
    other.load_state_dict(state, torch.device("cpu"))
    for one in (sums, other):
        one.add(losses(3.0, a=4.0))
        assert one.means(2) == {"total": 2.0, "a": 3.0}


def test_terms_are_the_same_in_each_step() -> None:
    sums = Sums()
    sums.add(losses(1.0, a=1.0))
    with pytest.raises(ValueError, match=r"terms are \('total', 'b'\), those of the step before"):
        sums.add(losses(1.0, b=1.0))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_step_and_terms_that_are_not_finite_are_named(bad: float) -> None:
    sums = Sums()
    for step in range(5):
        fails = step >= 2
        later = math.nan if step >= 3 else 1.0
        sums.add(losses(bad if fails else 1.0, good=1.0, first=bad if fails else 1.0, then=later))
    with pytest.raises(FacefoldError, match=r"loss of step 103 is not finite \(terms: first\);"):
        sums.means(105)


def test_a_figure_that_is_not_known_is_no_fault(tmp_path: Path) -> None:
    sums = Sums()
    sums.add(losses(1.0, share=math.nan))
    found = sums.means(1)
    assert found["total"] == 1.0 and math.isnan(found["share"])
    write_points(tmp_path / "curves.jsonl", [{"step": 1, **found}])
    assert json.loads((tmp_path / "curves.jsonl").read_text()) == {
        "step": 1, "total": 1.0, "share": None
    }  # fmt: skip


def test_event_files_hold_each_point_once(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with event_files(tmp_path, 0) as events:
        for step in (2, 4, 6):
            events.add({"step": step, "loss/total": 1.0 / step, "learning_rate": 0.1})
    with event_files(tmp_path, 4) as events:  # the checkpoint was of step 4
        for step in (6, 8):
            events.add({"step": step, "loss/total": 2.0 / step})
        events.flush()
    found = accumulator.EventAccumulator(str(tmp_path)).Reload()
    shown = [(event.step, event.value) for event in found.Scalars("loss/total")]
    assert [step for step, _ in shown] == [2, 4, 6, 8]
    assert [value for _, value in shown] == pytest.approx([0.5, 0.25, 2 / 6, 0.25])
    assert [event.step for event in found.Scalars("learning_rate")] == [2, 4]


def test_without_tensorboard_a_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("facefold")
    log.addHandler(handler)
    before = log.level
    log.setLevel(logging.INFO)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    try:
        with event_files(tmp_path / "events", 0) as events:
            events.add({"step": 1, "loss/total": 1.0})
            events.flush()
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
    line = "no TensorBoard files: install facefold[train] for them; curves.jsonl has all points"
    assert said == [line]
    assert not (tmp_path / "events").exists()


def points() -> list[dict[str, float]]:
    steps = range(10, 510, 10)
    found: list[dict[str, float]] = [
        {"step": s, "loss/total": 100.0 / s + 0.1, "loss/shape": 100.0 / s, "learning_rate": 1.0}
        for s in steps
    ]
    for step in range(100, 600, 100):
        named = {"median_mm": 3 - step / 400, "mean_mm": math.nan, "right_share": step / 500}
        found.append({"step": step, **{f"validation/{k}": v for k, v in named.items()}})
    return found


def test_the_picture_shows_losses_and_each_unit(tmp_path: Path) -> None:
    save_curves(tmp_path / "all.png", points(), "A system", best_step=500)
    save_curves(tmp_path / "none.png", points(), "A system")
    picture, without = (np.asarray(Image.open(tmp_path / n)) for n in ("all.png", "none.png"))
    assert picture.shape[1] == pytest.approx(3 * 5 * 130, abs=3)  # losses, mm, shares
    first = [int(COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)]
    coloured = (np.abs(picture[..., :3].astype(int) - first) < 8).all(-1)
    columns = np.flatnonzero(coloured.any(0)) // 650
    assert set(columns.tolist()) >= {1, 2}
    assert (picture != without).any()  # the dots of the best weights
    again = tmp_path / "again.png"
    save_curves(again, points(), "A system", best_step=500)
    assert again.read_bytes() == (tmp_path / "all.png").read_bytes()


def test_no_points_no_picture_and_no_place_is_said(tmp_path: Path) -> None:
    save_curves(tmp_path / "none.png", [], "A system")
    assert not (tmp_path / "none.png").exists()
    with pytest.raises(FacefoldError, match="the picture cannot be written"):
        save_curves(tmp_path / "no" / "folder.png", points(), "A system")
