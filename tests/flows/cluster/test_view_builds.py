"""Builds with views by the real command on real workers; registration leaves the template where it
is, which is where the scans are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from pipeline.build.config import load_build
from pipeline.build.plan import known_views, make_plan
from pipeline.build.result_files import load_row, load_view_arrays, result_path, views_path
from pipeline.flame.assets import load_model
from pipeline.views.camera import Camera
from tests.flows.conftest import Run, facefold, facefold_in_process
from tests.simulated import SURROUNDINGS
from tests.small_build import build_of, write_registry
from tests.views.heads import head, landmarks_mm, model, photo_of
from tests.views.sampled_cameras import looking_at

PEOPLE = ("p1", "p2", "p3")
VIEWS: dict[str, Any] = {
    "photos": [
        {
            "file": "{stem}.png",
            "camera": "landmarks",
            "landmarks": {"file": "{stem}.pts", "format": "pts", "scheme": "ibug68"},
        }
    ],
    "renders": 2,
    "yaw_deg": [-20, 20],
}


class Folder(NamedTuple):
    path: Path

    def registry(self, **views: Any) -> None:
        scans = {
            "include": ["*.obj"],
            "name": r"(?P<subject>p\d+)_(?P<expression>neutral)\.obj",
            "companions": ["*.pts", "*.png"],
        }
        limits = {"max_rejected_share": 1.0}
        facts = {"landmarks": "none", "limits": limits, "views": VIEWS | views}
        write_registry(self.path, "lab", scans=scans, **facts)

    def build(self, *more: object, fates: dict[str, str] | None = None) -> Run:
        (self.path / "fates.json").write_text(json.dumps(fates or {}))
        surroundings = {
            "FATES": str(self.path / "fates.json"),
            "DASK_DISTRIBUTED__WORKER__PRELOAD": str(
                Path(__file__).parents[1] / "poisoned_views.py"
            ),
            "SLEEPING": next(iter(SURROUNDINGS.values())),
            "SLEEP_S": "0",
        }
        return facefold(
            "build", self.path / "build.yaml", "--json", *more, surroundings=surroundings
        )

    def views(self) -> dict[str, dict[str, Any]]:
        """View id -> its row with its arrays, from the work folder."""
        config = load_build(self.path / "build.yaml")
        plan = make_plan(config, load_model(config.model))
        registered = {work.record.scan_id: work.keys.register for work in plan.works}
        found = {}
        for scan_id, one in known_views(config, plan.works).items():
            arrays = load_view_arrays(views_path(config.work, one.key)) if one.rows else {}
            marks = load_row(result_path(config.work, registered[scan_id]))
            for i, row in enumerate(one.rows):
                own = {name: values[i] for name, values in arrays.items()}
                own["registered_landmarks_mm"] = marks["registered_landmarks_mm"]
                found[row["view_id"]] = {**row, **own}
        return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Three scans of the stand-in's head with a photo each; one photo is damaged."""
    path = tmp_path_factory.mktemp("views")
    root = path / "lab"
    root.mkdir()
    camera = looking_at(900, 1400, 400, 400, yaw_deg=8)
    pixels = camera.project(landmarks_mm()) + 1
    marks = "\n".join(f"{x:.2f} {y:.2f}" for x, y in pixels)
    faces = [f"f {a} {b} {c}" for a, b, c in model().faces + 1]
    for i, person in enumerate(PEOPLE):
        shade = f"{0.6 + i / 20:.2f} 0.5 0.4"
        rows = [f"v {x:.3f} {y:.3f} {z:.3f} {shade}" for x, y, z in model().template_mm]
        (root / f"{person}_neutral.obj").write_text("\n".join([*rows, *faces]) + "\n")
        photo = photo_of(head(dots=False), camera, root / f"{person}_neutral.png")
        (root / f"{person}_neutral.pts").write_text(f"version: 1\nn_points: 68\n{{\n{marks}\n}}\n")
    photo.write_bytes(photo.read_bytes()[:3000])
    found = Folder(path)
    found.registry()
    build_of(path, "lab", model="stand-in", registration={"modes": 1}, scan_seconds=60)
    return found


def test_views_are_made_once_and_a_changed_camera_renders_again(folder: Folder) -> None:
    first = folder.build().json
    assert (first["kept"], first["recomputed"]) == (3, 3)
    assert first["views"] == {
        "made": 8,
        "kinds": {"photo": 2, "render": 6},
        "refused": {"views: damaged": 1},
    }
    before = folder.views()
    assert len(before) == 8 and "lab:p3_neutral#photo0" not in before
    for name, view in before.items():
        camera = Camera(view["camera_matrix_px"], view["canonical_to_camera"], 224, 224)
        off = camera.project(view["registered_landmarks_mm"]) - view["landmarks_px"]
        assert np.abs(off).max() < 0.5, name

    shutil.rmtree(folder.path / ".facefold" / "views")
    again = folder.build().json
    assert again["views"] == first["views"] and again["store"] == first["store"]
    for name, view in folder.views().items():
        for field, value in view.items():
            assert np.array_equal(value, before[name][field]), f"{name}: {field}"

    folder.registry(yaw_deg=[30, 40])
    turned = folder.build().json
    assert turned["recomputed"] == 0 and turned["reused"] == 3
    assert "registering" not in turned["spent"]["phases_s"]
    assert turned["views"] == first["views"]
    after = folder.views()
    for name, view in after.items():
        if view["kind"] == "render":
            assert 30 <= view["yaw_deg"] <= 40
            assert (view["images"] != before[name]["images"]).any()

    folder.registry()
    anew = folder.views()  # those of the first build are there still
    assert all((anew[n]["images"] == before[n]["images"]).all() for n in before)


def test_views_that_end_their_worker_are_refused_and_the_scan_stays(folder: Folder) -> None:
    folder.registry(renders=1)
    fates = {"lab:p1_neutral": "killed", "lab:p2_neutral": "raise"}
    run = folder.build(fates=fates)
    assert (run.json["kept"], run.json["quarantined"]) == (3, 0)
    assert run.json["views"] == {
        "made": 1,
        "kinds": {"render": 1},
        "refused": {"worker: crashed": 2, "worker: internal": 2, "views: damaged": 1},
    }
    assert run.stderr.count("tried again alone: lab:p1_neutral") == 1


def test_a_dry_run_counts_the_views_to_make(folder: Folder) -> None:
    folder.registry(renders=5)

    def said(*more: str) -> str:
        return facefold_in_process("build", folder.path / "build.yaml", "--dry-run", *more).stdout

    assert "18 views to make" in said()
    assert "views to make" not in said("views=false")
