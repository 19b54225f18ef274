"""Checkpoints: what they belong to, and what a run refuses."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import FacefoldError, StoreError
from pipeline.flame.assets import load_model
from pipeline.store import subset
from pipeline.store.reader import open_store
from pipeline.training.config import Optimiser
from pipeline.training.run import results
from pipeline.training.run.checkpoints import only_training, read
from pipeline.training.run.loop import train
from pipeline.training.system import Setting
from tests.training.toy import SYSTEM, ToyConfig


@pytest.fixture(autouse=True)
def not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "save_curves", lambda *given: None)


def setting_of(store: Path, **keys: object) -> Setting:
    asked = ToyConfig.model_validate({"steps": 4, **keys})
    return Setting(open_store(store), load_model(), asked, torch.device("cpu"))


@pytest.fixture
def begun(made_people: Path, tmp_path: Path) -> Path:
    """The folder of a training that was stopped after its first step."""
    train(SYSTEM, setting_of(made_people), tmp_path / "out", seconds=0)
    return tmp_path / "out"


def test_nothing_but_tensors_and_plain_values(begun: Path) -> None:
    found = torch.load(begun / "checkpoint.pt", weights_only=True)
    assert set(found) == {"of", "learner", "optimiser", "loader", "progress"}
    assert found["progress"]["step"] == 1 and found["of"]["config"]["steps"] == 4
    assert found["of"]["model"] == load_model().digest


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"seed": 1}, r"config\.seed: 1 here, 0 there"),
        ({"optimiser": Optimiser(learning_rate=0.5)}, r"learning_rate: 0\.5 here, 0\.001 there"),
        ({"batch": 8, "side": 4}, r"config\.batch: 8 here, 4 there; config\.side: 4 here, 8 there"),
    ],
)
def test_another_configuration_is_refused(
    made_people: Path, begun: Path, keys: dict[str, object], said: str
) -> None:
    with pytest.raises(FacefoldError, match=said + r".*undo the change, or name another --out"):
        train(SYSTEM, setting_of(made_people, **keys), begun)


def test_how_long_and_how_often_may_change(made_people: Path, begun: Path) -> None:
    often = {"steps": 6, "validate_every": 2, "save_every": 2, "report_every": 1, "threads": 0}
    assert train(SYSTEM, setting_of(made_people, **often), begun).step == 6


def test_another_system_or_model_is_refused(made_people: Path, begun: Path) -> None:
    setting = setting_of(made_people)
    with pytest.raises(FacefoldError, match="system: Other here, Toy there"):
        train(replace(SYSTEM, title="Other"), setting, begun)
    model = load_model()
    larger = replace(model, template_mm=model.template_mm * 1.01)
    with pytest.raises(FacefoldError, match=f"model: {larger.digest} here, {model.digest} there"):
        train(SYSTEM, replace(setting, model=larger), begun)


@pytest.fixture(scope="module")
def versions(made_people: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two of one store; `head_on` says which of them it is at."""
    folder = tmp_path_factory.mktemp("versions")
    store = folder / "people.zarr"
    shutil.copytree(made_people, store)
    old = open_store(store).path
    new = subset(store, "split != 'test'", folder / "part.zarr")
    shutil.move(new, store / "versions" / new.name)
    return old, store / "versions" / new.name


def head_on(version: Path) -> Path:
    """The store, its HEAD naming the version."""
    store = version.parents[1]
    (store / "HEAD").write_text(version.name + "\n")
    return store


def test_it_stays_with_its_version_of_the_store(
    versions: tuple[Path, Path], tmp_path: Path
) -> None:
    old, new = versions
    out, whole = tmp_path / "out", tmp_path / "whole"
    train(SYSTEM, setting_of(head_on(old)), whole)
    train(SYSTEM, setting_of(head_on(old)), out, seconds=0)
    found = train(SYSTEM, setting_of(head_on(new)), out)
    assert found.setting.store.path == old
    one, other = (torch.load(o / "checkpoint.pt", weights_only=True) for o in (whole, out))
    assert one["learner"]["layer.weight"].equal(other["learner"]["layer.weight"])
    fresh = train(SYSTEM, setting_of(head_on(new)), tmp_path / "fresh", seconds=0)
    assert fresh.setting.store.path == new


def test_another_version_by_name_is_refused(versions: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = versions
    train(SYSTEM, setting_of(head_on(new)), tmp_path / "out", seconds=0)
    with pytest.raises(StoreError, match=f"of version {new.name} of its store; name {new}, or"):
        train(SYSTEM, setting_of(old), tmp_path / "out")


def test_a_version_that_is_gone_is_said(versions: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = versions
    train(SYSTEM, setting_of(head_on(old)), tmp_path / "out", seconds=0)
    store = head_on(new)
    old.rename(tmp_path / "gone")
    with pytest.raises(StoreError, match=f"{old.name} of its store, which is not beside this one"):
        train(SYSTEM, setting_of(store), tmp_path / "out")
    (tmp_path / "gone").rename(old)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a one"])
def test_a_damaged_one_is_refused(made_people: Path, begun: Path, content: bytes) -> None:
    (begun / "checkpoint.pt").write_bytes(content)
    with pytest.raises(FacefoldError, match=r"checkpoint\.pt: no checkpoint of facefold, or a dam"):
        train(SYSTEM, setting_of(made_people), begun)


def test_half_of_one_and_others_files_are_refused(begun: Path, tmp_path: Path) -> None:
    path = begun / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FacefoldError, match="a damaged one"):
        read(path)
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(FacefoldError, match="no checkpoint of facefold"):
        read(tmp_path / "other.pt")
    torch.save(np.float64, tmp_path / "code.pt")
    with pytest.raises(FacefoldError, match="no checkpoint of facefold"):
        read(tmp_path / "code.pt")
    assert read(tmp_path / "none.pt") is None


def test_best_weights_that_are_gone_are_missed(made_people: Path, tmp_path: Path) -> None:
    train(SYSTEM, setting_of(made_people), tmp_path)
    (tmp_path / "best.pt").unlink()
    with pytest.raises(FacefoldError, match=r"best\.pt: missing, the checkpoint beside it names"):
        train(SYSTEM, setting_of(made_people, steps=6), tmp_path)


def test_a_full_disk_leaves_the_one_before(
    made_people: Path, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = (begun / "checkpoint.pt").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left on device"):
            train(SYSTEM, setting_of(made_people), begun)
    assert (begun / "checkpoint.pt").read_bytes() == before
    assert not list(begun.glob(".checkpoint*"))
    assert train(SYSTEM, setting_of(made_people), begun).finished


def test_one_training_at_a_time_in_a_folder(made_people: Path, tmp_path: Path) -> None:
    with (
        only_training(tmp_path),
        pytest.raises(FacefoldError, match="another training is at work there"),
    ):
        train(SYSTEM, setting_of(made_people), tmp_path)
    assert train(SYSTEM, setting_of(made_people), tmp_path).finished
