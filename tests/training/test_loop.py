"""What a training does, on a system that is small and real."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipeline.errors import FacefoldError, MachineError
from pipeline.flame.assets import load_model
from pipeline.loaders import FaceLoader, identities
from pipeline.store.reader import open_store
from pipeline.training.config import Optimiser, load_config
from pipeline.training.run import loop, results
from pipeline.training.run.loop import train
from pipeline.training.run.progress import Step, Trained
from pipeline.training.run.steps import parts_of, take_step
from pipeline.training.system import Losses, Samples, Setting, System
from tests.training.toy import SYSTEM, Toy, ToyConfig, measure, samples

Make = Callable[..., Setting]


@pytest.fixture(scope="module")
def make(made_people: Path) -> Make:
    store, model = open_store(made_people), load_model()
    return lambda **keys: Setting(store, model, ToyConfig(**keys), torch.device("cpu"))


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No curves, which take a third of a second, where nobody looks at them."""
    if "leaves" not in request.node.name:
        monkeypatch.setattr(results, "save_curves", lambda *given: None)


def weights(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["learner"]
    return found


def assert_same(one: Path, other: Path) -> None:
    ours, theirs = weights(one / "checkpoint.pt"), weights(other / "checkpoint.pt")
    assert all(ours[name].equal(theirs[name]) for name in ours)
    assert (one / "curves.jsonl").read_text() == (other / "curves.jsonl").read_text()


def stopped_after(n: int, **named: Any) -> dict[str, Any]:
    """Arguments of `train`."""
    left = [True] * n

    def stopped() -> bool:
        left.pop()
        return not left

    return {"stopped": stopped, **named}


def test_it_learns_what_it_is_shown(make: Make, tmp_path: Path) -> None:
    fast = {"optimiser": Optimiser(learning_rate=0.1), "noise": 0.0, "dropout": 0.0}
    setting = make(steps=150, batch=32, report_every=10, **fast)
    found = train(SYSTEM, setting, tmp_path)
    losses = [p["loss/shape"] for p in found.history if "loss/shape" in p]
    assert len(losses) == 15 and losses[-1] < 0.3 * losses[0]
    assert found.finished and found.step == 150
    assert found.samples_per_second > 0 and found.seconds > 0


def test_a_point_is_the_mean_of_its_steps(make: Make, tmp_path: Path) -> None:
    each = train(SYSTEM, make(steps=12, report_every=1), tmp_path / "each").history
    some = train(SYSTEM, make(steps=12, report_every=4), tmp_path / "some").history
    ours = [p["loss/total"] for p in each if "loss/total" in p]
    theirs = {p["step"]: p["loss/total"] for p in some if "loss/total" in p}
    assert theirs == pytest.approx({n: sum(ours[n - 4 : n]) / 4 for n in (4, 8, 12)})


def test_stopped_anywhere_it_goes_on_exactly(make: Make, tmp_path: Path) -> None:
    asked = {"report_every": 5, "validate_every": 4, "save_every": 100}
    train(SYSTEM, make(**asked), tmp_path / "whole")
    steps = []
    while not steps or steps[-1] < 12:
        found = train(SYSTEM, make(**asked), tmp_path / "parts", **stopped_after(2))
        steps.append(found.step)
        assert found.finished == (found.step == 12)
    assert steps == [2, 4, 6, 8, 10, 12]
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_seconds_end_it_with_a_checkpoint(make: Make, tmp_path: Path) -> None:
    found = train(SYSTEM, make(), tmp_path, seconds=0)
    assert (found.step, found.finished, found.best_step) == (1, False, None)
    assert not (tmp_path / "examples.png").exists()
    again = train(SYSTEM, make(), tmp_path)
    assert again.finished and again.seconds > found.seconds


def test_a_finished_one_is_not_trained_again(make: Make, tmp_path: Path) -> None:
    first = train(SYSTEM, make(), tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    reported: list[Step] = []
    second = train(SYSTEM, make(), tmp_path, report=reported.append)
    assert not reported and second.figures == first.figures
    assert second.history == first.history
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    longer = train(SYSTEM, make(steps=15, report_every=1), tmp_path, report=reported.append)
    assert [step.step for step in reported] == [13, 14, 15] and longer.step == 15
    with pytest.raises(FacefoldError, match=r"of step 15, steps: 12 are asked for; ask for more"):
        train(SYSTEM, make(), tmp_path)


def test_the_seed_decides_the_weights_alone(make: Make, tmp_path: Path) -> None:
    torch.manual_seed(1)
    train(SYSTEM, make(), tmp_path / "one")
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert drawn.equal(torch.rand(3))  # what others draw is not touched
    torch.manual_seed(2)
    train(SYSTEM, make(), tmp_path / "two")
    train(SYSTEM, make(seed=1), tmp_path / "other")
    assert_same(tmp_path / "one", tmp_path / "two")
    one, other = (weights(tmp_path / n / "checkpoint.pt") for n in ("one", "other"))
    assert not one["layer.weight"].equal(other["layer.weight"])


def test_only_what_asks_for_it_is_trained(make: Make, tmp_path: Path) -> None:
    setting = make(optimiser=Optimiser(learning_rate=0.1, weight_decay=0.5))
    fresh = parts_of(SYSTEM, setting).learner.state_dict()
    trained = train(SYSTEM, setting, tmp_path).learner.state_dict()
    assert trained["frozen.weight"].equal(fresh["frozen.weight"])
    assert not trained["layer.weight"].equal(fresh["layer.weight"])
    assert trained["seen"] == 12 * 4
    assert "decoder.template" not in trained


def test_the_rate_follows_its_schedule(make: Make, tmp_path: Path) -> None:
    asked = Optimiser(learning_rate=0.5, schedule="cosine", warm_up=3)
    found = train(SYSTEM, make(report_every=1, optimiser=asked), tmp_path)
    rates = [p["learning_rate"] for p in found.history if "learning_rate" in p]
    assert rates == [asked.rate(step, 12) for step in range(12)]
    assert rates[0] < rates[2] > rates[11] > 0


@pytest.mark.parametrize(("largest", "scaled"), [(1e-3, True), (0.0, False), (1e3, False)])
def test_gradients_are_scaled_to_the_largest_allowed(
    make: Make, largest: float, scaled: bool
) -> None:
    parts = parts_of(SYSTEM, make(optimiser=Optimiser(largest_gradient=largest)))
    take_step(parts, next(iter(parts.loader)), 0)
    norm = float(torch.cat([p.grad.flatten() for p in parts.learner.layer.parameters()]).norm())
    assert norm == pytest.approx(1e-3, rel=1e-3) if scaled else norm > 0.01


def test_adam_and_adamw_differ_in_how_weights_decay(make: Make) -> None:
    kinds = {}
    for name in ("adam", "adamw"):
        asked = Optimiser(name=name, learning_rate=0.01, weight_decay=0.1)  # type: ignore[arg-type]
        optimiser = parts_of(SYSTEM, make(optimiser=asked)).optimiser
        kinds[name] = type(optimiser).__name__
        assert optimiser.param_groups[0]["weight_decay"] == 0.1
    assert kinds == {"adam": "Adam", "adamw": "AdamW"}


class Failing(Toy):
    """Its loss is not a number from a step on."""

    def forward(self, batch: Any, moment: Any) -> Losses:
        total, terms = super().forward(batch, moment)
        bad = total * (math.nan if moment.step >= 7 else 1)
        return Losses(bad, {**terms, "shape": terms["shape"] + bad})


def test_a_loss_that_is_not_finite_ends_it(make: Make, tmp_path: Path) -> None:
    failing = replace(SYSTEM, learner=Failing)
    said = r"the loss of step 8 is not finite \(terms: shape\); lower optimiser.learning_rate"
    with pytest.raises(FacefoldError, match=said):
        train(failing, make(report_every=5), tmp_path / "read")
    with pytest.raises(FacefoldError, match=r"the loss of step 8 is not finite \(terms: shape\)"):
        train(failing, make(save_every=4, report_every=12), tmp_path / "saved")
    kept = torch.load(tmp_path / "saved" / "checkpoint.pt", weights_only=True)
    assert kept["progress"]["step"] == 4
    assert all(v.isfinite().all() for v in kept["learner"].values())


def measured_as(figures: list[float]) -> System:
    left = iter(figures)
    return replace(SYSTEM, measure=lambda *_: {"shape_rms": next(left), "other": math.nan})


def test_the_best_weights_are_kept(make: Make, tmp_path: Path) -> None:
    setting = make(validate_every=3, save_every=3)
    found = train(measured_as([math.nan, 2.0, math.nan, 3.0]), setting, tmp_path / "one")
    assert found.best_step == 6 and found.figures["shape_rms"] == 2.0
    until = train(SYSTEM, make(validate_every=3), tmp_path / "two", **stopped_after(6))
    assert until.step == 6
    theirs = weights(tmp_path / "two" / "checkpoint.pt")
    assert found.learner.state_dict()["layer.weight"].equal(theirs["layer.weight"])
    assert not found.learner.training


def test_figures_are_those_of_the_weights(make: Make, tmp_path: Path) -> None:
    found = train(SYSTEM, make(validate_every=2), tmp_path)
    assert measure(found.learner, found.setting, "val") == found.figures
    seen = [p["validation/shape_rms"] for p in found.history if "validation/shape_rms" in p]
    assert len(seen) == 6 and min(seen) == found.figures["shape_rms"]


def test_without_a_figure_the_last_weights_stay(make: Make, tmp_path: Path) -> None:
    found = train(measured_as([math.nan]), make(), tmp_path)
    assert found.best_step is None and found.figures == {}
    assert not (tmp_path / "best.pt").exists()
    last = weights(tmp_path / "checkpoint.pt")["layer.weight"]
    assert found.learner.state_dict()["layer.weight"].equal(last)
    assert json.loads((tmp_path / "result.json").read_text())["figures"] == {}


def test_what_it_leaves(make: Make, tmp_path: Path) -> None:
    reported: list[Step] = []
    setting = make(report_every=4)
    found: Trained = train(SYSTEM, setting, tmp_path, report=reported.append)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["steps"] == 12 and result["finished"] and result["processes"] == 1
    assert result["figures"] == found.figures and result["best_step"] == 12
    assert result["store_version"] == setting.store.version
    assert load_config(tmp_path / "config.yaml", ToyConfig) == setting.config
    assert Image.open(tmp_path / "examples.png").size == (112, 112)
    assert Image.open(tmp_path / "curves.png").size[0] > 800
    points = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    assert tuple(points) == found.history
    assert [point["step"] for point in points] == [4, 8, 12, 12]
    assert [step.step for step in reported] == [*range(1, 13)]
    assert [step.step for step in reported if step.values] == [4, 8, 12]
    assert set(reported[-1].values) == {
        "loss/total", "loss/shape", "loss/size", "validation/shape_rms"
    }  # fmt: skip


def in_pairs(setting: Setting, split: str) -> Samples:
    dataset = samples(setting, split).dataset
    return Samples(dataset, identities(dataset, k=2, unit="view", seed=setting.config.seed))


def test_batches_that_part_a_group_are_refused(make: Make, tmp_path: Path) -> None:
    pairs = replace(SYSTEM, samples=in_pairs, measure=lambda *_: {"shape_rms": 1.0})
    said = "batch 3: cannot be shared in groups of 2; make it a multiple of 2"
    with pytest.raises(FacefoldError, match=said):
        train(pairs, make(batch=3), tmp_path)
    found = train(pairs, make(batch=4, seed=3), tmp_path)
    assert found.finished


def test_epochs_follow_each_other(make: Make) -> None:
    parts = parts_of(SYSTEM, make(batch=16))
    assert isinstance(parts.loader, FaceLoader) and len(parts.loader) == 2


def test_processes_that_see_other_checkpoints_are_refused(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "first_says", lambda ask: 5)
    with pytest.raises(MachineError, match="process 0 sees no checkpoint, or another than the fir"):
        train(SYSTEM, make(), tmp_path)
