"""What a source file may say of views: photos with their cameras, and renders."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.build.plan import SHAPING_FIELDS, make_plan
from pipeline.errors import RegistryError
from pipeline.flame.stand_in import stand_in
from pipeline.formats import READERS, WITH_PIXELS
from pipeline.registry import SourceRegistry, load_registry, new_registry
from pipeline.registry.views import CALIBRATION_FORMATS, Views
from tests.small_build import build_of, write_registry, write_source

GRID: dict[str, Any] = {"file": "{dir}/{stem}.jpg", "camera": "grid"}
MARKED: dict[str, Any] = {
    "file": "{dir}/{stem}_?.jpg",
    "camera": "landmarks",
    "landmarks": {"file": "{dir}/{photo}.pts", "format": "pts", "scheme": "ibug68"},
}
CALIBRATED: dict[str, Any] = {
    "file": "{dir}/{stem}/*.jpg",
    "else_file": ["{dir}/{stem}/*.png"],
    "camera": "calibration",
    "calibration": {"file": "{dir}/params.json", "format": "params.json", "camera": "{photo}"},
}


def lab(tmp_path: Path, views: Any, **changes: Any) -> SourceRegistry:
    write_registry(tmp_path, "lab", views=views, **changes)
    return load_registry(tmp_path / "lab.yaml")


def faults_of(tmp_path: Path, views: Any, **changes: Any) -> list[str]:
    with pytest.raises(RegistryError) as caught:
        lab(tmp_path, views, **changes)
    return [fault.partition("lab.yaml: ")[2] for fault in caught.value.faults]


def test_nothing_by_default() -> None:
    assert Views().photos == () and Views().renders == 0
    assert SourceRegistry.model_fields["views"].default == Views()


def test_photos_and_renders(tmp_path: Path) -> None:
    views = {"photos": [MARKED, CALIBRATED], "renders": 4, "yaw_deg": [-30.0, -30.0]}
    registry = lab(tmp_path, views)
    marked, calibrated = registry.views.photos
    assert marked.landmarks is not None and marked.landmarks.scheme == "ibug68"
    assert calibrated.calibration is not None and calibrated.calibration.camera == "{photo}"
    assert registry.views.yaw_deg == (-30.0, -30.0)
    assert registry.views.paths == (
        *("{dir}/{stem}_?.jpg", "{dir}/{photo}.pts"),
        *("{dir}/{stem}/*.jpg", "{dir}/{stem}/*.png", "{dir}/params.json"),
    )


@pytest.mark.parametrize(
    ("photo", "fault"),
    [
        ({"file": "a.jpg"}, "views.photos.0.camera: got nothing, expected this field: `grid`"),
        ({**GRID, "camera": "guess"}, "expected grid, landmarks or calibration"),
        ({**GRID, "landmarks": MARKED["landmarks"]}, "`landmarks` with camera: landmarks and"),
        ({**MARKED, "landmarks": None}, "`landmarks` with camera: landmarks and with no other"),
        ({**CALIBRATED, "calibration": None}, "`calibration` with camera: calibration and"),
        ({**MARKED, "calibration": CALIBRATED["calibration"]}, "as camera is landmarks"),
        ({**GRID, "file": "/a.jpg"}, "a path relative to the root"),
        ({**GRID, "file": "{dir}/{photo}.jpg"}, "views.photos.0.file: got {photo}, expected one"),
        ({**GRID, "file": "*/{stem}.jpg"}, "wildcards nowhere but in the name of an image"),
        (
            {**MARKED, "landmarks": {**MARKED["landmarks"], "file": "{dir}/*.pts"}},
            "views.photos.0.landmarks.file: got {dir}/*.pts, expected wildcards nowhere",
        ),
        (
            {**MARKED, "landmarks": {**MARKED["landmarks"], "scheme": "ibug86"}},
            "did you mean ibug68?",
        ),
        (
            {**CALIBRATED, "calibration": {"file": "a.json", "format": "params.json"}},
            "`camera` for a file of many cameras, and none for a tka",
        ),
        (
            {**CALIBRATED, "calibration": {"file": "a", "format": "tka", "camera": "1"}},
            "`camera` for a file of many cameras, and none for a tka",
        ),
    ],
)
def test_photos_that_cannot_be_used(tmp_path: Path, photo: dict[str, Any], fault: str) -> None:
    found = faults_of(tmp_path, {"photos": [photo]}, format="abs", neutral="all")
    assert len(found) == 1 and fault in found[0], found


def test_only_range_images_have_a_grid(tmp_path: Path) -> None:
    assert lab(tmp_path, {"photos": [GRID]}, format="abs.gz").views.photos[0].camera == "grid"
    [fault] = faults_of(tmp_path, {"photos": [GRID]})
    assert fault == (
        "views.photos.0.camera: got grid, expected landmarks or calibration: obj has no grid, "
        "only abs, abs.gz, bnt, depth.npz, pcd, png have"
    )
    rule = {"where": {"subject": "p1"}, "reason": "x", "views": {"photos": [GRID]}}
    [fault] = faults_of(tmp_path, {}, rules=[rule])
    assert fault.startswith("rules.0.views.photos.0.camera: got grid")
    # every reader of range images makes them by `grid_scan`
    by_grid = {
        name
        for name, reader in READERS.items()
        if "grid_scan" in inspect.getsource(importlib.import_module(reader.__module__))
    }
    assert by_grid == WITH_PIXELS


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("renders", -1, "greater than or equal to 0"),
        ("renders", 65, "less than or equal to 64"),
        ("renders", 2.5, "a whole number"),
        ("yaw_deg", [10.0, -10.0], "two numbers, the smaller first"),
        ("yaw_deg", [-100.0, 0.0], "greater than or equal to -90"),
        ("distance_mm", [0.5, 1.5], "two distances within 150–10000 mm, the smaller first"),
        ("distance_mm", [900.0, 500.0], "two distances within 150–10000 mm, the smaller first"),
        ("focal_px", [0.0, 500.0], "two focal lengths within 0–20000 px, the smaller first"),
        ("lights", "sun", "studio or random"),
        ("backgrounds", "office", "noise or grey"),
        ("colours", "yes", "true or false"),
    ],
)
def test_values_out_of_range(tmp_path: Path, field: str, value: Any, expected: str) -> None:
    [fault] = faults_of(tmp_path, {field: value})
    assert fault.startswith(f"views.{field}") and expected in fault


def test_a_rule_has_views_of_its_own(tmp_path: Path) -> None:
    rule = {"where": {"subject": "p1"}, "reason": "no photos", "views": {"renders": 2}}
    registry = lab(tmp_path, {"photos": [MARKED], "renders": 1}, rules=[rule])
    assert registry.under(0).views == Views(renders=2)
    assert registry.under(None).views.renders == 1
    [fault] = faults_of(tmp_path, {}, rules=[{**rule, "views": None}])
    assert fault.startswith("rules.0: ") and "a value of views, or no such field" in fault


def test_views_change_no_key_of_reading_and_registering(tmp_path: Path) -> None:
    assert "views" not in SHAPING_FIELDS
    keys = []
    for views in ({}, {"renders": 3, "lights": "studio"}, {"photos": [MARKED]}):
        write_source(tmp_path, "lab", "p1_neutral.obj", "p2_neutral.obj", views=views)
        works = make_plan(build_of(tmp_path, "lab"), stand_in()).works
        keys.append([work.keys for work in works])
    assert len(keys[0]) == 2 and keys[0] == keys[1] == keys[2]


def test_the_guide_is_true(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs/how_to/add_a_source.md").read_text()
    text = guide.partition("## Views")[2].split("```yaml\n", 1)[1].split("```", 1)[0]
    registry = lab(tmp_path, yaml.safe_load(text)["views"])
    assert registry.views.renders == 4 and len(registry.views.photos) == 1
    formats = guide.partition("a format with a grid: ")[2].split(" |")[0]
    assert {name.strip(" `") for name in formats.split(",")} == WITH_PIXELS
    assert all(f"`{name}`" in guide.partition("## Views")[2] for name in CALIBRATION_FORMATS)


def test_the_hint_in_a_new_file_is_sound(tmp_path: Path) -> None:
    hints = [line[2:] for line in new_registry("lab").splitlines() if line.startswith("# views: ")]
    assert len(hints) == 2
    for hint in hints:
        views = yaml.safe_load(hint.partition("#")[0])["views"]
        assert lab(tmp_path, views).views != Views()
