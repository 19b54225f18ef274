"""The demo: every file accounted for, accuracy against the truth, a store any Zarr reader opens, a
network trained and scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import xarray as xr
import zarr

from flows.demo_training import show_training, train_and_score
from pipeline.flame.stand_in import stand_in
from pipeline.registration import RegistrationOptions
from pipeline.registration.anchor import anchored
from pipeline.registration.template import prepare_template
from pipeline.store import open_store
from pipeline.synthetic import archive, load_truth
from pipeline.synthetic.people import make_person
from pipeline.training.config import load_config
from pipeline.training.mica import MicaConfig
from tests.evaluation.commanding import evaluate
from tests.evaluation.people_store import heads_of, write_people
from tests.flows.conftest import Demo, facefold_in_process


def test_every_file_is_accounted_for(demo: Demo) -> None:
    summary = demo.summary
    assert summary["found"] == summary["kept"] + summary["quarantined"] + summary["excluded"]
    assert summary["found"] + summary["companions"] == sum(
        path.is_file() for path in (demo.folder / "sources").rglob("*")
    )
    assert len(summary["sources"]) >= 4
    assert all(row["kept"] > 0 for row in summary["sources"])


def test_broken_files_and_no_others_are_quarantined_for_the_right_reason(demo: Demo) -> None:
    assert demo.summary["surprises"] == []
    assert demo.summary["quarantined"] == len(demo.summary["quarantine"]) >= 7
    assert all(row["stage"] and row["reason"] for row in demo.summary["quarantine"])


def test_registrations_are_near_the_truth(demo: Demo) -> None:
    for row in demo.summary["accuracy"]:
        assert row["mean"] <= 1.5, row


def test_the_store_is_plain_zarr_and_parquet(demo: Demo) -> None:
    group = zarr.open_group(demo.summary["store"], mode="r")
    manifest = pd.read_parquet(Path(demo.summary["store"]) / "manifest.parquet")
    assert group["vertices_mm"].shape == (demo.summary["kept"], 5023, 3)
    assert len(manifest) == demo.summary["kept"]
    assert group.attrs["model"]["is_stand_in"] is True
    ours = open_store(demo.summary["store"]).read("vertices_mm", np.arange(len(manifest)))
    np.testing.assert_array_equal(group["vertices_mm"][:], ours)
    opened = xr.open_zarr(demo.summary["store"])
    np.testing.assert_array_equal(opened["vertices_mm"], ours)
    assert opened["scan_id"].values.tolist() == manifest["scan_id"].tolist()
    assert opened["faces"].shape == (9976, 3) and {"face", "eyeballs"} <= {*opened["region"].values}
    # as many points as the scans have, not as many as shards have room for
    assert opened.sizes["point"] == opened["points_at"].values[:, 1].sum()


def test_no_identity_in_two_splits_and_shared_people_are_one(demo: Demo) -> None:
    manifest = pd.read_parquet(Path(demo.summary["store"]) / "manifest.parquet")
    assert (manifest.groupby("identity")["split"].nunique() == 1).all()
    assert (manifest.groupby("identity")["source"].nunique() > 1).any()


def test_the_console_says_that_the_model_is_a_stand_in(demo: Demo) -> None:
    assert "stand-in" in demo.stderr


def test_pictures_are_drawn(demo: Demo) -> None:
    assert len(demo.summary["pictures"]) == len(demo.summary["sources"]) + 1
    assert Path(demo.summary["pictures"][-1]).name == "views.png"
    assert all(Path(picture).stat().st_size > 10_000 for picture in demo.summary["pictures"])


def test_there_are_views_of_every_kind(demo: Demo) -> None:
    store = open_store(demo.summary["store"])
    views = store.views.to_pandas()
    assert {*views["kind"]} == {"photo", "render", "shaded"}
    assert {*views["camera"]} == {"grid", "landmarks", "sampled"}
    rows = np.arange(len(views))
    landmarks = store.read("registered_landmarks_mm", store.scan_row_of_view)
    matrices, poses = (
        store.read_views(name, rows) for name in ("camera_matrix_px", "canonical_to_camera")
    )
    in_camera = np.einsum("nij,nkj->nki", poses[:, :3, :3], landmarks) + poses[:, None, :3, 3]
    x, y, z = np.moveaxis(np.einsum("nij,nkj->nki", matrices, in_camera), 2, 0)
    projected = np.stack([x / z, y / z], axis=2)
    assert np.abs(projected - store.read_views("landmarks_px", rows)).max() < 0.5


def test_inspect_and_verify(demo: Demo) -> None:
    store = demo.folder / "unified.zarr"
    assert facefold_in_process("inspect", store, "--json").json["rows"] == demo.summary["kept"]
    assert facefold_in_process("verify", store, "--json").json["faults"] == []


def test_wrong_names_are_reported_and_left_for_a_person_to_decide(demo: Demo) -> None:
    people = demo.summary["people"]
    found = {row["kind"]: row for row in people["findings"]}
    assert {"swapped", "misfiled", "filed twice", "duplicate"} <= found.keys()
    assert archive.MISLABELLED["swapped"] == {*found["swapped"]["scans"]}
    manifest = pd.read_parquet(Path(demo.summary["store"]) / "manifest.parquet").set_index(
        "scan_id"
    )
    doubted = manifest[manifest["reason_codes"].str.contains("not_this_person", na=False)]
    assert {*doubted.index} == archive.MISLABELLED["swapped"] | archive.MISLABELLED["misfiled"]
    assert (doubted["verdict"] == "review").all()
    text = Path(people["decide"]).read_text()
    assert all(name in text for name in archive.MISLABELLED["filed twice"])


def test_every_person_has_one_label_near_the_truth(demo: Demo) -> None:
    """A scan that is swapped or misfiled is no part of the label of its name."""
    store, model = open_store(demo.summary["store"]), stand_in()
    template = prepare_template(model, "cpu", RegistrationOptions().modes)
    face = np.setdiff1d(model.regions["face"], model.regions["eyeballs"])
    rows = store.manifest.select(["scan_id", "source", "identity", "identity_row"]).to_pylist()
    labels = store.read_identities("identity_neutral_mm", np.arange(store.form.identities))
    errors = {}
    for row in rows:
        if row["scan_id"] in archive.MISLABELLED["swapped"] | archive.MISLABELLED["misfiled"]:
            continue
        stem = row["scan_id"].partition(":")[2]
        name = load_truth(demo.folder, row["source"], stem).identity
        neutral = make_person(model, 0, int(name.removeprefix("person"))).neutral_mm
        true = anchored(template, torch.from_numpy(neutral)).numpy()
        apart = np.linalg.norm(labels[row["identity_row"]] - true, axis=1)
        errors[row["identity"]] = apart[face].mean()
    assert np.mean([*errors.values()]) < 1.0, errors
    assert max(errors.values()) < 1.5, errors


def test_a_network_is_trained_and_its_heads_are_scored(demo: Demo) -> None:
    found, folder = demo.summary["training"], demo.folder / "training"
    assert (found["system"], found["split"]) == ("MICA", "test")
    assert found["steps"] >= 1 and found["trained_on"] >= 5 and found["people"] >= 1
    for mode in ("metric", "aligned"):
        own, mean = found[f"{mode}_median_mm"], found[f"mean_head_{mode}_median_mm"]
        assert 0 < own < 10 and 0.1 < mean < 5
        assert found[f"{mode}_ratio"] == pytest.approx(own / mean)
    assert load_config(folder / "config.yaml", MicaConfig).backbone == "small"
    assert (folder / "curves.png").stat().st_size > 10_000
    assert len([*(folder / "heads").glob("*.ply")]) == found["people"]


def test_the_heads_of_the_demo_score_the_same_by_the_command(demo: Demo, tmp_path: Path) -> None:
    found, heads = demo.summary["training"], demo.folder / "training" / "heads"
    said = evaluate("people", demo.folder / "unified.zarr", heads, tmp_path / "out")
    asked = {missing["case"] for missing in said["missing"]}  # of whom there is no picture
    assert said["asked"] == found["people"] + len(asked)
    scores = pq.read_table(tmp_path / "out" / "scores.parquet").to_pandas()
    for mode in ("metric", "aligned"):
        medians = scores[(scores["mode"] == mode) & ~scores["missing"]]["median_mm"]
        assert medians.min() - 1e-3 <= found[f"{mode}_median_mm"] <= medians.max() + 1e-3


def test_the_last_table_says_what_it_is_worth(
    demo: Demo, capsys: pytest.CaptureFixture[str]
) -> None:
    show_training(demo.summary["training"])
    said = capsys.readouterr().out
    assert "mean head" in said and "MICA" in said and "not that it learns" in " ".join(said.split())
    show_training({"skipped": "nobody has a picture"})
    assert "no training: nobody has a picture" in capsys.readouterr().out


def test_nothing_is_trained_on_a_store_without_pictures(tmp_path: Path) -> None:
    told = [{"split": "train"}, {"split": "test"}]
    store = write_people(tmp_path / "bare.zarr", stand_in(), heads_of(stand_in(), 4, seed=0), told)
    found = train_and_score(store, stand_in(), tmp_path / "training", "cpu", seconds=1)
    assert "too few people have pictures" in found["skipped"]
    assert not (tmp_path / "training").exists()
