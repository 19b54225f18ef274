"""`facefold sources`: what it lists, checks and prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import trimesh
import yaml

from pipeline.flame.stand_in import stand_in
from tests.flows.conftest import Run


def test_list(facefold_here: Callable[..., Run]) -> None:
    rows = facefold_here("sources", "list", "--json").json
    assert {"stirling", "headspace", "bu3dfe", "synth_studio"} <= {row["id"] for row in rows}
    for row in rows:
        assert {"id", "verified", "metric", "format", "unit", "benchmark"} <= row.keys()


def test_check_names_every_fault(tmp_path: Path, facefold_here: Callable[..., Run]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"id": "mine", "unit": "furlong", "colour": 1}))
    run = facefold_here("sources", "check", path)
    assert run.status == 2
    for word in ("furlong", "colour", "licence", "scans"):
        assert word in run.stderr
    assert "Traceback" not in run.stderr


def test_check_of_a_good_source(facefold_here: Callable[..., Run]) -> None:
    assert facefold_here("sources", "check", "stirling", "--json").json["valid"] is True


def test_schema_is_json_schema(facefold_here: Callable[..., Run]) -> None:
    schema = json.loads(facefold_here("sources", "schema").stdout)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "unit" in schema["required"]


def test_new_is_a_registry_to_fill_in(facefold_here: Callable[..., Run]) -> None:
    text = facefold_here("sources", "new", "mine").stdout
    assert yaml.safe_load(text)["id"] == "mine"


ANSWERS = {
    **dict.fromkeys(
        ("title: FILL", "name: FILL", "url: FILL", "citation: FILL", "access: FILL"), 0
    ),
    'version: "FILL"': 'version: "1"',
    "metric: FILL": "metric: true",
    "neutral: FILL": "neutral: all",
}


def test_from_an_unknown_folder_to_a_checked_registry(
    tmp_path: Path, facefold_here: Callable[..., Run]
) -> None:
    model = stand_in()
    for i in range(3):
        (tmp_path / "data" / f"p{i}").mkdir(parents=True)
        for name in ("neutral", "smile"):
            mesh = trimesh.Trimesh(model.template_mm * (1 + i / 40), model.faces, process=False)
            mesh.export(tmp_path / "data" / f"p{i}" / f"{name}.stl")
    new = ("sources", "new", "mine", "--root", "data", "--out", "mine.yaml")
    run = facefold_here(*new)
    assert (run.status, run.stdout) == (0, "") and "facefold sources check mine.yaml" in run.stderr
    again = facefold_here(*new)
    assert again.status == 2 and "mine.yaml: is there already" in again.stderr
    other = facefold_here("sources", "new", "mine", "--out", "other.yaml")
    assert other.status == 2 and "is not called as its source" in other.stderr

    blank = facefold_here("sources", "check", "mine.yaml", "--root", "data")
    assert blank.status == 2 and "a value in place of this placeholder" in blank.stderr
    text = (tmp_path / "mine.yaml").read_text()
    for line, answer in ANSWERS.items():
        text = text.replace(line, answer or line.replace("FILL", "told"))
    (tmp_path / "mine.yaml").write_text(text)
    checked = ("sources", "check", "mine.yaml", "--root", "data", "--sample", "2", "--json")
    report = facefold_here(*checked).json
    assert report["id"] == "mine" and report["valid"] is True and report["faults"] == []
    assert (report["scans"], report["subjects"], report["neutral"]) == (6, 3, 3)
    assert list(report["samples"]) == ["mine:p0/neutral", "mine:p2/smile"]
    assert report["sheet"] == "mine_check.png" and (tmp_path / "mine_check.png").is_file()
    named = facefold_here(*checked, "--sample", "1", "--sheet", "out/sheet.png").json
    assert named["sheet"] == "out/sheet.png" and (tmp_path / "out" / "sheet.png").is_file()


def test_new_from_a_folder_without_scans(tmp_path: Path, facefold_here: Callable[..., Run]) -> None:
    run = facefold_here("sources", "new", "mine", "--root", tmp_path)
    assert run.status == 2 and "none of its 0 files can be read as a scan" in run.stderr
    assert "Traceback" not in run.stderr
